"""How mail leaves a worker: next servers, the spools it delivers from, and what programs send with.

Strategy: everything that leads out is made once, from the settings at the start; what a reload may change (routes, own
domains, allowances) is asked for anew each time it counts.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gatepost.admin.destinations import suspended_since
from gatepost.app.allowances import allowances, back_off
from gatepost.app.gates import delivery_routes
from gatepost.app.generation import Generation, Surroundings
from gatepost.app.observing import Observer, Say
from gatepost.app.ourselves import exchangers
from gatepost.app.protecting import Protecting, contexts
from gatepost.app.return_paths import manner, own_domains
from gatepost.app.sending import Listeners, Sending
from gatepost.app.settings.root import Settings
from gatepost.app.stores import Stores
from gatepost.app.submission import Submissions
from gatepost.delivery import Destinations, Dialer, Policy, Runner, Schedule
from gatepost.delivery.connection import Timeouts
from gatepost.delivery.outbound import Surroundings as Outgoing
from gatepost.delivery.outbound import asked
from gatepost.delivery.ports import Outbound
from gatepost.delivery.route import Mx, Routes
from gatepost.delivery.submission import Submission
from gatepost.delivery.ways import Ways
from gatepost.model import Path, Ticket
from gatepost.net.mx import Exchangers
from gatepost.store import Spool, SpoolError
from gatepost.store.embedded import find_shards, open_shard
from gatepost.store.files import RealFiles
from gatepost.store.users import Accounts

if TYPE_CHECKING:
    from gatepost.app.lists import Lists

log = logging.getLogger("gatepost")


class Delivering:
    """One worker's way out. Invariant: what `begin` has begun, `stop` and `close` end, once."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        around: Surroundings,
        *,
        share: tuple[int, int],
        generation: Callable[[], Generation],
        say: Callable[[], Say | None],
        is_reception_busy: Callable[[], bool],
        listening: Callable[[], Iterable[tuple[str, int]]],
    ) -> None:
        """`share` is (the worker's shard, how many workers there are); `listening` gives where we listen, so that mail
        which leads back to us is a loop.
        """
        self.settings = settings
        self.routes: Routes = delivery_routes(settings)
        self.adopted: list[Spool] = []
        """Spools of shards beyond the number of workers: delivered from, received into by nobody."""
        self.following = Listeners()
        self.submissions: Submissions | None = None
        """Who takes mail that comes over no connection; None where there is no queue."""
        self._stores = stores
        self._around = around
        self._shard, self._workers = share
        self._generation = generation
        self._say = say
        self._is_reception_busy = is_reception_busy
        self._domains = own_domains(settings)
        self._manner = manner(settings)
        self._runners: list[tuple[Runner, asyncio.Task[None]]] = []
        self._lists: Lists | None = None
        self._outgoing = Outgoing(
            settings.hostname, lambda: generation().dispatcher, around.patience, stores.recorder, stores.files
        )
        self.protecting = Protecting.of(settings, around.resolver, stores.ledger)
        self.destinations = destinations(
            settings,
            exchangers(settings, around.resolver, listening),
            self.protecting,
            lambda: asked(self._outgoing),
        )
        """Next servers."""
        self.ways = Ways(lambda: self.routes, self.destinations)
        """Where mail for a domain goes."""
        self.sending = self._begin_sending()
        """What programs send with."""

    @property
    def spools(self) -> tuple[Spool, ...]:
        """Every spool that is delivered from."""
        return (self._stores.spool, *self.adopted) if self._stores.delivers else ()

    async def open(self) -> None:
        """Take up which destinations are suspended."""
        self.destinations.suspensions.replace(await suspended_since(self._stores.ledger))

    async def begin(self) -> None:
        """Deliver: from the worker's own spool, and from those that belong to nobody any more."""
        if self._stores.delivers:
            self._begin_lists()
            self._deliver_from(self._stores.spool)
            await self._adopt()

    def switch(self, settings: Settings) -> None:
        """Other settings take effect, for what is attempted from now on."""
        self.settings = settings
        self.routes, self._domains = delivery_routes(settings), own_domains(settings)
        self._manner = manner(settings)
        self.destinations.allowances = allowances(settings)
        self._begin_lists()
        for runner, _ in self._runners:
            runner.sort()

    async def stop(self, grace_s: float) -> None:
        """Attempt nothing more; what is under way has `grace_s` seconds."""
        if self._lists is not None:
            await self._lists.stop()
        runners, self._runners = self._runners, []
        await asyncio.gather(*(runner.stop(grace_s) for runner, _ in runners))
        await asyncio.gather(*(running for _, running in runners))
        if not runners:
            await self.destinations.close()

    async def close(self) -> None:
        """Let go of everything; the worker's own stores are the worker's."""
        if self.protecting is not None:
            await self.protecting.close()
        for spool in self.adopted:
            await spool.close()

    def _begin_sending(self) -> Sending:
        settings, stores = self.settings, self._stores
        if stores.delivers:
            self.submissions = Submissions(
                stores.spool,
                self._around.tokens.next,
                hostname=settings.hostname,
                size_limit=settings.limits.message_size,
                has_room=stores.has_room,
                has_route=lambda path, sender, user: self.routes.find(path, sender, user) is not None,
                record=stores.recorder.record,
            )
            if self.protecting is not None:
                self.protecting.report(settings, self.submissions, self._shard, self._workers)
        mx = next((one.action for one in delivery_routes(settings).routes if isinstance(one.action, Mx)), Mx())
        return Sending(self.destinations, self.submissions, settings.hostname, self.following, mx)

    def _begin_lists(self) -> None:
        """Whoever has no lists doesn't wait for what they need."""
        settings = self.settings
        if self._lists is not None or not settings.has_lists:
            return
        from gatepost.app.lists import Lists

        tokens, data = self._around.tokens, settings.data
        self._lists = Lists(
            self._stores.lists(),
            hostname=settings.hostname,
            new_ticket=lambda: Ticket(tokens.next(), 1),
            size_limit=settings.limits.message_size,
            resolver=self._around.resolver,
            archive=None if data is None else (data / "lists", RealFiles()),
            spools=lambda: self.spools,
            shard=self._shard,
        )
        self._lists.begin()

    def _deliver_from(self, spool: Spool) -> None:
        settings, tokens = self.settings, self._around.tokens
        runner = Runner(
            spool,
            lambda: self.routes,
            self._stores.maildrop,
            self.destinations,
            Policy(
                hostname=settings.hostname,
                postmaster=Path.parse("postmaster", bare_postmaster=True),
                is_own=lambda path: path.domain in self._domains,
                new_ticket=lambda: Ticket(tokens.next(), 1),
                manner=lambda: self._manner,
            ),
            Observer(self._stores.recorder, self._generation, self._say, self.following),
            clock=time.time,
            chance=random.random,
            aliases=self._aliases,
            schedule=Schedule(settings.delivery.first, settings.delivery.max, settings.delivery.expire),
            is_reception_busy=self._is_reception_busy,
            followed=self.following.attempt,
            submission=Submission(
                self._outgoing.dispatcher,
                patience=self._around.patience,
                recorder=self._stores.recorder,
                files=self._stores.files,
            ),
            lists=lambda: self._lists,
        )
        self._runners.append((runner, asyncio.create_task(runner.run(), name="delivery")))

    def _aliases(self) -> Accounts | None:
        users = self._stores.users
        return users if users.addresses.rules.aliases else None

    async def _adopt(self) -> None:
        """Take up the shards that belong to no worker any more, so that what is in them is delivered."""
        if self.settings.data is None:
            return
        files = RealFiles()
        shards = await asyncio.get_running_loop().run_in_executor(
            None, find_shards, self.settings.data / "shards", files
        )
        for folder in shards:
            if not _falls_to(folder.name, self._shard, self._workers):
                continue
            try:
                spool = await open_shard(folder, files, time.time, on_damage=log.error)
            except SpoolError as error:
                log.error("what is in %s isn't delivered: %s", folder, error)
                continue
            self.adopted.append(spool)
            self._deliver_from(spool)


def _falls_to(name: str, shard: int, workers: int) -> bool:
    """Whether a shard's folder, beyond those of the workers, is for this worker to take up."""
    if not name.isdecimal():
        return shard == 0
    return int(name) >= workers and int(name) % workers == shard


def destinations(
    settings: Settings,
    exchangers: Exchangers | None = None,
    protecting: Protecting | None = None,
    outbound: Callable[[], Outbound | None] = lambda: None,
) -> Destinations:
    """Next servers as the settings want them to be spoken to; without `exchangers` those of the settings only, without
    `protecting` by TLS as their routes say. `outbound` gives whom to ask in a session that begins.
    """
    delivery = settings.delivery
    dialer = Dialer(
        settings.hostname,
        timeouts=Timeouts(
            connect=delivery.connect_timeout,
            greeting=delivery.greeting_timeout,
            command=delivery.command_timeout,
            data=delivery.data_timeout,
            block=delivery.block_timeout,
            end=delivery.end_timeout,
        ),
        contexts=contexts(settings) if protecting is None else protecting.contexts,
        observer=None if protecting is None else protecting.counts,
        outbound=outbound,
    )
    protector = None if protecting is None else protecting.protector
    return Destinations(
        dialer, exchangers=exchangers, protector=protector, allowances=allowances(settings), back_off=back_off(settings)
    )
