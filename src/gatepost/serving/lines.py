"""The Command and Reply stages: each line before it is parsed, each reply before it leaves.

The machine raises their events only where somebody is bound to them.
"""

from __future__ import annotations

from gatepost.hooks import stages
from gatepost.hooks.answers import without_secrets
from gatepost.hooks.bindings import Binding
from gatepost.hooks.questions import Outcome, Question
from gatepost.hooks.replies import refusal
from gatepost.hooks.verdicts import Converse, Hangup, Proceed, Refuse, Respond
from gatepost.model import Reply
from gatepost.net import Stream
from gatepost.serving.conclusion import stage_refusal
from gatepost.serving.introduced import Introduced
from gatepost.serving.place import Place
from gatepost.wire.smtp import events

OK = Reply(250, "2.0.0", "ok")
_NOT_KEPT = Reply(451, "4.3.0", "the message wasn't kept, try again later")
_NO_TLS = Reply(454, "4.7.0", "TLS isn't available now")  # rfc3207#4
_END_OF_DATA = "."
_MOVING = frozenset({"", "BDAT", _END_OF_DATA, "AUTH", "STARTTLS", "RSET", "QUIT"})
"""The lines whose positive reply has moved the session for good: it can't be taken back by another one."""
_REVERSIBLE = frozenset({"MAIL", "RCPT", "DATA"})
"""Where a positive reply may become a refusal, and the move is taken back; a refusal stays one."""


class _Heard:
    """What a session's lines have come to. Only sessions have one whose lines or replies somebody is asked about."""

    __slots__ = ("converses", "line", "number")

    def __init__(self) -> None:
        self.converses: Binding | None = None
        self.number = 0
        self.line = ""
        """The line that is answered now, without secrets."""


class Lines(Introduced):
    """Invariant: a plugin converses only between its own `Converse` and its next answer."""

    __slots__ = ("_lines",)

    def __init__(self, place: Place, stream: Stream, *, tls: bool = False) -> None:
        super().__init__(place, stream, tls=tls)
        self._lines: _Heard | None = None

    @property
    def _heard(self) -> _Heard:
        if self._lines is None:
            self._lines = _Heard()
        return self._lines

    async def _line(self, event: events.Line) -> None:
        line, heard = event.line.decode("utf-8", "replace"), self._heard
        heard.number += 1
        heard.line = without_secrets(line)
        facts = {"line": line, "number": heard.number}
        question = Question(stages.Command, self.session, OK, self._transaction, facts)
        await self._answer_command(await self._ask(question), line)

    async def _blob(self, event: events.Blob) -> None:
        heard = self._heard
        binding = heard.converses
        if binding is None:
            raise RuntimeError("a blob came for nobody")
        if not event.last and not event.data:
            self.machine.proceed()
            return
        facts = {"line": "", "blob": event.data, "number": heard.number}
        question = Question(stages.Command, self.session, OK, self._transaction, facts)
        outcome = await self.place.dispatcher.ask_again(question, binding)
        if isinstance(outcome.verdict, Proceed) and not event.last:
            self.machine.proceed()  # and it goes on listening
            return
        await self._answer_command(outcome, "", blob=event)

    async def _answer_command(self, outcome: Outcome, line: str, blob: events.Blob | None = None) -> None:
        machine, heard = self.machine, self._heard
        heard.converses = None
        is_obeyed = line.partition(" ")[0].upper() in ("QUIT", "RSET")  # which can't be refused, whatever is said
        match outcome.verdict:
            case Respond() | Converse() if is_obeyed:
                machine.proceed()
            case Respond(reply, closes, counts):
                if reply.is_positive:
                    reply = _promise(line) or reply
                one_too_many = machine.charge() if counts else None
                if reply.code >= 400:
                    self._record_refusal(without_secrets(line), reply, outcome.by)
                machine.answer(one_too_many or reply)
                if closes:
                    machine.end()
            case Refuse(said):
                reply = stage_refusal(stages.Command, said, self.session.id, self._verbatim(outcome))
                self._record_refusal(without_secrets(line), reply, outcome.by)
                if is_obeyed:
                    machine.proceed()
                else:
                    machine.answer(reply)
            case Converse(reply, lines, octets):
                heard.converses = outcome.binding
                machine.converse(reply, lines=lines, octets=octets)
            case Hangup(reply):
                self._hang_up(reply, outcome.by)
            case _ if blob is None:
                machine.proceed()
            case _:
                machine.answer(OK)  # nobody may be left waiting for a reply

    def _record_refusal(self, line: str, reply: Reply, by: str) -> None:
        facts = {"line": line[:200], "reply": str(reply), "by": by}
        self.place.recorder.record(self.session.id, "refused", facts)

    async def _replying(self, event: events.Replying) -> None:
        reply, heard = event.reply, self._heard
        facts = {"line": heard.line, "number": heard.number}
        outcome = await self._ask(Question(stages.Replying, self.session, reply, self._transaction, facts))
        if reply.code == 354:
            heard.line = _END_OF_DATA  # what comes next is answered under this name
        match outcome.verdict:
            case Respond(said, closes, counts):
                verb = _verb(facts["line"])
                if reply.code < 400 <= said.code != 421 and verb in _REVERSIBLE:
                    self.machine.take_back()
                    self.mailing.take_back(verb)
                    self._record_refusal(heard.line, said, outcome.by)
                    reply = said
                else:
                    reply = said if _may_become(verb, reply, said) else reply.with_text(said.text)
                if counts and (one_too_many := self.machine.charge()) is not None:
                    reply = one_too_many
                if closes:
                    self.machine.answer(reply)
                    self.machine.end()
                    return
            case Hangup(said):
                reply = refusal(said, code=421, status="4.7.0", token=self.session.id)
                reply = Reply(421, reply.status if reply.status[:1] == "4" else "4.7.0", reply.text)
            case _:
                reply = outcome.pending
        self.machine.answer(reply)


def _promise(line: str) -> Reply | None:
    """What is said instead, where a plugin's own yes would be a promise that nobody keeps."""
    words = line.upper().split()
    if words[:1] == ["STARTTLS"]:
        return _NO_TLS  # no handshake would follow
    if words[:1] == ["BDAT"] and words[-1] == "LAST":  # rfc3030#2
        return _NOT_KEPT  # its octets have gone nowhere: nobody may say that they are safe
    return None


def _may_become(verb: str, reply: Reply, said: Reply) -> bool:
    """Whether a reply may be said as that one: nobody may be told what isn't so."""
    before, after = reply.code // 100, said.code // 100
    if before == after:
        return True
    if 3 in (before, after) or 421 in (reply.code, said.code):
        return False
    if before > 3:
        return after > 3 or verb not in _MOVING | _REVERSIBLE
    return verb not in _MOVING


def _verb(line: object) -> str:
    return str(line).partition(" ")[0].upper()
