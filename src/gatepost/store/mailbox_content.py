"""A message from its file to the wire: every line end becomes CRLF, a piece at a time.

Files have LF; those of other programs may have CRLF, or both. A CR without LF stays as it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future

from gatepost.model.blob import CHUNK
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

    def __init__(self, descriptor: int) -> None:
        """Raises OSError."""
        self._descriptor = descriptor
        self._left = os.fstat(descriptor).st_size
        self._kept = b""
        self.sent = 0
        self.is_over = False

    def next(self) -> bytes:
        """The next piece, at most twice CHUNK; nothing at the end. Raises OSError."""
        while not self.is_over:
            data = os.read(self._descriptor, min(CHUNK, self._left)) if self._left else b""
            self._left -= len(data)
            if not data:
                self.is_over, piece = True, self._kept
            else:
                data = self._kept + data if self._kept else data
                self._kept = b"\r" if data.endswith(b"\r") else b""
                piece = with_crlf(data[:-1] if self._kept else data)
                self.is_over = not self._left and not self._kept
            if piece:
                self.sent += len(piece)
                return piece
        return b""

    def close(self) -> None:
        """Let go of the descriptor, once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class FileContent:
    """Lines read in a pool. The first piece is there from the beginning, and most messages are no more than that.

    Invariant: the descriptor is closed exactly once, and never while a thread reads it.
    """

    def __init__(self, lines: Lines, pool: Executor, on_end: Callable[[int], None]) -> None:
        """Reads the first piece: not for the loop. `on_end` hears how many octets the whole message was."""
        self._lines = lines
        self._pool = pool
        self._on_end = on_end
        self._first = lines.next()
        self._job: Future[bytes] | None = None
        self._is_closed = False
        if lines.is_over:
            lines.close()

    async def read(self) -> bytes:
        piece = self._first
        self._first = b""
        if not piece and not self._lines.is_over and not self._is_closed:
            self._job = self._pool.submit(self._lines.next)
            try:
                piece = await asyncio.wrap_future(self._job)
            except OSError as error:
                raise MailboxError(f"a message can't be read: {error}") from error
        if self._lines.is_over and not self._is_closed:
            self.close()
            self._on_end(self._lines.sent)
        return piece

    def close(self) -> None:
        self._is_closed = True
        self._first = b""
        if self._job is None:
            self._lines.close()
        else:
            self._job.add_done_callback(lambda _: self._lines.close())
