"""What an unknown user's password is held against, so that it takes the time that most users' take.

Kinds of secrets differ a thousandfold in what a check costs. The stand-in is a secret of the kind that most users have;
what a check against it says is thrown away.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StandIn:
    """`users` have secrets of this kind; None is the house's own argon2id."""

    users: int = 0
    secret: str | None = None


class StandIns:
    """Counts the kinds of one source."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def count(self, secret: str | None, cost: str | None = None) -> None:
        """One user more, whose secret, if there is one, costs so much to check; None: it is found out."""
        if secret is None or (cost := cost or _cost(secret)) is None:
            return
        self._counts[cost] += 1
        self._first.setdefault(cost, secret)

    def usual(self) -> StandIn:
        """The kind that most have."""
        if not self._counts:
            return StandIn()
        cost, users = self._counts.most_common(1)[0]
        return StandIn(users, self._first[cost])


def _cost(secret: str) -> str | None:
    if secret.startswith("$argon2"):
        return secret.rpartition("$")[0].rpartition("$")[0]  # version and parameters
    from gatepost.store.secret_schemes import SecretError, parse  # noqa: PLC0415  only who has such secrets

    try:
        return parse(secret).cost
    except SecretError:
        return None
