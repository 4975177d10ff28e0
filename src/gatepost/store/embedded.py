"""The spool in a folder: SQLite for facts and small content, files for large content, one owner by an OS lock.

    lock        held by the owner, as long as it lives
    spool.db    one row an entry: the row is the commit
    bodies/     content over 64 KiB, named by entry id; synced before its row, removed after it
    incoming/   content still arriving; whatever is here at opening belongs to nobody
    damaged/    what couldn't be read, set aside for a human

Strategy: the row decides. A file without a row is removed at opening, a row without its file is set aside, and a
database that can't be read is moved to `damaged/` after all rows that can be read were saved from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path as File

import apsw

from gatepost.model import Blob, Bytes, Ticket
from gatepost.store.blobs import FileBlob
from gatepost.store.database import Database
from gatepost.store.draft import ROW_LIMIT, Draft, FileDraft
from gatepost.store.errors import ShardBusy, SpoolFailure, spool_error
from gatepost.store.files import FileSystem, Lock
from gatepost.store.queue import Done, Found, QueueSpool, Work
from gatepost.store.recovery import Shelves, recover, set_aside
from gatepost.store.rows import Correspondents, Damaged, check_content, correspondents_of, decode_deposit
from gatepost.store.spool import Deposit, Spool
from gatepost.store.writer import Writer

_POOL = 4  # threads that write files


async def open_shard(
    folder: File,
    files: FileSystem,
    clock: Callable[[], float],
    *,
    vfs: str | None = None,
    on_damage: Callable[[str], None] | None = None,
) -> Spool:
    """Own a shard and take up what it holds. `clock` gives Unix time in seconds.

    Raises ShardBusy if another process owns it, SpoolFull or SpoolFailure if the disk won't. `on_damage` is called
    with one line for each thing that was set aside, from any thread.
    """
    shelves = Shelves(folder, files, on_damage or _ignore, vfs)
    pool = ThreadPoolExecutor(_POOL, thread_name_prefix=f"files {folder.name}")
    loop = asyncio.get_running_loop()
    try:
        lock, database, found = await loop.run_in_executor(pool, _open, shelves, clock)
    except BaseException:
        pool.shutdown(wait=False)
        raise
    storage = _ShardStorage(shelves, lock, database, pool)
    return QueueSpool(storage, clock, found)


def find_shards(folder: File, files: FileSystem) -> list[File]:
    """Every shard below a folder, whoever made it, in order of name."""
    return [folder / name for name in files.list_dir(folder) if files.exists(folder / name / "lock")]


def _ignore(_: str) -> None:
    """Nobody wants to know."""


def _open(shelves: Shelves, clock: Callable[[], float]) -> tuple[Lock, Database, list[Found]]:
    try:
        shelves.make()
        lock = shelves.files.lock(shelves.folder / "lock")
        if lock is None:
            raise ShardBusy(f"another process owns {shelves.folder}")
        try:
            database, found = recover(shelves, clock)
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise spool_error(error) from error
    except apsw.Error as error:
        raise SpoolFailure(f"{shelves.folder} can't be opened: {error}") from error
    return lock, database, found


def _look(keys: Sequence[int], database: Database) -> dict[int, Correspondents]:
    found: dict[int, Correspondents] = {}
    for key, facts in database.look(keys):
        with suppress(Damaged):  # whoever reads the whole of it sets it aside
            found[key] = correspondents_of(facts)
    return found


class _ShardStorage:
    """An owned shard. Invariant: a file in bodies/ is synced, name and content, before a row that needs it is."""

    def __init__(self, shelves: Shelves, lock: Lock, database: Database, pool: ThreadPoolExecutor) -> None:
        self._shelves = shelves
        self._files = shelves.files
        self._lock = lock
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(
            database,
            reopen=shelves.database,
            sync_bodies=partial(self._files.sync_dir, shelves.bodies),
            name=shelves.folder.name,
        )

    def draft(self, ticket: Ticket) -> Draft:
        return FileDraft(ticket, lambda: self._shelves.incoming / str(ticket), self._files, self._pool)

    async def place(self, id: str, content: Blob) -> Blob:
        placing = self._loop.run_in_executor(self._pool, self._place, id, content)
        try:
            return await asyncio.shield(placing)
        except asyncio.CancelledError:
            placing.add_done_callback(lambda _: self.displace(id))
            raise
        except OSError as error:
            raise spool_error(error) from error

    def displace(self, id: str) -> None:
        with suppress(RuntimeError):  # after closing; the next opening removes what has no row
            self._pool.submit(self._files.unlink, self._shelves.bodies / id)

    def submit(self, work: Work, done: Done) -> None:
        self._writer.submit(work, done)

    async def load(self, keys: Sequence[int]) -> dict[int, tuple[Deposit, Blob]]:
        loaded: dict[int, tuple[Deposit, Blob]] = await self._writer.read(partial(self._load, keys))
        return loaded

    async def look(self, keys: Sequence[int]) -> dict[int, Correspondents]:
        looked: dict[int, Correspondents] = await self._writer.read(partial(_look, keys))
        return looked

    async def records(self, limit: int) -> list[tuple[object, ...]]:
        records: list[tuple[object, ...]] = await self._writer.read(lambda database: database.records(limit))
        return records

    async def memos(self, prefix: str) -> dict[str, bytes]:
        memos: dict[str, bytes] = await self._writer.read(lambda database: dict(database.memos(prefix)))
        return memos

    async def close(self) -> None:
        await self._loop.run_in_executor(self._pool, self._writer.stop)
        self._pool.shutdown(wait=True)
        self._lock.release()

    def _place(self, id: str, content: Blob) -> Blob:
        """In the pool. Small content comes back into the row; a file of ours gets a second name, the rest is copied."""
        if content.size <= ROW_LIMIT:
            return Bytes(content.read())
        target = self._shelves.bodies / id
        if isinstance(content, FileBlob) and self._shelves.owns(content.path):
            self._files.sync_file(content.path)
            try:
                self._files.link(content.path, target)
            except OSError as error:
                if not self._files.exists(content.path) or self._files.exists(target):
                    raise
                self._copy(content, target, error)
        else:
            self._copy(content, target)
        return FileBlob(target, content.size)

    def _copy(self, content: Blob, target: File, because: OSError | None = None) -> None:
        """Where the content isn't a file here, or the file system has no second names (`because`)."""
        file = self._files.create(target)
        try:
            for chunk in content.chunks():
                file.write(chunk)
            file.sync()
        except OSError as error:
            self._files.unlink(target)
            raise error from because
        finally:
            file.close()

    def _load(self, keys: Sequence[int], database: Database) -> dict[int, tuple[Deposit, Blob]]:
        loaded: dict[int, tuple[Deposit, Blob]] = {}
        for row in database.load(keys):
            key, facts, data = row
            try:
                filed = decode_deposit(facts)
                if filed.checksum is None:
                    content = self._shelves.body(filed.deposit.id, filed.size)
                else:
                    content = check_content(filed, data)
                loaded[key] = (filed.deposit, content)
            except Damaged as damage:
                set_aside(self._shelves, database, row, damage)
        return loaded
