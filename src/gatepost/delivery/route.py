"""Where a recipient's mail goes, as facts: routes are made from settings and looked up, first match wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gatepost.delivery.security import Protection, Security
from gatepost.model import Path
from gatepost.net.certificates import Pair
from gatepost.wire.smtp.client_events import Credentials

__all__ = ["Action", "Discard", "Hop", "Host", "Lmtp", "Maildir", "Mx", "Relay", "Route", "Routes", "Security"]


@dataclass(frozen=True, slots=True)
class Host:
    """A server: a name or address with a TCP port, or the path of a local socket. Where `address` is known the name
    isn't looked up again. `protection` is what its TLS must be, where that isn't just what the route says.
    """

    name: str = ""
    port: int = 25
    socket: str | None = None
    address: str | None = None
    protection: Protection | None = None

    def __str__(self) -> str:
        if self.socket is not None:
            return self.socket
        if self.address not in (None, self.name):
            return f"{self.name}[{self.address}]:{self.port}"
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class Maildir:
    """Into the recipient's maildrop."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Nowhere."""


@dataclass(frozen=True, slots=True)
class Relay:
    """To the next server by SMTP: `hosts` are tried in order. Credentials are used over TLS only."""

    hosts: tuple[Host, ...]
    tls: Security = Security.STARTTLS
    auth: Credentials | None = None
    helo: str | None = None
    identity: Pair | None = None


@dataclass(frozen=True, slots=True)
class Lmtp:
    """To the next server by LMTP (RFC 2033): `hosts` are tried in order."""

    hosts: tuple[Host, ...]
    tls: Security = Security.NONE
    auth: Credentials | None = None
    helo: str | None = None
    identity: Pair | None = None


@dataclass(frozen=True, slots=True)
class Mx:
    """To the servers of the recipient's domain, as the DNS names them (RFC 5321 §5). `domain` is empty in a route, and
    filled in for each recipient. `allow_private` admits servers at private and loopback addresses.
    """

    domain: str = ""
    port: int = 25
    tls: Security = Security.STARTTLS
    helo: str | None = None
    identity: Pair | None = None
    allow_private: bool = False


Hop = Relay | Lmtp
Action = Maildir | Discard | Relay | Lmtp | Mx


@dataclass(frozen=True, slots=True)
class Route:
    """Patterns like `*@example.org` (see Path.matches), and what is done with mail for whom they fit."""

    match: tuple[str, ...]
    action: Action


@dataclass(frozen=True, slots=True)
class Routes:
    """Routes in order; the first that fits decides."""

    routes: Sequence[Route]

    def find(self, path: Path) -> Route | None:
        """The route for a recipient, by MX to its own domain; None if nobody takes its mail."""
        for route in self.routes:
            for pattern in route.match:
                if pattern == "*" or path.matches(pattern):
                    if isinstance(route.action, Mx):
                        return Route(route.match, replace(route.action, domain=path.domain))
                    return route
        return None
