"""One session, from the banner to the end: take the next event, answer the question, write what is due.

The loop is `_serve`; every event has one method, found by its class. The session machine (`wire`) answers what the RFCs
decide, this page asks the chain for what policy decides. Replies are written exactly when input is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.answers import without_secrets
from gatepost.hooks.bindings import Binding
from gatepost.hooks.notices import Disconnected
from gatepost.hooks.questions import Outcome, Question
from gatepost.hooks.replies import refusal
from gatepost.hooks.session import Session, Standing
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import Converse, Hangup, Proceed, Refuse, Respond
from gatepost.model import Peer, Reply
from gatepost.net import ConnectionLost, DeadlinePassed, HandshakeFailed, Stream
from gatepost.serving.authentication import Authentication
from gatepost.serving.carrying import Carrier
from gatepost.serving.conclusion import stage_refusal
from gatepost.serving.keeping import Closings
from gatepost.serving.limits import Admission
from gatepost.serving.mailing import Mailing
from gatepost.serving.place import Place, shown
from gatepost.wire.smtp import events
from gatepost.wire.smtp.replies import encode
from gatepost.wire.smtp.server import ServerSession

log = logging.getLogger("gatepost.serving")

CLOSING = Reply(221, "2.0.0", "closing the connection")
OK = Reply(250, "2.0.0", "ok")
TIMED_OUT = Reply(421, "4.4.2", "you took too long")
SHUTTING_DOWN = Reply(421, "4.3.2", "the server is going down, try again later")
BROKEN = Reply(421, "4.3.0", "an error here, try again later")
UNKNOWN = Reply(500, "5.5.2", "there is no such command")
NOT_TOLD = Reply(252, "2.1.5", "send mail, and you will hear")  # rfc5321#7.3
NO_EXPANSION = Reply(252, "2.1.5", "lists aren't shown here")
HELP = Reply(214, "2.0.0", "https://www.rfc-editor.org/rfc/rfc5321")
START_NOW = Reply(220, "2.0.0", "go ahead")


class Reception:
    """Serves one connection. Invariant: a question is always answered before the next event is taken.

    What only mail and AUTH need is made for the first of them: a session may be idle from beginning to end.
    """

    # fmt: off
    __slots__ = (
        "_authentication", "_carrier", "_clean", "_closings", "_converses", "_is_going_down", "_is_running", "_mailing",
        "ending", "is_idle", "machine", "place", "session", "stream",
    )
    # fmt: on

    def __init__(self, place: Place, stream: Stream, *, tls: bool = False) -> None:
        self.place = place
        self.stream = stream
        self.machine = ServerSession(place.profile, tls=tls)
        peer = stream.peer
        if place.lookup is not None:
            peer = stream.peer = Peer(peer.address, peer.port, place.lookup)
        self.session = Session(
            id=place.tokens.next(),
            listener=place.listener,
            protocol=place.profile.protocol.value,
            peer=peer,
            local=stream.local,
            started=place.clock.now(),
            patience=place.patience,
            tls=stream.tls,
        )
        self._closings: Closings | None = None
        self._mailing: Mailing | None = None
        self._authentication: Authentication | None = None
        self.is_idle = True
        """Between transactions, waiting for the client: the moment to end it when the server goes down."""
        self.ending = ""
        """How it ended, once it has: quit, closed, lost, timeout, shutdown, error."""
        self._carrier = Carrier()
        self._is_running = False
        self._is_going_down = False
        self._converses: Binding | None = None
        self._clean = False

    @property
    def mailing(self) -> Mailing:
        """The session's transactions."""
        if self._mailing is None:
            self._mailing = Mailing(self.place, self.machine, self.session, self.closings)
        return self._mailing

    @property
    def closings(self) -> Closings:
        """What closes the belongings of the session and its transactions."""
        if self._closings is None:
            self._closings = Closings(self.place.patience, self.session.id)
        return self._closings

    @property
    def authentication(self) -> Authentication:
        """The session's AUTH exchanges."""
        if self._authentication is None:
            self._authentication = Authentication(self.place, self.machine, self.session)
        return self._authentication

    async def run(self) -> None:
        """Serve until the end. Whatever happens, everything that was begun is closed once."""
        await self.serve(_nothing)

    def serve(self, ended: Callable[[Reception], None]) -> Awaitable[None]:
        """As run, and `ended` hears that it is over. Not `async`: every idle session would have one more frame."""
        admission = self.place.counter.enter(self.session.peer.address)
        if admission is not Admission.GRANTED:
            return self._turn_away(admission, ended)
        return self._carrier.carry(self._serve(ended))

    def go_down(self) -> None:
        """The server wants to stop: an idle session ends now, a busy one after its transaction."""
        self._is_going_down = True
        if self.is_idle and self._is_running:
            self._carrier.cancel()

    def cut_off(self) -> None:
        """The time for finishing is over: end the session wherever it is, but for a commit under way."""
        self._is_going_down = True
        if self._is_running and not self._is_committing:
            self._carrier.cancel()

    async def _serve(self, ended: Callable[[Reception], None]) -> None:
        machine, stream, timeouts = self.machine, self.stream, self.place.timeouts
        loop = asyncio.get_running_loop()
        handlers = _HANDLERS
        has_moved = True
        """Something whole has come: a command, content that is taken. What is only thrown away is nothing."""
        ending = "lost"
        try:
            self._begin()
            while True:
                event = machine.next_event()
                if event is not events.NEED_DATA:
                    has_moved = True
                    await handlers[type(event)](self, event)
                    continue
                mailing = self._mailing
                arriving = mailing if mailing is not None and mailing.awaits_content else None
                due = machine.data_to_send()
                farewell = arriving.farewell() if arriving is not None else None
                if farewell is not None:
                    due += encode(farewell)
                if due:
                    stream.write(due)
                    due = b""  # nothing is kept for nothing while the client is waited for
                    stream.deadline = loop.time() + timeouts.flush
                    await stream.drain()
                if farewell is not None or machine.wants_close:
                    ending = "quit" if self._clean else "closed"
                    break
                is_open = mailing is not None and mailing.is_open
                if self._is_going_down and not is_open:
                    raise asyncio.CancelledError
                if arriving is not None:
                    await arriving.ready()
                if has_moved:  # attack R6: the time is for the whole command, and isn't renewed by pieces of it
                    has_moved = False
                    if arriving is None:
                        stream.deadline = loop.time() + timeouts.command
                    else:
                        stream.deadline = min(loop.time() + timeouts.content_piece, arriving.content_deadline)
                self.is_idle = not is_open
                data = await stream.receive()
                self.is_idle = False
                if data and mailing is not None:
                    mailing.heard_from_client()
                machine.receive(data)
                data = b""
        except (Exception, asyncio.CancelledError) as error:
            ending = self._failed(error)
            if ending == "shutdown":
                raise
        finally:
            self._is_running = False
            try:
                await self._end(ending)
            finally:
                ended(self)

    def _begin(self) -> None:
        session = self.session
        self._is_running = True
        self.stream.on_lost(self._lost)
        facts = {"peer": str(session.peer), "port": session.peer.port, "listener": session.listener}
        self.place.recorder.record(session.id, "session", facts)

    def _failed(self, error: BaseException) -> str:
        """How a session ends by an error, which the client is told where it can still hear."""
        match error:
            case ConnectionLost():
                return "lost"
            case DeadlinePassed():
                self._last_words(TIMED_OUT)
                return "timeout"
            case asyncio.CancelledError():
                if self.stream.lost:
                    return "lost"
                self._last_words(SHUTTING_DOWN)
                return "shutdown"
            case _:
                log.error("a session ended by an error of ours; token %s", self.session.id, exc_info=error)
                self._last_words(BROKEN)
                return "error"

    async def _ask(self, question: Question) -> Outcome:
        return await self.place.dispatcher.ask(question)

    # ── the events ─────────────────────────────────────────────────────────────────────────────────────────────────

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
            await _HANDLERS[type(told)](self, told)
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

    async def _reset(self, event: events.Reset) -> None:
        self._forget()
        self.machine.answer(OK)

    async def _noop(self, event: events.Noop) -> None:
        self.machine.answer(OK)

    async def _verify(self, event: events.Verify) -> None:
        self.machine.answer(NOT_TOLD)

    async def _expand(self, event: events.Expand) -> None:
        self.machine.answer(NO_EXPANSION)

    async def _help(self, event: events.Help) -> None:
        self.machine.answer(HELP)

    async def _quit(self, event: events.Quit) -> None:
        self._clean = True
        self.machine.answer(CLOSING)

    async def _unknown(self, event: events.Unknown) -> None:
        self.machine.answer(UNKNOWN)

    async def _refused(self, event: events.Refused) -> None:
        words = event.line.split(None, 1)
        is_secret = bool(words) and words[0].upper() == b"AUTH"
        line = b"AUTH" if is_secret else event.line[:200]
        facts = {"line": shown(line.decode("utf-8", "replace")), "reply": str(event.reply), "by": "protocol"}
        self.place.recorder.record(self.session.id, "refused", facts)

    async def _ended(self, event: events.Ended) -> None:
        self._clean = event.clean

    # ── the Command and Reply stages ───────────────────────────────────────────────────────────────────────────────

    async def _line(self, event: events.Line) -> None:
        line = event.line.decode("utf-8", "replace")
        question = Question(stages.Command, self.session, OK, self._transaction, {"line": line})
        await self._answer_command(await self._ask(question), line)

    async def _blob(self, event: events.Blob) -> None:
        binding = self._converses
        if binding is None:
            raise RuntimeError("a blob came for nobody")
        if not event.last and not event.data:
            self.machine.proceed()
            return
        facts = {"line": "", "blob": event.data}
        question = Question(stages.Command, self.session, OK, self._transaction, facts)
        outcome = await self.place.dispatcher.ask_again(question, binding)
        if isinstance(outcome.verdict, Proceed) and not event.last:
            self.machine.proceed()  # and it goes on listening
            return
        await self._answer_command(outcome, "", blob=event)

    async def _answer_command(self, outcome: Outcome, line: str, blob: events.Blob | None = None) -> None:
        machine = self.machine
        self._converses = None
        is_obeyed = line.partition(" ")[0].upper() in ("QUIT", "RSET")  # which can't be refused, whatever is said
        match outcome.verdict:
            case Respond() | Converse() if is_obeyed:
                machine.proceed()
            case Respond(reply):
                machine.answer(reply)
            case Refuse(said):
                reply = stage_refusal(stages.Command, said, self.session.id, self._verbatim(outcome))
                facts = {"line": without_secrets(line)[:200], "reply": str(reply), "by": outcome.by}
                self.place.recorder.record(self.session.id, "refused", facts)
                if is_obeyed:
                    machine.proceed()
                else:
                    machine.answer(reply)
            case Converse(reply, lines, octets):
                self._converses = outcome.binding
                machine.converse(reply, lines=lines, octets=octets)
            case Hangup(reply):
                self._hang_up(reply, outcome.by)
            case _ if blob is None:
                machine.proceed()
            case _:
                machine.answer(OK)  # nobody may be left waiting for a reply

    async def _replying(self, event: events.Replying) -> None:
        outcome = await self._ask(Question(stages.Replying, self.session, event.reply, self._transaction))
        reply = outcome.pending
        match outcome.verdict:
            case Respond(said) if said.code // 100 == reply.code // 100:
                reply = said
            case Respond(said):
                reply = reply.with_text(said.text)
            case Hangup(said):
                reply = refusal(said, code=421, status="4.7.0", token=self.session.id)
                reply = Reply(421, reply.status if reply.status[:1] == "4" else "4.7.0", reply.text)
            case _:
                pass
        self.machine.answer(reply)

    # ── endings ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_committing(self) -> bool:
        return self._mailing is not None and self._mailing.is_committing

    @property
    def _transaction(self) -> Transaction | None:
        return None if self._mailing is None else self._mailing.transaction

    def _forget(self) -> None:
        if self._mailing is not None:
            self._mailing.forget()

    def _verbatim(self, outcome: Outcome) -> bool:
        return self.place.policy.verbatim or (outcome.binding is not None and outcome.binding.verbatim)

    def _refuse(self, what: str, reply: Reply, by: str) -> None:
        self.place.recorder.record(self.session.id, "refused", {"line": what, "reply": str(reply), "by": by})
        self.machine.answer(reply)

    def _hang_up(self, said: Reply, by: str) -> None:
        reply = refusal(said, code=421, status="4.7.0", token=self.session.id)
        self._refuse("", Reply(421, "4" + reply.status[1:], reply.text), by)

    async def _turn_away(self, admission: Admission, ended: Callable[[Reception], None]) -> None:
        """Over the limit of sessions: 421 at once, without asking anybody."""  # attack R7
        self.ending = "turned away"
        reply = Reply(421, "4.7.0", f"{admission.value}, try again later ({self.session.id})")
        facts = {"peer": str(self.session.peer), "listener": self.session.listener, "turned_away": admission.value}
        self.place.recorder.record(self.session.id, "session", facts)
        self.stream.deadline = asyncio.get_running_loop().time() + 5
        self.stream.write(encode(reply))
        try:
            await self.stream.close()
        finally:
            ended(self)

    def _last_words(self, reply: Reply) -> None:
        if not self.stream.lost:
            said = reply.with_text(f"{reply.text} ({self.session.id})")
            self.stream.write(self.machine.data_to_send() + encode(said))

    def _lost(self) -> None:
        """The peer is gone. Only before the hand-over to the writer does that cancel anything."""
        if self._is_running and not self._is_committing:
            self._carrier.cancel()

    async def _end(self, ending: str) -> None:
        place, session = self.place, self.session
        self.ending = ending
        place.counter.leave(session.peer.address)
        try:
            if self._mailing is not None:
                await self._mailing.end(unheard=ending != "quit")
            self.closings.close(session.holder)
            accepted = 0 if self._mailing is None else self._mailing.accepted
            place.recorder.record(session.id, "end", {"how": ending, "messages": accepted})
            place.tell(Disconnected(place.dispatcher.server, session, self._clean))
        finally:
            if ending == "lost":
                self.stream.abort()
            else:
                self.stream.deadline = asyncio.get_running_loop().time() + 5
                await self.stream.close()
        await self.closings.settled()


def _nothing(_: Reception) -> None:
    """Nobody wants to know."""


_SERVICE = {"smtp": "ESMTP", "submission": "ESMTP", "lmtp": "LMTP"}

_HANDLERS: dict[type, Callable[[Reception, Any], Awaitable[None]]] = {
    events.Connect: Reception._connect,
    events.Hello: Reception._hello,
    events.StartTls: Reception._start_tls,
    events.Reset: Reception._reset,
    events.Noop: Reception._noop,
    events.Verify: Reception._verify,
    events.Expand: Reception._expand,
    events.Help: Reception._help,
    events.Quit: Reception._quit,
    events.Unknown: Reception._unknown,
    events.Refused: Reception._refused,
    events.Ended: Reception._ended,
    events.Line: Reception._line,
    events.Blob: Reception._blob,
    events.Replying: Reception._replying,
    events.Auth: lambda self, event: self.authentication.begin(event),
    events.AuthResponse: lambda self, event: self.authentication.go_on(event),
    events.Mail: lambda self, event: self.mailing.mail(event),
    events.Rcpt: lambda self, event: self.mailing.rcpt(event),
    events.Data: lambda self, event: self.mailing.data(event),
    events.Chunk: lambda self, event: self.mailing.chunk(event),
    events.EndOfData: lambda self, event: self.mailing.end_of_data(event),
}
