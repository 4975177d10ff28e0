"""Content while it arrives.

Small content never leaves memory. Larger content goes in pieces to a file, written by a small pool of threads while
more arrives; `ready()` is the back-pressure. Content too large for a row is synced as soon as it is complete, while the
plugins are still being asked, so that the commit finds it done.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor
from enum import Enum, auto
from pathlib import Path as File

from gatepost.model import Blob, Bytes, Ticket
from gatepost.store.blobs import FileBlob
from gatepost.store.errors import SpoolFailure, spool_error
from gatepost.store.files import FileSystem, WritableFile

MEMORY_LIMIT = 32 * 1024  # octets kept in memory; as many again may be on their way to the file
ROW_LIMIT = 64 * 1024  # octets up to which content rests in a row rather than in a file


class Draft(ABC):
    """Content while it arrives: written, finished once, discarded once."""

    __slots__ = ("size", "ticket")

    ticket: Ticket
    size: int
    """Octets written so far."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Append octets; never waits. Await `ready` between large writes."""

    @abstractmethod
    async def ready(self) -> None:
        """Wait until more may be written; raises SpoolFull or SpoolFailure when writing has failed."""

    @abstractmethod
    async def finish(self) -> Blob:
        """The content, complete; the same again when called again. Raises SpoolFull or SpoolFailure."""

    async def complete(self) -> Blob:
        """As finish, and what went to a file is synced; for the commit."""
        return await self.finish()

    @abstractmethod
    def discard(self) -> None:
        """Let go of memory and file, once however often it is called. What was committed stays."""


class _State(Enum):
    ARRIVING = auto()
    FINISHED = auto()
    DISCARDED = auto()


class MemoryDraft(Draft):
    """A draft in memory, whatever its size: for a spool that has no files."""

    __slots__ = ("_blob", "_pieces", "_state")

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.size = 0
        self._state = _State.ARRIVING
        self._pieces: list[bytes] = []
        self._blob = Bytes(b"")

    def write(self, data: bytes) -> None:
        _expect_arriving(self._state)
        self._pieces.append(data)
        self.size += len(data)

    async def ready(self) -> None:
        return

    async def finish(self) -> Blob:
        if self._state is _State.ARRIVING:
            self._state = _State.FINISHED
            self._blob = Bytes(b"".join(self._pieces))
            self._pieces.clear()
        return self._blob

    def discard(self) -> None:
        self._state = _State.DISCARDED
        self._pieces.clear()
        self._blob = Bytes(b"")


class FileDraft(Draft):
    """A draft that moves to a file when it outgrows memory.

    Invariant: at most one job of this draft is with the pool, and only that job touches the open file. After a failed
    job nothing more is kept, the file is gone, and everybody who asks hears the error.
    """

    __slots__ = ("_blob", "_error", "_file", "_files", "_job", "_pieces", "_place", "_pool", "_state", "_waiting")

    def __init__(self, ticket: Ticket, place: Callable[[], File], files: FileSystem, pool: Executor) -> None:
        self.ticket = ticket
        self.size = 0
        self._place = place  # asked only by content that outgrows memory: a path costs more than a small draft
        self._files = files
        self._pool = pool
        self._state = _State.ARRIVING
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._file: WritableFile | None = None
        self._job: asyncio.Future[None] | None = None
        self._error: OSError | None = None
        self._blob: Blob | None = None

    def write(self, data: bytes) -> None:
        _expect_arriving(self._state)
        self.size += len(data)
        if self._error is None:
            self._pieces.append(data)
            self._waiting += len(data)
            if self._waiting > MEMORY_LIMIT and self._job is None:
                self._spill()

    async def ready(self) -> None:
        while self._job is not None and self._waiting > MEMORY_LIMIT:
            await asyncio.wait({self._job})
        self._raise_error()

    async def finish(self) -> Blob:
        if self._state is _State.DISCARDED:
            raise SpoolFailure("the draft was discarded")
        self._state = _State.FINISHED
        if self._blob is not None:
            return self._blob
        if self._job is None and self._file is None:
            self._raise_error()
            self._blob = Bytes(b"".join(self._pieces))
            self._pieces.clear()
            return self._blob
        while self._job is not None or self._pieces:
            if self._job is None:
                self._spill()
            else:
                await asyncio.wait({self._job})
        self._raise_error()
        self._blob = FileBlob(self._place(), self.size)
        if self.size > ROW_LIMIT:
            self._start(self._sync)
        return self._blob

    async def complete(self) -> Blob:
        blob = await self.finish()
        while self._job is not None:  # the sync that finish began
            await asyncio.wait({self._job})
        self._raise_error()
        return blob

    def discard(self) -> None:
        if self._state is _State.DISCARDED:
            return
        self._state = _State.DISCARDED
        self._pieces.clear()
        self._blob = None
        if self._job is None:
            self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            try:
                self._pool.submit(self._remove)
            except RuntimeError:  # the spool is closed and its pool with it
                self._remove()

    def _spill(self) -> None:
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        self._start(lambda: self._append(pieces))

    def _start(self, work: Callable[[], None]) -> None:
        self._job = asyncio.get_running_loop().run_in_executor(self._pool, work)
        self._job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Future[None]) -> None:
        self._job = None
        error = job.exception()
        if isinstance(error, OSError):
            self._error = error
            self._pieces.clear()
            self._waiting = 0
        if self._state is _State.DISCARDED or self._error is not None:
            self._let_go()
        elif self._waiting > MEMORY_LIMIT:
            self._spill()

    def _append(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._files.unlink(self._place())
            self._file = self._files.create(self._place())
        self._file.write(b"".join(pieces))

    def _sync(self) -> None:
        if self._file is not None:
            self._file.sync()

    def _remove(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._files.unlink(self._place())

    def _raise_error(self) -> None:
        if self._error is not None:
            raise spool_error(self._error) from self._error


def _expect_arriving(state: _State) -> None:
    if state is not _State.ARRIVING:
        raise RuntimeError("a draft that is finished or discarded takes no more content")
