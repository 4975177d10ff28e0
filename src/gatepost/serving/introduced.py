"""Who is on the line: the greeting, EHLO and STARTTLS, and for whom a server in front of us speaks.

After XCLIENT it is as if the named client had connected: it is counted by the limits, the Connect stage is asked about
it, and nothing is left of the one before. What the server itself is, stays with the connection (`stream`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address

from gatepost.hooks import stages
from gatepost.hooks.questions import Question
from gatepost.hooks.session import Holder, Standing
from gatepost.hooks.verdicts import Hangup, Refuse
from gatepost.model import Address, Peer, Reply
from gatepost.net import Stream
from gatepost.net.answers import ResolverError
from gatepost.serving.answering import Answering
from gatepost.serving.conclusion import stage_refusal
from gatepost.serving.limits import Admission
from gatepost.serving.place import Place
from gatepost.wire.smtp import events

log = logging.getLogger("gatepost.serving")

NAME_S = 5.0  # how long EHLO waits for the client's name, where a next server is told
START_NOW = Reply(220, "2.0.0", "go ahead")
CLIENT_TAKEN = Reply(220, "2.0.0", "go ahead")
NOTED = Reply(250, "2.0.0", "noted")
_SERVICE = {"smtp": "ESMTP", "submission": "ESMTP", "lmtp": "LMTP"}


class Introduced(Answering):
    """Invariant: what is known of the client was learned over the connection as it is now, never before STARTTLS."""

    __slots__ = ("_helo",)

    def __init__(self, place: Place, stream: Stream, *, tls: bool = False) -> None:
        super().__init__(place, stream, tls=tls)
        self._helo = ""
        """The name that XCLIENT says the client gave; what is said after it is the server's own."""

    async def _connect(self, event: events.Connect) -> None:
        profile = self.place.profile
        pending = Reply(220, "", f"{profile.hostname} {_SERVICE[profile.protocol.value]} Gatepost")
        if stages.Connect not in self.place.dispatcher.chains:
            await self._overhear()
            self.machine.answer(pending)
            return
        outcome = await self._ask(Question(stages.Connect, self.session, pending))
        await self._overhear()
        match outcome.verdict:
            case Refuse(said):
                reply = stage_refusal(stages.Connect, said, self.session.id, self._verbatim(outcome))
                if not reply.is_permanent:  # rfc5321#3.1 knows 554 and, for a moment, 421
                    reply = Reply(421, reply.status, reply.text)
                elif reply.code != 421:
                    reply = Reply(554, reply.status, reply.text)
                self._refuse("connect", reply, outcome.by)
            case Hangup(reply):
                self._hang_up(reply, outcome.by)
            case _:
                self.machine.answer(
                    Reply(220, "", f"{profile.hostname} {outcome.pending.text}".strip())
                    if outcome.pending is not pending
                    else pending
                )

    async def _overhear(self) -> None:
        """Let the machine know who talks before the banner."""  # attack F8
        if self.stream.pending:
            self.machine.receive(await self.stream.receive())

    async def _hello(self, event: events.Hello) -> None:
        session, machine = self.session, self.machine
        if self.place.introduces and session.peer.found is None:
            await self._find_name()
        greeting = Reply(250, "", f"{self.place.profile.hostname} greets {session.peer}")
        capabilities = machine.capabilities()
        if stages.Hello in self.place.dispatcher.chains:
            facts = {"helo": self._helo or event.name, "capabilities": capabilities}
            outcome = await self._ask(Question(stages.Hello, session, greeting, facts=facts))
            match outcome.verdict:
                case Refuse(said):
                    reply = stage_refusal(stages.Hello, said, session.id, self._verbatim(outcome))
                    self._refuse("hello", reply, outcome.by)
                    return
                case Hangup(reply):
                    self._hang_up(reply, outcome.by)
                    return
                case _:
                    greeting = outcome.pending
        self._forget()  # attack S7: only now, a refused EHLO leaves the transaction alone
        session.helo = self._helo or event.name
        self.place.recorder.record(session.id, "hello", {"name": session.helo, "verb": event.verb.value})
        machine.answer_hello(greeting, capabilities)

    async def _find_name(self) -> None:
        """The client's name, once, for the next server; in bounded time, since it waits for its reply."""
        session = self.session
        try:
            async with asyncio.timeout(NAME_S):
                name = await session.peer.name()
        except (OSError, ResolverError):  # what takes too long is one of the first
            name = None
        session.peer = replace(session.peer, found=name or "")

    async def _start_tls(self, event: events.StartTls) -> None:
        machine, session = self.machine, self.session
        self._forget()
        machine.answer(START_NOW)
        while (told := machine.next_event()) is not events.NEED_DATA:  # the Reply stage, if somebody is bound to it
            await self._handle(told)
        if machine.wants_close:  # the Reply stage has hung up instead
            return
        await self._secure(machine.discarded, machine.data_to_send(), "STARTTLS")
        machine.tls_started()
        session.helo, session.user = "", None  # rfc3207#4.2: all that was learned is forgotten
        session.standing = Standing(False, session.standing.quarantine, session.standing.discard)

    # ── who speaks for others ──────────────────────────────────────────────────────────────────────────────────────

    async def _client(self, event: events.Client) -> None:
        """XCLIENT. With an ADDR it is another client: what isn't named with it is unknown, whoever was named before."""
        session, stream, named = self.session, self.stream, event.attributes
        self._forget()
        self.closings.close(session.holder)
        session.holder, session.standing, session.helo = Holder(), Standing(), ""
        before = session.peer
        kind = "client"
        if "ADDR" in named:
            self.place.recorder.record(session.id, "end", {"how": "xclient"})
            session.id = self.place.tokens.next()
            session.user, session.local, self._helo = None, stream.local, ""
            before, kind = stream.peer, "session"
        session.peer = peer = self._named(before, named)
        session.user = named.get("LOGIN", session.user or "") or None
        session.local = named.get("DESTADDR") or session.local[0], int(named.get("DESTPORT") or session.local[1])
        self._helo = named.get("HELO", self._helo)
        self._leave()
        admission = self._enter(peer.address)
        user = {} if session.user is None else {"user": session.user}
        self.place.recorder.record(session.id, kind, self._facts(port=peer.port, **user))
        if admission is not Admission.GRANTED:
            self._refuse("XCLIENT", Reply(421, "4.7.0", f"{admission.value}, try again later ({session.id})"), "house")
            return
        self.machine.answer(CLIENT_TAKEN)
        if session.user is not None:
            self.machine.authenticated()

    def _named(self, before: Peer, named: Mapping[str, str]) -> Peer:
        address = ip_address(named.get("ADDR") or str(before.address))
        port = int(named.get("PORT") or (0 if named.get("ADDR") else before.port))
        lookup = before.lookup
        if "NAME" in named:
            lookup = _known(named["NAME"])
        elif "ADDR" in named:
            lookup = self.place.lookup
        return Peer(address, port, lookup, self.stream.peer.address)

    async def _forwarded(self, event: events.Forwarded) -> None:
        """XFORWARD: for the record."""
        self.place.recorder.record(self.session.id, "forwarded", {k.lower(): v for k, v in event.attributes.items()})
        self.machine.answer(NOTED)


def _known(name: str) -> Callable[[Address], Awaitable[str | None]]:
    """A look-up that has been made already, by the server in front."""

    async def look_up(_: Address) -> str | None:
        return name or None

    return look_up
