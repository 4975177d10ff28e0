"""TLS inside the stream: STARTTLS races and injections, stalls, garbage, large data, ending, what is remembered."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from gatepost.net import ConnectionLost, DeadlinePassed, HandshakeFailed, Stream
from gatepost.net.certificates import client_context
from gatepost.net.stream import RESERVE
from gatepost.net.tls import Layer


async def _receive(stream: Stream, octets: int) -> bytes:
    data = b""
    while len(data) < octets:
        more = await stream.receive()
        assert more, f"the stream ended after {len(data)} octets"
        data += more
    return data


async def _secured(server: Stream, client: Stream, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    await asyncio.gather(
        server.start_tls(server_tls, server_side=True),
        client.start_tls(client_tls, server_side=False, server_hostname="mx.example.org"),
    )


async def test_200_upgrades_with_data_right_behind_the_handshake(two_streams, server_tls, client_tls):
    async def server_side(stream: Stream) -> bytes:
        command = await stream.receive()
        thrown = stream.discard()
        stream.write(b"220 go ahead\r\n")
        await stream.start_tls(server_tls, server_side=True)
        assert (command, thrown) == (b"STARTTLS\r\n", 0)
        data = await _receive(stream, 3000)
        stream.write(b"250 heard\r\n")
        return data

    async def client_side(stream: Stream, data: bytes) -> bytes:
        stream.write(b"STARTTLS\r\n")
        assert await stream.receive() == b"220 go ahead\r\n"
        await stream.start_tls(client_tls, server_side=False, server_hostname="mx.example.org")
        stream.write(data)  # in one segment with the end of the handshake, or right behind it
        return await stream.receive()

    for turn in range(200):
        async with two_streams() as (server, client):
            data = (b"EHLO %d\r\n" % turn).ljust(3000, b".")
            heard, answer = await asyncio.gather(server_side(server), client_side(client, data))
            assert heard == data
            assert answer == b"250 heard\r\n"


async def test_data_in_one_segment_with_the_end_of_the_handshake(connected, server_tls):
    """The client's Finished and its first command are one piece: nothing of it may get lost or be read as plaintext."""
    async with connected() as (stream, peer):
        loop = asyncio.get_running_loop()
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context(verify=False).wrap_bio(there, back)
        upgrade = asyncio.ensure_future(stream.start_tls(server_tls, server_side=True))
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                peer.sendall(back.read())
                there.write(await loop.sock_recv(peer, 65536))
        client.write(b"EHLO a\r\n")
        client.write(b"x" * 40_000)
        peer.sendall(back.read())
        await upgrade
        assert await _receive(stream, 40_008) == b"EHLO a\r\n" + b"x" * 40_000


async def test_T1_plaintext_before_the_handshake_is_discarded_and_counted(
    connected, two_streams, server_tls, client_tls
):
    async with two_streams() as (server, client):
        client.write(b"STARTTLS\r\n")
        assert await server.receive() == b"STARTTLS\r\n"
        client.write(b"MAIL FROM:<evil@example.org>\r\n")
        while not (thrown := server.discard()):
            await asyncio.sleep(0)
        assert thrown == 30
        server.write(b"220 go ahead\r\n")
        assert await client.receive() == b"220 go ahead\r\n"
        await _secured(server, client, server_tls, client_tls)
        client.write(b"EHLO a\r\n")
        assert await server.receive() == b"EHLO a\r\n"


async def test_T1_plaintext_that_is_not_discarded_never_becomes_a_command(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        client.write(b"MAIL FROM:<evil@example.org>\r\n")
        upgrade = asyncio.ensure_future(server.start_tls(server_tls, server_side=True))
        with pytest.raises((HandshakeFailed, ConnectionLost)):
            await client.start_tls(client_tls, server_side=False, server_hostname="mx.example.org")
        with pytest.raises(HandshakeFailed):
            await upgrade
        assert server.pending == 0
        with pytest.raises(ConnectionLost):
            await server.receive()


async def test_T4_a_response_injected_before_the_handshake_fails_it(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        server.write(b"220 go ahead\r\n250-injected\r\n")
        client.unread((await client.receive()).removeprefix(b"220 go ahead\r\n"))
        assert client.pending == 14
        assert client.discard() == 14
        await _secured(server, client, server_tls, client_tls)
        server.write(b"250 real\r\n")
        assert await client.receive() == b"250 real\r\n"


async def test_T4_an_untrusted_certificate_is_told_in_words(two_streams, server_tls):
    async with two_streams() as (server, client):
        upgrade = asyncio.ensure_future(server.start_tls(server_tls, server_side=True))
        strict = client_context(verify=True)
        with pytest.raises(HandshakeFailed, match="certificate not trusted: "):
            await client.start_tls(strict, server_side=False, server_hostname="mx.example.org")
        with pytest.raises((HandshakeFailed, ConnectionLost)):
            await upgrade


async def test_opportunistic_tls_takes_any_certificate(two_streams, server_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_context(verify=False))
        assert client.tls is not None
        assert client.tls.version == "TLSv1.3"


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"EHLO a\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70_000]
)
async def test_T6_other_protocols_in_the_handshake(connected, server_tls, garbage):
    async with connected() as (stream, peer):
        upgrade = asyncio.ensure_future(stream.start_tls(server_tls, server_side=True))
        await asyncio.sleep(0)
        await asyncio.get_running_loop().sock_sendall(peer, garbage)
        with pytest.raises(HandshakeFailed):
            await upgrade
        await stream.close()
        assert stream.lost


@pytest.mark.parametrize("begun", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
async def test_T7_a_stalled_handshake_times_out(connected, server_tls, begun):
    async with connected() as (stream, peer):
        peer.send(begun)
        stream.deadline = asyncio.get_running_loop().time() + 0.02
        with pytest.raises(DeadlinePassed):
            await stream.start_tls(server_tls, server_side=True)
        stream.write(b"421 in the clear\r\n")
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b""  # nothing plain is ever said again


async def test_T7_a_handshake_that_trickles_times_out(connected, server_tls):
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_context(verify=False).wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    octets = hello.read()
    async with connected() as (stream, peer):
        loop = asyncio.get_running_loop()

        async def trickle() -> None:
            for octet in octets:
                peer.send(bytes([octet]))
                await asyncio.sleep(0.005)

        trickling = asyncio.ensure_future(trickle())
        stream.deadline = loop.time() + 0.03
        with pytest.raises(DeadlinePassed):
            await stream.start_tls(server_tls, server_side=True)
        trickling.cancel()


async def test_end_in_the_handshake(connected, server_tls):
    async with connected() as (stream, peer):
        peer.close()
        with pytest.raises(HandshakeFailed, match="closed"):
            await stream.start_tls(server_tls, server_side=True)


async def test_T3_tls_within_tls_is_a_bug(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_tls)
        with pytest.raises(RuntimeError, match="running already"):
            await server.start_tls(server_tls, server_side=True)


async def test_large_data_both_ways_and_back_pressure(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_tls)
        data = bytes(range(256)) * 8000

        async def write(stream: Stream) -> None:
            for at in range(0, len(data), 100_000):
                stream.write(data[at : at + 100_000])
                await stream.drain()

        received = await asyncio.gather(
            _receive(client, len(data)), _receive(server, len(data)), write(server), write(client)
        )
        assert received[0] == data
        assert received[1] == data


async def test_R7_backlog_under_tls_is_bounded(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_tls)
        client.write(bytes(range(256)) * 20_000)
        turns = 0
        while not server._paused and turns < 100_000:
            await asyncio.sleep(0)
            turns += 1
        assert RESERVE * 3 // 4 <= server.pending <= RESERVE
        assert len(server.get_buffer(-1)) <= RESERVE * 3 // 4
        assert await _receive(server, 256 * 20_000) == bytes(range(256)) * 20_000


async def test_records_cut_anywhere(connected, server_tls):
    async with connected() as (stream, peer):
        client = Layer(client_context(verify=False), server_side=False)
        loop = asyncio.get_running_loop()
        upgrade = asyncio.ensure_future(stream.start_tls(server_tls, server_side=True))
        rest = client.handshake(b"")
        while rest is None:
            peer.send(client.take())
            rest = client.handshake(await loop.sock_recv(peer, 65536))
        peer.send(client.take())
        await upgrade
        records = b"".join(client.seal(b"MAIL FROM:<a@example.org>\r\n")) + b"".join(client.seal(b"y" * 100))
        for at in range(len(records)):
            peer.send(records[at : at + 1])
            await asyncio.sleep(0)
        assert await _receive(stream, 127) == b"MAIL FROM:<a@example.org>\r\n" + b"y" * 100


async def test_close_notify_is_said_and_heard(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_tls)
        server.write(b"221 bye\r\n")
        closing = asyncio.ensure_future(server.close())
        assert await client.receive() == b"221 bye\r\n"
        assert await client.receive() == b""
        assert client._layer.ended  # by close_notify, not by a cut
        await client.close()
        await closing


async def test_half_close_under_tls_is_answered(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_tls)
        client.write(b"QUIT\r\n")
        client._transport.write(client._layer.closing())
        assert await server.receive() == b"QUIT\r\n"
        assert await server.receive() == b""
        server.write(b"221 bye\r\n")
        await server.drain()
        assert not server.lost


async def test_broken_records_end_the_connection(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_tls)
        lost = asyncio.Event()
        server.on_lost(lost.set)
        client._transport.write(b"MAIL FROM:<injected@example.org>\r\n")
        with pytest.raises(ConnectionLost):
            await server.receive()
        await lost.wait()


async def test_reset_under_tls_is_noticed_while_nobody_reads(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_tls)
        lost = asyncio.Event()
        server.on_lost(lost.set)
        server.write(b"x" * 100)
        await asyncio.sleep(0)
        client.abort()  # with unread octets in the kernel it is a reset
        await client.close()
        while not server.lost and not server.at_eof:
            await asyncio.sleep(0)


class _Watched:
    """Looks on at an incoming BIO."""

    most = 0

    def __init__(self, bio: ssl.MemoryBIO) -> None:
        self._bio = bio

    def write(self, data: bytes) -> int:
        written = self._bio.write(data)
        self.most = max(self.most, self._bio.pending)
        return written

    @property
    def pending(self) -> int:
        return self._bio.pending


async def test_an_idle_connection_keeps_no_large_bio(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_tls)
        server._layer._incoming = incoming = _Watched(server._layer._incoming)
        for _ in range(5):
            client.write(b"x" * 1_000_000)
            await _receive(server, 1_000_000)
        assert 0 < incoming.most <= 2048  # a memory BIO never gives back what it once held
        assert server._layer._incoming.pending == 0
        assert server._layer._outgoing.pending == 0
        assert not server._backlog


async def test_what_was_agreed_on_is_remembered(two_streams, server_tls, client_tls):
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, client_tls)
        assert server.tls is not None
        assert (server.tls.version, server.tls.server_name) == ("TLSv1.3", "mx.example.org")
        assert server.tls.cipher == client.tls.cipher


async def test_old_versions_are_not_spoken(two_streams, server_tls):
    assert server_tls.minimum_version == ssl.TLSVersion.TLSv1_2
    assert server_tls.options & ssl.OP_NO_RENEGOTIATION
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with two_streams() as (server, client):
        await _secured(server, client, server_tls, old)
        assert server.tls.version == "TLSv1.2"
