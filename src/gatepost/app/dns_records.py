"""What the DNS has to say about a domain so that its mail arrives: the records, and whether they are there.

Strategy: each record is a value with what it is for; `compare` asks a resolver about each one and says what is
different. A proposal is met by whatever the domain's owner has chosen instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from typing import Literal

from gatepost.app.settings.dkim import Dkim, DkimKey
from gatepost.app.settings.root import Settings
from gatepost.content.dkim_keys import load_key, public_part, strings
from gatepost.model import Address, AddressError
from gatepost.model.path import parse_domain
from gatepost.net.answers import NotFound, Resolving, TemporaryFailure

State = Literal["ok", "missing", "different", "unknown"]
_MOST_LOOKUPS_S = 20.0


@dataclass(frozen=True, slots=True)
class Record:
    """One record: `name` without the last dot, `value` as it is meant, `why` in a few words. `is_proposal`: the owner
    may well have another one; `is_hint`: not of this domain's zone, and for nobody to copy.
    """

    name: str
    type: Literal["MX", "TXT", "A", "PTR"]
    value: str
    why: str
    is_proposal: bool = False
    is_hint: bool = False

    def line(self) -> str:
        """As it stands in a zone file."""
        if self.is_hint:
            return f"; {self.name} {self.type}: {self.value}"
        value = f"{self.value}." if self.type == "MX" else self.value
        if self.type == "TXT":
            value = " ".join(f'"{one}"' for one in strings(self.value))
            value = f"( {value} )" if len(self.value) > 255 else value
        return f"{self.name}. IN {self.type} {value}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A record and what the DNS says: `found` in its words, `remark` what to do."""

    record: Record
    state: State
    found: str = ""
    remark: str = ""


def own_domains(settings: Settings) -> list[str]:
    """The domains that mail is received for or that sign, in the order of the settings. A route that isn't for anyone
    may lead to somebody else's domain."""
    named = [table.domain for table in settings.dkim]
    for route in settings.route:
        if route.deliver.by in {"maildir", "lmtp", "relay", "discard"} and route.for_whom == "anyone":
            named += [one.rpartition("@")[2] for one in route.match if "@" in one]
    found: list[str] = []
    for name in named:
        try:
            domain = parse_domain(name)
        except AddressError:
            continue  # a pattern
        if "." in domain and not domain.startswith("[") and domain not in found:
            found.append(domain)
    return found


def records(settings: Settings, domain: str, now: datetime) -> Iterator[Record]:
    """The records of one domain, at that moment. KeyProblem or OSError where a key can't be read."""
    host = settings.hostname
    receives = domain in _received(settings)
    if receives:
        yield Record(domain, "MX", f"10 {host}", "where its mail goes")
    outside = _smarthosts(settings)
    means = "mx" if receives else f"a:{host}"
    spf = f"v=spf1 {means} -all" if not outside else f"v=spf1 {means} ~all"
    why = "who may send for it"
    if outside:
        why += f"; with what {outside[0]} asks you to include"
    yield Record(domain, "TXT", spf, why, is_proposal=True)
    for table in settings.dkim:
        if parse_domain(table.domain) == domain:
            yield from (_key(table, key, now) for key in table.key)
    dmarc = f"v=DMARC1; p=none; rua=mailto:postmaster@{domain}"
    yield Record(f"_dmarc.{domain}", "TXT", dmarc, "p=quarantine when the reports look right", is_proposal=True)
    yield Record(host, "A", "the address of this server", "the server's own name", is_hint=True)
    yield Record("its address", "PTR", host, "set by whoever gave you the address", is_hint=True)


async def compare(wanted: Sequence[Record], resolver: Resolving, within_s: float = _MOST_LOOKUPS_S) -> list[Comparison]:
    """Each record beside what the resolver says; what isn't known after `within_s` seconds is "unknown"."""

    async def one(record: Record) -> Comparison:
        try:
            async with asyncio.timeout(within_s):
                return await _compare(record, resolver)
        except NotFound:
            return Comparison(record, "missing")
        except (TemporaryFailure, TimeoutError) as error:
            return Comparison(record, "unknown", remark=str(error) or "nobody answered in time")

    return await asyncio.gather(*map(one, wanted))


async def _compare(record: Record, resolver: Resolving) -> Comparison:
    match record.type:
        case "MX":
            return _exchangers(record, [f"{one.preference} {one.host}" for one in await resolver.mx(record.name)])
        case "A":
            return Comparison(record, "ok", ", ".join(map(str, await resolver.addresses(record.name))))
        case "PTR":
            return await _reverse(record, resolver)
        case "TXT":
            return _text(record, await resolver.txt(record.name))


def _exchangers(record: Record, found: list[str]) -> Comparison:
    wanted = record.value.split()[1].lower()
    hosts = [one.split()[-1] for one in found]
    said = ", ".join(found)
    if wanted not in hosts:
        return Comparison(record, "different", said, "mail goes elsewhere")
    return Comparison(record, "ok", said)


async def _reverse(record: Record, resolver: Resolving) -> Comparison:
    """Every public address of the host has to lead back to it: rfc1912#2.1."""
    addresses: Iterable[Address] = await resolver.addresses(record.value)
    for address in addresses:
        name = await resolver.reverse(ip_address(str(address)))
        if name != record.value.lower():
            said = f"{address} is {name}" if name else f"{address} has no name that leads back"
            return Comparison(record, "different", said, "many servers take no mail from it")
    return Comparison(record, "ok", ", ".join(map(str, addresses)))


def _text(record: Record, found: Sequence[str]) -> Comparison:
    kind = record.value.partition(";")[0].partition(" ")[0].lower()  # v=spf1, v=DKIM1, v=DMARC1
    if kind == "v=dkim1":
        return _public_key(record, found)
    same = [one for one in found if one.lower().replace(";", " ").split()[:1] == [kind]]
    if not same:
        return Comparison(record, "missing")
    if len(same) > 1:
        return Comparison(record, "different", " · ".join(same), "there may be one only")  # rfc7208#4.5, rfc7489#6.6.3
    return Comparison(record, "ok", same[0], "" if same[0] == record.value else "another one than proposed")


def _public_key(record: Record, found: Sequence[str]) -> Comparison:
    wanted = public_part(record.value)
    parts = [part for one in found if (part := public_part(one)) is not None]
    if wanted in parts:
        if len(parts) > 1:
            return Comparison(record, "different", f"{len(parts)} keys", "there may be one only")  # rfc6376#3.6.2.2
        return Comparison(record, "ok", "the same key")
    if any(not key for _, key in parts):
        return Comparison(record, "different", "a revoked key", "publish the record, or a key with another selector")
    if parts:
        return Comparison(record, "different", "another key", "signatures can't be verified")
    return Comparison(record, "missing")


def _key(table: Dkim, key: DkimKey, now: datetime) -> Record:
    record = load_key(key.file.read_bytes(), is_proven=False).public_record()
    if key.begins is not None and now < key.begins:
        why = f"signs from {key.begins:%Y-%m-%d}; publish it before"
    elif key.until is not None and now >= key.until:
        why = f"signed until {key.until:%Y-%m-%d}; keep it a week longer"
    else:
        why = "signs" if key.until is None else f"signs until {key.until:%Y-%m-%d}"
    return Record(f"{key.selector}._domainkey.{parse_domain(table.domain)}", "TXT", record, why)


def _received(settings: Settings) -> set[str]:
    return {
        one.rpartition("@")[2].lower()
        for route in settings.route
        if route.deliver.by != "mx"
        for one in route.match
        if "@" in one
    }


def _smarthosts(settings: Settings) -> list[str]:
    """The servers that mail to the world goes through."""
    return [
        host.host
        for route in settings.route
        if route.matches_every_domain and route.deliver.by == "relay"
        for host in route.deliver.hosts
    ]
