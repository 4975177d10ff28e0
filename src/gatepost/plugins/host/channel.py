"""Frames over a socket, for either side: out in batches, in as they are completed.

What is sent within one turn of the loop leaves in one write, so that the questions of many sessions cost one system
call. Reading is bounded by the decoder, writing by whoever looks at `is_full` before sending more.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar, cast

from gatepost.wire.host import Decoder, Frame, FrameError, encode

F = TypeVar("F")
HIGH_WATER = 1024 * 1024  # octets on their way out, beyond which `is_full`
_BATCH = 64 * 1024  # octets that wait for the end of a turn
_LAST_READS = 64  # of 64 KiB, once the other side has gone


class Channel(asyncio.Protocol, Generic[F]):
    """One end of the dialogue. Invariant: after `on_closed` nothing is heard; it is called once."""

    def __init__(
        self,
        decoder: Decoder[F],
        on_frame: Callable[[F | FrameError], None],
        on_closed: Callable[[], None],
        on_room: Callable[[], None] | None = None,
    ) -> None:
        """`on_room` is called when a full channel has room again."""
        self._decoder = decoder
        self._on_frame = on_frame
        self._on_closed = on_closed
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._out_size = 0
        self._is_closed = False
        self._gone = asyncio.Event()
        self.is_full = False
        """The other side doesn't read; what is sent all the same is kept."""

    async def open(self, end: socket.socket) -> None:
        """Begin, on this socket; it is closed with the channel."""
        await self._loop.create_unix_connection(lambda: self, sock=end)

    def send(self, frame: Frame) -> None:
        """ValueError if the frame is too large, TypeError if its facts aren't plain data; then nothing is sent."""
        data = encode(frame)
        if self._is_closed:
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > _BATCH:
            self._flush()

    async def finish(self) -> None:
        """Close once everything sent has left; hear no more."""
        self._flush()
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()
            await self._gone.wait()

    def finish_reading(self, end: socket.socket) -> None:
        """The other side has gone: hear what it still said."""
        if self._is_closed:
            return
        with suppress(OSError):
            for _ in range(_LAST_READS):
                data = end.recv(64 * 1024)
                if not data:
                    break
                self.data_received(data)

    async def close(self) -> None:
        """Hear and say no more."""
        self._is_closed = True
        self._out.clear()
        if self._transport is not None:
            self._transport.abort()
            await self._gone.wait()

    # ── what the loop calls ────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's isn't registered as one
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._flush()

    def data_received(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            if self._is_closed:
                return
            self._on_frame(frame)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._gone.set()
        if not self._is_closed:
            self._is_closed = True
            self._on_closed()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if self._on_room is not None:
            self._on_room()

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._is_closed:
            out, self._out, self._out_size = self._out, [], 0
            self._transport.write(b"".join(out))
