"""A message from its file to the wire: every line end becomes CRLF, a piece at a time.

Files have LF; those of other programs may have CRLF, or both. A CR without LF stays as it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future

from gatepost.model.blob import CHUNK
from gatepost.store.mailbox_cached import Cached
from gatepost.store.mailboxes import MailboxError

_SIZING = 256 * 1024  # octets read at a time where nothing is kept


def with_crlf(data: bytes) -> bytes:
    """A piece with CRLF for every line end. The piece ends in no CR whose LF may follow."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    return data.replace(b"\n", b"\r\n")


def size_with_crlf(descriptor: int) -> int:
    """Octets of an open file as they will be sent. Raises OSError."""
    size = 0
    last = b""
    while data := os.read(descriptor, _SIZING):
        size += len(data) + data.count(b"\n")
        if b"\r" in data or last == b"\r":
            size -= (last + data).count(b"\r\n")
        last = data[-1:]
    return size


class Lines:
    """An open file as it is sent. It owns the descriptor; what is appended meanwhile isn't seen."""

    def __init__(self, descriptor: int, size: int | None = None) -> None:
        """`size`: the file's octets, if they are known. Raises OSError."""
        self._descriptor = descriptor
        self._offset = 0
        self._left = os.fstat(descriptor).st_size if size is None else size
        self._kept = b""
        self.sent = 0
        self.is_over = False

    def next(self) -> bytes:
        """The next piece, at most twice CHUNK; nothing at the end. Raises OSError."""
        while not self.is_over:
            data = os.pread(self._descriptor, min(CHUNK, self._left), self._offset) if self._left else b""
            if piece := self._piece(data):
                return piece
        return b""

    def next_cached(self, cached: Cached) -> bytes | None:
        """As `next`, without waiting; None if that can't be."""
        while not self.is_over:
            data = cached.read(self._descriptor, self._offset, min(CHUNK, self._left)) if self._left else b""
            if data is None:
                return None
            if piece := self._piece(data):
                return piece
        return b""

    def close(self) -> None:
        """Let go of the descriptor, once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _piece(self, data: bytes) -> bytes:
        """What is sent of octets that were read; nothing of nothing but at the end."""
        self._offset += len(data)
        self._left -= len(data)
        if not data:
            self.is_over, piece = True, self._kept
        else:
            data = self._kept + data if self._kept else data
            self._kept = b"\r" if data.endswith(b"\r") else b""
            piece = with_crlf(data[:-1] if self._kept else data)
            self.is_over = not self._left and not self._kept
        self.sent += len(piece)
        return piece


class FileContent:
    """Lines read where nothing has to be waited for, else in a pool. The first piece is there from the beginning, and
    most messages are no more than that.

    Invariant: the descriptor is closed exactly once, and never while a thread reads it.
    """

    def __init__(
        self, lines: Lines, pool: Executor, on_end: Callable[[int], None], first: bytes, cached: Cached | None = None
    ) -> None:
        """`first` is the first piece of the lines. `on_end` hears how many octets the whole message was."""
        self._lines = lines
        self._pool = pool
        self._on_end = on_end
        self._first = first
        self._cached = cached
        self._job: Future[bytes] | None = None
        self._is_closed = False
        if lines.is_over:
            lines.close()

    @property
    def is_over(self) -> bool:
        return self._lines.is_over and not self._first

    async def read(self) -> bytes:
        piece: bytes | None = self._first
        self._first = b""
        if not piece and not self._lines.is_over and not self._is_closed:
            piece = self._lines.next_cached(self._cached) if self._cached is not None else None
            if piece is None:
                piece = await self._read()
        if self._lines.is_over and not self._is_closed:
            self.close()
            self._on_end(self._lines.sent)
        return piece or b""

    def close(self) -> None:
        self._is_closed = True
        self._first = b""
        if self._job is None:
            self._lines.close()
        else:
            self._job.add_done_callback(lambda _: self._lines.close())

    async def _read(self) -> bytes:
        """The next piece, in the pool."""
        self._job = self._pool.submit(self._lines.next)
        try:
            return await asyncio.wrap_future(self._job)
        except OSError as error:
            raise MailboxError(f"a message can't be read: {error}") from error
