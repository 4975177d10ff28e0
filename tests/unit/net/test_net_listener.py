"""Listeners: sessions, failures contained, exhaustion, sockets handed in, implicit TLS; and connecting out."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from ipaddress import ip_address
from itertools import pairwise

import pytest

from gatepost.net import DeadlinePassed, HandshakeFailed, Stream, bind, connect, listen
from gatepost.net.listener import ACCEPTED_AT_ONCE


async def _echo(stream: Stream) -> None:
    while data := await stream.receive():
        stream.write(data)
        await stream.drain()


async def _said(address: tuple[str, int], data: bytes) -> bytes:
    client = await connect(*address, timeout=5)
    try:
        client.write(data)
        return await client.receive()
    finally:
        await client.close()


async def test_a_session_is_served_and_closed():
    listener = await listen(("127.0.0.1", 0), _echo)
    client = await connect(*listener.address, timeout=5)
    assert client.peer.address == ip_address("127.0.0.1")
    assert (str(client.peer.address), client.peer.port) == listener.address
    client.write(b"NOOP\r\n")
    assert await client.receive() == b"NOOP\r\n"
    assert listener.sessions == 1
    await client.close()
    await listener.close()
    await listener.finished()
    assert listener.sessions == 0


async def test_the_stream_knows_both_ends_over_ipv6():
    seen: list[Stream] = []

    async def look(stream: Stream) -> None:
        seen.append(stream)

    listener = await listen(("::1", 0), look)
    client = await connect("::1", listener.address[1], timeout=5)
    assert await client.receive() == b""
    assert seen[0].peer.address == ip_address("::1")
    assert seen[0].peer.port == client.local[1]
    assert seen[0].local == listener.address
    await client.close()
    await listener.close()
    await listener.finished()


async def test_a_failing_session_ends_alone_and_is_logged_once(caplog):
    async def fail(stream: Stream) -> None:
        if await stream.receive() == b"boom":
            raise ZeroDivisionError("in a session")
        stream.write(b"fine")

    listener = await listen(("127.0.0.1", 0), fail)
    with caplog.at_level(logging.ERROR):
        assert await _said(listener.address, b"boom") == b""
        assert await _said(listener.address, b"calm") == b"fine"
    assert len(caplog.records) == 1
    assert "ZeroDivisionError: in a session" in caplog.text
    await listener.close()
    await listener.finished()


async def test_a_lost_connection_is_no_failure(caplog, reset):
    listener = await listen(("127.0.0.1", 0), _echo)
    with caplog.at_level(logging.INFO), socket.create_connection(listener.address) as peer:
        while not listener.sessions:
            await asyncio.sleep(0)
        reset(peer)
        await listener.finished()
    assert not [record for record in caplog.records if record.name.startswith("gatepost")]
    await listener.close()


async def test_close_keeps_sessions_and_a_socket_that_was_handed_in():
    with bind("127.0.0.1", 0) as handed_in:
        listener = await listen(handed_in, _echo)
        client = await connect(*listener.address, timeout=5)
        client.write(b"1")
        assert await client.receive() == b"1"
        await listener.close()
        await listener.close()
        client.write(b"2")
        assert await client.receive() == b"2"
        queued = await connect(*listener.address, timeout=5)  # the kernel takes it: nobody accepts for now
        queued.write(b"3")
        successor = await listen(handed_in, _echo)
        assert await queued.receive() == b"3"
        for stream in (client, queued):
            await stream.close()
        await successor.close()
        await listener.finished()
        await successor.finished()


async def test_close_of_our_own_socket_frees_the_port():
    listener = await listen(("127.0.0.1", 0), _echo)
    await listener.close()
    with pytest.raises(ConnectionRefusedError):
        await connect(*listener.address, timeout=5)


async def test_cancel_ends_the_sessions_that_are_left():
    listener = await listen(("127.0.0.1", 0), _echo)
    client = await connect(*listener.address, timeout=5)
    client.write(b"1")
    assert await client.receive() == b"1"
    await listener.close()
    listener.cancel()
    await listener.finished()
    assert await client.receive() == b""
    await client.close()


class _Exhausted(socket.socket):
    """A listening socket of a system that has no descriptors left for a while."""

    failures = 3
    tries = 0

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_R7_no_descriptors_left_backs_off_without_spinning(caplog):
    with _Exhausted(socket.AF_INET, socket.SOCK_STREAM) as exhausted:
        exhausted.bind(("127.0.0.1", 0))
        listener = await listen(exhausted, _echo)
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await _said(listener.address, b"patience") == b"patience"
        assert loop.time() - start >= 0.3  # 0.05 + 0.1 + 0.2 less the clock's grain
        assert exhausted.tries <= 6
        assert len([record for record in caplog.records if "cannot accept" in record.message]) == 1
        await listener.close()
        await listener.finished()


async def test_close_while_backing_off():
    with _Exhausted(socket.AF_INET, socket.SOCK_STREAM) as exhausted:
        exhausted.failures = 1_000_000
        exhausted.bind(("127.0.0.1", 0))
        listener = await listen(exhausted, _echo)
        client = await connect(*listener.address, timeout=5)
        while not exhausted.tries:
            await asyncio.sleep(0)
        await listener.close()
        client.abort()
        await client.close()


class _Counting(socket.socket):
    accepted = 0

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        found = super().accept()
        self.accepted += 1
        return found


async def test_R7_a_storm_is_accepted_in_turns():
    with _Counting(socket.AF_INET, socket.SOCK_STREAM) as counting:
        counting.bind(("127.0.0.1", 0))
        counting.listen(512)
        peers = [socket.create_connection(counting.getsockname()) for _ in range(250)]
        listener = await listen(counting, _echo)
        turns = [0]
        while counting.accepted < 250:
            await asyncio.sleep(0)
            turns.append(counting.accepted)
        assert max(after - before for before, after in pairwise(turns)) == ACCEPTED_AT_ONCE
        for peer in peers:
            peer.close()
        await listener.close()
        await listener.finished()


async def test_implicit_tls_comes_before_the_session(server_tls, client_tls):
    async def tell(stream: Stream) -> None:
        assert stream.tls is not None
        assert stream.deadline is None
        stream.write(stream.tls.version.encode())

    listener = await listen(("127.0.0.1", 0), tell, tls=lambda: server_tls)
    client = await connect(*listener.address, timeout=5)
    await client.start_tls(client_tls, server_side=False, server_hostname="mx.example.org")
    assert await client.receive() == b"TLSv1.3"
    await client.close()
    await listener.close()
    await listener.finished()


async def test_T7_implicit_tls_has_a_time_limit(server_tls, caplog):
    listener = await listen(("127.0.0.1", 0), _echo, tls=lambda: server_tls, handshake_s=0.02)
    client = await connect(*listener.address, timeout=5)
    with caplog.at_level(logging.INFO, "gatepost.net"):
        assert await client.receive() == b""
    assert "took too long" in caplog.text
    await client.close()
    await listener.close()
    await listener.finished()


async def test_R7_the_oldest_of_too_many_handshakes_gives_way(server_tls, client_tls):
    listener = await listen(("127.0.0.1", 0), _echo, tls=lambda: server_tls, max_pending=2)
    stalling = [await connect(*listener.address, timeout=5) for _ in range(2)]
    while listener.sessions < 2:
        await asyncio.sleep(0)
    honest = await connect(*listener.address, timeout=5)
    await honest.start_tls(client_tls, server_side=False, server_hostname="mx.example.org")
    honest.write(b"EHLO a\r\n")
    assert await honest.receive() == b"EHLO a\r\n"
    assert await stalling[0].receive() == b""
    assert not stalling[1].at_eof
    for client in (honest, *stalling):
        await client.close()
    await listener.close()
    await listener.finished()


async def test_T6_plain_text_on_a_tls_port(server_tls):
    listener = await listen(("127.0.0.1", 0), _echo, tls=lambda: server_tls)
    client = await connect(*listener.address, timeout=5)
    client.write(b"EHLO a\r\n")
    assert not (await client.receive()).startswith(b"EHLO")  # an alert, or nothing
    await client.close()
    await listener.close()
    await listener.finished()


async def test_T6_tls_on_a_plain_port(client_tls: ssl.SSLContext):
    async def banner(stream: Stream) -> None:
        stream.write(b"220 mx.example.org\r\n")
        await stream.receive()

    listener = await listen(("127.0.0.1", 0), banner)
    client = await connect(*listener.address, timeout=5)
    with pytest.raises(HandshakeFailed):
        await client.start_tls(client_tls, server_side=False, server_hostname="mx.example.org")
    await client.close()
    await listener.close()
    await listener.finished()


async def test_a_port_that_is_taken_is_told_with_its_holder():
    listener = await listen(("127.0.0.1", 0), _echo)
    port = listener.address[1]
    with pytest.raises(
        OSError, match=rf"cannot listen at 127\.0\.0\.1:{port}: the port is taken by .+ \(process \d+\)"
    ):
        bind("127.0.0.1", port)
    await listener.close()


async def test_two_bound_sockets_cannot_both_listen():
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bind("127.0.0.1", port) as second:
            listener = await listen(first, _echo)
            with pytest.raises(OSError, match="the port is taken"):
                await listen(second, _echo)
            await listener.close()


def test_an_address_that_is_not_ours():
    with pytest.raises(OSError, match=r"cannot listen at 192\.0\.2\.1:0: this machine doesn't have that address"):
        bind("192.0.2.1", 0)


def test_a_host_that_is_no_name():
    with pytest.raises(OSError, match="it is no address and no name"):
        bind("no such host", 0)


def test_a_port_shared_by_workers():
    first = bind("127.0.0.1", 0, reuse_port=True)
    with first, bind("127.0.0.1", first.getsockname()[1], reuse_port=True) as second:
        assert first.getsockname() == second.getsockname()


def test_ipv6_is_ipv6_only():
    with bind("::1", 0) as bound:
        assert bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


async def test_connect_from_a_given_address():
    listener = await listen(("127.0.0.1", 0), _echo)
    client = await connect(*listener.address, timeout=5, source="127.0.0.2")
    assert client.local[0] == "127.0.0.2"
    await client.close()
    await listener.close()
    await listener.finished()


async def test_connect_by_name_tries_the_addresses_in_turn():
    listener = await listen(("127.0.0.1", 0), _echo)
    client = await connect("localhost", listener.address[1], timeout=5)
    assert client.peer.address == ip_address("127.0.0.1")
    await client.close()
    await listener.close()
    await listener.finished()


async def test_connect_is_bounded():
    with bind("127.0.0.1", 0) as full:
        full.listen(0)
        first = socket.create_connection(full.getsockname())  # fills the queue of one: further SYNs are dropped
        with pytest.raises(DeadlinePassed, match=r"within 0\.05 s"):
            await connect(*full.getsockname(), timeout=0.05)
        first.close()
