"""How next servers are doing: which are left alone for now, and how many attempts at a time each can take.

Strategy: a failure to get a session is the host's, not a message's. After one the host is left alone, for a minute at
first and twice as long after each further wave of failures, up to a bound; the jitter only shortens, so that hosts
that failed together aren't called together. Then one attempt goes first; its success ends the rest and its failure
doubles it. Attempts that were under way together are one wave and one failure. Where other sessions with the host
stand, it isn't dead but full: its window shrinks to what it takes. A window begins at 5 and grows by one for each
round of successes. Pure: clock (s, monotonic) and chance (a fraction) are handed in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from gatepost.model import Reply

START = 5.0  # attempts at a time to a host nothing is known of
JITTER = 0.2  # the part of a rest that chance may take away
FULL_S = 10.0  # how long whoever was one too many waits
_REMEMBERED = 10_000  # hosts; the one not heard of for longest is forgotten first


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long a failing host is left alone: after the first failure, and at most (s)."""

    first_s: float = 60.0
    longest_s: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.longest_s:
            raise ValueError("the first rest is positive and no longer than the longest")

    def rest_s(self, failures: int, chance: float) -> float:
        """The rest after so many waves of failures (1 first)."""
        doubled = min(self.longest_s, self.first_s * 2.0 ** min(max(failures - 1, 0), 64))
        return doubled * (1 - JITTER * chance)


class _State:
    """One host. `until` is the end of its rest, `failed_at` when the last wave was noted, `why` what it heard."""

    __slots__ = ("failed_at", "failures", "until", "why", "window")

    def __init__(self) -> None:
        self.failures = 0
        self.failed_at = float("-inf")
        self.until = float("-inf")
        self.why: Reply | None = None
        self.window = START


@dataclass(frozen=True, slots=True)
class Condition:
    """How a host is doing, for people: waves of failures without success, seconds of rest left, what was heard last,
    and the attempts it is given at a time.
    """

    failures: int
    rest_s: float
    why: Reply | None
    window: int


class Health:
    """What is known of hosts. A key is a host, or a host and how it is spoken to, whatever fails together."""

    def __init__(
        self, clock: Callable[[], float], chance: Callable[[], float], back_off: BackOff | None = None
    ) -> None:
        self.back_off = back_off or BackOff()
        self._clock = clock
        self._chance = chance
        self._states: OrderedDict[Hashable, _State] = OrderedDict()
        self._failing: set[Hashable] = set()

    @property
    def is_good(self) -> bool:
        """Whether nobody at all has failed since his last success, as nearly always."""
        return not self._failing

    def rest_s(self, key: Hashable) -> float:
        """How long it is still to be left alone; 0.0 where it may be called."""
        state = self._states.get(key)
        return 0.0 if state is None else max(0.0, state.until - self._clock())

    def why(self, key: Hashable) -> Reply | None:
        """What the last failure was."""
        state = self._states.get(key)
        return None if state is None else state.why

    def window(self, key: Hashable, most: int) -> int:
        """Attempts at a time now; one where it has failed and nothing else is known yet."""
        state = self._states.get(key)
        if state is None:
            return min(int(START), most)
        return 1 if state.failures else max(1, min(int(state.window), most))

    def condition(self, key: Hashable) -> Condition | None:
        """How it is doing; None where nothing is known."""
        state = self._states.get(key)
        if state is None:
            return None
        return Condition(state.failures, self.rest_s(key), state.why, max(1, int(state.window)))

    def failed(self, key: Hashable, why: Reply, *, began: float, others: int = 0) -> float:
        """An attempt that `began` then got no session, while `others` stood; how long to leave it alone (s)."""
        state = self._state(key)
        now = self._clock()
        state.why = why
        if others > 0 and not state.failures:
            state.window = max(1.0, min(state.window, float(others)))
            return FULL_S
        if began > state.failed_at:  # else it belongs to the wave that was noted since
            state.failures += 1
            self._failing.add(key)
            state.failed_at = now
            state.window = START
            state.until = now + self.back_off.rest_s(state.failures, self._chance())
        return max(0.0, state.until - now)

    def succeeded(self, key: Hashable, most: int) -> None:
        """A session did what it was for; at most `most` at a time are ever wanted."""
        state = self._state(key)
        if state.failures:
            state.failures = 0
            self._failing.discard(key)
        state.until = float("-inf")
        if state.window < most:
            state.window = min(float(most), state.window + 1 / state.window)

    def forgive(self, fits: Callable[[Hashable], bool]) -> None:
        """Those that fit may be called at once: an operator says so."""
        for key, state in self._states.items():
            if fits(key):
                state.until = float("-inf")

    def _state(self, key: Hashable) -> _State:
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State()
            if len(self._states) > _REMEMBERED:
                forgotten, _ = self._states.popitem(last=False)
                self._failing.discard(forgotten)
        else:
            self._states.move_to_end(key)
        return state
