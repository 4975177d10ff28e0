"""A message's content as a sink reads and writes it, at any offset: as it is until the first write, then a copy.

A small copy is in memory. A large one is in a file without a name, so that nothing is left of it whatever happens.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

from gatepost.content.pieces import Rendered, Span
from gatepost.model import Blob, Bytes
from gatepost.model.blob import CHUNK
from gatepost.plugins.sink.mailmsg_bag import BadArgument, TooMuch

SMALL = 64 * 1024
"""Octets of a copy that stays in memory."""
LARGEST = 1024 * 1024 * 1024
"""Octets that content can have."""


class Unnamed:
    """A blob in a file without a name; it is gone with the last who has the blob. Who made it may write it before
    anybody else has it.
    """

    __slots__ = ("_file", "size")

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """OSError."""
        self._file = tempfile.TemporaryFile(prefix="gatepost-content-", buffering=0)  # noqa: SIM115  __del__ closes it
        self.size = 0
        for chunk in chunks:
            self.write(self.size, chunk)

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        left = max(0, self.size - offset)
        return os.pread(self._file.fileno(), left if length is None else min(length, left), offset)

    def chunks(self) -> Iterator[bytes]:
        return (self.read(at, CHUNK) for at in range(0, self.size, CHUNK))

    def open(self) -> BinaryIO:
        return Rendered([Span(self, 0, self.size)]).open()

    def write(self, offset: int, octets: bytes) -> None:
        """These octets there. OSError."""
        rest = memoryview(octets)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, offset)
            rest, offset = rest[written:], offset + written
            self.size = max(self.size, offset)

    def resize(self, size: int) -> None:
        """So many octets: cut, or filled up with zeros. OSError."""
        self._file.truncate(size)
        self.size = size

    def __del__(self) -> None:
        with suppress(AttributeError):  # none could be made
            self._file.close()


class Content:
    """Invariant: nothing is copied before the first write, and what `snapshot` has given out changes no more."""

    __slots__ = ("_base", "_file", "_memory", "is_changed")

    def __init__(self, base: Blob) -> None:
        self._base: Blob = base
        self._memory: bytearray | None = None
        self._file: Unnamed | None = None
        self.is_changed = False

    @property
    def size(self) -> int:
        """Octets, as it is now."""
        if self._memory is not None:
            return len(self._memory)
        return (self._file or self._base).size

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` octets from `offset`; none from beyond the end. BadArgument below 0."""
        if offset < 0 or length < 0:
            raise BadArgument("content has neither offsets nor lengths below 0")
        if self._memory is not None:
            return bytes(self._memory[offset : offset + length])
        length = min(length, max(0, self.size - offset))
        return (self._file or self._base).read(offset, length) if length else b""

    def write(self, offset: int, octets: bytes) -> None:
        """These octets at `offset`; what lies between the end and there becomes zero. TooMuch, OSError."""
        if offset < 0:
            raise BadArgument("content has no offsets below 0")
        end = offset + len(octets)
        self._make_room(max(end, self.size))
        if self._memory is not None:
            self._memory[offset:end] = octets
        elif self._file is not None:
            self._file.write(offset, octets)

    def resize(self, size: int) -> None:
        """So many octets: cut, or filled up with zeros. TooMuch, OSError."""
        if size < 0:
            raise BadArgument("content has no size below 0")
        self._make_room(size)

    def replace(self, content: Blob) -> None:
        """Another content altogether. TooMuch."""
        if content.size > LARGEST:
            raise TooMuch(f"content has at most {LARGEST >> 20} MiB")
        self._base, self._memory, self._file = content, None, None
        self.is_changed = True

    def snapshot(self) -> Blob:
        """The content as it is now; later writes change another copy. OSError."""
        if self._memory is not None:
            self._base, self._memory = Bytes(bytes(self._memory)), None
        elif self._file is not None:
            self._base, self._file = self._file, None
        return self._base

    def _make_room(self, size: int) -> None:
        """A copy that has exactly so many octets."""
        if size > LARGEST:
            raise TooMuch(f"content has at most {LARGEST >> 20} MiB")
        if self._memory is None and self._file is None:
            if max(size, self._base.size) <= SMALL:
                self._memory = bytearray(self._base.read())
            else:
                self._file = Unnamed(self._base.chunks())
        elif self._memory is not None and size > SMALL:
            self._file, self._memory = Unnamed([bytes(self._memory)]), None
        if self._memory is not None:
            del self._memory[size:]
            self._memory.extend(bytes(size - len(self._memory)))
        elif self._file is not None and size != self._file.size:
            self._file.resize(size)
        self.is_changed = True


__all__ = ["LARGEST", "Content", "Unnamed"]
