"""What a plugin is passed: the `<scriptconfig>` text of MailEnable's SMTP Plugin Developer Guide.

Plugins look for `<tag>` and `</tag>` as they would for any text, and decode nothing: an element is one line, without a
blank in it that isn't the value's, tags are lower-case, and only `&`, `<` and `>` are escaped, which no address, id or
path has in ordinary mail. Where the guide spells an element in several ways, all of them are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gatepost.hooks import stages
from gatepost.model import Path, Recipient, Reply
from gatepost.plugins.mailenable.options import MailEnableOptions

COMMANDS: dict[type[stages.Event], str] = {
    stages.Sender: "MAILFROM",
    stages.Recipient: "RCPTTO",
    stages.Data: "DATA",
    stages.Message: "DATAEND",
}
"""The moments a plugin is called at, by what it is told they are."""

_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
END = "\r\n"


def configuration(event: stages.Transaction, options: MailEnableOptions, path: str | None = None) -> str:
    """The whole text for this event; `path` is the message's file as the plugin knows it (end-of-data)."""
    elements = "".join(f"  <{name}>{clean(value)}</{name}>{END}" for name, value in _elements(event, options, path))
    return f"<scriptconfig>{END}{elements}</scriptconfig>"


def pending(reply: Reply) -> str:
    """The reply that would be sent now, as one line."""
    return " ".join(str(reply).split())


def smtp_address(path: Path) -> str:
    """`[SMTP:a@b]`; "" for the null sender."""
    return f"[SMTP:{path.address}]" if path else ""


def clean(value: str) -> str:
    """A value that can't end its element, its line or the text."""
    return "".join(c if c.isprintable() else " " for c in value).translate(_ESCAPES)


def _elements(event: stages.Transaction, options: MailEnableOptions, path: str | None) -> Iterator[tuple[str, str]]:
    session = event.session
    recipients = list(event.recipients)
    current = event.recipient if isinstance(event, stages.Recipient) else None
    if current is not None and current not in recipients:
        recipients.append(current)
    is_mail = isinstance(event, stages.Sender)
    yield "smtpcommand", options.mailfrom_name if is_mail else COMMANDS[type(event)]
    yield "ipaddress", str(session.peer.address)
    yield "postoffice", _postoffice(options, session.user, current or next(iter(recipients), None))
    if isinstance(event, stages.Message):
        yield "user", session.user or ""
        yield "messageid", "" if event.transaction is None else str(event.transaction.ticket)
        yield "messagepath", path or ""
    yield "sender", smtp_address(event.sender)
    for name in ("helo", "heloo", "hel"):
        yield name, session.helo
    yield "senderauth", "0" if session.user is None else "1"
    for name in ("ndr", "nrd"):
        yield name, "0" if event.sender else "1"
    yield "response", pending(event.reply)
    if not is_mail:
        yield "recipients", _list(recipients)
    if current is not None:
        yield "recipient", current.address


def _list(recipients: Iterable[Recipient]) -> str:
    return "; ".join(smtp_address(one.path) for one in recipients)


def _postoffice(options: MailEnableOptions, user: str | None, recipient: Recipient | None) -> str:
    of_user = "" if user is None else user.rpartition("@")[2] if "@" in user else ""
    match options.postoffice:
        case "recipient":
            return of_user if recipient is None else recipient.domain
        case "user":
            return of_user
        case text:
            return text
