"""Asks the bindings of a stage, in order, and folds what they say into one outcome.

A question is asked of one binding at a time. A hook is stepped once; only one that suspends is handed to `Patience`, so
that a hook which answers at once costs neither a task nor a timer. A binding's edits are applied when its answer has
been found good, and are gone with it otherwise. The house stands in the chain at its own priority and is asked like
anybody else; what it refuses nobody can allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace

from gatepost.hooks import stages
from gatepost.hooks.bindings import HOUSE_PRIORITY, Binding
from gatepost.hooks.ports import Clock, Patience, Recorder
from gatepost.hooks.questions import House, Outcome, Question
from gatepost.hooks.run import Budgets, Means, Run, may_relay
from gatepost.hooks.session import ServerView
from gatepost.hooks.verdicts import PROCEED, Discard, Quarantine
from gatepost.model import Recipient

_PROMISES: dict[str, type] = {"quarantine": Quarantine, "discard": Discard}


class Dispatcher:
    """The bindings of one generation, by stage and in order. Immutable; sessions keep theirs until they end."""

    def __init__(
        self,
        bindings: Iterable[Binding],
        *,
        server: ServerView,
        house: House,
        clock: Clock,
        patience: Patience,
        recorder: Recorder,
        budget: Budgets,
        never: frozenset[str] = frozenset(),
    ) -> None:
        self.bindings = tuple(sorted(bindings, key=lambda binding: (binding.priority, binding.last)))
        self.server = server
        kept = tuple(kind for word, kind in _PROMISES.items() if word in never)
        self._means = Means(server, house, clock.monotonic, patience, recorder, budget, kept)
        self.chains: dict[type[stages.Event], tuple[Binding, ...]] = {}
        for stage in {binding.stage for binding in self.bindings}:
            self.chains[stage] = tuple(binding for binding in self.bindings if binding.stage is stage)
        self._prepared_stages = {binding.stage for binding in self.bindings if binding.prepare is not None}

    def with_house(self, house: House) -> Dispatcher:
        """The same chain with another house in it."""
        twin = copy(self)
        twin._means = replace(self._means, house=house)
        return twin

    async def ask(self, question: Question) -> Outcome:
        """Ask everybody concerned, the house among them. Raises only what ends the session itself."""
        outcome = Outcome(pending=question.pending)
        if question.stage not in self.chains and question.stage not in stages.PER_RECIPIENT:
            house = self._means.house
            if question.stage not in house.stages:
                return outcome
            began = self._means.monotonic()
            verdict = house.ask(question, may_relay=may_relay(question))
            if verdict is not PROCEED:  # which it nearly always is, at once
                run = Run(self._means, question, outcome, None)
                await run.hear_house(verdict, began)
                run.settle()
            return outcome
        subjects: Sequence[Recipient] | None = None
        if question.stage in stages.PER_RECIPIENT and question.transaction is not None:
            subjects = question.transaction.recipients
        run = Run(self._means, question, outcome, subjects)
        chain = self.chains.get(question.stage, ())
        house_waits = question.stage in self._means.house.stages
        try:
            if question.stage in self._prepared_stages:
                run.prepare(chain)
            for at, binding in enumerate(chain):
                if house_waits and binding.priority >= HOUSE_PRIORITY:
                    house_waits = False
                    if (asking := run.ask_house()) is not None:
                        await asking
                if run.is_over:
                    run.record_unasked(chain[at:])
                    break
                if (asking := run.ask(binding)) is not None:
                    await asking
            # what is thrown away mustn't be for a recipient we don't take
            if house_waits and not run.is_refused and (asking := run.ask_house()) is not None:
                await asking
        finally:
            run.end_preparations()
        run.settle()
        return outcome

    async def ask_again(self, question: Question, binding: Binding) -> Outcome:
        """Ask only the binding that took over the conversation (Converse)."""
        outcome = Outcome(pending=question.pending)
        run = Run(self._means, question, outcome, None)
        await run.go_on(binding)
        return outcome
