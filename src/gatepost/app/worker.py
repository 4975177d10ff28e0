"""One worker: stores, a generation, listeners and delivery, begun in order and ended in reverse.

The same worker serves an application that embeds it, `gatepost run`, and each process under a supervisor; only what is
handed in differs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gatepost.app.delivering import Delivering
from gatepost.app.dialects import load_plugins
from gatepost.app.gates import gates, hop
from gatepost.app.generation import Generation, Surroundings, make_generation
from gatepost.app.next_server import CallAhead, HandOvers
from gatepost.app.observing import Say, session_facts
from gatepost.app.ourselves import resolver
from gatepost.app.reloading import check_reloadable
from gatepost.app.settings.bindings import instances
from gatepost.app.settings.root import Listener, Settings
from gatepost.app.stores import Stores
from gatepost.net import Stream, listen
from gatepost.net.certificates import Certificates, Pair
from gatepost.net.listener import Listener as NetListener
from gatepost.plugins.host.launched import Starters
from gatepost.plugins.loaded import Loaded
from gatepost.serving.connected import Connected
from gatepost.serving.limits import SessionCounter, SessionLimits
from gatepost.serving.patience import LoopPatience, SystemClock
from gatepost.serving.reception import Reception
from gatepost.serving.repeats import Repeats
from gatepost.serving.tokens import Tokens

if TYPE_CHECKING:
    from gatepost.app.offering import Offering
    from gatepost.collecting.schedule import Collecting

log = logging.getLogger("gatepost")

_BUSY = 20  # sessions from which on delivery gives way


@dataclass(frozen=True, slots=True)
class Bound:
    """A listener that is listening."""

    settings: Listener
    address: tuple[str, int]


class Worker:
    """Serves until stopped. Invariant: what `start` has begun, `stop` ends, once."""

    def __init__(
        self,
        settings: Settings,
        *,
        plugins: Sequence[Loaded] = (),
        on_error: Callable[[BaseException], None] | None = None,
        shard: int = 0,
        workers: int = 1,
        counter: SessionCounter | None = None,
        say: Say | None = None,
        starters: Starters | None = None,
    ) -> None:
        """`plugins` come after those of the settings; `on_error` hears what hooks raise.

        `workers` of them share the data folder, this one owns `shard`; `counter` may be shared with the others. `say`
        takes an event and its facts for each session and delivery. `starters` start plugins that have a user of their
        own; they are closed with the worker.
        """
        self.settings = settings
        self._own_plugins = tuple(plugins)
        self._on_error = on_error
        self._shard = shard
        self._workers = workers
        self.say = say
        self.stores: Stores
        self.generation: Generation
        self.generations = 1
        """How many there have been, the present one included."""
        self.certificates: Certificates | None = None
        self.listeners: dict[str, Bound] = {}
        self.delivering: Delivering
        """How mail leaves; there once the worker has started."""
        self.collecting: Collecting | None = None
        """What fetches mail from elsewhere: in the worker with the first shard, where there are accounts."""
        self._offering: Offering | None = None
        """Where users may change while it runs."""
        self._starters = starters or Starters()
        self._patience = LoopPatience()
        self._resolver = resolver(settings)
        self._sessions: dict[Connected[Any], Generation] = {}
        self._all_ended = asyncio.Event()
        self._listening: list[NetListener] = []
        self._prepared: _Prepared | None = None
        self._retired: list[Generation] = []
        self._around: Surroundings
        self._counter = counter or SessionCounter(_session_limits(settings))

    # ── beginning ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, sockets: Mapping[str, socket.socket] | None = None) -> None:
        """Open everything, listen last. With `sockets` (by listener name) nothing is bound here."""
        settings = self.settings
        self.stores = await Stores.open(settings, self._shard, workers=self._workers, on_error=self._on_error)
        try:
            tokens = Tokens(self._shard, time.time)
            self._around = Surroundings(
                spool=self.stores.spool,
                clock=SystemClock(),
                patience=self._patience,
                recorder=self.stores.recorder,
                counter=self._counter,
                tokens=tokens,
                repeats=Repeats(self.stores.ledger),
                users=self.stores.users,
                mailboxes=self.stores.mailboxes,
                files=self.stores.files,
                facts=self.stores.ledger,
                resolver=self._resolver,
                certificate=self.stores.certificate,
                lookup=self._resolver.reverse,
                may_send_as=self.stores.users.may_send_as,
                has_room=self.stores.has_room,
            )
            self.certificates = self.stores.certificates
            self.delivering = Delivering(
                settings,
                self.stores,
                self._around,
                share=(self._shard, self._workers),
                generation=lambda: self.generation,
                say=lambda: self.say,
                is_reception_busy=lambda: len(self._sessions) > _BUSY,
                listening=lambda: (one.address for one in self.listeners.values()),
            )
            await self.delivering.open()
            first = await self._make(settings)
            await first.generation.open()
            self.generation = first.generation
            await self.delivering.begin()
            for listener in settings.listen:
                await self._listen(listener, (sockets or {}).get(listener.name))
            await self._collect()
            self._follow_users()
        except BaseException:
            await self.stop(0)
            raise

    async def _make(self, settings: Settings) -> _Prepared:
        """All that settings come to, beside what there is. Nothing is opened, nothing changes."""
        loaded = await load_plugins(
            settings.plugin,
            data=settings.data,
            message_size=settings.limits.message_size,
            starter_for=self._starters.of,
            instances=instances(settings),
        )
        try:
            if settings.has_lists:
                from gatepost.app.list_gate import load_list_gate

                lists = await asyncio.to_thread(self.stores.lists)  # a database that is kept locked takes its time
                loaded.append(load_list_gate(settings, lists))
            if settings.dkim:
                from gatepost.app.signing import load_signing

                loaded.append(load_signing(settings.dkim, settings.route))
            return self._join(settings, [*loaded, *self._own_plugins])
        except BaseException:
            for plugin in reversed(loaded):
                await plugin.close()
            raise

    def _join(self, settings: Settings, plugins: Sequence[Loaded]) -> _Prepared:
        destinations = self.delivering.destinations
        ahead = CallAhead(destinations, self.stores.ledger, settings.hostname)
        over = HandOvers(destinations)
        made = gates(
            settings,
            admission=self.stores.quotas.admission,
            room=self.stores.quotas.room,
            ask=lambda route: ahead.existence(hop(route, settings.delivery.proxy)),
            hand_over=lambda route: over.pair(hop(route, settings.delivery.proxy)),
        )
        around = self._around
        certificates = self.certificates
        if settings.tls != self.settings.tls:
            certificates = Certificates([Pair(one.chain, one.key) for one in settings.tls.certificate])
            around = replace(around, certificate=certificates.context)
        generation = make_generation(settings, plugins, made, around)
        return _Prepared(generation, around, certificates)

    async def _listen(self, listener: Listener, bound: socket.socket | None) -> None:
        name = listener.name
        implicit = listener.tls == "implicit"
        make = _speaking(listener.protocol)
        ended = self._session_ended  # one for all: a bound method of its own would be 64 octets of each session

        def context() -> ssl.SSLContext:
            assert self._around.certificate is not None, "load refuses TLS without a certificate"
            return self._around.certificate(name)

        def serve(stream: Stream) -> Awaitable[None]:
            generation = self.generation
            session = make(generation.places[name], stream, tls=implicit)
            self._sessions[session] = generation
            generation.begin_session()
            return session.serve(ended)

        def preface(stream: Stream) -> Awaitable[bool] | None:
            door = self.generation.places[name].door
            return None if door is None else door(stream)

        where = bound if bound is not None else (listener.address.host, listener.address.port)
        tls = context if implicit else None
        listening = await listen(where, serve, tls=tls, preface=preface, handshake_s=self.settings.limits.tls_timeout)
        self._listening.append(listening)
        self.listeners[name] = Bound(listener, listening.address)

    async def _collect(self) -> None:
        """Fetch mail from elsewhere as the settings say, from now on."""
        if self._shard or not (self.settings.collect or self.collecting):
            return
        from gatepost.app.collecting import accounts, open_collecting

        if self.collecting is None:
            self.collecting = open_collecting(self.stores, self._around, lambda: self.generation)
            await self.collecting.begin(accounts(self.settings))
        else:
            self.collecting.switch(accounts(self.settings))

    def _follow_users(self) -> None:
        settings = self.settings
        if self._offering is None and (settings.users.files or (settings.data is not None and settings.has_logins)):
            from gatepost.app.offering import Offering

            self._offering = Offering(self.stores.users, lambda: self.generation)
            self._offering.begin()

    def _session_ended(self, reception: Connected[Any]) -> None:
        self._sessions.pop(reception).end_session()
        if (say := self.say) is not None:
            say("session", session_facts(reception))
        if not self._sessions:
            self._all_ended.set()

    # ── while it runs ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def sessions(self) -> int:
        """Sessions at this moment."""
        return len(self._sessions)

    async def reload(self, settings: Settings) -> None:
        """Switch to other settings, or raise and change nothing. Sessions keep the generation they began with."""
        await self.prepare(settings)
        self.switch()

    async def prepare(self, settings: Settings) -> None:
        """Load and open what `settings` come to, beside what is in effect; `switch` or `abandon` follows.

        NeedsRestart, PluginError, RouteError or CertificateError say why it can't be.
        """
        check_reloadable(self.settings, settings)
        await self.abandon()
        prepared = await self._make(settings)
        await prepared.generation.open()
        self._prepared = prepared

    def switch(self) -> None:
        """What was prepared takes effect, for sessions that begin from now on."""
        prepared, self._prepared = self._prepared, None
        assert prepared is not None, "prepare comes first"
        before, self.generation = self.generation, prepared.generation
        self.settings, self._around = prepared.generation.settings, prepared.around
        self.certificates = prepared.certificates
        self.stores.follow(self.settings)
        self.delivering.switch(self.settings)
        self.generations += 1
        self._counter.limits = _session_limits(self.settings)
        self._retired.append(before)
        self._patience.spawn(self._retire(before))
        self._follow_users()
        if self.settings.collect or self.collecting:
            self._patience.spawn(self._collect())

    async def abandon(self) -> None:
        """Close what was prepared, if anything was."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            await _close(prepared.generation)

    async def _retire(self, generation: Generation) -> None:
        """Close a generation's plugins once its last session has ended."""
        await generation.unused()
        self._retired.remove(generation)
        await _close(generation)

    # ── ending ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def stop_accepting(self) -> None:
        """No session begins any more. Sockets that were handed in stay open."""
        for listening in self._listening:
            await listening.close()
        self._listening.clear()

    async def stop(self, grace_s: float = 30.0) -> None:
        """Accept nothing more, let transactions finish for `grace_s` seconds, then end everything in order."""
        await self.stop_accepting()
        if self.collecting is not None:
            await self.collecting.stop()
        if self._offering is not None:
            await self._offering.stop()
            self._offering = None
        self._all_ended.clear()
        for session in tuple(self._sessions):
            session.go_down()
        if self._sessions:
            try:
                async with asyncio.timeout(grace_s):
                    await self._all_ended.wait()
            except TimeoutError:
                for session in tuple(self._sessions):
                    session.cut_off()
        if hasattr(self, "delivering"):
            await self.delivering.stop(min(grace_s, 10.0))
        await self._patience.close()
        await self.abandon()
        for generation in self._retired:
            await _close(generation)
        if hasattr(self, "generation"):
            await _close(self.generation)
        self._starters.close()
        if hasattr(self, "delivering"):
            await self.delivering.close()
        await self._resolver.close()
        if hasattr(self, "stores"):
            await self.stores.close()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What settings come to, made but not in effect."""

    generation: Generation
    around: Surroundings
    certificates: Certificates | None


def _speaking(protocol: str) -> Callable[..., Connected[Any]]:
    """What makes the sessions of a listener."""
    if protocol == "pop3":
        from gatepost.serving.pop3 import Pickup

        return Pickup
    return Reception


async def _close(generation: Generation) -> None:
    for error in await generation.close():
        log.error("a plugin couldn't be closed", exc_info=error)


def _session_limits(settings: Settings) -> SessionLimits:
    return SessionLimits(settings.limits.sessions, settings.limits.sessions_per_peer)
