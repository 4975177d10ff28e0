"""Mailing lists, as sessions and delivery ask for them: the database behind a thread of its own.

The thread is started with the first question, so who has no lists pays nothing. An answer is given after its commit.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path as File
from typing import TypeVar

from gatepost.store.lists_database import ListDatabase
from gatepost.store.lists_facts import (
    Decision,
    FromPolicy,
    ListError,
    ListOptions,
    MailingList,
    Member,
    Mode,
    Pending,
    Post,
    Strangers,
    Subscribing,
    Taken,
    UnknownList,
)

T = TypeVar("T")


def open_lists(path: File | None, entropy: Callable[[int], bytes] = os.urandom) -> ListStore:
    """The lists of a database (None: in memory); `entropy` gives random octets. Raises ListError."""
    return ListStore(ListDatabase(path, entropy))


class ListStore:
    """All lists. Every question may raise ListError; addresses are compared as users' are."""

    def __init__(self, database: ListDatabase) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, "lists")
        self._is_closed = False

    @property
    def secret(self) -> bytes:
        """What addresses with a signature are signed with: the same as long as there is the database."""
        return self._database.secret

    async def create(self, name: str, address: str, options: ListOptions | None = None) -> MailingList:
        """A new list; Taken if there is one of that name or address."""
        return await self._ask(partial(self._database.create, name, address, options or ListOptions()))

    async def find(self, name: str) -> MailingList | None:
        """The list of that name."""
        return await self._ask(partial(self._database.find, name))

    async def at(self, address: str) -> MailingList | None:
        """The list that has this address (not its sub-addresses)."""
        return await self._ask(partial(self._database.at, address))

    async def all(self) -> list[MailingList]:
        """Every list, by name."""
        return await self._ask(self._database.all)

    async def change(self, name: str, options: ListOptions) -> None:
        """Other options; UnknownList."""
        await self._ask(partial(self._database.change, name, options))

    async def remove(self, name: str) -> bool:
        """The list and its members are gone; whether there was one."""
        return await self._ask(partial(self._database.remove, name))

    async def subscribe(self, name: str, address: str, *, display: str = "", mode: Mode = "mail", now: float) -> Member:
        """A new member; UnknownList; Taken if the address is on the list already."""
        return await self._ask(partial(self._database.subscribe, name, address, display=display, mode=mode, now=now))

    async def subscribe_all(
        self, name: str, people: Iterable[tuple[str, str]], *, mode: Mode = "mail", now: float
    ) -> int:
        """Many members (address, display name) in one step, all or none; how many are new."""
        return await self._ask(partial(self._database.subscribe_all, name, people, mode=mode, now=now))

    async def unsubscribe(self, name: str, address: str) -> bool:
        """Whether there was such a member, who is none any more."""
        return await self._ask(partial(self._database.unsubscribe, name, address))

    async def unsubscribe_all(self, name: str, addresses: Iterable[str]) -> list[str]:
        """Many members less in one step; those who were members."""
        return await self._ask(partial(self._database.unsubscribe_all, name, addresses))

    async def member(self, name: str, address: str) -> Member | None:
        """The member of a list with this address."""
        return await self._ask(partial(self._database.member, name, address))

    async def member_by_id(self, id: int) -> Member | None:
        """The member with this id, which nobody else ever has."""
        return await self._ask(partial(self._database.member_by_id, id))

    async def members(self, name: str, *, after: int = 0, limit: int | None = None) -> list[Member]:
        """The members with an id greater than `after`, by id; at most `limit`."""
        return await self._ask(partial(self._database.members, name, after=after, limit=limit))

    async def troubled(self) -> list[Member]:
        """The members of all lists whom bounces keep mail away from (`stopped_at`)."""
        return await self._ask(self._database.troubled)

    async def count(self, name: str) -> int:
        """How many members a list has."""
        return await self._ask(partial(self._database.count, name))

    async def change_member(self, member: Member) -> bool:
        """Write down all facts of a member but id, list and address; whether there still is one."""
        return await self._ask(partial(self._database.change_member, member))

    async def ask(self, name: str, address: str, action: str, now: float, valid_s: float) -> str:
        """Note that an address was asked to confirm; the token that does it within `valid_s` seconds (16 characters
        of base32, lower-case). UnknownList.
        """
        return await self._ask(partial(self._database.ask, name, address, action, now, valid_s))

    async def asked(self, token: str, now: float) -> Pending | None:
        """What the token would confirm; None for one that is unknown, over, or has been used."""
        return await self._ask(partial(self._database.asked, token, now))

    async def answer(self, token: str, now: float) -> Pending | None:
        """What the token confirms, once; None for one that is unknown, over, or has been used."""
        return await self._ask(partial(self._database.answer, token, now))

    async def waiting(self, name: str, now: float) -> list[Pending]:
        """What waits for a confirmation, oldest first."""
        return await self._ask(partial(self._database.waiting, name, now))

    async def asked_since(self, address: str, since: float) -> int:
        """How often an address was asked to confirm something, on any list, answered or not (up to a day back)."""
        return await self._ask(partial(self._database.asked_since, address, since))

    async def decide(self, ticket: str, approved: bool, by: str, now: float) -> Decision:
        """Note a moderator's decision about a held post; the one that counts: the first."""
        return await self._ask(partial(self._database.decide, ticket, approved, by, now))

    async def decision(self, ticket: str) -> Decision | None:
        """What was decided about a ticket, carried out or not."""
        return await self._ask(partial(self._database.decision, ticket))

    async def decisions(self) -> list[Decision]:
        """What was decided and isn't carried out yet, oldest first."""
        return await self._ask(self._database.decisions)

    async def carried_out(self, ticket: str) -> None:
        """A decision has been carried out."""
        await self._ask(partial(self._database.carried_out, ticket))

    async def close(self) -> None:
        """Finish what was asked. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            await asyncio.to_thread(self._thread.shutdown)
            self._database.close()

    async def _ask(self, question: Callable[[], T]) -> T:
        if self._is_closed:
            raise ListError("the lists are closed: the server is stopping")
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)


__all__ = [
    "Decision",
    "FromPolicy",
    "ListError",
    "ListOptions",
    "ListStore",
    "MailingList",
    "Member",
    "Mode",
    "Pending",
    "Post",
    "Strangers",
    "Subscribing",
    "Taken",
    "UnknownList",
    "open_lists",
]
