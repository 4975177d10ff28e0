"""A blob put together from pieces of others: how an edited message exists without a copy of its body.

Strategy: each piece is a span of a blob; sizes are known at once, octets are read only when asked for, and small
neighbours leave together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, BinaryIO

from gatepost.model.blob import CHUNK, Blob

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@dataclass(frozen=True, slots=True)
class Span:
    """`length` octets of a blob from `start`; all of them exist."""

    blob: Blob
    start: int
    length: int

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` octets from `offset` of the span."""
        return self.blob.read(self.start + offset, max(0, min(length, self.length - offset)))


class Rendered:
    """Spans read as one content. Invariant: `size` is the sum of the spans, none of them empty."""

    __slots__ = ("size", "spans")

    def __init__(self, spans: Iterable[Span]) -> None:
        self.spans = tuple([span for span in spans if span.length > 0])
        self.size = sum([span.length for span in self.spans])

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Up to `length` octets from `offset`; everything from there without one."""
        left = self.size - offset if length is None else min(length, self.size - offset)
        out: list[bytes] = []
        for span in self.spans:
            if left <= 0:
                break
            if offset < span.length:
                out.append(octets := span.read(offset, left))
                left -= len(octets)
            offset = max(0, offset - span.length)
        return out[0] if len(out) == 1 else b"".join(out)

    def chunks(self) -> Iterator[bytes]:
        """The whole content in pieces of at most CHUNK octets."""
        if self.size <= CHUNK:
            if self.size:
                yield b"".join([span.read(0, span.length) for span in self.spans])
            return
        for span in self.spans:
            for offset in range(0, span.length, CHUNK):
                yield span.read(offset, CHUNK)

    def open(self) -> BinaryIO:
        """A new readable, seekable stream at the start; the caller closes it."""
        return BufferedReader(_Reader(self), CHUNK)

    def span(self, start: int, stop: int) -> list[Span]:
        """The spans that hold the octets from `start` to `stop`."""
        out: list[Span] = []
        for span in self.spans:
            first, last = max(0, start), min(span.length, stop)
            if first < last:
                out.append(Span(span.blob, span.start + first, last - first))
            start, stop = start - span.length, stop - span.length
        return out


class _Reader(RawIOBase):
    """A position in a blob."""

    def __init__(self, blob: Rendered) -> None:
        super().__init__()
        self._blob = blob
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        octets = self._blob.read(self._at, len(view))
        view[: len(octets)] = octets
        self._at += len(octets)
        return len(octets)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        origin = {0: 0, 1: self._at, 2: self._blob.size}[whence]
        if origin + offset < 0:
            raise ValueError("a stream has nothing before its start")
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        return self._at


def crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same lines, each ended by CRLF: what a plugin or a file brought becomes fit for SMTP (rfc5321#2.3.8)."""
    held = b""  # a CR at the end of a piece may belong to a CRLF
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        yield _with_crlf(data[: len(data) - len(held)])
    if held:
        yield b"\r\n"


def has_bare_line_end(chunks: Iterable[bytes]) -> bool:
    """Whether a CR or LF stands alone somewhere."""
    last = b""
    for chunk in chunks:
        data = last + chunk
        last = b"\r" if data.endswith(b"\r") else b""
        pairs = data.count(b"\r\n")
        if data.count(b"\n") != pairs or data.count(b"\r") - len(last) != pairs:
            return True
    return bool(last)


def _with_crlf(data: bytes) -> bytes:
    pairs = data.count(b"\r\n")
    if data.count(b"\n") == pairs == data.count(b"\r"):
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
