"""What a plugin is passed: the `<scriptconfig>` text of MailEnable's SMTP Plugin Developer Guide.

Plugins look for `<tag>` and `</tag>` as they would for any text, and decode nothing: an element is one line, without a
blank in it that isn't the value's, tags are lower-case, and only `&`, `<` and `>` are escaped, which no address, id or
path has in ordinary mail. Where the guide spells an element in several ways, all of them are there.
"""

from __future__ import annotations

from collections.abc import Iterable

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

END = "\r\n"


def configuration(event: stages.Transaction, options: MailEnableOptions, path: str | None = None) -> str:
    """The whole text for this event; `path` is the message's file as the plugin knows it (end-of-data)."""
    lines = [f"  <{name}>{clean(value)}</{name}>" for name, value in _elements(event, options, path)]
    return END.join(("<scriptconfig>", *lines, "</scriptconfig>"))


def pending(reply: Reply) -> str:
    """The reply that would be sent now, as one line."""
    return " ".join(str(reply).split())


def smtp_address(path: Path) -> str:
    """`[SMTP:a@b]`; "" for the null sender."""
    return f"[SMTP:{path.address}]" if path else ""


def clean(value: str) -> str:
    """A value that can't end its element, its line or the text."""
    if not value.isprintable():
        value = "".join(c if c.isprintable() else " " for c in value)
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _elements(event: stages.Transaction, options: MailEnableOptions, path: str | None) -> list[tuple[str, str]]:
    session = event.session
    recipients = list(event.recipients)
    current = event.recipient if isinstance(event, stages.Recipient) else None
    if current is not None and current not in recipients:
        recipients.append(current)
    is_mail = isinstance(event, stages.Sender)
    helo, is_null = session.helo, "0" if event.sender else "1"
    elements = [
        ("smtpcommand", options.mailfrom_name if is_mail else COMMANDS[type(event)]),
        ("ipaddress", str(session.peer.address)),
        ("postoffice", _postoffice(options, session.user, current or (recipients[0] if recipients else None))),
        ("sender", smtp_address(event.sender)),
        ("helo", helo),
        ("heloo", helo),
        ("hel", helo),
        ("senderauth", "0" if session.user is None else "1"),
        ("ndr", is_null),
        ("nrd", is_null),
        ("response", pending(event.reply)),
    ]
    if not is_mail:
        elements.append(("recipients", _list(recipients)))
    if current is not None:
        elements.append(("recipient", current.address))
    if isinstance(event, stages.Message):
        ticket = "" if event.transaction is None else str(event.transaction.ticket)
        elements[3:3] = [("user", session.user or ""), ("messageid", ticket), ("messagepath", path or "")]
    return elements


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
