"""Attempts against a scripted server: failover, limits, TLS, time, and never a second copy."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme

from gatepost.delivery import Contexts, Destinations, Dialer, Host, Lmtp, Relay, Security, Timeouts
from gatepost.delivery.attempt import Answered, Letter
from gatepost.delivery.route import Hop
from gatepost.model import Bytes, Path, Recipient
from gatepost.net.certificates import client_context
from gatepost.wire.smtp.client_events import Credentials, Phase
from unit.delivery.delivery_peer import DROP, HANG, TLS, Peer, polite

CONTENT = Bytes(b"Subject: x\r\n\r\n.hello\r\n")
QUICK = Timeouts(connect=5, greeting=0.2, command=0.2, data=0.2, block=0.2, end=0.2)


def letter(*recipients: str, content: Bytes = CONTENT) -> Letter:
    addresses = recipients or ("x@y.example",)
    return Letter(Path.parse("a@b.example"), tuple(Recipient(Path.parse(a)) for a in addresses), content)


async def deliver(hop: Hop, *letters: Letter, **how: object) -> list[list[tuple[int, Phase]]]:
    """The letters one after another over one pool; each recipient's (code, phase)."""
    dialer = Dialer("me.example", timeouts=how.pop("timeouts", Timeouts(connect=5)), contexts=how.pop("contexts", None))  # type: ignore[arg-type]
    destinations = Destinations(dialer, **how)  # type: ignore[arg-type]
    try:
        return [short(await destinations.deliver(hop, one)) for one in letters]
    finally:
        await destinations.close()


def short(answers: list[Answered]) -> list[tuple[int, Phase]]:
    return [(answer.outcome.reply.code, answer.outcome.phase) for answer in answers]


DELIVERED = (250, Phase.END_OF_DATA)


def closed_port() -> Host:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Host("127.0.0.1", probe.getsockname()[1])


async def test_two_messages_over_one_session() -> None:
    async with Peer(polite()) as peer:
        assert await deliver(Relay((peer.host,)), letter(), letter()) == [[DELIVERED], [DELIVERED]]
        assert peer.heard == [
            [
                "EHLO me.example",
                *["MAIL FROM:<a@b.example>", "RCPT TO:<x@y.example>", "DATA", "."] * 2,
                "QUIT",
            ]
        ]
        assert peer.mail == [b"Subject: x\r\n\r\n..hello\r\n"] * 2


async def test_an_idle_session_is_closed_after_a_while() -> None:
    async with Peer(polite()) as peer:
        destinations = Destinations(Dialer("me.example"), kept_s=0.01)
        await destinations.deliver(Relay((peer.host,)), letter())
        await peer.until(lambda: "QUIT" in peer.heard[0])
        await destinations.close()


async def test_sessions_are_not_kept_where_the_setting_says_so_or_mailmax_is_reached() -> None:
    async with Peer(polite()) as peer:
        assert await deliver(Relay((peer.host,)), letter(), letter(), kept_s=0) == [[DELIVERED], [DELIVERED]]
        assert len(peer.heard) == 2
    async with Peer(polite(offers="PIPELINING,LIMITS MAILMAX=1")) as peer:
        assert await deliver(Relay((peer.host,)), letter(), letter()) == [[DELIVERED], [DELIVERED]]
        assert len(peer.heard) == 2


async def test_large_content_by_data_and_bdat() -> None:
    content = Bytes(b"".join(b".%07d%s\r\n" % (n, b"x" * 70) for n in range(30_000)))
    for offers in ("PIPELINING", "PIPELINING,CHUNKING"):
        async with Peer(polite(offers=offers)) as peer:
            assert await deliver(Relay((peer.host,)), letter(content=content)) == [[DELIVERED]]
            stuffed = "CHUNKING" not in offers
            expected = content.data.replace(b"\r\n.", b"\r\n..") if stuffed else content.data
            assert b"".join(peer.mail) == (b"." if stuffed else b"") + expected


LARGE = Bytes(b"%070d\r\n" % 7 * 60_000)


async def test_U1_a_chunk_refused_under_way_ends_the_message_not_the_session() -> None:
    async with Peer(polite(("BDAT", "552 5.3.4 enough"), offers="PIPELINING,CHUNKING")) as peer:
        assert await deliver(Relay((peer.host,)), letter(content=LARGE), letter()) == [
            [(552, Phase.CONTENT)],
            [DELIVERED],
        ]
        assert len(peer.heard) == 1
        assert "RSET" in peer.heard[0]


async def test_U1_refused_while_data_is_on_its_way() -> None:
    class Impatient(Peer):
        async def _content(self, reader: asyncio.StreamReader) -> bytes:
            return await reader.readexactly(1000)  # then the script answers as if that had been all

    async with Impatient(polite((".", "552 5.3.4 enough"))) as peer:
        assert await deliver(Relay((peer.host,)), letter(content=LARGE)) == [[(552, Phase.CONTENT)]]


async def test_an_envelope_that_cannot_be_written_is_an_answer() -> None:
    async with Peer(polite()) as peer:
        bad = Letter(Path("a\r\nRSET", "b.example"), (Recipient(Path.parse("x@y.example")),), CONTENT)
        assert await deliver(Relay((peer.host,)), bad, letter()) == [[(554, Phase.SENDER)], [DELIVERED]]


async def test_lmtp_per_recipient() -> None:
    answers = ("RCPT TO:<b", "550 5.1.1 who?"), (".", "250 2.0.0 for a\n452 4.2.2 c is full")
    async with Peer(polite(*answers)) as peer:
        hop = Lmtp((peer.host,))
        assert await deliver(hop, letter("a@y.example", "b@y.example", "c@y.example")) == [
            [DELIVERED, (550, Phase.RECIPIENT), (452, Phase.END_OF_DATA)]
        ]
        assert peer.heard[0][0] == "LHLO me.example"


async def test_lmtp_over_a_local_socket(tmp_path: object) -> None:
    path = f"{tmp_path}/lmtp"
    peer = Peer(polite())
    server = await asyncio.start_unix_server(peer.accept, path)
    try:
        assert await deliver(Lmtp((Host(socket=path),)), letter()) == [[DELIVERED]]
        assert await deliver(Lmtp((Host(socket=path + "x"),)), letter()) == [[(451, Phase.CONNECT)]]
    finally:
        server.close()
        await server.wait_closed()


async def test_the_next_host_is_asked_when_the_first_is_away_or_unwelcoming() -> None:
    first = polite(("(connected)", "554 5.3.2 not today"))
    async with Peer(first) as unwelcoming, Peer(polite()) as peer:
        hop = Relay((closed_port(), unwelcoming.host, peer.host))
        assert await deliver(hop, letter()) == [[DELIVERED]]
        assert unwelcoming.heard == [["QUIT"]]


async def test_the_next_host_gets_only_who_was_put_off() -> None:
    first = polite(("RCPT TO:<b", "450 4.2.0 grey"), ("RCPT TO:<c", "550 5.1.1 no"))
    async with Peer(first) as one, Peer(polite()) as two:
        hop = Relay((one.host, two.host))
        assert await deliver(hop, letter("a@y.example", "b@y.example", "c@y.example")) == [
            [DELIVERED, DELIVERED, (550, Phase.RECIPIENT)]
        ]
        assert [line for line in two.heard[0] if line.startswith("RCPT")] == ["RCPT TO:<b@y.example>"]


@pytest.mark.parametrize("last", ["451 4.3.0 later", DROP, HANG])
def test_U1_after_the_end_of_data_no_other_host_is_asked(last: str) -> None:
    async def scene() -> None:
        async with Peer(polite((".", last))) as one, Peer(polite()) as two:
            hop = Relay((one.host, two.host))
            assert await deliver(hop, letter(), timeouts=QUICK) == [[(451, Phase.END_OF_DATA)]]
            assert two.heard == []

    asyncio.run(scene())


async def test_nobody_there() -> None:
    [[(code, phase)]] = await deliver(Relay((closed_port(),)), letter())
    assert (code, phase) == (451, Phase.CONNECT)


@pytest.mark.parametrize(
    ("begin", "phase"),
    [
        ("(connected)", Phase.GREETING),
        ("EHLO", Phase.GREETING),
        ("MAIL", Phase.SENDER),
        ("RCPT", Phase.RECIPIENT),
        ("DATA", Phase.DATA),
        (".", Phase.END_OF_DATA),
    ],
)
@pytest.mark.parametrize("how", [HANG, DROP, "421 4.3.2 bye"])
def test_U1_every_phase_has_its_end(begin: str, phase: Phase, how: str) -> None:
    async def scene() -> None:
        async with Peer(polite((begin, how))) as peer:
            [[(code, at)]] = await deliver(Relay((peer.host,)), letter(), timeouts=QUICK)
            assert 400 <= code < 500
            if begin not in ("(connected)", "EHLO"):
                assert at is phase

    asyncio.run(scene())


async def test_U1_a_trickle_of_reply_lines_does_not_move_the_deadline() -> None:
    class Trickle(Peer):
        async def _talk(self, _: object, __: object, ___: object, writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(b"220-x\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)  # the attack itself, not a wait

    async with Trickle([]) as peer:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        [[(code, _)]] = await deliver(Relay((peer.host,)), letter(), timeouts=QUICK)
        assert code == 451
        assert loop.time() - begun < 2


async def test_a_kept_session_that_has_ended_is_replaced() -> None:
    async with Peer(polite((".", "250 2.0.0 kept\n421 4.3.2 idle")), polite()) as peer:
        assert await deliver(Relay((peer.host,)), letter(), letter()) == [[DELIVERED], [DELIVERED]]
        assert len(peer.heard) == 2
    once = polite(("MAIL", "250 first"), ("MAIL", "421 4.3.2 enough"))
    async with Peer(once, polite()) as peer:
        assert await deliver(Relay((peer.host,)), letter(), letter()) == [[DELIVERED], [DELIVERED]]
        assert len(peer.heard) == 2


async def test_U1_limits_rcptmax_divides_the_recipients() -> None:
    async with Peer(polite(offers="PIPELINING,LIMITS RCPTMAX=2")) as peer:
        assert await deliver(Relay((peer.host,)), letter(*(f"u{n}@y.example" for n in range(5)))) == [[DELIVERED] * 5]
        assert peer.heard[0].count("DATA") == 3


async def test_452_for_too_many_recipients_sends_the_rest_in_a_second_message() -> None:
    script = polite(("RCPT", "250 one"), ("RCPT", "452 4.5.3 enough"), ("RCPT", "452 4.5.3 enough"))
    async with Peer(script) as peer:
        assert await deliver(Relay((peer.host,)), letter("a@y", "b@y", "c@y")) == [[DELIVERED] * 3]
        assert peer.heard[0].count("DATA") == 2


async def test_452_for_everybody_is_an_answer() -> None:
    async with Peer(polite(("RCPT*", "452 4.3.1 full"))) as peer:
        assert await deliver(Relay((peer.host,)), letter("a@y", "b@y")) == [[(452, Phase.RECIPIENT)] * 2]


async def test_who_stands_in_line_shares_the_answer_of_a_dead_destination() -> None:
    async with Peer(polite(("(connected)", "421 4.3.2 down"))) as peer:
        destinations = Destinations(Dialer("me.example"), concurrency=1)
        hop = Relay((peer.host,))
        results = await asyncio.gather(*(destinations.deliver(hop, letter()) for _ in range(5)))
        assert [short(result) for result in results] == [[(451, Phase.GREETING)]] * 5
        assert len(peer.heard) == 1
        await destinations.deliver(hop, letter())
        assert len(peer.heard) == 2, "who comes later tries anew"
        await destinations.close()


async def test_concurrency_is_bounded() -> None:
    async with Peer(polite((".", HANG))) as peer:
        destinations = Destinations(Dialer("me.example"), concurrency=3)
        tasks = [asyncio.create_task(destinations.deliver(Relay((peer.host,)), letter())) for _ in range(9)]
        await peer.until(lambda: sum("." in lines for lines in peer.heard) == 3)
        assert len(peer.heard) == 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await destinations.close()


# TLS and authentication.


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


OFFER = "PIPELINING,STARTTLS,AUTH PLAIN"


async def test_tls_where_it_is_offered(server_tls: ssl.SSLContext, contexts: Contexts) -> None:
    for security in (Security.STARTTLS, Security.REQUIRED):
        async with Peer(polite(("STARTTLS", TLS), offers=OFFER), tls=server_tls) as peer:
            assert await deliver(Relay((peer.host,), tls=security), letter(), contexts=contexts) == [[DELIVERED]]
            assert peer.under_tls == [True]
            assert peer.heard[0].count("EHLO me.example") == 2


async def test_opportunistic_tls_falls_back_to_the_clear(contexts: Contexts) -> None:
    for answer in ("454 4.7.0 no", "220 go\n250 injected", "220 nothing follows"):
        async with Peer(polite(("STARTTLS", answer), offers=OFFER), polite()) as peer:
            result = await deliver(Relay((peer.host,)), letter(), contexts=contexts, timeouts=QUICK)
            if "injected" in answer:  # T4
                assert result == [[(451, Phase.HELLO)]] or result == [[(451, Phase.GREETING)]]
                assert peer.mail == []
            else:
                assert result == [[DELIVERED]]


async def test_T4_required_tls_is_never_given_up(contexts: Contexts) -> None:
    for script in (polite(), polite(("STARTTLS", "454 no"), offers=OFFER), polite(("STARTTLS", DROP), offers=OFFER)):
        async with Peer(script) as peer:
            [[(code, _)]] = await deliver(Relay((peer.host,), tls=Security.REQUIRED), letter(), contexts=contexts)
            assert code == 451
            assert not any(line.startswith("MAIL") for lines in peer.heard for line in lines)


async def test_required_tls_checks_the_name(server_tls: ssl.SSLContext, contexts: Contexts) -> None:
    strict = Contexts(contexts.offered, client_context(verify=True))
    async with Peer(polite(("STARTTLS", TLS), offers=OFFER), tls=server_tls) as peer:
        [[(code, phase)]] = await deliver(Relay((peer.host,), tls=Security.REQUIRED), letter(), contexts=strict)
        assert (code, phase) == (451, Phase.TLS)


async def test_auth_over_tls_only(server_tls: ssl.SSLContext, contexts: Contexts) -> None:
    auth = Credentials("ann", "secret")
    async with Peer(polite(("STARTTLS", TLS), ("AUTH", "235 in"), offers=OFFER), tls=server_tls) as peer:
        hop = Relay((peer.host,), tls=Security.REQUIRED, auth=auth)
        assert await deliver(hop, letter(), contexts=contexts) == [[DELIVERED]]
        assert "AUTH PLAIN AGFubgBzZWNyZXQ=" in peer.heard[0]
    async with Peer(polite(("AUTH", "235 in"), offers="AUTH PLAIN")) as peer:
        hop = Relay((peer.host,), auth=auth)
        assert await deliver(hop, letter(), contexts=contexts) == [[(451, Phase.AUTH)]]
        assert not any("AUTH" in line for line in peer.heard[0])


async def test_refused_credentials_put_mail_off(server_tls: ssl.SSLContext, contexts: Contexts) -> None:
    async with Peer(polite(("STARTTLS", TLS), ("AUTH", "535 5.7.8 no"), offers=OFFER), tls=server_tls) as peer:
        hop = Relay((peer.host,), tls=Security.REQUIRED, auth=Credentials("ann", "secret"))
        assert await deliver(hop, letter(), contexts=contexts) == [[(451, Phase.AUTH)]]


async def test_F4_stray_line_ends_are_not_sent_on() -> None:
    async with Peer(polite()) as peer:
        assert await deliver(Relay((peer.host,)), letter(content=Bytes(b"a\nb\r\n"))) == [[(554, Phase.CONTENT)]]
        assert peer.mail == []
