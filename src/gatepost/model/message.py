"""What a plugin sees of a message. `content` makes it; authors only know these shapes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path as File
from typing import BinaryIO, Protocol

from gatepost.model.blob import Blob


class Headers(Protocol):
    """The header section, in order; names without regard to case. Every change is an edit of the asking plugin."""

    def __getitem__(self, name: str) -> str:
        """The first field's unfolded value; KeyError if there is none."""

    def __setitem__(self, name: str, value: str) -> None:
        """Replace the first field of that name, or add it at the end."""

    def __delitem__(self, name: str) -> None:
        """Delete every field of that name."""

    def __contains__(self, name: object) -> bool: ...

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Every field as (name, unfolded value), in order."""

    def __len__(self) -> int: ...

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first field's unfolded value, or `default`."""

    def all(self, name: str) -> list[str]:
        """Every field of that name, unfolded, in order."""

    def add(self, name: str, value: str, at: int | None = None) -> None:
        """Add a field before index `at` (0: the very top), or at the end."""


class Part(Protocol):
    """One leaf of the MIME structure."""

    @property
    def type(self) -> str:
        """Content type, lower-case, without parameters."""

    @property
    def filename(self) -> str | None:
        """The file name offered, decoded, with directories cut off."""

    @property
    def size(self) -> int:
        """Octets as encoded in the message."""

    def read(self, limit: int) -> bytes:
        """Up to `limit` decoded octets."""

    def replace(self, content: bytes) -> None:
        """Other content for this part."""


class Message(Protocol):
    """One message as the asking plugin sees it: the received content with the edits made so far."""

    @property
    def headers(self) -> Headers: ...

    @property
    def size(self) -> int:
        """Octets as it would be stored now."""

    @property
    def message_id(self) -> str | None:
        """The Message-ID without angle brackets."""

    @property
    def blob(self) -> Blob:
        """The message with its edits, as content that no longer changes."""

    def open(self) -> BinaryIO:
        """The message as a stream: CRLF line ends, dots not stuffed."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The message in chunks, letting other sessions go on between them."""

    async def path(self) -> File:
        """A file with the message, made on demand and private to the plugin; gone when the event is sealed."""

    def parts(self) -> AsyncIterator[Part]:
        """The MIME leaves, depth first; bounded in count and depth."""

    async def replace(self, content: bytes | File) -> None:
        """Another body (everything after the header section)."""
