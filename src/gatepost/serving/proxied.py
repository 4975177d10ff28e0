"""Connections that come through a load balancer: its header names the client, before TLS and before SMTP.

Strategy: who may say it is known by address, per listener, and has to say it: from anybody else the header is only a
bad command, and a proxy that says nothing, or something else, is closed in bounded time. What follows the header is put
back, so that TLS or the session finds every octet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from gatepost.model import Peer
from gatepost.net import ConnectionLost, DeadlinePassed, Stream
from gatepost.wire.proxy import HeaderReader, Malformed, Proxied

HEADER_S = 10.0  # how long a proxy may take; it sends the header with its first packet

log = logging.getLogger("gatepost.serving")


class ProxyDoor:
    """The preface of one listener's connections (`net.listen`). Holds who is a proxy, and nothing of a connection."""

    def __init__(
        self, listener: str, networks: Sequence[IPv4Network | IPv6Network], *, within_s: float = HEADER_S
    ) -> None:
        """Peers in `networks` have to say the header, within `within_s` seconds; `listener` is named in the log."""
        self._listener = listener
        self._networks = tuple(networks)
        self._within_s = within_s
        self._latest_local = ("", 0)

    def __call__(self, stream: Stream) -> Coroutine[Any, Any, bool] | None:
        """None for a connection that is its peer's own; else what reads the header, True if there was one."""
        address = stream.peer.address
        return self._introduced(stream) if any(address in network for network in self._networks) else None

    async def _introduced(self, stream: Stream) -> bool:
        """Whether the proxy has said whom it brings; from then on the stream's ends are those it has named."""
        stream.deadline = asyncio.get_running_loop().time() + self._within_s
        reader = HeaderReader()
        has_spoken = False
        try:
            result = None
            while result is None:
                data = await stream.receive()
                if not data and not has_spoken:
                    return False  # it only looks whether somebody listens
                has_spoken = True
                result = reader.receive(data)
        except (ConnectionLost, DeadlinePassed) as error:
            if has_spoken or isinstance(error, DeadlinePassed):
                self._complain(stream, str(error))
            return False
        if isinstance(result, Malformed):
            self._complain(stream, result.why)
            return False
        stream.deadline = None
        if reader.rest:
            stream.unread(reader.rest)
        self._rename(stream, result)
        return True

    def _rename(self, stream: Stream, named: Proxied) -> None:
        if named.source is not None:
            stream.peer = Peer(*named.source, via=stream.peer.address)
        if named.destination is not None:
            address, port = named.destination
            if (local := (str(address), port)) != self._latest_local:
                self._latest_local = local
            stream.local = self._latest_local  # of all that came to the same address, the same object

    def _complain(self, stream: Stream, why: str) -> None:
        log.warning(
            'listener "%s": %s is in proxy_protocol and has to begin with a PROXY header: %s',
            self._listener,
            stream.peer,
            why,
        )
