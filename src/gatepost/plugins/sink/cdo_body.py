"""The body of a message as CDO's scripts know it: its text, its HTML, its attachments. By Python's email package.

Whatever was sent, reading it gives something; writing gives a message of which everything else is as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP
from pathlib import Path as File
from typing import cast, overload

from gatepost.model import Blob, Bytes
from gatepost.plugins.sink.mailmsg_bag import BadArgument, Seal, TooMuch

MOST_PARSED = 64 * 1024 * 1024
"""Octets of a message whose body can be looked into."""

_AS_IT_WAS = SMTP.clone(refold_source="none")
_LONGEST_LINE = 998  # rfc5322#2.1.1


def parse(content: Blob) -> EmailMessage:
    """The message. TooMuch."""
    if content.size > MOST_PARSED:
        raise TooMuch(f"a body of more than {MOST_PARSED >> 20} MiB can't be looked into")
    return message_from_bytes(content.read(), policy=_AS_IT_WAS)


def text_of(message: EmailMessage, kind: str) -> str:
    """The text of the body's part of one kind, "plain" or "html", with CRLF; "" where there is none."""
    part = _body(message, kind)
    return "" if part is None else _decoded(part)


def with_text(message: EmailMessage, kind: str, text: str) -> Blob:
    """The message with this as its plain or HTML text, beside the other kind if there is one."""
    part = _body(message, kind)
    if part is not None:
        _set(part, kind, text)
    else:
        _add(message, kind, text)
    return Bytes(message.as_bytes(policy=_AS_IT_WAS))


class Attachment:
    """One attachment, to be read."""

    def __init__(self, part: MIMEPart, seal: Seal) -> None:
        self._part = part
        self._seal = seal

    @property
    def filename(self) -> str:
        """The name offered, without folders; "" for none."""
        self._seal.check()
        return (self._part.get_filename() or "").replace("\\", "/").rpartition("/")[2]

    @property
    def content_type(self) -> str:
        """As "application/pdf"."""
        self._seal.check()
        return self._part.get_content_type()

    @property
    def content(self) -> bytes:
        """Its octets, decoded."""
        self._seal.check()
        return _octets(self._part)

    def save_to_file(self, path: str | os.PathLike[str]) -> None:
        """Write its octets into a file. OSError."""
        File(path).write_bytes(self.content)

    FileName, ContentMediaType = filename, content_type
    SaveToFile = save_to_file


class Attachments(Sequence[Attachment]):
    """The attachments in order: from 1 by `Item` and in calls, as CDO counts, and from 0 as a Python sequence."""

    def __init__(self, message: EmailMessage, seal: Seal) -> None:
        self._found = [Attachment(part, seal) for part in _attachments(message)]
        self._seal = seal

    def item(self, number: int) -> Attachment:
        """By number, from 1. BadArgument."""
        if not 1 <= number <= len(self):
            raise BadArgument(f"there is no attachment {number}: there are {len(self)}, from 1")
        return self._found[number - 1]

    def __call__(self, number: int) -> Attachment:
        return self.item(number)

    @overload
    def __getitem__(self, index: int) -> Attachment: ...
    @overload
    def __getitem__(self, index: slice) -> list[Attachment]: ...
    def __getitem__(self, index: int | slice) -> Attachment | list[Attachment]:
        return self._found[index]

    def __len__(self) -> int:
        self._seal.check()
        return len(self._found)

    @property
    def Count(self) -> int:
        """How many there are."""
        return len(self)

    Item = item


def _body(message: EmailMessage, kind: str) -> MIMEPart | None:
    return message.get_body((kind,))


def _attachments(message: EmailMessage) -> Iterator[MIMEPart]:
    if message.is_multipart():
        for part in message.walk():
            if not part.is_multipart() and (part.get_filename() or part.get_content_disposition() == "attachment"):
                yield cast(MIMEPart, part)
    elif message.get_content_disposition() == "attachment":
        yield message


def _octets(part: MIMEPart) -> bytes:
    found = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else b""


def _decoded(part: MIMEPart) -> str:
    octets = _octets(part)
    try:
        text = octets.decode(part.get_content_charset("utf-8"))
    except (LookupError, UnicodeError):
        text = octets.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _set(part: MIMEPart, kind: str, text: str) -> None:
    text = text.replace("\r\n", "\n")
    is_plain = text.isascii() and all(len(line) <= _LONGEST_LINE for line in text.split("\n"))
    part.set_content(
        text,
        subtype=kind,
        charset="us-ascii" if text.isascii() else "utf-8",
        cte="7bit" if is_plain else "quoted-printable",
    )


def _add(message: EmailMessage, kind: str, text: str) -> None:
    """The text where there is none of its kind: before HTML, behind plain text, above what else there is."""
    new = MIMEPart(policy=_AS_IT_WAS)
    _set(new, kind, text)
    other = _body(message, "html" if kind == "plain" else "plain")
    among: MIMEPart = message if other is None else other
    if "content-type" not in among:
        among["Content-Type"] = "text/plain"  # rfc2045#5.2; without it the email package would drop the body
    if other is not None:
        among.make_alternative()
    elif among.get_content_maintype() != "multipart":
        among.make_mixed()
    parts = among.get_payload()
    assert isinstance(parts, list)
    at = len(parts) if other is not None and kind == "html" else 0
    parts.insert(at, new)
