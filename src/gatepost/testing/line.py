"""A connection without a socket: one end is a double of `net.Stream` for a session, the other a client for a test.

What the client sends is there at once, what the session says is heard when it writes. Nothing waits for a clock.
"""

from __future__ import annotations

from ipaddress import ip_address

from gatepost.model import Peer
from gatepost.net.inner import InnerStream


class SessionEnd(InnerStream):
    """The session's end of the line; has what `net.Stream` has."""

    def __init__(self, ip: str = "192.0.2.1", port: int = 50000) -> None:
        super().__init__(Peer(ip_address(ip), port), ("192.0.2.25", 25))


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
