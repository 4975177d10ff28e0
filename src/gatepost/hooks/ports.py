"""The places this room offers to others: what it needs of time, of the loop, of the trace and of content.

They are made with asyncio, clocks and files in higher rooms, and by hand in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from gatepost.model import Edit, Message

T = TypeVar("T")


class Clock(Protocol):
    """Two clocks: one to measure with, one to write down."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def now(self) -> datetime:
        """The wall clock, with its zone."""

    def unix(self) -> tuple[float, int]:
        """Unix time, and the local offset east of Greenwich, both in seconds."""


class Patience(Protocol):
    """Waits for hooks that suspend. A hook that answers at its first step never comes here."""

    async def within(self, seconds: float, hook: Coroutine[Any, Any, T], waiting_for: Any) -> T:
        """Carry on a hook that has been stepped once and yielded `waiting_for`; TimeoutError when the time is over.

        After TimeoutError the hook has been cancelled, and closed if it wouldn't end.
        """

    def spawn(self, work: Coroutine[Any, Any, T]) -> Any:
        """Run beside the session; the task is awaited nowhere and its failure is logged."""

    def is_cancellation(self, error: BaseException) -> bool:
        """Whether this error means that the session itself is being ended, so that it must go on up."""


class Recorder(Protocol):
    """Writes down decisions. Never waits, never fails."""

    def record(self, token: str, kind: str, facts: Mapping[str, Any]) -> None: ...

    def failed(self, token: str, plugin: str, stage: str, error: BaseException) -> None:
        """A hook failed: into the log with its traceback, and into the trace in short."""


class Facts(Protocol):
    """The ledger as plugins see it: facts and counters with expiry, shared by all workers."""

    async def get(self, space: str, key: str) -> Any: ...

    async def put(self, space: str, key: str, value: Any, ttl_s: float) -> None: ...

    async def count(self, space: str, key: str, window_s: float) -> int: ...


class Content(Protocol):
    """The content of a transaction, once there is some; makes what a plugin sees of it."""

    def view(self, edits: Sequence[Edit], record: Callable[[Edit], None]) -> Message:
        """The content with these edits; what the plugin changes is handed to `record`."""
