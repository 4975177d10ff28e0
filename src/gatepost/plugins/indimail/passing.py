"""What is passed to IndiMail's plugins: the arguments of their functions, and the environment of a session.

The variables are those that tcpserver and qmail-smtpd set; what isn't known of a session isn't set, unless the
settings' `env` has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.session import Session
from gatepost.model import Path, Peer
from gatepost.net.answers import ResolverError

MESSAGE_PATH = "GATEPOST_MESSAGE_PATH"
"""Where `data_func` finds the message, which its arguments don't tell. The host sets it."""
_LOOKUP_S = 5.0  # for the client's name, in a whole session; and never more than a third of a question's time


class ClientName:
    """The client's verified name. Lives in the session's holder: looked up once, whoever wants to know it."""

    def __init__(self, peer: Peer) -> None:
        """Begins looking."""
        loop = asyncio.get_running_loop()
        self._until = loop.time() + _LOOKUP_S
        self._looking = loop.create_task(_found(peer))

    async def text(self, most_s: float) -> str | None:
        """The name, if it is found within so many seconds; and nobody waits when all the time for it is over."""
        left = min(most_s, self._until - asyncio.get_running_loop().time())
        if left > 0:
            await asyncio.wait({self._looking}, timeout=left)
        return self._looking.result() if self._looking.done() else None

    def close(self) -> None:
        """The session is over."""
        self._looking.cancel()


async def client_name(event: stages.Event) -> str | None:
    """The client's verified name; None where there is none, or where finding it takes too long."""
    session = event.session
    if session.peer.lookup is None:
        return None
    try:
        name = session.holder.get(ClientName, lambda: ClientName(session.peer))
    except LookupError:  # a shadow, asked when the session is over
        return None
    return await name.text(event.remaining_s / 3)


async def _found(peer: Peer) -> str | None:
    try:
        return await peer.name()
    except (ResolverError, TimeoutError, OSError):
        return None


def session_environment(
    session: Session, hostname: str, remotehost: str | None, env: Mapping[str, str]
) -> dict[str, str | None]:
    """The variables of this session as it is now; None: not set. `env` is the settings', where nothing is known."""
    address = session.peer.address
    mapped = getattr(address, "ipv4_mapped", None)
    is_six = address.version == 6 and mapped is None
    text = str(mapped or address)
    local, local_port = session.local
    known: dict[str, str | None] = {
        "PROTO": "TCP6" if is_six else "TCP",
        "TCPREMOTEIP": text,
        "TCP6REMOTEIP": text if is_six else None,
        "TCPREMOTEPORT": str(session.peer.port),
        "TCPREMOTEHOST": remotehost,
        "TCPREMOTEINFO": session.user,
        "TCPLOCALIP": local,
        "TCP6LOCALIP": local if is_six else None,
        "TCPLOCALPORT": str(local_port),
        "TCPLOCALHOST": hostname,
        "RELAYCLIENT": None if session.user is None else "",
        "AUTHENTICATED": None if session.user is None else "1",
    }
    return {name: env.get(name) if value is None else value for name, value in known.items()}


def arguments(event: stages.Event, environment: Mapping[str, str | None], *, null_remoteinfo: bool) -> dict[str, Any]:
    """The texts that the functions of this stage get, by the names in plugin_init(9)."""
    remoteinfo = environment["TCPREMOTEINFO"]
    if remoteinfo is None and not null_remoteinfo:
        remoteinfo = ""
    remoteip = environment["TCP6REMOTEIP"] or environment["TCPREMOTEIP"] or "unknown"
    match event:
        case stages.Sender():
            return {"remoteip": _octets(remoteip), "from": _address(event.sender)}
        case stages.Recipient():
            return {
                "remoteip": _octets(remoteip),
                "from": _address(event.sender),
                "rcpt": _address(event.recipient.path),
            }
        case _:
            return {
                "localhost": _octets(environment["TCPLOCALHOST"] or "unknown"),
                "remoteip": _octets(remoteip),
                "remotehost": _octets(environment["TCPREMOTEHOST"] or "unknown"),
                "remoteinfo": None if remoteinfo is None else _octets(remoteinfo),
            }


def _address(path: Path) -> bytes:
    """As qmail-smtpd has it: unquoted, the domain as it was written; empty for the null sender."""
    if not path.domain:
        return _octets(path.local)
    _, at, written = path.raw.rpartition("@")
    return _octets(f"{path.local}@{written if at else path.domain}")


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
