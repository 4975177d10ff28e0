"""The spool's port over any storage: leases, schedule and settlement, once for every maker.

Strategy: the roster in memory knows who waits; a storage makes `Work` durable, all of it or nothing, and calls back in
the loop. The roster changes in that call, so it never says what the disk doesn't know, and a waiter that was cancelled
after the hand-over changes nothing. What was just committed is kept in memory within a bound and handed to delivery
without reading.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Protocol

import msgspec

from gatepost.model import Blob, Bytes, Ticket
from gatepost.store.blobs import FileBlob
from gatepost.store.draft import ROW_LIMIT, Draft
from gatepost.store.errors import SpoolError, SpoolFailure, UnknownEntry, spool_error
from gatepost.store.lanes import Sorting
from gatepost.store.roster import Roster, Slot
from gatepost.store.rows import Correspondents, Progress, Whose, to_entry, whose
from gatepost.store.spool import (
    Concerns,
    Counts,
    Deposit,
    Entry,
    Fate,
    Memos,
    OnCommit,
    RecipientOutcome,
    Tally,
    Wanted,
)

_NO_MEMOS: Memos = {}
_TOGETHER = 500  # entries changed in one step where all are
_KEPT_OCTETS = 16 * 1024 * 1024  # content of fresh deposits kept for their first attempt


class Insert(msgspec.Struct, frozen=True):
    """One deposit with its place in the storage and its finished content."""

    key: int
    id: str
    deposit: Deposit
    content: Blob


class Work(msgspec.Struct, frozen=True):
    """What one step makes durable: all of it, or nothing."""

    inserts: Sequence[Insert] = ()
    changes: Sequence[tuple[int, Progress]] = ()
    removals: Sequence[int] = ()
    records: Sequence[tuple[object, ...]] = ()
    memos: Sequence[tuple[str, bytes | None]] = ()


class Found(msgspec.Struct, frozen=True, gc=False):
    """What a storage had when it was opened, one entry; `filed` if its content rests in a file."""

    key: int
    id: str
    progress: Progress
    filed: bool
    whose: Whose


Done = Callable[[SpoolError | None], None]


class Storage(Protocol):
    """What a maker adds: where content arrives, where work becomes durable, where it is read again."""

    def draft(self, ticket: Ticket) -> Draft: ...

    async def place(self, id: str, content: Blob) -> Blob:
        """The content where an entry may own it: as it is if it fits a row, else in a file of its own."""

    def displace(self, id: str) -> None:
        """Take back what `place` did for an entry that won't be committed, or was removed."""

    def submit(self, work: Work, done: Done) -> None:
        """Make work durable, then call `done` in the loop, in the order of submission unless some of it fails."""

    async def load(self, keys: Sequence[int]) -> dict[int, tuple[Deposit, Blob]]:
        """Deposits with their content; what was damaged is set aside and missing here."""

    async def look(self, keys: Sequence[int]) -> dict[int, Correspondents]:
        """Whom entries are from and for, without reading more; what is damaged is missing."""

    async def records(self, limit: int) -> list[tuple[object, ...]]: ...

    async def memos(self, prefix: str) -> dict[str, bytes]: ...

    async def close(self) -> None: ...


class QueueSpool:
    """The spool over a storage. Invariant: the roster has exactly the entries whose commit has succeeded."""

    def __init__(self, storage: Storage, clock: Callable[[], float], found: Sequence[Found] = ()) -> None:
        self.on_commit: OnCommit | None = None
        self._storage = storage
        self._clock = clock
        self._roster = Roster()
        self._kept_octets = 0
        self._is_closed = False
        for entry in found:
            self._roster.add(Slot(entry.key, entry.id, entry.progress, filed=entry.filed), entry.whose)
        self._keys = count(max((entry.key for entry in found), default=0) + 1)

    def draft(self, ticket: Ticket) -> Draft:
        return self._storage.draft(ticket)

    async def commit(
        self, deposits: Sequence[Deposit], *, records: Sequence[tuple[object, ...]] = (), memos: Memos = _NO_MEMOS
    ) -> None:
        inserts = await self._place(deposits)
        work = Work(inserts=inserts, records=records, memos=tuple(memos.items()) if memos else ())
        await self._make_durable(work, lambda: self._take_up(inserts))

    def sort_by(self, sorting: Sorting) -> None:
        self._roster.sort(sorting)

    async def due(self, now: float, limit: int, *, leaves_room: bool = False) -> list[Entry]:
        slots = self._roster.lease(now, limit, leaves_room=leaves_room)
        if not slots:
            return []
        try:
            entries = await self._read(slots)
        except BaseException:
            for slot in slots:
                self._roster.give_back(slot)
            raise
        for entry in entries:
            if leased := self._roster.leased(entry.id):
                leased.entry = entry
        return entries

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
        slot = self._roster.leased(id)
        if slot is None or slot.entry is None:
            raise ValueError(f"entry {id} isn't leased, so there is nothing to settle")
        inserts = await self._place(deposits) if deposits else []
        try:
            if slot.changing is not None:
                await self._quiet(slot)
            entry, progress, whose_now = slot.entry, None, None
            if not slot.gone:
                progress = self._after_attempt(slot, entry, outcomes, next_attempt, held, notes, counted=counted)
            if progress is not None and slot.is_mixed and progress.finished:
                left = [one for one in entry.envelope.recipients if one.address not in progress.finished]
                whose_now = Whose(
                    left[0].domain, slot.lane.sender.key, any(one.domain != left[0].domain for one in left)
                )
        except BaseException:
            self._displace(inserts)
            raise
        if slot.gone:  # deleted while the attempt was under way
            self._displace(inserts)
            self.release_lease(id)
        elif progress is None:
            work = Work(inserts=inserts, removals=(slot.key,), records=records)
            await self._make_durable(work, lambda: self._finished(slot, inserts), slot)
        else:
            work = Work(inserts=inserts, changes=((slot.key, progress),), records=records)
            await self._make_durable(work, lambda: self._deferred(slot, progress, whose_now, inserts), slot)

    def release_lease(self, id: str) -> None:
        if slot := self._roster.leased(id):
            self._roster.give_back(slot)
            if slot.gone:
                self._let_go(slot)
            elif slot.kept is not None:
                self._unkeep(slot)
            self._wake()

    async def entries(
        self, *, held: bool | None = None, after: str | None = None, limit: int = 100, wanted: Wanted | None = None
    ) -> list[Entry]:
        slots: list[Slot] = []
        is_behind = after is None
        for slot in self._roster:
            if wanted is None and len(slots) == limit:
                break
            if is_behind and held in (None, slot.progress.held is not None) and _may_be_wanted(slot, wanted):
                slots.append(slot)
            is_behind = is_behind or slot.id == after
        if wanted is not None:
            slots = await self._wanted(slots, wanted, limit)
        return await self._read(slots)

    async def _wanted(self, slots: Sequence[Slot], wanted: Wanted, limit: int) -> list[Slot]:
        """Up to `limit` slots of entries that fit, without reading any content."""
        fitting: list[Slot] = []
        for at in range(0, len(slots), _TOGETHER):
            some = slots[at : at + _TOGETHER]
            looked = await self._storage.look([slot.key for slot in some])
            for slot in some:
                found = looked.get(slot.key)
                if found is not None and wanted.fits(found.sender, found.user, _waiting(found, slot.progress)):
                    fitting.append(slot)
            if len(fitting) >= limit:
                break
        return fitting[:limit]

    def tallies(self) -> dict[str, Tally]:
        return self._roster.tallies()

    async def show(self, id: str) -> Entry:
        entries = await self._read([self._slot(id)])
        if not entries:
            raise UnknownEntry(f"entry {id} was damaged and has been set aside")
        return entries[0]

    async def retry(self, id: str) -> None:
        slot = self._slot(id)
        if not slot.leased:
            await self._change(id, due=self._clock())
            self._wake()

    async def hold(self, id: str, reason: str) -> None:
        await self._change(id, held=reason)

    async def release(self, id: str) -> None:
        now = self._clock()
        if self._slot(id).progress.held is not None:
            await self._change(id, held=None, due=now, since=now, attempts=0)

    async def delete(self, id: str) -> None:
        slot = self._slot(id)
        await self._quiet(slot)
        if not slot.gone:
            await self._make_durable(Work(removals=(slot.key,)), lambda: self._drop(slot), slot)

    async def flush(self, concerns: Concerns | None = None) -> int:
        now = self._clock()
        waiting = [slot for slot in self._roster if slot.is_waiting and (concerns is None or _fits(slot, concerns))]
        for at in range(0, len(waiting), _TOGETHER):
            await self._bring_forward(waiting[at : at + _TOGETHER], now)
        self._wake()
        return len(waiting)

    async def set_back(self, seconds: float) -> int:
        now = self._clock()
        late = [slot for slot in self._roster if slot.is_waiting and slot.progress.due > now]
        for at in range(0, len(late), _TOGETHER):
            await self._bring_forward(late[at : at + _TOGETHER], now, seconds)
        self._wake()
        return len(late)

    async def _bring_forward(self, slots: Sequence[Slot], now: float, seconds: float = math.inf) -> None:
        """To so much earlier, or now; durably, in one step. Who is being changed is left until that has ended."""
        changes: list[tuple[Slot, Progress]] = []
        for slot in slots:
            await self._quiet(slot)
            if slot.is_waiting and slot.progress.due > now:
                due = max(now, slot.progress.due - seconds)
                changes.append((slot, msgspec.structs.replace(slot.progress, due=due)))

        def then() -> None:
            for slot, progress in changes:
                if not slot.gone:
                    self._roster.change(slot, progress)

        if changes:
            work = Work(changes=[(slot.key, progress) for slot, progress in changes])
            await self._make_durable(work, then, *(slot for slot, _ in changes))

    async def records(self, *, limit: int = 1000) -> list[tuple[object, ...]]:
        return await self._storage.records(limit)

    async def memos(self, prefix: str) -> dict[str, bytes]:
        return await self._storage.memos(prefix)

    def counts(self) -> Counts:
        return self._roster.counts()

    def next_due(self) -> float | None:
        return self._roster.next_due()

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._storage.close()

    def _slot(self, id: str) -> Slot:
        slot = self._roster.find(id)
        if slot is None:
            raise UnknownEntry(f"there is no entry {id}")
        return slot

    def _after_attempt(
        self,
        slot: Slot,
        entry: Entry,
        outcomes: Sequence[RecipientOutcome],
        next_attempt: float | None,
        held: str | None,
        notes: Mapping[str, str] | None,
        *,
        counted: bool,
    ) -> Progress | None:
        """How far an entry has come after an attempt; None if nobody is left in it."""
        was = slot.progress
        finished = {o.recipient.address for o in outcomes if o.fate is not Fate.LATER}
        waiting = {r.address for r in entry.envelope.recipients} - finished
        if not waiting:
            return None
        held = held or was.held  # an operator may have held it meanwhile
        if next_attempt is None and held is None:
            raise ValueError(f"entry {slot.id} has recipients left, so it must be attempted again or held")
        said = {o.recipient.address: o.said for o in outcomes if o.fate is Fate.LATER}
        return Progress(
            due=was.due if next_attempt is None else next_attempt,
            since=was.since,
            attempts=was.attempts + counted,
            held=held,
            finished=(*was.finished, *finished),
            said={a: text for a, text in {**(was.said or {}), **said}.items() if a in waiting and text} or None,
            notes=was.notes if notes is None else dict(notes) or None,
        )

    async def _change(self, id: str, **changes: object) -> None:
        slot = self._slot(id)
        await self._quiet(slot)
        if slot.gone:
            raise UnknownEntry(f"there is no entry {id} any more")
        progress = msgspec.structs.replace(slot.progress, **changes)
        work = Work(changes=((slot.key, progress),))
        await self._make_durable(work, lambda: self._changed(slot, progress), slot)

    async def _quiet(self, slot: Slot) -> None:
        """Wait until no change of a slot is on its way."""
        while slot.changing is not None:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            slot.changing.append(ended)
            await ended

    async def _place(self, deposits: Sequence[Deposit]) -> list[Insert]:
        """Deposits with keys and contents that rest where they may stay; all of them, or none."""
        inserts: list[Insert] = []
        try:
            for deposit in deposits:
                id = deposit.id
                if self._roster.find(id):
                    raise ValueError(f"there is an entry {id} already")
                content = deposit.content
                blob = await content.complete() if isinstance(content, Draft) else content
                if blob.size > ROW_LIMIT or isinstance(blob, FileBlob):
                    blob = await self._storage.place(id, blob)
                elif not isinstance(blob, Bytes):
                    blob = Bytes(blob.read())  # a view on memory: the row needs it in one piece
                inserts.append(Insert(next(self._keys), id, deposit, blob))
        except BaseException as error:
            self._displace(inserts)
            if isinstance(error, OSError):
                raise spool_error(error) from error
            raise
        return inserts

    def _displace(self, inserts: Sequence[Insert]) -> None:
        for insert in inserts:
            if not isinstance(insert.content, Bytes):
                self._storage.displace(insert.id)

    async def _make_durable(self, work: Work, then: Callable[[], None], *slots: Slot) -> None:
        """Hand work over and wait. `then` runs when it is durable, whether or not somebody still waits for it."""
        if self._is_closed:
            self._displace(work.inserts)
            raise SpoolFailure("the spool is closed")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: SpoolError | None) -> None:
            for slot in slots:
                _end_change(slot)
            if error is None:
                then()
            else:
                self._displace(work.inserts)
            if waiter.done():
                return
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

        for slot in slots:
            slot.changing = []
        self._storage.submit(work, done)
        await waiter

    async def _read(self, slots: Sequence[Slot]) -> list[Entry]:
        """The entries of slots, from memory where kept; one that turns out damaged is dropped from the roster."""
        kept = {slot.key: slot.kept for slot in slots if slot.kept is not None}
        missing = [slot.key for slot in slots if slot.kept is None]
        loaded = await self._storage.load(missing) if missing else {}
        entries = []
        for slot in slots:
            # a deferral may have let go of it meanwhile, which doesn't make it damaged
            known = slot.kept or (None if slot.gone else kept.get(slot.key))
            if known is not None:
                entries.append(to_entry(slot.id, *known, slot.progress, fresh=True))
            elif slot.key in loaded:
                entries.append(to_entry(slot.id, *loaded[slot.key], slot.progress))
            elif not slot.gone:
                self._roster.remove(slot)
                self._roster.give_back(slot)
        return entries

    def _take_up(self, inserts: Sequence[Insert]) -> None:
        for insert in inserts:
            deposit, content = insert.deposit, insert.content
            slot = Slot(insert.key, insert.id, Progress.at_first(deposit), filed=not isinstance(content, Bytes))
            if self._kept_octets + content.size <= _KEPT_OCTETS or slot.filed:
                slot.kept = (deposit, content)
                self._kept_octets += 0 if slot.filed else content.size
            self._roster.add(slot, whose(deposit, deposit.envelope.recipients))
        if inserts:
            self._wake()

    def _unkeep(self, slot: Slot) -> None:
        if slot.kept is not None:
            self._kept_octets -= 0 if slot.filed else slot.kept[1].size
            slot.kept = None

    def _finished(self, slot: Slot, inserts: Sequence[Insert]) -> None:
        self._roster.give_back(slot)
        self._drop(slot)
        self._take_up(inserts)

    def _deferred(self, slot: Slot, progress: Progress, whose_now: Whose | None, inserts: Sequence[Insert]) -> None:
        self._unkeep(slot)
        if not slot.gone:
            self._roster.change(slot, progress, whose_now)
        self._roster.give_back(slot)
        self._take_up(inserts)
        self._wake()

    def _changed(self, slot: Slot, progress: Progress) -> None:
        self._roster.change(slot, progress)
        self._wake()

    def _drop(self, slot: Slot) -> None:
        self._roster.remove(slot)
        self._unkeep(slot)
        if not slot.leased:
            self._let_go(slot)

    def _let_go(self, slot: Slot) -> None:
        """Remove the content of an entry that is gone and that nobody reads any more."""
        if slot.filed:
            self._storage.displace(slot.id)

    def _wake(self) -> None:
        if self.on_commit is not None:
            self.on_commit()


def _end_change(slot: Slot) -> None:
    waiting, slot.changing = slot.changing, None
    for ended in waiting or ():
        if not ended.done():
            ended.set_result(None)


def _fits(slot: Slot, concerns: Concerns) -> bool:
    return concerns(slot.lane.domain, slot.lane.sender.key)


def _may_be_wanted(slot: Slot, wanted: Wanted | None) -> bool:
    return wanted is None or wanted.concerns is None or slot.is_mixed or _fits(slot, wanted.concerns)


def _waiting(found: Correspondents, progress: Progress) -> Sequence[str]:
    recipients = found.recipients
    return [one for one in recipients if one not in progress.finished] if progress.finished else recipients
