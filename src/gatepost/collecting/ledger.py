"""What was fetched of an account, so that it is neither fetched twice nor lost: memos in the spool of the mail itself.

    collect/MAILDROP/run       how the last run went
    collect/MAILDROP/unused    since when no account is about it
    collect/MAILDROP/u/N/UID   the Nth message with this UIDL
    collect/MAILDROP/h/N/HASH  the Nth with this header, where there is TOP and no UIDL
    collect/MAILDROP/c/N/HASH  the Nth with this content, where there is neither
    collect/MAILDROP/s/N/SIZE  the Nth of this size, too large to be looked at

MAILDROP is a digest of server and user: an account may be called otherwise, and the UIDL of another maildrop means
nothing here. A message's memo is committed with the message. RFC 1939 lets a server use a UIDL again once its message
is gone, so an entry goes when a listing that came whole no longer has it; one that was marked for deletion says so, and
whoever comes under its name is looked at before he is taken for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol

from gatepost.collecting.accounts import Account
from gatepost.store.spool import Deposit

ROOT = "collect/"
_DIGEST = 16  # hexadecimal digits
_CHANGING = re.compile(rb"(?:status|x-status|x-uidl|x-uid|x-keywords|x-mozilla-[a-z-]+|content-length|lines)\s*:", re.I)


class State(Enum):
    """What was done about a message."""

    TAKEN = "taken"
    """It is durable here, or was discarded by a decision."""
    LEFT = "left"
    """It is too large; it was told, and stays there."""
    WAITING = "waiting"
    """It was refused for now; it is tried again."""


@dataclass(frozen=True, slots=True)
class Known:
    """One message that something was done about. `at` is when first (s, Unix time), `size` what the listing said then.

    `marked`: its deletion was asked for, or is about to be; `checked`: it was still there afterwards, and was read to
    see that it is the same. `content` is its hash. `limit` is the size limit that it was too large for, `next_at` when
    one that waits is tried again.
    """

    at: float
    size: int
    state: State = State.TAKEN
    marked: bool = False
    content: str = ""
    limit: int = 0
    checked: bool = False
    next_at: float = 0.0

    def memo(self) -> bytes:
        """As it is kept."""
        facts: dict[str, Any] = {"at": round(self.at), "size": self.size}
        if self.state is not State.TAKEN:
            facts["state"] = self.state.value
        more = {"limit": self.limit, "next": round(self.next_at), "marked": self.marked, "checked": self.checked}
        facts |= {name: fact for name, fact in {**more, "content": self.content}.items() if fact}
        return json.dumps(facts, separators=(",", ":")).encode()

    @classmethod
    def read(cls, memo: bytes) -> Known:
        """What was kept; of a memo that can't be read, only that the message was taken."""
        try:
            facts = json.loads(memo)
            return cls(
                float(facts["at"]),
                int(facts["size"]),
                State(facts.get("state", "taken")),
                bool(facts.get("marked", False)),
                str(facts.get("content", "")),
                int(facts.get("limit", 0)),
                bool(facts.get("checked", False)),
                float(facts.get("next", 0)),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls(0.0, 0)


class Notes(Protocol):
    """The spool, as far as the ledger needs it."""

    async def commit(
        self,
        deposits: Sequence[Deposit],
        *,
        records: Sequence[tuple[object, ...]] = (),
        memos: Mapping[str, bytes | None] = ...,
    ) -> None:
        """Make it durable in one step."""

    async def memos(self, prefix: str) -> dict[str, bytes]:
        """What is kept under names that begin so."""


class Ledger:
    """One account's memos. `known` is what is durable; what a run adds goes with the message, then `noted` is told."""

    def __init__(self, account: Account, notes: Notes) -> None:
        self._notes = notes
        self._prefix = f"{ROOT}{maildrop_digest(account)}/"
        self.known: dict[str, Known] = {}

    async def read(self) -> None:
        """Take up what is kept."""
        kept = await self._notes.memos(self._prefix)
        self.known = {name.removeprefix(self._prefix): Known.read(memo) for name, memo in kept.items()}

    def memos(self, changes: Mapping[str, Known | None]) -> dict[str, bytes | None]:
        """The memos that make these changes durable."""
        return {self._prefix + key: None if known is None else known.memo() for key, known in changes.items()}

    def noted(self, changes: Mapping[str, Known | None]) -> None:
        """They are durable now."""
        for key, known in changes.items():
            if known is None:
                self.known.pop(key, None)
            else:
                self.known[key] = known

    async def note(self, changes: Mapping[str, Known | None]) -> None:
        """Make changes durable that no message goes with. SpoolError where it can't be done."""
        if changes:
            await self._notes.commit((), memos=self.memos(changes))
            self.noted(changes)

    async def mark(self, keys: Iterable[str]) -> None:
        """Their deletion is about to be asked for."""
        unmarked = {key: self.known[key] for key in keys if not self.known[key].marked}
        await self.note({key: replace(known, marked=True) for key, known in unmarked.items()})


class Contents:
    """Contents that are known, where their names say too little: each entry stands for one message of the listing."""

    def __init__(self, known: Mapping[str, Known], here: Set[str]) -> None:
        """`here` are the keys in the listing: their entries stand for those messages."""
        self.is_whole = True
        """Whether every message that has no known name was read to its end."""
        self._known = known
        self._free: dict[str, list[str]] = {}
        for key, entry in known.items():
            if entry.content and key not in here:
                self._free.setdefault(entry.content, []).append(key)

    def claim(self, content: str) -> str | None:
        """The key of an entry with this content that stood for nobody; it stands for this message now."""
        free = self._free.get(content)
        return free.pop(0) if free else None

    def number(self, content: str) -> int:
        """The next occurrence of this content."""
        number = 1
        while f"c/{number}/{content}" in self._known:
            number += 1
        return number

    def gone(self) -> list[str]:
        """Entries that stand for no message: none, where not everything was read."""
        return [key for free in self._free.values() for key in free] if self.is_whole else []


def maildrop_digest(account: Account) -> str:
    """Stands for server and user."""
    return hashlib.sha256("\0".join(account.maildrop).encode()).hexdigest()[:_DIGEST]


def keys_of(kind: str, names: Sequence[str]) -> list[str]:
    """Keys for the messages of one listing, in its order: the same name again is the next occurrence."""
    counts: dict[str, int] = {}
    keys: list[str] = []
    for name in names:
        counts[name] = number = counts.get(name, 0) + 1
        keys.append(f"{kind}/{number}/{name}")
    return keys


def header_hash(header: bytes, size: int) -> str:
    """A header's name where there is no UIDL, from its section and the message's size in the listing."""
    return hashlib.sha256(b"%d\n" % size + lasting(header)).hexdigest()[:32]


def lasting(header: bytes) -> bytes:
    """A header section without the fields that servers change when a message has been read."""
    kept: list[bytes] = []
    is_changing = False
    for line in header.splitlines(keepends=True):
        if line[:1] not in b" \t":
            is_changing = _CHANGING.match(line) is not None
        if not is_changing:
            kept.append(line)
    return b"".join(kept).rstrip(b"\r\n")
