"""The spool's port: what reception makes durable, what delivery takes out, what an operator does with it.

A deposit is what one commit makes durable; an entry is a deposit at rest, with its progress. An entry's id is its
ticket, and `ticket.part` for the further groups of a split message. Every maker (embedded, memory) passes one contract
suite, tests/contract/test_store_spool.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Protocol

from gatepost.model import Blob, Envelope, Recipient, Ticket, fact
from gatepost.store.draft import Draft
from gatepost.store.lanes import Sorting

_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_MEMOS: Mapping[str, bytes | None] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


def entry_id(ticket: Ticket, part: int = 0) -> str:
    """The id of a deposit's entry: the ticket as said in the 250, with `.part` for further groups."""
    return f"{ticket}.{part}" if part else str(ticket)


@fact
class Deposit:
    """What one commit makes durable for one group of recipients. The content is finished, or a draft about to be.

    `held` is the reason why it waits for an operator (quarantine) instead of being delivered; `routes` (by recipient
    address) and `facts` are kept as given and mean nothing here; `part` numbers the groups of a split message from 0.
    """

    ticket: Ticket
    envelope: Envelope
    content: Blob | Draft
    received_at: float
    held: str | None = None
    authenticated: str | None = None
    part: int = 0
    routes: Mapping[str, str] = field(default_factory=_nothing)
    facts: Mapping[str, str] = field(default_factory=_nothing)

    @property
    def id(self) -> str:
        return entry_id(self.ticket, self.part)


@fact
class Entry:
    """A deposit at rest, as delivery sees it: `envelope` has only the recipients still waiting.

    `since` is when its schedule began (s, Unix time): the reception, or its release from being held. `fresh` says that
    no attempt can have been made before, not even by a process that died: a Maildir need not be looked through.
    """

    id: str
    ticket: Ticket
    part: int
    envelope: Envelope
    content: Blob
    received_at: float
    since: float
    attempts: int = 0
    next_attempt: float | None = None
    held: str | None = None
    authenticated: str | None = None
    routes: Mapping[str, str] = field(default_factory=_nothing)
    facts: Mapping[str, str] = field(default_factory=_nothing)
    said: Mapping[str, str] = field(default_factory=_nothing)
    """What was last said about a recipient still waiting, by address."""
    fresh: bool = False
    notes: Mapping[str, str] = field(default_factory=_nothing)
    """What delivery remembers about it from one attempt to the next."""


class Fate(Enum):
    """What became of one recipient in one attempt."""

    DONE = "done"
    LATER = "later"
    FAILED = "failed"


@fact
class RecipientOutcome:
    """One recipient's fate, and what was said about it (a reply's text, for the operator and the notice)."""

    recipient: Recipient
    fate: Fate
    said: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many entries wait for delivery (leased ones among them), and how many are held."""

    queued: int
    held: int
    leased: int


@dataclass(slots=True)
class Tally:
    """What waits for one domain: entries queued (leased ones among them), leased, held; when the next one is due (s,
    Unix time), and since when the oldest waits.
    """

    queued: int = 0
    leased: int = 0
    held: int = 0
    next_due: float | None = None
    oldest: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: `fits` looks at the sender's address, his user name, and the addresses still waiting; `concerns`
    sorts out lanes before anything is read, as far as an entry has recipients in one domain only.
    """

    fits: Callable[[str, str, Sequence[str]], bool]
    concerns: Callable[[str, str], bool] | None = None


OnCommit = Callable[[], None]
Memos = Mapping[str, bytes | None]
"""Small facts by key that rest beside the entries, such as what was collected already; None removes one. Where it is
in doubt whether a commit has failed, what it set is removed."""
Concerns = Callable[[str, str], bool]
"""Whether a lane is meant: takes its domain and its sender."""


class Spool(Protocol):
    """Where mail rests between the 250 and its delivery. Used from one event loop.

    Every method that changes something is durable when it returns and raises SpoolFull or SpoolFailure when it isn't.
    """

    on_commit: OnCommit | None
    """Called in the loop when something may have become due: after a commit, a settlement, a release, a flush."""

    def draft(self, ticket: Ticket) -> Draft:
        """A place for content while it arrives; the caller discards it exactly once, committed or not."""

    async def commit(
        self,
        deposits: Sequence[Deposit],
        *,
        records: Sequence[tuple[object, ...]] = (),
        memos: Memos = _NO_MEMOS,
    ) -> None:
        """Make all deposits, records and memos durable in one step, or none. Cancelling after hand-over changes
        nothing.
        """

    async def memos(self, prefix: str) -> dict[str, bytes]:
        """The memos whose keys begin so, in order of their keys."""

    def sort_by(self, sorting: Sorting) -> None:
        """Ask this where each lane's mail goes (store.lanes); again, where the answers are others now."""

    async def due(self, now: float, limit: int, *, leaves_room: bool = False) -> list[Entry]:
        """Up to `limit` entries to attempt now, leased to the caller until it settles or gives them back.

        Destinations and senders take turns (store.lanes); within a lane whoever has waited longest comes first, and
        first attempts and repeated ones take turns. With `leaves_room` no destination gets more than its share, and
        there may be fewer than there are due.
        """

    async def settle(
        self,
        id: str,
        outcomes: Sequence[RecipientOutcome],
        *,
        next_attempt: float | None,
        held: str | None = None,
        deposits: Sequence[Deposit] = (),
        notes: Mapping[str, str] | None = None,
        counted: bool = True,
        records: Sequence[tuple[object, ...]] = (),
    ) -> None:
        """Note an attempt's outcomes and end the lease; commit new deposits (notices, expansions) and records in the
        same step.

        `notes` is what is to be remembered from now on; None leaves it as it was. Not `counted`: nobody was asked, so
        this was no attempt.

        Who is done or failed leaves the entry; an entry with nobody left is removed with its content. Who is left
        waits until `next_attempt`, or is held. A failure leaves the lease: settle again. An entry deleted meanwhile
        is settled by doing nothing.
        """

    def release_lease(self, id: str) -> None:
        """Give a leased entry back as it was; it is due at once."""

    async def entries(
        self, *, held: bool | None = None, after: str | None = None, limit: int = 100, wanted: Wanted | None = None
    ) -> list[Entry]:
        """Entries in order of reception, all or (not) held, from behind the id `after`; nothing is leased. `wanted`
        chooses among them.
        """

    async def show(self, id: str) -> Entry:
        """One entry; raises UnknownEntry."""

    async def retry(self, id: str) -> None:
        """Make one entry due now, durably, if it is neither held nor in hand; raises UnknownEntry."""

    async def hold(self, id: str, reason: str) -> None:
        """Keep one entry from being attempted; raises UnknownEntry. An attempt under way is finished first."""

    async def release(self, id: str) -> None:
        """End being held: due now, with a schedule that starts anew; raises UnknownEntry."""

    async def delete(self, id: str) -> None:
        """Remove one entry for good; raises UnknownEntry."""

    async def flush(self, concerns: Concerns | None = None) -> int:
        """Make what isn't held due now, durably, everything or the lanes that this `concerns`; how many that were."""

    async def set_back(self, seconds: float) -> int:
        """The clock was set back by so much: what waits is due so much earlier, durably; how many entries that is."""

    async def records(self, *, limit: int = 1000) -> list[tuple[object, ...]]:
        """The newest committed records, oldest first."""

    def counts(self) -> Counts: ...

    def tallies(self) -> dict[str, Tally]:
        """What waits, by the domain of the first recipient still waiting."""

    def next_due(self) -> float | None:
        """When the next entry that isn't leased becomes due (s, Unix time), or became it; None if there is none."""

    async def close(self) -> None:
        """Finish what was handed over, and let go of everything. A second call does nothing."""
