"""One question to the name servers, over dnspython; imported by the first question, since that takes a while."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import dns.exception
import dns.flags
import dns.name
import dns.resolver
from dns.asyncresolver import Resolver as Stub
from dns.message import Message
from dns.nameserver import Do53Nameserver

from gatepost.net.answers import Found, NotFound, ResolverError, TemporaryFailure, plain

NOTHING_S = 60.0  # how long "there is none" is kept where the zone doesn't say
NOTHING_LONGEST_S = 900.0  # rfc2308#5 allows hours; a new customer's name shouldn't take that long
FAILURE_S = 5.0  # rfc2308#7: a failure may be kept for five minutes at most


class NameServers:
    """Asks the given servers, or the system's; what an answer means never depends on an earlier one."""

    def __init__(
        self,
        addresses: Sequence[str | tuple[str, int]],
        port: int,
        timeout_s: float,
        lifetime_s: float,
        trust_ad: bool = False,
    ) -> None:
        self._stub = Stub(configure=not addresses)
        if addresses:
            each = ((one, port) if isinstance(one, str) else one for one in addresses)
            self._stub.nameservers = [Do53Nameserver(address, at) for address, at in each]
        self._stub.timeout, self._stub.lifetime = timeout_s, lifetime_s
        self.is_trusted = trust_ad or all(map(_is_loopback, self._stub.nameservers))
        """Whether AD is believed: it says nothing where somebody on the way can set it."""
        self._stub.set_flags(dns.flags.RD | dns.flags.AD)  # rfc6840#5.7: that we would like to know

    async def ask(self, name: str, kind: str) -> tuple[Found | ResolverError, float]:
        """The records as text, or why there are none, and for how many seconds that holds."""
        try:
            owner = dns.name.from_text(name)
        except (dns.exception.DNSException, ValueError) as error:
            return NotFound(f"{name} is no name of the DNS: {error}"), NOTHING_S
        try:
            found = await self._stub.resolve(owner, kind, search=False)
        except dns.resolver.NXDOMAIN as error:
            return NotFound(f"{name} doesn't exist"), _nothing_s([*error.kwargs["responses"].values()])
        except dns.resolver.NoAnswer as error:
            return NotFound(f"{name} has no {kind} record"), _nothing_s([error.kwargs["response"]])
        except (dns.exception.DNSException, OSError, EOFError) as error:
            return TemporaryFailure(f"nobody could tell the {kind} records of {name}: {error}"), FAILURE_S
        is_secure = self.is_trusted and bool(found.response.flags & dns.flags.AD)
        records = tuple(_text(record, kind) for record in found)
        return Found(records, is_secure, plain(found.canonical_name.to_text())), found.chaining_result.minimum_ttl


def _is_loopback(server: object) -> bool:
    try:
        return ip_address(str(getattr(server, "address", server))).is_loopback
    except ValueError:
        return False


def _text(record: Any, kind: str) -> str:
    if kind == "TXT":
        return b"".join(record.strings).decode("latin-1")
    text: str = record.to_text()
    return plain(text) if kind == "PTR" else text


def _nothing_s(responses: Sequence[Message]) -> float:
    """How long "there is none" may be kept: the smaller of the SOA's TTL and its minimum (rfc2308#5)."""
    for response in responses:
        for records in response.authority:
            for record in records:
                minimum = getattr(record, "minimum", None)
                if minimum is not None:
                    return float(min(records.ttl, minimum, NOTHING_LONGEST_S))
    return NOTHING_S
