"""Who is on the line: the greeting, EHLO and STARTTLS, and what the stages there have to say."""

from __future__ import annotations

import asyncio
import logging

from gatepost.hooks import stages
from gatepost.hooks.questions import Question
from gatepost.hooks.session import Standing
from gatepost.hooks.verdicts import Hangup, Refuse
from gatepost.model import Reply
from gatepost.net import ConnectionLost, HandshakeFailed
from gatepost.serving.answering import Answering
from gatepost.serving.conclusion import stage_refusal
from gatepost.wire.smtp import events

log = logging.getLogger("gatepost.serving")

START_NOW = Reply(220, "2.0.0", "go ahead")
_SERVICE = {"smtp": "ESMTP", "submission": "ESMTP", "lmtp": "LMTP"}


class Introduced(Answering):
    """Invariant: what is known of the client was learned over the connection as it is now, never before STARTTLS."""

    __slots__ = ()

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
        greeting = Reply(250, "", f"{self.place.profile.hostname} greets {session.peer}")
        capabilities = machine.capabilities()
        if stages.Hello in self.place.dispatcher.chains:
            facts = {"helo": event.name, "capabilities": capabilities}
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
        session.helo = event.name
        self.place.recorder.record(session.id, "hello", {"name": event.name, "verb": event.verb.value})
        machine.answer_hello(greeting, capabilities)

    async def _start_tls(self, event: events.StartTls) -> None:
        machine, stream, place, session = self.machine, self.stream, self.place, self.session
        self._forget()
        machine.answer(START_NOW)
        while (told := machine.next_event()) is not events.NEED_DATA:  # the Reply stage, if somebody is bound to it
            await self._handle(told)
        if machine.wants_close:  # the Reply stage has hung up instead
            return
        discarded = machine.discarded + stream.discard()  # before the 220 is written  # attacks F10, T1
        stream.deadline = asyncio.get_running_loop().time() + place.timeouts.handshake
        stream.write(machine.data_to_send())
        if discarded:
            log.warning("%d octets behind STARTTLS were thrown away; token %s", discarded, session.id)
            place.recorder.record(session.id, "discarded", {"octets": discarded, "behind": "STARTTLS"})
        if place.tls is None:
            raise RuntimeError("STARTTLS was offered without a certificate")
        try:
            tls = await stream.start_tls(place.tls(), server_side=True)
        except HandshakeFailed as error:
            place.recorder.record(session.id, "tls", {"failed": str(error)[:200]})
            raise ConnectionLost(str(error)) from error
        machine.tls_started()
        session.tls, session.helo, session.user = tls, "", None  # rfc3207#4.2: all that was learned is forgotten
        session.standing = Standing(False, session.standing.quarantine, session.standing.discard)
        place.recorder.record(session.id, "tls", {"version": tls.version, "cipher": tls.cipher})
