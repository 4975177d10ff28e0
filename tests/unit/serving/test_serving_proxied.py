"""PROXY protocol at a listener, over real connections: trusted peers name clients, others can't. Attacks I6, F8, R6."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import trustme

from gatepost.net import Stream, connect, listen
from gatepost.serving.limits import SessionCounter, SessionLimits
from gatepost.serving.proxied import ProxyDoor
from gatepost.serving.reception import Reception
from gatepost.testing.rig import Rig

V1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 40000 2525\r\n"
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0f"
    + ip_address("203.0.113.9").packed
    + ip_address("192.0.2.1").packed
    + b"\x9c\x40\x09\xdd"
    + b"\x04\x00\x00"
)
V2_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
LOOPBACK = ip_network("127.0.0.0/8")


class Here:
    """A listener with a proxy in front of it, and what became of its connections."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.receptions: list[Reception] = []
        self.listener: Any = None
        self.clients: list[Stream] = []

    async def serve(self, stream: Stream) -> None:
        self.receptions.append(Reception(self.rig.place, stream, tls=stream.tls is not None))
        await self.receptions[-1].run()

    async def call(self, *pieces: bytes) -> Stream:
        client = await connect(*self.listener.address, timeout=5)
        self.clients.append(client)
        for piece in pieces:
            client.write(piece)
            await asyncio.sleep(0)
        return client


@asynccontextmanager
async def listening(*, trusted: str = "127.0.0.0/8", within_s: float = 30.0, **words: Any) -> AsyncIterator[Here]:
    async with Rig() as rig:
        here = Here(rig)
        door = ProxyDoor("mx", [ip_network(trusted)], within_s=within_s)
        here.listener = await listen(("127.0.0.1", 0), here.serve, preface=door, **words)
        try:
            yield here
        finally:
            await here.listener.close()
            here.listener.cancel()
            await here.listener.finished()
            for client in here.clients:
                client.abort()
                await client.close()


async def reply(client: Stream) -> str:
    said = b""
    while not said.endswith(b"\r\n"):
        data = await client.receive()
        if not data:
            break
        said += data
    return said.decode()


async def rest(client: Stream) -> bytes:
    """Everything up to the end of the connection."""
    said = b""
    try:
        while data := await client.receive():
            said += data
    except OSError:
        pass  # a reset is an end too
    return said


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
async def test_the_named_client_is_the_peer(header: bytes) -> None:
    async with listening() as here:
        client = await here.call(header)
        assert (await reply(client)).startswith("220 mx.test")
        client.write(b"EHLO client.example\r\n")
        assert "greets 203.0.113.9" in await reply(client)
        session = here.receptions[0].session
        assert (session.peer.address, session.peer.port) == (ip_address("203.0.113.9"), 40000)
        assert session.peer.via == ip_address("127.0.0.1")
        assert session.local == ("192.0.2.1", 2525)
        [facts] = here.rig.records.kinds("session")
        assert (facts["peer"], facts["port"], facts["via"]) == ("203.0.113.9", 40000, "127.0.0.1")


async def test_received_names_the_client_and_not_the_proxy() -> None:
    async with listening() as here:
        client = await here.call(V2)
        for line in (
            b"",
            b"EHLO c.example\r\n",
            b"MAIL FROM:<a@b.example>\r\n",
            b"RCPT TO:<c@d.example>\r\n",
            b"DATA\r\n",
        ):
            client.write(line)
            assert (await reply(client))[:1] in "23"
        client.write(b"Subject: x\r\n\r\nx\r\n.\r\n")
        assert (await reply(client)).startswith("250")
        [entry] = await here.rig.spool.entries()
        received = b"".join(entry.content.chunks())
        assert b"from c.example ([203.0.113.9])" in received
        assert b"127.0.0.1" not in received


@pytest.mark.parametrize("header", [V2_LOCAL, b"PROXY UNKNOWN\r\n"], ids=["v2 LOCAL", "v1 UNKNOWN"])
async def test_a_header_that_names_nobody_leaves_the_connection_as_it_is(header: bytes) -> None:
    async with listening() as here:
        client = await here.call(header)
        assert (await reply(client)).startswith("220")
        peer = here.receptions[0].session.peer
        assert (peer.address, peer.port, peer.via) == (ip_address("127.0.0.1"), client.local[1], None)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
async def test_attack_i6_from_an_untrusted_peer_it_is_only_a_bad_command(header: bytes) -> None:
    async with listening(trusted="192.0.2.0/24") as here:
        client = await here.call(header)
        said = b"\r\n"
        while b"\r\n5" not in said:  # 554 where it came before the banner, else 500
            said += await client.receive()
        assert here.receptions[0].session.peer.address == ip_address("127.0.0.1")


async def test_attack_f8_octets_behind_the_header_that_dont_wait_for_the_banner() -> None:
    async with listening() as here:
        client = await here.call(V1 + b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n")
        assert (await rest(client)).startswith(b"554")


@pytest.mark.parametrize(
    "octets", [b"EHLO x\r\n", b"\0" + V1, b" " + V2, V1[:9] + b"\0\0\0\0\0\0\n", V2[:13] + b"\x11\xff\xff"]
)
async def test_attack_i6_a_trusted_peer_without_the_header_is_closed_unheard(
    octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening() as here:
        with caplog.at_level(logging.WARNING):
            client = await here.call(octets)
            assert await rest(client) == b""
        assert not here.receptions
        assert "127.0.0.1 is in proxy_protocol" in caplog.text


@pytest.mark.parametrize("begun", [b"", V1[:20], V2[:15]])
async def test_attack_i6_a_slow_header_has_a_bounded_time(begun: bytes) -> None:
    async with listening(within_s=0.05) as here:
        client = await here.call(begun)
        assert await rest(client) == b""
        assert not here.receptions


async def test_attack_r6_the_time_isnt_renewed_by_pieces_of_the_header() -> None:
    async with listening(within_s=0.2) as here:
        client = await here.call()
        loop = asyncio.get_running_loop()
        pieces = [bytes([octet]) for octet in b"PROXY UNKNOWN".ljust(100)]  # more than its length would end it

        async def trickle() -> None:
            while pieces:
                client.write(pieces.pop(0))
                client.deadline = loop.time() + 0.02
                try:
                    if await client.receive() == b"":
                        return
                except TimeoutError:
                    continue
                except OSError:
                    return

        await trickle()
        assert pieces
        assert not here.receptions


async def test_a_health_check_that_only_connects_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as here:
        with caplog.at_level(logging.INFO):
            client = await here.call()
            while not here.listener.sessions:
                await asyncio.sleep(0)
            await client.close()
            while here.listener.sessions:
                await asyncio.sleep(0)
        assert not caplog.records


async def test_of_too_many_waiting_for_their_header_the_oldest_gives_way() -> None:
    async with listening(max_pending=2) as here:
        first = await here.call(V1[:5])
        second, third = await here.call(V1[:5]), await here.call(V1[:5])
        assert await rest(first) == b""
        for client in (second, third):
            client.write(V1[5:])
            assert (await reply(client)).startswith("220")


@pytest.fixture(scope="module")
def tls() -> Iterator[tuple[ssl.SSLContext, ssl.SSLContext]]:
    """A server's context and a client's that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mx.test").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    yield server, client


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
async def test_attack_i6_the_header_comes_before_implicit_tls_and_no_octet_is_lost(
    header: bytes, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with listening(tls=lambda: tls[0]) as here:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = tls[1].wrap_bio(incoming, outgoing, server_hostname="mx.test")
        with pytest.raises(ssl.SSLWantReadError):
            hello.do_handshake()
        client = await here.call(header + outgoing.read())  # one segment: the ClientHello right behind the header
        while True:
            incoming.write(await client.receive())
            try:
                hello.do_handshake()
            except ssl.SSLWantReadError:
                continue
            break
        client.write(outgoing.read())
        banner = b""
        while not banner:
            try:
                banner = hello.read()
            except ssl.SSLWantReadError:
                incoming.write(await client.receive())
        assert banner.startswith(b"220 mx.test")
        assert here.receptions[0].session.peer.address == ip_address("203.0.113.9")


async def test_limits_count_the_named_clients() -> None:
    async with listening() as here:
        here.rig.surroundings.counter.limits = SessionLimits(0, 1)
        counter: SessionCounter = here.rig.place.counter
        first = await here.call(V1)
        assert (await reply(first)).startswith("220")
        same = await here.call(V2)
        assert (await reply(same)).startswith("421")
        other = await here.call(V1.replace(b".9 ", b".8 "))
        assert (await reply(other)).startswith("220")
        assert counter.in_all == 2
