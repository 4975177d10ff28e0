"""A message that a program or a person hands in: whom its headers name, and what its author left out.

Strategy: the octets stay as they are but for line ends; what is missing or mustn't travel is an edit of the view.
"""

from __future__ import annotations

from gatepost.content.addresses import parse_list
from gatepost.content.headers import Section, read_section
from gatepost.content.intake import submission_edits
from gatepost.content.pieces import Rendered, Span
from gatepost.content.values import read_value
from gatepost.content.view import View
from gatepost.model import AddHeader, Blob, Body, Bytes, ContentEdit, DeleteHeader, Path

_ADDRESSED = ("to", "cc", "bcc")
_BREAK = Bytes(b"\r\n")


def addressees(section: Section) -> list[str]:
    """The addresses of To, Cc and Bcc, in order and once each; of Resent-To … alone where there are any (RFC 5322
    §3.6.6). As written: whoever uses them checks them.
    """
    resent = [f"resent-{name}" for name in _ADDRESSED]
    names = resent if any(section.count(name) for name in resent) else _ADDRESSED
    found: dict[str, None] = {}
    for name in names:
        for raw in section.raw_values(name):
            found.update(dict.fromkeys(mailbox.address for mailbox in parse_list(read_value(raw)).mailboxes))
    return list(found)


def completed(
    content: Blob,
    *,
    date: str,
    message_id: str,
    sender: Path,
    name: str = "",
    received: bytes = b"",
    utf8: bool = False,
) -> Blob:
    """The message as it may leave: Date, Message-ID (given without brackets) and From where they are missing, no Bcc
    (RFC 5322 §3.6.3), and a Received field on top where one is given, with its line end.

    `name` is shown in a From that is added. Text whose first line is no header field gets a header section.
    """
    section = read_section(content)
    if section.fields and not section.names[0]:
        content = Rendered([Span(_BREAK, 0, _BREAK.size), Span(content, 0, content.size)])
        section = read_section(content)
    edits: list[ContentEdit] = []
    for field in ("Bcc", "Resent-Bcc"):
        edits += [DeleteHeader(field)] if section.count(field) else []
    for edit in submission_edits(section, date=date, message_id=message_id, sender=sender):
        is_from = isinstance(edit, AddHeader) and edit.name == "From"
        edits.append(AddHeader("From", f"{_phrase(name)} <{sender.address}>") if is_from and name else edit)
    if received:
        field, _, value = received.decode("utf-8", "replace").partition(":")
        edits.append(AddHeader(field, value.strip(), at=0))
    return View(content, edits, utf8=utf8).blob if edits else content


def body_of(content: Blob) -> Body:
    """What the content is to be declared as (RFC 6152)."""
    is_ascii = all(chunk.isascii() for chunk in content.chunks())
    return Body.SEVEN_BIT if is_ascii else Body.EIGHT_BIT_MIME


def _phrase(name: str) -> str:
    """A display name as RFC 5322 §3.2.5 lets it stand before an address."""
    if all(one.isalnum() or one in " -_'" for one in name):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
