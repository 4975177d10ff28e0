"""One run over one account: list, fetch what is new, take it in, and only then delete what has been there long enough.

The order is the safety: a message's memo is committed with the message, so that a run which ends anywhere (a lost
connection, `kill -9`, a full disk) is simply begun again; what was taken in is known, what wasn't is still there. A
deletion is noted before it is asked for, and counts on the other server only once QUIT was answered.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gatepost.collecting.accounts import Account, Clock
from gatepost.collecting.ledger import Contents, Known, Ledger, Notes, State, header_hash, keys_of, lasting
from gatepost.collecting.origin import origin
from gatepost.collecting.plan import By, Plan, Sight, is_over, plan
from gatepost.collecting.ports import (
    Collected,
    Connect,
    Found,
    Intake,
    IntakeLater,
    Refused,
    Remote,
    RemoteError,
    Taken,
    TooLarge,
    Trouble,
)
from gatepost.collecting.reports import Report, Tell, Telling
from gatepost.collecting.sender import recipients_of, sender_of
from gatepost.content.headers import DEFAULT_LIMITS, HeaderScanner, Section
from gatepost.content.headers import TooLarge as HeaderTooLarge
from gatepost.model import Blob
from gatepost.store.draft import Draft
from gatepost.store.errors import SpoolError

_TOLD_EVERY = 256 * 1024  # octets between two words on progress
_HASHED = 32  # hexadecimal digits
_MOST_PUT_OFF = 10  # messages in a row about which nothing is decided; then it isn't about messages


@dataclass(frozen=True, slots=True)
class House:
    """What a run needs of the house. `draft` makes a place for content while it arrives."""

    connect: Connect
    intake: Intake
    notes: Notes
    draft: Callable[[], Draft]
    now: Clock = time.time


class Collector:
    """Runs over one account, one run at a time. Invariant: nothing is deleted that isn't durable here."""

    def __init__(self, account: Account, house: House, tell: Tell | None = None) -> None:
        self._account = account
        self._house = house
        self._ledger = Ledger(account, house.notes)
        self._telling = Telling(account.name, house.now, tell)

    async def run(self) -> Report:
        """One run, whatever comes; what went wrong stands in the report. Only a cancellation is raised."""
        telling = self._telling
        telling.begin()
        remote: Remote | None = None
        try:
            await self._ledger.read()
            remote = await self._house.connect(self._account.login, None)
            await self._work(remote)
            await remote.quit()
            remote = None
            telling.quitted()
        except RemoteError as error:
            telling.trouble(error.kind, str(error))
        except SpoolError as error:
            telling.trouble(Trouble.TEMPORARY, f"it can't be stored here: {error}")
        finally:
            if remote is not None:
                await remote.abort()
        return telling.end()

    async def _work(self, remote: Remote) -> None:
        by, sights = await _look(remote)
        now = self._house.now()
        known = self._ledger.known
        todo = plan(self._account, by, sights, known, now)
        self._telling.listed(len(sights), todo)
        limit = self._account.size_limit
        for sight in todo.too_large:
            self._telling.too_large(sight.number, sight.size, limit)
        noted = {one.key: Known(now, one.size, State.LEFT, limit=limit) for one in todo.too_large if one.key}
        await self._ledger.note({**noted})
        contents = None if by is By.UIDL else Contents(known, {one.key for one in sights if one.key})
        fetched = await self._fetch_all(remote, todo, contents)
        gone = [*todo.forget, *(contents.gone() if contents is not None else ())]
        await self._ledger.note({key: None for key in gone if key in known})
        await self._delete(remote, [*todo.delete, *fetched])

    async def _fetch_all(self, remote: Remote, todo: Plan, contents: Contents | None) -> list[Sight]:
        """Fetch what is new; those of them that may be deleted at once."""
        delete: list[Sight] = []
        new = put_off = 0
        for at, sight in enumerate(todo.fetch):
            if new >= self._account.most or put_off >= _MOST_PUT_OFF:
                self._telling.enough(len(todo.fetch) - at)
                if contents is not None:
                    contents.is_whole = False
                break
            self._telling.fetching(sight.size)
            count = len(self._ledger.known)
            try:
                key = await self._fetch(remote, sight, contents)
            except IntakeLater as error:
                put_off += 1
                self._telling.later(sight.number, str(error))
                continue
            put_off = 0
            new += len(self._ledger.known) > count
            if key is not None and is_over(self._account, self._ledger.known[key], self._house.now()):
                delete.append(replace(sight, key=key))
        return delete

    async def _fetch(self, remote: Remote, sight: Sight, contents: Contents | None) -> str | None:
        """One message; its key if it is in the ledger now. What is only about this message is told, never raised."""
        telling = self._telling
        draft = self._house.draft()
        limit = self._account.size_limit
        try:
            reader = _Reader(draft, telling.progress)
            async for piece in remote.retrieve(sight.number, limit):
                await reader.take(piece)
            section, content = reader.end()
            if contents is not None and (key := contents.claim(content)) is not None:
                return await self._recognised(sight, key)
            key = sight.key or f"c/{contents.number(content) if contents else 1}/{content}"
            entry = Known(self._house.now(), sight.size, marked=self._account.keep_s == 0)
            changes = {key: entry if contents is None else replace(entry, content=content)}
            taken = await self._take(await draft.finish(), section, changes)
            self._ledger.noted(changes)
            telling.taken(taken, draft.size)
            return key
        except TooLarge:
            telling.too_large(sight.number, max(sight.size, limit + 1), limit)
            if sight.key is not None:
                await self._ledger.note({sight.key: Known(self._house.now(), sight.size, State.LEFT, limit=limit)})
        except Refused as error:
            telling.failed(sight.number, f"the server won't give it: {error}")
        finally:
            draft.discard()
        if contents is not None:
            contents.is_whole = False
        return None

    async def _recognised(self, sight: Sight, key: str) -> str:
        """It was taken in before, and has another name now or none."""
        self._telling.known()
        if sight.key is None:
            return key
        entry = replace(self._ledger.known[key], size=sight.size, marked=False)
        await self._ledger.note({key: None, sight.key: entry})
        return sight.key

    async def _take(self, content: Blob, section: Section, changes: Mapping[str, Known]) -> Taken:
        account = self._account
        peer, helo = origin(section, account.believed)
        return await self._house.intake.take(
            Collected(
                account=account.name,
                content=content,
                sender=sender_of(section),
                recipients=recipients_of(section, account),
                peer=peer,
                helo=helo,
                received_at=self._house.now(),
                memos=self._ledger.memos(changes),
                on_refusal=account.on_refusal,
            )
        )

    async def _delete(self, remote: Remote, sights: Sequence[Sight]) -> None:
        """They are in the ledger; that they are to go is noted before it is asked for."""
        await self._ledger.mark(sight.key for sight in sights if sight.key is not None)
        for sight in sights:
            try:
                await remote.delete(sight.number)
            except Refused as error:
                self._telling.failed(sight.number, f"the server won't delete it: {error}")
            else:
                self._telling.deleting()


async def _look(remote: Remote) -> tuple[By, list[Sight]]:
    """The listing, and what tells its messages apart."""
    listing = await remote.messages()
    names: list[str] | None = None
    by = By.CONTENT
    if remote.has_uidl:
        names, by = [one.uid or f" {one.size}" for one in listing], By.UIDL
    elif remote.has_top and (names := await _header_hashes(remote, listing)) is not None:
        by = By.HEADER
    keys = [None] * len(listing) if names is None else keys_of(by.value, names)
    return by, [Sight(one.number, one.size, key) for one, key in zip(listing, keys, strict=True)]


async def _header_hashes(remote: Remote, listing: Sequence[Found]) -> list[str] | None:
    """A name for each; None where the server doesn't give every header after all."""
    names: list[str] = []
    for one in listing:
        header = await remote.header(one.number)
        if header is None:
            return None
        names.append(header_hash(header, one.size))
    return names


class _Reader:
    """Content on its way into a draft: its header section, and its hash without what servers change in headers."""

    def __init__(self, draft: Draft, told: Callable[[int], None]) -> None:
        self._draft = draft
        self._told = told
        self._next = _TOLD_EVERY
        self._scanner: HeaderScanner | None = HeaderScanner(DEFAULT_LIMITS)
        self._head = 0
        self._early = bytearray()
        self._section = Section(b"")
        self._hash = hashlib.sha256()

    async def take(self, piece: bytes) -> None:
        """The next octets; waits while the disk has enough to do."""
        if self._scanner is None:
            self._hash.update(piece)
        else:
            self._early += piece
            found = self._scanner.feed(piece)
            if found is not None:
                self._found(found)
        self._draft.write(piece)
        await self._draft.ready()
        if self._draft.size >= self._next:
            self._told(self._draft.size)
            self._next = self._draft.size + _TOLD_EVERY

    def end(self) -> tuple[Section, str]:
        """The header section, and the hash of the whole."""
        if self._scanner is not None:
            self._found(self._scanner.end())
        return self._section, self._hash.hexdigest()[:_HASHED]

    def _found(self, section: Section | HeaderTooLarge) -> None:
        """The hash goes on behind the header; one that is too large is none, and for the house to judge."""
        self._scanner = None
        if isinstance(section, Section):
            self._section = section
            self._hash.update(lasting(section.raw))
            self._hash.update(memoryview(self._early)[len(section.raw) :])
        else:
            self._hash.update(self._early)
        self._early = bytearray()
