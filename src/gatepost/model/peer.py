"""The other side of a connection, and what protects the connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


def plain_address(address: Address) -> Address:
    """An IPv4 address in IPv6's clothes, undressed: it is one for limits and rules too. Every other one as it is."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


@dataclass(frozen=True, slots=True)
class Peer:
    """The client's address and port. `name()` asks the resolver for its verified reverse name, once per call."""

    address: Address
    port: int = 0
    lookup: Callable[[Address], Awaitable[str | None]] | None = field(default=None, compare=False, repr=False)
    via: Address | None = field(default=None, compare=False)
    """Who has named this peer and is the other end of the connection: a proxy, or the server in front of this one."""

    found: str | None = field(default=None, compare=False)
    """The name, where somebody has looked it up for all; "" for none."""

    async def name(self) -> str | None:
        """The name that points to the address and back; None where there is none or no resolver."""
        if self.found is not None:
            return self.found or None
        return None if self.lookup is None else await self.lookup(self.address)

    def __str__(self) -> str:
        return str(self.address)


@dataclass(frozen=True, slots=True)
class Tls:
    """A finished handshake: version ("TLSv1.3"), cipher, server name asked for (SNI), client's subject."""

    version: str
    cipher: str
    server_name: str | None = None
    client_subject: str | None = None
