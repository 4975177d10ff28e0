"""What a moderator has decided is carried out by the worker in whose spool the post waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatepost.app import lists
from gatepost.app.lists import Lists
from gatepost.lists.moderation import HELD
from gatepost.model import Bytes, Envelope, Path, Recipient, Ticket, token_at
from gatepost.net.resolver import StaticResolver
from gatepost.store.lists import ListStore, open_lists
from gatepost.store.lists_facts import ListOptions
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Deposit, Spool

POST = b"From: ann@example.org\r\nTo: news@example.org\r\nSubject: x\r\n\r\nhello\r\n"


def ticket(number: int, shard: int = 0) -> Ticket:
    return Ticket(token_at(1_790_000_000_000, shard, number), 1)


def held(of: Ticket, name: str = "news", **more: object) -> Deposit:
    envelope = Envelope(Path.parse("ann@example.org"), (Recipient(Path.parse("news@example.org")),))
    return Deposit(of, envelope, Bytes(POST), 1_790_000_000.0, "waits", facts={HELD: name}, **more)


class Worker:
    def __init__(self, store: ListStore, shard: int) -> None:
        self.spool: Spool = memory_spool(time.time)
        self.lists = Lists(
            store,
            hostname="mx.test",
            new_ticket=lambda: ticket(9999, shard),
            size_limit=10_000,
            resolver=StaticResolver({}),
            archive=None,
            spools=lambda: [self.spool],
            shard=shard,
        )


@asynccontextmanager
async def workers(count: int = 1) -> AsyncIterator[tuple[ListStore, list[Worker]]]:
    store = open_lists(None)
    await store.create("news", "news@example.org", ListOptions(owners=("owner@example.org",)))
    yield store, [Worker(store, shard) for shard in range(count)]
    await store.close()


async def test_an_approved_post_goes_on_and_the_decision_is_done() -> None:
    async with workers() as (store, [worker]):
        await worker.spool.commit([held(ticket(1)), held(ticket(2))])
        await store.decide(str(ticket(1)), True, "mod@example.org", 1.0)
        await worker.lists.look()
        assert {str(one.ticket): one.held for one in await worker.spool.entries()} == {
            str(ticket(1)): None,
            str(ticket(2)): "waits",
        }
        assert await store.decisions() == []


@pytest.mark.parametrize("is_member", [True, False])
async def test_a_refused_post_is_gone_and_a_member_hears_of_it(is_member: bool) -> None:
    async with workers() as (store, [worker]):
        if is_member:
            await store.subscribe("news", "ann@example.org", now=1.0)
        await worker.spool.commit([held(ticket(1))])
        await store.decide(str(ticket(1)), False, "mod@example.org", 1.0)
        await worker.lists.look()
        told = [[one.address for one in entry.envelope.recipients] for entry in await worker.spool.entries()]
        assert told == ([["ann@example.org"]] if is_member else [])
        assert await store.decisions() == []


async def test_only_the_worker_with_the_post_carries_it_out() -> None:
    async with workers(2) as (store, [first, second]):
        await second.spool.commit([held(ticket(1, shard=1))])
        await store.decide(str(ticket(1, shard=1)), True, "mod@example.org", 1.0)
        await first.lists.look()
        assert len(await store.decisions()) == 1
        await second.lists.look()
        assert [one.held for one in await second.spool.entries()] == [None]
        assert await store.decisions() == []


async def test_what_an_operator_has_done_already_is_done() -> None:
    async with workers() as (store, [worker]):
        await store.decide(str(ticket(1)), True, "mod@example.org", 1.0)
        await worker.lists.look()
        assert await store.decisions() == []


async def test_other_held_mail_of_that_ticket_stays() -> None:
    async with workers() as (store, [worker]):
        quarantined = Deposit(
            ticket(1), Envelope(recipients=held(ticket(1)).envelope.recipients), Bytes(b""), 1.0, "spam"
        )
        await worker.spool.commit([quarantined, held(ticket(1), part=1)])
        await store.decide(str(ticket(1)), True, "mod@example.org", 1.0)
        await worker.lists.look()
        assert [one.held for one in await worker.spool.entries()] == ["spam", None]


async def test_it_looks_by_itself_and_goes_on_after_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lists, "LOOK_S", 0)
    async with workers() as (store, [worker]):
        await worker.spool.commit([held(ticket(1))])
        fails, looked, released, again = [True] * 3, asyncio.Event(), asyncio.Event(), asyncio.Event()
        find = store.decisions

        async def decisions():
            if fails:
                fails.pop()
                looked.set()
                raise OSError("the disk has gone")
            if released.is_set():
                again.set()
            return await find()

        store.decisions = decisions
        await store.decide(str(ticket(1)), True, "mod@example.org", 1.0)
        worker.spool.on_commit = released.set
        worker.lists.begin()
        await asyncio.wait_for(looked.wait(), 5)
        await asyncio.wait_for(again.wait(), 5)
        await worker.lists.stop()
        assert [one.held for one in await worker.spool.entries()] == [None]
    assert [one.getMessage() for one in caplog.records if one.levelname in ("ERROR", "WARNING")] == [
        "what lists have to do waits: the disk has gone",
        "what lists have to do goes on",
    ]
