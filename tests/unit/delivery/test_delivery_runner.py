"""The runner over a spool in memory: everything that was accepted ends delivered, waiting, reported or held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest
from aiosmtpd.controller import UnthreadedController
from aiosmtpd.handlers import Mailbox

from gatepost.delivery import (
    Destinations,
    Dialer,
    Discard,
    Host,
    Limits,
    Maildir,
    NoMailbox,
    Policy,
    Relay,
    Route,
    Routes,
    Runner,
)
from gatepost.delivery.route import Action
from gatepost.model import Blob, Body, Bytes, Envelope, Path, Recipient, Reply, Ticket, token_at
from gatepost.store import Deposit, Entry, Spool, SpoolFailure, memory_spool
from unit.delivery.delivery_peer import HANG, Peer, polite

TOKEN = token_at(1_800_000_000_000, 0, 1)


class Drop:
    """A maildrop in memory that can fail."""

    def __init__(self) -> None:
        self.copies: list[tuple[str, str, bytes]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def deliver(self, ticket: Ticket, recipient: Recipient, content: Blob, *, sender: Path, fresh: bool) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.copies.append((str(ticket), recipient.address, content.read()))


class Told:
    """Everything an observer hears, as words."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.hosts: dict[str, str] = {}
        self.wrote: list[tuple[str, Deposit]] = []
        self.news = asyncio.Event()

    def delivered(self, entry: Entry, recipient: Recipient, reply: Reply | None, host: Host | None) -> None:
        self._say(f"delivered {recipient} {reply.code if reply else '-'}", recipient, host)

    def deferred(
        self, entry: Entry, recipient: Recipient, reply: Reply, next_attempt: float, host: Host | None
    ) -> None:
        self._say(f"deferred {recipient} {reply.code} {next_attempt:g}", recipient, host)

    def bounced(self, entry: Entry, recipient: Recipient, reply: Reply, told: str, host: Host | None) -> None:
        self._say(f"bounced {recipient} {reply.code} {told}", recipient, host)

    def written(self, entry: Entry, deposit: Deposit) -> None:
        self.wrote.append((entry.id, deposit))

    def _say(self, word: str, recipient: Recipient, host: Host | None) -> None:
        self.words.append(word)
        self.hosts[recipient.address] = str(host or "")
        self.news.set()


class House:
    """A runner with everything around it."""

    def __init__(self, spool: Spool | None = None, *, destinations: Destinations | None = None, **how: object) -> None:
        self.now = 1000.0
        self.spool = spool or memory_spool(lambda: self.now)
        self.drop = Drop()
        self.told = Told()
        self.routes: list[Route] = []
        self._tickets = count(1)
        self.policy = policy = Policy(
            "mx.example",
            Path.parse("postmaster@mx.example"),
            lambda path: path.domain == "own.example",
            lambda: Ticket(TOKEN, next(self._tickets) + 1_000_000),
        )
        self.runner = Runner(
            self.spool,
            lambda: Routes(self.routes),
            self.drop,
            destinations or Destinations(Dialer("me.example")),
            policy,
            self.told,
            clock=lambda: self.now,
            chance=lambda: 0.0,
            **how,
        )

    def route(self, match: str, action: Action) -> None:
        self.routes.append(Route((match,), action))

    async def accept(self, *recipients: str, sender: str = "a@own.example", **what: object) -> str:
        envelope = Envelope(Path.parse(sender), tuple(Recipient(Path.parse(r)) for r in recipients))
        content = what.pop("content", Bytes(b"Subject: x\r\n\r\nhello\r\n"))
        deposit = Deposit(Ticket(TOKEN, next(self._tickets)), envelope, content, self.now, **what)
        await self.spool.commit([deposit])
        return deposit.id

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.told.news.clear()
            await self.told.news.wait()

    async def hears(self, number: int) -> list[str]:
        await self.until(lambda: len(self.told.words) >= number)
        return sorted(self.told.words)


@asynccontextmanager
async def running(house: House) -> AsyncIterator[House]:
    task = asyncio.create_task(house.runner.run())
    try:
        yield house
    finally:
        await house.runner.stop(grace_s=0.2)
        await task
        await house.spool.close()


async def test_into_maildrops_and_nowhere() -> None:
    async with running(House()) as house:
        house.route("x@y.example", Discard())
        house.route("*@y.example", Maildir())
        ticket = await house.accept("ann@y.example", "bob@y.example", "x@y.example")
        assert await house.hears(3) == [f"delivered {name}@y.example -" for name in ("ann", "bob", "x")]
        assert sorted(house.drop.copies) == [
            (ticket, f"{name}@y.example", b"Subject: x\r\n\r\nhello\r\n") for name in ("ann", "bob")
        ]
        assert house.spool.counts().queued == 0


async def test_relayed_to_two_destinations_and_one_put_off() -> None:
    async with Peer(polite()) as one, Peer(polite(("RCPT", "450 4.2.0 grey"))) as two, running(House()) as house:
        house.route("*@one.example", Relay((one.host,)))
        house.route("*@two.example", Relay((two.host,)))
        await house.accept("a@one.example", "b@one.example", "c@two.example")
        assert await house.hears(3) == [
            "deferred c@two.example 450 1300",
            "delivered a@one.example 250",
            "delivered b@one.example 250",
        ]
        assert len(one.mail) == 1, "one copy for two recipients of one destination"
        house.now += 301
        house.runner.wake()
        assert "delivered c@two.example 250" in await house.hears(4)
        assert house.spool.counts().queued == 0


async def test_L4_a_report_for_our_own_sender_is_delivered_in_its_turn() -> None:
    async with Peer(polite(("RCPT", "550 5.1.1 who?"))) as peer, running(House()) as house:
        house.route("*@next.example", Relay((peer.host,)))
        house.route("*@own.example", Maildir())
        await house.accept("x@next.example")
        assert await house.hears(2) == ["bounced x@next.example 550 sender", "delivered a@own.example -"]
        [(_, address, content)] = house.drop.copies
        assert address == "a@own.example"
        assert b"550 5.1.1 who?" in content


async def test_L4_no_backscatter_to_strangers() -> None:
    async with Peer(polite(("RCPT", "550 5.1.1 who?"))) as peer, running(House()) as house:
        house.route("*@next.example", Relay((peer.host,)))
        house.route("*@mx.example", Maildir())
        ticket = await house.accept("x@next.example", sender="eve@foreign.example")
        assert await house.hears(2) == ["bounced x@next.example 550 postmaster", "delivered postmaster@mx.example -"]
        [held] = await house.spool.entries(held=True)
        assert held.id == ticket
        assert "5.1.1" in (held.held or "")
        await house.spool.release(ticket)
        assert "delivered x@next.example 250" in await house.hears(3)


async def test_expiry_ends_in_a_report() -> None:
    async with running(House()) as house:
        house.route("*@y.example", Maildir())
        house.route("*@own.example", Discard())
        house.drop.error = OSError(28, "No space left on device")
        await house.accept("ann@y.example")
        for number in range(1, 200):
            words = await house.hears(number)
            if any(word.startswith("bounced") for word in words):
                break
            due = house.spool.next_due()
            assert due is not None
            house.now = due
            house.runner.wake()
        assert house.now == 1000 + 5 * 86400
        assert "bounced ann@y.example 451 sender" in house.told.words
        [(about, report)] = [(id, one) for id, one in house.told.wrote if str(one.envelope.sender) == ""]
        assert [str(one) for one in report.envelope.recipients] == ["a@own.example"]
        assert about == f"{TOKEN}-1"


async def test_no_mailbox_and_no_route_and_a_bug() -> None:
    async with running(House()) as house:
        house.route("*@y.example", Maildir())
        house.route("*@own.example", Discard())
        house.drop.error = NoMailbox()
        await house.accept("ann@y.example")
        assert "bounced ann@y.example 550 sender" in await house.hears(2)
        await house.accept("x@nowhere.example")
        assert "deferred x@nowhere.example 451 1300" in await house.hears(3)
        house.drop.error = ZeroDivisionError()
        await house.accept("bob@y.example")
        assert "deferred bob@y.example 451 1300" in await house.hears(4)


async def test_places_are_bounded_and_fewer_while_reception_is_busy() -> None:
    busy = True
    house = House(limits=Limits(in_hand=5, while_busy=2), is_reception_busy=lambda: busy)
    house.drop.gate = asyncio.Event()
    async with running(house):
        house.route("*", Maildir())
        for number in range(9):
            await house.accept(f"u{number}@y.example")
        await turns()
        assert house.spool.counts().leased == 2
        busy = False
        house.runner.wake()
        await turns()
        assert house.spool.counts().leased == 5
        house.drop.gate.set()
        await house.hears(9)
        assert house.spool.counts().queued == 0


async def test_stopping_gives_back_what_is_under_way() -> None:
    async with Peer(polite((".", HANG))) as peer:
        house = House()
        house.route("*", Relay((peer.host,)))
        async with running(house):
            await house.accept("x@y.example")
            await peer.until(lambda: any("." in lines for lines in peer.heard))
            await house.runner.stop(grace_s=0)
            counts = house.spool.counts()
            assert (counts.queued, counts.leased) == (1, 0)
        assert house.told.words == []


class Stubborn:
    """A spool whose settlements fail at first."""

    def __init__(self, spool: Spool, failures: int) -> None:
        self._spool = spool
        self.failures = failures

    def __getattr__(self, name: str) -> object:
        return getattr(self._spool, name)

    async def settle(self, *args: object, **how: object) -> None:
        if self.failures:
            self.failures -= 1
            raise SpoolFailure("no space")
        await self._spool.settle(*args, **how)


async def test_R15_a_settlement_the_disk_refuses_is_tried_again_and_mail_is_not_doubled() -> None:
    inner = memory_spool(lambda: 1000.0)
    stubborn = Stubborn(inner, failures=3)
    house = House(stubborn, limits=Limits(settle_again_s=0.001))
    async with running(house):
        inner.on_commit = house.runner.wake
        house.route("*", Maildir())
        await house.accept("ann@y.example")
        assert await house.hears(1) == ["delivered ann@y.example -"]
        assert len(house.drop.copies) == 1
        assert stubborn.failures == 0


async def test_a_bug_in_the_decision_loses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("gatepost.delivery.runner.settle", broken)
    async with running(House()) as house:
        house.route("*@y.example", Maildir())
        house.drop.error = NoMailbox()
        await house.accept("ann@y.example")
        assert await house.hears(1) == ["deferred ann@y.example 550 15400"]
        assert house.spool.counts().queued == 1


async def test_relay_into_aiosmtpd(tmp_path: object) -> None:
    mailbox = Mailbox(f"{tmp_path}/mail")
    controller = UnthreadedController(
        mailbox, hostname="127.0.0.1", port=0, loop=asyncio.get_running_loop(), enable_SMTPUTF8=True
    )
    server = await controller._create_server()
    host = Host("127.0.0.1", server.sockets[0].getsockname()[1])
    content = Bytes(b"Subject: dots\r\n\r\n.one\r\n..two\r\n.\r\nend\r\n")
    try:
        async with running(House()) as house:
            house.route("*", Relay((host,)))
            envelope = Envelope(
                Path.parse("a@own.example"), (Recipient(Path.parse("ü@y.example")),), Body.EIGHT_BIT_MIME, smtputf8=True
            )
            await house.spool.commit([Deposit(Ticket(TOKEN, 77), envelope, content, 1000.0)])
            await house.accept("x@y.example", content=content)
            assert await house.hears(2) == ["delivered x@y.example 250", "delivered ü@y.example 250"]
    finally:
        server.close()
        await server.wait_closed()
    bodies = [message.get_payload() for message in mailbox.mailbox]
    assert bodies == [".one\n..two\n.\nend\n"] * 2


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
