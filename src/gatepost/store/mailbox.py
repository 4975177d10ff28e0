"""A user's Maildir as a POP3 maildrop.

Nothing is moved, renamed or marked by a session: messages stay in `new` or `cur` as other readers left them. The lock
is the operating system's, on a file of its own, so it ends with the process that held it. Everything that may wait for
the disk runs in two bounded pools, one for opening and removing, which may take long, and one for reading; what is in
memory is read at once (`mailbox_cached`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path as File
from threading import Event
from typing import TypeVar

from gatepost.store.files import FileSystem, Lock
from gatepost.store.mailbox_cached import Cached
from gatepost.store.mailbox_content import FileContent, Lines
from gatepost.store.mailbox_folder import Folder
from gatepost.store.mailbox_names import Digest, uid_of
from gatepost.store.mailbox_snapshots import Snapshots
from gatepost.store.mailboxes import Content, Entry, MailboxError, MailboxInUse, MailboxSession, printable

LOCK_NAME = "gatepost.lock"
_THREADS = 4  # each pool
_TOLD = 1024  # complaints that are remembered, so that each is made once
T = TypeVar("T")


class MaildirMailboxes:
    """Mailboxes that are Maildirs. Invariant: at most one session holds a mailbox, in whatever process."""

    def __init__(
        self,
        where: Callable[[str], File],
        files: FileSystem,
        *,
        on_damage: Callable[[str], None] | None = None,
        digest: Digest = uid_of,
        cached: Cached | None = None,
    ) -> None:
        """`where` gives a user's Maildir (Maildrop.mailbox).

        `on_damage` hears what can't be read or shown, in any thread, each once. With `cached` messages that are in
        memory are read in the loop, and mailboxes that haven't changed aren't read again.
        """
        self._where = where
        self._files = files
        self._on_damage = on_damage
        self._digest = digest
        self._cached = cached
        self._snapshots = Snapshots()
        self._told: set[str] = set()
        self._working = ThreadPoolExecutor(_THREADS, thread_name_prefix="mailbox")
        self._reading = ThreadPoolExecutor(_THREADS, thread_name_prefix="mailbox-read")

    async def open(self, user: str) -> MailboxSession:
        stop = Event()
        job = self._working.submit(self._open, user, stop)
        try:
            return await asyncio.wrap_future(job)
        except asyncio.CancelledError:
            stop.set()
            job.add_done_callback(_give_back)  # the thread may be past the lock
            raise

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._reading.shutdown)
        await loop.run_in_executor(None, self._working.shutdown)

    def _open(self, user: str, stop: Event) -> _Session:
        mailbox = self._where(user)
        try:
            self._files.make_dir(mailbox)
            guard = mailbox / LOCK_NAME
            if guard.is_symlink():
                self._files.unlink(guard)  # nothing is made where it leads
            lock = self._files.lock(guard)
            if lock is None:
                raise MailboxInUse(f"another session has the mailbox of {printable(user)}")
            try:
                tell = partial(self._tell, user)
                folder = Folder(
                    mailbox,
                    self._files,
                    tell,
                    digest=self._digest,
                    stop=stop,
                    cached=self._cached,
                    snapshots=self._snapshots,
                )
                folder.look()
            except BaseException:
                lock.release()
                raise
        except OSError as error:
            raise MailboxError(f"the mailbox of {printable(user)} can't be opened: {error}") from error
        return _Session(folder, lock, self._working, self._reading)

    def _tell(self, user: str, text: str) -> None:
        said = printable(f"mailbox of {user}: {text}")
        if self._on_damage is not None and said not in self._told:
            if len(self._told) >= _TOLD:
                self._told.clear()
            self._told.add(said)
            self._on_damage(said)


class _Session:
    """Invariant: the lock is released exactly once, after every removal and after what was learnt is written."""

    def __init__(
        self,
        folder: Folder,
        lock: Lock,
        working: ThreadPoolExecutor,
        reading: ThreadPoolExecutor,
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._working = working
        self._reading = reading
        self._removal: Future[list[Entry]] | None = None
        self._is_closed = False
        self._is_corrected = False
        self.messages: Sequence[Entry] = folder.entries
        self.octets = sum(entry.size for entry in folder.entries)

    async def open_content(self, entry: Entry) -> Content:
        if (found := self._folder.cached(entry)) is not None:
            return self._made(entry, *found)
        job = self._reading.submit(self._content, entry)
        try:
            return await asyncio.wrap_future(job)
        except OSError as error:
            raise MailboxError(f"{entry.name} can't be read: {error}") from error
        except asyncio.CancelledError:
            job.add_done_callback(_close_content)
            raise

    async def delete(self, entries: Iterable[Entry]) -> Sequence[Entry]:
        wanted = list(entries)
        if not wanted:
            return []
        self._removal = self._working.submit(self._folder.remove, wanted)
        return await asyncio.shield(asyncio.wrap_future(self._removal))

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if (self._removal is None or self._removal.done()) and not self._is_corrected:
            self._lock.release()
            return
        await asyncio.shield(asyncio.wrap_future(self._working.submit(self._finish)))

    def release(self) -> None:
        """Let go of a mailbox that nobody has seen."""
        self._lock.release()

    def _content(self, entry: Entry) -> FileContent:
        lines = self._folder.lines(entry)
        try:
            return self._made(entry, lines, lines.next())
        except BaseException:
            lines.close()
            raise

    def _made(self, entry: Entry, lines: Lines, first: bytes) -> FileContent:
        return FileContent(lines, self._reading, partial(self._was_read, entry), first, self._folder.in_memory)

    def _was_read(self, entry: Entry, sent: int) -> None:
        if sent != entry.size and not self._is_closed:
            self._folder.correct(entry, sent)
            self._is_corrected = True

    def _finish(self) -> None:
        try:
            if self._removal is not None:
                with suppress(Exception):
                    self._removal.result()
            if self._is_corrected:
                self._folder.save()
        finally:
            self._lock.release()


def _give_back(job: Future[_Session]) -> None:
    if not job.cancelled() and job.exception() is None:
        job.result().release()


def _close_content(job: Future[FileContent]) -> None:
    if not job.cancelled() and job.exception() is None:
        job.result().close()
