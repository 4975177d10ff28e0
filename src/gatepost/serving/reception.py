"""One session, from the banner to the end: take the next event, answer the question, write what is due.

The loop is `_serve`; every event has one method, found by its class. The session machine (`wire`) answers what the RFCs
decide, this page asks the chain for what policy decides. Replies are written exactly when input is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gatepost.model import Reply
from gatepost.model.written import printable
from gatepost.serving.connected import Connected
from gatepost.serving.lines import OK, Lines
from gatepost.wire.smtp import events
from gatepost.wire.smtp.replies import encode

log = logging.getLogger("gatepost.serving")

CLOSING = Reply(221, "2.0.0", "closing the connection")
UNKNOWN = Reply(500, "5.5.2", "there is no such command")
NOT_TOLD = Reply(252, "2.1.5", "send mail, and you will hear")  # rfc5321#7.3
NO_EXPANSION = Reply(252, "2.1.5", "lists aren't shown here")
HELP = Reply(214, "2.0.0", "https://www.rfc-editor.org/rfc/rfc5321")


class Reception(Lines):
    """Serves one connection. Invariant: a question is always answered before the next event is taken.

    Below it are four layers: `Connected` knows the connection and its end, `Answering` has the session's belongings,
    `Introduced` knows who is on the line, `Lines` asks about each line and reply.
    """

    __slots__ = ()

    async def _serve(self, ended: Callable[[Connected[Any]], None]) -> None:
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

    def _last_octets(self, reply: Reply) -> bytes:
        return self.machine.data_to_send() + encode(reply)

    async def _wind_up(self, ending: str) -> None:
        if self._mailing is not None:
            await self._mailing.end(unheard=ending != "quit")

    def told(self) -> Mapping[str, object]:
        return {"messages": 0 if self._mailing is None else self._mailing.accepted}


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
    events.Auth: lambda self, event: self.authentication.begin(event.mechanism, event.initial),
    events.AuthResponse: lambda self, event: self.authentication.go_on(event.data),
    events.Mail: lambda self, event: self.mailing.mail(event),
    events.Rcpt: lambda self, event: self.mailing.rcpt(event),
    events.Data: lambda self, event: self.mailing.data(event),
    events.Chunk: lambda self, event: self.mailing.chunk(event),
    events.EndOfData: lambda self, event: self.mailing.end_of_data(event),
}
