"""One call of a sink in the plugin host: as the facts of a question, and as what its answer changes.

An answer is believed only as far as its shape can be checked, and changes only what it says was put: bags are shared
by several sinks, and by the host with us. Nothing is changed by an answer that isn't one, nor by a sink that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from gatepost.model import Blob
from gatepost.plugins.host.errors import HookFailed
from gatepost.plugins.sink.states import (
    Bag,
    Call,
    Context,
    Fork,
    InCallback,
    InCommand,
    Message,
    OutCommand,
    ServerResponse,
    Submission,
)

MOST_IN_BAG = 64 * 1024
"""Octets of the properties of a session, or of a virtual server, that native sinks may fill."""
_AN_ID = 8  # octets that a property costs beside its own

Number = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Pairs = list[tuple[Number, bytes]]
C = TypeVar("C")
_OCTETS = (bytes,)  # and no text that would be read as base64


# ── the question ───────────────────────────────────────────────────────────────────────────────────────────────────


def call_facts(method: str, call: Call) -> dict[str, Any]:
    """The call as facts of a question."""
    message = call.message
    return {
        "method": method,
        "instance": call.instance,
        "server": _pairs(call.server),
        "bag": _pairs(call.session),
        "context": _context_facts(call.context),
        "message": None if message is None else _message_facts(message),
    }


def _message_facts(message: Message) -> dict[str, Any]:
    return {
        "properties": _pairs(message.properties),
        "recipients": [_pairs(one) for one in message.recipients],
        "size": 0 if message.content is None else message.content.size,
    }


def _context_facts(context: Context) -> dict[str, Any]:
    match context:
        case InCommand():
            return {
                "command": _octets(context.command),
                "keyword": _octets(context.keyword),
                "native_response": _octets(context.native_response),
                "response": _octets(context.response),
                "command_status": context.command_status,
                "smtp_status_code": context.smtp_status_code,
                "protocol_error": context.protocol_error,
            }
        case InCallback():
            return {
                "blob": context.blob,
                "response": _octets(context.response),
                "command_status": context.command_status,
                "smtp_status_code": context.smtp_status_code,
            }
        case OutCommand():
            return {
                "command": _octets(context.command),
                "keyword": _octets(context.keyword),
                "native_command": _octets(context.native_command),
                "recipient_index": context.recipient_index,
                "command_status": context.command_status,
            }
        case ServerResponse():
            return {
                "command": _octets(context.command),
                "keyword": _octets(context.keyword),
                "response": _octets(context.response),
                "smtp_status_code": context.smtp_status_code,
                "response_status": context.response_status,
                "pipelined": context.pipelined,
                "next_event_state": context.next_event_state,
            }
        case Submission():
            return {}


def _pairs(bag: Mapping[int, bytes]) -> list[tuple[int, bytes]]:
    return [(int(key), value) for key, value in bag.items()]  # an id may be one of an enumeration's


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


# ── the answer ─────────────────────────────────────────────────────────────────────────────────────────────────────


class _InCommand(Struct):
    native_response: bytes
    response: bytes
    command_status: Number
    smtp_status_code: Number
    protocol_error: bool
    callback: bool = False


class _InCallback(Struct):
    response: bytes
    command_status: Number
    smtp_status_code: Number


class _OutCommand(Struct):
    command: bytes
    command_status: Number
    blob: bytes | None = None


class _ServerResponse(Struct):
    response_status: Number
    next_event_state: Number


class _Submission(Struct):
    pass


class _Fork(Struct):
    recipients: list[Pairs]
    file: str


class _Message(Struct):
    properties: Pairs = []
    recipients: list[tuple[Number, Pairs]] = []
    written: list[Pairs] | None = msgspec.field(default=None, name="list")
    size: int | None = None
    forks: Sequence[_Fork] = ()


class _Verdict(Struct, Generic[C]):
    hresult: Number
    context: C
    server: Pairs = []
    bag: Pairs = []
    message: _Message | None = None


_SHAPES: Mapping[type[Context], Any] = {
    InCommand: _Verdict[_InCommand],
    InCallback: _Verdict[_InCallback],
    OutCommand: _Verdict[_OutCommand],
    ServerResponse: _Verdict[_ServerResponse],
    Submission: _Verdict[_Submission],
}


@dataclass(slots=True)
class Returned:
    """An answer whose shape is right."""

    hresult: int
    files: tuple[str, ...]
    """The files that the forks' content is in."""
    _verdict: _Verdict[Any]

    def merge(self, call: Call, rewritten: Blob | None, forks: Sequence[Blob]) -> None:
        """What the sink has changed into the call. `rewritten`: the content if it was written; `forks`: that of the
        files. HookFailed where it can't be: nothing is changed then.
        """
        verdict, message = self._verdict, self._verdict.message
        server = _grown("server", call.server, verdict.server)
        session = _grown("session", call.session, verdict.bag)
        if message is not None:
            _check(message, call.message, rewritten)
        _SET[type(call.context)](call.context, verdict.context)
        call.server.update(server)
        call.session.update(session)
        if message is not None and call.message is not None:
            _merge_message(call.message, message, rewritten, forks)


def read_answer(verdict: Mapping[str, Any], call: Call) -> Returned:
    """The host's verdict on a call. HookFailed if it is none."""
    try:
        read: _Verdict[Any] = msgspec.convert(verdict, _SHAPES[type(call.context)], builtin_types=_OCTETS)
    except msgspec.ValidationError as error:
        raise nonsense(str(error)) from None
    forks = () if read.message is None else read.message.forks
    return Returned(read.hresult, tuple(fork.file for fork in forks), read)


def nonsense(why: str) -> HookFailed:
    """The failure of an answer that is none."""
    return HookFailed("AnswerError", f"its host answered nonsense: {why}")


def _grown(whose: str, bag: Bag, put: Pairs) -> Bag:
    """What a bag gets. HookFailed if it had more than it may afterwards."""
    new = dict(put)
    if new and sum(len(value) + _AN_ID for value in {**bag, **new}.values()) > MOST_IN_BAG:
        raise HookFailed("AnswerError", f"the properties of its {whose} take more than {MOST_IN_BAG >> 10} KiB")
    return new


def _check(message: _Message, passed: Message | None, rewritten: Blob | None) -> None:
    if passed is None:
        raise nonsense("a message where there was none")
    for index, _ in message.recipients:
        if index >= len(passed.recipients):
            raise nonsense(f"recipient {index} of {len(passed.recipients)}")
    if rewritten is not None and message.size is not None and message.size != rewritten.size:
        raise HookFailed("AnswerError", f"its file has {rewritten.size} octets, and it says {message.size}")


def _merge_message(call: Message, answer: _Message, rewritten: Blob | None, forks: Sequence[Blob]) -> None:
    call.properties.update(answer.properties)
    call.put.update(key for key, _ in answer.properties)
    for index, put in answer.recipients:
        call.recipients[index].update(put)
        call.put_for.setdefault(index, set()).update(key for key, _ in put)
    if answer.written is not None:
        call.written_list = [dict(one) for one in answer.written]
    if rewritten is not None:
        call.rewritten = rewritten
    made = zip(answer.forks, forks, strict=True)
    call.forks.extend(Fork([dict(one) for one in fork.recipients], content) for fork, content in made)


def _set_in_command(context: InCommand, answer: _InCommand) -> None:
    context.native_response = _text(answer.native_response)
    context.response = _text(answer.response)
    context.command_status = answer.command_status
    context.smtp_status_code = answer.smtp_status_code
    context.protocol_error = answer.protocol_error
    if answer.callback:
        context.callback = True


def _set_in_callback(context: InCallback, answer: _InCallback) -> None:
    context.response = _text(answer.response)
    context.command_status = answer.command_status
    context.smtp_status_code = answer.smtp_status_code


def _set_out_command(context: OutCommand, answer: _OutCommand) -> None:
    context.command = _text(answer.command)
    context.command_status = answer.command_status
    if answer.blob is not None:
        context.blob = answer.blob


def _set_server_response(context: ServerResponse, answer: _ServerResponse) -> None:
    context.response_status = answer.response_status
    context.next_event_state = answer.next_event_state


def _set_nothing(context: Submission, answer: _Submission) -> None:
    return None


_SET: Mapping[type[Context], Callable[[Any, Any], None]] = {
    InCommand: _set_in_command,
    InCallback: _set_in_callback,
    OutCommand: _set_out_command,
    ServerResponse: _set_server_response,
    Submission: _set_nothing,
}
