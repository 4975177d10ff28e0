"""A message on its way to a client: line ends made CRLF, dots stuffed, TOP cut off; from pieces cut anywhere.

Strategy: searches over whole blocks, never a loop over octets or lines. A CR at the end of a piece is held until it is
known what follows, so that no CRLF is ever divided between two blocks; then every block can be stuffed alone, if it is
known whether it begins a line. Which line ends a block has is told by the newline decoder of `io`.
"""

from __future__ import annotations

from io import IncrementalNewlineDecoder

from gatepost.wire.pop3.replies import END


class Outgoing:
    """Invariant: what was given out is a beginning of the stuffed content, and no line in it is a dot alone.

    A CR or LF that stands alone is a line end as well: what a client might take for one must be stuffed like one.
    """

    __slots__ = ("_begins_line", "_held", "_in_header", "_lines")

    def __init__(self, lines: int | None = None) -> None:
        """`lines`: after the header section only so many of the body are given out; None: all."""
        self._lines = lines
        self._in_header = True
        self._begins_line = True
        self._held = False  # a CR, to be given out with what follows

    @property
    def wants_more(self) -> bool:
        """Whether what comes now would be given out."""
        return self._lines is None or self._in_header or self._lines > 0

    def feed(self, data: bytes) -> bytes:
        """The next piece of the message: what there is to send."""
        if not data or not self.wants_more:
            return b""
        if self._held:
            data, self._held = b"\r" + data, False
        if data.endswith(b"\r"):
            data, self._held = data[:-1], True
        return self._stuffed(self._cut(_with_crlf(data)))

    def end(self) -> bytes:
        """The rest of it, with a last line end if it has none, and the dot."""
        rest = b""
        if self._held:
            self._held = False
            rest = self._stuffed(self._cut(b"\r\n"))
        if not self._begins_line:
            rest += b"\r\n"
        return rest + END

    def _cut(self, text: bytes) -> bytes:
        """What TOP wants of it (rfc1939#7)."""
        if self._lines is None or not text:
            return text
        body = 0
        if self._in_header:
            if self._begins_line and text.startswith(b"\r\n"):
                body = 2
            else:
                blank = text.find(b"\r\n\r\n")
                if blank < 0:
                    return text
                body = blank + 4
            self._in_header = False
        ends = text.count(b"\n", body)
        if ends < self._lines:
            self._lines -= ends
            return text
        rest = text[body:].split(b"\n", self._lines)[-1] if self._lines else text[body:]
        self._lines = 0
        return text[: len(text) - len(rest)]

    def _stuffed(self, text: bytes) -> bytes:
        if not text:
            return text
        first = b"." if self._begins_line and text.startswith(b".") else b""
        self._begins_line = text.endswith(b"\n")
        if text.rfind(b"\r\n.") >= 0:  # searching backwards is the faster one, and most blocks have none
            text = text.replace(b"\r\n.", b"\r\n..")  # rfc1939#3
        return first + text if first else text


def _with_crlf(text: bytes) -> bytes:
    """The text with every line end a CRLF."""
    if b"\r" not in text:
        return text.replace(b"\n", b"\r\n")
    newlines = IncrementalNewlineDecoder(None, translate=False)
    newlines.decode(text.decode("latin-1"), final=True)
    if newlines.newlines == "\r\n":
        return text
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
