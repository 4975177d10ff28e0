"""The line before a destination: how many attempts at a time, how many messages in a time. First come, first served.

`Pace` is pure and counts; `Line` lets tasks wait. How many may be there at a time is asked anew at each change, because
it grows and shrinks with how the host is doing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


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
