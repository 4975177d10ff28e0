"""One connection, as the sessions use it: `await receive()`, `write()`, `await drain()`, `start_tls()`, `close()`.

A pull interface straight on `asyncio.BufferedProtocol`: all connections of a loop share one receive buffer, and a
future is made only when there is nothing to read. While nobody reads, the stream keeps reading into a bounded reserve,
so that a loss is noticed, and pauses when it is full. One alarm per stream, armed by the first wait under a deadline
and moved only when it rings: moving the deadline is an attribute write.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
from collections.abc import Callable
from typing import cast

from gatepost.model import Peer, Tls
from gatepost.net.alarms import Alarm, alarms_of
from gatepost.net.buffers import shared
from gatepost.net.errors import ConnectionLost, DeadlinePassed, HandshakeFailed
from gatepost.net.tls import RECORD, Layer, Shown

RESERVE = 64 * 1024  # octets kept for a session that doesn't read
HIGH_WATER = 64 * 1024  # octets of ours the peer hasn't taken, from which on drain() waits
CLOSE_SECONDS = 5.0  # how long a peer may take to hear our last words
_SLACK = 0.001  # seconds a timer may ring early: uvloop counts milliseconds
_SWALLOWED = 1024 * 1024  # octets thrown away for a peer that goes on talking while we close


class _Phase(enum.Enum):
    OPEN = enum.auto()
    LINGERING = enum.auto()  # our side is shut; what still arrives is swallowed, so that our last words aren't reset
    CLOSING = enum.auto()
    LOST = enum.auto()


_OPEN, _LINGERING, _CLOSING, _LOST = _Phase  # a member looked up in its class costs as much as a call


class Stream(asyncio.BufferedProtocol):
    """One connection. At most RESERVE octets wait unread, whatever the peer sends; after a loss nothing is waited for.

    `deadline` is a loop time: while it lies in the past, whatever would have to wait raises DeadlinePassed; data that
    is there is returned all the same. It is looked at when a wait begins, so set it before. `peer` may be replaced
    (PROXY protocol, a resolver for its name). One task reads and one writes; it may be the same.
    """

    __slots__ = (
        "_alarms",
        "_backlog",
        "_buffer",
        "_callback",
        "_cause",
        "_choked",
        "_ender",
        "_layer",
        "_limit",
        "_loop",
        "_paused",
        "_phase",
        "_reader",
        "_socket",
        "_swallowed",
        "_timer",
        "_transport",
        "_writer",
        "at_eof",
        "deadline",
        "local",
        "peer",
        "tls",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: socket.socket, peer: Peer, local: tuple[str, int]):
        self.peer = peer
        self.local = local
        self.tls: Tls | None = None
        self.deadline: float | None = None
        self.at_eof = False  # the peer has said all it will say; we may still answer
        self._loop = loop
        self._socket = connection
        self._buffer = shared("receive", RESERVE)
        self._backlog: bytes | bytearray = b""
        self._limit = RESERVE
        self._layer: Layer | None = None
        self._phase = _OPEN
        self._paused = False
        self._choked = False
        self._swallowed = 0
        self._cause: BaseException | None = None
        self._callback: Callable[[], None] | None = None
        self._alarms = alarms_of(loop)
        self._timer: Alarm | asyncio.TimerHandle | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._ender: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def receive(self) -> bytes:
        """All that has arrived, at least one octet; b"" at the end of what the peer says (half-close).

        Raises ConnectionLost when the connection is gone and everything that had arrived was returned, DeadlinePassed.
        """
        while not self._backlog:
            if self._phase is _LOST:
                raise self._loss()
            if self.at_eof:
                return b""
            if self.deadline is not None:
                self._arm(self.deadline)
            if self._reader is not None and not self._reader.done():
                raise RuntimeError("two tasks wait in receive() of one stream")
            self._reader = reader = self._loop.create_future()
            await reader
        data, self._backlog = self._backlog, b""
        if self._paused:
            self._go_on_reading()
        return data if type(data) is bytes else bytes(data)

    def receive_nowait(self) -> bytes:
        """What is there without waiting; b"" means nothing yet."""
        data, self._backlog = self._backlog, b""
        if self._paused and data:
            self._go_on_reading()
        return bytes(data)

    def _go_on_reading(self) -> None:
        self._paused = False
        self._transport.resume_reading()

    def unread(self, data: bytes) -> None:
        """Puts octets back in front of the backlog, to be received again (what followed a PROXY header)."""
        self._backlog = data + self._backlog
        self._bound()

    @property
    def pending(self) -> int:
        """Octets in the backlog, decrypted under TLS."""
        return len(self._backlog)

    @property
    def lost(self) -> bool:
        """Whether the connection is gone in both directions."""
        return self._phase is _LOST

    def discard(self) -> int:
        """Throws away all that has arrived, in the backlog and in the kernel, and returns how many octets that were.

        For STARTTLS, before the 220 is written: what a client sent before it could know the answer is an injection.
        Under TLS the kernel's octets are left alone, they may be half a record.
        """
        thrown = len(self.receive_nowait())
        return thrown if self._layer is not None else thrown + self._swallow_kernel()

    # ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        """Hands octets to the transport at once. After a loss or a close they go nowhere: drain() tells."""
        if self._phase is not _OPEN or not data or self._transport.is_closing():
            return
        if self._layer is None:
            self._transport.write(data)
            return
        try:
            for records in self._layer.seal(data):
                self._transport.write(records)
        except ssl.SSLError as error:
            self._break(error)

    async def drain(self) -> None:
        """Waits until the peer has taken enough of what was written. Raises ConnectionLost, DeadlinePassed."""
        while self._choked and self._phase is not _LOST:
            if self.deadline is not None:
                self._arm(self.deadline)
            self._writer = writer = _waiter(self._writer, self._loop, "drain")
            await writer
        if self._phase is _LOST:
            raise self._loss()

    # ── TLS ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start_tls(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> Tls:
        """Negotiates TLS within the deadline. The backlog belongs to the handshake: discard() before the 220.

        Raises HandshakeFailed, DeadlinePassed, ConnectionLost; after any of them the stream only closes, and nothing
        plain can be said or heard any more.
        """
        if self._layer is not None or self.tls is not None:
            raise RuntimeError("TLS is running already")
        layer = Layer(context, server_side=server_side, server_hostname=server_hostname)
        try:
            rest = layer.handshake(b"")
            while rest is None:
                self._transport.write(layer.take())
                records = await self.receive()
                if not records:
                    raise HandshakeFailed("the peer closed the connection during the handshake")
                rest = layer.handshake(records)
        except HandshakeFailed:
            self._transport.write(layer.take())
            self._phase = _CLOSING
            self._transport.close()
            raise
        except BaseException:
            self.abort()
            raise
        self._transport.write(layer.take())
        self._layer = layer
        self._limit = RESERVE - RECORD  # a record begun earlier may become complete on top
        self._buffer = self._buffer[: self._limit]
        self.tls = layer.facts()
        behind = rest + self._backlog
        self._backlog = b""
        self._open(behind)  # even if empty: what followed the handshake in its last piece waits inside the layer
        self._bound()
        return self.tls

    def shown(self) -> Shown:
        """The certificate that the peer has shown, once TLS runs."""
        return Shown() if self._layer is None else self._layer.shown()

    def _open(self, records: memoryview | bytes) -> None:
        layer = self._layer
        assert layer is not None
        try:
            self._keep(layer.open(records))
        except ssl.SSLError as error:
            self._break(error)
            return
        if answer := layer.take():  # a key update, or an alert
            self._transport.write(answer)
        if layer.ended:
            self.at_eof = True

    def _break(self, error: ssl.SSLError) -> None:
        """The peer's records are broken: the alert goes out and the connection ends."""
        self._cause = error
        if self._layer is not None and (alert := self._layer.take()):
            self._transport.write(alert)
        self._transport.close()
        if self._transport.get_write_buffer_size():  # a peer that doesn't take it could keep us here
            self._transport.abort()

    # ── ending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Has `callback` called once when the connection is gone, even while nobody waits; None takes it back."""
        self._callback = callback
        if callback is not None and self._phase is _LOST:
            self._callback = None
            self._loop.call_soon(callback)

    async def close(self, within_s: float = CLOSE_SECONDS) -> None:
        """Flushes, says close_notify under TLS and closes, within `within_s` seconds; what is still heard is dropped.

        A peer that is still talking would answer our last words with a reset and lose them: for it only our side is
        shut at first.
        """
        if self._phase is _OPEN:
            if self._layer is not None:
                self._transport.write(self._layer.closing())
            talking = bool(self.receive_nowait()) | bool(self._swallow_kernel())
            if talking and not self.at_eof and self._transport.can_write_eof():
                self._phase = _LINGERING
                try:
                    self._transport.write_eof()
                except OSError:  # the peer was quicker: there is nothing left to shut
                    self._phase = _CLOSING
                    self._transport.close()
            else:
                self._phase = _CLOSING
                self._transport.close()
        self.deadline = self._loop.time() + within_s
        while self._phase is not _LOST:
            try:
                if self.deadline is not None:
                    self._arm(self.deadline)
                self._ender = ender = _waiter(self._ender, self._loop, "close")
                await ender
            except DeadlinePassed:
                self.abort()
                self.deadline = None
            except asyncio.CancelledError:
                self.abort()
                raise

    def abort(self) -> None:
        """Ends the connection at once; what was not sent is lost."""
        if self._phase is not _LOST:
            self._phase = _CLOSING
            self._transport.abort()

    def _swallow_kernel(self) -> int:
        """Reads what the kernel has for us and throws it away, bounded; a reset ends the connection."""
        thrown = 0
        try:
            while thrown < _SWALLOWED and (octets := self._socket.recv_into(self._buffer)):
                thrown += octets
        except BlockingIOError:
            pass  # that was all
        except OSError as error:
            self._cause = self._cause or error
            self._transport.abort()
        return thrown

    def _loss(self) -> ConnectionLost:
        lost = ConnectionLost(str(self._cause or "the connection is closed"))
        lost.__cause__ = self._cause
        return lost

    # ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _arm(self, deadline: float) -> None:
        """Before a wait: raises if the deadline has passed, else sees to it that the timer rings no later."""
        if deadline - self._loop.time() < _SLACK:
            raise DeadlinePassed("the peer took too long")
        timer = self._timer
        if timer is not None:
            if timer.when() <= deadline:
                return
            timer.cancel()
        self._timer = self._alarms.at(self._loop, deadline, self._ring)

    def _ring(self) -> None:
        """Moves on to a later deadline, or wakes who waits: they look at the clock themselves. Else it rests."""
        self._timer = None
        if self.deadline is None or (self._reader is None and self._writer is None and self._ender is None):
            return
        if self.deadline - self._loop.time() >= _SLACK:
            self._timer = self._alarms.at(self._loop, self.deadline, self._ring)
        else:
            self._wake_all()

    # ── what the transport calls ───────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by behaviour only
        self._transport.set_write_buffer_limits(HIGH_WATER)

    def get_buffer(self, sizehint: int) -> memoryview:
        backlog = self._backlog
        return self._buffer[: self._limit - len(backlog)] if backlog else self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._phase is not _OPEN:
            self._swallowed += nbytes
            if self._swallowed > _SWALLOWED:
                self._transport.abort()
            return
        if self._layer is not None:
            self._open(self._buffer[:nbytes])
        elif self._backlog:
            self._keep(self._buffer[:nbytes])
        else:
            self._backlog = bytes(self._buffer[:nbytes])
        if len(self._backlog) >= self._limit:
            self._bound()
        reader = self._reader
        if reader is not None and (self._backlog or self.at_eof):
            self._reader = None
            if not reader.done():
                reader.set_result(None)

    def _keep(self, data: bytes | memoryview) -> None:
        if not self._backlog:
            self._backlog = bytes(data)
            return
        if isinstance(self._backlog, bytes):
            self._backlog = bytearray(self._backlog)
        self._backlog += data  # many small segments grow one array instead of copying all for each

    def _bound(self) -> None:
        if len(self._backlog) >= self._limit and not self._paused and not self.at_eof:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self.at_eof = True
        _wake(self._reader)
        self._reader = None
        return self._phase is _OPEN  # a half-close: what was received is still answered

    def connection_lost(self, exc: BaseException | None) -> None:
        self._phase = _LOST
        self._cause = self._cause or exc
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_all()
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        _wake(self._writer)
        self._writer = None

    def _wake_all(self) -> None:
        _wake(self._reader)
        _wake(self._writer)
        _wake(self._ender)
        self._reader = self._writer = self._ender = None


def _waiter(current: asyncio.Future[None] | None, loop: asyncio.AbstractEventLoop, what: str) -> asyncio.Future[None]:
    """A new future to wait on; two tasks that wait for the same thing are a bug."""
    if current is not None and not current.done():
        raise RuntimeError(f"two tasks wait in {what}() of one stream")
    return loop.create_future()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
