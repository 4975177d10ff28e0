"""One session, from the banner to the end: take the next event, answer the question, write what is due.

The loop is `_serve`; every event has one method, found by its class. The session machine (`wire`) answers what the RFCs
decide, this page asks the chain for what policy decides. Replies are written exactly when input is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from gatepost.hooks.notices import Disconnected
from gatepost.model import Reply
from gatepost.model.written import printable
from gatepost.net import ConnectionLost, DeadlinePassed, Stream
from gatepost.serving.carrying import Carrier
from gatepost.serving.limits import Admission
from gatepost.serving.lines import OK, Lines
from gatepost.serving.place import Place
from gatepost.wire.smtp import events
from gatepost.wire.smtp.replies import encode

log = logging.getLogger("gatepost.serving")

CLOSING = Reply(221, "2.0.0", "closing the connection")
TIMED_OUT = Reply(421, "4.4.2", "you took too long")
SHUTTING_DOWN = Reply(421, "4.3.2", "the server is going down, try again later")
BROKEN = Reply(421, "4.3.0", "an error here, try again later")
UNKNOWN = Reply(500, "5.5.2", "there is no such command")
NOT_TOLD = Reply(252, "2.1.5", "send mail, and you will hear")  # rfc5321#7.3
NO_EXPANSION = Reply(252, "2.1.5", "lists aren't shown here")
HELP = Reply(214, "2.0.0", "https://www.rfc-editor.org/rfc/rfc5321")


class Reception(Lines):
    """Serves one connection. Invariant: a question is always answered before the next event is taken.

    Below it are three layers: `Answering` has the session's belongings, `Introduced` knows who is on the line, `Lines`
    asks about each line and reply.
    """

    __slots__ = ("_carrier", "_clean", "_is_going_down", "_is_running", "ending", "is_idle")

    def __init__(self, place: Place, stream: Stream, *, tls: bool = False) -> None:
        super().__init__(place, stream, tls=tls)
        self.is_idle = True
        """Between transactions, waiting for the client: the moment to end it when the server goes down."""
        self.ending = ""
        """How it ended, once it has: quit, closed, lost, timeout, shutdown, error."""
        self._carrier = Carrier()
        self._is_running = False
        self._is_going_down = False
        self._clean = False

    async def run(self) -> None:
        """Serve until the end. Whatever happens, everything that was begun is closed once."""
        await self.serve(_nothing)

    def serve(self, ended: Callable[[Reception], None]) -> Awaitable[None]:
        """As run, and `ended` hears that it is over. Not `async`: every idle session would have one more frame."""
        admission = self._enter(self.session.peer.address)
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
        self._is_running = True
        self.stream.on_lost(self._lost)
        self.place.recorder.record(self.session.id, "session", self._facts(port=self.session.peer.port))

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

    # ── the events ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _handle(self, event: events.Event) -> None:
        await _HANDLERS[type(event)](self, event)

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
        facts = {"line": printable(line.decode("utf-8", "replace")), "reply": str(event.reply), "by": "protocol"}
        self.place.recorder.record(self.session.id, "refused", facts)

    async def _ended(self, event: events.Ended) -> None:
        self._clean = event.clean

    # ── endings ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_committing(self) -> bool:
        return self._mailing is not None and self._mailing.is_committing

    async def _turn_away(self, admission: Admission, ended: Callable[[Reception], None]) -> None:
        """Over the limit of sessions: 421 at once, without asking anybody."""  # attack R7
        self.ending = "turned away"
        reply = Reply(421, "4.7.0", f"{admission.value}, try again later ({self.session.id})")
        self.place.recorder.record(self.session.id, "session", self._facts(turned_away=admission.value))
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
        self._leave()
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


_HANDLERS: dict[type, Callable[[Reception, Any], Awaitable[None]]] = {
    events.Connect: Reception._connect,
    events.Hello: Reception._hello,
    events.StartTls: Reception._start_tls,
    events.Client: Reception._client,
    events.Forwarded: Reception._forwarded,
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
