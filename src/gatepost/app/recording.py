"""hooks' Recorder over the trace and the log: decisions go to the ring, failures to both, each in its own words."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from gatepost.admin.telling import Entry

log = logging.getLogger("gatepost.plugins")


class Ring(Protocol):
    """The trace, as far as a recorder needs it."""

    def record(self, entry: tuple[Any, ...]) -> None: ...


class TraceRecorder:
    """Writes entries (Unix time in ms, token, kind, facts). Never waits, never fails."""

    def __init__(self, ring: Ring, *, on_error: Callable[[BaseException], None] | None = None) -> None:
        self._record = ring.record
        self._on_error = on_error

    def record(self, token: str, kind: str, facts: Mapping[str, Any]) -> None:
        """One entry."""
        self._record((time.time_ns() // 1_000_000, token, kind, facts))

    def failed(self, token: str, plugin: str, stage: str, error: BaseException) -> None:
        """A hook failed: the log gets what there is to know, the trace the cause; the sender hears neither."""
        if isinstance(error, TimeoutError):
            log.warning("plugin %s didn't answer in time at %s; token %s", plugin, stage, token)
        elif getattr(error, "says_all", False):
            log.error("plugin %s failed at %s: %s; token %s", plugin, stage, error, token)
        else:
            log.error("plugin %s failed at %s; token %s", plugin, stage, token, exc_info=error)
        if self._on_error is not None:
            self._on_error(error)


class MemoryRing:
    """The latest entries, in memory: for a server without `data`."""

    def __init__(self, size: int = 20_000) -> None:
        self.entries: deque[Entry] = deque(maxlen=size)

    def record(self, entry: tuple[Any, ...]) -> None:
        ms, token, kind, facts = entry
        self.entries.append((ms, token, kind, facts))

    def find(self, token: str) -> list[Entry]:
        """Every entry of one session."""
        return [entry for entry in self.entries if entry[1] == token]
