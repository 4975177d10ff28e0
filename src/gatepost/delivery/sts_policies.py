"""The MTA-STS policies of domains (RFC 8461), kept in the ledger that all workers share.

A policy holds as long as it says, whether or not its record and its server can still be asked: who could make it go
away by cutting them off would have no need to break it. It is fetched anew when the record's id changes and once a day;
a fetch that fails leaves it as it is.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gatepost.delivery.handshakes import Trouble
from gatepost.net.answers import NotFound, ResolverError, Resolving
from gatepost.net.mta_sts import FetchFailed, Policy, PolicyInvalid, policy_id
from gatepost.store.ledger import LedgerError

_SPACE = "mta-sts"
_DAY_S = 86_400.0
_AGAIN_S = 300.0  # rfc8461#3.3: no second fetch within five minutes of a failed one
_FRESH_S = 60.0  # how long what was found is used without a look at the record
_DOMAINS = 10_000  # remembered in this process
log = logging.getLogger("gatepost.delivery")


class Facts(Protocol):
    """The part of the ledger that is used. Both raise LedgerError."""

    async def put(self, space: str, key: str, value: Any, ttl_s: float) -> None: ...

    async def get(self, space: str, key: str) -> Any: ...


class Fetching(Protocol):
    """Who fetches policies; see `gatepost.net.mta_sts.Fetcher`."""

    async def fetch(self, domain: str) -> Policy: ...


@dataclass(frozen=True, slots=True)
class Found:
    """What holds for a domain: its policy, or none; and why there is none although its record says so."""

    policy: Policy | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """A policy as the ledger has it. Times are Unix time in seconds."""

    policy: Policy
    id: str
    looked_at: float
    until: float


_NONE = Found()


class Policies:
    """Finds policies; one fetch of a domain's at a time in each worker."""

    def __init__(self, resolver: Resolving, facts: Facts, fetcher: Fetching, *, clock: Callable[[], float]) -> None:
        """`clock` gives Unix time in seconds."""
        self._resolver = resolver
        self._facts = facts
        self._fetcher = fetcher
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Found]] = OrderedDict()
        self._failed: OrderedDict[str, tuple[float, Trouble]] = OrderedDict()
        self._looking: dict[str, asyncio.Task[Found]] = {}

    async def find(self, domain: str) -> Found:
        """What holds for a domain (A-labels, lower case) now. Never raises for what the DNS or the server says."""
        known = self._known.get(domain)
        if known is not None and known[0] > self._clock():
            return known[1]
        task = self._looking.get(domain)
        if task is None:
            task = self._looking[domain] = asyncio.create_task(self._look(domain))
            task.add_done_callback(lambda _: self._looking.pop(domain, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Gives up the fetches that are under way."""
        tasks = [*self._looking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, domain: str) -> Found:
        kept = await self._kept(domain)
        said: str | None
        try:
            said = policy_id(await self._resolver.txt(f"_mta-sts.{domain}"))
        except NotFound:
            said = None
        except ResolverError:
            said = kept.id if kept else None
        found = Found(kept.policy) if kept else _NONE
        now = self._clock()
        if said is not None and (kept is None or kept.id != said or now - kept.looked_at >= _DAY_S):
            fetched = await self._fetch(domain, said)
            found = fetched if fetched.policy is not None or kept is None else found
        _remember(self._known, domain, (self._clock() + _FRESH_S, found))
        return found

    async def _fetch(self, domain: str, said: str) -> Found:
        failed = self._failed.get(domain)
        if failed is not None and failed[0] > self._clock():
            return Found(None, failed[1])
        try:
            policy = await self._fetcher.fetch(domain)
        except (PolicyInvalid, FetchFailed, ResolverError, ssl.SSLError) as error:
            log.warning("the MTA-STS policy of %s can't be used: %s", domain, error)
            trouble = Trouble.STS_INVALID if isinstance(error, PolicyInvalid) else Trouble.STS_FETCH
            _remember(self._failed, domain, (self._clock() + _AGAIN_S, trouble))
            return Found(None, trouble)
        self._failed.pop(domain, None)
        now = self._clock()
        value = [policy.mode.value, [*policy.hosts], policy.max_age, said, now, now + policy.max_age]
        try:
            await self._facts.put(_SPACE, domain, value, max(1.0, policy.max_age))
        except LedgerError as error:
            log.warning("the MTA-STS policy of %s isn't kept: %s", domain, error)
        return Found(policy)

    async def _kept(self, domain: str) -> _Kept | None:
        try:
            value = await self._facts.get(_SPACE, domain)
        except LedgerError:
            return None
        if value is None:
            return None
        mode, hosts, max_age, said, looked_at, until = value
        lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {host}" for host in hosts), f"max_age: {max_age}"]
        kept = _Kept(Policy.parse("\n".join(lines)), said, looked_at, until)
        return kept if kept.until > self._clock() else None


def _remember(places: OrderedDict[str, Any], domain: str, value: object) -> None:
    places[domain] = value
    places.move_to_end(domain)
    if len(places) > _DOMAINS:
        places.popitem(last=False)
