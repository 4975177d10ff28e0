"""Where a recipient's mail goes, as facts: routes are made from settings and looked up, first match wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from hashlib import blake2b

from gatepost.delivery.security import Protection, Security
from gatepost.model import NULL_PATH, Path
from gatepost.model.senders import Senders
from gatepost.model.written import host_and_port
from gatepost.net.certificates import Pair
from gatepost.wire.smtp.client_events import Credentials, Introduction
from gatepost.wire.socks import Proxy

__all__ = [
    "DIRECTLY",
    "Action",
    "Calling",
    "Discard",
    "Hop",
    "Host",
    "Lmtp",
    "Maildir",
    "Mx",
    "Pool",
    "Relay",
    "Rotation",
    "Route",
    "Routes",
    "Security",
    "ToList",
    "called",
]


@dataclass(frozen=True, slots=True)
class Host:
    """A server: a name or address with a TCP port, or the path of a local socket. Where `address` is known the name
    isn't looked up again; `also` are further addresses of it, called where that one doesn't answer soon. `protection`
    is what its TLS must be, where that isn't just what the route says.
    """

    name: str = ""
    port: int = 25
    socket: str | None = None
    address: str | None = None
    protection: Protection | None = None
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.socket is not None:
            return self.socket
        if self.address not in (None, self.name):
            return f"{self.name}[{self.address}]:{self.port}"
        return host_and_port(self.name, self.port)


@dataclass(frozen=True, slots=True)
class Calling:
    """How we come to a server: the addresses to call from (at most one of a family; without any the system chooses),
    the name said in EHLO if not our own, and the proxy on the way.
    """

    source: tuple[str, ...] = ()
    helo: str | None = None
    proxy: Proxy | None = None


DIRECTLY = Calling()


class Rotation(Enum):
    """How one of several ways of calling is chosen. The values are the settings' words."""

    BY_DESTINATION = "by-destination"  # a server always sees the same one
    ROUND_ROBIN = "round-robin"  # each connection has the next


@dataclass(frozen=True, slots=True)
class Pool:
    """Several ways of calling, at least one. A server keeps the one it has where another is added or taken away."""

    callings: tuple[Calling, ...]
    rotation: Rotation = Rotation.BY_DESTINATION

    def choose(self, server: str, turn: int) -> Calling:
        """The one for a server by name; `turn` counts the connections."""
        if self.rotation is Rotation.ROUND_ROBIN:
            return self.callings[turn % len(self.callings)]
        return max(self.callings, key=lambda calling: _weight(server, calling))  # rendezvous hashing


def _weight(server: str, calling: Calling) -> bytes:
    """Stable over processes and restarts, and without anybody's password."""
    facts = f"{server.lower()} {calling.source} {calling.helo} {calling.proxy}"
    return blake2b(facts.encode("utf-8", "replace"), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Maildir:
    """Into the recipient's maildrop."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Nowhere."""


@dataclass(frozen=True, slots=True)
class ToList:
    """To the members of a list, or whatever else one of its addresses stands for."""

    name: str


@dataclass(frozen=True, slots=True)
class Relay:
    """To the next server by SMTP: `hosts` are tried in order. Credentials are used over TLS only. `introduce` is how
    it is told for whom a message is sent.
    """

    hosts: tuple[Host, ...]
    tls: Security = Security.STARTTLS
    auth: Credentials | None = None
    calling: Calling = DIRECTLY
    pool: Pool | None = None
    identity: Pair | None = None
    introduce: Introduction | None = None


@dataclass(frozen=True, slots=True)
class Lmtp:
    """To the next server by LMTP (RFC 2033): `hosts` are tried in order."""

    hosts: tuple[Host, ...]
    tls: Security = Security.NONE
    auth: Credentials | None = None
    calling: Calling = DIRECTLY
    pool: Pool | None = None
    identity: Pair | None = None
    introduce: Introduction | None = None


@dataclass(frozen=True, slots=True)
class Mx:
    """To the servers of the recipient's domain, as the DNS names them (RFC 5321 §5). `domain` is empty in a route, and
    filled in for each recipient. `allow_private` admits servers at private and loopback addresses.
    """

    domain: str = ""
    port: int = 25
    tls: Security = Security.PUBLISHED
    calling: Calling = DIRECTLY
    identity: Pair | None = None
    allow_private: bool = False
    pool: Pool | None = None


Hop = Relay | Lmtp


def called(hop: Hop, host: Host, turn: int) -> Hop:
    """The hop with one way of calling, chosen from its pool where it has one."""
    if hop.pool is None:
        return hop
    return replace(hop, calling=hop.pool.choose(host.name or str(host), turn), pool=None)


Action = Maildir | Discard | ToList | Relay | Lmtp | Mx


@dataclass(frozen=True, slots=True)
class Route:
    """Patterns like `*@example.org` (see Path.matches), and what is done with mail for whom they fit."""

    match: tuple[str, ...]
    action: Action
    senders: Senders | None = None
    """Whose mail alone takes it; None: everybody's."""
    covers: Callable[[Path], bool] | None = None
    """Who it is for, where patterns don't say it."""

    def takes(self, path: Path) -> bool:
        """Whether it is for this recipient."""
        if self.covers is not None:
            return self.covers(path)
        return any(pattern == "*" or path.matches(pattern) for pattern in self.match)


@dataclass(frozen=True, slots=True)
class Routes:
    """Routes in order; the first that fits decides."""

    routes: Sequence[Route]

    def find(self, path: Path, sender: Path = NULL_PATH, user: str | None = None) -> Route | None:
        """The route for a recipient of this sender's and authenticated user's mail, by MX to the recipient's own
        domain; None if nobody takes its mail.
        """
        for route in self.routes:
            if route.senders is not None and not route.senders.fit(sender, user):
                continue
            if route.takes(path):
                if isinstance(route.action, Mx):
                    return replace(route, action=replace(route.action, domain=path.domain))
                return route
        return None
