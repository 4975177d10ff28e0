"""Plugins on the way out: delivery's questions in one session with a next server, put to the dispatcher.

Strategy: one `Asked` for a session, made where somebody is bound to an outbound stage, else none. Each question is put
in a task of its own, so that a hook which outlives its time holds that task and not the delivery. What is answered
comes back as a step that has a meaning at its place; an answer that has none is a failed hook. The record of decisions
is kept under the message's token: whoever begins an attempt says which message it is about (`about`, `about_texts`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address
from types import MappingProxyType
from typing import Any, TypeVar

from gatepost.content.downgrade import downgrade
from gatepost.content.view import Files, Views
from gatepost.delivery.calls import call_of, chosen
from gatepost.delivery.ports import Prepared, Talk
from gatepost.delivery.route import Hop, Host, Lmtp
from gatepost.delivery.steps import COMMANDS, LEFT, OWN_STAGE, end, failure, step_of
from gatepost.hooks import stages
from gatepost.hooks.answers import AnswerError
from gatepost.hooks.bindings import OnFailure
from gatepost.hooks.dispatcher import Dispatcher
from gatepost.hooks.ports import Patience, Recorder
from gatepost.hooks.questions import Outcome, Question
from gatepost.hooks.run import FAILED
from gatepost.hooks.session import Holder, OutgoingSession
from gatepost.hooks.transaction import Transaction as TransactionState
from gatepost.hooks.verdicts import EndSession as EndSessionVerdict
from gatepost.hooks.verdicts import Fail, Send, Skip
from gatepost.model import Blob, Body, ContentEdit, Peer, ReplaceBody, ReplaceMessage, ReplacePart, Reply, Ticket
from gatepost.wire.smtp.client_events import (
    Asks,
    CommandDue,
    EndSession,
    GiveUp,
    Go,
    Phase,
    ReplyHeard,
    Step,
    Transaction,
)
from gatepost.wire.smtp.client_events import Question as MachineQuestion
from gatepost.wire.smtp.client_steps import complaint

T = TypeVar("T")

about: ContextVar[Ticket | None] = ContextVar("about", default=None)
"""The message that an attempt is about, for whoever is asked on its way."""

about_texts: ContextVar[Mapping[str, str]] = ContextVar("about_texts", default=MappingProxyType({}))
"""The texts that plugins have kept with it."""

_NO_MESSAGE = "-"  # in the place of a token
_OK = Reply(250)
_NOWHERE = Peer(IPv4Address(0))
_NOT_CONVERTED = Reply(554, "5.6.3", "conversion required but not supported")  # rfc6152#3
_SHAPING = (ReplaceBody, ReplaceMessage, ReplacePart)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every session needs. `dispatcher` gives the present one: delivery outlives reloads."""

    hostname: str
    dispatcher: Callable[[], Dispatcher]
    patience: Patience
    recorder: Recorder
    files: Files | None = None


def asked(around: Surroundings) -> Asked | None:
    """Who is to be asked in a session that begins now; None where nobody is bound to any outbound stage."""
    return Asked(around) if is_bound(around.dispatcher()) else None


def is_bound(dispatcher: Dispatcher) -> bool:
    """Whether anybody is bound to an outbound stage."""
    return not stages.OUTBOUND.isdisjoint(dispatcher.chains)


class Asked:
    """delivery's Outbound, for one session."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._session = OutgoingSession(
            id=_NO_MESSAGE,
            listener="",
            protocol="smtp",
            peer=_NOWHERE,
            local=("", 0),
            started=around.dispatcher().server.now(),
            patience=around.patience,
        )
        self._message: TransactionState | None = None
        self._commands = self._replies = 0

    def asks(self) -> Asks:
        """What the machine is to stand still for, as plugins are bound now."""
        chains = self._around.dispatcher().chains
        commands = COMMANDS if stages.OutCommand in chains else frozenset()
        own = frozenset(phase for phase, stage in OWN_STAGE.items() if stage in chains and phase is not Phase.CONTENT)
        heard = chains.get(stages.OutReply, ())
        may_pipeline = all(binding.pipelining or binding.shadow for binding in heard)
        return Asks(commands=commands | own, replies=bool(heard), may_pipeline=may_pipeline)

    async def session(self, hop: Hop, host: Host) -> tuple[Hop, Host] | Reply:
        """Before connecting: whom to call, and how; or why not to."""
        self._session.protocol = "lmtp" if isinstance(hop, Lmtp) else "smtp"
        self._know(host)
        if stages.OutSession not in self._around.dispatcher().chains:
            return hop, host
        before = call_of(hop, host, self._around.hostname)
        question = self._question(stages.OutSession, {"call": before}, _OK)
        outcome = await self._ask(question)
        match outcome.verdict:
            case Fail(said):
                return failure(said, stages.OutSession)
            case Skip():
                return LEFT
            case _:
                hop, host = chosen(hop, host, before, question.facts["call"])
                self._know(host)
                return hop, host

    async def message(
        self, connection: Talk, transaction: Transaction, content: Blob, mail_line: str
    ) -> Prepared | Reply | EndSession:
        """Before MAIL: the message as it is to go, or what becomes of everybody."""
        self._look_at(connection)
        ticket = about.get()
        stored = Views(content, utf8=transaction.smtputf8, files=self._around.files, pause=pause)
        self._forget_message()
        message = self._message = TransactionState(
            ticket or Ticket(_NO_MESSAGE, 0),
            transaction.sender,
            {},
            recipients=list(transaction.recipients),
            content=stored,
            kept=dict(about_texts.get()),
        )
        prepared = Prepared(transaction, content)
        if stages.OutMessage not in self._around.dispatcher().chains:
            return prepared
        question = self._question(stages.OutMessage, {"line": mail_line}, _OK, transaction.size)
        outcome = await self._ask(question)
        line: str | None = None
        match outcome.verdict:
            case Fail(said):
                return failure(said, stages.OutMessage)
            case Skip():
                return LEFT
            case EndSessionVerdict(said):
                return EndSession(end(said))
            case Send(changed):
                line = changed
            case _:
                pass
        if not message.edits:
            return replace(prepared, mail_line=line)
        return await _edited(prepared, stored, message.edits, "8BITMIME" in connection.capabilities, line)

    def probe(self, connection: Talk) -> None:
        """Recipients are asked about without a message: there is none to show."""
        self._look_at(connection)
        self._forget_message()

    async def command(self, connection: Talk, event: CommandDue) -> Step:
        """The step for a command that is due: `out-command` first, then the command's own stage."""
        chains = self._around.dispatcher().chains
        self._look_at(connection)
        self._commands += 1
        line = event.line
        for stage in (stages.OutCommand, OWN_STAGE.get(event.phase)):
            if stage is None or stage not in chains:
                continue
            facts: dict[str, Any] = {"line": line}
            if stage is stages.OutCommand:
                facts |= {"phase": event.phase.value, "recipient": event.recipient, "number": self._commands}
            elif event.phase is not Phase.QUIT:
                if self._message is None:
                    continue  # a probe
                if stage is stages.OutRecipient:
                    facts["recipient"] = event.recipient
            outcome = await self._ask(self._question(stage, facts, _OK))
            step = self._step(event, stage, outcome)
            if not isinstance(step, Go):
                return step
            line = line if step.line is None else step.line
        return Go() if line == event.line else Go(line)

    async def reply(self, connection: Talk, event: ReplyHeard) -> Step:
        """The step for a reply that was heard."""
        self._look_at(connection)
        if stages.OutReply not in self._around.dispatcher().chains:
            return Go()
        self._replies += 1
        facts: dict[str, Any] = {"line": event.line, "phase": event.phase.value, "recipient": event.recipient}
        facts |= {"number": self._replies, "pipelined": event.is_pipelined}
        outcome = await self._ask(self._question(stages.OutReply, facts, event.reply))
        return self._step(event, stages.OutReply, outcome)

    def ended(self, connection: Talk | None) -> None:
        """The session is over; what plugins kept for it is closed, beside."""
        self._forget_message()
        holder, self._session.holder = self._session.holder, Holder()
        self._close(holder)

    # ── asking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _question(
        self, stage: type[stages.Event], facts: dict[str, Any], pending: Reply, size: int | None = None
    ) -> Question:
        ticket = about.get()
        self._session.id = _NO_MESSAGE if ticket is None else ticket.token
        message = None if stage in (stages.OutSession, stages.OutQuit) else self._message
        return Question(stage, self._session, pending, message, facts, size)

    async def _ask(self, question: Question) -> Outcome:
        return await apart(self._around.dispatcher().ask(question))

    def _step(self, event: MachineQuestion, stage: type[stages.Event], outcome: Outcome) -> Step:
        step = step_of(outcome.verdict, stage)
        wrong = complaint(event, step)
        if wrong is None:
            return step
        binding = outcome.binding
        self._around.recorder.failed(self._session.id, outcome.by, stage.name, AnswerError(wrong))
        if binding is None or binding.on_failure is OnFailure.PROCEED:
            return Go()
        told = failure("a check couldn't be made", stage) if binding.on_failure is OnFailure.REFUSE else FAILED
        instead = GiveUp(told)
        return Go() if complaint(event, instead) else instead

    # ── what is known of the session ───────────────────────────────────────────────────────────────────────────────

    def _know(self, host: Host) -> None:
        session = self._session
        session.host = session.helo = host.name or host.address or host.socket or ""
        session.peer = _peer(host)

    def _look_at(self, connection: Talk) -> None:
        session = self._session
        session.peer, session.local, session.tls = connection.peer, connection.local, connection.tls
        session.capabilities = connection.capabilities.keywords

    def _forget_message(self) -> None:
        message, self._message = self._message, None
        if message is not None:
            self._close(message.holder)

    def _close(self, holder: Holder) -> None:
        if holder.seal():
            self._around.patience.spawn(closed(holder))


async def _edited(
    prepared: Prepared, stored: Views, edits: list[ContentEdit], takes_8bit: bool, line: str | None
) -> Prepared | Reply:
    """The message with the edits; in seven bits, if plugins have put others in for a server that takes no others."""
    content, body = stored.with_edits(edits), prepared.transaction.body
    if body is Body.SEVEN_BIT and any(isinstance(edit, _SHAPING) for edit in edits):
        converted = await asyncio.to_thread(downgrade, content)
        if converted is not content:
            if takes_8bit:
                body = Body.EIGHT_BIT_MIME
            elif converted is None:
                return _NOT_CONVERTED
            else:
                content = converted
    return Prepared(replace(prepared.transaction, size=content.size, body=body), content, line)


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """The work's result, done in a task of its own, which a hook may go on holding."""
    return await asyncio.get_running_loop().create_task(work)


async def pause() -> None:
    """Others have their turn."""
    await asyncio.sleep(0)


async def closed(holder: Holder) -> None:
    """Close what plugins kept. An ExceptionGroup of what couldn't be."""
    errors = await holder.close()
    if errors:
        raise BaseExceptionGroup("what plugins kept couldn't be closed", errors)


def _peer(host: Host) -> Peer:
    try:
        return Peer(ip_address(host.address or host.name), host.port)
    except ValueError:
        return Peer(_NOWHERE.address, host.port)
