"""Alarms far ahead, at little cost: a loop's own timer takes three quarters of a KiB, and every idle session has one.

Strategy: alarms that lie far ahead are gathered by whole seconds, and a loop has one timer for each second that has
any. They ring up to a second early: whoever is woken looks at the clock and asks again for the rest, which is near and
gets a timer of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

NEAR_S = 5.0  # what rings within this time has a timer of its own


class Alarm:
    """One alarm that is set. It rings at most once, and not after `cancel`."""

    __slots__ = ("_among", "ring")

    def __init__(self, ring: Callable[[], None], among: Second) -> None:
        self.ring = ring
        self._among = among
        among.add(self)

    def when(self) -> float:
        """The loop time at which it rings."""
        return self._among.when

    def cancel(self) -> None:
        """It won't ring."""
        self._among.discard(self)


class Second(set[Alarm]):
    """The alarms of one second, at the loop time `when`."""

    __slots__ = ("when",)

    def __init__(self, when: int) -> None:
        super().__init__()
        self.when = when


class Alarms:
    """The alarms of one loop. Invariant: a second that has alarms has a timer."""

    __slots__ = ("__weakref__", "_seconds")

    def __init__(self) -> None:
        self._seconds: dict[int, Second] = {}

    def at(self, loop: asyncio.AbstractEventLoop, when: float, ring: Callable[[], None]) -> Alarm | asyncio.TimerHandle:
        """Have `ring` called at the loop time `when`, or up to a second earlier if that is far ahead."""
        if when - loop.time() < NEAR_S:
            return loop.call_at(when, ring)
        second = int(when)
        among = self._seconds.get(second)
        if among is None:
            among = self._seconds[second] = Second(second)
            loop.call_at(second, self._ring, second)
        return Alarm(ring, among)

    def _ring(self, second: int) -> None:
        among = self._seconds.pop(second)
        while among:
            among.pop().ring()


def alarms_of(loop: asyncio.AbstractEventLoop) -> Alarms:
    """The alarms of a loop, the same ones at each call."""
    alarms = _alarms.get(loop)
    if alarms is None:
        alarms = _alarms[loop] = Alarms()
    return alarms


_alarms: WeakKeyDictionary[asyncio.AbstractEventLoop, Alarms] = WeakKeyDictionary()
