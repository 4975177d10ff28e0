"""Empties the spool: takes what is due, gives each entry to a task, settles what came of it.

Strategy: leases bound what is in hand, and are given by turns (store.lanes); the next look at the spool is made when
something was committed, a task has ended, or the next entry falls due. A task groups its entry's recipients by what
their routes say and asks each destination once. Where nobody was asked, since the destination is left alone, it was no
attempt. While reception is busy only a part of the places is used.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import assert_never

from gatepost.delivery.carrying import BUG, Carrier, Followed
from gatepost.delivery.destinations import Destinations
from gatepost.delivery.expanding import Expansion, expansion, looped
from gatepost.delivery.notice import Policy
from gatepost.delivery.ports import Aliases, Lists, Maildrop, Observer
from gatepost.delivery.route import Routes
from gatepost.delivery.schedule import Schedule
from gatepost.delivery.settlement import Result, Settlement, postpone, settle
from gatepost.delivery.submission import Stage, Submission
from gatepost.delivery.ways import Ways
from gatepost.hooks.stages import Submitted
from gatepost.store import Entry, Fate, Spool, SpoolError

log = logging.getLogger("gatepost.delivery")

_SHORTEST_S = 0.05  # a pause, so that an entry that is due but can't be read isn't asked for without end
_SPREAD = 0.1  # the part of a rest over which those who waited for its end come back
_LONGEST_SPREAD_S = 300.0
_RESERVE = 10  # one place in so many, of the fewest there are, is kept for our own maildrops
_MANY = 50  # tasks in hand, while which places are given in portions: each look at the spool has its price
_GATHER_S = 0.005
_SET_BACK_S = 60.0  # a clock that is set back by more makes what waits wait longer than it should
_BUSY_S = 1.0  # how often it is looked whether reception is still busy
"""Who hears of the attempts for some of an entry's recipients."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is done at a time: entries in hand, and of those while reception is busy; seconds between retries of a
    settlement that the disk refused, and the longest sleep without looking at the spool.
    """

    in_hand: int = 500
    while_busy: int = 50
    settle_again_s: float = 1.0
    longest_sleep_s: float = 60.0


class Runner:
    """Delivery of one worker. Every lease it takes is settled, or given back when it stops."""

    def __init__(
        self,
        spool: Spool,
        routes: Callable[[], Routes],
        maildrop: Maildrop,
        destinations: Destinations,
        policy: Policy,
        observer: Observer,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
        schedule: Schedule | None = None,
        limits: Limits | None = None,
        is_reception_busy: Callable[[], bool] = lambda: False,
        followed: Followed = lambda entry, recipients: None,
        submission: Submission | None = None,
        lists: Callable[[], Lists | None] = lambda: None,
        aliases: Callable[[], Aliases | None] = lambda: None,
    ) -> None:
        """`routes` and `aliases` are asked for each entry, so that a reload counts at once; `aliases` gives None where
        there are none. `clock` gives Unix time in seconds,
        `steady` seconds that nobody sets, `chance` a fraction between 0 and 1. The runner takes over
        `spool.on_commit` while it runs.
        """
        self._spool = spool
        self._destinations = destinations
        self._policy = policy
        self._observer = observer
        self._clock = clock
        self._chance = chance
        self._steady = steady
        self._ahead = clock() - steady()
        self.schedule = schedule or Schedule()
        """May be replaced while it runs."""
        self._limits = limits or Limits()
        reserve = min(self._limits.in_hand, self._limits.while_busy) // _RESERVE
        self._ways = Ways(routes, destinations, reserve=reserve)
        self._is_reception_busy = is_reception_busy
        self._submission = submission
        self._aliases = aliases
        self._carrier = Carrier(routes, maildrop, destinations, policy, clock=clock, followed=followed, lists=lists)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._is_full = False
        """There may be more to take, but no place for it: then the end of a task counts."""
        self._is_stopping = False

    async def run(self) -> None:
        """Deliver until stopped (or cancelled, which leaves attempts under way to `stop`)."""
        self._spool.on_commit = self.wake
        self.sort()
        while not self._is_stopping:
            if self._is_full and len(self._tasks) > _MANY:
                await asyncio.sleep(_GATHER_S)
            self._wake.clear()
            if not await self._take():
                await self._sleep()

    def sort(self) -> None:
        """Routes or allowances may be others now: look anew at where everybody's mail goes."""
        self._spool.sort_by(self._ways.of)

    def wake(self) -> None:
        """Look at the spool again: something may have become due, or reception has gone quiet."""
        self._wake.set()

    async def stop(self, grace_s: float = 10.0) -> None:
        """Take nothing more; after `grace_s` seconds end what is under way and give its leases back."""
        self._is_stopping = True
        self._spool.on_commit = None
        self._wake.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._destinations.close()

    async def _take(self) -> bool:
        """Start what is due, as far as there are places; whether there may be more."""
        if (back := self._ahead - (self._clock() - self._steady())) > _SET_BACK_S:
            await self._set_back(back)
        self._ahead = self._clock() - self._steady()
        free = self._free()
        self._is_full = free <= 0
        if self._is_full:
            return False
        try:
            entries = await self._spool.due(self._clock(), free, leaves_room=True)
        except SpoolError as error:
            log.error("the spool can't be read: %s", error)
            return False
        loop = asyncio.get_running_loop()
        for entry in entries:
            task = loop.create_task(self._deliver(entry))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return bool(entries)

    async def _set_back(self, seconds: float) -> None:
        """What is due by a clock that was ahead would wait so much longer. A clock that is put on needs nothing."""
        try:
            moved = await self._spool.set_back(seconds)
        except SpoolError as error:
            log.error("the clock was set back by %.0f s, and what waits can't be moved: %s", seconds, error)
        else:
            log.warning("the clock was set back by %.0f s: %d entries are due so much earlier", seconds, moved)

    def _free(self) -> int:
        places = self._limits.while_busy if self._is_reception_busy() else self._limits.in_hand
        return places - len(self._tasks)

    async def _sleep(self) -> None:
        pause = self._limits.longest_sleep_s
        if self._free() > 0:  # else a task that ends will wake us
            due, now = self._spool.next_due(), self._clock()
            if due is not None and due <= now and self._tasks:
                self._is_full = True  # whose turn it would be has its share already
            elif due is not None:
                pause = min(pause, max(due - now, _SHORTEST_S))
        if self._is_reception_busy():
            pause = min(pause, _BUSY_S)
        alarm = asyncio.get_running_loop().call_later(pause, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._is_full:
            self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery task has ended in an error", exc_info=error)

    async def _deliver(self, entry: Entry) -> None:
        settlement: Settlement | None = None
        goes_on: Expansion | None = None
        try:
            due = () if self._submission is None else self._submission.begin(entry)
            if (aliases := self._aliases()) is not None:
                goes_on, settlement = await self._expand(entry, aliases)
            if due and (goes_on is not None or self._carrier.expands(entry)):
                due = tuple(stage for stage in due if stage is Submitted)  # the other is for what it goes on as
            if due and self._submission is not None and settlement is None:
                entry, settlement = await self._ask(self._submission, due, entry)
            if goes_on is not None and settlement is None:
                settlement = goes_on.settled(entry, self._clock(), self._policy)
            else:
                goes_on = None
            results = [] if settlement is not None else looped(entry) or await self._carrier.attempt(entry)
        except BaseException:
            self._spool.release_lease(entry.id)
            self._over(entry)
            raise
        # from here on the lease ends with the settlement only: given back, the entry would be delivered once more
        settlement = settlement or self._decide(entry, results)
        rest_s = _rest_s(results) if settlement.next_attempt is not None else None
        if rest_s is not None:
            settlement = self._put_off(entry, settlement, rest_s)
        await self._settle(entry, settlement, counted=rest_s is None and goes_on is None)
        self._over(entry)
        self._tell(entry, settlement)

    def _over(self, entry: Entry) -> None:
        if self._submission is not None:
            self._submission.over(entry)

    async def _expand(self, entry: Entry, aliases: Aliases) -> tuple[Expansion | None, Settlement | None]:
        """Who of an entry's recipients are aliases, if any; or what it comes to where that can't be known now."""
        try:
            return await expansion(entry, aliases, partial(self._carrier.rests, entry)), None
        except Exception:
            log.exception("finding out where %s goes has failed inside; it waits", entry.id)
            later = [Result(recipient, Fate.LATER, BUG, is_ours=True) for recipient in entry.envelope.recipients]
            return None, postpone(later, now=self._clock(), schedule=self.schedule)

    async def _ask(self, submission: Submission, due: Sequence[Stage], entry: Entry) -> tuple[Entry, Settlement | None]:
        """The entry as plugins leave it, or what it comes to without an attempt."""
        try:
            taken = await submission.take_up(entry, due, self._decide)
        except Exception:
            log.exception("asking plugins about %s has failed inside; it waits", entry.id)
            later = [Result(recipient, Fate.LATER, BUG, is_ours=True) for recipient in entry.envelope.recipients]
            return entry, postpone(later, now=self._clock(), schedule=self.schedule)
        return (entry, taken) if isinstance(taken, Settlement) else (taken, None)

    def _decide(self, entry: Entry, results: Sequence[Result]) -> Settlement:
        now, chance = self._clock(), self._chance()
        schedule = self.schedule
        try:
            schedule = schedule.for_entry(entry, self._destinations.allowances)
            settlement = settle(entry, results, now=now, chance=chance, schedule=schedule, policy=self._policy)
        except Exception:
            log.exception("the settlement of %s has failed inside; it waits", entry.id)
            settlement = postpone(results, now=now, schedule=schedule)
        gone_on = [deposit for result in results for deposit in result.deposits]
        return replace(settlement, deposits=(*gone_on, *settlement.deposits)) if gone_on else settlement

    def _put_off(self, entry: Entry, settlement: Settlement, rest_s: float) -> Settlement:
        """The next attempt when the destination may be called again, a little spread, and not behind the end."""
        now = self._clock()
        end = entry.since + self.schedule.for_entry(entry, self._destinations.allowances).expire_s
        spread = self._chance() * min(_SPREAD * rest_s, _LONGEST_SPREAD_S)
        return replace(settlement, next_attempt=max(now, min(now + rest_s + spread, end)))

    async def _settle(self, entry: Entry, settlement: Settlement, *, counted: bool = True) -> None:
        """Until it is durable: what was delivered must not be delivered again because a disk is full for a while."""
        pause = self._limits.settle_again_s
        while True:
            try:
                await self._spool.settle(
                    entry.id,
                    settlement.outcomes,
                    next_attempt=settlement.next_attempt,
                    held=settlement.held,
                    deposits=settlement.deposits,
                    notes=(entry.notes or None) if settlement.notes is None else settlement.notes,
                    counted=counted,
                    records=settlement.records,
                )
                return
            except SpoolError as error:
                log.error("what became of %s can't be written, it is tried again: %s", entry.id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 60 * self._limits.settle_again_s)

    def _tell(self, entry: Entry, settlement: Settlement) -> None:
        for result in settlement.results:
            reply = result.reply
            match result.fate:
                case Fate.DONE:
                    self._observer.delivered(entry, result.recipient, reply, result.host)
                case Fate.LATER if (
                    result.rest_s is not None and entry.said.get(result.recipient.address) == result.said
                ):
                    pass  # it was told when it was heard first
                case Fate.LATER:
                    due = settlement.next_attempt or 0.0
                    self._observer.deferred(entry, result.recipient, reply or BUG, due, result.host)
                case Fate.FAILED:
                    self._observer.bounced(entry, result.recipient, reply or BUG, result.told, result.host)
                case _:
                    assert_never(result.fate)
        for deposit in settlement.deposits:
            if deposit.ticket != entry.ticket:
                self._observer.written(entry, deposit)


def _rest_s(results: Sequence[Result]) -> float | None:
    """How long to wait where nobody of those still waiting was asked; None where somebody was."""
    rests = [result.rest_s for result in results if result.fate is Fate.LATER]
    asked = [rest for rest in rests if rest is None]
    return None if asked or not rests else min(rest for rest in rests if rest is not None)
