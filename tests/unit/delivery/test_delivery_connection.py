"""A session with a next server: who is asked on the way, content in seven bits, progress, introductions, goodbyes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from gatepost.delivery import Dialer, Lmtp, Relay, Timeouts
from gatepost.delivery.connection import Connection, Unreachable
from gatepost.delivery.ports import Prepared
from gatepost.delivery.route import Hop, Host
from gatepost.model import Blob, Body, Bytes, Path, Recipient, Reply
from gatepost.wire.smtp.client_events import (
    Asks,
    CommandDue,
    EndSession,
    GiveUp,
    Go,
    Introduction,
    LeaveOut,
    Phase,
    Purpose,
    ReplyHeard,
    Step,
    Transaction,
)
from unit.delivery.delivery_peer import DROP, HANG, Peer, polite

SENDER = Path.parse("a@b.example")
PLAIN = Bytes(b"Subject: x\r\n\r\nhello\r\n")
EIGHT = Bytes("Subject: x\r\n\r\nGrüße\r\n".encode())
SIGNED = Bytes(
    b'Content-Type: multipart/signed; boundary=b; protocol="application/pgp-signature"\r\nMIME-Version: 1.0\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    b"--b\r\nContent-Type: application/pgp-signature\r\n\r\nsig\r\n--b--\r\n"
)
NO = Reply(550, "5.7.1", "a plugin says no")


def transaction(content: Blob, *recipients: str, body: Body = Body.SEVEN_BIT, **more: object) -> Transaction:
    addressees = tuple(Recipient(Path.parse(address)) for address in recipients or ("x@y.example",))
    return Transaction(SENDER, addressees, content.size, body, **more)  # type: ignore[arg-type]


class Plugins:
    """Who is asked: what is answered is handed in, what was asked is kept."""

    def __init__(
        self,
        asks: Asks | None = None,
        *,
        step: Callable[[CommandDue | ReplyHeard], Step] = lambda event: Go(),
        message: Callable[[Prepared], Prepared | Reply | EndSession] = lambda prepared: prepared,
    ) -> None:
        self._asks = asks or Asks()
        self._step = step
        self._message = message
        self.asked: list[CommandDue | ReplyHeard] = []
        self.previews: list[str] = []
        self.probes = 0
        self.ends = 0

    def asks(self) -> Asks:
        return self._asks

    async def session(self, hop: Hop, host: Host) -> tuple[Hop, Host] | Reply:
        return hop, host

    async def message(
        self, connection: object, transaction: Transaction, content: Blob, mail_line: str
    ) -> Prepared | Reply | EndSession:
        self.previews.append(mail_line)
        return self._message(Prepared(transaction, content))

    def probe(self, connection: object) -> None:
        self.probes += 1

    async def command(self, connection: object, event: CommandDue) -> Step:
        self.asked.append(event)
        await asyncio.sleep(0)
        return self._step(event)

    async def reply(self, connection: object, event: ReplyHeard) -> Step:
        self.asked.append(event)
        await asyncio.sleep(0)
        return self._step(event)

    def ended(self, connection: object) -> None:
        self.ends += 1


async def open_to(peer: Peer, plugins: Plugins | None = None, *, lmtp: bool = False, **more: float) -> Connection:
    dialer = Dialer("me.example", timeouts=Timeouts(**more), outbound=lambda: plugins)  # type: ignore[arg-type, return-value]
    hop = (Lmtp if lmtp else Relay)((peer.host,))
    connection = await dialer.open(hop, peer.host)
    assert isinstance(connection, Connection), connection
    return connection


async def codes(connection: Connection, what: Transaction, content: Blob = PLAIN) -> list[tuple[int, bool]]:
    return [(outcome.reply.code, outcome.is_ours) for outcome in await connection.send(what, content)]


# ── Who is asked ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("offers", ["", "PIPELINING", "PIPELINING,CHUNKING"])
async def test_every_command_and_reply_of_a_session_is_asked_about(offers: str, lmtp: bool) -> None:
    plugins = Plugins(Asks(frozenset(Phase), replies=True))
    async with Peer(polite(offers=offers)) as peer:
        connection = await open_to(peer, plugins, lmtp=lmtp)
        assert await codes(connection, transaction(PLAIN)) == [(250, False)]
        await connection.close()
        commands = [event.line for event in plugins.asked if isinstance(event, CommandDue)]
        hello = "LHLO" if lmtp else "EHLO"
        assert commands[0] == f"{hello} me.example"
        assert [line.partition(" ")[0] for line in commands[1:]] == ["MAIL", "RCPT", "DATA", "QUIT"]
        replies = [event.phase for event in plugins.asked if isinstance(event, ReplyHeard)]
        assert replies[:2] == [Phase.GREETING, Phase.HELLO]
        assert replies[2:] == [Phase.SENDER, Phase.RECIPIENT, Phase.DATA, Phase.END_OF_DATA, Phase.QUIT]
        assert plugins.ends == 1
        assert peer.mail == [PLAIN.data]


async def test_replies_to_chunks_are_asked_about_while_content_goes_out() -> None:
    content = Bytes(b"x" * 62 + b"\r\n")
    large = Bytes(content.data * 8192)  # eight chunks
    plugins = Plugins(Asks(replies=True))
    async with Peer(polite(offers="PIPELINING,CHUNKING")) as peer:
        connection = await open_to(peer, plugins)
        assert await codes(connection, transaction(large), large) == [(250, False)]
        await connection.close()
        assert sum(event.phase is Phase.CONTENT for event in plugins.asked) == 7
        assert b"".join(peer.mail) == large.data


async def test_a_message_as_plugins_want_it_to_go() -> None:
    def other(prepared: Prepared) -> Prepared:
        content = Bytes(b"X-Signed: yes\r\n" + prepared.content.read())
        return Prepared(replace(prepared.transaction, size=content.size), content, "MAIL FROM:<else@b.example>")

    plugins = Plugins(message=other)
    async with Peer(polite(offers="PIPELINING,SIZE")) as peer:
        connection = await open_to(peer, plugins)
        assert await codes(connection, transaction(PLAIN)) == [(250, False)]
        await connection.close()
        assert plugins.previews == [f"MAIL FROM:<a@b.example> SIZE={PLAIN.size}"]
        assert "MAIL FROM:<else@b.example>" in peer.heard[0]
        assert peer.mail == [b"X-Signed: yes\r\n" + PLAIN.data]


async def test_a_message_that_plugins_do_not_let_go() -> None:
    async with Peer(polite(offers="PIPELINING")) as peer:
        connection = await open_to(peer, Plugins(message=lambda prepared: NO))
        assert await codes(connection, transaction(PLAIN, "x@y.example", "z@y.example")) == [(550, True)] * 2
        assert connection.can_send
        await connection.close()
        assert peer.heard[0] == ["EHLO me.example", "QUIT"]


async def test_the_session_ends_where_a_plugin_says_so() -> None:
    async with Peer(polite(offers="PIPELINING")) as peer:
        plugins = Plugins(message=lambda prepared: EndSession(NO))
        connection = await open_to(peer, plugins)
        assert await codes(connection, transaction(PLAIN)) == [(550, True)]
        assert connection.is_over
        await connection.close()
        assert peer.heard[0] == ["EHLO me.example", "QUIT"]
        assert plugins.ends == 1


async def test_a_probe_is_no_message_and_its_commands_are_asked_about() -> None:
    plugins = Plugins(Asks(frozenset({Phase.RECIPIENT})), step=lambda event: GiveUp(NO))
    async with Peer(polite(offers="PIPELINING")) as peer:
        connection = await open_to(peer, plugins)
        assert await codes(connection, transaction(PLAIN, purpose=Purpose.PROBE)) == [(550, True)]
        await connection.close()
        assert (plugins.previews, plugins.probes) == ([], 1)
        assert not any(line.startswith("RCPT") for line in peer.heard[0])


async def test_a_step_that_means_nothing_there_is_a_failure_not_a_hang(caplog: pytest.LogCaptureFixture) -> None:
    plugins = Plugins(
        Asks(frozenset({Phase.SENDER, Phase.HELLO})),
        step=lambda event: LeaveOut() if event.phase is Phase.HELLO else Go(),
    )
    async with Peer(polite()) as peer:
        with caplog.at_level(logging.ERROR):
            dialer = Dialer("me.example", outbound=lambda: plugins)  # type: ignore[arg-type, return-value]
            opened = await dialer.open(Relay((peer.host,)), peer.host)
        assert isinstance(opened, Unreachable)
        assert "means nothing there" in caplog.text
        assert plugins.ends >= 1


async def test_the_time_a_plugin_takes_is_not_the_servers() -> None:
    class Slow(Plugins):
        async def command(self, connection: object, event: CommandDue) -> Step:
            await asyncio.sleep(0.3)  # longer than the server may take
            return Go()

    async with Peer(polite(offers="PIPELINING")) as peer:
        plugins = Slow(Asks(frozenset({Phase.RECIPIENT, Phase.DATA}), may_pipeline=False))
        connection = await open_to(peer, plugins, command=0.2, data=0.2, end=0.2)
        assert await codes(connection, transaction(PLAIN)) == [(250, False)]
        await connection.close()


async def test_who_gives_up_while_a_plugin_thinks_leaves_nothing_behind() -> None:
    asked = asyncio.Event()

    class Never(Plugins):
        async def command(self, connection: object, event: CommandDue) -> Step:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    async with Peer(polite(offers="PIPELINING")) as peer:
        plugins = Never(Asks(frozenset({Phase.RECIPIENT})))
        connection = await open_to(peer, plugins)
        sending = asyncio.ensure_future(connection.send(transaction(PLAIN), PLAIN))
        await asked.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not connection.can_send
        await connection.close()
        assert plugins.ends == 1
        assert peer.mail == []


async def test_aborted_and_closed_ends_once() -> None:
    async with Peer(polite()) as peer:
        plugins = Plugins()
        connection = await open_to(peer, plugins)
        connection.abort()
        await connection.close()
        assert plugins.ends == 1


# ── Seven bits ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("body", [Body.EIGHT_BIT_MIME, Body.SEVEN_BIT])
async def test_U1_no_8bitmime_and_the_content_is_re_encoded(body: Body) -> None:
    async with Peer(polite(offers="PIPELINING,SIZE")) as peer:
        connection = await open_to(peer)
        assert await codes(connection, transaction(EIGHT, body=body), EIGHT) == [(250, False)]
        await connection.close()
        [content] = peer.mail
        assert content.isascii()
        assert "Gr=C3=BC=C3=9Fe" in content.decode() or "R3LDvMOfZQ" in content.decode()
        [mail] = [line for line in peer.heard[0] if line.startswith("MAIL")]
        assert mail == f"MAIL FROM:<a@b.example> SIZE={len(content)}"


async def test_U1_no_8bitmime_and_no_conversion_is_told() -> None:
    async with Peer(polite(offers="PIPELINING")) as peer:
        connection = await open_to(peer)
        [outcome] = await connection.send(transaction(SIGNED, body=Body.EIGHT_BIT_MIME), SIGNED)
        assert (outcome.reply.code, outcome.reply.status, outcome.is_ours) == (554, "5.6.3", True)
        assert connection.can_send
        await connection.close()
        assert peer.heard[0] == ["EHLO me.example", "QUIT"]


async def test_8bit_content_nobody_declared_and_nobody_can_convert_goes_as_it_came() -> None:
    async with Peer(polite(offers="PIPELINING")) as peer:
        connection = await open_to(peer)
        assert await codes(connection, transaction(SIGNED), SIGNED) == [(250, False)]
        await connection.close()
        assert peer.mail == [SIGNED.data]


async def test_8bit_content_goes_as_it_is_where_it_may() -> None:
    async with Peer(polite(offers="PIPELINING,8BITMIME")) as peer:
        connection = await open_to(peer)
        assert await codes(connection, transaction(EIGHT, body=Body.EIGHT_BIT_MIME), EIGHT) == [(250, False)]
        await connection.close()
        assert peer.mail == [EIGHT.data]
        assert "MAIL FROM:<a@b.example> BODY=8BITMIME" in peer.heard[0]


async def test_the_conversion_comes_before_plugins_are_asked() -> None:
    """A signature made over what the server won't get would be worth nothing."""
    seen: list[bytes] = []

    def look(prepared: Prepared) -> Prepared:
        seen.append(prepared.content.read())
        return prepared

    async with Peer(polite(offers="PIPELINING")) as peer:
        connection = await open_to(peer, Plugins(message=look))
        await connection.send(transaction(EIGHT, body=Body.EIGHT_BIT_MIME), EIGHT)
        await connection.close()
        assert seen == peer.mail
        assert seen[0].isascii()


async def test_large_content_is_re_encoded_beside() -> None:
    large = Bytes(b"Subject: x\r\n\r\n" + "Grüße aus der Ferne, und zurück.\r\n".encode() * 10_000)
    async with Peer(polite(offers="PIPELINING")) as peer:
        connection = await open_to(peer)
        assert await codes(connection, transaction(large, body=Body.EIGHT_BIT_MIME), large) == [(250, False)]
        await connection.close()
        assert peer.mail[0].isascii()


# ── Progress ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("offers", ["", "PIPELINING", "PIPELINING,CHUNKING"])
async def test_progress_tells_phases_and_octets(offers: str) -> None:
    large = Bytes((b"x" * 62 + b"\r\n") * 4096)  # four chunks
    told: list[tuple[Phase, int]] = []
    async with Peer(polite(offers=offers)) as peer:
        connection = await open_to(peer)
        outcomes = await connection.send(transaction(large), large, lambda phase, octets: told.append((phase, octets)))
        await connection.close()
        assert outcomes[0].reply.code == 250
        phases = [phase for phase, _ in told]
        assert phases.index(Phase.CONTENT) > 0
        sent = [octets for phase, octets in told if phase is Phase.CONTENT]
        assert sent == sorted(sent)
        assert max(b - a for a, b in pairwise(sent)) <= 64 * 1024
        assert told[-1] == (Phase.END_OF_DATA, large.size)


# ── Introductions ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_introduced_before_a_message() -> None:
    script = polite(("XFORWARD", "250 2.0.0 ok"), offers="PIPELINING,XFORWARD NAME ADDR")
    async with Peer(script) as peer:
        connection = await open_to(peer)
        assert await connection.introduce({"NAME": "x.example", "ADDR": "192.0.2.1"}) == Reply(250, "2.0.0", "ok")
        assert await codes(connection, transaction(PLAIN)) == [(250, False)]
        await connection.close()
        assert peer.heard[0][1] == "XFORWARD NAME=x.example ADDR=192.0.2.1"


async def test_introduced_anew_by_xclient() -> None:
    script = polite(("XCLIENT", "220 mx.example"), offers="PIPELINING,XCLIENT ADDR")
    async with Peer(script) as peer:
        connection = await open_to(peer)
        reply = await connection.introduce({"ADDR": "192.0.2.1"}, by=Introduction.XCLIENT)
        assert reply is not None
        assert reply.code == 220
        assert connection.can_send
        await connection.close()
        assert peer.heard[0] == ["EHLO me.example", "XCLIENT ADDR=192.0.2.1", "EHLO me.example", "QUIT"]


@pytest.mark.parametrize("answer", ["421 4.3.2 bye", DROP, HANG])
async def test_an_introduction_that_ends_the_session(answer: str) -> None:
    async with Peer(polite(("XFORWARD", answer), offers="XFORWARD NAME")) as peer:
        connection = await open_to(peer, command=0.2)
        assert await connection.introduce({"NAME": "x"}) is None
        assert not connection.can_send
        await connection.close()


async def test_nobody_is_introduced_where_nobody_asked() -> None:
    async with Peer(polite()) as peer:
        connection = await open_to(peer)
        assert await connection.introduce({"NAME": "x"}) is None
        assert connection.can_send
        await connection.close()


# ── Goodbyes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_goodbye_nobody_answers_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatepost.delivery.connection._GOODBYE_S", 0.05)
    async with Peer(polite(("QUIT", HANG))) as peer:
        connection = await open_to(peer)
        async with asyncio.timeout(5):
            await connection.close()
        assert peer.heard[0][-1] == "QUIT"
