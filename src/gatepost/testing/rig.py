"""A whole server without sockets, files and waiting: what `try_plugin` runs on, and most of the tests.

Everything is the real thing but for the ends: connections are `SessionEnd`s, the spool and the ledger are in memory,
DNS is a dictionary, and the record of decisions is a list.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from gatepost.app.generation import Generation, Surroundings, make_generation
from gatepost.app.settings.root import Settings
from gatepost.model import Peer
from gatepost.net import Stream
from gatepost.net.resolver import StaticResolver
from gatepost.plugins.loaded import Loaded
from gatepost.serving.connected import Connected
from gatepost.serving.house import Gate, OpenTo
from gatepost.serving.limits import SessionCounter, SessionLimits
from gatepost.serving.patience import LoopPatience, SystemClock
from gatepost.serving.place import Place, Users
from gatepost.serving.pop3_place import PopPlace
from gatepost.serving.reception import Reception
from gatepost.serving.repeats import Repeats
from gatepost.serving.tokens import Tokens
from gatepost.store.mailboxes import Mailboxes
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Spool
from gatepost.testing.line import Client, PopClient, SessionEnd

ANYONE = (Gate("*", OpenTo.ANYONE),)


class Records:
    """hooks' Recorder as a list."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []
        self.errors: list[tuple[str, str, BaseException]] = []

    def record(self, token: str, kind: str, facts: Mapping[str, Any]) -> None:
        self.entries.append((token, kind, dict(facts)))

    def failed(self, token: str, plugin: str, stage: str, error: BaseException) -> None:
        self.errors.append((plugin, stage, error))

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        """The facts of every entry of a kind."""
        return [facts for _, known, facts in self.entries if known == kind]


class Rig:
    """One server for one test. Close it: sessions end, plugins close, nothing is left running."""

    def __init__(
        self,
        plugins: Sequence[Loaded] = (),
        *,
        settings: Settings | None = None,
        gates: Sequence[Gate] = ANYONE,
        spool: Spool | None = None,
        dns: Mapping[str, Any] | None = None,
        users: Users | None = None,
        mailboxes: Mailboxes | None = None,
        repeats: Repeats | None = None,
        facts: Any = None,
    ) -> None:
        self.records = Records()
        self.spool: Spool = spool if spool is not None else memory_spool(time.time)
        self.settings = settings or Settings.in_memory(hostname="mx.test")
        self.patience = LoopPatience()
        resolver = StaticResolver(dict(dns or {}))
        clock = SystemClock()
        self.surroundings = Surroundings(
            spool=self.spool,
            clock=clock,
            patience=self.patience,
            recorder=self.records,
            counter=SessionCounter(SessionLimits(0, 0)),
            tokens=Tokens(0, time.time),
            users=users,
            mailboxes=mailboxes,
            repeats=repeats,
            resolver=resolver,
            facts=facts,
            lookup=resolver.reverse,
        )
        self.generation: Generation = make_generation(self.settings, plugins, gates, self.surroundings)
        self._receptions: list[Connected[Any]] = []
        self._sessions: list[asyncio.Task[None]] = []

    @property
    def place(self) -> Place:
        """The first listener's for mail."""
        return next(place for place in self.generation.places.values() if isinstance(place, Place))

    async def open(self) -> None:
        """Open the plugins."""
        await self.generation.open()

    def connect(self, ip: str = "192.0.2.1", *, local: str = "192.0.2.25", place: Place | None = None) -> Client:
        """A new session; its banner waits to be heard."""
        line = SessionEnd(ip)
        line.local = (local, 25)
        line.peer = Peer(line.peer.address, line.peer.port)
        self._begin(Reception(place or self.place, cast(Stream, line)))  # it has what a Stream has
        return Client(line)

    def pick_up(self, ip: str = "192.0.2.1", *, place: PopPlace | None = None, tls: bool = False) -> PopClient:
        """A new session with a POP3 listener, the first if none is given; its greeting waits to be heard."""
        from gatepost.serving.pop3 import Pickup  # noqa: PLC0415  most tests have no POP3

        line = SessionEnd(ip)
        if place is None:
            place = next(place for place in self.generation.places.values() if isinstance(place, PopPlace))
        self._begin(Pickup(place, cast(Stream, line), tls=tls))
        return PopClient(line)

    def _begin(self, session: Connected[Any]) -> None:
        self.last_session = session.session
        self._receptions.append(session)
        self._sessions.append(asyncio.create_task(session.run()))

    async def settled(self) -> None:
        """Wait until every session whose client has hung up is over, and what was spawned beside it too."""
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self.patience.idle()

    async def close(self) -> list[Exception]:
        """End everything; what went wrong while closing."""
        for reception, task in zip(self._receptions, self._sessions, strict=True):
            reception.cut_off()
            task.cancel()  # even a session that commits: a test is over
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await self.patience.close()
        errors = await self.generation.close()
        await self.spool.close()
        return errors

    async def __aenter__(self) -> Rig:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
