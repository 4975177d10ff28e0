"""How a reply becomes octets, and the last guard against broken ones.

Strategy: the first line goes through a filter after which it carries no CR, LF, NUL or other control character and is
not longer than RFC 1939 allows. The lines of a listing are joined and looked over at once; only if something is wrong
with one of them they go through the filter one by one. Content has its own place (`content`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_LINE = 510  # octets without CRLF, rfc1939#3; rfc2449#4 leaves it so
END = b".\r\n"  # rfc1939#3: ends a reply of several lines

_CODE = re.compile(r"[A-Z0-9-]+(?:/[A-Z0-9-]+)*")  # rfc2449#3 resp-code, in the letters all known ones are written in
_SAFE = bytes(octet for octet in range(32, 127))


@dataclass(frozen=True, slots=True)
class Reply:
    """+OK or -ERR, a response code or none, and one line of text. Invariant: the code is well-formed.

    `code` is without its brackets: IN-USE, LOGIN-DELAY (RFC 2449 §8.1), AUTH, SYS/TEMP, SYS/PERM (RFC 3206), UTF8 (RFC
    6856 §5).
    """

    is_positive: bool
    text: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        if self.code and not _CODE.fullmatch(self.code):
            raise ValueError(f"{self.code!r} isn't a response code")

    def __str__(self) -> str:
        indicator = "+OK" if self.is_positive else "-ERR"
        return " ".join(filter(None, (indicator, self.code and f"[{self.code}]", self.text)))


def encode(reply: Reply, *, utf8: bool = False, codes: bool = True) -> bytes:
    """The reply's line with its CRLF, whatever its text holds. Without `codes` no response code is said."""
    text = _printable(reply.text).strip(" ")
    if text.startswith("["):  # rfc2449#6.4: what stands there would be a response code
        text = f"({text[1:]}"
    if codes and reply.code:
        text = f"[{reply.code}] {text}"
    return _line(f"{'+OK' if reply.is_positive else '-ERR'} {text}".rstrip(" "), utf8=utf8)


def encode_challenge(data: str) -> bytes:
    """A SASL challenge that is base64 already; an empty one keeps its blank (rfc5034#4)."""
    return f"+ {data}\r\n".encode("ascii")


def encode_lines(lines: Sequence[str], *, utf8: bool = False) -> bytes:
    """What follows the first line of a listing: every line safe and stuffed, and the dot at the end."""
    if not lines:
        return END
    text = "\r\n".join(lines)
    octets = text.encode("ascii", "replace")
    only_lines = octets.translate(None, _SAFE) == b"\r\n" * (len(lines) - 1)
    if only_lines and text.isascii() and max(map(len, lines)) <= MAX_LINE:
        octets += b"\r\n"
    else:
        octets = b"".join(_line(line, utf8=utf8) for line in lines)
    if octets.startswith(b"."):  # rfc1939#3: byte-stuffing
        octets = b"." + octets
    if octets.rfind(b"\r\n.") >= 0:
        octets = octets.replace(b"\r\n.", b"\r\n..")
    return octets + END


def _line(text: str, *, utf8: bool) -> bytes:
    """One line with its CRLF, safe and at most MAX_LINE octets; a cut never divides a character."""
    octets = _printable(text).encode("utf-8" if utf8 else "ascii", "replace")
    if len(octets) > MAX_LINE:
        octets = octets[:MAX_LINE].decode("utf-8", "ignore").encode("utf-8")
    return octets + b"\r\n"


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
