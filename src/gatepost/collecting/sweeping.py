"""What is kept of maildrops that no account is about any more goes, but not soon.

Whoever takes a table out of the settings may put it back: everything would be fetched a second time. So first it is
noted that a maildrop is unused; when that has been so for UNUSED_S seconds of settings in effect, its memos go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gatepost.collecting.accounts import Account
from gatepost.collecting.ledger import ROOT, maildrop_digest

UNUSED_S = 60 * 86400.0
_UNUSED = "unused"


def swept(memos: dict[str, bytes], accounts: Iterable[Account], now: float) -> dict[str, bytes | None]:
    """What to change of `memos` (all that begin with ROOT), so that nothing rests for ever. `now` in seconds."""
    used = {maildrop_digest(one) for one in accounts}
    by_maildrop: dict[str, list[str]] = {}
    for name in memos:
        by_maildrop.setdefault(name.removeprefix(ROOT).partition("/")[0], []).append(name)
    changes: dict[str, bytes | None] = {}
    for maildrop, names in by_maildrop.items():
        changes |= _of_one(f"{ROOT}{maildrop}/{_UNUSED}", names, memos, now, is_used=maildrop in used)
    return changes


def _of_one(
    mark: str, names: Collection[str], memos: dict[str, bytes], now: float, *, is_used: bool
) -> dict[str, bytes | None]:
    if is_used:
        return {mark: None} if mark in memos else {}
    try:
        since = float(memos[mark])
    except (KeyError, ValueError):
        return {mark: str(round(now)).encode()}
    return dict.fromkeys(names) if now - since >= UNUSED_S else {}
