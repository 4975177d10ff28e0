"""TLS reports (RFC 8460): sessions are counted by domain and UTC day, and domains that ask for it are told.

Each worker counts in memory and writes what it has into the ledger, under a key of its own, so that nobody waits for a
lock; one worker puts yesterday's counts of all together and sends them. Which day was sent is in the ledger too: what
was missed while the server was down is sent late, and nothing twice. A minute's counts may be lost with a process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from gatepost.content.tls_report import MEDIA_TYPE, Failures, PolicySummary, Report, render_mail
from gatepost.delivery.handshakes import Trouble
from gatepost.delivery.route import Host
from gatepost.delivery.security import PolicyFound, PolicyKind
from gatepost.delivery.sts_policies import Facts
from gatepost.model import Path
from gatepost.net.answers import ResolverError, Resolving
from gatepost.net.https import Answered, HttpsFailed
from gatepost.store import SpoolError
from gatepost.store.ledger import LedgerError

DAY_S = 86_400
_SPACE = "tls-reports"
_KEPT_S = 4 * DAY_S  # counts of a day, and that it was sent
_FLUSH_S = 60.0
_SPREAD_S = 4 * 3600.0  # rfc8460#4.1: not everybody at midnight
_POLICIES = 5_000  # counted in one day by one worker
_FAILURES = 100  # kinds of failures counted under one policy
_PLACES = 5  # where one domain is told
log = logging.getLogger("gatepost.delivery")


@dataclass(slots=True)
class _Count:
    """Sessions under one policy."""

    succeeded: int = 0
    failed: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def add(self, key: tuple[str, str, str], count: int) -> None:
        if key in self.failed or len(self.failed) < _FAILURES:
            self.failed[key] = self.failed.get(key, 0) + count


class Counts:
    """A day's sessions by policy. `negotiated` is called by the dialer; it neither waits nor fails."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        """`clock` gives Unix time in seconds."""
        self._clock = clock
        self._days: dict[int, dict[PolicyFound, _Count]] = {}
        self._changed: set[int] = set()

    def negotiated(self, host: Host, found: PolicyFound, trouble: Trouble | None) -> None:
        """One session more; see `dialer.Observer`."""
        day = int(self._clock()) // DAY_S
        counts = self._days.setdefault(day, {})
        count = counts.get(found)
        if count is None:
            if not found.domain or len(counts) >= _POLICIES:
                return
            count = counts[found] = _Count()
        if trouble is None:
            count.succeeded += 1
        else:
            count.add((trouble.value, host.name, host.address or ""), 1)
        self._changed.add(day)

    def add(self, day: int, value: Any) -> None:
        """Counts as they were written."""
        counts = self._days.setdefault(day, {})
        for domain, kind, text, hosts, succeeded, failed in value:
            count = counts.setdefault(PolicyFound(domain, PolicyKind(kind), tuple(text), tuple(hosts)), _Count())
            count.succeeded += succeeded
            for result, host, address, number in failed:
                count.add((result, host, address), number)

    def written(self) -> Iterator[tuple[int, Any]]:
        """The days that have changed since the last time, in what the ledger carries; days that are over go."""
        for day in sorted(self._changed):
            counts = self._days.get(day, {})
            yield (
                day,
                [
                    [one.domain, one.kind.value, [*one.text], [*one.hosts], count.succeeded, _failed(count)]
                    for one, count in counts.items()
                ],
            )
        self._changed.clear()
        today = int(self._clock()) // DAY_S
        self._days = {day: counts for day, counts in self._days.items() if day >= today}

    def summaries(self, day: int) -> dict[str, list[PolicySummary]]:
        """A day's policies by domain."""
        found: dict[str, list[PolicySummary]] = {}
        for one, count in self._days.get(day, {}).items():
            failures = [Failures(*key, number) for key, number in count.failed.items()]
            summary = PolicySummary(one.kind.value, one.domain, one.text, one.hosts, count.succeeded, failures)
            found.setdefault(one.domain, []).append(summary)
        return found


def _failed(count: _Count) -> list[list[Any]]:
    return [[*key, number] for key, number in count.failed.items()]


class Posting(Protocol):
    """Who makes HTTPS requests; see `gatepost.net.https.Https`."""

    async def ask(
        self,
        method: str,
        name: str,
        path: str,
        *,
        port: int | None = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answered: ...


@dataclass(frozen=True, slots=True)
class Sender:
    """Who reports: the organization's name, the address to write to, and the domain that it sends as."""

    organization: str
    contact: str
    submitter: str


Submit = Callable[[str, str, bytes], Awaitable[None]]
"""Queues a mail: sender, recipient, content. Raises ValueError and OSError where it can't."""


class Reporter:
    """Writes one worker's counts, and sends the reports of all where it is the one that does."""

    def __init__(
        self,
        counts: Counts,
        facts: Facts,
        resolver: Resolving,
        sender: Sender,
        submit: Submit,
        https: Posting,
        *,
        worker: int,
        workers: int,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        """`worker` of `workers` counts here; number 0 sends. `chance` gives fractions below 1."""
        self._counts = counts
        self._facts = facts
        self._resolver = resolver
        self._sender = sender
        self._submit = submit
        self._https = https
        self._worker = worker
        self._workers = workers
        self._clock = clock
        self._delay_s = chance() * _SPREAD_S

    async def run(self) -> None:
        """Goes on until it is cancelled, and then writes what is left."""
        try:
            await self._resume()
            while True:
                await asyncio.sleep(_FLUSH_S)
                await self.flush()
                if self._worker == 0 and self._clock() % DAY_S >= self._delay_s:
                    await self.send_day(int(self._clock()) // DAY_S - 1)
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Writes what has changed."""
        for day, value in self._counts.written():
            try:
                await self._facts.put(_SPACE, f"{day}/{self._worker}", value, _KEPT_S)
            except LedgerError as error:
                log.warning("counts for TLS reports are lost: %s", error)

    async def _resume(self) -> None:
        """Goes on with what this worker counted today before it was started anew."""
        day = int(self._clock()) // DAY_S
        value = await self._get(f"{day}/{self._worker}")
        if value is not None:
            self._counts.add(day, value)

    async def send_day(self, day: int) -> int:
        """Sends the reports about a day (days since 1970), once; how many."""
        key = f"{day}/sent"
        if await self._get(key) is not None:
            return 0
        try:  # before the first report, so that a failure in the middle doubles nothing
            await self._facts.put(_SPACE, key, True, _KEPT_S)
        except LedgerError:
            return 0
        whole = Counts(clock=self._clock)
        for worker in range(self._workers):
            value = await self._get(f"{day}/{worker}")
            if value is not None:
                whole.add(day, value)
        sent = 0
        for domain, policies in whole.summaries(day).items():
            sent += await self._send(day, domain, policies)
        return sent

    async def _get(self, key: str) -> Any:
        try:
            return await self._facts.get(_SPACE, key)
        except LedgerError:
            return None

    async def _send(self, day: int, domain: str, policies: Sequence[PolicySummary]) -> int:
        try:
            places = report_places(await self._resolver.txt(f"_smtp._tls.{domain}"))
        except ResolverError:
            return 0
        if not places:
            return 0
        begin = day * DAY_S
        id_ = f"{begin}.{domain}"
        by = self._sender
        report = Report(by.organization, by.contact, id_, domain, begin, begin + DAY_S - 1, policies)
        for place in places[:_PLACES]:
            try:
                await self._tell(place, report)
            except (OSError, ValueError, ResolverError, SpoolError) as error:
                log.warning("the TLS report for %s can't be sent to %s: %s", domain, place, error)
                continue
            return 1  # rfc8460#3: to one of them is enough
        return 0

    async def _tell(self, place: str, report: Report) -> None:
        if place.startswith("mailto:"):
            to = unquote(urlsplit(place).path)
            Path.parse(to)  # an AddressError is a ValueError
            by = self._sender
            content = render_mail(report, submitter=by.submitter, sender=by.contact, to=to, now=self._clock())
            await self._submit(by.contact, to, content)
            return
        parts = urlsplit(place)
        if not parts.hostname:
            raise ValueError("it names no server")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        answered = await self._https.ask(
            "POST",
            parts.hostname,
            path,
            port=parts.port,
            content=report.compressed(),
            headers={"Content-Type": MEDIA_TYPE},
        )
        if not 200 <= answered.status < 300:
            raise HttpsFailed(f"it answered {answered.status}")


def report_places(records: Sequence[str]) -> list[str]:
    """Where a domain wants reports, from the TXT records at `_smtp._tls`: `mailto:` and `https:` URIs (RFC 8460 §3)."""
    ours = [record for record in records if record.partition(";")[0].strip() == "v=TLSRPTv1"]
    if len(ours) != 1:
        return []
    for one in ours[0].split(";")[1:]:
        key, _, value = one.strip().partition("=")
        if key.strip() == "rua":
            places = [place.strip() for place in value.split(",")]
            return [place for place in places if _is_place(place)]
    return []


def _is_place(place: str) -> bool:
    scheme, _, rest = place.partition(":")
    return scheme in ("mailto", "https") and bool(rest) and place.isascii() and place.isprintable()
