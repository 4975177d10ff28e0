"""An event as plain facts for a question, and an answer taken into an event. The same for every kind of host.

There are `session`, `transaction` (from MAIL on), `reply`, and the stage's own fields, named as in `hooks.stages`.
Among the answer's edits may be, beside those of `hooks.records`, `{"edit": "say", "text": …}` and `{"edit":
"capabilities", "lines": […]}`; octets too large for a frame go by file: `"file"` instead of `"body"` or `"content"`. A
verdict for each recipient is `{"say": "each", "of": [[recipient, verdict], …]}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.notices import Bounced, Deferred, Delivered, Disconnected, Notice, Queued
from gatepost.hooks.records import (
    RecordError,
    plain_recipient,
    plain_reply,
    read_edit,
    read_recipient,
    read_verdict,
)
from gatepost.hooks.session import Session
from gatepost.hooks.verdicts import Verdict
from gatepost.model import Blob, ContentEdit, Edit, Path, Recipient, ReplaceBody, ReplacePart, Split
from gatepost.wire.host import Answer

MOST_NOTES = 50

Take = Callable[[object], Awaitable[Blob]]
"""Takes a file that an answer names away from its child. RecordError."""


def fixed_session_facts(session: Session) -> dict[str, Any]:
    """What doesn't change about a session."""
    return {
        "listener": session.listener,
        "protocol": session.protocol,
        "peer": [str(session.peer.address), session.peer.port],
        "local": list(session.local),
        "started": session.started.isoformat(),
    }


def session_facts(session: Session, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """A session as it is now."""
    tls = session.tls
    return {
        **fixed,
        "tls": None if tls is None else [tls.version, tls.cipher, tls.server_name, tls.client_subject],
        "helo": session.helo,
        "user": session.user,
    }


def plain_path(path: Path) -> str:
    """The path as written; "" is the null path."""
    return path.raw or path.address


_STAGE_FACTS: dict[type[stages.Event], Callable[[Any], dict[str, Any]]] = {
    stages.Hello: lambda event: {"helo": event.helo, "capabilities": event.capabilities},
    stages.Auth: lambda event: {"mechanism": event.mechanism, "user": event.user, "password": event.password},
    stages.Sender: lambda event: {"parameters": dict(event.parameters)},
    stages.Recipient: lambda event: {"recipient": plain_recipient(event.recipient)},
    stages.Headers: lambda event: {"subjects": [plain_recipient(one) for one in event.subjects]},
    stages.Message: lambda event: {"subjects": [plain_recipient(one) for one in event.subjects]},
    stages.Command: lambda event: {"line": event.line, "blob": event.blob, "number": event.number},
    stages.Replying: lambda event: {"line": event.line, "number": event.number},
}


def stage_facts(event: stages.Event) -> dict[str, Any]:
    """The fields that only this stage has, and the reply as it would be now."""
    make = _STAGE_FACTS.get(type(event))
    facts = {} if make is None else make(event)
    facts["reply"] = plain_reply(event.reply)
    return facts


def notice_facts(notice: Notice) -> tuple[Session | None, dict[str, Any]]:
    """The session whose process has to know, and the notice as plain facts."""
    match notice:
        case Disconnected():  # the session is over, and nobody keeps anything for it any more
            session = session_facts(notice.session, fixed_session_facts(notice.session))
            return None, {"id": notice.session.id, "session": session, "clean": notice.clean}
        case Queued():
            return notice.session, {
                "session": session_facts(notice.session, fixed_session_facts(notice.session)),
                "ticket": str(notice.ticket),
                "sender": plain_path(notice.sender),
                "recipients": [plain_recipient(one) for one in notice.recipients],
                "size": notice.size,
            }
        case Delivered() | Deferred() | Bounced():
            return None, {
                "ticket": str(notice.ticket),
                "recipient": plain_recipient(notice.recipient),
                "reply": None if notice.reply is None else plain_reply(notice.reply),
            }
        case _:
            raise TypeError(f"{type(notice).__name__} isn't told to hosts")


async def apply(event: stages.Event, answer: Answer, take: Take) -> Verdict | dict[Recipient, Verdict]:
    """The verdict; edits, notes and the reply's text are taken into the event. RecordError if anything is malformed."""
    capabilities: list[str] | None = None
    for plain in answer.edits:
        match plain:
            case {"edit": "say", "text": str(text)}:
                event.say(text)
            case {"edit": "capabilities", "lines": [*lines]}:
                capabilities = [line for line in lines if isinstance(line, str)]
            case _:
                event.turn.record(await _edit(plain, take))
    if answer.notes:
        event.note(**{key[:100]: answer.notes[key] for key in list(answer.notes)[:MOST_NOTES]})
    verdict = _verdict(answer.verdict)
    if capabilities is not None:
        if not isinstance(event, stages.Hello):
            raise RecordError("capabilities can be changed only at hello")
        event.capabilities[:] = capabilities
    return verdict


def _verdict(plain: dict[str, Any]) -> Verdict | dict[Recipient, Verdict]:
    match plain:
        case {"say": "each", "of": [*pairs]}:
            each: dict[Recipient, Verdict] = {}
            for pair in pairs:
                match pair:
                    case [recipient, verdict]:
                        each[read_recipient(recipient)] = read_verdict(verdict)
                    case _:
                        raise RecordError(f"not a recipient's verdict: {str(pair)[:80]}")
            return each
        case _:
            return read_verdict(plain)


async def _edit(plain: Mapping[str, Any], take: Take) -> Edit:
    """The edit, with the octets that it may name by file."""
    match plain:
        case {"edit": "replace-body", "file": name}:
            return ReplaceBody(await take(name))
        case {"edit": "replace-part", "index": int(index), "file": name}:
            return ReplacePart(index, await asyncio.get_running_loop().run_in_executor(None, (await take(name)).read))
        case {"edit": "split", "recipients": [*recipients], "edits": [*inner]}:
            edits: list[ContentEdit] = []
            for one in inner:
                edit = await _edit(one, take) if isinstance(one, Mapping) and one.get("edit") != "split" else None
                if not isinstance(edit, ContentEdit):
                    raise RecordError("only the content can differ within one message")
                edits.append(edit)
            return Split(tuple(read_recipient(recipient) for recipient in recipients), tuple(edits))
        case _:
            return read_edit(plain)
