"""The line before a destination: how many attempts at a time, how many messages in a time. First come, first served.
And the places of all destinations together, which no sender may have nearly all of.

`Pace` is pure and counts; `Line` lets tasks wait. How many may be there at a time is asked anew at each change, because
it grows and shrinks with how the host is doing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gatepost.store.lanes import SHARE


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` messages in `per_s` seconds, evenly spread."""

    count: int
    per_s: float

    @property
    def interval_s(self) -> float:
        """From one message to the next."""
        return self.per_s / self.count

    @property
    def burst(self) -> int:
        """How many may go at once after a pause: what a second has room for."""
        return max(1, int(self.count / self.per_s))


class Pace:
    """When the next message may go. Invariant: in any `per_s` seconds no more than `count`, plus one burst."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._next = now  # when the next message is due at an even pace
        self._promised = now

    def is_idle(self, now: float) -> bool:
        """Whether it says nothing any more: a new one would do the same."""
        return max(self._next, self._promised) <= now

    def wait_s(self, now: float, patience_s: float) -> tuple[bool, float]:
        """(true, seconds to wait until the place that is now ours), or, where that would be longer than `patience_s`,
        (false, seconds until it is worth asking again). Those who are sent away are spread at the pace too.
        """
        interval = self._rate.interval_s
        self._next = max(self._next, now - (self._rate.burst - 1) * interval)
        wait = max(0.0, self._next - now)
        if wait <= patience_s:
            self._next += interval
            return True, wait
        self._promised = max(self._promised + interval, self._next)
        return False, self._promised - now


class Line:
    """Tasks in line. Invariant: whoever was let in leaves once; nobody waits while there is a place."""

    def __init__(self, places: Callable[[], int]) -> None:
        self._places = places
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.busy = 0

    def __len__(self) -> int:
        return sum(not one.done() for one in self._waiting)

    async def enter(self) -> None:
        """Wait for a place."""
        if not self._waiting and self.busy < self._places():
            self.busy += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in and cancelled at once
                self.leave()
            raise

    def leave(self) -> None:
        """Give a place back; whoever is first in line gets it, or several, or nobody, as there are places now."""
        self.busy -= 1
        places = self._places()
        while self._waiting and self.busy < places:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.busy += 1


class Places:
    """So many at a time, whoever they are for. Invariant: nobody is let in who holds more than four times what is free,
    nobody else waits, and senders that wait take turns; whoever was let in leaves once.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._held: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # the next one's turn is in front

    async def enter(self, whose: str) -> None:
        """Wait for a place of this sender's."""
        if self._may_enter(whose):
            self._let_in(whose)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in and cancelled at once
                self.leave(whose)
            raise

    def leave(self, whose: str) -> None:
        """Give a place of this sender's back."""
        self._free += 1
        self._held[whose] -= 1
        if not self._held[whose]:
            del self._held[whose]
        if self._waiting:
            self._look()

    def held(self, whose: str) -> int:
        """How many a sender has."""
        return self._held.get(whose, 0)

    def _may_enter(self, whose: str) -> bool:
        return self._free > 0 and self._held.get(whose, 0) <= SHARE * self._free

    def _let_in(self, whose: str) -> None:
        self._free -= 1
        self._held[whose] = self._held.get(whose, 0) + 1

    def _look(self) -> None:
        """One for each in turn. Who is passed over has no room then either: what was taken leaves less for all."""
        for whose in list(self._waiting):
            if self._free <= 0:
                return
            turns = self._waiting[whose]
            while turns and turns[0].done():  # cancelled while waiting
                turns.popleft()
            if turns and self._may_enter(whose):
                turns.popleft().set_result(None)
                self._let_in(whose)
                self._waiting[whose] = self._waiting.pop(whose)  # to the end
            if not turns:
                del self._waiting[whose]
