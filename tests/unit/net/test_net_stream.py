"""The stream in the clear: receiving, bounds, half-close, loss, deadlines, back-pressure, ending."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gatepost.net import ConnectionLost, DeadlinePassed
from gatepost.net.stream import HIGH_WATER, RESERVE


async def _read(peer: socket.socket, octets: int) -> bytes:
    data = b""
    while len(data) < octets:
        more = await asyncio.get_running_loop().sock_recv(peer, 65536)
        assert more, f"the stream ended after {len(data)} octets"
        data += more
    return data


async def test_receive_returns_all_that_has_arrived(connected, until):
    async with connected() as (stream, peer):
        peer.send(b"EHLO a\r\n")
        await until(lambda: stream.pending == 8)
        peer.send(b"NOOP\r\n")
        await until(lambda: stream.pending == 14)
        assert await stream.receive() == b"EHLO a\r\nNOOP\r\n"
        assert stream.pending == 0
        assert stream.receive_nowait() == b""


async def test_receive_does_not_suspend_when_data_is_there(connected, until):
    async with connected() as (stream, peer):
        peer.send(b"NOOP\r\n")
        await until(lambda: stream.pending > 0)
        with pytest.raises(StopIteration) as done:
            stream.receive().send(None)
        assert done.value.value == b"NOOP\r\n"


async def test_receive_waits_for_data(connected):
    async with connected() as (stream, peer):
        waiting = asyncio.ensure_future(stream.receive())
        await asyncio.sleep(0)
        peer.send(b"QUIT\r\n")
        assert await waiting == b"QUIT\r\n"


async def test_receive_again_after_being_cancelled(connected):
    async with connected() as (stream, peer):
        waiting = asyncio.ensure_future(stream.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        peer.send(b"NOOP\r\n")
        assert await stream.receive() == b"NOOP\r\n"


async def test_two_tasks_that_receive_are_a_bug(connected):
    async with connected() as (stream, peer):
        waiting = asyncio.ensure_future(stream.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks"):
            await stream.receive()
        peer.send(b"x")
        assert await waiting == b"x"


async def test_connections_share_a_buffer_and_keep_their_octets(connected, until):
    async with connected() as (one, peer_of_one), connected() as (two, peer_of_two):
        assert one.get_buffer(-1).obj is two.get_buffer(-1).obj
        peer_of_one.send(b"a" * 1000)
        await until(lambda: one.pending == 1000)
        peer_of_two.send(b"b" * 2000)
        await until(lambda: two.pending == 2000)
        assert await one.receive() == b"a" * 1000
        assert await two.receive() == b"b" * 2000


async def test_unread_puts_octets_back_in_front(connected, until):
    async with connected() as (stream, peer):
        peer.send(b"PROXY UNKNOWN\r\nEHLO")
        line, rest = (await stream.receive()).split(b"\r\n")
        stream.unread(rest)
        peer.send(b" a\r\n")
        await until(lambda: stream.pending == 8)
        assert line == b"PROXY UNKNOWN"
        assert await stream.receive() == b"EHLO a\r\n"


async def test_R7_backlog_is_bounded_and_reading_resumes(connected):
    async with connected() as (stream, peer):
        sent = 0
        data = bytes(range(256)) * 256
        quiet = 0
        while quiet < 50:  # until neither the kernel nor the stream takes more
            try:
                sent += peer.send(data[sent % 256 :])
                quiet = 0
            except BlockingIOError:
                quiet += 1
            await asyncio.sleep(0)
            assert stream.pending <= RESERVE
        assert stream.pending == RESERVE
        assert sent > 2 * RESERVE
        received = bytearray()
        while len(received) < sent:
            piece = await stream.receive()
            assert len(piece) <= RESERVE
            received += piece
        assert received == (data * (sent // len(data) + 1))[:sent]


async def test_R7_many_small_segments_stay_bounded(connected):
    async with connected() as (stream, peer):
        for _ in range(RESERVE // 2 + 10):  # delivered as the transport would, two octets at a time
            room = stream.get_buffer(-1)
            room[:2] = b"ab"
            stream.buffer_updated(min(2, len(room)))
            if stream.pending == RESERVE:
                break
        assert stream.pending == RESERVE
        assert await stream.receive() == b"ab" * (RESERVE // 2)
        peer.send(b"more")
        assert await stream.receive() == b"more"


async def test_half_close_is_answered(connected):
    async with connected() as (stream, peer):
        peer.send(b"QUIT\r\n")
        peer.shutdown(socket.SHUT_WR)
        assert await stream.receive() == b"QUIT\r\n"
        assert await stream.receive() == b""
        assert await stream.receive() == b""
        assert stream.at_eof
        assert not stream.lost
        stream.write(b"221 bye\r\n")
        await stream.drain()
        assert await _read(peer, 9) == b"221 bye\r\n"


async def test_half_close_while_nobody_reads_is_no_loss(connected, until):
    async with connected() as (stream, peer):
        lost = []
        stream.on_lost(lambda: lost.append(True))
        peer.send(b"DATA")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: stream.at_eof)
        assert not lost
        assert await stream.receive() == b"DATA"
        assert await stream.receive() == b""


async def test_reset_is_noticed_while_nobody_reads(connected, reset, until):
    async with connected() as (stream, peer):
        lost = []
        stream.on_lost(lambda: lost.append(True))
        peer.send(b"RSET\r\n")
        await until(lambda: stream.pending > 0)
        reset(peer)
        await until(lambda: stream.lost)
        assert lost == [True]
        assert await stream.receive() == b"RSET\r\n"  # what had arrived is still returned
        with pytest.raises(ConnectionLost):
            await stream.receive()
        with pytest.raises(ConnectionLost):
            await stream.drain()
        stream.write(b"250 nobody hears this\r\n")
        assert stream.discard() == 0
        await stream.close()


async def test_reset_wakes_who_waits(connected, reset):
    async with connected() as (stream, peer):
        waiting = asyncio.ensure_future(stream.receive())
        await asyncio.sleep(0)
        reset(peer)
        with pytest.raises(ConnectionLost):
            await waiting


async def test_on_lost_after_the_loss_and_taken_back(connected, reset, until):
    async with connected() as (stream, peer):
        lost = []
        stream.on_lost(lambda: lost.append("taken back"))
        stream.on_lost(None)
        reset(peer)
        await until(lambda: stream.lost)
        assert lost == []
        stream.on_lost(lambda: lost.append("late"))
        await until(lambda: bool(lost))
        assert lost == ["late"]


async def test_R6_deadline_ends_a_wait(connected):
    async with connected() as (stream, _):
        loop = asyncio.get_running_loop()
        stream.deadline = loop.time() + 0.02
        with pytest.raises(DeadlinePassed):
            await stream.receive()
        assert loop.time() >= stream.deadline - 0.002
        with pytest.raises(DeadlinePassed):  # it stays passed until it is moved
            await stream.receive()
        assert stream._timer is None


async def test_R6_deadline_is_for_the_whole_command_not_per_octet(connected):
    async with connected() as (stream, peer):
        loop = asyncio.get_running_loop()
        stream.deadline = loop.time() + 0.05
        octets = 0
        with pytest.raises(DeadlinePassed):
            while octets < 10_000:
                loop.call_later(0.005, peer.send, b"x")
                octets += len(await stream.receive())
        assert 0 < octets < 50
        await asyncio.sleep(0.006)  # the last octet's timer


async def test_deadline_in_the_past_does_not_hide_data(connected, until):
    async with connected() as (stream, peer):
        peer.send(b"NOOP\r\n")
        await until(lambda: stream.pending > 0)
        stream.deadline = 0.0
        assert await stream.receive() == b"NOOP\r\n"
        with pytest.raises(DeadlinePassed):
            await stream.receive()


async def test_deadline_re_arms_lazily_and_fires_once(connected, monkeypatch):
    async with connected() as (stream, peer):
        loop = asyncio.get_running_loop()
        armed = []
        rung = []
        ring = type(stream)._ring
        monkeypatch.setattr(type(stream), "_ring", lambda self: (rung.append(loop.time()), ring(self)))
        start = stream.deadline = loop.time() + 0.03
        for _ in range(100):
            peer.send(b"x")
            await stream.receive()
            armed.append(stream._timer)
            stream.deadline = loop.time() + 0.06
        assert len({id(timer) for timer in armed if timer is not None}) <= 3  # not one timer per read
        with pytest.raises(DeadlinePassed):
            await stream.receive()
        assert loop.time() >= start + 0.02
        assert len(rung) <= 4


async def test_deadline_moved_nearer_is_obeyed_by_the_next_wait(connected):
    async with connected() as (stream, peer):
        loop = asyncio.get_running_loop()
        stream.deadline = loop.time() + 1000
        peer.send(b"x")
        await stream.receive()
        stream.deadline = loop.time() + 0.01
        with pytest.raises(DeadlinePassed):
            await stream.receive()


async def test_no_deadline_needs_no_timer(connected):
    async with connected() as (stream, peer):
        waiting = asyncio.ensure_future(stream.receive())
        await asyncio.sleep(0)
        assert stream._timer is None
        peer.send(b"x")
        await waiting


async def test_drain_waits_for_a_slow_peer(connected):
    async with connected() as (stream, peer):
        block = b"x" * HIGH_WATER
        stream.write(b"first")
        await stream.drain()  # below the high-water mark it returns at once
        written = 5
        while not stream._choked:
            stream.write(block)
            written += len(block)
            await asyncio.sleep(0)
        draining = asyncio.ensure_future(stream.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        received = len(await _read(peer, written))
        await draining
        assert received == written


async def test_R6_drain_obeys_the_deadline(connected):
    async with connected() as (stream, _):
        while not stream._choked:
            stream.write(b"x" * HIGH_WATER)
            await asyncio.sleep(0)
        stream.deadline = asyncio.get_running_loop().time() + 0.01
        with pytest.raises(DeadlinePassed):
            await stream.drain()


async def test_F10_discard_counts_the_backlog_and_what_the_kernel_has(connected, until):
    async with connected() as (stream, peer):
        peer.send(b"STARTTLS\r\nMAIL FROM:<a@b>\r\n")
        await until(lambda: stream.pending > 0)
        peer.send(b"RCPT TO:<c@d>\r\n")  # no turn of the loop: only the kernel knows of it
        assert stream.discard() == 27 + 15
        assert stream.pending == 0
        peer.send(b"NOOP\r\n")
        assert await stream.receive() == b"NOOP\r\n"


async def test_close_flushes_what_was_written(connected):
    async with connected() as (stream, peer):
        data = b"x" * 3_000_000
        stream.write(data)
        closing = asyncio.ensure_future(stream.close())
        assert len(await _read(peer, len(data))) == len(data)
        await closing
        assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""
        assert stream.lost


async def test_close_lets_a_talking_peer_hear_the_last_words(connected):
    async with connected() as (stream, peer):
        loop = asyncio.get_running_loop()
        peer.send(b"MAIL FROM:<a@b>\r\n" * 100)
        stream.write(b"421 too many errors\r\n")
        closing = asyncio.ensure_future(stream.close())
        await asyncio.sleep(0)
        peer.send(b"RCPT TO:<c@d>\r\n" * 100)
        assert await _read(peer, 21) == b"421 too many errors\r\n"
        assert await loop.sock_recv(peer, 1) == b""
        assert not closing.done()
        peer.shutdown(socket.SHUT_WR)
        await closing


@pytest.mark.parametrize("talk", [b"", b"NOOP\r\n"])
async def test_close_is_bounded(connected, talk):
    async with connected() as (stream, peer):
        loop = asyncio.get_running_loop()
        if talk:
            peer.send(talk)
        else:
            while not stream._choked:
                stream.write(b"x" * HIGH_WATER)
                await asyncio.sleep(0)
        before = loop.time()
        await stream.close(within_s=0.02)
        assert stream.lost
        assert loop.time() - before < 2


async def test_close_swallows_a_flood_only_so_far(connected):
    async with connected() as (stream, peer):
        loop = asyncio.get_running_loop()
        peer.send(b"x")
        closing = asyncio.ensure_future(stream.close(within_s=30))
        with pytest.raises(OSError):  # a broken pipe or a reset, as it falls
            while True:
                await loop.sock_sendall(peer, b"x" * 65536)
        await closing
        assert stream.lost


async def test_cancelled_close_aborts(connected, until):
    async with connected() as (stream, peer):
        peer.send(b"x")
        closing = asyncio.ensure_future(stream.close(within_s=30))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await until(lambda: stream.lost)
