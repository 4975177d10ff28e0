"""What we call ourselves and where we listen, for delivery by MX: mail that the DNS leads back to us is a loop."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from gatepost.app.settings.root import Settings
from gatepost.model import Address
from gatepost.net.answers import Resolving
from gatepost.net.mx import Exchangers, is_here


def exchangers(
    settings: Settings, resolver: Resolving, listening: Callable[[], Iterable[tuple[str, int]]]
) -> Exchangers:
    """Who finds the servers of domains; `listening` gives the addresses and ports we listen at."""
    names = {settings.hostname, *(route.deliver.helo for route in settings.route if route.deliver.by == "mx")}

    def is_own(address: Address, port: int) -> bool:
        return comes_back(address, port, listening())

    return Exchangers(resolver, chance=random.random, names=filter(None, names), is_own=is_own)


def comes_back(address: Address, port: int, listening: Iterable[tuple[str, int]]) -> bool:
    """Whether who connects to an address and port reaches a listener at one of these."""
    for host, own_port in listening:
        own = ip_address(host)
        if own_port == port and (own == address or (own.is_unspecified and is_here(address))):
            return True
    return False
