"""One run over one account: list, fetch what is new, take it in, and only then delete what has been there long enough.

The order is the safety: a message's memo is committed with the message, so that a run which ends anywhere (a lost
connection, `kill -9`, a full disk) is simply begun again; what was taken in is known, what wasn't is still there. A
deletion is noted before it is asked for, and counts on the other server only once QUIT was answered.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
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
    NoRoom,
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
_AGAIN_MOST_S = 4 * 3600.0  # between two tries of a message that is refused for now


@dataclass(frozen=True, slots=True)
class House:
    """What a run needs of the house. `draft` makes a place for content while it arrives."""

    connect: Connect
    intake: Intake
    notes: Notes
    draft: Callable[[], Draft]
    now: Clock = time.time


@dataclass(frozen=True, slots=True)
class _Message:
    """One that was read: its key in the ledger, the one it had `before`, and what is known of it under that."""

    key: str
    before: str | None
    entry: Known | None
    size: int
    content: str

    def changes(self, now: Known) -> dict[str, Known | None]:
        """What makes `now` known of it."""
        gone: dict[str, Known | None] = {} if self.before in (None, self.key) else {str(self.before): None}
        return {**gone, self.key: now}


class Collector:
    """Runs over one account, one run at a time. Invariant: nothing is deleted that isn't durable here."""

    def __init__(self, account: Account, house: House, tell: Tell | None = None, *, asked: bool = False) -> None:
        """`asked`: somebody waits for this run, so what was refused for now is tried whether it is due or not."""
        self._account = account
        self._asked = asked
        self._house = house
        self._ledger = Ledger(account, house.notes)
        self._telling = Telling(account.name, house.now, tell)
        self._new = 0

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
        except NoRoom as error:
            telling.trouble(Trouble.TEMPORARY, f"it can't be stored here: {error}")
        finally:
            if remote is not None:
                await remote.abort()
        return telling.end()

    async def _work(self, remote: Remote) -> None:
        by, sights = await _look(remote)
        now = self._house.now()
        known = self._ledger.known
        todo = plan(self._account, by, sights, known, now, asked=self._asked)
        self._telling.listed(len(sights), todo)
        limit = self._account.size_limit
        for sight in todo.too_large:
            self._telling.too_large(sight.number, sight.size, limit)
        noted = {one.key: Known(now, one.size, State.LEFT, limit=limit) for one in todo.too_large if one.key}
        await self._ledger.note({**noted})
        contents = None
        if by is not By.UIDL or any(
            entry.content and not key.startswith(By.UIDL.value) for key, entry in known.items()
        ):
            contents = Contents(known, {one.key for one in sights if one.key})
        fetched = await self._fetch_all(remote, todo, contents)
        gone = [*todo.forget, *(contents.gone() if contents is not None else ())]
        await self._ledger.note({key: None for key in gone if key in known})
        await self._delete(remote, [*todo.delete, *fetched])

    async def _fetch_all(self, remote: Remote, todo: Plan, contents: Contents | None) -> list[Sight]:
        """Fetch what is new; those of them that may be deleted at once."""
        delete: list[Sight] = []
        put_off = 0
        self._new = 0
        for at, sight in enumerate(todo.fetch):
            if self._new >= self._account.most or put_off >= _MOST_PUT_OFF:
                self._telling.enough(len(todo.fetch) - at)
                if contents is not None:
                    contents.is_whole = False
                break
            self._telling.fetching(sight.size)
            try:
                key = await self._fetch(remote, sight, contents)
            except NoRoom:
                raise
            except IntakeLater as error:
                put_off += 1
                self._telling.later(sight.number, str(error))
                continue
            put_off = 0
            if key is not None and is_over(self._account, self._ledger.known[key], self._house.now()):
                delete.append(replace(sight, key=key))
        return delete

    async def _fetch(self, remote: Remote, sight: Sight, contents: Contents | None) -> str | None:
        """One message; its key if it is in our hands now. What is only about this message is told, or IntakeLater."""
        telling = self._telling
        draft = self._house.draft()
        limit = self._account.size_limit
        try:
            reader = _Reader(draft, telling.progress)
            async for piece in remote.retrieve(sight.number, limit):
                await reader.take(piece)
            section, content = reader.end()
            message = self._known_as(sight, content, contents)
            if message.entry is not None and not self._is_due(message.entry):
                return await self._recognised(message, message.entry)
            taken = await self._take(await draft.finish(), section, message)
            telling.taken(taken, draft.size)
            return message.key
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

    def _known_as(self, sight: Sight, content: str, contents: Contents | None) -> _Message:
        """What is known of a message that was read: by its name if that is still its own, else by its content."""
        known = self._ledger.known
        before: str | None = None
        if sight.key is not None and (entry := known.get(sight.key)) is not None and entry.content == content:
            before = sight.key
        elif contents is not None:
            before = contents.claim(content)
        key = sight.key or before
        if key is None:
            assert contents is not None, "without a name it is known by its content"
            key = f"c/{contents.number(content)}/{content}"
        return _Message(key, before, None if before is None else known[before], sight.size, content)

    def _is_due(self, entry: Known) -> bool:
        """Whether a message that was read is to be taken in, although it is known."""
        return entry.state is State.WAITING and (self._asked or self._house.now() >= entry.next_at)

    async def _recognised(self, message: _Message, entry: Known) -> str | None:
        """It was fetched before, and nothing is to be done now; its key if it is in our hands."""
        is_marked = entry.marked and message.before == message.key
        now = replace(entry, size=message.size, marked=is_marked, checked=is_marked)
        if now != entry or message.before != message.key:
            await self._ledger.note(message.changes(now))
        if entry.state is State.WAITING:
            self._telling.waiting()
            return None
        self._telling.known()
        return message.key

    async def _take(self, content: Blob, section: Section, message: _Message) -> Taken:
        account, now = self._account, self._house.now()
        peer, helo = origin(section, account.believed)
        first = now if message.entry is None else message.entry.at
        changes = message.changes(Known(now, message.size, marked=account.keep_s == 0, content=message.content))
        try:
            taken = await self._house.intake.take(
                Collected(
                    account=account.name,
                    content=content,
                    sender=sender_of(section),
                    recipients=recipients_of(section, account),
                    peer=peer,
                    helo=helo,
                    received_at=now,
                    memos=self._ledger.memos(changes),
                    on_refusal=account.on_refusal,
                    is_last=account.expire_s is not None and now - first >= account.expire_s,
                )
            )
        except NoRoom:
            raise
        except IntakeLater:
            again = now + min(now - first, _AGAIN_MOST_S)  # as long again as it has waited
            waiting = Known(first, message.size, State.WAITING, content=message.content, next_at=again)
            await self._ledger.note(message.changes(waiting))
            raise
        self._ledger.noted(changes)
        self._new += 1
        return taken

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
