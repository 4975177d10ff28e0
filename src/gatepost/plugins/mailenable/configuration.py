"""What a plugin is passed: the `<scriptconfig>` text of MailEnable's SMTP Plugin Developer Guide.

Plugins look for `<tag>` and `</tag>` as they would for any text, and decode nothing: an element is one line, without a
blank in it that isn't the value's, tags are lower-case, and only `&`, `<` and `>` are escaped, which no address, id or
path has in ordinary mail. Where the guide spells an element in several ways, all of them are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from gatepost.hooks import stages
from gatepost.model import Path, Recipient, Reply
from gatepost.model.peer import Address
from gatepost.plugins.mailenable.options import MailEnableOptions

COMMANDS: dict[type[stages.Event], str] = {
    stages.Sender: "MAILFROM",
    stages.Recipient: "RCPTTO",
    stages.Data: "DATA",
    stages.Message: "DATAEND",
}
"""The moments a plugin is called at, by what it is told they are."""

_escaped = re.compile("[&<>]").search


def configuration(event: stages.Transaction, options: MailEnableOptions, path: str | None = None) -> str:
    """The whole text for this event; `path` is the message's file as the plugin knows it (end-of-data)."""
    return passing(event, options, pending(event.reply), path)


def passing(event: stages.Transaction, options: MailEnableOptions, response: str, path: str | None) -> str:
    """The same, for who knows the pending reply already. Written out in one piece, since every question pays for it."""
    session, kind = event.session, type(event)
    recipients = list(iter(event.recipients))  # an iterator has no length that list() would ask for
    current = event.recipient if isinstance(event, stages.Recipient) else None
    if current is not None and current not in recipients:
        recipients.append(current)
    user, helo, is_null = session.user, clean(session.helo), "0" if event.sender else "1"
    office = clean(_postoffice(options, user, current or (recipients[0] if recipients else None)))
    command = options.mailfrom_name if kind is stages.Sender else COMMANDS[kind]
    content = told = last = ""
    if kind is stages.Message:
        ticket = "" if event.transaction is None else str(event.transaction.ticket)
        content = (
            f"  <user>{clean(user or '')}</user>\r\n"
            f"  <messageid>{clean(ticket)}</messageid>\r\n"
            f"  <messagepath>{clean(path or '')}</messagepath>\r\n"
        )
    if kind is not stages.Sender:
        told = f"  <recipients>{clean(_list(recipients))}</recipients>\r\n"
    if current is not None:
        last = f"  <recipient>{clean(current.address)}</recipient>\r\n"
    return (
        "<scriptconfig>\r\n"
        f"  <smtpcommand>{command}</smtpcommand>\r\n"
        f"  <ipaddress>{_text(session.peer.address)}</ipaddress>\r\n"
        f"  <postoffice>{office}</postoffice>\r\n"
        f"{content}"
        f"  <sender>{clean(smtp_address(event.sender))}</sender>\r\n"
        f"  <helo>{helo}</helo>\r\n"
        f"  <heloo>{helo}</heloo>\r\n"
        f"  <hel>{helo}</hel>\r\n"
        f"  <senderauth>{'0' if user is None else '1'}</senderauth>\r\n"
        f"  <ndr>{is_null}</ndr>\r\n"
        f"  <nrd>{is_null}</nrd>\r\n"
        f"  <response>{clean(response)}</response>\r\n"
        f"{told}{last}"
        "</scriptconfig>"
    )


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
    elif _escaped(value) is None:
        return value
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@lru_cache(maxsize=1024)
def _text(address: Address) -> str:
    return clean(str(address))


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
