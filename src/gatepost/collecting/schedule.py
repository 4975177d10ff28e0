"""When each account is looked at: by its interval, later after trouble, at once when somebody asks.

Strategy: one task sleeps until the next account is due; each run is a task of its own, at most one an account and
_AT_ONCE in all, and never two over one maildrop, whatever accounts are called after a reload. Whoever asks for an
account that is being looked at waits for that run. How the last run went is kept beside the ledger: after a restart an
account is tried within a minute, since that is what mends a wrong password, and then as seldom as before.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakValueDictionary

from gatepost.collecting.accounts import Account
from gatepost.collecting.collector import Collector, House
from gatepost.collecting.ledger import ROOT, maildrop_digest
from gatepost.collecting.ports import Trouble
from gatepost.collecting.reports import Report, Step
from gatepost.collecting.sweeping import swept
from gatepost.store.errors import SpoolError

log = logging.getLogger("gatepost.collecting")

_AT_ONCE = 8
_SWEEP_S = 86400.0
_MORE_S = 1.0  # until the next run, where one run wasn't enough
_LOGIN_S, _LOGIN_MOST_S = 900.0, 86400.0
_TROUBLE_S, _TROUBLE_MOST_S = 60.0, 3600.0


def pause_s(account: Account, report: Report, failures: int) -> float | None:
    """How long until the next run, in seconds; None where it isn't by interval. `failures` in a row, this one too.

    A login that was refused is tried again after a quarter of an hour, then ever more seldom: a server that counts
    wrong passwords would lock the account.
    """
    if not account.every_s or not account.enabled:
        return None
    match report.trouble:
        case None:
            return min(_MORE_S, account.every_s) if report.more and report.taken else account.every_s
        case Trouble.LOGIN:
            first, most = _LOGIN_S, _LOGIN_MOST_S
        case _:
            first, most = _TROUBLE_S, _TROUBLE_MOST_S
    doubled = first * 2.0 ** min(failures - 1, 20)
    return max(account.every_s, min(doubled, most))


@dataclass(slots=True)
class Standing:
    """How an account is doing. `next_at` is Unix time in seconds, None where nothing is planned."""

    account: Account
    last: Report | None = None
    failures: int = 0
    next_at: float | None = None
    step: Step | None = None
    """What its run has told last; None where there is none."""
    running: asyncio.Task[Report] | None = field(default=None, repr=False)
    totals: dict[str, int] = field(default_factory=dict)
    """Of all runs of this process."""

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        account, step = self.account, self.step
        return {
            "name": account.name,
            "server": f"{account.login.host}:{account.login.port}",
            "user": account.login.user,
            "enabled": account.enabled,
            "every_s": account.every_s,
            "running": self.running is not None,
            "step": None if step is None else _plain(step),
            "last": None if self.last is None else self.last.as_json(),
            "failures": self.failures,
            "next_at": self.next_at,
            "totals": dict(self.totals),
        }


class Collecting:
    """All accounts of a server. Invariant: at most one run an account at a time."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._standings: dict[str, Standing] = {}
        self._woken = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._loop: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[Report]] = set()
        self._doors: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By maildrop: whoever holds it has the run."""
        self._sweep_at = 0.0

    # ── beginning and ending ───────────────────────────────────────────────────────────────────────────────────────

    async def begin(self, accounts: Sequence[Account]) -> None:
        """Take up how they were doing, and look at each when it is due."""
        self._standings = recalled(accounts, await self._house.notes.memos(ROOT), self._house.now())
        self.switch(accounts)
        self._loop = asyncio.create_task(self._keep(), name="collecting")

    def switch(self, accounts: Sequence[Account]) -> None:
        """Other accounts from now on. A run under way goes on as it began; who logs in otherwise now is due at once."""
        before, self._standings = self._standings, {}
        for account in accounts:
            standing = before.get(account.name)
            if standing is None or (standing.account != account and _is_another(standing.account, account)):
                fresh = Standing(account, next_at=self._house.now() if account.every_s and account.enabled else None)
                if standing is not None:
                    fresh.last, fresh.running, fresh.totals = standing.last, standing.running, standing.totals
                standing = fresh
            elif standing.account != account:
                standing.account = account
                pause = _pause(standing)
                standing.next_at = None if pause is None else self._house.now() + min(pause, account.every_s)
            self._standings[account.name] = standing
        self._woken.set()

    async def stop(self) -> None:
        """Nothing more is begun, and what is under way ends where it stands: the next run goes on from there."""
        tasks: list[asyncio.Task[Any]] = [one.running for one in self._standings.values() if one.running is not None]
        tasks += self._ending
        if self._loop is not None:
            tasks.append(self._loop)
            self._loop = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ── what is asked of it ────────────────────────────────────────────────────────────────────────────────────────

    def listed(self) -> list[dict[str, Any]]:
        """Every account, as plain data."""
        return [one.as_json() for one in self._standings.values()]

    def names(self) -> list[str]:
        """Every account's."""
        return [*self._standings]

    def fetch(self, name: str) -> asyncio.Task[Report]:
        """A run over this account, from now on or already under way. KeyError if there is none of that name."""
        return self._run(self._standings[name], asked=True)

    # ── while it runs ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep(self) -> None:
        while True:
            self._woken.clear()
            now = self._house.now()
            if now >= self._sweep_at:
                self._sweep_at = now + _SWEEP_S
                await self._sweep(now)
            for standing in self._standings.values():
                if standing.running is None and standing.next_at is not None and standing.next_at <= now:
                    self._run(standing)
            planned = [one.next_at for one in self._standings.values() if one.next_at is not None and not one.running]
            wait_s = min(60.0, max(0.05, min(planned) - now)) if planned else _SWEEP_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()

    async def _sweep(self, now: float) -> None:
        notes = self._house.notes
        try:
            accounts = [one.account for one in self._standings.values()]
            if changes := swept(await notes.memos(ROOT), accounts, now):
                await notes.commit((), memos=changes)
        except SpoolError as error:
            log.warning("what is kept of accounts that are gone can't be swept: %s", error)

    def _run(self, standing: Standing, *, asked: bool = False) -> asyncio.Task[Report]:
        if standing.running is None:
            account = standing.account
            task = asyncio.create_task(self._collect(account, asked), name=f"collect {account.name}")
            standing.running = task
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        return standing.running

    async def _collect(self, account: Account, asked: bool) -> Report:
        report = Report(account.name, self._house.now())
        door = self._doors.setdefault(maildrop_digest(account), asyncio.Lock())
        try:
            async with door, self._slots:
                report = await Collector(account, self._house, self._heard, asked=asked).run()
        except Exception as error:
            log.exception("%s: a run has failed", account.name)
            trouble = f"a fault of ours: {type(error).__name__}"
            report = Report(account.name, report.began, self._house.now(), trouble=Trouble.TEMPORARY, text=trouble)
        finally:
            if (standing := self._standings.get(account.name)) is not None:
                standing.running = standing.step = None
        if standing is not None:
            await self._ended(standing, report, account)
        return report

    async def _ended(self, standing: Standing, report: Report, account: Account) -> None:
        standing.last = report
        standing.failures = 0 if report.is_well else standing.failures + 1
        for name in ("taken", "held", "discarded", "deleted", "octets"):
            standing.totals[name] = standing.totals.get(name, 0) + getattr(report, name)
        standing.totals["runs"] = standing.totals.get("runs", 0) + 1
        if standing.account == account:  # else a reload has planned it
            pause = pause_s(account, report, standing.failures)
            standing.next_at = None if pause is None else self._house.now() + pause
        self._woken.set()
        facts = {**report.as_json(), "failures": standing.failures}
        try:
            await self._house.notes.commit((), memos={_run_memo(account): json.dumps(facts).encode()})
        except SpoolError as error:
            log.warning("%s: how the run went can't be kept: %s", account.name, error)

    def _heard(self, step: Step) -> None:
        if (standing := self._standings.get(step.account)) is not None:
            standing.step = step


def _pause(standing: Standing) -> float | None:
    if standing.last is None:
        return 0.0 if standing.account.every_s and standing.account.enabled else None
    return pause_s(standing.account, standing.last, max(1, standing.failures))


def _is_another(before: Account, after: Account) -> bool:
    """Whether what stood in the way before needn't any more: another server, user, password or way to log in."""
    return before.login != after.login or before.enabled != after.enabled


def recalled(accounts: Sequence[Account], memos: Mapping[str, bytes], now: float) -> dict[str, Standing]:
    """How the accounts were doing that have had a run, by name."""
    found = ((one, memos.get(_run_memo(one))) for one in accounts)
    return {one.name: _recalled(one, memo, now) for one, memo in found if memo is not None}


def _run_memo(account: Account) -> str:
    return f"{ROOT}{maildrop_digest(account)}/run"


def _recalled(account: Account, memo: bytes, now: float) -> Standing:
    try:
        facts = json.loads(memo)
        last = replace(Report.read(facts), account=account.name)
        failures = int(facts["failures"])
    except (ValueError, TypeError, KeyError):
        return Standing(account, next_at=now if account.every_s and account.enabled else None)
    standing = Standing(account, last, failures)
    if (pause := pause_s(account, last, max(1, failures))) is not None:
        standing.next_at = min(last.ended + pause, now + _TROUBLE_S)
    return standing


def _plain(step: Step) -> dict[str, Any]:
    return {
        "word": step.word.value,
        "done": step.done,
        "total": step.total,
        "octets": step.octets,
        "size": step.size,
        "text": step.text,
    }
