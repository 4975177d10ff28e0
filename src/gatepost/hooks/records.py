"""Verdicts and edits as plain data (dicts of texts, numbers, octets) and back: for the trace and for child processes.

Plain data is what may cross a process or rest in a file; reading it back checks everything, since the other side may be
a plugin gone mad: RecordError is the only way it fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatepost.hooks.verdicts import (
    PROCEED,
    Accept,
    Blob,
    Converse,
    Credentials,
    Deny,
    Discard,
    EndSession,
    Fail,
    Hangup,
    Identity,
    Jump,
    Proceed,
    Quarantine,
    Refuse,
    Repeat,
    Respond,
    Scope,
    Send,
    Skip,
    Take,
    Target,
    Verdict,
)
from gatepost.model import (
    AddHeader,
    AddRecipient,
    Bytes,
    ChangeHeader,
    ChangeSender,
    ContentEdit,
    DeleteHeader,
    Edit,
    Keep,
    Path,
    Recipient,
    RemoveRecipient,
    ReplaceBody,
    ReplaceMessage,
    ReplacePart,
    Reply,
    Split,
)


class RecordError(ValueError):
    """The data isn't what it should be; the text says which."""


_PLAIN_PROCEED: dict[str, Any] = {"say": "proceed"}


def plain_reply(reply: Reply) -> list[Any]:
    """[code, status, text]."""
    return [reply.code, reply.status, reply.text]


def read_reply(data: object) -> Reply:
    """The reply; RecordError if it isn't one."""
    match data:
        case [int(code), str(status), str(text)]:
            try:
                return Reply(code, status, text)
            except ValueError as error:
                raise RecordError(str(error)) from error
        case _:
            raise RecordError(f"not a reply: {str(data)[:80]}")


def plain_verdict(verdict: Verdict) -> dict[str, Any]:
    """A dict whose "say" names the verdict."""
    match verdict:
        case Proceed():
            return _PLAIN_PROCEED
        case Accept(scope):
            return {"say": "accept", "scope": scope.value}
        case Refuse(reply):
            if isinstance(reply, str):
                return {"say": "refuse", "text": reply}
            return {"say": "refuse", "reply": plain_reply(reply)}
        case Quarantine(reason):
            return {"say": "quarantine", "reason": reason}
        case Discard(reason):
            return {"say": "discard", "reason": reason}
        case Take(reason):
            return {"say": "take", "reason": reason}
        case Hangup(reply):
            return {"say": "hangup", "reply": plain_reply(reply)}
        case Respond(reply, closes, counts):
            plain: dict[str, Any] = {"say": "respond", "reply": plain_reply(reply)}
            if closes:
                plain["closes"] = True
            if counts:
                plain["counts"] = True
            return plain
        case Converse(reply, lines, octets):
            return {"say": "converse", "reply": plain_reply(reply), "lines": lines, "octets": octets}
        case Identity(user, maildrop):
            return {"say": "identity", "user": user, "maildrop": maildrop}
        case Credentials(keys):
            return {"say": "credentials", "keys": dict(keys)}
        case Deny(reason):
            return {"say": "deny", "reason": reason}
        case Send(line):
            return {"say": "send", "line": line}
        case Skip():
            return {"say": "skip"}
        case Blob(data):
            return {"say": "blob", "data": data}
        case Repeat(line):
            return {"say": "repeat", "line": line} if line else {"say": "repeat"}
        case Jump(to):
            return {"say": "jump", "to": to.value}
        case Fail(reply) | EndSession(reply):
            word = "fail" if isinstance(verdict, Fail) else "end-session"
            if isinstance(reply, str):
                return {"say": word, "text": reply}
            return {"say": word, "reply": plain_reply(reply)}


def read_verdict(data: object) -> Verdict:
    """The verdict; RecordError if it isn't one."""
    match data:
        case {"say": "proceed"}:
            return PROCEED
        case {"say": "accept", "scope": "stage" | "recipient" | "transaction" | "session" as scope}:
            return Accept(Scope(scope))
        case {"say": "refuse", "text": str(text)}:
            return Refuse(text)
        case {"say": "refuse", "reply": reply}:
            return Refuse(read_reply(reply))
        case {"say": "quarantine", "reason": str(reason)}:
            return Quarantine(reason)
        case {"say": "discard", "reason": str(reason)}:
            return Discard(reason)
        case {"say": "take", "reason": str(reason)}:
            return Take(reason)
        case {"say": "hangup", "reply": reply}:
            return Hangup(read_reply(reply))
        case {"say": "respond", "reply": reply, **more}:
            return Respond(read_reply(reply), closes=more.get("closes") is True, counts=more.get("counts") is True)
        case {"say": "converse", "reply": reply, "lines": int() | None as lines, "octets": int(octets)}:
            if octets < 1 or (lines is not None and lines < 1):
                raise RecordError("limits of a conversation are numbers from 1")
            return Converse(read_reply(reply), lines, octets)
        case {"say": "identity", "user": str(user), "maildrop": str() | None as maildrop}:
            return Identity(user, maildrop)
        case {"say": "credentials", "keys": Mapping() as keys}:
            return Credentials(dict(keys))
        case {"say": "deny", "reason": str(reason)}:
            return Deny(reason)
        case {"say": "send", "line": str(line)}:
            return Send(line)
        case {"say": "skip"}:
            return Skip()
        case {"say": "blob", "data": bytes(data)}:
            return Blob(data)
        case {"say": "repeat", "line": str(line)}:
            return Repeat(line)
        case {"say": "repeat"}:
            return Repeat()
        case {"say": "jump", "to": "message" | "data" | "quit" as to}:
            return Jump(Target(to))
        case {"say": "fail", "text": str(text)}:
            return Fail(text)
        case {"say": "fail", "reply": reply}:
            return Fail(read_reply(reply))
        case {"say": "end-session", "text": str(text)}:
            return EndSession(text)
        case {"say": "end-session", "reply": reply}:
            return EndSession(read_reply(reply))
        case _:
            raise RecordError(f"not a verdict: {str(data)[:80]}")


def plain_recipient(recipient: Recipient) -> list[Any]:
    """[address as written, parameters]."""
    return [recipient.path.raw or recipient.address, dict(recipient.parameters)]


def read_recipient(data: object) -> Recipient:
    """The recipient; RecordError if it isn't one."""
    match data:
        case [str(address), Mapping() as parameters]:
            path = _path(address)
            if not path:
                raise RecordError("nobody can't be a recipient")
            return Recipient(path, {str(key): str(value) for key, value in parameters.items()})
        case _:
            raise RecordError(f"not a recipient: {str(data)[:80]}")


def plain_edit(edit: Edit) -> dict[str, Any]:
    """A dict whose "edit" names the edit. A replaced body goes with its octets."""
    match edit:
        case AddHeader(name, value, at):
            return {"edit": "add-header", "name": name, "value": value, "at": at}
        case ChangeHeader(name, value, occurrence):
            return {"edit": "change-header", "name": name, "value": value, "occurrence": occurrence}
        case DeleteHeader(name, occurrence):
            return {"edit": "delete-header", "name": name, "occurrence": occurrence}
        case ReplaceBody(body):
            return {"edit": "replace-body", "body": body.read()}
        case ReplaceMessage(content, changes):
            return {"edit": "replace-message", "content": content.read(), "changes": list(changes)}
        case ReplacePart(index, content):
            return {"edit": "replace-part", "index": index, "content": content}
        case AddRecipient(recipient):
            return {"edit": "add-recipient", "recipient": plain_recipient(recipient)}
        case RemoveRecipient(recipient):
            return {"edit": "remove-recipient", "recipient": plain_recipient(recipient)}
        case ChangeSender(sender):
            return {"edit": "change-sender", "sender": sender.raw or sender.address}
        case Keep(name, text):
            return {"edit": "keep", "name": name, "text": text}
        case Split(recipients, edits):
            return {
                "edit": "split",
                "recipients": [plain_recipient(recipient) for recipient in recipients],
                "edits": [plain_edit(inner) for inner in edits],
            }


def read_edit(data: object) -> Edit:
    """The edit; RecordError if it isn't one."""
    try:
        return _read_edit(data)
    except ValueError as error:
        raise error if isinstance(error, RecordError) else RecordError(str(error)) from error


def _read_edit(data: object) -> Edit:
    match data:
        case {"edit": "add-header", "name": str(name), "value": str(value), "at": int() | None as at}:
            return AddHeader(name, value, at)
        case {"edit": "change-header", "name": str(name), "value": str(value), "occurrence": int(occurrence)}:
            return ChangeHeader(name, value, occurrence)
        case {"edit": "delete-header", "name": str(name), "occurrence": int() | None as which}:
            return DeleteHeader(name, which)
        case {"edit": "replace-body", "body": bytes(body)}:
            return ReplaceBody(Bytes(body))
        case {"edit": "replace-message", "content": bytes(content), "changes": [*changes]}:
            return ReplaceMessage(Bytes(content), tuple(str(one) for one in changes))
        case {"edit": "replace-part", "index": int(index), "content": bytes(content)} if not isinstance(index, bool):
            return ReplacePart(index, content)
        case {"edit": "add-recipient", "recipient": recipient}:
            return AddRecipient(read_recipient(recipient))
        case {"edit": "remove-recipient", "recipient": recipient}:
            return RemoveRecipient(read_recipient(recipient))
        case {"edit": "change-sender", "sender": str(sender)}:
            return ChangeSender(_path(sender))
        case {"edit": "keep", "name": str(name), "text": str(text)}:
            return Keep(name, text)
        case {"edit": "split", "recipients": [*recipients], "edits": [*edits]}:
            members = tuple(read_recipient(recipient) for recipient in recipients)
            return Split(members, tuple(_content_edit(inner) for inner in edits))
        case _:
            raise RecordError(f"not an edit: {str(data)[:80]}")


def describe_edit(edit: Edit) -> str:
    """One line for a person: `+ X-Spam: yes`, `- Subject`, `→ bob@example.org`."""
    match edit:
        case AddHeader(name, value):
            return f"+ {name}: {value}"
        case ChangeHeader(name, value):
            return f"{name} := {value}"
        case DeleteHeader(name):
            return f"- {name}"
        case ReplaceBody(body):
            return f"body replaced, {body.size} octets"
        case ReplaceMessage(content, changes):
            return "; ".join(changes) or f"message replaced, {content.size} octets"
        case ReplacePart(index, content):
            return f"part {index} replaced, {len(content)} octets"
        case AddRecipient(recipient):
            return f"+ <{recipient}>"
        case RemoveRecipient(recipient):
            return f"- <{recipient}>"
        case ChangeSender(sender):
            return f"from := <{sender}>"
        case Keep(name, text):
            return f"kept {name}: {text}"
        case Split(recipients, edits):
            inner = ", ".join(describe_edit(one) for one in edits)
            return f"for {', '.join(f'<{recipient}>' for recipient in recipients)}: {inner}"


def _content_edit(data: object) -> ContentEdit:
    edit = read_edit(data)
    if isinstance(edit, AddRecipient | RemoveRecipient | ChangeSender | Split | Keep):
        raise RecordError("only the content can differ within one message")
    return edit


def _path(address: str) -> Path:
    try:
        return Path.parse(address, bare_postmaster=True)
    except ValueError as error:
        raise RecordError(f"not an address: {address[:80]!r}: {error}") from error


__all__ = [
    "RecordError",
    "describe_edit",
    "plain_edit",
    "plain_recipient",
    "plain_reply",
    "plain_verdict",
    "read_edit",
    "read_recipient",
    "read_reply",
    "read_verdict",
]
