"""A connection without a socket: one end is a double of `net.Stream` for a session, the other a client for a test.

What the client sends is there at once, what the session says is heard when it writes. Nothing waits for a clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from gatepost.model import Peer, Tls
from gatepost.net import ConnectionLost


class SessionEnd:
    """The session's end of the line; has what `net.Stream` has."""

    def __init__(self, ip: str = "192.0.2.1", port: int = 50000) -> None:
        self.peer = Peer(ip_address(ip), port)
        self.local = ("192.0.2.25", 25)
        self.tls: Tls | None = None
        self.deadline: float | None = None
        self.lost = False
        self.at_eof = False
        self.closed = False
        self._arrived = b""
        self._said = b""
        self._something = asyncio.Event()
        self._heard = asyncio.Event()
        self._when_lost: Callable[[], None] | None = None

    # ── what a session uses ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def pending(self) -> int:
        return len(self._arrived)

    async def receive(self) -> bytes:
        while not self._arrived:
            if self.lost:
                raise ConnectionLost("the test has hung up")
            if self.at_eof:
                return b""
            self._something.clear()
            await self._something.wait()
        data, self._arrived = self._arrived, b""
        return data

    def discard(self) -> int:
        thrown, self._arrived = len(self._arrived), b""
        return thrown

    def write(self, data: bytes) -> None:
        self._said += data
        self._heard.set()

    async def drain(self) -> None:
        if self.lost:
            raise ConnectionLost("the test has hung up")

    async def start_tls(self, context: Any, *, server_side: bool, server_hostname: str | None = None) -> Tls:
        self.tls = Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384", server_hostname)
        return self.tls

    def on_lost(self, callback: Callable[[], None]) -> None:
        self._when_lost = callback

    async def close(self) -> None:
        self.closed = True
        self._heard.set()

    def abort(self) -> None:
        self.closed = True
        self._heard.set()

    # ── what the client's end uses ─────────────────────────────────────────────────────────────────────────────────

    def arrive(self, data: bytes) -> None:
        """Octets from the client."""
        self._arrived += data
        self._something.set()

    def end_of_file(self) -> None:
        """The client has said all it will say."""
        self.at_eof = True
        self._something.set()

    def lose(self) -> None:
        """The connection is gone."""
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


class Client:
    """The client's end: commands out, whole replies in."""

    def __init__(self, line: SessionEnd) -> None:
        self.line = line
        self._rest = b""

    def send(self, data: bytes) -> None:
        """Octets as they are."""
        self.line.arrive(data)

    async def reply(self) -> str:
        """The next whole reply, its lines joined by newlines; "" once the session has closed."""
        lines: list[str] = []
        while True:
            while b"\r\n" not in self._rest:
                data = await self.line.heard()
                if not data:
                    return "\n".join(lines)
                self._rest += data
            line, _, self._rest = self._rest.partition(b"\r\n")
            lines.append(line.decode("utf-8", "replace"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    async def command(self, line: str) -> str:
        """One command and its reply."""
        self.send(line.encode("utf-8") + b"\r\n")
        return await self.reply()

    async def content(self, content: bytes) -> str:
        """Content behind a 354: stuffed, ended, and its (first) reply."""
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        if stuffed.startswith(b"."):
            stuffed = b"." + stuffed
        if not stuffed.endswith(b"\r\n"):
            stuffed += b"\r\n"
        self.send(stuffed + b".\r\n")
        return await self.reply()


class PopClient:
    """The client's end of a POP3 session."""

    def __init__(self, line: SessionEnd) -> None:
        self.line = line
        self._rest = b""

    def send(self, data: bytes) -> None:
        """Octets as they are."""
        self.line.arrive(data)

    async def reply(self) -> str:
        """The next line; "" once the session has closed."""
        while b"\r\n" not in self._rest:
            data = await self.line.heard()
            if not data:
                return ""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line.decode("utf-8", "replace")

    async def command(self, line: str) -> str:
        """One command, and the first line of its reply."""
        self.send(line.encode("utf-8") + b"\r\n")
        return await self.reply()

    async def lines(self) -> list[str]:
        """What follows the first line of a long reply, up to its dot, dots unstuffed."""
        found: list[str] = []
        while (line := await self.reply()) != ".":
            if not line and self.line.closed and b"\r\n" not in self._rest:
                raise EOFError(f"the session has closed within a reply, after {found[-1:]}")
            found.append(line[1:] if line.startswith("..") else line)
        return found

    async def listing(self, line: str) -> list[str]:
        """A command with a long reply: its lines. ValueError for -ERR."""
        if not (first := await self.command(line)).startswith("+OK"):
            raise ValueError(first)
        return await self.lines()
