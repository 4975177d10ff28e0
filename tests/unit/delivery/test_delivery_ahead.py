"""Asking ahead against a scripted server: what is remembered, for how long, who is believed, and never a false 5xx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatepost.delivery import CallAhead, Destinations, Dialer, Hop, Host, Lmtp, Relay, Timeouts
from gatepost.model import Path, Recipient, Reply
from gatepost.store.ledger import LedgerError, MemoryLedger
from unit.delivery.delivery_peer import DROP, HANG, Peer, polite

ANN = Recipient(Path.parse("ann@y.example"))
BOB = Recipient(Path.parse("bob@y.example"))
NOBODY = ("RCPT TO:<mx-asks-*", "550 5.1.1 who?")
HOUR = 3600.0


class Scene:
    """A caller ahead with a clock that is set by hand."""

    def __init__(self, memory: object = None, *, deadline_s: float = 20.0) -> None:
        self.now = 1000.0
        self.destinations = Destinations(Dialer("me.example", timeouts=Timeouts(connect=5)))
        self.drawn = 0
        self.ahead = CallAhead(
            self.destinations,
            memory or MemoryLedger(lambda: self.now),  # type: ignore[arg-type]
            clock=lambda: self.now,
            entropy=self.draw,
            name="mx",
            deadline_s=deadline_s,
        )

    def draw(self, octets: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(octets, "big")

    async def ask(self, hop: Hop, recipient: Recipient = ANN) -> tuple[int, str] | None:
        reply = await self.ahead.ask(hop, recipient)
        return None if reply is None else (reply.code, reply.status)


@asynccontextmanager
async def scene(memory: object = None, *, deadline_s: float = 20.0) -> AsyncIterator[Scene]:
    made = Scene(memory, deadline_s=deadline_s)
    try:
        yield made
    finally:
        await made.destinations.close()


def asked(peer: Peer) -> list[str]:
    """The local parts asked about, in order; a random one as `?`."""
    lines = [line for connection in peer.heard for line in connection if line.startswith("RCPT")]
    locals_ = [line.removeprefix("RCPT TO:<").partition("@")[0] for line in lines]
    return ["?" if local.startswith("mx-asks-") else local for local in locals_]


async def test_a_random_address_first_then_who_is_meant_with_the_null_sender() -> None:
    async with Peer(polite(NOBODY)) as peer, scene() as made:
        assert await made.ask(Relay((peer.host,))) is None
        assert asked(peer) == ["?", "ann"]
        assert [line for line in peer.heard[0] if line.startswith("MAIL")] == ["MAIL FROM:<>"] * 2
        assert not any(line.startswith("DATA") for line in peer.heard[0])
        assert len(peer.heard) == 1, "both over one session"


async def test_a_yes_is_remembered_for_two_hours() -> None:
    async with Peer(polite(NOBODY, NOBODY, NOBODY)) as peer, scene() as made:
        hop = Relay((peer.host,))
        await made.ask(hop)
        made.now += 2 * HOUR - 1
        assert await made.ask(hop) is None
        assert asked(peer) == ["?", "ann"]
        made.now += 2
        assert await made.ask(hop) is None
        assert asked(peer) == ["?", "ann", "?", "ann"], "what is known of the domain is older than an hour, too"


async def test_a_no_is_remembered_for_ten_minutes_as_it_was_said() -> None:
    no = ("RCPT TO:<ann*", "550-5.1.1 Ann has left\n550 5.1.1 us")
    async with Peer(polite(NOBODY, no)) as peer, scene() as made:
        hop = Relay((peer.host,))
        refusal = Reply(550, "5.1.1", "Ann has left us")
        assert await made.ahead.ask(hop, ANN) == refusal
        made.now += 599
        assert await made.ahead.ask(hop, ANN) == refusal
        assert asked(peer) == ["?", "ann"]
        made.now += 2
        await made.ask(hop)
        assert asked(peer) == ["?", "ann", "ann"]


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("550 5.2.1 closed", (550, "5.2.1")),
        ("551 no status", (551, "5.1.1")),
        ("553 5.1.3 odd", (553, "5.1.3")),
        ("552 5.2.2 full", (550, "5.2.2")),
        ("554 5.7.1 no", (550, "5.7.1")),
        ("450 4.7.1 grey", (450, "4.4.0")),
        ("452 4.5.3 enough", (450, "4.4.0")),
        ("503 5.5.1 order", (450, "4.4.0")),
        ("530 5.7.0 who are you", (450, "4.4.0")),
        ("421 4.3.2 bye", (450, "4.4.0")),
        (DROP, (450, "4.4.1")),
    ],
)
async def test_what_counts_as_a_no(said: str, heard: tuple[int, str]) -> None:
    async with Peer(polite(NOBODY, ("RCPT TO:<ann*", said))) as peer, scene() as made:
        assert await made.ask(Relay((peer.host,))) == heard


async def test_a_server_that_refuses_our_sender_has_said_nothing_of_the_recipient() -> None:
    async with Peer(polite(("MAIL*", "550 5.7.1 no bounces"))) as peer, scene() as made:
        assert await made.ask(Relay((peer.host,))) == (450, "4.4.0")
        assert await made.ahead.accepts_everything(Relay((peer.host,)), "y.example") is None


async def test_I4_what_the_server_says_becomes_one_safe_line() -> None:
    rude = ("RCPT TO:<ann*", "550-5.1.1 \x1b[31mno\t\n550 5.1.1 " + "x" * 900)
    async with Peer(polite(NOBODY, rude)) as peer, scene() as made:
        reply = await made.ahead.ask(Relay((peer.host,)), ANN)
        assert reply is not None
        assert reply.text.isprintable()
        assert reply.text.startswith("?[31mno xxx")
        assert len(reply.text) == 400


async def test_a_server_that_accepts_everything_is_asked_once_an_hour() -> None:
    async with Peer(polite()) as peer, scene() as made:
        hop = Relay((peer.host,))
        assert await made.ask(hop, ANN) is None
        assert await made.ask(hop, BOB) is None
        assert asked(peer) == ["?"]
        assert await made.ahead.accepts_everything(hop, "y.example") is True
        assert await made.ask(hop, Recipient(Path.parse("ann@other.example"))) is None
        assert asked(peer) == ["?", "?"], "another domain is another matter"
        made.now += HOUR + 1
        await made.ask(hop, ANN)
        assert asked(peer) == ["?", "?", "?"]
        assert made.drawn == 3, "another random address each time"


async def test_a_server_that_knows_its_recipients_does_not_accept_everything() -> None:
    async with Peer(polite(NOBODY)) as peer, scene() as made:
        assert await made.ahead.accepts_everything(Relay((peer.host,)), "y.example") is False
        assert await made.ahead.accepts_everything(Relay((peer.host,)), "y.example") is False
        assert asked(peer) == ["?"]


async def test_a_server_that_is_down_is_never_a_no() -> None:
    async with scene() as made:
        hop = Relay((Host("127.0.0.1", 1),))
        assert await made.ask(hop) == (450, "4.4.1")
        assert await made.ahead.accepts_everything(hop, "y.example") is None


@pytest.mark.parametrize("later", [DROP, "421 4.3.2 bye", "450 4.7.1 grey", "503 5.5.1 order"])
async def test_a_yes_counts_for_a_day_while_the_server_cannot_be_asked(later: str) -> None:
    fine = ("RCPT TO:<ann", "250 2.1.5 here")
    async with Peer(polite(NOBODY, fine, ("RCPT*", later))) as peer, scene() as made:
        hop = Relay((peer.host,))
        assert await made.ask(hop) is None
        made.now += 23 * HOUR
        peer.scripts = [polite(("RCPT*", later))]
        assert await made.ask(hop) is None
        made.now += 2 * HOUR
        refusal = await made.ask(hop)
        assert refusal is not None
        assert refusal[0] == 450


async def test_a_no_ends_a_yes() -> None:
    async with Peer(polite(NOBODY, ("RCPT TO:<ann", "250 here"), ("RCPT*", "550 5.1.1 gone"))) as peer, scene() as made:
        assert await made.ask(Relay((peer.host,))) is None
        made.now += 3 * HOUR
        assert await made.ask(Relay((peer.host,))) == (550, "5.1.1")


async def test_many_who_ask_the_same_at_once_are_one_question() -> None:
    async with Peer(polite(NOBODY, ("RCPT TO:<ann*", "550 5.1.1 no"))) as peer, scene() as made:
        hop = Relay((peer.host,))
        assert await asyncio.gather(*(made.ask(hop) for _ in range(20))) == [(550, "5.1.1")] * 20
        assert asked(peer) == ["?", "ann"]


async def test_who_hangs_up_leaves_the_question_to_the_others() -> None:
    async with Peer(polite(NOBODY, ("RCPT TO:<ann*", HANG))) as peer, scene(deadline_s=0.3) as made:
        hop = Relay((peer.host,))
        first, second = (asyncio.create_task(made.ask(hop)) for _ in range(2))
        await peer.until(lambda: "ann" in asked(peer))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert await second == (450, "4.4.1")
        assert asked(peer).count("ann") == 1


async def test_a_question_nobody_waits_for_ends() -> None:
    async with Peer(polite(NOBODY, ("RCPT TO:<ann*", HANG))) as peer, scene() as made:
        task = asyncio.create_task(made.ask(Relay((peer.host,))))
        await peer.until(lambda: "ann" in asked(peer))
        others = asyncio.all_tasks() - {task, asyncio.current_task()}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        mine = [other for other in others if "CallAhead" in repr(other.get_coro())]
        assert len(mine) == 1
        await asyncio.wait(mine)
        assert mine[0].cancelled()


async def test_R_a_silent_server_is_waited_for_as_long_as_the_deadline_says() -> None:
    async with Peer(polite(("(connected)", HANG))) as peer, scene(deadline_s=0.1) as made:
        assert await made.ask(Relay((peer.host,))) == (450, "4.4.1")


async def test_the_next_host_is_asked_where_the_first_is_away() -> None:
    async with Peer(polite(NOBODY)) as peer, scene() as made:
        assert await made.ask(Relay((Host("127.0.0.1", 1), peer.host))) is None


async def test_a_ledger_that_fails_costs_memory_not_mail() -> None:
    class Broken:
        async def get(self, *_: object) -> object:
            raise LedgerError("full")

        put = get

    async with Peer(polite(NOBODY, NOBODY)) as peer, scene(Broken()) as made:
        assert await made.ask(Relay((peer.host,))) is None
        assert await made.ask(Relay((peer.host,))) is None
        assert asked(peer) == ["?", "ann", "?", "ann"]


async def test_by_lmtp_and_without_a_domain() -> None:
    async with Peer(polite(NOBODY)) as peer, scene() as made:
        postmaster = Recipient(Path.parse("postmaster", bare_postmaster=True))
        assert await made.ask(Lmtp((peer.host,)), postmaster) is None
        assert "RCPT TO:<postmaster>" in peer.heard[0]
