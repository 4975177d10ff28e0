"""Where a recipient's mail goes, as facts: routes are made from settings and looked up, first match wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gatepost.model import Path
from gatepost.wire.smtp.client_events import Credentials


class Security(Enum):
    """Whether a connection is encrypted. The values are the settings' words."""

    NONE = "none"
    STARTTLS = "starttls"  # where it is offered, without asking who answers (rfc7435)
    REQUIRED = "required"
    IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class Host:
    """A server: a name or address with a TCP port, or the path of a local socket."""

    name: str = ""
    port: int = 25
    socket: str | None = None

    def __str__(self) -> str:
        if self.socket is not None:
            return self.socket
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


@dataclass(frozen=True, slots=True)
class Lmtp:
    """To the next server by LMTP (RFC 2033): `hosts` are tried in order."""

    hosts: tuple[Host, ...]
    tls: Security = Security.NONE
    auth: Credentials | None = None
    helo: str | None = None


Hop = Relay | Lmtp
Action = Maildir | Discard | Relay | Lmtp


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
        """The route for a recipient; None if nobody takes its mail."""
        for route in self.routes:
            for pattern in route.match:
                if pattern == "*" or path.matches(pattern):
                    return route
        return None
