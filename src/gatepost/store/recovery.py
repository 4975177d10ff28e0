"""What a shard's owner finds when it opens: the state on disk, made whole.

    on disk                              what is done
    file in incoming/                    removed: its sender never heard a 250
    file in bodies/ without a row        removed; set aside if the database was damaged, for its row may be lost
    row without its file, or a short one set aside
    row that can't be decoded            set aside
    database that can't be read          moved to damaged/; every row that can be read is saved from it

Nothing here is fatal except a disk that refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path as File

import apsw

from gatepost.model import Blob
from gatepost.store.blobs import FileBlob
from gatepost.store.database import Database, Row
from gatepost.store.files import FileSystem
from gatepost.store.queue import Found, Work
from gatepost.store.rows import Damaged, Progress, brief_of, decode_deposit, decode_progress, whose

_UNREADABLE = (apsw.CorruptError, apsw.NotADBError)
_DATABASE = "spool.db"
_FORWARDS = "SELECT key, facts, content FROM entry ORDER BY key"
_BACKWARDS = f"{_FORWARDS} DESC"
_MEMOS = "SELECT key, value FROM memo"


@dataclass(frozen=True, slots=True)
class Shelves:
    """The places of one shard, and how to reach them."""

    folder: File
    files: FileSystem
    on_damage: Callable[[str], None]
    vfs: str | None = None

    @property
    def bodies(self) -> File:
        return self.folder / "bodies"

    @property
    def incoming(self) -> File:
        return self.folder / "incoming"

    @property
    def damaged(self) -> File:
        return self.folder / "damaged"

    def make(self) -> None:
        """The folders a running shard needs."""
        self.files.make_dir(self.bodies)
        self.files.make_dir(self.incoming)

    def owns(self, path: File) -> bool:
        """Whether a file is one of this shard's own, which nobody changes."""
        return path.parent in (self.incoming, self.bodies)

    def database(self) -> Database:
        """Open or make the database, its name durable; raises apsw.Error, OSError."""
        database = Database(self.folder / _DATABASE, vfs=self.vfs)
        try:
            self.files.sync_dir(self.folder)
        except BaseException:
            database.abandon()
            raise
        return database

    def body(self, id: str, size: int) -> Blob:
        """The content an entry has in a file; raises Damaged if there is no such file or it hasn't that size."""
        path = self.bodies / id
        try:
            found = self.files.size(path)
        except OSError as error:
            raise Damaged(f"the content's file can't be read: {error}") from error
        if found != size:
            raise Damaged(f"the content's file has {found} octets instead of {size}")
        return FileBlob(path, size)


def recover(shelves: Shelves, clock: Callable[[], float]) -> tuple[Database, list[Found]]:
    """The open database and what it holds, after everything half done was cleared away."""
    for name in shelves.files.list_dir(shelves.incoming):
        shelves.files.unlink(shelves.incoming / name)
    is_whole = True
    try:
        database = shelves.database()
        try:
            found = _take_up_all(shelves, database)
        except BaseException:
            database.abandon()
            raise
    except _UNREADABLE as error:
        is_whole = False
        database = _salvage(shelves, f"{clock():.0f}", error)
        found = _take_up_all(shelves, database)
    try:
        _clear_bodies(shelves, {entry.id for entry in found if entry.filed}, is_whole=is_whole)
    except BaseException:
        database.abandon()
        raise
    return database, found


def set_aside(shelves: Shelves, database: Database, row: Row, damage: Damaged) -> None:
    """Move what can't be read to damaged/, so that it is neither lost nor in the way."""
    key, facts, content = row
    name = f"entry-{key}"
    with suppress(Damaged):
        name = decode_deposit(facts).deposit.id
    shelves.files.make_dir(shelves.damaged)
    _keep(shelves, f"{name}.facts", facts)
    if content is not None:
        _keep(shelves, f"{name}.content", content)
    if shelves.files.exists(body := shelves.bodies / name):
        shelves.files.rename(body, shelves.damaged / f"{name}.content")
    shelves.files.sync_dir(shelves.damaged)
    database.write([Work(removals=(key,))])
    shelves.on_damage(f"{name} was set aside in {shelves.damaged}: {damage}")


def _take_up_all(shelves: Shelves, database: Database) -> list[Found]:
    """Everything that is whole. What isn't is set aside when all was read: a change would end the reading."""
    found: list[Found] = []
    damaged: list[tuple[int, Damaged]] = []
    for row in database.scan():
        try:
            found.append(_take_up(shelves, row))
        except Damaged as damage:
            damaged.append((row[0], damage))
    for key, why in damaged:
        for whole in database.load([key]):
            set_aside(shelves, database, whole, why)
    return found


def _take_up(shelves: Shelves, row: tuple[int, bytes, bytes | None]) -> Found:
    key, facts, kept_progress = row
    brief = brief_of(facts)
    whose_it_is = brief.whose
    if kept_progress is None:
        progress = Progress.begun(brief.received_at, brief.held)
    else:
        progress = decode_progress(kept_progress)
        if brief.whose.is_mixed and progress.finished:
            deposit = decode_deposit(facts).deposit
            waiting = [one for one in deposit.envelope.recipients if one.address not in progress.finished]
            whose_it_is = whose(deposit, waiting)
    if brief.is_filed:
        shelves.body(brief.id, brief.size)
    return Found(key, brief.id, progress, brief.is_filed, whose_it_is)


def _clear_bodies(shelves: Shelves, expected: set[str], *, is_whole: bool) -> None:
    for name in shelves.files.list_dir(shelves.bodies):
        if name in expected:
            continue
        if is_whole:
            shelves.files.unlink(shelves.bodies / name)
        else:
            shelves.files.make_dir(shelves.damaged)
            shelves.files.rename(shelves.bodies / name, shelves.damaged / f"{name}.content")
            shelves.on_damage(f"{name} has lost its row; its content was set aside in {shelves.damaged}")


def _salvage(shelves: Shelves, when: str, error: apsw.Error) -> Database:
    """Set a damaged database aside and save its readable rows into a new one."""
    aside = shelves.damaged / when
    shelves.files.make_dir(aside)
    for name in (_DATABASE, f"{_DATABASE}-wal"):
        if shelves.files.exists(shelves.folder / name):
            shelves.files.rename(shelves.folder / name, aside / name)
    shelves.files.sync_dir(aside)
    database = shelves.database()
    saved = 0
    for row in _readable(aside / _DATABASE, shelves.vfs):
        database.insert(row)
        saved += 1
    for memo in _readable_memos(aside / _DATABASE, shelves.vfs):
        database.write([Work(memos=(memo,))])
    shelves.on_damage(f"the spool was damaged ({error}) and set aside in {aside}; {saved} entries were saved from it")
    return database


def _readable(path: File, vfs: str | None) -> Iterator[Row]:
    """What can still be read: from the beginning up to the damage, and from the end down to it."""
    for statement in _FORWARDS, _BACKWARDS:
        for key, facts, content in _rows_until_damage(path, vfs, statement):
            if isinstance(key, int) and isinstance(facts, bytes):
                yield key, facts, content if isinstance(content, bytes) else None


def _readable_memos(path: File, vfs: str | None) -> Iterator[tuple[str, bytes]]:
    for key, value in _rows_until_damage(path, vfs, _MEMOS):
        if isinstance(key, str) and isinstance(value, bytes):
            yield key, value


def _rows_until_damage(path: File, vfs: str | None, statement: str) -> Iterator[tuple[apsw.SQLiteValue, ...]]:
    with suppress(apsw.Error):
        connection = apsw.Connection(str(path), vfs=vfs)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            yield from connection.execute(statement)
        finally:
            connection.close(True)


def _keep(shelves: Shelves, name: str, data: bytes) -> None:
    shelves.files.unlink(shelves.damaged / name)
    file = shelves.files.create(shelves.damaged / name)
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
