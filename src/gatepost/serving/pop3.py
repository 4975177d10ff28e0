"""One POP3 session, from the greeting to the end: take the next event, answer the question, write what is due.

The loop is `_converse`; every event has one method, found by its class. The machine (`wire.pop3`) answers what the RFCs
decide, `pop3_login` finds out who somebody is, this page gives out what is in the maildrop. Marks live here, and
nothing is deleted before QUIT: a session that ends otherwise has changed nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.questions import Outcome, Question
from gatepost.hooks.verdicts import Refuse
from gatepost.model import Reply
from gatepost.model.written import printable
from gatepost.net import Stream
from gatepost.serving.conclusion import stage_refusal
from gatepost.serving.connected import TIMED_OUT, Connected
from gatepost.serving.pop3_login import PopLogin
from gatepost.serving.pop3_place import PopPlace
from gatepost.store.mailboxes import Entry, MailboxError, MailboxSession, MessageGone
from gatepost.wire.pop3 import events
from gatepost.wire.pop3.replies import Reply as PopReply
from gatepost.wire.pop3.replies import encode
from gatepost.wire.pop3.server import ServerSession

_NO_MESSAGE = "no such message"
_PENDING = Reply(250)
_TOGETHER = 32 * 1024  # octets of messages asked for at once that are sent at once
_IN_A_ROW = 32  # commands of one client that are answered before others are
_SHOWN = 100  # ids of deleted messages that the trace keeps

log = logging.getLogger("gatepost.serving")


class Pickup(Connected[PopPlace]):
    """Serves one connection. Invariant: a question is answered before the next event is taken; the maildrop's lock is
    given back before the client hears that its session is over.
    """

    __slots__ = ("_is_streaming", "_is_updating", "_marked", "_retrieved", "_went", "login", "machine")

    def __init__(self, place: PopPlace, stream: Stream, *, tls: bool = False) -> None:
        super().__init__(place, stream, "pop3")
        self.machine = ServerSession(place.profile, tls=tls, timestamp=self._timestamp() if place.profile.apop else "")
        self.login = PopLogin(place, self.machine, self.session)
        self._marked: dict[int, Entry] = {}
        self._retrieved = 0
        self._went = 0
        self._is_streaming = False
        self._is_updating = False

    async def _serve(self, ended: Callable[[Connected[Any]], None]) -> None:
        ending = "lost"
        try:
            self._begin()
            ending = await self._converse()
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

    async def _converse(self) -> str:
        machine, stream, timeouts = self.machine, self.stream, self.place.timeouts
        loop = asyncio.get_running_loop()
        has_moved = True
        ahead = 0
        while True:
            event = machine.next_event()
            if event is not events.NEED_DATA:
                has_moved = True
                await _HANDLERS[type(event)](self, event)
                ahead += 1
                if not ahead % _IN_A_ROW:
                    await asyncio.sleep(0)  # the others' turn  # attack O6
                continue
            await self._flush()
            if machine.wants_close:
                return "quit" if self._clean else "closed"
            if self._is_going_down and self.login.mailbox is None:
                raise asyncio.CancelledError
            if has_moved:  # attack R6: the time is for the whole command, and isn't renewed by pieces of it
                has_moved = False
                stream.deadline = loop.time() + timeouts.command
            self.is_idle = self.login.mailbox is None
            data = await stream.receive()
            self.is_idle = False
            machine.receive(data)

    async def _flush(self) -> None:
        if due := self.machine.data_to_send():
            self.stream.write(due)
            due = b""
            self.stream.deadline = asyncio.get_running_loop().time() + self.place.timeouts.flush
            await self.stream.drain()

    async def _flush_in_turn(self) -> None:
        """As `_flush`, and the others' turn: what is in memory may be sent for long without a wait."""  # attack R14
        await self._flush()
        await asyncio.sleep(0)

    # ── who is on the line ─────────────────────────────────────────────────────────────────────────────────────────

    async def _connect(self, event: events.Connect) -> None:
        self.machine.ok(f"{self.place.hostname} POP3 Gatepost")

    async def _start_tls(self, event: events.StartTls) -> None:
        self.machine.ok("go ahead")
        await self._secure(self.machine.discarded, self.machine.data_to_send(), "STLS")
        self.machine.tls_started()

    def _timestamp(self) -> str:
        """What stands in the greeting for APOP, never said before."""  # rfc1939#7
        if self.place.nonce is None:
            raise RuntimeError("APOP was offered without entropy")
        return f"<{self.place.nonce()}@{self.place.hostname}>"

    async def _user(self, event: events.User) -> None:
        self.machine.ok("and the password?")  # whoever it is: nobody learns here which names there are

    async def _login(self, event: events.Login) -> None:
        login = self.login
        if event.password is not None:
            await self._try(login.password(event.user, event.password))
        else:
            await self._try(login.digest(event.user, event.digest or ""))

    async def _auth(self, event: events.Auth) -> None:
        await self._try(self.login.begin(event.mechanism, event.initial))

    async def _auth_response(self, event: events.AuthResponse) -> None:
        await self._try(self.login.go_on(event.data))

    async def _try(self, attempt: Awaitable[None]) -> None:
        """A login; the reply to one that fails waits, longer each time."""  # attack O5
        failures = self.login.failures
        await attempt
        if self.login.failures > failures and (delay := self.place.failure_delay_s):
            await asyncio.sleep(delay * self.login.failures)

    # ── the maildrop ───────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _mailbox(self) -> MailboxSession:
        mailbox = self.login.mailbox
        if mailbox is None:
            raise RuntimeError("somebody asks for a maildrop before the login")
        return mailbox

    def _entry(self, number: int) -> Entry | None:
        """The message of that number, unless it is marked."""
        messages = self._mailbox.messages
        return None if number > len(messages) or number in self._marked else messages[number - 1]

    async def _stat(self, event: events.Stat) -> None:
        mailbox, marked = self._mailbox, self._marked
        octets = mailbox.octets - sum(entry.size for entry in marked.values())
        self.machine.ok(f"{len(mailbox.messages) - len(marked)} {octets}")  # rfc1939#5

    async def _list(self, event: events.List) -> None:
        await self._tell(event.number, lambda entry: f"{entry.number} {entry.size}")

    async def _uidl(self, event: events.Uidl) -> None:
        await self._tell(event.number, lambda entry: f"{entry.number} {entry.uid}")

    async def _tell(self, number: int | None, line: Callable[[Entry], str]) -> None:
        if number is not None:
            entry = self._entry(number)
            if entry is None:
                self.machine.err(_NO_MESSAGE)
            else:
                self.machine.ok(line(entry))
            return
        marked = self._marked
        lines = [line(entry) for entry in self._mailbox.messages if entry.number not in marked]
        self.machine.listing(f"{len(lines)} messages", lines)
        await self._flush()  # a client that asks for many of them at once has to read as it asks

    async def _retrieve(self, event: events.Retrieve) -> None:
        await self._send(event.number, is_top=False)

    async def _top(self, event: events.Top) -> None:
        await self._send(event.number, is_top=True)

    async def _send(self, number: int, *, is_top: bool) -> None:
        entry = self._entry(number)
        if entry is None:
            self.machine.err(_NO_MESSAGE)
            return
        verb = "TOP" if is_top else "RETR"
        text = f"{entry.size} octets"
        said: str | None = text
        if stages.PopRetrieve in self.place.dispatcher.chains:
            facts = {"number": number, "uid": entry.uid, "size": entry.size, "is_top": is_top}
            said = await self._allowed(stages.PopRetrieve, facts, text, f"{verb} {number}")
        if said is None:
            return
        try:
            content = await self._mailbox.open_content(entry)
        except MessageGone:
            self._refuse(f"{verb} {number}", PopReply(False, "the message isn't there any more"), "house")
            return
        except MailboxError as error:
            self._unreadable(verb, entry, error)
            self._refuse(f"{verb} {number}", PopReply(False, "the message can't be read now", "SYS/TEMP"), "house")
            return
        try:
            self.machine.content(said)
            self._is_streaming = True
            while (data := await content.read()) and self.machine.feed(data) and not content.is_over:
                await self._flush_in_turn()
            self.machine.end()
            self._is_streaming = False
            if self.machine.due > _TOGETHER:
                await self._flush_in_turn()
        except MailboxError as error:  # a message may not seem whole: there is no end but the connection's
            self._unreadable(verb, entry, error)
            self.machine.close()
            return
        finally:
            content.close()
        if not is_top:
            self._retrieved += 1
            facts = {"number": number, "uid": entry.uid, "size": entry.size}
            self.place.recorder.record(self.session.id, "retrieved", facts)

    async def _delete(self, event: events.Delete) -> None:
        entry = self._entry(event.number)
        if entry is None:
            self.machine.err(_NO_MESSAGE)
            return
        facts = {"number": entry.number, "uid": entry.uid}
        said = await self._allowed(stages.PopDelete, facts, "will be deleted at QUIT", f"DELE {entry.number}")
        if said is not None:
            self._marked[entry.number] = entry
            self.machine.ok(said)

    async def _reset(self, event: events.Reset) -> None:
        self._marked.clear()
        self.machine.ok(f"{len(self._mailbox.messages)} messages")

    async def _noop(self, event: events.Noop | events.Utf8) -> None:
        self.machine.ok()

    async def _quit(self, event: events.Quit) -> None:
        left = 0
        if event.update:
            self._is_updating = True  # from here on a lost connection changes nothing
            left = await self._update()
        if left:
            self.machine.err("some deleted messages are still there", "SYS/TEMP")  # rfc1939#6
        else:
            self.machine.ok("goodbye")

    async def _update(self) -> int:
        """Delete what is marked, and let go of the maildrop; how many messages couldn't be deleted."""
        mailbox, marked = self._mailbox, list(self._marked.values())
        left = await mailbox.delete(marked)
        await mailbox.close()
        if marked:
            kept = {entry.number for entry in left}
            gone = [entry.uid for entry in marked if entry.number not in kept]
            self._went = len(gone)
            facts: dict[str, object] = {"messages": len(gone), "uids": gone[:_SHOWN]}
            if left:
                facts["left"] = [entry.uid for entry in left][:_SHOWN]
            self.place.recorder.record(self.session.id, "removed", facts)
        return len(left)

    async def _told(self, event: events.Capa | events.Lang) -> None:
        """The machine has answered it."""

    async def _refused(self, event: events.Refused) -> None:
        line = printable(event.line.decode("utf-8", "replace"))
        facts = {"line": line, "reply": str(event.reply), "by": "protocol"}
        self.place.recorder.record(self.session.id, "refused", facts)

    async def _ended(self, event: events.Ended) -> None:
        self._clean = event.clean

    # ── plugins ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _allowed(self, stage: type[stages.Event], facts: dict[str, Any], text: str, line: str) -> str | None:
        """What +OK says, if nobody objects; None once the client has its refusal."""
        dispatcher = self.place.dispatcher
        if stage not in dispatcher.chains:
            return text
        await self._flush()  # what is due may be much, and a plugin may take its time
        question = Question(stage, self.session, _PENDING.with_text(text), facts=facts)
        outcome: Outcome = await dispatcher.ask(question)
        if not isinstance(outcome.verdict, Refuse):
            return outcome.pending.text
        binding = outcome.binding
        verbatim = self.place.verbatim or (binding is not None and binding.verbatim)
        reply = stage_refusal(stage, outcome.verdict.reply, self.session.id, verbatim)
        code = "" if reply.is_permanent else "SYS/TEMP"
        self._refuse(line, PopReply(False, reply.text, code), outcome.by, closes=reply.code == 421)
        return None

    def _refuse(self, line: str, reply: PopReply, by: str, *, closes: bool = False) -> None:
        self.place.recorder.record(self.session.id, "refused", {"line": line, "reply": str(reply), "by": by})
        self.machine.err(reply.text, reply.code, closes=closes)

    def _unreadable(self, verb: str, entry: Entry, error: MailboxError) -> None:
        log.error("%s %d: %s can't be read; token %s", verb, entry.number, entry.name, self.session.id, exc_info=error)

    # ── what a connection asks for ─────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_committing(self) -> bool:
        return self._is_updating

    def _last_octets(self, reply: Reply) -> bytes:
        due = self.machine.data_to_send()
        # rfc1939#3: an idle client is told nothing; and within a message a reply would be a part of it
        is_silent = self._is_streaming or reply.status == TIMED_OUT.status
        return due if is_silent else due + encode(PopReply(False, reply.text, "SYS/TEMP"))

    async def _wind_up(self, ending: str) -> None:
        if self.login.mailbox is not None:
            await self.login.mailbox.close()

    def told(self) -> Mapping[str, object]:
        return {"retrieved": self._retrieved, "deleted": self._went}


_HANDLERS: dict[type, Callable[[Pickup, Any], Awaitable[None]]] = {
    events.Connect: Pickup._connect,
    events.StartTls: Pickup._start_tls,
    events.User: Pickup._user,
    events.Login: Pickup._login,
    events.Auth: Pickup._auth,
    events.AuthResponse: Pickup._auth_response,
    events.Utf8: Pickup._noop,
    events.Stat: Pickup._stat,
    events.List: Pickup._list,
    events.Uidl: Pickup._uidl,
    events.Retrieve: Pickup._retrieve,
    events.Top: Pickup._top,
    events.Delete: Pickup._delete,
    events.Reset: Pickup._reset,
    events.Noop: Pickup._noop,
    events.Quit: Pickup._quit,
    events.Capa: Pickup._told,
    events.Lang: Pickup._told,
    events.Refused: Pickup._refused,
    events.Ended: Pickup._ended,
}
