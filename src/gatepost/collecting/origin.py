"""Who brought a message to the other server: found in its Received fields, as far as they can be believed.

Strategy: the topmost field was written by the server that mail is collected from. Each field names the client that its
writer saw; as long as that client is one that is believed (by its address, or by the name its writer verified), the
field below is that client's own and is believed too. The first client who isn't believed is the original one: what
stands below may be invented. Servers write the clause in many ways, and only these parts are read: the address in a
comment, or the literal in place of the name; what the client said of itself (`helo=`) is never taken for either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from gatepost.collecting.accounts import Believed
from gatepost.content.headers import Section
from gatepost.content.values import unfold
from gatepost.model import Address, Peer
from gatepost.model.path import glob_matches
from gatepost.model.peer import plain_address

UNKNOWN = IPv4Address(0)
"""The peer's address where nothing says who it was."""

_INNER = tuple(
    ip_network(one)
    for one in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "0.0.0.0/32"),  # rfc1918#3
        *("::1/128", "fc00::/7", "fe80::/10", "::/128"),  # rfc4193#3.1
    )
)
_MAX_VALUE = 4096  # octets of a field that are looked at
_MAX_HOPS = 30
_SAID = re.compile(r"\b(?:helo|ehlo|ident|auth|port)[ =]\S+", re.IGNORECASE)
_HELO = re.compile(r"\b(?:helo|ehlo)[ =](\S+)", re.IGNORECASE)
_BRACKETED = re.compile(r"\[(?:IPv6:)?([0-9A-Fa-f.:]{2,45})\]", re.IGNORECASE)
_BARE = re.compile(r"(?<![\w.:-])(?:\w+@)?((?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]{2,44})(?![\w:-])")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,253}[A-Za-z0-9_])?")
_FOR = re.compile(r"\bfor\s+<?([^\s<>;]+@[^\s<>;]+?)>?(?=[\s;]|$)", re.IGNORECASE)
_WITH_LMTP = re.compile(r"\bwith\s+(?:UTF8)?LMTP", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hop:
    """One Received field. `address` and `name` are the client as the writer saw it, `helo` as it named itself.

    `is_handed_on`: written without a client, or for one of the writer's own machine (a program, LMTP).
    """

    address: Address | None
    name: str
    helo: str
    by: str
    whom: str
    is_handed_on: bool


def read_hop(value: str) -> Hop:
    """A Received field's unfolded value. What can't be read is left empty."""
    value = value[:_MAX_VALUE]
    plain, comments = _apart(value)
    at = plain.find(" by ")
    clause = plain[:at] if at >= 0 else plain.partition(";")[0]
    rest = plain[at:] if at >= 0 else ""
    by = rest.split(None, 2)[1] if len(rest.split(None, 2)) > 1 else ""
    whom = _FOR.search(rest.partition(";")[0])
    words = clause.split()
    lmtp = _WITH_LMTP.search(rest) is not None
    if not words or words[0].lower() != "from" or len(words) < 2:
        by = by or (words[1] if len(words) > 1 and words[0].lower() == "by" else "")
        return Hop(None, "", "", by.rstrip(";"), whom[1] if whom else "", True)
    first = words[1]
    mine = [comment for start, comment in comments if at < 0 or start < at]
    address, name = _seen(mine)
    helo = next((said[1] for comment in mine if (said := _HELO.search(comment))), "")
    literal = _BRACKETED.fullmatch(first)
    if address is None and literal is not None:
        address = _address(literal[1])
    if not name and helo and literal is None and _NAME.fullmatch(first):
        name = first  # Exim and qmail: the verified name stands first, what was said in the comment
    return Hop(address, "" if name.lower() == "unknown" else name, helo or first, by, whom[1] if whom else "", lmtp)


def hops(section: Section) -> list[Hop]:
    """The newest first."""
    return [read_hop(unfold(raw)) for raw in section.raw_values("received")[:_MAX_HOPS]]


def believed_hops(found: Iterable[Hop], believed: Believed) -> list[Hop]:
    """Those from the top on that are true: the last one names the original client, if anybody does."""
    true: list[Hop] = []
    for hop in found:
        true.append(hop)
        if hop.address is None:
            if not hop.is_handed_on:
                break
        elif not hop.is_handed_on and not _is_believed(hop, believed):
            break
    return true


def origin(section: Section, believed: Believed) -> tuple[Peer, str]:
    """The client that brought it there, and what it said of itself; the peer UNKNOWN where that isn't to be found."""
    true = believed_hops(hops(section), believed)
    last = next((hop for hop in reversed(true) if hop.address is not None), None)
    if last is None or last.address is None or _is_inner(last.address):
        return Peer(UNKNOWN), ""
    return Peer(last.address, found=last.name), last.helo


def _is_believed(hop: Hop, believed: Believed) -> bool:
    address = hop.address
    if address is None or _is_inner(address):
        return True
    if any(address.version == network.version and address in network for network in believed.networks):
        return True
    return bool(hop.name) and any(glob_matches(name, hop.name.lower().rstrip(".")) for name in believed.names)


def _is_inner(address: Address) -> bool:
    """The writer's own machine or network: nobody from outside has such an address."""
    return any(address.version == network.version and address in network for network in _INNER)


def _apart(value: str) -> tuple[str, list[tuple[int, str]]]:
    """The value without comments (blanks in their places), and each outer comment with where it began."""
    plain: list[str] = []
    comments: list[tuple[int, str]] = []
    depth = start = 0
    for at, character in enumerate(value):
        if character == "(":
            if depth == 0:
                start = at
            depth += 1
        elif character == ")" and depth:
            depth -= 1
            if depth == 0:
                comments.append((start, value[start + 1 : at]))
                plain.append(" " * (at - start + 1))
        elif not depth:
            plain.append(character if character.isprintable() else " ")
    if depth:
        comments.append((start, value[start + 1 :]))
    return "".join(plain), comments


def _seen(comments: Iterable[str]) -> tuple[Address | None, str]:
    """The address that the writer saw, and the name that it found for it."""
    for comment in comments:
        true = _SAID.sub(" ", comment)
        found = _BRACKETED.search(true) or _BARE.search(true)
        if found is not None and (address := _address(found[1])) is not None:
            before = true[: found.start()].split()
            name = before[-1].rpartition("@")[2].rstrip(".") if before else ""
            return address, name if _NAME.fullmatch(name) else ""
    return None, ""


def _address(text: str) -> Address | None:
    try:
        found: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    return plain_address(found)
