"""A worker's stores, opened together and closed in reverse: spool, ledger, trace, users, maildrops, certificates.

    data/shards/N/     a worker's spool        data/trace/N/      its record of decisions
    data/mail/         maildrops               data/ledger.db     facts, shared by all workers
    data/users.db      users                   data/control.sock  the running server's socket

Without `data` all of it is in memory.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

from gatepost.admin.desk import Desk
from gatepost.admin.destinations import DestinationsDesk
from gatepost.admin.queue import ActionError, Queue
from gatepost.admin.telling import Entry
from gatepost.app.addresses import rules
from gatepost.app.inbox import Inbox
from gatepost.app.maildrops import Maildrops
from gatepost.app.quotas import Quotas
from gatepost.app.recording import MemoryRing, TraceRecorder
from gatepost.app.settings.root import Settings
from gatepost.app.users import open_users
from gatepost.content.pieces import crlf
from gatepost.model import Blob
from gatepost.net.certificates import Certificates, Pair
from gatepost.store.blobs import FileBlob
from gatepost.store.embedded import find_shards, open_shard
from gatepost.store.errors import ShardBusy
from gatepost.store.files import FileSystem, RealFiles
from gatepost.store.ledger import Ledger, MemoryLedger, open_ledger
from gatepost.store.mailboxes import Mailboxes
from gatepost.store.maildrop import Maildrop
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Spool
from gatepost.store.trace import Keeping, Trace
from gatepost.store.trace_reader import TraceReader
from gatepost.store.users import Accounts

if TYPE_CHECKING:
    from gatepost.store.lists import ListStore

log = logging.getLogger("gatepost")


class Stores:
    """Everything a worker keeps. Invariant: what was opened is closed once, by `close`."""

    def __init__(self) -> None:
        self.spool: Any
        self.ledger: Ledger
        self.recorder: TraceRecorder
        self.users: Accounts
        self.quotas: Quotas
        self.maildrop: Maildrops
        self.mailboxes: Mailboxes | None = None
        """The maildrops as POP3 shows them; None where nobody asks."""
        self.files: PrivateFiles | None = None
        self.certificate: Callable[[str], ssl.SSLContext] | None = None
        self.certificates: Certificates | None = None
        self.records: TraceRecords | MemoryRecords
        self._lists: ListStore | None = None
        self._trace: Trace | None = None
        self._data: File | None = None
        self._keep_free = 0
        self._free = 0
        self._look_again = 0.0

    def lists(self) -> ListStore:
        """The mailing lists; opened when they are asked for first. Raises ListError."""
        if self._lists is None:
            from gatepost.store.lists import open_lists

            self._lists = open_lists(None if self._data is None else self._data / "lists.db")
        return self._lists

    @property
    def delivers(self) -> bool:
        """Whether accepted mail is delivered on; an inbox keeps it."""
        return not isinstance(self.spool, Inbox)

    @classmethod
    async def open(
        cls,
        settings: Settings,
        shard: int = 0,
        *,
        workers: int = 1,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> Stores:
        """Open or make them. ShardBusy, SpoolFailure, OSError or CertificateError say what can't be."""
        stores = cls()
        if settings.tls.certificate:
            pairs = [Pair(one.chain, one.key) for one in settings.tls.certificate]
            stores.certificates = Certificates(pairs)
            stores.certificate = stores.certificates.context
        if settings.data is None:
            ring = MemoryRing()
            stores.spool = memory_spool(time.time) if settings.sends_on else Inbox()
            stores.ledger = MemoryLedger(time.time)
            stores.records = MemoryRecords(ring)
            stores.recorder = TraceRecorder(ring, on_error=on_error)
            stores.users = await open_users(settings, None)
            stores.quotas = Quotas(settings, stores.users, None)
            stores.maildrop = Maildrops(None, stores.users, stores.quotas, takes_everybody=False)
            stores.files = PrivateFiles(None)
            if settings.has_pop3 and isinstance(stores.spool, Inbox):
                from gatepost.app.inbox_pickup import InboxMailboxes

                stores.mailboxes = InboxMailboxes(stores.spool, stores.users)
            return stores
        try:
            await stores._open_folder(settings, File(settings.data), shard, workers, on_error)
        except BaseException:
            await stores.close()
            raise
        return stores

    async def _open_folder(
        self, settings: Settings, data: File, shard: int, workers: int, on_error: Callable[[BaseException], None] | None
    ) -> None:
        files: FileSystem = RealFiles()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, files.make_dir, data)
        self._data, self._keep_free = data, settings.spool.keep_free
        self.spool = await open_shard(data / "shards" / str(shard), files, time.time, on_damage=log.error)
        self.ledger = await open_ledger(data / "ledger.db", files, time.time)
        keeping = Keeping(days=settings.trace.days, total_size=settings.trace.size // workers)
        self._trace = Trace(data / "trace" / str(shard), files, time.time, keeping)
        self.recorder = TraceRecorder(self._trace, on_error=on_error)
        self.records = TraceRecords(data / "trace", files, self._trace)
        self.users = await open_users(settings, data / "users.db")
        drop = Maildrop(data / "mail", files, hostname=settings.hostname)
        self.quotas = Quotas(settings, self.users, drop.mailbox)
        self.maildrop = Maildrops(drop, self.users, self.quotas, takes_everybody=takes_everybody(settings))
        if settings.has_pop3:
            from gatepost.store.mailbox import MaildirMailboxes
            from gatepost.store.mailbox_cached import Cached

            cached = Cached.of_system()
            self.mailboxes = MaildirMailboxes(drop.mailbox, files, on_damage=log.error, cached=cached)
        self.files = PrivateFiles(data / "shards" / str(shard) / "private")

    def follow(self, settings: Settings) -> None:
        """Where addresses lead, and quotas, are as these settings say from now on."""
        self.users.follow(rules(settings))
        self.quotas.follow(settings)

    def has_room(self, octets: int) -> bool:
        """Whether a message fits and leaves free what the settings keep free; the disk is asked once a second."""
        if self._data is None:
            return True
        now = time.monotonic()
        if now >= self._look_again:
            self._free, self._look_again = RealFiles().free_space(self._data), now + 1.0
        return self._free - octets >= self._keep_free

    def find(self, token: str) -> Iterable[Entry]:
        """Every entry of one session."""
        return self.records.find(token)

    def flush(self) -> None:
        """Wait until whoever reads the trace's files finds what was recorded so far. Blocks: not for the loop."""
        if self._trace is not None:
            self._trace.flush()

    async def close(self) -> None:
        """Close what was opened."""
        for name in ("spool", "ledger", "users", "quotas", "maildrop", "mailboxes", "files"):
            if (store := getattr(self, name, None)) is not None and hasattr(store, "close"):
                await store.close()
        if self._lists is not None:
            await self._lists.close()
        if self._trace is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._trace.close)


def takes_everybody(settings: Settings) -> bool:
    """Whether any recipient may have a maildrop: in file-less mode, where no users are asked."""
    return any(
        route.deliver.by == "maildir" and route.recipients == "any" and "*" in route.match for route in settings.route
    )


class TraceRecords:
    """admin's Records over the trace on disk, live segment included."""

    def __init__(self, folder: File, files: FileSystem, trace: Trace | None) -> None:
        self._reader = TraceReader(folder, files)
        self._trace = trace

    def find(self, token: str) -> list[Entry]:
        """Every entry of one session."""
        if self._trace is not None:
            self._trace.flush()
        return list(self._reader.find(token))

    def sessions(
        self, *, since_ms: int, until_ms: int, fits: Callable[[list[Entry]], bool], limit: int
    ) -> list[list[Entry]]:
        """The entries of sessions that fit, newest first."""
        if self._trace is not None:
            self._trace.flush()
        found = self._reader.search(since=since_ms / 1000, until=until_ms / 1000, limit=200_000)
        return _by_session(found, fits, limit)


class MemoryRecords:
    """admin's Records over what is kept in memory."""

    def __init__(self, ring: MemoryRing) -> None:
        self._ring = ring

    def find(self, token: str) -> list[Entry]:
        """Every entry of one session."""
        return self._ring.find(token)

    def sessions(
        self, *, since_ms: int, until_ms: int, fits: Callable[[list[Entry]], bool], limit: int
    ) -> list[list[Entry]]:
        """The entries of sessions that fit, newest first."""
        within = (entry for entry in self._ring.entries if since_ms <= entry[0] <= until_ms)
        return _by_session(within, fits, limit)


def _by_session(entries: Iterable[Entry], fits: Callable[[list[Entry]], bool], limit: int) -> list[list[Entry]]:
    sessions: dict[str, list[Entry]] = {}
    for entry in entries:
        sessions.setdefault(entry[1], []).append(entry)
    fitting = [one for one in sessions.values() if fits(one)]
    return sorted(fitting, key=lambda one: one[0][0], reverse=True)[:limit]


class PrivateFiles:
    """content's Files: private copies of messages for plugins that want a path, in a folder of their own."""

    def __init__(self, folder: File | None) -> None:
        """None: a temporary folder, made when the first file is."""
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    async def private_copy(self, blob: Blob) -> File:
        """A new file with the blob's octets."""
        self._count += 1
        path = self._place() / f"{self._count}.eml"
        await asyncio.get_running_loop().run_in_executor(None, _write, path, blob)
        return path

    async def adopt(self, file: File) -> Blob:
        """The file's octets, copied, so that the file may change."""
        self._count += 1
        path = self._place() / f"{self._count}.body"
        await asyncio.get_running_loop().run_in_executor(None, _copy, file, path)
        return FileBlob(path, path.stat().st_size)

    async def close(self) -> None:
        """Remove what is left."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None
        elif self._folder is not None and self._folder.is_dir():
            for left in self._folder.iterdir():
                left.unlink(missing_ok=True)

    def _place(self) -> File:
        if self._folder is None:
            if self._temporary is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="gatepost-")
            return File(self._temporary.name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder


def _write(path: File, blob: Blob) -> None:
    with path.open("wb") as out:
        for chunk in blob.chunks():
            out.write(chunk)


def _copy(source: File, target: File) -> None:
    with source.open("rb") as read, target.open("wb") as out:
        for chunk in crlf(iter(lambda: read.read(65536), b"")):
            out.write(chunk)


@asynccontextmanager
async def offline_desk(settings: Settings, *, writes: bool) -> AsyncIterator[Desk]:
    """The desk of a server that isn't running: the trace is read, the spools are opened only for the queue."""
    data = File(str(settings.data))
    files: FileSystem = RealFiles()
    records = TraceRecords(data / "trace", files, None)
    if not writes:
        yield Desk(None, records)
        return
    spools: list[Spool] = []
    ledger: Ledger = MemoryLedger(time.time)
    try:
        for folder in await asyncio.get_running_loop().run_in_executor(None, find_shards, data / "shards", files):
            spools.append(await open_shard(folder, files, time.time))
        if not spools:
            raise ActionError(f"there is no queue under {data}", "gatepost run makes one")
        ledger = await open_ledger(data / "ledger.db", files, time.time)
        destinations = DestinationsDesk(spools, ledger, time.time)
        yield Desk(Queue(spools, lambda token, kind, facts: None, destinations), records)
    except ShardBusy as error:
        raise ActionError(str(error), "a server is starting or stopping; try again") from error
    finally:
        for spool in spools:
            await spool.close()
        await ledger.close()
