"""A server's IPv6 and IPv4 addresses as one host: one family that doesn't work costs a moment, not an attempt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gatepost.delivery.route import Host
from gatepost.model import Address


def paired(hosts: Iterable[Host]) -> tuple[Host, ...]:
    """The same in the same order; of one server's addresses in a row each two of different families are one host."""
    pairs: list[Host] = []
    for host in hosts:
        if pairs and _is_other_family(pairs[-1], host):
            pairs[-1] = replace(pairs[-1], also=(host.address or "",))
        else:
            pairs.append(host)
    return tuple(pairs)


def answering(host: Host, address: Address) -> Host:
    """The host as it has answered: at this address."""
    return replace(host, address=str(address), also=()) if host.also else host


def _is_other_family(first: Host, other: Host) -> bool:
    if first.address is None or other.address is None or first.also or other.also:
        return False
    is_one = replace(first, address=None) == replace(other, address=None)
    return is_one and (":" in first.address) is not (":" in other.address)
