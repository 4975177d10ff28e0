"""Immutable content by handle: who holds a blob can read it, again and from anywhere, and nobody can change it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Protocol, runtime_checkable

CHUNK = 64 * 1024  # octets read at a time


@runtime_checkable
class Blob(Protocol):
    """Octets that don't change. `store` keeps them in memory or in a file; `content` renders views into new ones."""

    @property
    def size(self) -> int:
        """Octets in all."""

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Up to `length` octets from `offset`; everything from there without one."""

    def chunks(self) -> Iterator[bytes]:
        """The whole content in pieces of at most CHUNK octets."""

    def open(self) -> BinaryIO:
        """A new readable, seekable stream at the start; the caller closes it."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """A blob in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        return self.data[offset:] if length is None else self.data[offset : offset + length]

    def chunks(self) -> Iterator[bytes]:
        return (self.data[at : at + CHUNK] for at in range(0, len(self.data), CHUNK))

    def open(self) -> BinaryIO:
        return BytesIO(self.data)
