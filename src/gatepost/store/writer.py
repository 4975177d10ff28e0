"""Group commit: one thread makes durable whatever is ready, in one transaction with one sync.

While a sync runs, more work gathers; that is the next batch, so batches grow with the load and nobody waits on
purpose. A batch that fails is tried again piece by piece, so that one bad piece takes nobody with it. After an
input/output error nothing that SQLite or the kernel has in memory can be trusted: the waiters hear of the failure, the
database is closed, opened again, everything it holds is written and synced anew, and what the waiters were told was not
done is undone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import apsw
import msgspec

from gatepost.model import Bytes
from gatepost.store.database import Database
from gatepost.store.errors import SpoolError, SpoolFailure, spool_error
from gatepost.store.queue import Done, Work

_BATCH = 256  # pieces of work
_BATCH_OCTETS = 8 * 1024 * 1024  # of content

_DISTRUSTED = (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError)


class _Write(msgspec.Struct, frozen=True):
    work: Work
    done: Done


class _Read(msgspec.Struct, frozen=True):
    ask: Callable[[Database], Any]
    answer: asyncio.Future[Any]


class _Stop:
    """The last thing the thread is told."""


_Job = _Write | _Read | _Stop


class Writer:
    """The only user of a shard's database. Invariant: a `done` without error is called after the sync of its work.

    `reopen` opens the database again after a failure, `sync_bodies` makes the names of placed files durable; both run
    in the thread.
    """

    def __init__(
        self, database: Database, reopen: Callable[[], Database], sync_bodies: Callable[[], None], name: str
    ) -> None:
        self._database: Database | None = database
        self._reopen = reopen
        self._sync_bodies = sync_bodies
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._doubtful: list[int] = []  # keys whose insertion failed, but may be on the disk nevertheless
        self._doubtful_memos: list[tuple[str, None]] = []
        self._thread = threading.Thread(target=self._run, name=f"spool {name}", daemon=True)
        self._thread.start()

    def submit(self, work: Work, done: Done) -> None:
        """Make work durable, then call `done` in the loop."""
        self._jobs.put(_Write(work, done))

    async def read(self, ask: Callable[[Database], Any]) -> Any:
        """What `ask` finds in the database, after everything submitted before; raises SpoolFailure."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put(_Read(ask, answer))
        return await answer

    def stop(self) -> None:
        """Finish what was submitted, close the database and end the thread; blocks."""
        self._jobs.put(_Stop())
        self._thread.join()

    def _run(self) -> None:
        while True:
            batch, reads, is_over = self._gather()
            if batch:
                self._write(batch)
            for read in reads:
                self._answer(read)
            if is_over:
                self._close()
                return

    def _gather(self) -> tuple[list[_Write], list[_Read], bool]:
        """Wait for a job; all that are ready with it, writes and reads, and whether the last was to stop. A read comes
        after the writes behind it too: it would cost them a sync of their own.
        """
        batch: list[_Write] = []
        reads: list[_Read] = []
        octets = 0
        job: _Job = self._jobs.get()
        while not isinstance(job, _Stop):
            if isinstance(job, _Read):
                reads.append(job)
            else:
                batch.append(job)
                for insert in job.work.inserts:
                    octets += insert.content.size if isinstance(insert.content, Bytes) else 0
            if len(batch) >= _BATCH or octets >= _BATCH_OCTETS:
                return batch, reads, False
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return batch, reads, False
        return batch, reads, True

    def _write(self, batch: list[_Write]) -> None:
        batch = self._sync_names(batch)
        if not batch:
            return
        error = self._try([job.work for job in batch])
        if error is None or self._database is None or len(batch) == 1:
            self._tell([(job.done, error) for job in batch])
            return
        for job in batch:
            self._tell([(job.done, self._try([job.work]))])

    def _sync_names(self, batch: list[_Write]) -> list[_Write]:
        """Make the names of placed files durable before the rows that name them; who has to go on without them."""
        filed = [job for job in batch if any(not isinstance(i.content, Bytes) for i in job.work.inserts)]
        if filed:
            try:
                self._sync_bodies()
            except OSError as error:  # a second sync may claim success, so these aren't tried again
                self._tell([(job.done, spool_error(error)) for job in filed])
                return [job for job in batch if job not in filed]
        return batch

    def _try(self, works: Sequence[Work]) -> SpoolError | None:
        """Make work durable in one transaction; what went wrong. Opens the database again where need be."""
        try:
            database = self._trusted()
        except (apsw.Error, OSError, SpoolError) as error:
            return SpoolFailure(f"the spool can't be opened again: {error}")
        try:
            database.write(works)
        except apsw.Error as error:
            failure = database.error_of(error)
            if isinstance(error, _DISTRUSTED):
                self._doubtful += [insert.key for work in works for insert in work.inserts]
                self._doubtful_memos += [(key, None) for work in works for key, _ in work.memos]
                self._database = None
                database.abandon()
            return failure
        except Exception as error:  # noqa: BLE001  the thread outlives what can't be encoded; only its author hears
            return SpoolFailure(f"this can't be kept: {error!r}")
        return None

    def _trusted(self) -> Database:
        """The database, opened again and cleared of what nobody was promised, if it failed before."""
        if self._database is None:
            database = self._reopen()
            try:
                database.settle_down()
                database.write([Work(removals=self._doubtful, memos=self._doubtful_memos)])
            except BaseException:
                database.abandon()
                raise
            self._doubtful, self._doubtful_memos = [], []
            self._database = database
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            with suppress(apsw.Error):  # everything promised is in the WAL, and read from it at the next opening
                self._database.close()

    def _tell(self, told: list[tuple[Done, SpoolError | None]]) -> None:
        """Resolve a batch in the loop, with one call."""
        self._in_loop(lambda: [done(error) for done, error in told])

    def _answer(self, job: _Read) -> None:
        try:
            result, error = job.ask(self._trusted()), None
        except (apsw.Error, OSError, SpoolError) as raised:
            result, error = None, SpoolFailure(f"the spool can't be read: {raised}")
        self._in_loop(lambda: _resolve(job.answer, result, error))

    def _in_loop(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the program goes down without having closed the spool
            self._loop.call_soon_threadsafe(call)


def _resolve(answer: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
