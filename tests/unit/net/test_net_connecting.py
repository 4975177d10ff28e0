"""Connecting over real sockets: who answers first, sources, the dead, proxies and such that mean no good."""

from __future__ import annotations

import contextlib
import errno
import gc
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from gatepost.delivery.connection import words
from gatepost.net import Connector, DeadlinePassed, Stream, connect, listen
from gatepost.net.proxies import ProxyRefused, Via
from gatepost.wire.socks import Proxy, Way
from unit.net.proxy_peer import ProxyPeer, Scripted, running

LIVE, OTHER, MUTE = "127.0.0.31", "127.0.0.32", "127.0.0.33"


@asynccontextmanager
async def server(*hosts: str, port: int = 0, greeting: bytes = b"220 hi\r\n") -> AsyncIterator[tuple[int, list[str]]]:
    """Listens at one port of several addresses; the port, and who has called, as "from>to"."""
    called: list[str] = []
    heard: set[Stream] = set()

    async def serve(stream: Stream) -> None:
        called.append(f"{stream.peer.address}>{stream.local[0]}")
        heard.add(stream)
        stream.write(greeting)
        while await stream.receive():
            pass

    listening = []
    for host in hosts:
        listening.append(await listen((host, port), serve))
        port = listening[0].address[1]
    try:
        yield port, called
    finally:
        for one in listening:
            await one.close()
        for stream in heard:
            stream.abort()
        for one in listening:
            await one.finished()


@contextmanager
def mute(host: str, port: int) -> Iterator[None]:
    """An address that never answers: its queue is full, so that what is sent there is dropped."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(0)
        for _ in range(8):
            caller = stack.enter_context(socket.socket(family))
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect((host, port))
        yield


async def said(stream: Stream, octets: int = 8) -> bytes:
    """What is heard first, and the end of the connection."""
    heard = b""
    while len(heard) < octets:
        heard += await stream.receive()
    stream.abort()
    await stream.close()
    return heard


def sockets_open() -> int:
    gc.collect()
    return sum(isinstance(one, socket.socket) and one.fileno() >= 0 for one in gc.get_objects())


# ── addresses ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_address_a_name_and_several_addresses():
    async with server(LIVE, "127.0.0.1") as (port, called):
        for host in (LIVE, "localhost", [LIVE, OTHER], ["127.0.0.1"]):
            assert await said(await connect(host, port, timeout=5)) == b"220 hi\r\n"
        assert [one.partition(">")[2] for one in called] == [LIVE, "127.0.0.1", LIVE, "127.0.0.1"]


async def test_ipv6_first_where_both_answer():
    async with server(LIVE, "::1") as (port, called):
        stream = await connect([LIVE, "::1"], port, timeout=5)
        assert str(stream.peer.address) == "::1"
        await said(stream)
        assert called == ["::1>::1"]


@pytest.mark.parametrize("dead", ["::1", MUTE])
async def test_the_next_address_is_called_when_one_does_not_answer(dead):
    async with server(LIVE) as (port, called):
        with mute(dead, port):
            stream = await Connector(next_after_s=0.02).connect([dead, LIVE], port, timeout=5)
            assert str(stream.peer.address) == LIVE
            await said(stream)
        assert len(called) == 1


async def test_the_next_address_is_called_at_once_when_one_refuses():
    async with server(LIVE) as (port, _):
        stream = await Connector(next_after_s=60).connect(["::1", OTHER, LIVE], port, timeout=5)
        assert str(stream.peer.address) == LIVE
        await said(stream)


async def test_two_that_do_not_answer_keep_nobody_from_the_third():
    async with server(LIVE) as (port, _):
        with mute(MUTE, port), mute(OTHER, port):
            stream = await Connector(next_after_s=0.01).connect([MUTE, OTHER, LIVE], port, timeout=5)
            assert str(stream.peer.address) == LIVE
            await said(stream)


async def test_the_losers_are_closed(until: Callable[..., object]):
    async with server(LIVE) as (port, _):
        with mute(MUTE, port):
            before = sockets_open()
            for _ in range(5):
                stream = await Connector(next_after_s=0.0).connect([MUTE, LIVE], port, timeout=5)
                await said(stream)
            stream = None  # type: ignore[assignment]
            await until(lambda: sockets_open() <= before + 1)  # what the server has of the last one


async def test_what_was_dead_is_called_last():
    async with server(LIVE) as (port, called):
        with mute(MUTE, port):
            connector = Connector(next_after_s=0.02)
            await said(await connector.connect([MUTE, LIVE], port, timeout=5))
            connector._next_after_s = 60.0  # by now MUTE is known: nobody waits for it first
            await said(await connector.connect([MUTE, LIVE], port, timeout=5))
        assert len(called) == 2


async def test_the_memory_of_the_dead_is_bounded():
    connector = Connector()
    for number in range(1500):
        with contextlib.suppress(OSError):
            await connector.connect(f"127.0.{number // 250}.{number % 250 + 1}", 1, timeout=5)
    assert len(connector._dead) <= 1000


async def test_all_refuse_and_none_answers():
    async with server(LIVE) as (port, _):
        with pytest.raises(OSError) as refused:
            await connect([OTHER, "127.0.0.34"], port, timeout=5)
        assert refused.value.errno == errno.ECONNREFUSED
        with mute(OTHER, port), mute(MUTE, port), pytest.raises(DeadlinePassed, match=r"within 0\.1 s"):
            await connect([OTHER, MUTE], port, timeout=0.1)


async def test_at_most_ten_addresses_are_called(monkeypatch: pytest.MonkeyPatch):
    from gatepost.net import connecting

    called: list[str] = []
    real = connecting._connected

    async def noted(address, port, source):
        called.append(str(address))
        return await real(address, port, source)

    monkeypatch.setattr(connecting, "_connected", noted)
    with pytest.raises(OSError):
        await connect([f"127.0.0.{number}" for number in range(100, 150)], 1, timeout=5)
    assert len(called) == 10


# ── where from ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_from_an_address_of_the_right_family():
    async with server(LIVE, "::1") as (port, called):
        for host, source in ((LIVE, ["::1", "127.0.0.9"]), ("::1", ["::1", "127.0.0.9"]), ([LIVE, "::1"], "127.0.0.9")):
            await said(await connect(host, port, timeout=5, source=source))
        assert called == [f"127.0.0.9>{LIVE}", "::1>::1", f"127.0.0.9>{LIVE}"]


async def test_no_address_to_call_from():
    with pytest.raises(OSError, match="::1 isn't called: there is no IPv6 address to call from"):
        await connect("::1", 25, timeout=5, source="127.0.0.9")
    with pytest.raises(OSError, match=r"192\.0\.2\.1, to call from, isn't this machine's") as caught:
        await connect(LIVE, 25, timeout=5, source="192.0.2.1")
    assert "192.0.2.1, to call from" in words(caught.value), "as the sender and the operator read it"


# ── proxies ────────────────────────────────────────────────────────────────────────────────────────────────────────


def via(proxy: Proxy) -> Via:
    return Via(proxy.host, proxy.port, proxy.tunnel)


@pytest.mark.parametrize("way", list(Way))
async def test_through_a_proxy(way):
    async with server(LIVE, "::1") as (port, called), running(ProxyPeer({"mx.example": (LIVE, port)})) as proxy:
        through = via(proxy.facts(way))
        for host in (LIVE, "::1", "mx.example"):
            stream = await connect(host, port, timeout=5, source="127.0.0.9", via=through)
            stream.write(b"EHLO x\r\n")
            assert stream.deadline is None
            assert await said(stream) == b"220 hi\r\n"
        assert proxy.asked == [(LIVE, port), ("::1", port), ("mx.example", port)]  # the name is not resolved here
        assert proxy.called_from == ["127.0.0.9"] * 3
        assert len(called) == 3


@pytest.mark.parametrize("way", list(Way))
async def test_a_proxy_is_told_who_we_are(way):
    async with server(LIVE) as (port, _), running(ProxyPeer(login=("ann", "s3cret"))) as proxy:
        await said(await connect(LIVE, port, timeout=5, via=via(proxy.facts(way, "ann", "s3cret"))))
        with pytest.raises(ProxyRefused, match="gives no way") as wrong:
            await connect(LIVE, port, timeout=5, via=via(proxy.facts(way, "ann", "guess")))
        assert "guess" not in str(wrong.value)
        assert proxy.as_user == [("ann", "s3cret"), ("ann", "guess")]


@pytest.mark.parametrize("way", list(Way))
async def test_the_next_address_through_a_proxy(way):
    async with server(LIVE) as (port, _), running(ProxyPeer()) as proxy:
        await said(await connect([OTHER, LIVE], port, timeout=5, via=via(proxy.facts(way))))
        assert proxy.asked == [(OTHER, port), (LIVE, port)]
        with pytest.raises(ProxyRefused, match=r"the connection was refused|it said 502 Bad Gateway"):
            await connect([OTHER], port, timeout=5, via=via(proxy.facts(way)))


async def test_no_proxy_there():
    with pytest.raises(ProxyRefused, match=r"the proxy 127\.0\.0\.1:1 can't be reached: "):
        await connect(LIVE, 25, timeout=5, via=via(Proxy(Way.SOCKS5, "127.0.0.1", 1)))


async def test_a_host_that_no_proxy_can_be_asked_for():
    async with running(ProxyPeer()) as proxy:
        with pytest.raises(OSError, match="no way to 'a b' can be asked for"):
            await connect("a b", 25, timeout=5, via=via(proxy.facts(Way.HTTP)))
        assert proxy.called_from == []


SAYS_GREETING_TOO = (b"\x05\x00", b"\x05\x00\x00\x01" + bytes(6) + b"220 hi\r\n")


@pytest.mark.parametrize(
    ("way", "pieces"),
    [(Way.SOCKS5, SAYS_GREETING_TOO), (Way.HTTP, (b"HTTP/1.1 200 OK\r\n\r\n220 hi\r\n",))],
)
async def test_what_the_server_says_in_one_piece_with_the_proxy_is_heard(way, pieces):
    async with running(Scripted(*pieces)) as proxy:
        assert await said(await connect(LIVE, 25, timeout=5, via=via(proxy.facts(way)))) == b"220 hi\r\n"


@pytest.mark.parametrize(
    ("way", "proxy", "why"),
    [
        (Way.SOCKS5, Scripted(b"\x04\x00"), "isn't a SOCKS5 proxy"),
        (Way.SOCKS5, Scripted(b"220 mx.example ESMTP\r\n"), "isn't a SOCKS5 proxy"),
        (Way.SOCKS5, Scripted(b"\x05\x00", b"\x05\x00\x00\x01", closes=True), "closed the connection"),
        (Way.SOCKS5, Scripted(closes=True), "closed the connection|Connection reset"),
        (Way.SOCKS5, Scripted(b"\x05\x00" + b"x" * 1000), "more than it was asked for"),
        (Way.HTTP, Scripted(b"HTTP/1.1 403 No\r\n\r\n"), "403 No"),
        (Way.HTTP, Scripted(b"HTTP/1.1 200 OK\r\n", closes=True), "closed the connection"),
        (Way.HTTP, Scripted(b"\x00" * 4096), "isn't an HTTP proxy"),
    ],
)
async def test_hostile_proxies(way, proxy, why, until):
    async with running(proxy):
        before = sockets_open()
        with pytest.raises(ProxyRefused, match=why):
            await connect(LIVE, 25, timeout=5, via=via(proxy.facts(way)))
        await until(lambda: sockets_open() <= before + 1)


@pytest.mark.parametrize("way", list(Way))
async def test_a_proxy_that_says_nothing_is_left_in_time(way):
    async with running(Scripted(b"")) as proxy:
        with pytest.raises(DeadlinePassed, match="through the proxy"):
            await connect(LIVE, 25, timeout=0.1, via=via(proxy.facts(way)))


async def test_a_proxy_whose_header_does_not_end_is_left():
    async with running(Scripted(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 997 + b"\r\n", repeats=True)) as proxy:
        with pytest.raises(ProxyRefused, match="its answer doesn't end"):
            await connect(LIVE, 25, timeout=30, via=via(proxy.facts(Way.HTTP)))
