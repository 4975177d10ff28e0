"""What to do about each message of a listing: pure, so that every case can be walked through.

Whoever isn't known is fetched; whoever is known is left, and deleted once he has been left long enough; what is gone
from a listing is forgotten. On doubt a message is fetched twice rather than not at all, and left rather than deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from gatepost.collecting.accounts import Account
from gatepost.collecting.ledger import Known, State, keys_of

_BY_SIZE = "s"


@dataclass(frozen=True, slots=True)
class Sight:
    """One message of a listing. `key` is its name in the ledger; None where only its content will tell."""

    number: int
    size: int
    key: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run does, in this order: fetch, note as too large, forget, delete."""

    fetch: tuple[Sight, ...]
    """Everything that may be new: how much of it is fetched in one run is counted as it comes."""
    too_large: tuple[Sight, ...]
    """Not told of yet."""
    forget: tuple[str, ...]
    """Those that have a name; who is known by content is gone only once everything was read."""
    delete: tuple[Sight, ...]
    left: int
    """How many known ones stay where they are."""
    waiting: int = 0
    """How many were refused for now, and aren't due again."""


class By(Enum):
    """What tells the messages of a maildrop apart; the value begins their keys."""

    UIDL = "u"
    HEADER = "h"
    CONTENT = "c"


def plan(
    account: Account, by: By, sights: Sequence[Sight], known: Mapping[str, Known], now: float, *, asked: bool = False
) -> Plan:
    """`sights` is a listing that came whole, `now` in seconds of Unix time; `asked`: somebody waits for this run.

    Those that were refused for now come after all others, so that they keep nobody from being fetched.
    """
    fetch: list[Sight] = []
    again: list[Sight] = []
    waiting = 0
    too_large: list[Sight] = []
    delete: list[Sight] = []
    left = 0
    sizes = iter(keys_of(_BY_SIZE, [str(one.size) for one in sights if is_nameless(one, account)]))
    named = [replace(one, key=next(sizes)) if is_nameless(one, account) else one for one in sights]
    for sight in named:
        entry = None if sight.key is None else known.get(sight.key)
        if entry is not None and is_same(entry, sight, account):
            if is_over(account, entry, now):
                delete.append(sight)
            else:
                left += 1
        elif sight.size > account.size_limit:
            too_large.append(sight)
        elif entry is not None and entry.state is State.WAITING:
            if asked or now >= entry.next_at:
                again.append(sight)
            else:
                waiting += 1
        else:
            fetch.append(sight)
    fetch += again
    here = {sight.key for sight in named}
    gone = (_BY_SIZE, by.value) if by is By.UIDL else (_BY_SIZE,)
    forget = tuple(key for key in known if key not in here and key.partition("/")[0] in gone)
    return Plan(tuple(fetch), tuple(too_large), forget, tuple(delete), left, waiting)


def is_nameless(sight: Sight, account: Account) -> bool:
    """Whether its size must do for a name: it is too large to be looked at."""
    return sight.key is None and sight.size > account.size_limit


def is_same(entry: Known, sight: Sight, account: Account) -> bool:
    """Whether the ledger's entry is about this message, so that nothing is to be fetched."""
    if entry.state is State.WAITING:
        return False
    if entry.state is State.LEFT:
        return sight.size > account.size_limit or entry.limit >= account.size_limit
    if not entry.marked or not entry.size:
        return True  # an approximate size counts while the name can't be used again
    # rfc1939#7: once a message is gone its UIDL may be used again; only its content tells whether it is gone
    is_known = entry.checked or not entry.content or sight.size > account.size_limit
    return is_known and entry.size == sight.size


def is_over(account: Account, entry: Known, now: float) -> bool:
    """Whether a message that is known may be deleted from the other server."""
    if entry.state is not State.TAKEN or account.keep_s is None:
        return False
    return now >= entry.at + account.keep_s
