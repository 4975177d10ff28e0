"""xtext (RFC 3461 §4): text that may travel in a parameter of MAIL or RCPT, and the original recipient made of it.

What is decoded here comes to rest in header fields and reports, so it is printable ASCII or it isn't decoded at all:
`+00` and `+0A` are no text (attack I5).
"""

from __future__ import annotations

import re

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_ENCODED = re.compile(r"\+([0-9A-F]{2})")
_PLAIN = re.compile(r"[!-*,-<>-~]+")
_TYPE = re.compile(r"[A-Za-z0-9-]{1,32}")  # rfc3461#4.2 addr-type, of which IANA lists a handful
_WRITTEN = r"\+([0-9A-F]{2})|\\x\{([0-9A-F]{2,6})\}"  # rfc6533#3 EmbeddedUnicodeChar
_UTF8_TEXT = re.compile(rf"(?:[!-*,-<>-\[\]-~]|[^\x00-\x7f]|{_WRITTEN})*")  # rfc6533#3 utf-8-addr-unitext
_CHARACTER = re.compile(_WRITTEN)


def decode(text: str) -> str | None:
    """What xtext stands for; None if it isn't xtext, or stands for anything but printable ASCII (rfc3461#4.4)."""
    if not _XTEXT.fullmatch(text):
        return None
    decoded = _ENCODED.sub(lambda found: chr(int(found[1], 16)), text)
    return decoded if decoded.isascii() and decoded.isprintable() else None


def encode(text: str) -> str:
    """The text as xtext; what isn't ASCII by its octets in UTF-8."""
    if _PLAIN.fullmatch(text):
        return text
    octets = text.encode("utf-8", "replace")
    return "".join(chr(o) if 33 <= o <= 126 and o not in b"+=" else f"+{o:02X}" for o in octets)


def original_recipient(value: str) -> tuple[str, str] | None:
    """An ORCPT parameter as address type (lower-case) and address, decoded; None if it isn't well-formed.

    The type `utf-8` may hold characters beyond ASCII, as they are or as `\\x{…}` (rfc6533#3).
    """
    kind, semicolon, written = value.partition(";")
    if not semicolon or not written or not _TYPE.fullmatch(kind):
        return None
    kind = kind.lower()
    if kind != "utf-8":
        address = decode(written)
        return None if address is None else (kind, address)
    if not _UTF8_TEXT.fullmatch(written):
        return None
    try:
        address = _CHARACTER.sub(lambda found: chr(int(found[1] or found[2], 16)), written)
    except ValueError:  # beyond Unicode
        return None
    return (kind, address) if address.isprintable() else None
