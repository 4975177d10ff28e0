"""Destinations that an operator has suspended: domains and hosts, by pattern, until they are resumed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gatepost.delivery.allowance import fits
from gatepost.model import Reply

AGAIN_S = 1800.0  # how long mail for a suspended destination waits before it is looked at again


class Suspensions:
    """Names and since when (s, Unix time) each is suspended. Empty, it costs one look."""

    def __init__(self, since: Mapping[str, float] | None = None) -> None:
        self.since: dict[str, float] = dict(since or {})

    def __bool__(self) -> bool:
        return bool(self.since)

    def replace(self, since: Mapping[str, float]) -> None:
        """Take over what another worker, or the time before a restart, has left."""
        self.since = dict(since)

    def covers(self, names: Iterable[str]) -> str | None:
        """The entry that suspends a destination known by these names; None if nothing does."""
        patterns = self.since
        return next((pattern for name in names if name for pattern in patterns if fits((pattern,), name)), None)


def suspended(name: str) -> Reply:
    """What is said about a recipient that nobody is asked about."""
    return Reply(451, "4.3.2", f"{name} is suspended by an operator")
