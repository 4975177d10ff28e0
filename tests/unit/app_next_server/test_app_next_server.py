"""A whole reception before a scripted next server: who is asked, what the sender hears, and what is kept (nothing)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gatepost.admin.telling import explain
from gatepost.app.next_server import CallAhead, HandOvers
from gatepost.delivery import Destinations, Dialer, Hop, Host, Lmtp, Relay, Timeouts
from gatepost.serving.house import Gate, OpenTo
from gatepost.store.ledger import MemoryLedger
from gatepost.testing.line import Client
from gatepost.testing.rig import Rig
from unit.delivery.delivery_peer import DROP, Peer, polite

DOWN = Relay((Host("127.0.0.1", 1),))
NOBODY = ("RCPT TO:<mx-asks-*", "550 5.1.1 who?")
CONTENT = b"Subject: x\r\n\r\nhello\r\n.\r\n"


@dataclass
class House:
    """A reception whose every recipient belongs to the next server."""

    rig: Rig
    ahead: CallAhead

    def connect(self) -> Client:
        return self.rig.connect()


@asynccontextmanager
async def house(hop: Hop, *, handover: bool) -> AsyncIterator[House]:
    destinations = Destinations(Dialer("mx.test", timeouts=Timeouts(connect=5)))
    ahead = CallAhead(destinations, MemoryLedger(time.time), "mx.test")
    if handover:
        exists, hand_over = HandOvers(destinations).pair(hop)
        gate = Gate("*", OpenTo.ANYONE, exists=exists, hand_over=hand_over, to="inner.example:25")
    else:
        gate = Gate("*", OpenTo.ANYONE, exists=ahead.existence(hop))
    try:
        async with Rig(gates=[gate]) as rig:
            yield House(rig, ahead)
    finally:
        await destinations.close()


async def begun(client: Client, *recipients: str, mail: str = "MAIL FROM:<a@b.example>") -> list[str]:
    """The replies to RCPT."""
    await client.reply()
    assert (await client.command("EHLO c.example")).startswith("250")
    assert (await client.command(mail)).startswith("250")
    return [await client.command(f"RCPT TO:<{recipient}>") for recipient in recipients or ("x@y.example",)]


async def sent(client: Client, *recipients: str) -> str:
    """The last word on a message to recipients that are all taken."""
    replies = await begun(client, *recipients)
    assert all(reply.startswith("250") for reply in replies), replies
    assert (await client.command("DATA")).startswith("354")
    return await client.content(CONTENT)


async def queued(rig: Rig) -> int:
    return len(await rig.spool.due(time.time() + 1e9, 100))


def told(rig: Rig) -> list[str]:
    """The last session's story, by line."""
    found = explain((0, token, kind, facts) for token, kind, facts in rig.records.entries)
    return str(found).splitlines()


def lines(peer: Peer, *begins: str) -> list[str]:
    return [line for connection in peer.heard for line in connection if line.startswith(begins)]


# recipients = "ask"


async def test_asked_ahead_the_unknown_are_refused_at_rcpt_and_mail_is_queued() -> None:
    async with Peer(polite(NOBODY, ("RCPT TO:<z*", "551 5.1.6 she has moved"))) as peer:
        async with house(Relay((peer.host,)), handover=False) as made:
            client = made.connect()
            known, unknown = await begun(client, "x@y.example", "z@y.example")
            assert known.startswith("250")
            assert unknown.startswith("551 5.1.6 she has moved (")
            assert (await client.command("DATA")).startswith("354")
            assert (await client.content(CONTENT)).startswith("250 2.0.0 accepted")
            assert await queued(made.rig) == 1
        assert lines(peer, "DATA") == []


async def test_answers_are_remembered_between_sessions() -> None:
    async with Peer(polite(NOBODY, ("RCPT TO:<z*", "550 5.1.1 no"))) as peer:
        async with house(Relay((peer.host,)), handover=False) as made:
            for _ in range(3):
                known, unknown = await begun(made.connect(), "x@y.example", "z@y.example")
                assert (known[:3], unknown[:3]) == ("250", "550")
        assert len(lines(peer, "RCPT")) == 3


async def test_a_server_that_accepts_everything_is_noticed() -> None:
    async with Peer(polite()) as peer:
        async with house(Relay((peer.host,)), handover=False) as made:
            hop = Relay((peer.host,))
            assert [reply[:3] for reply in await begun(made.connect(), "x@y.example", "z@y.example")] == ["250", "250"]
            assert await made.ahead.accepts_everything(hop, "y.example") is True
        [asked] = lines(peer, "RCPT")
        assert asked.startswith("RCPT TO:<mx-asks-")


async def test_asked_ahead_a_server_that_is_down_is_no_refusal_for_good() -> None:
    async with house(DOWN, handover=False) as made:
        [reply] = await begun(made.connect())
        assert reply.startswith("450 4.4.1 ")


# handover = "before-reply"


async def test_handed_over_the_next_servers_250_is_ours_and_nothing_is_kept() -> None:
    async with Peer(polite((".", "250 2.6.0 kept as 4711"))) as peer:
        async with house(Relay((peer.host,)), handover=True) as made:
            assert await sent(made.connect(), "x@y.example", "z@y.example") == "250 2.6.0 kept as 4711"
            assert await queued(made.rig) == 0
            assert (
                told(made.rig)[-2] == "  handed over to the next server inner.example:25, whose answer is the one above"
            )
        [mail] = peer.mail
        assert mail.startswith(b"Received: from c.example")
        assert mail.endswith(CONTENT[:-3] + b"..\r\n")
        assert lines(peer, "MAIL")[-1] == "MAIL FROM:<a@b.example>"
        assert lines(peer, "RCPT")[-2:] == ["RCPT TO:<x@y.example>", "RCPT TO:<z@y.example>"]


async def test_handed_over_refused_at_rcpt() -> None:
    refusing = polite(("RCPT TO:<z*", "554 5.7.1 not for you"))
    async with Peer(refusing) as peer, house(Relay((peer.host,)), handover=True) as made:
        first, second = await begun(made.connect(), "x@y.example", "z@y.example")
        assert first.startswith("250")
        assert second.startswith("554 5.7.1 not for you (")


@pytest.mark.parametrize(
    ("said", "heard"),
    [("554 5.7.1 spam", "554 5.7.1 spam"), ("452 4.3.1 full", "452 4.3.1 full"), ("421 4.3.2 bye", "451 4.3.2 ")],
)
async def test_handed_over_refused_at_end_of_data(said: str, heard: str) -> None:
    async with Peer(polite((".", said))) as peer, house(Relay((peer.host,)), handover=True) as made:
        client = made.connect()
        assert (await sent(client)).startswith(heard)
        assert await queued(made.rig) == 0
        assert told(made.rig)[-2] == "  refused by the next server inner.example:25, whose answer is the one above"
        assert (await client.command("NOOP")).startswith("250"), "our session goes on"


async def test_handed_over_lost_in_flight_the_sender_is_to_repeat() -> None:
    async with Peer(polite((".", DROP)), polite()) as peer:
        async with house(Relay((peer.host,)), handover=True) as made:
            assert (await sent(made.connect())).startswith("451 4.4.2 ")
            assert (await sent(made.connect())).startswith("250 2.0.0 kept")
        assert len(peer.mail) == 2, "doubled here and only here"


async def test_handed_over_the_server_goes_down_between_rcpt_and_end_of_data() -> None:
    async with Peer(polite()) as peer:
        async with house(Relay((peer.host,)), handover=True) as made:
            client = made.connect()
            await begun(client)
            assert (await client.command("DATA")).startswith("354")
            await peer.__aexit__()
            assert (await client.content(CONTENT)).startswith("451 4.4.1 ")
            assert await queued(made.rig) == 0
        await peer.__aenter__()


async def test_handed_over_to_a_server_that_is_down() -> None:
    async with house(DOWN, handover=True) as made:
        [reply] = await begun(made.connect())
        assert reply.startswith("451 4.4.1 ")


async def test_handed_over_one_refused_after_all_nobody_gets_it_and_nothing_is_doubled() -> None:
    script = polite(("RCPT TO:<z", "250 yes"), ("RCPT TO:<z*", "550 5.1.1 gone"))
    async with Peer(script) as peer:
        async with house(Relay((peer.host,)), handover=True) as made:
            reply = await sent(made.connect(), "x@y.example", "z@y.example")
            assert reply.startswith("451 4.3.0 z@y.example was refused after all")
            client = made.connect()
            assert [said[:3] for said in await begun(client, "x@y.example", "z@y.example")] == ["250", "550"]
            assert (await client.command("DATA")).startswith("354")
            assert (await client.content(CONTENT)).startswith("250")
        assert len(peer.mail) == 1


async def test_handed_over_by_lmtp_one_recipient_at_a_time() -> None:
    async with Peer(polite((".", "552 5.2.2 full"))) as peer, house(Lmtp((peer.host,)), handover=True) as made:
        client = made.connect()
        first, again, second = await begun(client, "x@y.example", "x@y.example", "z@y.example")
        assert (first[:3], again[:3]) == ("250", "250")
        assert second.startswith("452 4.5.3 one recipient at a time")
        assert (await client.command("DATA")).startswith("354")
        assert (await client.content(CONTENT)).startswith("552 5.2.2 full")


async def test_what_the_sender_announced_is_passed_on() -> None:
    async with Peer(polite(offers="PIPELINING,SIZE 1000,8BITMIME")) as peer:
        async with house(Relay((peer.host,)), handover=True) as made:
            for mail, code in (
                ("MAIL FROM:<a@b.example> SIZE=600 BODY=8BITMIME", "250"),
                ("MAIL FROM:<> SIZE=1001", "552"),
                ("MAIL FROM:<>", "250"),
            ):
                [reply] = await begun(made.connect(), mail=mail)
                assert reply[:3] == code
        assert lines(peer, "MAIL") == ["MAIL FROM:<a@b.example> SIZE=600 BODY=8BITMIME", "MAIL FROM:<>"]


async def test_who_hangs_up_while_we_ask_leaves_nothing_behind() -> None:
    async with Peer(polite(("RCPT*", "(hang)"))) as peer, house(Relay((peer.host,)), handover=True) as made:
        client = made.connect()
        await client.reply()
        await client.command("EHLO c.example")
        await client.command("MAIL FROM:<a@b.example>")
        client.send(b"RCPT TO:<x@y.example>\r\n")
        await peer.until(lambda: bool(lines(peer, "RCPT")))
        client.line.lose()
        await asyncio.wait_for(made.rig.settled(), 5)


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("mx1.example.org", "mx1"),
        ("a" * 63 + ".example", "a" * 32),
        ("[192.0.2.1]", "192"),
        ("[IPv6:::1]", "gatepost"),
        ("xn--bcher-kva.example", "xn--bcher-kva"),
    ],
)
async def test_the_random_address_says_who_asks(hostname: str, name: str) -> None:
    async with Peer(polite()) as peer:
        destinations = Destinations(Dialer("mx.test"))
        ahead = CallAhead(destinations, MemoryLedger(time.time), hostname)
        assert await ahead.accepts_everything(Relay((peer.host,)), "y.example")
        await destinations.close()
        [asked] = lines(peer, "RCPT")
        assert asked.startswith(f"RCPT TO:<{name}-asks-")
        assert len(asked.removeprefix("RCPT TO:<").partition("@")[0]) <= 64
