"""A shard's tables in SQLite, and the statements that change them: as few as the work allows.

One process owns the file and one thread uses it, so locking is exclusive and the WAL needs no shared memory. Each
statement takes all rows of a batch, because every step of SQLite gives up the interpreter's lock and must win it back
from a busy loop. A batch that needs one statement needs no BEGIN and COMMIT either.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path as File

import apsw
import msgspec

from gatepost.store.errors import SpoolError, SpoolFailure, SpoolFull
from gatepost.store.queue import Work
from gatepost.store.rows import encode_deposit, encode_progress

_SCHEMA_VERSION = 2
_SCHEMA = f"""
BEGIN;
CREATE TABLE entry(key INTEGER PRIMARY KEY, facts BLOB NOT NULL, content BLOB);
CREATE TABLE progress(key INTEGER PRIMARY KEY, facts BLOB NOT NULL);
CREATE TABLE record(key INTEGER PRIMARY KEY, facts BLOB NOT NULL);
CREATE TABLE memo(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version={_SCHEMA_VERSION};
COMMIT;
"""
_PAGE = 16 * 1024  # octets; fewer overflow pages than the default, see docs/decisions/0001-spool-storage.md
_WAL_PAGES = 1000  # 16 MiB: mail that leaves soon is then hardly ever copied into the database
_BUSY_MS = 5000
_RECORDS_KEPT = 10_000
_ROWS = 200  # a statement; SQLite binds 32,766 values at most

Row = tuple[int, bytes, bytes | None]


class Database:
    """An open connection. Invariant: outside `write` there is no transaction, so what it returned from is durable."""

    def __init__(self, path: File, *, vfs: str | None = None) -> None:
        """Open or make it; raises apsw.Error."""
        self._connection = apsw.Connection(str(path), vfs=vfs)
        try:
            self._connection.set_busy_timeout(_BUSY_MS)
            for pragma in (
                "locking_mode=EXCLUSIVE",
                f"page_size={_PAGE}",
                "journal_mode=WAL",
                "synchronous=FULL",
                f"wal_autocheckpoint={_WAL_PAGES}",
            ):
                self._rows(f"PRAGMA {pragma}")
            [(version,)] = self._rows("PRAGMA user_version")
            if version == 0:
                self._connection.execute(_SCHEMA)
            elif version != _SCHEMA_VERSION:
                raise apsw.CantOpenError(f"it has schema {version}, and this program knows {_SCHEMA_VERSION}")
        except BaseException:
            self.abandon()
            raise

    def write(self, works: Sequence[Work]) -> None:
        """Make all work durable in one transaction, or raise apsw.Error and change nothing."""
        statements = [*_statements(works)]
        if len(statements) > 1:
            statements = [("BEGIN", ()), *statements, ("COMMIT", ())]
        try:
            for sql, values in statements:
                self._connection.execute(sql, values)
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def insert(self, row: Row) -> None:
        """One row as it is, durably: what was saved from a damaged database."""
        self._connection.execute("INSERT OR REPLACE INTO entry VALUES (?,?,?)", row)

    def load(self, keys: Sequence[int]) -> list[Row]:
        """The rows of entries; those that don't exist are missing."""
        rows: list[Row] = []
        for some in _some([*keys]):
            rows += self._connection.execute(
                _with_marks("SELECT key, facts, content FROM entry WHERE key IN", len(some)), some
            )
        return rows

    def look(self, keys: Sequence[int]) -> list[tuple[int, bytes]]:
        """(key, facts) of entries, without content; those that don't exist are missing."""
        rows: list[tuple[int, bytes]] = []
        for some in _some([*keys]):
            rows += self._connection.execute(_with_marks("SELECT key, facts FROM entry WHERE key IN", len(some)), some)
        return rows

    def scan(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """(key, facts, progress) of every entry, in order of reception, without content."""
        yield from self._connection.execute(
            "SELECT entry.key, entry.facts, progress.facts FROM entry LEFT JOIN progress USING (key) ORDER BY key"
        )

    def records(self, limit: int) -> list[tuple[object, ...]]:
        """The newest records, oldest first."""
        rows = self._rows("SELECT facts FROM record ORDER BY key DESC LIMIT ?", (limit,))
        return [tuple(msgspec.msgpack.decode(facts)) for (facts,) in reversed(rows)]

    def memos(self, prefix: str) -> list[tuple[str, bytes]]:
        """The memos whose keys begin so, in order."""
        rows = self._connection.execute(
            "SELECT key, value FROM memo WHERE key >= ? AND substr(key, 1, ?) = ? ORDER BY key",
            (prefix, len(prefix), prefix),
        )
        return [*rows]

    def settle_down(self) -> None:
        """Move everything from the WAL into the database and sync both."""
        self._rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        self._connection.close()

    def abandon(self) -> None:
        """Close without touching the files again: after a failed sync nothing in memory can be trusted."""
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close(True)

    def error_of(self, error: apsw.Error) -> SpoolError:
        """The spool's word for an error of SQLite."""
        is_full = isinstance(error, apsw.FullError) or (
            isinstance(error, apsw.IOError) and self._connection.system_errno in (errno.ENOSPC, errno.EDQUOT)
        )
        return (SpoolFull if is_full else SpoolFailure)(f"{type(error).__name__}: {error}")

    def _rows(self, sql: str, values: Sequence[apsw.SQLiteValue] = ()) -> list[tuple[apsw.SQLiteValue, ...]]:
        return list(self._connection.execute(sql, values))


def _statements(works: Sequence[Work]) -> Iterator[tuple[str, Sequence[apsw.SQLiteValue]]]:
    """What a batch of work comes to: at most one kind of statement for each kind of change, split where too long."""
    entries: list[apsw.SQLiteValue] = []
    changes: list[apsw.SQLiteValue] = []
    removals: list[apsw.SQLiteValue] = []
    records: list[apsw.SQLiteValue] = []
    memos: dict[str, bytes | None] = {}
    for work in works:
        for insert in work.inserts:
            entries += (insert.key, *encode_deposit(insert.deposit, insert.content))
        for key, progress in work.changes:
            changes += (key, encode_progress(progress))
        removals += work.removals
        for record in work.records:
            records += (msgspec.msgpack.encode(record),)
        memos.update(work.memos)
    for values in _some(entries, 3):
        yield _insert("INSERT INTO entry", len(values) // 3, 3), values
    for values in _some(changes, 2):
        yield _insert("INSERT OR REPLACE INTO progress", len(values) // 2, 2), values
    for values in _some(removals):
        yield _with_marks("DELETE FROM entry WHERE key IN", len(values)), values
        yield _with_marks("DELETE FROM progress WHERE key IN", len(values)), values
    for values in _some(records):
        yield _insert("INSERT INTO record(facts)", len(values), 1), values
    if records:
        yield "DELETE FROM record WHERE key <= (SELECT max(key) FROM record) - ?", (_RECORDS_KEPT,)
    if memos:
        yield from _memo_statements(memos)


def _memo_statements(memos: Mapping[str, bytes | None]) -> Iterator[tuple[str, Sequence[apsw.SQLiteValue]]]:
    kept: list[apsw.SQLiteValue] = [each for memo in memos.items() if memo[1] is not None for each in memo]
    gone: list[apsw.SQLiteValue] = [key for key, value in memos.items() if value is None]
    for values in _some(kept, 2):
        yield _insert("INSERT OR REPLACE INTO memo", len(values) // 2, 2), values
    for values in _some(gone):
        yield _with_marks("DELETE FROM memo WHERE key IN", len(values)), values


def _some(values: list[apsw.SQLiteValue], width: int = 1) -> Iterator[list[apsw.SQLiteValue]]:
    """Values in portions of whole rows that fit one statement; nothing for nothing."""
    return (values[at : at + _ROWS * width] for at in range(0, len(values), _ROWS * width))


@cache
def _insert(into: str, rows: int, columns: int) -> str:
    return f"{into} VALUES {','.join([_marks(columns)] * rows)}"


@cache
def _with_marks(statement: str, count: int) -> str:
    return f"{statement} {_marks(count)}"


def _marks(count: int) -> str:
    return f"({','.join('?' * count)})"
