"""The sending side: OnSmtpOutCommand before a command leaves, OnSmtpServerResponse when its reply has come.

Strategy: every event is really asked at `out-command` or `out-reply`; the five of ISmtpOutCommandSink that are about
one command look at its phase. What sinks say about one command or reply adds up in one context, which each of them
sees as those before left it. After S_OK the next one is asked, and what the status means is done when all have been,
by `closing_hooks`; any other success ends the chain and is done at once. What a failing sink has changed doesn't count.
Contract: Interfaces, EXPE_*, Events, Ambiguities 1, 6, 8, 11, 12.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from gatepost.hooks import stages
from gatepost.hooks.events import Event
from gatepost.hooks.verdicts import Blob, EndSession, Fail, Jump, Repeat, Send, Skip, Target, Verdict, is_line
from gatepost.model import Reply
from gatepost.plugins.sink.asking import Asker, SinkFailed
from gatepost.plugins.sink.constants import (
    EXPE_BLOB_READY,
    EXPE_COMPLETE_FAILURE,
    EXPE_DROP_SESSION,
    EXPE_REPEAT_COMMAND,
    EXPE_TRANSIENT_FAILURE,
    EXPE_UNHANDLED,
    NO_RECIPIENT,
    PE_STATE,
    S_OK,
)
from gatepost.plugins.sink.outbound_message import outgoing_message, remember_puts
from gatepost.plugins.sink.states import OutCommand, ServerResponse

Hook = Callable[[Any], Any]
C = TypeVar("C", OutCommand, ServerResponse)

ASKED_AT: Mapping[type[Event], type[Event]] = MappingProxyType(
    {
        stages.OutSession: stages.OutCommand,
        stages.OutMessage: stages.OutCommand,
        stages.OutRecipient: stages.OutCommand,
        stages.OutData: stages.OutCommand,
        stages.OutQuit: stages.OutCommand,
        stages.OutCommand: stages.OutCommand,
        stages.OutReply: stages.OutReply,
    }
)
"""The stage at which the hook of an event is to be bound."""

_PHASES: Mapping[type[Event], frozenset[str]] = {
    stages.OutSession: frozenset({"hello"}),
    stages.OutMessage: frozenset({"sender"}),
    stages.OutRecipient: frozenset({"recipient"}),
    stages.OutData: frozenset({"data", "content"}),
    stages.OutQuit: frozenset({"quit"}),
}
_AGAIN = frozenset({"hello", "introduction", "reset", "sender", "recipient", "data"})
"""The phases in which a command may be said once more; in others EXPE_REPEAT_COMMAND alone means nothing."""
_BACK = _AGAIN | {"tls"}
_COMMAND, _RESPONSE = "OnSmtpOutCommand", "OnSmtpServerResponse"
_REFUSED = Reply(550, "5.7.1", "refused by a plugin on the way out")
_PUT_OFF = Reply(451, "4.7.1", "put off by a plugin on the way out")
_ENDED = "a plugin has ended the session"


def outgoing_hooks(asker: Asker) -> Mapping[type[Event], Hook]:
    """The hook of each event on the sending side that the sink has a method for. To be bound at `ASKED_AT` of it."""
    found: dict[type[Event], Hook] = {}
    if _COMMAND in asker.sink.methods:
        found.update({event: _Commands(asker, phases) for event, phases in _PHASES.items()})
        found[stages.OutCommand] = _Commands(asker, None)
    if _RESPONSE in asker.sink.methods:
        found[stages.OutReply] = _Responses(asker)
    return found


def closing_hooks(asker: Asker) -> Mapping[type[Event], Hook]:
    """By stage, the hooks that do what the sink's statuses mean when nobody is left to be asked. Each is to be bound
    once, where any of the sink's own hooks is bound at this stage: at the lowest priority, as the last one there,
    without rule and conditions.
    """
    found: dict[type[Event], Hook] = {}
    if _COMMAND in asker.sink.methods:
        found[stages.OutCommand] = _Closing(asker, _COMMAND, _of_command)
    if _RESPONSE in asker.sink.methods:
        found[stages.OutReply] = _Closing(asker, _RESPONSE, _of_response)
    return found


class _Standing:
    """What sinks have made of the command or reply that a session is at."""

    __slots__ = ("by", "context", "is_over", "number")

    def __init__(self) -> None:
        self.number = 0
        self.context: OutCommand | ServerResponse | None = None
        self.by: Asker | None = None
        """Who has said what is to be done, as it stands now."""
        self.is_over = False


class _Commands:
    """One event of ISmtpOutCommandSink, for one sink."""

    def __init__(self, asker: Asker, phases: frozenset[str] | None) -> None:
        self._asker = asker
        self._phases = phases

    async def __call__(self, event: stages.OutCommand) -> Verdict | None:
        if self._phases is not None and event.phase not in self._phases:
            return None
        standing = _standing(event, _COMMAND)
        before = _context(standing, OutCommand, lambda: _command(event))
        context = replace(before, command=event.line)
        message = outgoing_message(event)
        hresult = await self._asker.ask(_COMMAND, event, context, message)
        context.command = line = _line(context.command, event.line)
        verdict = _of_command(context, event)
        remember_puts(event, message)
        if hresult == S_OK:
            if (context.command_status, context.blob) != (before.command_status, before.blob):
                standing.by = self._asker
            standing.context = context
            return Send(line) if line != event.line else None
        standing.context, standing.by = context, None
        if verdict is not None:
            return verdict
        if line != context.native_command and event.phase != "content":
            return Blob(f"{line}\r\n".encode())  # as Send does, but that nobody else is asked
        return EndSession(_ENDED) if event.phase == "hello" else Skip()  # without a hello there is no session


class _Responses:
    """ISmtpServerResponseSink, for one sink."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def __call__(self, event: stages.OutReply) -> Verdict | None:
        standing = _standing(event, _RESPONSE)
        if standing.is_over:
            return None
        before = _context(standing, ServerResponse, lambda: _response(event))
        context = replace(before)
        message = outgoing_message(event)
        hresult = await self._asker.ask(_RESPONSE, event, context, message)
        verdict = _of_response(context, event)
        remember_puts(event, message)
        if hresult == S_OK:
            if context != before:
                standing.by = self._asker
            standing.context = context
            return None
        standing.context, standing.by, standing.is_over = context, None, True
        return verdict


class _Closing:
    """Does what stands when all sinks have been asked, if it is this one that has said it."""

    def __init__(self, asker: Asker, method: str, effect: Callable[[Any, Any], Verdict | None]) -> None:
        self._asker = asker
        self._method = method
        self._effect = effect

    def __call__(self, event: stages.OutCommand | stages.OutReply) -> Verdict | None:
        standing = _standing(event, self._method)
        if standing.by is not self._asker:
            return None
        return self._effect(standing.context, event)


def _of_command(context: OutCommand, event: stages.OutCommand) -> Verdict | None:
    """What the status and the blob come to; None if they say nothing. SinkFailed."""
    status = 0 if context.command_status == EXPE_UNHANDLED else context.command_status
    if (verdict := _failure(status, event.phase)) is not None:
        return verdict
    if context.blob is not None or status & EXPE_BLOB_READY:
        if not context.blob:
            raise SinkFailed("EXPE_BLOB_READY without octets: call SetBlob")
        if event.phase == "content":
            raise SinkFailed("BDAT says how long its chunk is, and can't be changed")
        return Blob(context.blob)
    if status & EXPE_REPEAT_COMMAND:
        own = context.command if context.command != context.native_command else ""
        return Repeat(own) if own or event.phase in _AGAIN else None
    return None


def _of_response(context: ServerResponse, event: stages.OutReply) -> Verdict | None:
    """What the status and the next state come to; None if they say nothing. SinkFailed."""
    status = 0 if context.response_status == EXPE_UNHANDLED else context.response_status
    if (verdict := _failure(status, event.phase)) is not None:
        return verdict
    if (verdict := _jump(context.next_event_state, event)) is not None:
        return verdict
    return Repeat() if status & EXPE_REPEAT_COMMAND and event.phase in _BACK else None


def _failure(status: int, phase: str) -> Verdict | None:
    failed = None
    if status & EXPE_COMPLETE_FAILURE:
        failed = _REFUSED
    elif status & EXPE_TRANSIENT_FAILURE:
        failed = _PUT_OFF
    if status & EXPE_DROP_SESSION:
        return EndSession(failed or _ENDED)
    return Fail(failed) if failed is not None and phase != "quit" else None  # after QUIT nothing can fail


def _jump(state: int, event: stages.OutReply) -> Verdict | None:
    """The way to the next state, None where it is the way things go anyhow, or can't go. SinkFailed for no state."""
    phase = event.phase
    match state:
        case PE_STATE.DEFAULT | PE_STATE.PER_RECIPIENT:  # the recipients who are left come next, or can't come any more
            return None
        case PE_STATE.SESSION_START if phase == "hello":
            return Repeat()
        case PE_STATE.SESSION_START:
            begins = phase == "greeting" and event.reply.is_positive
            return None if begins or phase == "quit" else EndSession(_ENDED)
        case PE_STATE.MESSAGE_START:
            return Jump(Target.MESSAGE) if phase in ("reset", "sender", "recipient", "data") else None
        case PE_STATE.DATA_OR_BDAT if phase == "data" and not event.reply.is_positive:
            return Repeat()
        case PE_STATE.DATA_OR_BDAT:
            return Jump(Target.DATA) if phase == "recipient" else None
        case PE_STATE.SESSION_END:
            return Jump(Target.QUIT)
        case _:
            raise SinkFailed(f"SetNextEventState({state}): there is no such state")


# ── contexts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _standing(event: stages.OutCommand | stages.OutReply, method: str) -> _Standing:
    """That of this very command or reply; one of its own for a shadow, whom nobody obeys."""
    if event.turn.is_shadow:
        return _Standing()
    standing = event.session.holder.get((method, "a sink's context"), _Standing)
    if standing.number != event.number or not event.number:
        standing.number = event.number
        standing.context = standing.by = None
        standing.is_over = False
    return standing


def _context(standing: _Standing, kind: type[C], make: Callable[[], C]) -> C:
    if not isinstance(standing.context, kind):
        standing.context = made = make()
        return made
    return standing.context


def _command(event: stages.OutCommand) -> OutCommand:
    at = NO_RECIPIENT
    if event.phase == "recipient" and event.recipient in event.recipients:
        at = event.recipients.index(event.recipient)
    return OutCommand(event.line, event.line.partition(" ")[0], event.line, at)


def _response(event: stages.OutReply) -> ServerResponse:
    *lines, last = event.reply.lines
    code, status = event.reply.code, f"{event.reply.status} " if event.reply.status else ""
    said = "".join(f"{code}-{status}{line}\r\n" for line in lines) + f"{code} {status}{last}\r\n"
    keyword = event.line.partition(" ")[0]
    return ServerResponse(event.line, keyword, said, code, pipelined=event.pipelined)


def _line(command: str, before: str) -> str:
    """The command as one line. SinkFailed if it has been made something else."""
    line = command.rstrip("\r\n\0")
    if line != before and not is_line(line):
        raise SinkFailed(f"{line[:80]!r} is no command line")
    return line


__all__ = ["ASKED_AT", "closing_hooks", "outgoing_hooks"]
