"""Hand-over against a scripted server: its answer is ours, and nobody gets a second copy unless an answer was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gatepost.delivery import Destinations, Dialer, HandedOver, HandOver, Hop, Host, Lmtp, Relay, Timeouts
from gatepost.model import Body, Bytes, Envelope, Path, Recipient, Reply
from unit.delivery.delivery_peer import DROP, HANG, Peer, polite

SENDER = Path.parse("a@b.example")
CONTENT = Bytes(b"Received: by me\r\nSubject: x\r\n\r\n.hello\r\n")
DOWN = Host("127.0.0.1", 1)


class Scene:
    def __init__(self, **limits: float) -> None:
        self.now = 100.0
        self.destinations = Destinations(Dialer("me.example", timeouts=Timeouts(connect=5)))
        self.over = HandOver(self.destinations, monotonic=lambda: self.now, **limits)

    async def asked(self, hop: Hop, recipient: str = "x@y.example", **more: object) -> tuple[int, str] | None:
        reply = await self.over.recipient(hop, SENDER, Recipient(Path.parse(recipient)), **more)  # type: ignore[arg-type]
        return None if reply is None else (reply.code, reply.status)

    async def given(self, hop: Hop, *recipients: str, content: Bytes = CONTENT) -> HandedOver:
        addressees = tuple(Recipient(Path.parse(address)) for address in recipients or ("x@y.example",))
        return await self.over.message(hop, Envelope(SENDER, addressees), content)

    async def said(self, hop: Hop, *recipients: str) -> tuple[int, str]:
        reply = (await self.given(hop, *recipients)).reply
        return reply.code, reply.status


@asynccontextmanager
async def scene(**limits: float) -> AsyncIterator[Scene]:
    made = Scene(**limits)
    try:
        yield made
    finally:
        await made.destinations.close()


def lines(peer: Peer, *begins: str) -> list[str]:
    return [line for connection in peer.heard for line in connection if line.startswith(begins)]


# At RCPT.


async def test_the_recipient_is_asked_for_with_the_real_sender() -> None:
    async with Peer(polite(offers="PIPELINING,SIZE 1000,8BITMIME")) as peer, scene() as made:
        assert await made.asked(Relay((peer.host,)), size=500, body=Body.EIGHT_BIT_MIME) is None
        assert lines(peer, "MAIL", "RCPT") == [
            "MAIL FROM:<a@b.example> SIZE=500 BODY=8BITMIME",
            "RCPT TO:<x@y.example>",
        ]
        assert await made.asked(Relay((peer.host,)), size=5000) == (552, "5.3.4")


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("550 5.1.1 who?", (550, "5.1.1")),
        ("554 never", (554, "5.0.0")),
        ("450 4.7.1 grey", (450, "4.7.1")),
        ("452 4.2.2 full", (452, "4.2.2")),
        ("421 4.3.2 bye", (451, "4.3.2")),
        ("530 5.7.0 who are you", (451, "4.3.5")),
        ("500 what", (451, "4.3.5")),
        ("252 perhaps", None),
        (DROP, (451, "4.4.1")),
    ],
)
async def test_its_answer_is_ours(said: str, heard: tuple[int, str] | None) -> None:
    async with Peer(polite(("RCPT", said))) as peer, scene() as made:
        assert await made.asked(Relay((peer.host,))) == heard
        assert lines(peer, "DATA") == []


async def test_its_answer_to_the_sender_is_ours() -> None:
    async with Peer(polite(("MAIL", "553 5.1.8 no such domain"))) as peer, scene() as made:
        assert await made.asked(Relay((peer.host,))) == (553, "5.1.8")


async def test_a_server_that_is_down_or_silent() -> None:
    async with Peer(polite(("RCPT", HANG))) as peer, scene(ask_s=0.1) as made:
        assert await made.asked(Relay((DOWN,))) == (451, "4.4.1")
        assert await made.asked(Relay((peer.host,))) == (451, "4.4.1")


async def test_nobody_is_told_where_the_next_server_is() -> None:
    async with scene() as made:
        reply = await made.over.recipient(Relay((DOWN,)), SENDER, Recipient(Path.parse("x@y.example")))
        handed = await made.given(Relay((DOWN,)))
        assert reply is not None
        assert "127.0.0.1" not in reply.text + handed.reply.text


# At end-of-data.


async def test_one_message_for_all_and_its_250() -> None:
    async with Peer(polite((".", "250-2.0.0 kept\n250 2.0.0 as 4711"))) as peer, scene() as made:
        hop = Relay((peer.host,))
        assert await made.asked(hop) is None
        handed = await made.given(hop, "x@y.example", "z@y.example")
        assert handed.reply == Reply(250, "2.0.0", "kept as 4711")
        assert handed.refused == ()
        assert peer.mail == [CONTENT.data.replace(b"\r\n.", b"\r\n..")]
        assert lines(peer, "RSET", "MAIL", "RCPT", "DATA") == [
            "MAIL FROM:<a@b.example>",
            "RCPT TO:<x@y.example>",
            "RSET",
            "MAIL FROM:<a@b.example>",
            "RCPT TO:<x@y.example>",
            "RCPT TO:<z@y.example>",
            "DATA",
        ]
        assert len(peer.heard) == 1


@pytest.mark.parametrize(
    ("begin", "said", "heard"),
    [
        (".", "554 5.7.1 spam", (554, "5.7.1")),
        (".", "451 4.3.0 later", (451, "4.3.0")),
        (".", "421 4.3.2 bye", (451, "4.3.2")),
        (".", "250 fine", (250, "2.0.0")),
        ("DATA", "554 5.5.1 no", (554, "5.5.1")),
        ("DATA", DROP, (451, "4.4.1")),
        ("MAIL", "550 5.7.1 not you", (550, "5.7.1")),
        ("RCPT", "550 5.1.1 who?", (550, "5.1.1")),
        ("RCPT", "452 4.2.2 full", (452, "4.2.2")),
        ("(connected)", "554 5.3.2 no", (451, "4.4.1")),
    ],
)
async def test_the_last_word_is_the_next_servers(begin: str, said: str, heard: tuple[int, str]) -> None:
    async with Peer(polite((begin, said))) as peer, scene() as made:
        assert await made.said(Relay((peer.host,))) == heard


@pytest.mark.parametrize("lost", [DROP, HANG])
async def test_U1_lost_in_flight_the_sender_repeats_and_no_other_host_is_asked(lost: str) -> None:
    async with Peer(polite((".", lost))) as peer, Peer(polite()) as other, scene(give_s=0.3) as made:
        assert await made.said(Relay((peer.host, other.host))) == (451, "4.4.2")
        assert len(peer.mail) == 1
        assert other.heard == []


@pytest.mark.parametrize("offers", ["PIPELINING", "PIPELINING,CHUNKING", ""])
async def test_one_refused_after_all_and_nobody_is_sent_anything(offers: str) -> None:
    refused = ("RCPT TO:<z", "550 5.1.1 gone")
    async with Peer(polite(refused, offers=offers)) as peer, Peer(polite()) as other, scene() as made:
        handed = await made.given(Relay((peer.host, other.host)), "x@y.example", "z@y.example")
        assert (handed.reply.code, handed.reply.status) == (451, "4.3.0")
        assert handed.reply.text == "z@y.example was refused after all, so nobody was sent it: gone"
        assert peer.mail == other.mail == []
        assert other.heard == [], "a refusal for good is not taken elsewhere"
        assert await made.said(Relay((peer.host, other.host)), "x@y.example") == (250, "2.0.0")
        assert lines(peer, "RSET") == ["RSET"], "the session is used again"


async def test_put_off_by_one_host_the_message_goes_to_the_next_as_a_whole() -> None:
    async with Peer(polite(("RCPT TO:<z", "450 4.2.0 busy"))) as peer, Peer(polite()) as other, scene() as made:
        assert await made.said(Relay((DOWN, peer.host, other.host)), "x@y.example", "z@y.example") == (250, "2.0.0")
        assert peer.mail == []
        assert lines(other, "RCPT") == ["RCPT TO:<x@y.example>", "RCPT TO:<z@y.example>"]


async def test_all_refused_some_for_good_some_for_now() -> None:
    said = ("RCPT TO:<x", "550 5.1.1 who?"), ("RCPT TO:<z", "450 4.2.0 busy")
    async with Peer(polite(*said)) as peer, scene() as made:
        assert await made.said(Relay((peer.host,)), "x@y.example", "z@y.example") == (451, "4.3.0")


async def test_how_many_recipients_were_too_many_is_heeded_for_a_while() -> None:
    names = [f"u{n}@y.example" for n in range(3)]
    some = polite(("RCPT TO:<u2", "452 4.5.3 enough"))
    for script in (some, polite(offers="PIPELINING,LIMITS RCPTMAX=2")):
        async with Peer(script, polite()) as peer, scene() as made:
            hop = Relay((peer.host,))
            assert await made.asked(hop, names[1], earlier=5) is None, "nothing is known yet"
            assert await made.said(hop, *names) == (451, "4.5.3")
            assert peer.mail == []
            assert await made.asked(hop, names[2], earlier=2) == (452, "4.5.3")
            assert await made.asked(hop, names[1], earlier=1) is None
            assert await made.said(hop, *names[:2]) == (250, "2.0.0")
            made.now += 601
            assert await made.asked(hop, names[2], earlier=2) is None


async def test_lmtp_gets_one_recipient_a_message_so_that_its_answer_is_one() -> None:
    async with Peer(polite((".", "552 5.2.2 full"))) as peer, scene() as made:
        hop = Lmtp((peer.host,))
        assert await made.asked(hop) is None
        assert await made.asked(hop, "z@y.example", earlier=1) == (452, "4.5.3")
        assert await made.said(hop) == (552, "5.2.2")


async def test_lmtp_with_two_all_the_same_is_positive_if_it_was_taken_for_one() -> None:
    async with Peer(polite((".", "552 5.2.2 full\n250 2.0.0 for z"))) as peer, scene() as made:
        handed = await made.given(Lmtp((peer.host,)), "x@y.example", "z@y.example")
        assert handed.reply == Reply(250, "2.0.0", "for z")
        assert handed.refused == ((Recipient(Path.parse("x@y.example")), Reply(552, "5.2.2", "full")),)


async def test_F4_a_bare_line_end_is_refused_here_and_not_sent_on() -> None:
    async with Peer(polite()) as peer, scene() as made:
        handed = await made.given(Relay((peer.host,)), content=Bytes(b"a: b\r\n\r\nx\n.\r\n"))
        assert handed.reply.code == 554
        assert peer.mail == []


async def test_content_that_cannot_be_read_is_a_451() -> None:
    class Gone(Bytes):
        def read(self, offset: int = 0, length: int | None = None) -> bytes:
            raise OSError("gone")

        def chunks(self):  # type: ignore[no-untyped-def]
            raise OSError("gone")

    async with Peer(polite()) as peer, scene() as made:
        envelope = Envelope(SENDER, (Recipient(Path.parse("x@y.example")),), smtputf8=True)
        assert (await made.over.message(Relay((peer.host,)), envelope, Gone(b"x"))).reply.code == 451
        assert peer.mail == []


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    async with Peer(polite(("RCPT", HANG))) as peer, scene() as made:
        task = asyncio.create_task(made.asked(Relay((peer.host,))))
        await peer.until(lambda: bool(lines(peer, "RCPT")))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def test_a_full_mailbox_is_not_taken_for_too_many_recipients() -> None:
    async with Peer(polite(("RCPT TO:<z", "452 4.2.2 full"))) as peer, scene() as made:
        hop = Relay((peer.host,))
        assert await made.said(hop, "x@y.example", "z@y.example") == (451, "4.3.0")
        assert await made.asked(hop, "z@y.example", earlier=1) is None
