"""When to try again: a pure function of how often and how long it has been tried.

Waits double from the first to the longest. The jitter only shortens a wait, so that what failed together doesn't come
back together and no wait is longer than was set. The last attempt is made when the time is up, not before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatepost.delivery.allowance import Allowances
    from gatepost.store import Entry

JITTER = 0.2  # the part of a wait that chance may take away


@dataclass(frozen=True, slots=True)
class Schedule:
    """The settings of it, all in seconds: the first wait, the longest, and how long there are attempts at all."""

    first_s: float = 300.0
    longest_s: float = 4 * 3600.0
    expire_s: float = 5 * 86400.0  # rfc5321#4.5.4.1: at least 4 to 5 days

    def __post_init__(self) -> None:
        if not (0 < self.first_s <= self.longest_s and self.expire_s > 0):
            raise ValueError("a schedule's first wait is positive and no longer than its longest, its end positive")

    def for_entry(self, entry: Entry, allowances: Allowances) -> Schedule:
        """The schedule of one entry: its own end where it was accepted with one (the fact `expires`, s), else that of
        its recipients' destinations, the longest of them.
        """
        own = entry.facts.get("expires") if entry.facts else None
        if own is None and not allowances.has_expiry:
            return self
        expire_s = _seconds(own)
        if expire_s is None:
            domains = {recipient.domain for recipient in entry.envelope.recipients}
            ends = [allowances.find(domain).expire_s or self.expire_s for domain in domains]
            expire_s = max(ends, default=self.expire_s)
        return self if expire_s == self.expire_s else replace(self, expire_s=expire_s)

    def wait_s(self, attempt: int, age_s: float, chance: float) -> float | None:
        """Seconds from the end of the `attempt`-th attempt (1 first) to the next one; None when the time is up.

        `age_s` is the time since the schedule began, `chance` a fraction between 0 and 1.
        """
        left = self.expire_s - age_s
        if left <= 0:
            return None
        # 64 doublings are more than any setting needs, and fit into a float
        wait = min(self.longest_s, self.first_s * 2.0 ** min(max(attempt - 1, 0), 64))
        return min(left, wait * (1 - JITTER * chance))


def _seconds(text: str | None) -> float | None:
    """A positive number of seconds; None for anything else."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None
