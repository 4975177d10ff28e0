"""What is queued for destinations that fail, are suspended or have a rate; fairness; ends of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gatepost.delivery import Destinations, Dialer, Host, Limits, Maildir, Relay
from gatepost.delivery.allowance import Allowance, Allowances, Rule
from gatepost.delivery.connection import Connection, Unreachable
from gatepost.delivery.health import BackOff
from gatepost.delivery.line import Rate
from gatepost.delivery.route import Hop
from gatepost.store import Entry
from gatepost.store.spool import Wanted
from unit.delivery.delivery_peer import HANG, Peer, polite
from unit.delivery.test_delivery_runner import House, running, turns


class Waiting(House):
    """A house whose destinations go by its clock too."""

    def __init__(self, *, allowances: Allowances | None = None, **how: object) -> None:
        destinations = Destinations(
            Dialer("me.example"),
            allowances=allowances,
            back_off=BackOff(60, 600),
            clock=lambda: self.now,
            chance=lambda: 0.0,
        )
        super().__init__(destinations=destinations, **how)
        self.destinations = destinations

    async def at_rest(self) -> None:
        """Until nothing is in hand and nothing is due."""
        while self.spool.counts().leased or (self.spool.next_due() or 0.0) <= self.now:
            await asyncio.sleep(0)

    async def entries(self) -> list[Entry]:
        return await self.spool.entries()


async def test_a_dead_host_is_called_once_for_all_its_messages() -> None:
    down = ("(connected)", "421 4.3.2 down")
    async with Peer(polite(down), polite(down), polite()) as peer, running(Waiting()) as house:
        house.route("*", Relay((peer.host,)))
        await house.accept("a@y.example")
        assert await house.hears(1) == ["deferred a@y.example 451 1300"]
        for name in "bcd":
            await house.accept(f"{name}@y.example")
        assert await house.hears(4) == [
            "deferred a@y.example 451 1300",
            *(f"deferred {name}@y.example 451 1060" for name in "bcd"),
        ]
        assert [entry.attempts for entry in await house.entries()] == [1, 0, 0, 0]
        assert len(peer.heard) == 1
        house.now = 1060.0
        house.runner.wake()
        await house.hears(5)
        await house.at_rest()
        assert len(peer.heard) == 2
        entries = await house.entries()
        assert sorted(entry.attempts for entry in entries) == [0, 0, 1, 1], "one went first, and failed for all"
        assert sorted({entry.next_attempt for entry in entries if not entry.attempts}) == [1180.0]
        house.now = 1180.0
        house.runner.wake()
        assert "delivered d@y.example 250" in await house.hears(7)


async def test_a_clock_set_back_makes_nobody_wait_longer() -> None:
    steady = [0.0]
    down = ("(connected)", "421 4.3.2 down")
    async with Peer(polite(down), polite()) as peer, running(Waiting(steady=lambda: steady[0])) as house:
        house.route("*", Relay((peer.host,)))
        house.now = 100_000.0
        steady[0] = 99_000.0
        await house.accept("a@y.example")
        assert await house.hears(1) == ["deferred a@y.example 451 100300"]
        await house.at_rest()
        house.now -= 86_400 - 10
        steady[0] += 10
        house.runner.wake()
        while house.spool.next_due() != 100_300.0 - 86_400:
            await asyncio.sleep(0)
        house.now += 290
        steady[0] += 290
        house.destinations.health.succeeded(str(peer.host), 20)
        house.runner.wake()
        assert "delivered a@y.example 250" in await house.hears(2)


async def test_a_live_host_of_the_same_route_is_asked_instead() -> None:
    dead = Host("127.0.0.1", 1)
    async with Peer(polite()) as peer, running(Waiting()) as house:
        house.route("*", Relay((dead, peer.host)))
        for name in "ab":
            await house.accept(f"{name}@y.example")
        assert await house.hears(2) == ["delivered a@y.example 250", "delivered b@y.example 250"]
        condition = house.destinations.condition(str(dead))
        assert condition is not None
        assert condition.failures == 1


async def test_what_rests_expires_all_the_same() -> None:
    house = Waiting(allowances=Allowances(Allowance(), [Rule(("y.example",), Allowance(expire_s=100.0))]))
    async with running(house):
        house.route("*@y.example", Relay((Host("127.0.0.1", 1),)))
        house.route("*@own.example", Maildir())
        await house.accept("a@y.example")
        assert await house.hears(1) == ["deferred a@y.example 451 1100"]
        await house.accept("b@y.example")
        assert "deferred b@y.example 451 1060" in await house.hears(2)
        house.now = 1100.0
        house.runner.wake()
        words = await house.hears(6)
        assert [word for word in words if word.startswith("bounced")] == [
            "bounced a@y.example 451 sender",
            "bounced b@y.example 451 sender",
        ]


async def test_a_message_may_have_an_end_of_its_own() -> None:
    async with running(Waiting()) as house:
        house.route("*@y.example", Relay((Host("127.0.0.1", 1),)))
        house.route("*@own.example", Maildir())
        await house.accept("a@y.example", facts={"expires": "30"})
        await house.accept("b@y.example", facts={"expires": "nonsense"})
        await house.hears(2)
        house.now = 1030.0
        house.runner.wake()
        assert "bounced a@y.example 451 sender" in await house.hears(3)


async def test_suspended_is_never_attempted_and_resumed_is() -> None:
    async with Peer(polite()) as peer, running(Waiting()) as house:
        house.route("*", Relay((peer.host,)))
        house.destinations.suspensions.replace({"y.example": 900.0})
        await house.accept("a@y.example", "b@z.example")
        assert await house.hears(2) == ["deferred a@y.example 451 2800", "delivered b@z.example 250"]
        house.destinations.suspensions.replace({str(peer.host): 900.0})
        await house.accept("c@z.example")
        assert "deferred c@z.example 451 2800" in await house.hears(3)
        assert len(peer.mail) == 1
        house.destinations.suspensions.replace({})
        assert await house.spool.flush(lambda domain, _: domain == "z.example") == 1
        assert "delivered c@z.example 250" in await house.hears(4)
        assert house.spool.counts().queued == 1


async def test_beyond_its_rate_mail_waits_without_an_attempt() -> None:
    rate = Allowances(Allowance(rate=Rate(1, 60.0)))
    async with Peer(polite()) as peer, running(Waiting(allowances=rate)) as house:
        house.route("*", Relay((peer.host,)))
        for name in "abc":
            await house.accept(f"{name}@y.example")
        assert await house.hears(3) == [
            "deferred b@y.example 451 1060",
            "deferred c@y.example 451 1120",
            "delivered a@y.example 250",
        ]
        assert [entry.attempts for entry in await house.entries()] == [0, 0]


async def test_a_connection_carries_as_many_messages_as_it_may() -> None:
    few = Allowances(Allowance(messages=2))
    async with Peer(polite()) as peer, running(Waiting(allowances=few)) as house:
        house.route("*", Relay((peer.host,)))
        for number in range(1, 5):
            await house.accept("a@y.example")
            await house.hears(number)
        assert len(peer.heard) == 2


async def test_one_slow_destination_leaves_room_for_the_others() -> None:
    async with Peer(polite((".", HANG))) as slow:
        house = Waiting(limits=Limits(in_hand=10))
        async with running(house):
            house.route("*@slow.example", Relay((slow.host,)))
            house.route("*", Maildir())
            for _ in range(50):
                await house.accept("x@slow.example")
            await turns(50)
            assert house.spool.counts().leased < 10
            for number in range(20):
                await house.accept(f"u{number}@y.example")
            assert len(await house.hears(20)) == 20


async def test_senders_and_destinations_take_turns() -> None:
    house = Waiting(limits=Limits(in_hand=1))
    order: list[str] = []
    house.drop.gate = asyncio.Event()
    async with running(house):
        house.route("*", Maildir())
        for number in range(20):
            await house.accept(f"u{number}@y.example", sender="a@big.example")
        await house.accept("late@y.example", sender="a@small.example")
        await turns()
        house.drop.gate.set()
        await house.hears(21)
        order = [address for _, address, _ in house.drop.copies]
        assert order.index("late@y.example") <= 4


async def test_a_list_finds_by_recipient_and_lane() -> None:
    async with running(Waiting()) as house:
        for name in ("ann@one.example", "bob@two.example"):
            await house.accept(name)
        await house.accept("ann@two.example", "eve@one.example")

        def to_one(sender: str, _: str, waiting: Sequence[str]) -> bool:
            assert sender == "a@own.example"
            return any(one.endswith("@one.example") for one in waiting)

        wanted = Wanted(to_one, lambda domain, _: domain == "one.example")
        found = await house.spool.entries(wanted=wanted)
        assert [len(entry.envelope.recipients) for entry in found] == [1, 2]
        assert len(await house.spool.entries(wanted=wanted, limit=1)) == 1
        tallies = house.spool.tallies()
        assert {domain: tally.queued for domain, tally in tallies.items()} == {"one.example": 1, "two.example": 2}


async def test_silent_servers_of_many_domains_dont_hold_up_our_own_maildrops() -> None:
    silent = [Host(f"silent{number}.example", 25) for number in range(60)]

    class Silence(Dialer):
        async def open(self, hop: Hop, host: Host) -> Connection | Unreachable:
            await asyncio.Event().wait()
            raise AssertionError("nobody ever answers")

    house = House(destinations=Destinations(Silence("me.example")), limits=Limits(in_hand=20, while_busy=20))
    async with running(house):
        for host in silent:
            house.route(f"*@{host.name}", Relay((host,)))
        house.route("*", Maildir())
        for host in silent:
            await house.accept(f"x@{host.name}", sender=f"many@{host.name}")
        await turns(50)
        assert house.spool.counts().leased == 18, "two places are kept"
        for number in range(5):
            await house.accept(f"u{number}@y.example", sender=f"many@{silent[0].name}")
        assert len(await house.hears(5)) == 5


async def test_one_sender_to_many_slow_servers_leaves_room_for_other_senders() -> None:
    class Slow(Dialer):
        """Silent, but for one host."""

        async def open(self, hop: Hop, host: Host) -> Connection | Unreachable:
            if host.name.endswith(".slow.example"):
                await asyncio.Event().wait()
            return await super().open(hop, host)

    slow = [Host(f"s{number}.slow.example", 25) for number in range(120)]
    destinations = Destinations(Slow("me.example"), connections=40)
    async with Peer(polite()) as peer:
        house = House(destinations=destinations, limits=Limits(in_hand=100, while_busy=100))
        async with running(house):
            for host in slow:
                house.route(f"*@{host.name}", Relay((host,)))
            house.route("*@local.example", Maildir())
            house.route("*", Relay((peer.host,)))
            for host in slow:
                await house.accept(f"x@{host.name}", sender="big@own.example")
            await turns(50)
            assert house.spool.counts().leased == 81, "a lone sender has most places"
            await house.accept("a@y.example", sender="big@other.example")
            assert await house.hears(1) == ["delivered a@y.example 250"]
            await house.accept("b@y.example", sender="")
            await house.hears(2)
            await house.accept("c@local.example", sender="big@own.example")
            assert "delivered c@local.example -" in await house.hears(3), "no server of others' is waited for"
            await house.accept("d@y.example", sender="big@own.example")
            await turns(50)
            assert len(house.told.words) == 3, "its own mail waits"
