"""Events in a child: made again from a question's facts, and what became of them made into an answer.

The event is of the stage's own class, with a real session, transaction and view of the content, so that a plugin
can't tell the difference. Objects kept for a session or transaction live here, and are closed here.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path as File
from typing import Any

from gatepost.content.revision import Parsed
from gatepost.content.view import View
from gatepost.hooks import stages
from gatepost.hooks.answers import AnswerError
from gatepost.hooks.effects import complaint
from gatepost.hooks.notices import NOTICES, Bounced, Deferred, Delivered, Disconnected, Notice, Queued
from gatepost.hooks.ports import Patience
from gatepost.hooks.records import plain_edit, plain_recipient, plain_verdict, read_recipient, read_reply
from gatepost.hooks.session import Holder, ServerView, Session
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import PROCEED, Verdict
from gatepost.model import (
    Address,
    Blob,
    Bytes,
    Edit,
    Message,
    Path,
    Peer,
    Recipient,
    ReplaceBody,
    ReplacePart,
    Split,
    Ticket,
    Tls,
)
from gatepost.plugins.host.scratch import SMALL, write
from gatepost.store.blobs import FileBlob
from gatepost.wire.host import Answer, Ask, Told

_NOTE = 200  # characters of a note that the trace keeps
Lookup = Callable[[Address], Any]


@dataclass(slots=True)
class Kept:
    """What a child keeps for a session. Invariant: its holders are closed once, by `close`."""

    session: Session
    transactions: dict[int, Holder] = field(default_factory=dict)

    async def close_transaction(self, number: int) -> list[BaseException]:
        """Errors of what couldn't be closed."""
        holder = self.transactions.pop(number, None)
        return [] if holder is None else await holder.close()

    async def close(self) -> list[BaseException]:
        """Errors of what couldn't be closed."""
        errors: list[BaseException] = []
        for number in list(self.transactions):
            errors += await self.close_transaction(number)
        return errors + await self.session.holder.close()


def read_session(id: str, facts: Mapping[str, Any], patience: Patience, lookup: Lookup | None) -> Session:
    """The session of that id."""
    address, port = facts["peer"]
    session = Session(
        id=id,
        listener=facts["listener"],
        protocol=facts["protocol"],
        peer=Peer(ip_address(address), port, lookup),
        local=tuple(facts["local"]),
        started=datetime.fromisoformat(facts["started"]),
        patience=patience,
    )
    update_session(session, facts)
    return session


def update_session(session: Session, facts: Mapping[str, Any]) -> None:
    """What may have changed since the last question."""
    session.helo, session.user = facts["helo"], facts["user"]
    tls = facts["tls"]
    if tls is None:
        session.tls = None
    elif session.tls is None or session.tls.cipher != tls[1]:
        session.tls = Tls(*tls)


_STAGE_FIELDS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "hello": lambda facts: {"helo": facts["helo"], "capabilities": list(facts["capabilities"])},
    "auth": lambda facts: {"mechanism": facts["mechanism"], "user": facts["user"], "password": facts["password"]},
    "sender": lambda facts: {"parameters": facts["parameters"]},
    "recipient": lambda facts: {"recipient": _recipient(facts["recipient"])},
    "headers": lambda facts: {"subjects": tuple(map(_recipient, facts["subjects"]))},
    "message": lambda facts: {"subjects": tuple(map(_recipient, facts["subjects"]))},
    "command": lambda facts: {"line": facts["line"], "blob": facts["blob"], "number": facts["number"]},
    "reply": lambda facts: {"line": facts["line"], "number": facts["number"]},
}


def read_event(ask: Ask, kept: Kept, server: ServerView, turn: stages.Turn, files: File) -> stages.Event:
    """The event that the question is about. `turn` gathers what the hook says besides its verdict; `files` are kept
    there."""
    facts = ask.facts
    transaction = None if not ask.transaction else _transaction(ask, facts["transaction"], kept, files)
    read = _STAGE_FIELDS.get(ask.stage)
    fields = {} if read is None else read(facts)
    event: stages.Event = stages.STAGES[ask.stage](
        kept.session, server, read_reply(facts["reply"]), turn, transaction, **fields
    )
    return event


def _transaction(ask: Ask, facts: Mapping[str, Any], kept: Kept, files: File) -> Transaction:
    parameters = facts["parameters"]
    return Transaction(
        Ticket(ask.session, ask.transaction),
        _path(facts["sender"]),
        parameters,
        recipients=[_recipient(one) for one in facts["recipients"]],
        content=None
        if ask.path is None
        else _FileContent(File(ask.path), files / str(ask.id), "SMTPUTF8" in parameters),
        kept=facts["kept"],
        holder=kept.transactions.setdefault(ask.transaction, Holder()),
    )


def read_notice(told: Told, session: Session | None, server: ServerView) -> Notice:
    """The notice that was told; `session` where it is about one."""
    facts = told.facts
    match told.notice:
        case Disconnected.name if session is not None:
            return Disconnected(server, session, facts["clean"])
        case Queued.name if session is not None:
            recipients = tuple(map(_recipient, facts["recipients"]))
            ticket = Ticket.parse(facts["ticket"])
            return Queued(server, session, ticket, _path(facts["sender"]), recipients, facts["size"])
        case Delivered.name | Deferred.name | Bounced.name as name:
            kind: Any = NOTICES[name]
            reply = None if facts["reply"] is None else read_reply(facts["reply"])
            notice: Notice = kind(server, Ticket.parse(facts["ticket"]), _recipient(facts["recipient"]), reply)
            return notice
        case _:
            raise LookupError(f"no notice of that name: {told.notice[:40]}")


def write_answer(ask: Ask, event: stages.Event, capabilities: Sequence[str] | None, answer: Any, files: File) -> Answer:
    """The answer to send. AnswerError if the hook's answer isn't one, OSError if octets can't be written."""
    verdict = _plain_answer(event, answer)
    turn = event.turn
    edits: list[dict[str, Any]] = []
    if turn.edits:
        out = _Out(files / str(ask.id))
        edits += [out.plain(edit) for edit in turn.edits]
    if turn.said is not None:
        edits.append({"edit": "say", "text": turn.said})
    if capabilities is not None and isinstance(event, stages.Hello) and event.capabilities != capabilities:
        edits.append({"edit": "capabilities", "lines": event.capabilities})
    notes = {key: str(value)[:_NOTE] for key, value in turn.notes.items()} if turn.notes else {}
    return Answer(ask.id, verdict, edits, notes)


def _plain_answer(event: stages.Event, answer: Any) -> dict[str, Any]:
    if answer is None:
        return plain_verdict(PROCEED)
    if isinstance(answer, Mapping):
        pairs = []
        for recipient, verdict in answer.items():
            if not isinstance(recipient, Recipient):
                raise AnswerError(f"{str(recipient)[:80]!s} isn't a recipient of this message")
            pairs.append([plain_recipient(recipient), _plain_verdict(event, verdict)])
        return {"say": "each", "of": pairs}
    return _plain_verdict(event, answer)


def _plain_verdict(event: stages.Event, verdict: Any) -> dict[str, Any]:
    if not isinstance(verdict, Verdict):
        raise AnswerError(complaint(type(event), verdict) or f"{str(verdict)[:80]} isn't a verdict")
    return plain_verdict(verdict)


class _Out:
    """An answer's octets: those that are small stay in the frame, as long as there is room; others go by file."""

    def __init__(self, base: File) -> None:
        self._base = base
        self._room = 4 * SMALL
        self._names = itertools.count(1)

    def plain(self, edit: Edit) -> dict[str, Any]:
        match edit:
            case ReplaceBody(body) if not self._fits(body.size):
                return {"edit": "replace-body", "file": self._file(body)}
            case ReplacePart(index, content) if not self._fits(len(content)):
                return {"edit": "replace-part", "index": index, "file": self._file(Bytes(content))}
            case Split(recipients, edits):
                who = [plain_recipient(recipient) for recipient in recipients]
                return {"edit": "split", "recipients": who, "edits": [self.plain(inner) for inner in edits]}
            case _:
                return plain_edit(edit)

    def _fits(self, size: int) -> bool:
        if size > min(SMALL, self._room):
            return False
        self._room -= size
        return True

    def _file(self, content: Blob) -> str:
        path = File(f"{self._base}.{next(self._names)}")
        write(path, content)
        return path.name


class _FileContent:
    """hooks' port: the content as it is in the question's file, and files beside it for a plugin that wants more."""

    __slots__ = ("_base", "_copies", "_parsed", "_path", "_utf8")

    def __init__(self, path: File, base: File, utf8: bool) -> None:
        self._path = path
        self._base = base
        self._utf8 = utf8
        self._parsed: Parsed | None = None
        self._copies = itertools.count(1)

    def view(self, edits: Sequence[Edit], record: Callable[[Edit], None]) -> Message:
        """The content; there are no earlier edits here, the file has them."""
        if self._parsed is None:
            self._parsed = Parsed(_blob(self._path))
        return View(self._parsed, edits, record, utf8=self._utf8, files=self, pause=_pause)

    async def private_copy(self, blob: Blob) -> File:
        copy = File(f"{self._base}.copy{next(self._copies)}")
        await asyncio.get_running_loop().run_in_executor(None, write, copy, blob)
        return copy

    async def adopt(self, file: File) -> Blob:
        blob = _blob(file)
        if isinstance(blob, Bytes):
            return blob
        copy = await self.private_copy(blob)
        return FileBlob(copy, blob.size)

    def close(self) -> None:
        """Remove the copies."""
        for number in range(1, next(self._copies)):
            File(f"{self._base}.copy{number}").unlink(missing_ok=True)


def _blob(file: File) -> Blob:
    """The file's octets: at once if they are few."""
    size = file.stat().st_size
    return Bytes(file.read_bytes()) if size <= SMALL else FileBlob(file, size)


def forget_content(event: stages.Event) -> None:
    """The hook has answered: its private files go."""
    if event.transaction is not None and isinstance(event.transaction.content, _FileContent):
        event.transaction.content.close()


async def _pause() -> None:
    await asyncio.sleep(0)


@lru_cache(4096)
def _path(address: str) -> Path:
    return Path.parse(address, bare_postmaster=True)


@lru_cache(4096)
def _plain_recipient(address: str) -> Recipient:
    return read_recipient([address, {}])


def _recipient(plain: Sequence[Any]) -> Recipient:
    address, parameters = plain
    return read_recipient(plain) if parameters else _plain_recipient(address)
