"""What we call ourselves and where we listen, for delivery by MX: mail that the DNS leads back to us is a loop."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from gatepost.app.gates import callings
from gatepost.app.settings.root import Settings
from gatepost.model import Address
from gatepost.net.answers import Resolving
from gatepost.net.mx import Exchangers, is_here
from gatepost.net.resolver import Resolver


def resolver(settings: Settings) -> Resolver:
    """Who answers questions about names, as [dns] says."""
    dns = settings.dns
    return Resolver(
        nameservers=[(server.host, server.port) for server in dns.servers],
        timeout_s=dns.timeout,
        lifetime_s=dns.deadline,
        size=dns.cache,
        trust_ad=dns.trust_ad,
    )


def exchangers(
    settings: Settings, resolver: Resolving, listening: Callable[[], Iterable[tuple[str, int]]]
) -> Exchangers:
    """Who finds the servers of domains; `listening` gives the addresses and ports we listen at."""
    names = {settings.hostname}
    for route in settings.route:
        if route.deliver.by == "mx":
            names |= {one.helo for one in callings(route.deliver) if one.helo is not None}

    def is_own(address: Address, port: int) -> bool:
        return comes_back(address, port, listening())

    return Exchangers(resolver, chance=random.random, names=names, is_own=is_own)


def comes_back(address: Address, port: int, listening: Iterable[tuple[str, int]]) -> bool:
    """Whether who connects to an address and port reaches a listener at one of these."""
    for host, own_port in listening:
        own = ip_address(host)
        if own_port == port and (own == address or (own.is_unspecified and is_here(address))):
            return True
    return False
