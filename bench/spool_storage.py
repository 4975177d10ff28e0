"""SQLite alone against a segment log with an index, under the spool's own group commit; for decision record 0001.

64 committers, 4 and 20 KiB of content, with and without removal after delivery. Both storages sit under the same queue
and the same writer thread, so that only what is written differs. The log is the least that can be measured: frames
appended to a segment and synced once a batch, an index in SQLite that is never synced (it can be rebuilt from the
segments) or in memory, a segment removed when nothing in it is left. It has no compaction, no recovery and no checks,
which would cost it more.

    python bench/spool_storage.py [--folder FOLDER] [--rounds 7] [--messages 6000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path as File
from struct import Struct

import apsw

from gatepost.model import Blob, Bytes, Envelope, Path, Recipient, Ticket
from gatepost.store.draft import Draft, MemoryDraft
from gatepost.store.embedded import open_shard
from gatepost.store.errors import SpoolError, SpoolFailure
from gatepost.store.files import RealFiles
from gatepost.store.queue import Done, QueueSpool, Work
from gatepost.store.rows import check_content, decode_deposit, encode_deposit
from gatepost.store.spool import Deposit, Fate, RecipientOutcome, Spool
from gatepost.store.writer import Writer

COMMITTERS = 64
SEGMENT = 64 * 1024 * 1024
FRAME = Struct("<QII")  # key, octets of facts, octets of content; both 0: the entry is gone


class SegmentLog:
    """What Writer asks of a database, over segments."""

    def __init__(self, folder: File, *, index: bool) -> None:
        self.folder = folder
        self.places: dict[int, tuple[int, int, int, int]] = {}  # key: segment, offset, octets of facts and content
        self.live: dict[int, int] = {}
        self.number = -1
        self.begin_segment()
        self.index: apsw.Connection | None = None
        if index:
            self.index = apsw.Connection(str(folder / "index.db"))
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=OFF"):
                self.index.execute(f"PRAGMA {pragma}").fetchall()
            self.index.execute(
                "CREATE TABLE place(key INTEGER PRIMARY KEY, segment INT, at INT, facts INT, content INT)"
            )

    def begin_segment(self) -> None:
        if self.number >= 0:
            os.close(self.file)
        self.number += 1
        self.size = 0
        self.live[self.number] = 0
        self.file = os.open(self.folder / f"{self.number}.log", os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def write(self, works: Sequence[Work]) -> None:
        pieces: list[bytes] = []
        added: list[int] = []
        removed: list[int] = []
        for work in works:
            for insert in work.inserts:
                facts, content = encode_deposit(insert.deposit, insert.content)
                content = content or b""
                pieces += (FRAME.pack(insert.key, len(facts), len(content)), facts, content)
                self.places[insert.key] = (self.number, self.size + FRAME.size, len(facts), len(content))
                self.size += FRAME.size + len(facts) + len(content)
                self.live[self.number] += 1
                added.append(insert.key)
            for key in work.removals:
                pieces.append(FRAME.pack(key, 0, 0))
                self.size += FRAME.size
                removed.append(key)
        for at in range(0, len(pieces), 1000):
            os.writev(self.file, pieces[at : at + 1000])
        os.fdatasync(self.file)
        if self.index is not None:
            self.write_index(self.index, added, removed)
        for key in removed:
            segment = self.places.pop(key)[0]
            self.live[segment] -= 1
            if not self.live[segment] and segment != self.number:
                os.unlink(self.folder / f"{segment}.log")
        if self.size > SEGMENT:
            self.begin_segment()

    def write_index(self, index: apsw.Connection, added: list[int], removed: list[int]) -> None:
        both = bool(added) and bool(removed)
        if both:
            index.execute("BEGIN")
        if added:
            values = [value for key in added for value in (key, *self.places[key])]
            index.execute(f"INSERT INTO place VALUES {','.join(['(?,?,?,?,?)'] * len(added))}", values)
        if removed:
            index.execute(f"DELETE FROM place WHERE key IN ({','.join('?' * len(removed))})", removed)
        if both:
            index.execute("COMMIT")

    def load(self, keys: Sequence[int]) -> dict[int, tuple[Deposit, Blob]]:
        loaded: dict[int, tuple[Deposit, Blob]] = {}
        for key in keys:
            segment, at, facts, content = self.places[key]
            file = os.open(self.folder / f"{segment}.log", os.O_RDONLY)
            data = os.pread(file, facts + content, at)
            os.close(file)
            filed = decode_deposit(data[:facts])
            loaded[key] = (filed.deposit, check_content(filed, data[facts:]))
        return loaded

    def close(self) -> None:
        os.close(self.file)
        if self.index is not None:
            self.index.close()

    abandon = close

    def error_of(self, error: apsw.Error) -> SpoolError:
        return SpoolFailure(str(error))


class LogStorage:
    """queue's Storage over a segment log."""

    def __init__(self, log: SegmentLog) -> None:
        self.writer = Writer(log, reopen=lambda: log, sync_bodies=lambda: None, name="log")  # type: ignore[arg-type, return-value]
        self.pool = ThreadPoolExecutor(1)

    def draft(self, ticket: Ticket) -> Draft:
        return MemoryDraft(ticket)

    async def place(self, id: str, content: Blob) -> Blob:
        return Bytes(content.read())

    def displace(self, id: str) -> None:
        """Everything is in the log."""

    def submit(self, work: Work, done: Done) -> None:
        self.writer.submit(work, done)

    async def load(self, keys: Sequence[int]) -> dict[int, tuple[Deposit, Blob]]:
        return await self.writer.read(lambda log: log.load(keys))

    async def records(self, limit: int) -> list[tuple[object, ...]]:
        return []

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self.pool, self.writer.stop)
        self.pool.shutdown()


async def sqlite(folder: File) -> Spool:
    return await open_shard(folder, RealFiles(), time.time)


async def log(folder: File, *, index: bool) -> Spool:
    return QueueSpool(LogStorage(SegmentLog(folder, index=index)), time.time)


MAKERS = {
    "SQLite": sqlite,
    "log + SQLite index": partial(log, index=True),
    "log, index in memory": partial(log, index=False),
}


async def run(spool: Spool, size: int, messages: int, *, removing: bool) -> tuple[float, float]:
    """(commits per second, CPU microseconds per commit)."""
    envelope = Envelope(Path.parse("eve@example.net"), (Recipient(Path.parse("ann@example.org")),))
    content = b"x" * size
    numbers = iter(range(1, messages + 1))
    due = asyncio.Event()
    spool.on_commit = due.set

    async def commit() -> None:
        for number in numbers:
            ticket = Ticket("06HK3M-9Q7TZA", number)
            draft = spool.draft(ticket)
            draft.write(content)
            await spool.commit([Deposit(ticket, envelope, draft, 1.0)])
            draft.discard()

    async def deliver() -> None:
        done = 0
        while done < messages:
            await due.wait()
            due.clear()
            while entries := await spool.due(2.0, 64):
                fates = [RecipientOutcome(envelope.recipients[0], Fate.DONE)]
                await asyncio.gather(*(spool.settle(e.id, fates, next_attempt=None) for e in entries))
                done += len(entries)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(commit() for _ in range(COMMITTERS)), *([deliver()] if removing else []))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await spool.close()
    return messages / seconds, cpu / messages * 1e6


def sync_cost(folder: File) -> float:
    """Microseconds for appending 4 KiB and syncing, alone."""
    file = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT)
    began = time.perf_counter()
    for _ in range(200):
        os.write(file, b"x" * 4096)
        os.fdatasync(file)
    os.close(file)
    return (time.perf_counter() - began) / 200 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="on the disk to be measured (default: the working directory)", default=".")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--messages", type=int, default=6000)
    given = parser.parse_args()
    root = File(tempfile.mkdtemp(prefix="bench-spool-", dir=given.folder))
    try:
        print(f"{os.cpu_count()} cores, SQLite {apsw.sqlite_lib_version()}, one sync alone {sync_cost(root):.0f} µs")
        print(f"{COMMITTERS} committers, {given.messages} messages, median of {given.rounds} interleaved rounds\n")
        print(f"{'':<22}{'':>8}{'':>10}{'commits/s':>12}{'CPU µs/commit':>16}")
        for size in (4096, 20480):
            for removing in (False, True):
                measure(root, size, given.messages, given.rounds, removing=removing)
    finally:
        shutil.rmtree(root)


def measure(root: File, size: int, messages: int, rounds: int, *, removing: bool) -> None:
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in MAKERS}
    for _ in range(rounds):
        for name, make in MAKERS.items():
            folder = root / "spool"
            folder.mkdir()

            async def once(make=make, folder=folder) -> tuple[float, float]:
                return await run(await make(folder), size, messages, removing=removing)

            results[name].append(asyncio.run(once()))
            shutil.rmtree(folder)
    for name, figures in results.items():
        rate, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        what = "removed" if removing else "kept"
        print(f"{name:<22}{size // 1024:>4} KiB{what:>10}{rate:>12,.0f}{cpu:>16.1f}", flush=True)


if __name__ == "__main__":
    main()
