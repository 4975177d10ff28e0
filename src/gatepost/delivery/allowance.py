"""What a destination is allowed: attempts at a time, messages in a time, how sessions are used, and its weight.

Rules come from settings, in order; the first whose pattern fits the recipient's domain or the next server decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gatepost.delivery.line import Rate

CONCURRENCY = 20  # attempts at a time to one destination
KEPT_S = 10.0  # how long an idle session is kept
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """`messages` a connection carries at most, 0 as many as the server takes; `kept_s` how long an idle one is kept;
    `expire_s` how long delivery is tried, None as elsewhere; `weight` how many places in a row its turn is worth.
    """

    concurrency: int = CONCURRENCY
    rate: Rate | None = None
    messages: int = 0
    kept_s: float = KEPT_S
    expire_s: float | None = None
    weight: int = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """Patterns of domains and hosts (`example.org`, `*.example.org`, `10.0.0.5`), and what is allowed there."""

    match: tuple[str, ...]
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class SenderRule:
    """Patterns of senders (a user's name, or the domain of the address), and the weight of their mail."""

    match: tuple[str, ...]
    weight: int


class Allowances:
    """Rules, and what counts without one. Immutable but for what it remembers."""

    def __init__(
        self, default: Allowance | None = None, rules: Sequence[Rule] = (), senders: Sequence[SenderRule] = ()
    ) -> None:
        self.default = default or Allowance()
        self._rules = tuple(rules)
        self._senders = tuple(senders)
        self._found: dict[tuple[str, ...], Allowance] = {}
        self.has_expiry = any(rule.allowance.expire_s is not None for rule in rules)

    def find(self, *names: str) -> Allowance:
        """For a destination known by these names: domain, host, address. Lower case."""
        if not self._rules:
            return self.default
        found = self._found.get(names)
        if found is None:
            rules = (rule.allowance for rule in self._rules if any(fits(rule.match, name) for name in names if name))
            found = next(rules, self.default)
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[names] = found
        return found

    def weight_of(self, sender: str) -> int:
        """How many places in a row a sender's turn is worth."""
        return next((rule.weight for rule in self._senders if fits(rule.match, sender)), self.default.weight)


def fits(patterns: Sequence[str], name: str) -> bool:
    """Whether some pattern fits a name; `*` stands for any characters, case counts for nothing."""
    name = name.lower()
    return any(
        fnmatchcase(name, pattern.lower()) if "*" in pattern else name == pattern.lower() for pattern in patterns
    )
