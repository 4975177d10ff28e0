"""Plugins around delivery, without a server: hooks bound as they would be, and a record of what was decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gatepost.delivery.outbound import Surroundings
from gatepost.hooks.dispatcher import Dispatcher
from gatepost.hooks.questions import Question
from gatepost.hooks.session import ServerView, Session
from gatepost.hooks.verdicts import PROCEED, Verdict
from gatepost.model import Recipient
from gatepost.plugins.python import load
from gatepost.serving.patience import LoopPatience, SystemClock
from gatepost.testing.rig import Records


class NoHouse:
    """A house that has nothing to say, but about recipients in closed.example."""

    stages: frozenset[Any] = frozenset()

    def ask(self, question: Question, *, may_relay: bool) -> Verdict:
        return PROCEED

    def admits(self, session: Session, recipient: Recipient) -> str | None:
        return "its route isn't open to this client" if recipient.domain == "closed.example" else None


class Plugins:
    """What a worker has of plugins. `hooks` may be changed between questions, as a reload would."""

    def __init__(self, *hooks: Callable[..., Any], budget_s: float = 5.0) -> None:
        self.records = Records()
        self.patience = LoopPatience()
        self._budget_s = budget_s
        self.bind(*hooks)
        self.around = Surroundings("me.example", lambda: self.dispatcher, self.patience, self.records)

    def bind(self, *hooks: Callable[..., Any]) -> None:
        """These, and no others any more."""
        clock = SystemClock()
        self.dispatcher = Dispatcher(
            [binding for hook in hooks for binding in load(hook).bindings],
            server=ServerView("me.example", clock),
            house=NoHouse(),
            clock=clock,
            patience=self.patience,
            recorder=self.records,
            budget=lambda stage: self._budget_s,
        )

    @property
    def asked(self) -> Sequence[str]:
        """The stages of every answer, in order."""
        return [facts["stage"] for facts in self.records.kinds("asked")]
