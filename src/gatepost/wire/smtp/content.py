"""The content of one transaction, from the octets on the wire: where it ends, what it is, what is wrong with it.

Strategy: searches over whole blocks, never a loop over octets. After DATA the only end is CRLF "." CRLF; as the content
begins at the start of a line, a CRLF is thought before it, so that one search finds the end at the start too. Octets at
the end of a block that might be the beginning of CRLF "." CRLF are held until more is there: so no CRLF is ever divided
between two pieces, and cutting the stream elsewhere changes nothing. Bare newlines are noticed by the newline decoder
of `io`, which knows the kinds of line ends it has seen. A failure is remembered and the rest still read to its end,
because the client listens only there; which failure is told doesn't depend on which came first.
"""

from __future__ import annotations

from io import IncrementalNewlineDecoder

from gatepost.model import Reply
from gatepost.wire.smtp import refusals as no
from gatepost.wire.smtp.profile import BareNewline, Profile

_DOT = b"\r\n."
_END = b"\r\n.\r\n"  # rfc5321#4.1.1.4
_HOLDS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")  # every beginning of _END, longest first


class Content:
    """Invariant: what was given out is a beginning of the content, without a divided CRLF; `size` is its octets so far.

    Once `failure` is set nothing more is given out.
    """

    __slots__ = ("_bare", "_binary", "_fresh", "_held", "_line", "_line_limit", "_long", "_newlines", "_normalise",
                 "_size_limit", "size")  # fmt: skip

    def __init__(self, profile: Profile, *, binary: bool = False) -> None:
        self.size = 0
        self._size_limit = profile.message_size
        self._line_limit = profile.text_line
        self._normalise = profile.bare_newline is BareNewline.NORMALISE
        self._binary = binary
        self._newlines = IncrementalNewlineDecoder(None, translate=False)
        self._held = b""
        self._fresh = True  # nothing of a DATA content has been given out, the CRLF thought before it is still there
        self._line = 0  # octets of the line that isn't finished
        self._long = False
        self._bare = False

    @property
    def failure(self) -> Reply | None:
        """What makes the content unacceptable so far."""
        if self._size_limit and self.size > self._size_limit:
            return no.TOO_BIG
        if self._bare:
            return no.BARE_IN_CONTENT
        return no.LONG_LINE if self._long else None

    def dotted(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Octets after DATA: the content in them, and what follows its end; None instead if it hasn't ended."""
        if self._fresh and not self._held:
            self._held = b"\r\n"
        block = self._held + data
        dots = block.rfind(_DOT)  # searching backwards is the faster one, and nearly every block has none
        if dots < 0:
            end, stuffed = -1, False
        elif block.startswith(_END, dots) and block.rfind(_DOT, 0, dots + 2) < 0:
            end, stuffed = dots, False  # the usual end: the only line that begins with a dot
        else:
            end, stuffed = block.find(_END), True
        if end >= 0:
            text, rest = block[: end + 2], block[end + len(_END) :]
            self._held = b""
        else:
            self._held = next((hold for hold in _HOLDS if block.endswith(hold)), b"")
            text, rest = block[: len(block) - len(self._held)] if self._held else block, None
        if stuffed:
            text = text.replace(_DOT, b"\r\n")  # rfc5321#4.5.2
        if self._fresh and text:
            text, self._fresh = text[2:], False
        return self._checked(text), rest

    def counted(self, data: bytes, *, last: bool) -> bytes:
        """Octets of a BDAT chunk, `last` if they end the content: the content in them."""
        if self._binary:  # rfc3030#3: every octet is content
            self.size += len(data)
            return b"" if self.failure else data
        block = self._held + data if self._held else data
        self._held = b""
        if not last and block.endswith(b"\r"):
            block, self._held = block[:-1], b"\r"
        return self._checked(block)

    def _checked(self, text: bytes) -> bytes:
        """The text with its newlines mended where that is the policy; b"" once something is wrong with it."""
        if not text:
            return text
        self._newlines.decode(text.decode("latin-1"), final=True)
        if self._newlines.newlines not in (None, "\r\n"):
            if self._normalise:
                text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
            else:
                self._bare = True
        self.size += len(text)
        if self._line_limit and not self._long:
            self._measure(text)
        return b"" if self.failure else text

    def _measure(self, text: bytes) -> None:
        """Look for a line that is too long: each window as wide as the limit must hold a line end."""
        size, start = len(text), 0
        reach = self._line_limit - self._line  # before here the line must have ended
        while reach < size:
            end = text.rfind(b"\n", 0, reach) + 1
            if end <= start:
                self._long = True
                return
            start, reach = end, end + self._line_limit
        end = text.rfind(b"\n") + 1
        self._line = size - end if end else self._line + size
