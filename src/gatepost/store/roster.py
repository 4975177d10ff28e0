"""Who waits in a spool, and until when: the schedule in memory, one small slot per entry.

A spool has one owner, so its schedule needs no queries: it is read once at opening and kept up to date by what was made
durable since. One heap has everything by the time it is due; what has become due goes into lanes, which decide whose
turn it is. A heap item is valid while its slot still says the same due time, so that changing a slot costs one push and
no search.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

from gatepost.model import Blob
from gatepost.store.lanes import Holder, Item, Lane, Lanes, Sorting, skim
from gatepost.store.rows import Progress, Whose
from gatepost.store.spool import Counts, Deposit, Entry, Tally


class Slot:
    """One entry: where it rests (`key`, `filed`), how far it has come, and whether somebody has it in hand.

    `kept` is the deposit as it was committed and its content, while memory allows: its first attempt then needs no
    reading. `entry` is what was leased, `group` and `sender` whom it counts for meanwhile. A deleted slot (`gone`) is
    still known to whoever leased it. `changing` is a list while a change of it is on its way to the disk: of those who
    wait for its end, because the next change must not be computed from what is about to be old.
    """

    __slots__ = (
        "changing", "entry", "filed", "gone", "group", "id", "is_mixed", "kept", "key", "lane", "leased", "progress",
        "sender",
    )  # fmt: skip

    lane: Lane

    def __init__(self, key: int, id: str, progress: Progress, *, filed: bool) -> None:
        self.key = key
        self.id = id
        self.progress = progress
        self.filed = filed
        self.is_mixed = False
        self.kept: tuple[Deposit, Blob] | None = None
        self.entry: Entry | None = None
        self.group: Holder | None = None
        self.sender: Holder | None = None
        self.leased = False
        self.gone = False
        self.changing: list[asyncio.Future[None]] | None = None

    @property
    def is_waiting(self) -> bool:
        """Neither held nor in somebody's hand."""
        return not (self.leased or self.gone or self.progress.held is not None)


class Roster:
    """Every slot of one spool. Invariant: each waiting slot has a valid item, in the heap or in its lane."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}
        self._leased: dict[str, Slot] = {}
        self._order = count()
        self._later: list[Item] = []
        self._lanes = Lanes()
        self._held = 0

    def __iter__(self) -> Iterator[Slot]:
        """Every slot, in order of reception (a dict keeps the order of its insertions)."""
        return iter(self._slots.values())

    def find(self, id: str) -> Slot | None:
        return self._slots.get(id)

    def leased(self, id: str) -> Slot | None:
        """The slot somebody has in hand, even if its entry is gone."""
        return self._leased.get(id)

    def sort(self, sorting: Sorting) -> None:
        """Ask this where each lane's mail goes, from now on."""
        self._lanes.sort(sorting)

    def add(self, slot: Slot, whose: Whose) -> None:
        """Take up a slot whose entry is durable."""
        self._slots[slot.id] = slot
        self._held += slot.progress.held is not None
        slot.lane = self._lanes.enter(whose.domain, whose.sender)
        slot.is_mixed = whose.is_mixed
        self._schedule(slot)

    def change(self, slot: Slot, progress: Progress, whose: Whose | None = None) -> None:
        """Take up a slot's new progress, and whose it is where its recipients are others now."""
        self._held += (progress.held is not None) - (slot.progress.held is not None)
        slot.progress = progress
        if whose is not None:
            self._lanes.leave(slot.lane)
            slot.lane = self._lanes.enter(whose.domain, whose.sender)
            slot.is_mixed = whose.is_mixed
        self._schedule(slot)

    def remove(self, slot: Slot) -> None:
        """Forget a slot whose entry is gone; whoever leased it still gives it back."""
        slot.gone = True
        self._held -= slot.progress.held is not None
        self._lanes.leave(slot.lane)
        del self._slots[slot.id]

    def lease(self, now: float, limit: int, *, leaves_room: bool = False) -> list[Slot]:
        """Up to `limit` slots due at `now`, lane by lane; with `leaves_room` nobody gets more than its share."""
        lanes, later = self._lanes, self._later
        while later and later[0][0] <= now:
            item = heappop(later)
            slot = item[2]
            if slot.is_waiting and slot.progress.due == item[0]:
                lanes.push(item, slot.lane, again=slot.progress.attempts > 0 or slot.filed)
        lanes.look_again(limit if leaves_room else None)
        leased: list[Slot] = []
        while len(leased) < limit:
            picked = lanes.pick(limit - len(leased) if leaves_room else None)
            if picked is None:
                break
            picked.leased = True
            self._leased[picked.id] = picked
            picked.group = picked.lane.group
            picked.group.in_hand += 1
            if not picked.group.is_ours:
                picked.sender = picked.lane.sender
                picked.sender.in_hand += 1
            leased.append(picked)
        return leased

    def give_back(self, slot: Slot) -> None:
        """End a lease; what waits is on the schedule again."""
        slot.leased = False
        slot.entry = None
        if slot.group is not None:
            self._lanes.give_back(slot.group, slot.sender)
            slot.group = slot.sender = None
        self._leased.pop(slot.id, None)
        self._schedule(slot)

    def next_due(self) -> float | None:
        """When a waiting slot becomes due first; of those that already are, any one's time."""
        due = self._lanes.next_due()
        if due is None and skim(self._later):
            due = self._later[0][0]
        return due

    def counts(self) -> Counts:
        return Counts(queued=len(self._slots) - self._held, held=self._held, leased=len(self._leased))

    def tallies(self) -> dict[str, Tally]:
        """What waits, by domain."""
        found: dict[str, Tally] = {}
        for slot in self._slots.values():
            tally = found.get(domain := slot.lane.domain)
            if tally is None:
                tally = found[domain] = Tally()
            progress = slot.progress
            if progress.held is not None:
                tally.held += 1
                continue
            tally.queued += 1
            tally.oldest = progress.since if tally.oldest is None else min(tally.oldest, progress.since)
            if slot.leased:
                tally.leased += 1
            else:
                tally.next_due = progress.due if tally.next_due is None else min(tally.next_due, progress.due)
        return found

    def _schedule(self, slot: Slot) -> None:
        if slot.is_waiting:
            heappush(self._later, (slot.progress.due, next(self._order), slot))
