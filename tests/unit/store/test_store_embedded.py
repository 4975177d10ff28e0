"""A shard on disk: who owns it, what comes back after closing, and what is damaged."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as File

import apsw
import pytest

from gatepost.model import Bytes, Envelope, Path, Recipient, Ticket
from gatepost.store.embedded import find_shards, open_shard
from gatepost.store.errors import ShardBusy, SpoolFailure, UnknownEntry
from gatepost.store.files import RealFiles
from gatepost.store.spool import Deposit, Fate, RecipientOutcome, Spool

NOW = 1_790_000_000.0
ANN, BOB = (Recipient(Path.parse(f"{name}@example.org")) for name in ("ann", "bob"))
LARGE = b"0123456789abcdef" * 8000


def deposit(number: int, content: bytes = b"hello\r\n", **more) -> Deposit:
    return Deposit(
        Ticket("06HK3M-9Q7TZA", number),
        Envelope(Path.parse("eve@example.net"), (ANN, BOB)),
        Bytes(content),
        NOW,
        **more,
    )


@asynccontextmanager
async def shard(folder: File, damages: list[str] | None = None) -> AsyncIterator[Spool]:
    spool = await open_shard(folder, RealFiles(), lambda: NOW, on_damage=None if damages is None else damages.append)
    try:
        yield spool
    finally:
        await spool.close()


def change(folder: File, sql: str, *values: object) -> None:
    connection = apsw.Connection(str(folder / "spool.db"))
    connection.execute(sql, values)
    connection.close()


async def test_one_owner_at_a_time(tmp_path):
    async with shard(tmp_path):
        with pytest.raises(ShardBusy):
            await open_shard(tmp_path, RealFiles(), lambda: NOW)
    async with shard(tmp_path):
        pass


async def test_every_shard_on_disk_is_found(tmp_path):
    for name in ("1", "0", "left-over"):
        async with shard(tmp_path / name):
            pass
    (tmp_path / "not a shard").mkdir()
    assert find_shards(tmp_path, RealFiles()) == [tmp_path / "0", tmp_path / "1", tmp_path / "left-over"]
    assert find_shards(tmp_path / "nowhere", RealFiles()) == []


async def test_progress_outlives_the_process(tmp_path):
    async with shard(tmp_path) as spool:
        await spool.commit([deposit(1), deposit(2, LARGE), deposit(3, held="spam")], records=[("discarded", "x")])
        first, _ = await spool.due(NOW, 9)
        await spool.settle(
            first.id,
            [RecipientOutcome(ANN, Fate.DONE), RecipientOutcome(BOB, Fate.LATER, "451 busy")],
            next_attempt=NOW + 60,
        )
    async with shard(tmp_path) as spool:
        first, second, third = await spool.entries()
        assert (first.envelope.recipients, first.attempts, first.next_attempt) == ((BOB,), 1, NOW + 60)
        assert dict(first.said) == {BOB.address: "451 busy"}
        assert (second.content.read(), second.attempts, third.held) == (LARGE, 0, "spam")
        assert await spool.records() == [("discarded", "x")]
        [leased] = await spool.due(NOW, 9)
        assert (leased.id, leased.fresh) == (second.id, False)
        await spool.commit([deposit(4)])
        assert [e.ticket.number for e in await spool.entries()] == [1, 2, 3, 4]


async def test_a_released_schedule_starts_anew_after_a_restart_too(tmp_path):
    async with shard(tmp_path) as spool:
        await spool.commit([deposit(1, held="spam")])
        await spool.release(deposit(1).id)
    async with shard(tmp_path) as spool:
        assert [e.held for e in await spool.due(NOW, 9)] == [None]


async def test_only_content_too_large_for_a_row_has_a_file_and_it_goes_with_its_entry(tmp_path):
    async with shard(tmp_path) as spool:
        await spool.commit([deposit(1, b"x" * 65536), deposit(2, b"x" * 65537)])
        assert os.listdir(tmp_path / "bodies") == [deposit(2).id]
        await spool.delete(deposit(2).id)
        await spool.delete(deposit(1).id)
    assert os.listdir(tmp_path / "bodies") == []


async def test_leftovers_belong_to_nobody(tmp_path):
    async with shard(tmp_path):
        pass
    (tmp_path / "incoming" / "06HK3M-9Q7TZA-1").write_bytes(b"half a mess")
    (tmp_path / "bodies" / "06HK3M-9Q7TZA-2").write_bytes(b"no row")
    async with shard(tmp_path) as spool:
        assert await spool.entries() == []
    assert (os.listdir(tmp_path / "incoming"), os.listdir(tmp_path / "bodies")) == ([], [])


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entry SET facts = x'00ff' WHERE key = 1",
        "UPDATE entry SET facts = zeroblob(length(facts)) WHERE key = 1",
        "INSERT INTO progress VALUES (1, x'c0')",
    ],
)
async def test_an_entry_that_cant_be_read_at_opening_is_set_aside(tmp_path, damage):
    async with shard(tmp_path) as spool:
        await spool.commit([deposit(1), deposit(2)])
    change(tmp_path, damage)
    damages: list[str] = []
    async with shard(tmp_path, damages) as spool:
        assert [e.ticket.number for e in await spool.entries()] == [2]
    assert len(damages) == 1
    assert len(os.listdir(tmp_path / "damaged")) == 2
    async with shard(tmp_path, damages) as spool:
        assert len(damages) == 1


async def test_content_that_isnt_what_was_written_is_set_aside_when_it_is_read(tmp_path):
    async with shard(tmp_path) as spool:
        await spool.commit([deposit(1), deposit(2)])
    change(tmp_path, "UPDATE entry SET content = CAST('hellO' || x'0d0a' AS BLOB) WHERE key = 1")
    damages: list[str] = []
    async with shard(tmp_path, damages) as spool:
        assert [e.ticket.number for e in await spool.due(NOW, 9)] == [2]
        with pytest.raises(UnknownEntry):
            await spool.show(deposit(1).id)
        assert spool.counts().queued == 1
    assert sorted(os.listdir(tmp_path / "damaged")) == [f"{deposit(1).id}.content", f"{deposit(1).id}.facts"]
    assert (tmp_path / "damaged" / f"{deposit(1).id}.content").read_bytes() == b"hellO\r\n"


@pytest.mark.parametrize("size", [None, 5])
async def test_a_missing_or_short_file_sets_its_entry_aside(tmp_path, size):
    async with shard(tmp_path) as spool:
        await spool.commit([deposit(1, LARGE), deposit(2)])
    body = tmp_path / "bodies" / deposit(1).id
    body.unlink() if size is None else os.truncate(body, size)
    damages: list[str] = []
    async with shard(tmp_path, damages) as spool:
        assert [e.ticket.number for e in await spool.entries()] == [2]
    assert len(damages) == 1


async def test_a_database_that_isnt_one_is_set_aside_with_the_files_that_may_be_its(tmp_path):
    async with shard(tmp_path) as spool:
        await spool.commit([deposit(1, LARGE)])
    (tmp_path / "spool.db").write_bytes(b"not a database, but long enough to look like something" * 400)
    damages: list[str] = []
    async with shard(tmp_path, damages) as spool:
        assert await spool.entries() == []
        await spool.commit([deposit(2)])
    assert (tmp_path / "damaged" / f"{deposit(1).id}.content").read_bytes() == LARGE
    assert len(damages) == 2


async def test_rows_before_and_behind_a_damaged_page_are_saved(tmp_path):
    async with shard(tmp_path) as spool:
        await spool.commit([deposit(number, b"%03d" % number * 5000) for number in range(1, 41)])
    database = tmp_path / "spool.db"
    content = bytearray(database.read_bytes())
    middle = len(content) // 2 // 16384 * 16384
    content[middle : middle + 3 * 16384] = os.urandom(3 * 16384)
    database.write_bytes(content)
    damages: list[str] = []
    async with shard(tmp_path, damages) as spool:
        saved = {e.ticket.number: e.content.read() for e in await spool.entries(limit=99)}
    assert len(saved) > 20
    assert all(content == b"%03d" % number * 5000 for number, content in saved.items())
    assert damages


async def test_a_newer_schema_isnt_touched(tmp_path):
    async with shard(tmp_path) as spool:
        await spool.commit([deposit(1)])
    change(tmp_path, "PRAGMA user_version=99")
    with pytest.raises(SpoolFailure, match="schema 99"):
        await open_shard(tmp_path, RealFiles(), lambda: NOW)
    change(tmp_path, "PRAGMA user_version=2")
    async with shard(tmp_path) as spool:
        assert spool.counts().queued == 1
