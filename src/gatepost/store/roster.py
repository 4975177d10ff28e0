"""Who waits in a spool, and until when: the schedule in memory, one small slot per entry.

A spool has one owner, so its schedule needs no queries: it is read once at opening and kept up to date by what was made
durable since. Two heaps, one of first attempts and one of repeated ones, take turns; a heap item is valid while its
slot still says the same due time, so that changing a slot costs one push and no search.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

from gatepost.model import Blob
from gatepost.store.rows import Progress
from gatepost.store.spool import Counts, Deposit, Entry


class Slot:
    """One entry: where it rests (`key`, `filed`), how far it has come, and whether somebody has it in hand.

    `kept` is the deposit as it was committed and its content, while memory allows: its first attempt then needs no
    reading. `entry` is what was leased. A deleted slot (`gone`) is still known to whoever leased it. `changing` is a
    list while a change of it is on its way to the disk: of those who wait for its end, because the next change must
    not be computed from what is about to be old.
    """

    __slots__ = ("changing", "entry", "filed", "gone", "id", "kept", "key", "leased", "progress")

    def __init__(self, key: int, id: str, progress: Progress, *, filed: bool) -> None:
        self.key = key
        self.id = id
        self.progress = progress
        self.filed = filed
        self.kept: tuple[Deposit, Blob] | None = None
        self.entry: Entry | None = None
        self.leased = False
        self.gone = False
        self.changing: list[asyncio.Future[None]] | None = None

    @property
    def is_waiting(self) -> bool:
        """Neither held nor in somebody's hand."""
        return not (self.leased or self.gone or self.progress.held is not None)


_Item = tuple[float, int, Slot]


class Roster:
    """Every slot of one spool. Invariant: each waiting slot has a valid item in one of the heaps."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}
        self._leased: dict[str, Slot] = {}
        self._order = count()
        self._first: list[_Item] = []
        self._again: list[_Item] = []
        self._repeated_next = False
        self._held = 0

    def __iter__(self) -> Iterator[Slot]:
        """Every slot, in order of reception (a dict keeps the order of its insertions)."""
        return iter(self._slots.values())

    def find(self, id: str) -> Slot | None:
        return self._slots.get(id)

    def leased(self, id: str) -> Slot | None:
        """The slot somebody has in hand, even if its entry is gone."""
        return self._leased.get(id)

    def add(self, slot: Slot) -> None:
        """Take up a slot whose entry is durable."""
        self._slots[slot.id] = slot
        self._held += slot.progress.held is not None
        self._schedule(slot)

    def change(self, slot: Slot, progress: Progress) -> None:
        """Take up a slot's new progress."""
        self._held += (progress.held is not None) - (slot.progress.held is not None)
        slot.progress = progress
        self._schedule(slot)

    def remove(self, slot: Slot) -> None:
        """Forget a slot whose entry is gone; whoever leased it still gives it back."""
        slot.gone = True
        self._held -= slot.progress.held is not None
        del self._slots[slot.id]

    def lease(self, now: float, limit: int) -> list[Slot]:
        """Up to `limit` slots due at `now`, longest waiting first, first and repeated attempts in turn."""
        leased: list[Slot] = []
        while len(leased) < limit and (slot := self._pop(now)):
            slot.leased = True
            self._leased[slot.id] = slot
            leased.append(slot)
        return leased

    def give_back(self, slot: Slot) -> None:
        """End a lease; what waits is on the schedule again."""
        slot.leased = False
        slot.entry = None
        self._leased.pop(slot.id, None)
        self._schedule(slot)

    def next_due(self) -> float | None:
        """The earliest due time of a waiting slot."""
        return min((heap[0][0] for heap in (self._first, self._again) if _skim(heap)), default=None)

    def counts(self) -> Counts:
        return Counts(queued=len(self._slots) - self._held, held=self._held, leased=len(self._leased))

    def _schedule(self, slot: Slot) -> None:
        if slot.is_waiting:
            heap = self._again if slot.progress.attempts else self._first
            heappush(heap, (slot.progress.due, next(self._order), slot))

    def _pop(self, now: float) -> Slot | None:
        turn = (self._again, self._first) if self._repeated_next else (self._first, self._again)
        for heap in turn:
            if _skim(heap) and heap[0][0] <= now:
                self._repeated_next = heap is self._first
                return heappop(heap)[2]
        return None


def _skim(heap: list[_Item]) -> bool:
    """Drop items that are no longer valid from the top; whether something is left."""
    while heap:
        due, _, slot = heap[0]
        if slot.is_waiting and slot.progress.due == due:
            return True
        heappop(heap)
    return False
