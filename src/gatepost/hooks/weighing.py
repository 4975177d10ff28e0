"""What has come of one question so far: verdicts weighed, edits applied, and what of it sticks.

The gravest verdict wins, for each recipient where they are asked about one by one. An Accept silences others within its
scope, and never takes back what was said before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gatepost.hooks import stages
from gatepost.hooks.bindings import Binding
from gatepost.hooks.fold import ends_chain, graver
from gatepost.hooks.questions import Outcome, Question
from gatepost.hooks.session import Standing
from gatepost.hooks.transaction import Snapshot
from gatepost.hooks.verdicts import PROCEED, Accept, Discard, Quarantine, Respond, Scope, Verdict
from gatepost.model import AddRecipient, Edit, Recipient

_UNASKED: tuple[Verdict, str] = (PROCEED, "house")


class Weighing:
    """`outcome` is what has come of the question so far; `is_over`: nobody else's answer could change it."""

    __slots__ = (
        "_added",
        "_each",
        "_left",
        "_may_relay",
        "_prior",
        "_silenced",
        "is_over",
        "outcome",
        "question",
    )

    def __init__(self, question: Question, outcome: Outcome, subjects: Sequence[Recipient] | None) -> None:
        """`subjects` are those that the question is about one by one; None where it is one for all."""
        self.question = question
        self.outcome = outcome
        self._each = None if subjects is None else outcome.each
        self._may_relay = False
        self._silenced: set[Recipient | None] | None = None
        """For whom an Accept has silenced the rest of this chain; None stands for the question as a whole."""
        self._prior: tuple[Snapshot, bool, bool] | None = None
        self._added: list[Recipient] = []
        self.is_over = False
        transaction = question.transaction
        if transaction is not None and question.stage is stages.Recipient:
            session = question.session
            self._prior = (transaction.snapshot(), transaction.standing.silenced, session.standing.silenced)
        self._left: Sequence[Recipient] = ()
        """At `message`, those for whom the chain goes on."""
        if subjects is not None and transaction is not None:
            for recipient in subjects:
                standing = transaction.standings.get(recipient) if transaction.standings else None
                if standing is not None and standing.discard is not None:
                    outcome.each[recipient] = (Discard(standing.discard), "earlier")
                else:
                    outcome.each[recipient] = _UNASKED
            self._look_who_is_left()

    @property
    def is_refused(self) -> bool:
        """Whether the chain has ended in something that keeps the recipient or command out."""
        return self.is_over and not isinstance(self.outcome.verdict, Discard)

    def _apply(self, edits: Sequence[Edit]) -> None:
        transaction = self.question.transaction
        assert transaction is not None
        transaction.apply(edits)
        self._added += [edit.recipient for edit in edits if isinstance(edit, AddRecipient)]
        if self._each is not None:
            there = set(transaction.recipients)
            for recipient in transaction.recipients:
                self._each.setdefault(recipient, _UNASKED)
            for recipient, (verdict, _) in tuple(self._each.items()):
                if recipient not in there and not ends_chain(verdict):
                    del self._each[recipient]
            self._left = self._remaining()

    def _count_for(self, subjects: Sequence[Recipient], verdict: Verdict, binding: Binding) -> None:
        if verdict is PROCEED:
            return
        if self._each is None:
            self._count(verdict, binding.plugin, binding)
            return
        if isinstance(verdict, Accept):
            self._silence(verdict, subjects)
        for recipient in subjects:
            if recipient in self._each:
                standing, by = self._each[recipient]
                weighed = graver(standing, verdict)
                self._each[recipient] = (weighed, by if weighed is standing else binding.plugin)
        self._look_who_is_left()

    def _count(self, verdict: Verdict, by: str, binding: Binding | None) -> None:
        if verdict is PROCEED:
            return
        if type(verdict) is Respond and self.question.stage is stages.Replying:
            self._change_reply(verdict, by, binding)
            return
        weighed = graver(self.outcome.verdict, verdict)
        if weighed is not self.outcome.verdict:
            self.outcome.verdict, self.outcome.by, self.outcome.binding = weighed, by, binding
        if isinstance(verdict, Accept):
            self._silence(verdict, (), may_relay=binding is not None and binding.may_relay)
        self.is_over = ends_chain(weighed)

    def _change_reply(self, said: Respond, by: str, binding: Binding | None) -> None:
        """Another reply, which those who are asked later see; whoever wants the session's end gets it."""
        before = self.outcome.verdict
        if type(before) is Respond and before.closes:
            said = replace(said, closes=True)
        self.outcome.verdict, self.outcome.by, self.outcome.binding = said, by, binding
        self.outcome.pending = said.reply

    def _silence(self, verdict: Accept, subjects: Sequence[Recipient], *, may_relay: bool = False) -> None:
        """Within the scope, and in any case for the rest of this chain."""
        question, transaction = self.question, self.question.transaction
        if self._silenced is None:
            self._silenced = set()
        self._silenced.update(subjects or (None,))
        self._may_relay = self._may_relay or may_relay
        match verdict.scope:
            case Scope.SESSION:
                question.session.standing.silenced = True
                question.session.standing.may_relay = question.session.standing.may_relay or may_relay
            case Scope.TRANSACTION if transaction is not None:
                transaction.standing.silenced = True
                transaction.standing.may_relay = transaction.standing.may_relay or may_relay
            case Scope.RECIPIENT if transaction is not None:
                for recipient in subjects or (question.facts["recipient"],):
                    transaction.standing_of(recipient).silenced = True
            case _:
                pass

    def _look_who_is_left(self) -> None:
        self._left = self._remaining()
        self.is_over = not self._left

    def _remaining(self) -> list[Recipient]:
        return [recipient for recipient, (verdict, _) in self.outcome.each.items() if not ends_chain(verdict)]

    def settle(self) -> None:
        """What sticks: quarantine and discard before `message` wait for the commit; a refused RCPT changes nothing."""
        question, verdict = self.question, self.outcome.verdict
        if verdict is PROCEED:
            return
        transaction = question.transaction
        if self._prior is not None and transaction is not None and self.is_refused:
            snapshot, transaction.standing.silenced, question.session.standing.silenced = self._prior
            transaction.restore(snapshot)
            return
        if self._each is not None or not isinstance(verdict, (Quarantine, Discard)):
            return
        for standing in self._standings():
            if isinstance(verdict, Quarantine):
                standing.quarantine = standing.quarantine or verdict.reason
            else:
                standing.discard = standing.discard or verdict.reason

    def _standings(self) -> list[Standing]:
        """To what a quarantine or discard of this question sticks; at `recipient`, to who came in its place too."""
        question, transaction = self.question, self.question.transaction
        if transaction is None:
            return [question.session.standing]
        if question.stage is not stages.Recipient:
            return [transaction.standing]
        recipient = question.facts["recipient"]
        replaced = self._added if recipient in transaction.removed else ()
        return [transaction.standing_of(one) for one in (recipient, *replaced)]
