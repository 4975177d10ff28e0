"""What every maker of the ledger does. The clock is in the test's hand."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gatepost.store.files import RealFiles
from gatepost.store.ledger import Ledger, LedgerError, MemoryLedger, open_ledger


class Clock:
    now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "shared"])
async def ledger(request, tmp_path, clock) -> AsyncIterator[Ledger]:
    memory = request.param == "memory"
    made = MemoryLedger(clock) if memory else await open_ledger(tmp_path / "ledger.db", RealFiles(), clock)
    yield made
    await made.close()
    await made.close()


@pytest.mark.parametrize("value", [None, 1, -1.5, "text", b"bytes", ["a", 1], {"a": {"b": [None]}}])
async def test_a_fact_comes_back_until_its_time_is_over(ledger, clock, value):
    await ledger.put("space", "key", value, 60)
    assert await ledger.get("space", "key") == value
    clock.now += 59
    assert await ledger.get("space", "key") == value
    clock.now += 1
    assert await ledger.get("space", "key") is None
    assert await ledger.take_once("space", "key") is None


async def test_spaces_and_keys_dont_mix(ledger):
    await ledger.put("a", "b", 1, 60)
    await ledger.put("a", "c", 2, 60)
    await ledger.put("b", "b", 3, 60)
    await ledger.count("a", "b", 60)
    assert [await ledger.get(*place) for place in (("a", "b"), ("a", "c"), ("b", "b"), ("b", "c"))] == [1, 2, 3, None]


async def test_a_newer_fact_replaces_the_older(ledger, clock):
    await ledger.put("space", "key", 1, 60)
    await ledger.put("space", "key", 2, 600)
    clock.now += 100
    assert await ledger.get("space", "key") == 2


async def test_taken_once_is_gone(ledger):
    await ledger.put("space", "key", "ticket", 60)
    assert await ledger.get("space", "key") == "ticket"
    taken = await asyncio.gather(*(ledger.take_once("space", "key") for _ in range(5)))
    assert sorted(filter(None, taken)) == ["ticket"]
    assert await ledger.get("space", "key") is None


async def test_counting(ledger, clock):
    assert [await ledger.count("greeting", "192.0.2.1", 60) for _ in range(3)] == [1, 2, 3]
    assert await ledger.count("greeting", "192.0.2.2", 60) == 1
    clock.now += 59
    assert await ledger.count("greeting", "192.0.2.1", 60) == 4
    clock.now += 31  # halfway through the next window, half of the one before counts
    assert await ledger.count("greeting", "192.0.2.1", 60) == 3
    clock.now += 120
    assert await ledger.count("greeting", "192.0.2.1", 60) == 1


async def test_counting_survives_a_clock_set_back(ledger, clock):
    await ledger.count("space", "key", 60)
    clock.now -= 1000
    assert await ledger.count("space", "key", 60) == 1


async def test_many_at_once(ledger):
    await asyncio.gather(*(ledger.put("space", str(n), n, 60) for n in range(2000)))
    counts = await asyncio.gather(*(ledger.count("space", "key", 60) for _ in range(1000)))
    assert sorted(counts) == list(range(1, 1001))
    assert await ledger.get("space", "1234") == 1234


async def test_I11_keys_are_never_part_of_a_statement(ledger):
    hostile = "x' OR '1'='1'; DROP TABLE fact; -- \" \0 \ud83d\udca9".encode("utf-8", "replace").decode()
    await ledger.put(hostile, hostile, hostile, 60)
    assert await ledger.get(hostile, hostile) == hostile
    assert await ledger.get("space", "x' OR '1'='1") is None


async def test_workers_share_one_ledger(tmp_path, clock):
    one, other = [await open_ledger(tmp_path / "ledger.db", RealFiles(), clock) for _ in range(2)]
    await one.put("space", "key", "old", 60)
    assert await other.get("space", "key") == "old"
    await one.put("space", "key", "new", 60)
    clock.now += 2
    assert await other.get("space", "key") == "new"
    for n in range(20):
        await one.put("once", str(n), n, 60)
    taken = await asyncio.gather(*(side.take_once("once", str(n)) for n in range(20) for side in (one, other)))
    assert sorted(n for n in taken if n is not None) == list(range(20))
    counts = await asyncio.gather(*(side.count("space", "key", 60) for _ in range(50) for side in (one, other)))
    assert sorted(counts) == list(range(1, 101))
    await one.close()
    await other.close()


async def test_facts_outlive_the_process(tmp_path, clock):
    ledger = await open_ledger(tmp_path / "ledger.db", RealFiles(), clock)
    await ledger.put("space", "key", 1, 60)
    await ledger.close()
    ledger = await open_ledger(tmp_path / "ledger.db", RealFiles(), clock)
    assert await ledger.get("space", "key") == 1
    await ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        await ledger.put("space", "key", 2, 60)


async def test_a_value_that_cant_be_kept_fails_alone(tmp_path, clock):
    ledger = await open_ledger(tmp_path / "ledger.db", RealFiles(), clock)
    results = await asyncio.gather(
        ledger.put("space", "good", 1, 60), ledger.put("space", "bad \udcff", 1, 60), return_exceptions=True
    )
    assert (results[0], type(results[1])) == (None, LedgerError)
    assert await ledger.get("space", "good") == 1
    await ledger.close()


async def test_a_damaged_ledger_is_begun_anew(tmp_path, clock):
    (tmp_path / "ledger.db").write_bytes(b"this was never a database" * 1000)
    ledger = await open_ledger(tmp_path / "ledger.db", RealFiles(), clock)
    await ledger.put("space", "key", 1, 60)
    await ledger.close()
    assert len(list(tmp_path.glob("ledger.damaged-*"))) == 1


async def test_expired_facts_are_removed_a_bounded_number_at_a_time(tmp_path, clock):
    ledger = await open_ledger(tmp_path / "ledger.db", RealFiles(), clock)
    await asyncio.gather(*(ledger.put("space", str(n), n, 10) for n in range(2500)))
    clock.now += 60

    async def left() -> int:
        return (await ledger._ask(lambda c: c.execute("SELECT count(*) FROM fact").fetchall()))[0][0]

    assert [await left() for _ in range(5)] == [2500, 1500, 500, 0, 0]
    await ledger.close()
