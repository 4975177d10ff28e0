"""Finds out how the connection to each host must be protected: the settings' level, DANE (RFC 7672), MTA-STS (RFC 8461)
and what the message itself asks for (RFC 8689).

Strategy: what a domain publishes only ever makes a connection safer. A failure to find out skips the host instead of
making it less safe; where nothing is published securely, nothing is asked. Mail goes by DANE where both are there
(rfc8461#2). Every answer comes from the resolver's cache or the ledger's, so that a message costs look-ups of names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gatepost.content.headers import read_section
from gatepost.delivery.handshakes import Trouble
from gatepost.delivery.route import Hop, Host, Mx
from gatepost.delivery.security import PolicyFound, PolicyKind, Protection, Security
from gatepost.delivery.sts_policies import Found, Policies
from gatepost.model import Address, AddressError, Blob, Reply
from gatepost.model.path import parse_domain
from gatepost.net.answers import Found as Answer
from gatepost.net.answers import NotFound, Resolving, TemporaryFailure, exchanges
from gatepost.net.certificates import Pair
from gatepost.net.dane import DANE_TA, Tlsa, usable
from gatepost.net.mta_sts import Mode

_CERTAIN = (Security.REQUIRED, Security.SECURE, Security.IMPLICIT, Security.DANE_ONLY)


class Observer(Protocol):
    """Who counts what kept a policy from being known; see `gatepost.delivery.tls_reports`."""

    def negotiated(self, host: Host, found: PolicyFound, trouble: Trouble | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """Another level for destinations: recipients' domains, or hosts that the settings name; `*.example.org` is every
    name below it.
    """

    match: tuple[str, ...]
    level: Security | None = None
    identity: Pair | None = None

    def fits(self, names: Iterable[str]) -> bool:
        """Whether one of the names is meant."""
        return any(_fits(pattern.lower(), name.lower()) for pattern in self.match for name in names)


def _fits(pattern: str, name: str) -> bool:
    return pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:]))


@dataclass(frozen=True, slots=True)
class _Published:
    """What the DNS says of one host: usable records, and the names they are about; or why that isn't known.

    `is_there`: there are records, usable or not.
    """

    records: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    is_there: bool = False
    failure: str = ""


_UNPUBLISHED = _Published()


def _unknown(error: TemporaryFailure) -> _Published:
    """Somebody may be hiding the records (rfc7672#2.1): the host isn't called."""
    return _Published(failure=f"whether it has TLSA records can't be told now: {error}")


_UNPROVEN = "the message requires TLS, and nothing proves the server's name"


class Protector:
    """Knows the rules of the settings, and asks."""

    def __init__(
        self,
        resolver: Resolving | None = None,
        policies: Policies | None = None,
        rules: Sequence[Rule] = (),
        *,
        observer: Observer | None = None,
    ) -> None:
        """Without `resolver` nothing goes by DANE, without `policies` nothing by MTA-STS."""
        self._resolver = resolver
        self._policies = policies
        self._rules = tuple(rules)
        self._observer = observer

    async def by_mx(
        self, mx: Mx, planned: Sequence[tuple[str, Address]], content: Blob, requiretls: bool
    ) -> tuple[Host, ...] | Reply:
        """The hosts of a domain, each with its protection, in the same order; one that isn't to be called says why.

        `content` is looked at only where the domain demands TLS; `requiretls` is the message's own demand (RFC 8689); a
        reply says that nothing can ever meet it.
        """
        domain = _plain(mx.domain)
        rule = self._rule((domain,))
        names = {host for host, _ in planned}
        levels = {host: _level(mx.tls, rule or self._rule((host,))) for host in names}
        identity = {host: _identity(mx.identity, rule or self._rule((host,))) for host in names}
        published: dict[str, _Published] = {}
        is_secure_mx = False
        asking = [host for host in names if levels[host].asks_dns or requiretls]
        if asking and self._resolver is not None and not domain.startswith("["):
            try:
                secure_hosts = await self._secure_hosts(domain)
            except TemporaryFailure as error:
                secure_hosts = None
                published = dict.fromkeys(asking, _unknown(error))
            is_secure_mx = secure_hosts is not None
            if secure_hosts is not None:
                wanted = [host for host in asking if host in secure_hosts]
                if len(wanted) == 1:  # as mostly; a task would cost more than the answer
                    published = {wanted[0]: await self._published(wanted[0], mx.port)}
                else:
                    answers = await asyncio.gather(*(self._published(host, mx.port) for host in wanted))
                    published = dict(zip(wanted, answers, strict=True))
        found = Found()
        if self._policies is not None and not domain.startswith("["):
            known = {host for host, one in published.items() if one.is_there or one.failure}  # DANE goes first
            if any((levels[host].asks_policy or requiretls) and host not in known for host in names):
                found = await self._policies.find(domain)
        protected: dict[str, Protection] = {}
        for host in names:
            one = published.get(host, _UNPUBLISHED)
            protected[host] = _judge(domain, host, levels[host], one, found, requiretls, is_secure_mx)
        demanding = [host for host in names if levels[host] in _ASKING and _is_demanding(protected[host])]
        if demanding and not requiretls and _is_tls_optional(content):  # rfc8689#4.2.2
            protected |= dict.fromkeys(demanding, Protection(found=PolicyFound(domain)))
        for host, shown in identity.items():
            if shown is not None:
                protected[host] = replace(protected[host], identity=shown)
        if requiretls and found.trouble is None and all(one.refusal == _UNPROVEN for one in protected.values()):
            text = f"the message requires TLS, and nothing proves the names of the servers of {domain}"
            return Reply(550, "5.7.30", text)  # rfc8689#4.2.1: the sender is told, and not in some days
        self._tell_fetch(domain, found, planned, mx.port)
        return tuple(Host(host, mx.port, address=str(address), protection=protected[host]) for host, address in planned)

    def concerns(self, hop: Hop, requiretls: bool) -> bool:
        """Whether `of_hop` would change anything: most hops are as the settings say, and cost nothing."""
        return bool(self._rules) or requiretls or hop.tls in (Security.DANE, Security.DANE_ONLY)

    async def of_hop(self, hop: Hop, requiretls: bool) -> Hop:
        """A hop whose hosts the settings name, each with its protection."""
        hosts = [await self._of_host(hop, host, requiretls) for host in hop.hosts]
        return replace(hop, hosts=tuple(hosts))

    async def _of_host(self, hop: Hop, host: Host, requiretls: bool) -> Host:
        if host.socket is not None:
            return host
        rule = self._rule((host.name,))
        level = _level(hop.tls, rule)
        published = _UNPUBLISHED
        if level.asks_dns and self._resolver is not None:
            published = await self._published(host.name, host.port)
        protection = _judge("", host.name, level, published, Found(), requiretls, is_secure_mx=True)
        return replace(host, protection=replace(protection, identity=_identity(hop.identity, rule), found=None))

    def _rule(self, names: Iterable[str]) -> Rule | None:
        return next((rule for rule in self._rules if rule.fits(names)), None)

    def _tell_fetch(self, domain: str, found: Found, planned: Sequence[tuple[str, Address]], port: int) -> None:
        if self._observer is not None and found.trouble is not None:
            host, address = planned[0]
            sts = PolicyFound(domain, PolicyKind.STS)
            self._observer.negotiated(Host(host, port, address=str(address)), sts, found.trouble)

    # ── asking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _secure_hosts(self, domain: str) -> frozenset[str] | None:
        """The names that validated MX records give; None where they aren't validated, so that they prove nothing.

        Raises TemporaryFailure: the records were there a moment ago, and may have been validated ones.
        """
        assert self._resolver is not None
        try:
            answer = await self._resolver.find(domain, "MX")
        except NotFound:
            return frozenset({domain}) if await self._bases(domain) else None
        if not answer.is_secure:
            return None
        return frozenset(exchange.host for exchange in exchanges(answer.records))

    async def _bases(self, name: str) -> tuple[str, ...]:
        """Below which names TLSA records count: first where its validated addresses are, after aliases, then its own.
        Its own alone where it is a validated alias of something that isn't; none where nothing is (rfc7672#2.2.2).

        One family's addresses are enough. Raises TemporaryFailure where there are none, and nobody can tell.
        """
        assert self._resolver is not None
        there: list[Answer] = []
        failure: TemporaryFailure | None = None
        for kind in ("A", "AAAA"):  # one by one: whoever looked for the host has both already
            try:
                there.append(await self._resolver.find(name, kind))
            except NotFound:
                continue
            except TemporaryFailure as error:
                failure = error
        if not there and failure is not None:
            raise failure
        if not there:
            return ()
        if all(answer.is_secure for answer in there):
            return tuple(dict.fromkeys((there[0].name or name, name)))  # rfc7672#2.2.3
        if all(answer.name in ("", name) for answer in there):
            return ()
        try:
            alias = await self._resolver.find(name, "CNAME")
        except NotFound:
            return ()
        return (name,) if alias.is_secure else ()

    async def _published(self, host: str, port: int) -> _Published:
        try:
            bases = await self._bases(host)
        except TemporaryFailure as error:
            return _unknown(error)
        assert self._resolver is not None
        for name in bases:
            try:
                answer = await self._resolver.find(f"_{port}._tcp.{name}", "TLSA")
            except NotFound:
                continue
            except TemporaryFailure as error:
                return _unknown(error)
            if not answer.is_secure:
                continue
            parsed = [record for text in answer.records if (record := Tlsa.parse(text))]
            return _Published(usable(parsed), (name,), answer.records, is_there=True)
        return _UNPUBLISHED


_ASKING = frozenset({Security.DANE, Security.MTA_STS, Security.PUBLISHED})


def _identity(usual: Pair | None, rule: Rule | None) -> Pair | None:
    return rule.identity if rule is not None and rule.identity is not None else usual


def _plain(domain: str) -> str:
    try:
        return parse_domain(domain)
    except AddressError:
        return domain.lower()


def _is_tls_optional(content: Blob) -> bool:
    """Whether the message says that arriving matters more than how (RFC 8689 §3)."""
    return any(value.strip().lower() == b"no" for value in read_section(content).raw_values("TLS-Required"))


def _judge(
    domain: str,
    host: str,
    level: Security,
    published: _Published,
    found: Found,
    requiretls: bool,
    is_secure_mx: bool,
) -> Protection:
    """The protection of one host from all that is known. Pure."""
    if published.failure:
        tlsa = PolicyFound(domain, PolicyKind.TLSA)
        return Protection(refusal=published.failure, found=tlsa, trouble=Trouble.DNSSEC)
    if published.is_there and (level.asks_dns or (requiretls and level not in _CERTAIN)):
        tlsa = PolicyFound(domain, PolicyKind.TLSA, published.text, (host,))
        if published.records:
            names = (*published.names, host)
            if domain and any(record.usage == DANE_TA for record in published.records):
                names += (domain,)  # rfc7672#3.2.2; where names don't count, domains share the host's sessions
            names = tuple(dict.fromkeys(names))
            return Protection(Security.DANE, names, published.records, found=tlsa)
        if level is Security.DANE_ONLY or requiretls:
            return Protection(refusal="none of its TLSA records can be used", found=tlsa, trouble=Trouble.TLSA)
        return Protection(Security.ENCRYPT, found=tlsa)  # rfc7672#2.2: unusable is TLS without authentication
    plain = PolicyFound(domain)
    if level is Security.DANE_ONLY:
        why = "its TLS must be proven by DANE, and it has no secure TLSA records"
        return Protection(refusal=why, found=plain, trouble=Trouble.DANE_REQUIRED)
    policy = found.policy if level.asks_policy or requiretls else None
    if policy is not None and policy.mode is not Mode.NONE and level not in _CERTAIN:
        sts = PolicyFound(domain, PolicyKind.STS, policy.lines, policy.hosts)
        admitted = policy.admits(host)
        if policy.mode is Mode.ENFORCE or (requiretls and admitted):
            if admitted:
                return Protection(Security.REQUIRED, found=sts)
            why = f"the MTA-STS policy of {domain} doesn't name it"
            return Protection(refusal=why, found=sts, trouble=Trouble.HANDSHAKE)
        if not requiretls and admitted:
            return Protection(Security.STARTTLS, is_tried=True, found=sts)
        if not requiretls:  # rfc8461#4.1: nothing that its certificate says would count
            return Protection(Security.STARTTLS, found=sts, trouble=Trouble.HANDSHAKE)
    if requiretls and level not in _CERTAIN:
        if is_secure_mx:
            return Protection(Security.REQUIRED, found=plain)  # rfc8689#4.2.1
        return Protection(refusal=_UNPROVEN, found=plain)
    if level is Security.SECURE:
        return Protection(level, (domain, f".{domain}") if domain else (host,), found=plain)
    return Protection(level if level not in _ASKING else Security.STARTTLS, found=plain)


def _level(level: Security, rule: Rule | None) -> Security:
    return rule.level if rule is not None and rule.level is not None else level


def _is_demanding(protection: Protection) -> bool:
    return bool(protection.refusal) or protection.level is not Security.STARTTLS
