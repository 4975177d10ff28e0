"""Where the queue's mail goes, as an operator sees it: what waits for whom, how next servers are doing, suspension.

Strategy: what is suspended is one fact in the ledger, read when a server starts; each worker that is told changes the
fact and what it remembers itself. What waits is counted from the spools' rosters, which costs no reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gatepost.delivery.allowance import fits
from gatepost.delivery.destinations import Destinations
from gatepost.delivery.route import Host, Lmtp, Mx, Relay
from gatepost.delivery.ways import Ways
from gatepost.store.ledger import Ledger
from gatepost.store.spool import Spool

_SPACE, _KEY = "delivery", "suspended"
ROWS = 1000
_FOR_GOOD_S = 100 * 365 * 86400.0


async def suspended_since(ledger: Ledger) -> dict[str, float]:
    """What is suspended, and since when (s, Unix time)."""
    found = await ledger.get(_SPACE, _KEY)
    return {str(name): float(since) for name, since in found.items()} if isinstance(found, Mapping) else {}


class DestinationsDesk:
    """Views of destinations and acts on them. Without a running server there are no `destinations` and `ways`: then a
    domain is all that is known of where mail goes.
    """

    def __init__(
        self,
        spools: Sequence[Spool],
        ledger: Ledger,
        clock: Callable[[], float],
        destinations: Destinations | None = None,
        ways: Ways | None = None,
    ) -> None:
        self._spools = tuple(spools)
        self._ledger = ledger
        self._clock = clock
        self._destinations = destinations
        self._ways = ways

    async def listed(self, limit: int = ROWS) -> list[dict[str, Any]]:
        """A row for each destination that has something queued, in hand or held, and for what is suspended; a suspended
        domain has one of its own. Those with most queued come first, at most `limit`.
        """
        suspended = await self._since()
        rows: dict[str, dict[str, Any]] = {}
        domains: dict[str, set[str]] = {}
        for spool in self._spools:
            for domain, tally in spool.tallies().items():
                name = self._group(domain) if _covering(suspended, (domain,)) is None else domain
                row = rows.get(name)
                if row is None:
                    row = rows[name] = self._row(name, domain, suspended)
                domains.setdefault(name, set()).add(domain)
                row["queued"] += tally.queued
                row["in_hand"] += tally.leased
                row["held"] += tally.held
                row["next_attempt"] = _least(row["next_attempt"], tally.next_due)
                row["oldest"] = _least(row["oldest"], tally.oldest)
        for name, row in rows.items():
            row["domains"] = len(domains[name])
        for name in suspended:
            if not any(fits((name,), one) for one in rows):
                rows[name] = self._row(name, name, suspended)
        return _foremost(rows, limit)

    async def suspend(self, names: Iterable[str]) -> list[str]:
        """Nobody is delivered to there any more, until it is resumed; what is under way is finished."""
        since = await self._since()
        now = self._clock()
        for name in map(_plain, names):
            since.setdefault(name, now)
        await self._remember(since)
        return sorted(since)

    async def resume(self, names: Iterable[str]) -> dict[str, int]:
        """Delivered to again, from now on; how many entries that made due, by name, -1 where it wasn't suspended."""
        since = await self._since()
        names = [*map(_plain, names)]
        known = [name for name in names if since.pop(name, None) is not None]
        if known:
            await self._remember(since)
        return {name: await self.retry(name) if name in known else -1 for name in names}

    async def retry(self, name: str) -> int:
        """Everything for a destination is due now, and its servers may be called at once; how many entries that is."""
        name = _plain(name)
        self.forgive(name)
        concerns = self.concerns(name)
        return sum([await spool.flush(concerns) for spool in self._spools])

    def forgive(self, name: str = "*") -> None:
        """The servers of a destination, or all of them, may be called at once."""
        if self._destinations is not None:
            self._destinations.health.forgive(lambda key: self._is_for(name, key))

    def concerns(self, name: str) -> Callable[[str, str], bool]:
        """Whether a lane goes there: by its domain, its group, or a server of it."""
        name = _plain(name)
        known: dict[str, bool] = {}

        def concerned(domain: str, _: str) -> bool:
            if (found := known.get(domain)) is None:
                found = known[domain] = any(fits((name,), one) for one in (domain, *self._names(domain)) if one)
            return found

        return concerned

    async def _since(self) -> dict[str, float]:
        if self._destinations is not None:
            return dict(self._destinations.suspensions.since)
        return await suspended_since(self._ledger)

    async def _remember(self, since: dict[str, float]) -> None:
        await self._ledger.put(_SPACE, _KEY, since, _FOR_GOOD_S)
        if self._destinations is not None:
            self._destinations.suspensions.replace(since)

    def _group(self, domain: str) -> str:
        return domain if self._ways is None else self._ways.group(domain)

    def _hosts(self, domain: str) -> tuple[Host, ...]:
        if self._ways is None or self._destinations is None:
            return ()
        match self._ways.action(domain):
            case Relay(hosts=hosts) | Lmtp(hosts=hosts):
                return hosts
            case Mx():
                return self._destinations.hosts_of(domain)
            case _:
                return ()

    def _names(self, domain: str) -> Iterable[str]:
        """What a domain's destination may be called by, besides the domain."""
        yield self._group(domain)
        for host in self._hosts(domain):
            yield from _names_of(host)

    def _is_for(self, name: str, key: object) -> bool:
        """Whether something whose health is known is meant by a name: a host's text, or a hop."""
        if isinstance(key, str):
            return any(fits((name,), one) for one in (key, key.partition("[")[0], key.rpartition(":")[0])) or any(
                key == str(host) for host in self._hosts(name)
            )
        hosts = self._hosts(name)
        return isinstance(key, Relay | Lmtp) and any(
            host in hosts or any(fits((name,), one) for one in _names_of(host)) for host in key.hosts
        )

    def _row(self, name: str, domain: str, suspended: Mapping[str, float]) -> dict[str, Any]:
        hosts = self._hosts(domain)
        row: dict[str, Any] = {
            "destination": name,
            "domains": 0,
            "queued": 0,
            "in_hand": 0,
            "held": 0,
            "oldest": None,
            "next_attempt": None,
            "connections": 0,
            "at_a_time": None,
            "failures": 0,
            "last_failure": "",
            "rests_until": None,
            "suspended": _covering(suspended, (name, domain, *(one for host in hosts for one in _names_of(host)))),
        }
        if self._destinations is None:
            return row
        for host in dict.fromkeys(map(str, hosts)):
            row["connections"] += self._destinations.sessions(host)
            condition = self._destinations.condition(host)
            if condition is None:
                continue
            row["at_a_time"] = max(row["at_a_time"] or 0, condition.window)
            row["failures"] = max(row["failures"], condition.failures)
            if condition.why is not None and condition.failures:
                row["last_failure"] = str(condition.why).replace("\n", " ")
            if condition.rest_s:
                row["rests_until"] = max(row["rests_until"] or 0.0, self._clock() + condition.rest_s)
        return row


def merged(told: Iterable[Sequence[Mapping[str, Any]]], limit: int = ROWS) -> list[dict[str, Any]]:
    """The rows of several workers as one list."""
    rows: dict[str, dict[str, Any]] = {}
    for some in told:
        for row in some:
            known = rows.get(row["destination"])
            if known is None:
                rows[row["destination"]] = dict(row)
                continue
            for key in ("queued", "in_hand", "held", "connections"):
                known[key] += row[key]
            for key in ("oldest", "next_attempt", "suspended"):
                known[key] = _least(known[key], row[key])
            known["domains"] = max(known["domains"], row["domains"])
            known["at_a_time"] = max(known["at_a_time"] or 0, row["at_a_time"] or 0) or None
            known["rests_until"] = max(known["rests_until"] or 0.0, row["rests_until"] or 0.0) or None
            if row["failures"] > known["failures"]:
                known["failures"], known["last_failure"] = row["failures"], row["last_failure"]
    return _foremost(rows, limit)


def _foremost(rows: Mapping[str, dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """What is suspended, then whoever has most queued."""
    order = sorted(rows.values(), key=lambda row: (row["suspended"] is None, -row["queued"], row["destination"]))
    return sorted(order[:limit], key=lambda row: (-row["queued"], row["destination"]))


def _plain(name: str) -> str:
    return name.strip().lower().removeprefix("@").removesuffix(".")


def _names_of(host: Host) -> tuple[str, ...]:
    return tuple(one for one in (host.name.lower(), host.address, str(host)) if one)


def _covering(suspended: Mapping[str, float], names: Iterable[str]) -> float | None:
    """Since when the first that covers one of the names is suspended."""
    names = [*names]
    return next((since for name, since in suspended.items() for one in names if fits((name,), one)), None)


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)
