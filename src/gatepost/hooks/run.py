"""One question on its way through a chain: who is concerned, and whose turn it is.

A binding gets an event of its own; its answer is checked before its edits are applied, so that an answer which is none
takes its edits with it. What the house refuses nobody can allow. What answers come to is `weighing`'s business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from gatepost.hooks import stages
from gatepost.hooks.answers import AnswerError, Suspended, called, preparing, understand, without_secrets
from gatepost.hooks.bindings import HOUSE_PRIORITY, Binding, OnFailure
from gatepost.hooks.breaker import BreakerOpen
from gatepost.hooks.concern import BY_ENVELOPE, concerns
from gatepost.hooks.effects import allowed_failures, is_judging
from gatepost.hooks.ports import Patience, Recorder
from gatepost.hooks.questions import House, Outcome, Question
from gatepost.hooks.records import describe_edit, plain_verdict
from gatepost.hooks.replies import success
from gatepost.hooks.session import ServerView
from gatepost.hooks.verdicts import PROCEED, VERDICTS, Discard, Fail, Quarantine, Refuse, Send, Verdict
from gatepost.hooks.weighing import Weighing
from gatepost.model import AddRecipient, ContentEdit, Edit, Recipient, Reply

FAILED = Reply(451, "4.3.0", "a check couldn't be made, try again later")
_TAKES_SUBJECTS = frozenset({stages.Headers, stages.Message, stages.Submitted, stages.Expanded, stages.OutMessage})
_OUTBOUND = stages.OUTBOUND
_CHANGES_FACTS = stages.OUTBOUND | {stages.Hello}
_OF_ALL = frozenset({stages.Headers, stages.OutMessage})  # stages asked once about all recipients


class Budgets(Protocol):
    def __call__(self, stage: type[stages.Event]) -> float:
        """Seconds that a question of this stage may take in all."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every run needs; made once for a dispatcher."""

    server: ServerView
    house: House
    monotonic: Callable[[], float]
    patience: Patience
    recorder: Recorder
    budget: Budgets
    never: tuple[type, ...]


class Run(Weighing):
    """One question on its way through the chain: who is asked, and what is done with the answer."""

    __slots__ = ("_d", "_deadline", "_prepared")

    def __init__(self, d: Means, question: Question, outcome: Outcome, subjects: Sequence[Recipient] | None) -> None:
        super().__init__(question, outcome, subjects)
        self._d = d
        self._deadline = 0.0
        self._prepared: dict[int, Any] | None = None

    # ── preparing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, chain: Iterable[Binding]) -> None:
        """Start every concerned binding's preparation at once; the questions still come in order."""
        self._prepared = {}
        for binding in chain:
            if binding.prepare is not None and concerns(binding, self.question):
                looking = stages.Turn(binding.properties, 0.0, self._d.monotonic, is_open=False)
                event = self._event(looking, binding, tuple(self.outcome.each))
                self._prepared[id(binding)] = self._d.patience.spawn(preparing(binding.prepare, event))

    def end_preparations(self) -> None:
        """Nobody waits for them any more."""
        for preparation in (self._prepared or {}).values():
            preparation.cancel()

    # ── asking ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def ask_house(self) -> Coroutine[Any, Any, None] | None:
        """The house, which nearly always has nothing to say against it, at once; else what is to be awaited.

        Its refusal outweighs everything that was said before.
        """
        began = self._d.monotonic()
        granted = self._may_relay or may_relay(self.question)
        said = self._d.house.ask(self.question, may_relay=granted)
        return None if said is PROCEED else self.hear_house(said, began)

    async def hear_house(self, said: Verdict | Awaitable[Verdict], began: float) -> None:
        """What the house says, perhaps after a while."""
        waited = type(said) not in VERDICTS
        verdict = await cast(Awaitable[Verdict], said) if waited else cast(Verdict, said)
        if verdict is not PROCEED and isinstance(self.outcome.verdict, Discard):
            self.outcome.verdict = PROCEED
        self._count(verdict, "house", None)
        if waited or verdict is not PROCEED:  # what took time, or decided, is worth an entry
            facts = self._facts("house", HOUSE_PRIORITY, began)
            facts["verdict"] = plain_verdict(verdict)
            self._d.recorder.record(self.question.session.id, "asked", facts)

    def ask(self, binding: Binding) -> Coroutine[Any, Any, None] | None:
        """One binding, if the question concerns it and nobody has silenced it: what is to be awaited then."""
        subjects = self._concerned(binding)
        if subjects is None:
            return None
        now = self._d.monotonic()
        if not self._deadline:
            self._deadline = now + self._d.budget(self.question.stage)
        if binding.shadow:
            self._begin_shadow(binding, subjects, now)
        elif now >= self._deadline:
            late = self._too_late()
            self._count_for(subjects, late, binding)
            self._record(binding, late, now, None, "not asked: the time for this question was over")
        else:
            return self._take_turn(binding, subjects, now)
        return None

    async def go_on(self, binding: Binding) -> None:
        """The binding that took over the conversation, whatever its rule: it asked for this itself."""
        now = self._d.monotonic()
        self._deadline = now + self._d.budget(self.question.stage)
        await self._take_turn(binding, (), now)

    def record_unasked(self, bindings: Sequence[Binding]) -> None:
        """Who would have been asked, had the chain not ended."""
        facts: dict[str, Any] = {"stage": self.question.stage.name, "plugins": [one.plugin for one in bindings][:20]}
        if self.question.transaction is not None:
            facts["transaction"] = self.question.transaction.ticket.number
        self._d.recorder.record(self.question.session.id, "unasked", facts)

    def _concerned(self, binding: Binding) -> Sequence[Recipient] | None:
        """Whom the binding is asked about: at `message` recipients, elsewhere (); None if it isn't asked."""
        question = self.question
        transaction = question.transaction
        subjects: Sequence[Recipient] = ()
        if self._each is not None:
            subjects = self._left
        elif question.stage in _OF_ALL and transaction is not None:
            subjects = transaction.recipients
        if (binding.rule is not None or binding.when is not None) and not concerns(binding, question):
            return None
        if binding.rule is not None and question.stage in BY_ENVELOPE and transaction is not None:
            everyone = subjects if self._each is not None else transaction.recipients
            chosen = binding.rule.among(question.session.helo, transaction.sender, everyone)
            if not chosen:
                return None
            if self._each is not None:
                subjects = chosen
        if binding.always or binding.shadow or not is_judging(question.stage):
            return subjects
        if question.session.standing.silenced or (transaction is not None and transaction.standing.silenced):
            return None
        if self._silenced is not None and None in self._silenced:
            return None
        if self._each is not None and transaction is not None and (transaction.standings or self._silenced):
            quiet = self._silenced or ()
            subjects = [one for one in subjects if one not in quiet and not transaction.is_silenced(one)]
            return subjects or None
        return subjects

    async def _take_turn(self, binding: Binding, subjects: Sequence[Recipient], now: float) -> None:
        timeout = self._deadline - now
        is_cut_short = binding.timeout is not None and timeout < binding.timeout
        if binding.timeout is not None and not is_cut_short:
            timeout = binding.timeout
        turn = stages.Turn(binding.properties, now + timeout, self._d.monotonic)
        preparation = None if self._prepared is None else self._prepared.pop(id(binding), None)
        turn.prepared = preparation
        event = self._event(turn, binding, subjects)
        breaker = binding.breaker
        try:
            if breaker is not None and not breaker.is_quiet and not breaker.allows(now):
                raise BreakerOpen("it has failed too often and is left alone for a while")
            answer = called(binding.hook, event)
            if type(answer) is Suspended:
                answer = await answer.answer(timeout, self._d.patience)
            turn.is_open = False
            verdict = understand(answer, binding.stage, subjects, self._each, turn.edits, self._d.never)
            if turn.edits:
                if self.question.transaction is None:
                    raise AnswerError("there is no transaction to change")
                self._check_edits(turn.edits, binding)
                self._apply(turn.edits)
        except BaseException as error:  # a plugin may raise anything; what ends the session goes on up
            turn.is_open = False
            if isinstance(error, KeyboardInterrupt | GeneratorExit) or self._d.patience.is_cancellation(error):
                raise
            if breaker is not None and not isinstance(error, BreakerOpen) and not is_cut_short:
                breaker.failed(self._d.monotonic())
            self._failed(binding, subjects, error, now)
            return
        finally:
            if preparation is not None:
                preparation.cancel()
        if breaker is not None and not breaker.is_quiet:
            breaker.succeeded()
        if turn.said is not None:
            self.outcome.pending = success(self.outcome.pending, turn.said)
        if binding.stage in _CHANGES_FACTS:
            self._change_facts(event, verdict)
        if isinstance(verdict, dict):
            for recipient, one in verdict.items():
                self._count_for((recipient,), one, binding)
        elif verdict is not PROCEED:
            self._count_for(subjects, verdict, binding)
        self._record(binding, verdict, now, turn, None)

    def _change_facts(self, event: stages.Event, verdict: Verdict | dict[Recipient, Verdict]) -> None:
        """What this answer changes of what later bindings see."""
        facts = self.question.facts
        if isinstance(event, stages.Hello):
            facts["capabilities"][:] = event.capabilities
        elif isinstance(event, stages.OutSession):
            facts["call"] = event.call
        if isinstance(verdict, Send):
            facts["line"] = verdict.line

    def _begin_shadow(self, binding: Binding, subjects: Sequence[Recipient], now: float) -> None:
        """Asked beside the session about this very moment, so that its time costs nobody anything."""
        timeout = binding.timeout or self._d.budget(self.question.stage)
        turn = stages.Turn(binding.properties, now + timeout, self._d.monotonic, is_shadow=True)
        turn.prepared = preparation = None if self._prepared is None else self._prepared.pop(id(binding), None)
        event = self._event(turn, binding, tuple(subjects))
        if event.transaction is not None:
            event.transaction = event.transaction.frozen()
        self._d.patience.spawn(self._ask_shadow(binding, subjects, turn, event, timeout, preparation))

    async def _ask_shadow(
        self,
        binding: Binding,
        subjects: Sequence[Recipient],
        turn: stages.Turn,
        event: stages.Event,
        timeout: float,
        preparation: Any,
    ) -> None:
        """Recorded, never obeyed."""
        now = self._d.monotonic()
        try:
            answer = called(binding.hook, event)
            if type(answer) is Suspended:
                answer = await answer.answer(timeout, self._d.patience)
            verdict = understand(answer, binding.stage, subjects, self._each, turn.edits, self._d.never)
        except (Exception, SystemExit) as error:  # noqa: BLE001  a shadow may fail in any way
            self._d.recorder.failed(self.question.session.id, binding.plugin, binding.stage.name, error)
            self._record(binding, PROCEED, now, turn, f"failed: {type(error).__name__}")
        else:
            self._record(binding, verdict, now, turn, None)
        finally:
            turn.is_open = False
            if preparation is not None:
                preparation.cancel()

    def _event(self, turn: stages.Turn, binding: Binding, subjects: Sequence[Recipient]) -> stages.Event:
        question = self.question
        facts = question.facts
        if question.stage in _TAKES_SUBJECTS:
            facts = {**facts, "subjects": tuple(subjects)}
        elif question.stage is stages.Command and not binding.secrets:
            facts = {**facts, "line": without_secrets(facts.get("line", ""))}
        elif question.stage is stages.Hello:
            facts = {**facts, "capabilities": list(facts.get("capabilities", ()))}
        return question.stage(
            question.session, self._d.server, self.outcome.pending, turn, question.transaction, **facts
        )

    def _check_edits(self, edits: Sequence[Edit], binding: Binding) -> None:
        if self.question.stage in stages.OUTBOUND:
            if not all(isinstance(edit, ContentEdit) for edit in edits):
                raise AnswerError("on the way out sender and recipients can't be changed; bind to submitted or message")
            return
        if binding.may_relay:
            return
        for edit in edits:
            if isinstance(edit, AddRecipient):
                why_not = self._d.house.admits(self.question.session, edit.recipient)
                if why_not is not None:
                    raise AnswerError(f"<{edit.recipient}> can't be added: {why_not}")

    def _failed(self, binding: Binding, subjects: Sequence[Recipient], error: BaseException, began: float) -> None:
        verdict: Verdict
        match binding.on_failure:
            case OnFailure.PROCEED:
                verdict = PROCEED
            case OnFailure.REFUSE:
                why_not = "a check couldn't be made"
                verdict = Fail(why_not) if self.question.stage in stages.OUTBOUND else Refuse(why_not)
            case OnFailure.QUARANTINE:
                verdict = Quarantine(f"{binding.plugin} failed")
            case _:
                verdict = self._not_now()
        self._d.recorder.failed(self.question.session.id, binding.plugin, binding.stage.name, error)
        self._count_for(subjects, verdict, binding)
        why = "its time was over" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"[:200]
        self._record(binding, verdict, began, None, f"failed: {why}")

    def _not_now(self) -> Verdict:
        """What a failed hook comes to where nothing else was chosen: later."""
        return Fail(FAILED) if self.question.stage in stages.OUTBOUND else Refuse(FAILED)

    def _too_late(self) -> Verdict:
        """What a hook comes to whose turn came after the time; a stage where nothing can be put off goes on."""
        return self._not_now() if "tempfail" in allowed_failures(self.question.stage) else PROCEED

    def _record(
        self,
        binding: Binding,
        verdict: Verdict | dict[Recipient, Verdict],
        began: float,
        turn: stages.Turn | None,
        why: str | None,
    ) -> None:
        if binding.quiet and verdict is PROCEED and why is None:
            return
        question = self.question
        facts = self._facts(binding.plugin, binding.priority, began)
        if isinstance(verdict, dict):
            facts["each"] = {str(recipient): plain_verdict(one) for recipient, one in verdict.items()}
        elif verdict is not PROCEED:
            facts["verdict"] = plain_verdict(verdict)
        if turn is not None:
            if turn.notes:
                facts["notes"] = turn.notes
            if turn.edits:
                facts["edits"] = [describe_edit(edit)[:200] for edit in turn.edits]
        if binding.shadow:
            facts["shadow"] = True
        if why is not None:
            facts["why"] = why
        self._d.recorder.record(question.session.id, "asked", facts)

    def _facts(self, plugin: str, priority: int, began: float) -> dict[str, Any]:
        question = self.question
        facts: dict[str, Any] = {
            "stage": question.stage.name,
            "plugin": plugin,
            "priority": priority,
            "ms": int((self._d.monotonic() - began) * 10_000 + 0.5) / 10,  # quicker than round()
        }
        if question.transaction is not None:
            facts["transaction"] = question.transaction.ticket.number
        if (recipient := question.facts.get("recipient")) is not None:
            facts["recipient"] = recipient.address
        if question.stage in _OUTBOUND:
            facts["host"] = question.session.helo
        return facts


def may_relay(question: Question) -> bool:
    """Whether a binding that may has accepted for the session or the transaction."""
    transaction = question.transaction
    return question.session.standing.may_relay or (transaction is not None and transaction.standing.may_relay)
