"""A breaker per plugin: one that fails again and again is left alone for a while, so that nobody waits for it.

Pure: the time is handed in. While it is open the plugin's questions go straight to their `on_failure`; after the rest
one question is let through, and its outcome decides.
"""

from __future__ import annotations

from enum import Enum, auto


class BreakerOpen(RuntimeError):
    """The plugin wasn't asked: it has failed too often."""


class _State(Enum):
    CLOSED = auto()
    OPEN = auto()
    TRYING = auto()


class Breaker:
    """Opens after `failures` in a row, rests `rest_s` seconds, then tries one question."""

    __slots__ = ("_failed", "_failures", "_rest_s", "_state", "_until", "is_quiet")

    def __init__(self, failures: int = 10, rest_s: float = 30.0) -> None:
        self._failures = failures
        self._rest_s = rest_s
        self._failed = 0
        self._state = _State.CLOSED
        self._until = 0.0
        self.is_quiet = True
        """Whether its last answer was one: then there is nothing to ask or to tell here."""

    @property
    def is_open(self) -> bool:
        """Whether the plugin is being left alone."""
        return self._state is not _State.CLOSED

    def allows(self, now: float) -> bool:
        """Whether to ask; `now` in seconds on a clock that never goes back."""
        if self._state is _State.CLOSED:
            return True
        if now < self._until:
            return False
        self._state, self._until = _State.TRYING, now + self._rest_s
        return True

    def succeeded(self) -> None:
        """An answer came."""
        self._failed = 0
        self._state = _State.CLOSED
        self.is_quiet = True

    def failed(self, now: float) -> bool:
        """No answer came. Whether the breaker has opened by this."""
        self.is_quiet = False
        self._failed += 1
        if self._state is _State.CLOSED and self._failed < self._failures:
            return False
        opened = self._state is _State.CLOSED
        self._state, self._until = _State.OPEN, now + self._rest_s
        return opened
