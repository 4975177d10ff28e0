"""What `gatepost check` says of tables that come too late: the first that fits decides, and an earlier one always fits.

Strategy: a pattern is covered where an earlier one fits it as if it were a text; its asterisks are text too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from gatepost.app.settings.root import Settings
from gatepost.model import glob_matches

Seen = tuple[str, Literal["ok", "warning", "failed"], str]
"""What was looked at, how it is, and the words for it."""


def look_at_order(settings: Settings) -> Iterator[Seen]:
    """A warning for each pattern of a route, a TLS policy or a destination that can never be the first to fit."""
    routes = [(route.match, not route.senders) for route in settings.route]
    policies = [(policy.match, True) for policy in settings.tls.policy]
    destinations = [(table.match, True) for table in settings.delivery.destination]
    for what, tables in (("route", routes), ("tls.policy", policies), ("destination", destinations)):
        for late, before in _covered(tables):
            yield what, "warning", f"{late} has no effect: {before} stands before it and always fits; put {late} first"


def _covered(tables: Iterable[tuple[Sequence[str], bool]]) -> Iterator[tuple[str, str]]:
    """(pattern, the earlier one that covers it). The truth value says whether a table takes all that it matches."""
    taken: list[str] = []
    for patterns, takes_all in tables:
        for pattern in patterns:
            if before := next((earlier for earlier in taken if _covers(earlier, pattern)), ""):
                yield pattern, before
        if takes_all:
            taken += patterns


def _covers(earlier: str, pattern: str) -> bool:
    """Of addresses as routes read them, where a name alone is one at any domain; or of domains and hosts."""
    if "@" in pattern or "@" in earlier:
        (local, _, domain), (its_local, _, its_domain) = _parts(earlier), _parts(pattern)
        return glob_matches(local, its_local) and glob_matches(domain, its_domain)
    return glob_matches(earlier.lower(), pattern.lower())


def _parts(pattern: str) -> tuple[str, str, str]:
    return pattern.lower().rpartition("@") if "@" in pattern else (pattern.lower(), "@", "*")
