"""Lists in a worker: delivery's port over `gatepost.lists`, and what happens without anybody's mail, every few seconds.

Strategy: a moderator's decision is a row that every worker sees; whose spool holds the post carries it out. Probes and
whatever else lists send by themselves is the business of the worker with shard 0.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path as File

from gatepost.delivery.settlement import Result
from gatepost.lists.archive import Archive
from gatepost.lists.context import Context
from gatepost.lists.copies import Copies
from gatepost.lists.house import ListHouse
from gatepost.lists.moderation import HELD
from gatepost.model import Recipient, Ticket
from gatepost.model.ticket import token_time
from gatepost.net.answers import Resolving
from gatepost.store import Entry, Fate, Spool
from gatepost.store.errors import SpoolError, UnknownEntry
from gatepost.store.files import FileSystem
from gatepost.store.lists import ListError, ListStore

log = logging.getLogger("gatepost.lists")

LOOK_S = 2.0
_PAGE = 100


class Lists:
    """Invariant: what it says is done in a result is committed by whoever settles that result."""

    def __init__(
        self,
        store: ListStore,
        *,
        hostname: str,
        new_ticket: Callable[[], Ticket],
        size_limit: int,
        resolver: Resolving,
        archive: tuple[File, FileSystem] | None,
        spools: Callable[[], Iterable[Spool]],
        shard: int,
    ) -> None:
        """`archive` is the folder of the archives, None where nothing is kept; `spools` are those of this worker."""
        context = Context(store, hostname, time.time, new_ticket, size_limit)
        self._house = ListHouse(context, lambda: resolver, None if archive is None else Archive(*archive))
        self._spools = spools
        self._shard = shard
        self._looking: asyncio.Task[None] | None = None

    async def take(self, name: str, entry: Entry, recipient: Recipient) -> Result:
        """What mail to one of a list's addresses comes to."""
        handled = await self._house.take(name, entry, recipient)
        refusal = handled.refusal
        if refusal is None:
            return Result(recipient, Fate.DONE, deposits=handled.deposits)  # rfc3461#5.2.7.3: a list has it
        return Result(recipient, Fate.FAILED if refusal.is_permanent else Fate.LATER, refusal, is_ours=True)

    async def copies(self, entry: Entry) -> Copies | None:
        """How a list's copies are to look now."""
        return await self._house.copies(entry)

    def begin(self) -> None:
        """Look every few seconds for what is to be done; a second call changes nothing."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="lists")

    async def stop(self) -> None:
        """Look no more."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait([looking])

    async def _look(self) -> None:
        waits_for = ""
        while True:
            try:
                await self.look()
                if waits_for:
                    log.warning("what lists have to do goes on")
                waits_for = ""
            except (ListError, SpoolError, OSError) as error:
                if str(error) != waits_for:  # said once, however long it lasts
                    log.error("what lists have to do waits: %s", error)
                waits_for = str(error)
            except Exception:
                log.exception("looking after the lists has failed inside; it goes on")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Carry out what was decided about posts that wait here, and send what lists have to send by themselves."""
        for ticket, is_approved in await self._house.decisions():
            found = [(spool, entry) for spool in self._spools() for entry in await _held(spool, ticket)]
            for spool, entry in found:
                await self._carry_out(spool, entry, is_approved=is_approved)
            if found or token_time(Ticket.parse(ticket).token)[1] == self._shard & 63:
                await self._house.carried_out(ticket)
        if self._shard == 0:
            spool = next(iter(self._spools()))
            if due := await self._house.tick(time.time()):
                await spool.commit(due)

    async def _carry_out(self, spool: Spool, entry: Entry, *, is_approved: bool) -> None:
        try:
            if is_approved:
                await spool.release(entry.id)
            else:
                if told := await self._house.refused(entry):
                    await spool.commit(told)
                await spool.delete(entry.id)
        except UnknownEntry:
            return  # an operator was faster
        log.info("%s was %s by a moderator", entry.id, "approved" if is_approved else "refused")


async def _held(spool: Spool, ticket: str) -> list[Entry]:
    """The held posts of one ticket."""
    if not spool.counts().held:
        return []
    found: list[Entry] = []
    after: str | None = None
    while page := await spool.entries(held=True, after=after, limit=_PAGE):
        found += [one for one in page if str(one.ticket) == ticket and HELD in one.facts]
        after = page[-1].id
    return found
