"""The ledger: facts and counters that expire, shared by all workers.

One SQLite database serves every worker. A thread takes everything that is asked at a moment into one transaction, so a
burst costs one lock. Facts can be lost with the power (nothing is promised on them) but never with a process. Counters
keep two numbers, for this window and the one before, and weigh the older by what of it is still inside.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path as File
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import apsw
import msgspec

from gatepost.store.files import FileSystem
from gatepost.store.shared import open_shared

_CACHED = 4096  # facts read or written lately
_CACHED_S = 2.0  # how long another worker's change may go unnoticed by `get`
_SWEEP_S = 30.0
_SWEPT = 1000  # expired facts removed at a time
_BATCH = 512
_SCHEMA = """
CREATE TABLE IF NOT EXISTS fact(
    space TEXT, key TEXT, value BLOB NOT NULL, expires REAL NOT NULL, PRIMARY KEY (space, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fact_expires ON fact(expires);
"""
_GET = "SELECT value, expires FROM fact WHERE space = ? AND key = ? AND expires > ?"
_PUT = "INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?)"
_TAKE = "DELETE FROM fact WHERE space = ? AND key = ? AND expires > ? RETURNING value, expires"
_SWEEP = "DELETE FROM fact WHERE (space, key) IN (SELECT space, key FROM fact WHERE expires <= ? LIMIT ?)"
_COUNTERS = "#"  # counters live beside facts, in spaces of their own


class LedgerError(Exception):
    """The ledger can't be read or written now."""


class Ledger(Protocol):
    """Facts by space and key. Values are what MessagePack carries: None, numbers, texts, bytes, lists, dicts."""

    async def put(self, space: str, key: str, value: Any, ttl_s: float) -> None:
        """Remember a value for `ttl_s` seconds, in place of an older one. Raises LedgerError."""

    async def get(self, space: str, key: str) -> Any:
        """The value, or None; another worker's change may show up to two seconds late. Raises LedgerError."""

    async def take_once(self, space: str, key: str) -> Any:
        """The value, given out once among all workers; None afterwards. Raises LedgerError."""

    async def count(self, space: str, key: str, window_s: float) -> int:
        """Count one more and say how many that makes in the last `window_s` seconds. Raises LedgerError."""

    async def close(self) -> None:
        """Finish what was asked. A second call does nothing."""


class Tally(msgspec.Struct, array_like=True, frozen=True):
    """A counter: how many in the window that began at `since`, and in the one before it."""

    since: float
    before: int
    current: int

    def counted(self, now: float, window_s: float) -> Tally:
        """One more."""
        age = now - self.since
        if age >= 2 * window_s or age < 0:
            return Tally(now, 0, 1)
        if age >= window_s:
            return Tally(self.since + window_s, self.current, 1)
        return Tally(self.since, self.before, self.current + 1)

    def within(self, now: float, window_s: float) -> int:
        """How many in the last `window_s` seconds, the window before taken as evenly spread."""
        share = 1 - (now - self.since) / window_s
        return self.current + int(self.before * max(0.0, share))


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_decode_tally = msgspec.msgpack.Decoder(Tally).decode


class MemoryLedger:
    """The ledger of a server without `data`: one process, nothing kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._facts: dict[tuple[str, str], tuple[bytes, float]] = {}
        self._swept_at = clock()

    async def put(self, space: str, key: str, value: Any, ttl_s: float) -> None:
        self._keep(space, key, _encode(value), ttl_s)

    async def get(self, space: str, key: str) -> Any:
        value = self._find(space, key)
        return None if value is None else _decode(value)

    async def take_once(self, space: str, key: str) -> Any:
        value = self._find(space, key)
        self._facts.pop((space, key), None)
        return None if value is None else _decode(value)

    async def count(self, space: str, key: str, window_s: float) -> int:
        now = self._clock()
        old = self._find(_COUNTERS + space, key)
        tally = (Tally(now, 0, 0) if old is None else _decode_tally(old)).counted(now, window_s)
        self._keep(_COUNTERS + space, key, _encode(tally), 2 * window_s)
        return tally.within(now, window_s)

    async def close(self) -> None:
        self._facts.clear()

    def _find(self, space: str, key: str) -> bytes | None:
        value, expires = self._facts.get((space, key), (None, 0.0))
        return value if expires > self._clock() else None

    def _keep(self, space: str, key: str, value: bytes, ttl_s: float) -> None:
        now = self._clock()
        self._facts[space, key] = (value, now + ttl_s)
        if now - self._swept_at >= _SWEEP_S:
            self._swept_at = now
            self._facts = {place: fact for place, fact in self._facts.items() if fact[1] > now}


@dataclass(frozen=True, slots=True)
class _Job:
    """One question, asked in the thread inside a transaction."""

    ask: Callable[[apsw.Connection], Any]
    answer: asyncio.Future[Any]


async def open_ledger(path: File, files: FileSystem, clock: Callable[[], float]) -> Ledger:
    """The ledger all workers share; `clock` gives Unix time in seconds. Raises LedgerError, OSError.

    A database that can't be read is put aside and begun anew: nothing in it was promised to anybody.
    """
    try:
        connection = open_shared(path, ("synchronous=NORMAL",), _SCHEMA)
    except (apsw.CorruptError, apsw.NotADBError):
        files.rename(path, path.with_suffix(f".damaged-{clock():.0f}"))
        connection = open_shared(path, ("synchronous=NORMAL",), _SCHEMA)
    return SharedLedger(connection, clock)


class SharedLedger:
    """The ledger in a database. Invariant: only the thread uses the connection; an answer is given after its commit."""

    def __init__(self, connection: apsw.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._cache: dict[tuple[str, str], tuple[bytes, float]] = {}
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._swept_at = clock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    async def put(self, space: str, key: str, value: Any, ttl_s: float) -> None:
        now, data = self._clock(), _encode(value)
        await self._ask(lambda connection: connection.execute(_PUT, (space, key, data, now + ttl_s)))
        self._remember(space, key, data, min(now + ttl_s, now + _CACHED_S))

    async def get(self, space: str, key: str) -> Any:
        now = self._clock()
        data, until = self._cache.get((space, key), (b"", 0.0))
        if until <= now:
            found = await self._ask(lambda connection: connection.execute(_GET, (space, key, now)).fetchall())
            if not found:
                self._cache.pop((space, key), None)
                return None
            [(data, expires)] = found
            self._remember(space, key, data, min(expires, now + _CACHED_S))
        return _decode(data)

    async def take_once(self, space: str, key: str) -> Any:
        now = self._clock()
        self._cache.pop((space, key), None)
        taken = await self._ask(lambda connection: connection.execute(_TAKE, (space, key, now)).fetchall())
        self._cache.pop((space, key), None)
        return _decode(taken[0][0]) if taken else None

    async def count(self, space: str, key: str, window_s: float) -> int:
        now = self._clock()
        place = (_COUNTERS + space, key)

        def one_more(connection: apsw.Connection) -> int:
            found: Any = connection.execute(_GET, (*place, now)).fetchall()
            tally = (_decode_tally(found[0][0]) if found else Tally(now, 0, 0)).counted(now, window_s)
            connection.execute(_PUT, (*place, _encode(tally), now + 2 * window_s))
            return tally.within(now, window_s)

        counted: int = await self._ask(one_more)
        return counted

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    def _remember(self, space: str, key: str, data: bytes, until: float) -> None:
        if len(self._cache) >= _CACHED:
            self._cache.pop(next(iter(self._cache)))
        self._cache[space, key] = (data, until)

    async def _ask(self, ask: Callable[[apsw.Connection], Any]) -> Any:
        if self._is_closed:
            raise LedgerError("the ledger is closed")
        job = _Job(ask, self._loop.create_future())
        self._jobs.put(job)
        return await job.answer

    def _run(self) -> None:
        while job := self._jobs.get():
            batch = [job]
            with suppress(Empty):
                while len(batch) < _BATCH and (job := self._jobs.get_nowait()):
                    batch.append(job)
            self._tell(self._answers(batch))
            if job is None:
                break
        self._connection.close()

    def _answers(self, batch: list[_Job]) -> list[tuple[_Job, Any, Exception | None]]:
        """Ask everything in one transaction; if that fails, each by itself."""
        try:
            return [(job, result, None) for job, result in zip(batch, self._transact(batch), strict=True)]
        except Exception as error:  # noqa: BLE001  the thread outlives whatever one question does
            if len(batch) == 1:
                return [(batch[0], None, LedgerError(f"the ledger failed: {error!r}"))]
        return [answer for job in batch for answer in self._answers([job])]

    def _transact(self, batch: list[_Job]) -> list[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            results = [job.ask(self._connection) for job in batch]
            now = self._clock()
            if now - self._swept_at >= _SWEEP_S:
                self._connection.execute(_SWEEP, (now, _SWEPT))
                self._swept_at = now if self._connection.changes() < _SWEPT else self._swept_at
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return results

    def _tell(self, answers: Iterable[tuple[_Job, Any, Exception | None]]) -> None:
        def resolve() -> None:
            for job, result, error in answers:
                if job.answer.done():
                    continue
                if error is None:
                    job.answer.set_result(result)
                else:
                    job.answer.set_exception(error)

        with suppress(RuntimeError):  # the loop is closed: the program goes down without having closed the ledger
            self._loop.call_soon_threadsafe(resolve)
