"""A connection through a proxy: the machine that asks it for the way (`wire.socks`) is driven over a stream.

What a proxy says is bounded by the machine, how long it takes by the deadline of whoever asks. The stream that comes
back begins where the server's words begin: they may have come in one piece with the proxy's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gatepost.model.written import host_and_port
from gatepost.net.stream import Stream


class ProxyRefused(ConnectionError):
    """The proxy gives no way to the server; the text says who it is and why."""


class Tunnel(Protocol):
    """Asks one proxy for a way to one server."""

    rest: bytes | None
    """Set once the way is open: what the server has said already."""
    refusal: str
    """Set where there is none: why."""

    def begin(self) -> bytes:
        """The first words."""

    def receive(self, data: bytes) -> bytes:
        """What is said next, b"" for nothing."""


@dataclass(frozen=True, slots=True)
class Via:
    """A proxy to connect through: its name or address, and who asks it for a way to (host, port).

    `tunnel` raises ValueError for a host that can't be asked for.
    """

    host: str
    port: int
    tunnel: Callable[[str, int], Tunnel]

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


async def open_way(stream: Stream, via: Via, tunnel: Tunnel) -> None:
    """Asks until the stream leads to the server. Raises ProxyRefused, and what the stream raises."""
    said = tunnel.begin()
    while True:
        if said:
            stream.write(said)
            await stream.drain()
        data = await stream.receive()
        if not data:
            raise ProxyRefused(f"the proxy {via} closed the connection before there was a way")
        said = tunnel.receive(data)
        if tunnel.refusal:
            raise ProxyRefused(f"the proxy {via} gives no way: {tunnel.refusal}")
        if tunnel.rest is not None:
            if tunnel.rest:
                stream.unread(tunnel.rest)
            return
