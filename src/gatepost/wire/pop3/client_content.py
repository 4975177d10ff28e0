"""A message on its way from a server: where it ends, what it is; from pieces cut anywhere.

Strategy: searches over whole blocks, never a loop over lines. Octets at the end of a block that might begin the end are
held until more is there, so that cutting the stream elsewhere changes nothing and no CRLF is divided.

What ends a message: the line end of the +OK that opens it is the line end that closes it. After a CRLF only CRLF "."
CRLF does: a server that speaks in CRLF may hand a message on as somebody wrote it, with a bare LF in it, and then LF
"." LF is that somebody's attempt to end it early and to go on in the server's name: what stands after it would be taken
for answers, as in SMTP smuggling. A server that ends its +OK with a bare LF does so with all lines, the writer of a
message can't have done it, and there a dot alone between any two line ends is the end.

Bare CR and LF inside come out as CRLF: what is taken in may hold none.
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder

_DOT = b"\r\n."
_END = b"\r\n.\r\n"  # rfc1939#3
_HOLDS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")  # every beginning of _END, longest first
_BARE_END = re.compile(rb"\r?\n\.\r?\n")
_BARE_HOLD = re.compile(rb"(?:\r|\r?\n(?:\.\r?)?)\Z")


class Incoming:
    """Invariant: what was given out is a beginning of the content, in CRLF lines; at most four octets are held."""

    __slots__ = ("_fresh", "_held", "_is_bare", "size")

    def __init__(self, *, is_bare: bool = False) -> None:
        """`is_bare`: the server ends its lines with LF alone."""
        self.size = 0  # octets given out
        self._is_bare = is_bare
        self._held = b"\r\n"  # a line end is thought before the first line, so that one search finds an end there too
        self._fresh = True  # and isn't given out

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The content in these octets, and what follows its end; None instead if it hasn't ended."""
        block = self._held + data
        text, rest = self._bare(block) if self._is_bare else self._strict(block)
        if self._fresh and text:
            text, self._fresh = text[2:], False
        text = _with_crlf(text)
        self.size += len(text)
        return text, rest

    def _strict(self, block: bytes) -> tuple[bytes, bytes | None]:
        stuffed = block.rfind(_DOT) >= 0  # searching backwards is the faster one, and most blocks have none
        end = block.find(_END) if stuffed else -1
        if end >= 0:
            text, rest = block[: end + 2], block[end + len(_END) :]
            self._held = b""
        else:
            self._held = next((hold for hold in _HOLDS if block.endswith(hold)), b"")
            text, rest = block[: len(block) - len(self._held)], None
        return text.replace(_DOT, b"\r\n") if stuffed else text, rest  # rfc1939#3

    def _bare(self, block: bytes) -> tuple[bytes, bytes | None]:
        end = _BARE_END.search(block)
        if end is not None:
            text, rest = block[: end.start()] + b"\r\n", block[end.end() :]
            self._held = b""
        else:
            hold = _BARE_HOLD.search(block, max(0, len(block) - len(_END)))
            self._held = b"" if hold is None else hold[0]
            text, rest = block[: len(block) - len(self._held)], None
        return text.replace(b"\n.", b"\n"), rest


def _with_crlf(text: bytes) -> bytes:
    """The text with every line end a CRLF; none is divided at its end."""
    if not text:
        return text
    newlines = IncrementalNewlineDecoder(None, translate=False)
    newlines.decode(text.decode("latin-1"), final=True)
    if newlines.newlines in (None, "\r\n"):
        return text
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
