"""Bad servers that mail goes out to: U1 (order and ends), R2 (endless replies), T4 (STARTTLS), over real sockets.

What is asked of the machine alone stands in tests/unit/wire_client, what failover does in tests/unit/delivery.
"""

from __future__ import annotations

import asyncio
import ssl
import tracemalloc
from collections.abc import Callable

import pytest
import trustme

from gatepost.delivery import Contexts, Destinations, Dialer, Lmtp, Relay, Security, Timeouts
from gatepost.delivery.attempt import Answered, Letter
from gatepost.delivery.route import Hop
from gatepost.model import Blob, Body, Bytes, Path, Recipient
from gatepost.net.certificates import client_context
from gatepost.wire.smtp.client_events import Phase
from unit.delivery.delivery_peer import DROP, HANG, TLS, Peer, polite

CONTENT = Bytes(b"Subject: x\r\n\r\n.hello\r\n")
QUICK = Timeouts(connect=5, greeting=0.3, command=0.3, data=0.3, block=0.3, end=0.3)
PATIENT = Timeouts(connect=5)
BOUND_S = 10.0  # far above what any of it takes, far below a timeout of RFC 5321
OFFERS = ["", "PIPELINING", "PIPELINING,CHUNKING"]
EHLO = b"250-mx.example\r\n250-PIPELINING\r\n250 HELP\r\n"

Send = Callable[[asyncio.StreamReader, asyncio.StreamWriter], "asyncio.Future[None]"]


def letter(*recipients: str, content: Blob = CONTENT, body: Body = Body.SEVEN_BIT, **more: object) -> Letter:
    addresses = recipients or ("x@y.example",)
    to = tuple(Recipient(Path.parse(address)) for address in addresses)
    return Letter(Path.parse("a@b.example"), to, content, body, **more)


async def deliver(
    hop: Hop, *letters: Letter, timeouts: Timeouts = PATIENT, contexts: Contexts | None = None
) -> list[list[Answered]]:
    """The letters one after another; whatever the server does, it takes no longer than BOUND_S."""
    destinations = Destinations(Dialer("me.example", timeouts=timeouts, contexts=contexts))
    try:
        async with asyncio.timeout(BOUND_S):
            return [await destinations.deliver(hop, one) for one in letters]
    finally:
        await destinations.close()


def told(answers: list[Answered]) -> list[tuple[int, str, Phase]]:
    return [(a.outcome.reply.code, a.outcome.reply.status, a.outcome.phase) for a in answers]


class Scripted(Peer):
    """A server that is a coroutine: `talk(reader, writer)`. What it reads is its own business."""

    def __init__(self, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> None:
        super().__init__([])
        self._play = talk

    async def _talk(
        self, number: int, script: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._play(reader, writer)


async def swallow(reader: asyncio.StreamReader) -> None:
    """Read until the client goes, keeping nothing."""
    while await reader.read(65536):
        pass


# ── After the content ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
async def test_U1_354_then_5xx_is_for_good_and_nobody_else_is_asked(offers: str, lmtp: bool) -> None:
    refusal = "554 5.7.1 not this one"
    async with Peer(polite((".", refusal), ("BDAT", refusal), offers=offers)) as one, Peer(polite()) as two:
        hop = (Lmtp if lmtp else Relay)((one.host, two.host))
        [answers] = await deliver(hop, letter())
        assert told(answers) == [(554, "5.7.1", Phase.END_OF_DATA)]
        assert two.heard == []
        assert len(one.heard) == 1


@pytest.mark.parametrize("offers", OFFERS)
async def test_U1_a_250_that_never_comes_is_waited_for_on_one_session_and_sent_once(offers: str) -> None:
    script = polite((".", HANG), ("BDAT", HANG), offers=offers)
    async with Peer(script) as one, Peer(polite()) as two:
        waiting = Timeouts(connect=5, end=0.5)
        sending = asyncio.ensure_future(deliver(Relay((one.host, two.host)), letter(), timeouts=waiting))
        await one.until(lambda: bool(one.mail))
        assert not sending.done()
        assert len(one.heard) == 1
        [answers] = await sending
        assert [code for code, _, _ in told(answers)] == [451]
        assert answers[0].outcome.phase is Phase.END_OF_DATA
        assert len(one.heard) == 1, "nothing was said again to this one"
        assert two.heard == [], "nor to another"
        assert len(one.mail) == 1


@pytest.mark.parametrize("late", ["250 2.0.0 kept\n250 2.0.0 kept again", "250 2.0.0 kept\n550 5.0.0 or not"])
async def test_U1_more_replies_than_questions_change_nothing_and_end_the_session(late: str) -> None:
    async with Peer(polite((".", late)), polite()) as peer:
        one, two = await deliver(Relay((peer.host,)), letter(), letter())
        assert told(one) == [(250, "2.0.0", Phase.END_OF_DATA)]
        assert told(two) == [(250, "2.0.0", Phase.END_OF_DATA)]
        assert len(peer.heard) == 2, "what came too early isn't the answer to the next message"


# ── In mid-session ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("offers", OFFERS)
@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT", "DATA", ".", "BDAT"])
async def test_U1_421_in_mid_session_at_every_command(command: str, offers: str) -> None:
    """Once it has said so, nothing more is said to it, and nobody has had the message."""
    chunked = "CHUNKING" in offers
    if (command == "BDAT") != chunked and command in ("BDAT", "DATA", "."):
        return
    async with Peer(polite((command, "421 4.3.2 going down"), offers=offers)) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter("x@y.example", "z@y.example"))
        assert all(400 <= code < 500 for code, _, _ in told(answers))
        [heard] = peer.heard
        assert heard.count(command) <= 1
        assert "QUIT" not in heard


async def test_U1_421_for_the_second_message_of_a_session_and_it_goes_by_another() -> None:
    script = polite(("RCPT", "250 2.1.5 first"), ("RCPT", "421 4.3.2 enough"))
    async with Peer(script, polite()) as peer:
        one, two = await deliver(Relay((peer.host,)), letter(), letter())
        assert told(one) == [(250, "2.0.0", Phase.END_OF_DATA)]
        assert two[0].outcome.reply.code in (250, 421)
        assert len(peer.mail) == 1 + (two[0].outcome.reply.code == 250)


# ── A banner late, early, or never ────────────────────────────────────────────────────────────────────────────────────


async def test_U1_nothing_is_said_before_the_banner_however_late_it_is() -> None:
    early = False

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal early
        listening = asyncio.ensure_future(reader.read(100))
        done, _ = await asyncio.wait({listening}, timeout=0.2)  # the delay is the attack
        early = bool(done)
        writer.write(b"220 late\r\n")
        assert (await listening).startswith(b"EHLO")
        writer.write(b"421 4.3.2 bye\r\n")
        await swallow(reader)

    async with Scripted(talk) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter())
        assert not early
        assert answers[0].outcome.reply.code == 451


async def test_U1_a_banner_that_never_comes_has_its_own_time() -> None:
    async with Peer(polite(("(connected)", HANG))) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter(), timeouts=Timeouts(connect=5, greeting=0.2))
        assert told(answers) == [(451, "4.4.2", Phase.GREETING)]


async def test_U1_answers_given_before_the_questions_are_no_answers() -> None:
    """A server that says 250 to everything in advance has not taken a message it hasn't seen."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n" + EHLO + b"250 a\r\n250 b\r\n354 c\r\n250 2.0.0 kept\r\n")
        await swallow(reader)

    async with Scripted(talk) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter(), timeouts=QUICK)
        assert not answers[0].outcome.reply.is_positive


# ── Endless ───────────────────────────────────────────────────────────────────────────────────────────────────────────


ENDLESS = {
    "R2 a line without an end": b"250 " + b"x" * 65532,
    "U1 a reply without an end": b"250-and so on\r\n" * 4096,
    "U1 a reply of empty lines": b"250-\r\n" * 8192,
    "U1 replies without an end": b"250 ok\r\n" * 8192,
    "U1 nothing but line ends": b"\r\n" * 32768,
    "U1 nothing but zeros": b"\0" * 65536,
}


@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("before", ["banner", "hello", "envelope", "content"])
async def test_U1_R2_a_server_that_never_stops_talking(before: str, what: str) -> None:
    octets = ENDLESS[what]

    async def flood(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(octets)
            await writer.drain()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading: asyncio.Future[None] | None = None
        try:
            if before != "banner":
                writer.write(b"220 hi\r\n")
                await reader.readuntil(b"\r\n")
            if before in ("envelope", "content"):
                writer.write(EHLO)
                await reader.readuntil(b"DATA\r\n")
            if before == "content":
                writer.write(b"250 a\r\n250 b\r\n354 c\r\n")
                await reader.readuntil(b"\r\n.\r\n")
            reading = asyncio.ensure_future(swallow(reader))
            await flood(writer)
        finally:
            if reading is not None:
                reading.cancel()

    async with Scripted(talk) as peer:
        tracemalloc.start()
        try:
            [answers] = await deliver(Relay((peer.host,)), letter(), timeouts=QUICK)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        reply = answers[0].outcome.reply
        if before == "content" and what == "U1 replies without an end":
            assert reply.code == 250, "the first of them is the answer"
        else:
            assert reply.code < 500
            assert not reply.is_positive
        assert peak < 8 * 1024 * 1024
        assert len(reply.text) < 4096


async def test_U1_a_server_that_reads_no_content_has_its_own_time_and_fills_no_memory() -> None:
    class Large:
        """Content that is made as it is read, so that only what waits to be sent is in memory."""

        size = 32 * 1024 * 1024

        def read(self, offset: int = 0, length: int | None = None) -> bytes:
            return b"Subject: x\r\n\r\n"[offset : None if length is None else offset + length]

        def chunks(self):
            line = b"x" * 62 + b"\r\n"
            for _ in range(self.size // 65536):
                yield line * 1024

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"250-mx.example\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 HELP\r\n")
        await reader.readuntil(b"DATA\r\n")
        writer.write(b"250 a\r\n250 b\r\n354 c\r\n")
        await asyncio.Event().wait()

    async with Scripted(talk) as peer:
        tracemalloc.start()
        try:
            [answers] = await deliver(Relay((peer.host,)), letter(content=Large()), timeouts=QUICK)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert told(answers) == [(451, "4.4.2", Phase.CONTENT)]
        assert peak < 8 * 1024 * 1024


# ── Order ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_U1_a_pipelining_server_that_refuses_mail_but_says_354_gets_no_content() -> None:
    script = polite(("MAIL", "550 5.7.1 not from you"), ("RCPT", "503 5.5.1 sender first"), (".", "554 5.5.1 nobody"))
    async with Peer(script) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter())
        assert told(answers) == [(550, "5.7.1", Phase.SENDER)]
        assert peer.mail == [b""], "a lone dot, and nothing before it"


async def test_U1_a_pipelining_server_that_takes_a_recipient_without_a_sender_gets_not_even_a_dot() -> None:
    async with Peer(polite(("MAIL", "550 5.7.1 not from you"))) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter())
        assert told(answers) == [(550, "5.7.1", Phase.SENDER)]
        assert peer.mail == []
        assert len(peer.heard) == 1


async def test_U1_refusals_of_all_recipients_and_354_all_the_same() -> None:
    script = polite(("RCPT", "550 5.1.1 who?"), ("RCPT", "550 5.1.1 who?"), (".", "250 2.0.0 kept, whatever it is"))
    async with Peer(script) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter("x@y.example", "z@y.example"))
        assert told(answers) == [(550, "5.1.1", Phase.RECIPIENT)] * 2
        assert peer.mail == [b""]


# ── What isn't offered ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("what", "code", "status"),
    [
        ({"recipients": ("zoë@y.example",)}, 553, "5.6.7"),
        ({"smtputf8": True}, 550, "5.6.7"),
        ({"body": Body.BINARY_MIME}, 550, "5.6.3"),
        ({"requiretls": True}, 550, "5.7.30"),
    ],
)
async def test_U1_what_a_server_does_not_offer_is_told_and_not_tried(
    what: dict[str, object], code: int, status: str
) -> None:
    recipients = what.pop("recipients", ("x@y.example",))
    async with Peer(polite(offers="PIPELINING,SIZE 1000")) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter(*recipients, **what))
        assert [(c, s) for c, s, _ in told(answers)] == [(code, status)]
        assert answers[0].outcome.is_ours
        assert not any(line.startswith("MAIL") for line in peer.heard[0])


async def test_U1_too_large_by_the_servers_own_word() -> None:
    async with Peer(polite(offers="PIPELINING,SIZE 10")) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter())
        assert told(answers) == [(552, "5.3.4", Phase.SENDER)]


async def test_U1_mailmax_ends_a_session_after_so_many_messages() -> None:
    async with Peer(polite(offers="PIPELINING,LIMITS MAILMAX=2")) as peer:
        await deliver(Relay((peer.host,)), letter(), letter(), letter())
        assert [lines.count("DATA") for lines in peer.heard] == [2, 1]


@pytest.mark.parametrize("limits", ["RCPTMAX=0", "RCPTMAX=-1", "RCPTMAX=1e9", "RCPTMAX", "RCPTMAX=" + "9" * 400])
async def test_U1_limits_that_are_none(limits: str) -> None:
    async with Peer(polite(offers=f"PIPELINING,LIMITS {limits}")) as peer:
        [answers] = await deliver(Relay((peer.host,)), letter("x@y.example", "z@y.example"))
        assert [code for code, _, _ in told(answers)] == [250, 250]
        assert peer.heard[0].count("DATA") == 1


# ── STARTTLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def contexts(authority: trustme.CA) -> Contexts:
    required = client_context(verify=True)
    authority.configure_trust(required)
    return Contexts(client_context(verify=False), required)


INJECTED = [b"250 forged\r\n", b"250-forged\r\n250 AUTH PLAIN\r\n", b"2", b"\r\n", b"250 a\r\n" * 1000]


@pytest.mark.parametrize("security", [Security.STARTTLS, Security.REQUIRED])
@pytest.mark.parametrize("injected", INJECTED, ids=lambda octets: repr(octets[:20]))
async def test_T4_what_comes_in_the_clear_with_the_220_is_never_heard_under_tls(
    injected: bytes, security: Security, server_tls: ssl.SSLContext, contexts: Contexts
) -> None:
    """Somebody in the middle adds answers to the 220; the server itself would go on with TLS."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hi\r\n")
        await reader.readuntil(b"\r\n")
        writer.write(b"250-mx.example\r\n250 STARTTLS\r\n")
        await reader.readuntil(b"STARTTLS\r\n")
        writer.write(b"220 go\r\n" + injected)
        await writer.start_tls(server_tls)
        raise AssertionError("the client went on")

    async with Scripted(talk) as peer:
        [answers] = await deliver(Relay((peer.host,), tls=security), letter(), timeouts=QUICK, contexts=contexts)
        assert answers[0].outcome.reply.code == 451
        assert answers[0].outcome.is_ours


@pytest.mark.parametrize("offered", [False, True])
async def test_U1_requiretls_is_asked_for_under_tls_or_nothing_is_sent(
    offered: bool, server_tls: ssl.SSLContext, contexts: Contexts
) -> None:
    """rfc8689#4.2.1. What is offered in the clear doesn't count: it may be somebody's in the middle."""
    before, after = polite(offers="STARTTLS,REQUIRETLS"), polite(offers="REQUIRETLS" if offered else "HELP")
    hello = [answer for line, answer in after if line == "EHLO*"]
    script = [("EHLO", dict(before)["EHLO*"]), ("STARTTLS", TLS), *polite(("EHLO", hello[0]))]
    async with Peer(script, tls=server_tls) as peer:
        hop = Relay((peer.host,), tls=Security.REQUIRED)
        [answers] = await deliver(hop, letter(requiretls=True), contexts=contexts)
        assert peer.under_tls == [True]
        mails = [line for line in peer.heard[0] if line.startswith("MAIL")]
        if offered:
            assert told(answers) == [(250, "2.0.0", Phase.END_OF_DATA)]
            assert mails == ["MAIL FROM:<a@b.example> REQUIRETLS"]
        else:
            assert told(answers) == [(550, "5.7.30", Phase.SENDER)]
            assert (mails, peer.mail) == ([], [])


@pytest.mark.parametrize("stripped", ["", "XXXXXXXX", "STARTTL", "STARTTLSX"])
async def test_T4_starttls_cut_out_of_the_answer_where_tls_is_required(stripped: str, contexts: Contexts) -> None:
    offers = f"PIPELINING,{stripped}" if stripped else "PIPELINING"
    async with Peer(polite(offers=offers)) as peer:
        [answers] = await deliver(Relay((peer.host,), tls=Security.REQUIRED), letter(), contexts=contexts)
        assert answers[0].outcome.reply.code == 451
        assert answers[0].outcome.reply.status == "4.7.10"
        assert peer.mail == []
        assert not any(line.startswith(("MAIL", "AUTH")) for line in peer.heard[0])


@pytest.mark.parametrize("after", [DROP, HANG, "421 4.3.2 bye", "250 what TLS?"])
async def test_T4_no_word_of_a_message_in_the_clear_after_a_handshake_that_failed(
    after: str, contexts: Contexts
) -> None:
    script = polite(("STARTTLS", "220 go"), offers="STARTTLS")
    async with Peer([pair for pair in script if pair[0] != "*"], polite(("EHLO", after))) as peer:
        hop = Relay((peer.host,), tls=Security.REQUIRED)
        [answers] = await deliver(hop, letter(), timeouts=QUICK, contexts=contexts)
        assert answers[0].outcome.reply.code == 451
        assert peer.mail == []
