"""The rules of finding a domain's mail servers (RFC 5321 §5), without asking anybody.

Which servers are tried, in which order, and which addresses mail never goes to, whatever the DNS says of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TypeVar

from gatepost.model import Address
from gatepost.model.peer import plain_address
from gatepost.net.answers import Exchange

MAX_HOSTS = 16  # mail servers of a domain that are looked at; who names a hundred isn't followed to the end
MAX_TRIES = 10  # addresses that one attempt may call

_NAT64 = IPv6Network("64:ff9b::/96")  # rfc6052#2.1
_BROADCAST = IPv4Address("255.255.255.255")
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Target:
    """A mail server to try: its name (an address as text, where that was all there was) and addresses, at least one."""

    host: str
    addresses: tuple[Address, ...]


def literal_address(domain: str) -> Address | None:
    """The address in `[192.0.2.1]` or `[IPv6:2001:db8::1]`, None for a name (RFC 5321 §4.1.3)."""
    if not domain.startswith("["):
        return None
    inside = domain[1:-1]
    if inside[:5].lower() == "ipv6:":
        return plain_address(IPv6Address(inside[5:]))
    return IPv4Address(inside)


def is_null(records: Sequence[Exchange]) -> bool:
    """Whether the domain says that it takes no mail. A null MX beside others says nothing."""
    return len(records) == 1 and not records[0].host  # rfc7505#3


def in_order(records: Sequence[Exchange], chance: Callable[[], float]) -> list[Exchange]:
    """The best first, equals shuffled, each host once and null ones left out. `chance` gives fractions below 1."""
    best: dict[str, Exchange] = {}
    for record in sorted(records):
        if record.host:
            best.setdefault(record.host, record)
    shuffled = _shuffled([*best.values()], chance)
    return sorted(shuffled, key=lambda record: record.preference)  # rfc5321#5.1: equals MUST be randomised


def before_ours(records: Sequence[Exchange], is_ours: Callable[[Exchange], bool]) -> list[Exchange]:
    """What is left once we and everybody who isn't better than us are taken out: mail mustn't go round in circles."""
    ours = min((record.preference for record in records if is_ours(record)), default=None)
    return [record for record in records if ours is None or record.preference < ours]  # rfc5321#5.1


def interleaved(addresses: Sequence[Address]) -> tuple[Address, ...]:
    """IPv6 and IPv4 by turns, IPv6 first, each family in its order: one that doesn't work costs one try, not all."""
    each = dict.fromkeys(map(plain_address, addresses))
    six = [address for address in each if address.version == 6]
    four = [address for address in each if address.version == 4]
    pairs = min(len(six), len(four))
    mixed = [address for pair in zip(six, four, strict=False) for address in pair]  # rfc8305#4
    return (*mixed, *six[pairs:], *four[pairs:])


def may_be_called(address: Address, *, allow_private: bool = False) -> bool:
    """Whether mail may go there: everywhere on the Internet, and to private, loopback and link-local addresses only
    where that is allowed. Nobody is to be found at the unspecified, multicast and broadcast ones.
    """  # attack D1
    inner = _embedded(address)
    if inner.is_multicast or inner.is_unspecified or inner == _BROADCAST:
        return False
    if allow_private:
        return True
    is_local = inner.version == 6 and (inner.is_site_local or inner.is_reserved)
    return inner.is_global and not is_local


def plan(targets: Sequence[Target], tries: int = MAX_TRIES) -> list[tuple[str, Address]]:
    """The addresses to call, with their hosts, at most `tries`. A host with many addresses leaves room for the next."""
    each = max(2, tries // max(1, len(targets)))
    return [(target.host, address) for target in targets for address in target.addresses[:each]][:tries]


def _embedded(address: Address) -> Address:
    """The IPv4 address that mail to an IPv6 one would reach in the end, if there is one."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _shuffled(items: list[_Item], chance: Callable[[], float]) -> list[_Item]:
    for last in range(len(items) - 1, 0, -1):
        chosen = min(int(chance() * (last + 1)), last)
        items[last], items[chosen] = items[chosen], items[last]
    return items
