"""A connection inside the process: a session that nobody on a network has, with what `net.Stream` has.

Who brings mail from elsewhere talks with a session through it, and so do tests. Nothing waits for a clock: `deadline`
is written and not looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gatepost.model import Peer, Tls
from gatepost.net.errors import ConnectionLost


class InnerStream:
    """Both ends: the session's, and below it the other's. What one end writes is there for the other at once."""

    def __init__(self, peer: Peer, local: tuple[str, int]) -> None:
        self.peer = peer
        self.local = local
        self.tls: Tls | None = None
        self.deadline: float | None = None
        self.lost = False
        self.at_eof = False
        self.closed = False
        self._arrived = b""
        self._said = b""
        self._something = asyncio.Event()
        self._taken = asyncio.Event()
        self._heard = asyncio.Event()
        self._when_lost: Callable[[], None] | None = None

    # ── what a session uses ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def pending(self) -> int:
        """Octets that wait for the session."""
        return len(self._arrived)

    async def receive(self) -> bytes:
        """What has come, at least one octet; b"" at the end. ConnectionLost."""
        while not self._arrived:
            if self.lost:
                raise ConnectionLost("the other end has hung up")
            if self.at_eof:
                return b""
            self._something.clear()
            await self._something.wait()
        data, self._arrived = self._arrived, b""
        self._taken.set()
        return data

    def discard(self) -> int:
        """Throw away what has come; how many octets."""
        thrown, self._arrived = len(self._arrived), b""
        return thrown

    def write(self, data: bytes) -> None:
        """Say something."""
        self._said += data
        self._heard.set()

    async def drain(self) -> None:
        """Everything is heard at once. ConnectionLost."""
        if self.lost:
            raise ConnectionLost("the other end has hung up")

    async def start_tls(self, context: Any, *, server_side: bool, server_hostname: str | None = None) -> Tls:
        """As if: nothing leaves the process."""
        self.tls = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", server_hostname)
        return self.tls

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call this when the other end hangs up."""
        self._when_lost = callback

    async def close(self) -> None:
        """The session has said all it will say."""
        self.abort()

    def abort(self) -> None:
        """As close."""
        self.closed = True
        self._heard.set()
        self._taken.set()

    # ── what the other end uses ────────────────────────────────────────────────────────────────────────────────────

    def arrive(self, data: bytes) -> None:
        """Octets for the session."""
        self._arrived += data
        self._something.set()

    async def taken(self) -> None:
        """Wait until the session has taken everything, or has closed."""
        while self._arrived and not self.closed:
            self._taken.clear()
            await self._taken.wait()

    def end_of_file(self) -> None:
        """There won't be more."""
        self.at_eof = True
        self._something.set()

    def lose(self) -> None:
        """Hang up."""
        self.lost = True
        self._something.set()
        if self._when_lost is not None:
            self._when_lost()

    async def heard(self) -> bytes:
        """What the session has said since the last call; b"" once it has closed."""
        while not self._said:
            if self.closed:
                return b""
            self._heard.clear()
            await self._heard.wait()
        said, self._said = self._said, b""
        return said
