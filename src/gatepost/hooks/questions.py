"""What is asked and what comes of it: the question, its outcome, and the house that is asked like anybody else."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gatepost.hooks import stages
from gatepost.hooks.bindings import Binding
from gatepost.hooks.session import Session
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import PROCEED, Verdict
from gatepost.model import Recipient, Reply


@dataclass(slots=True)
class Question:
    """One moment in one session: what the stage's event is made of."""

    stage: type[stages.Event]
    session: Session
    pending: Reply
    transaction: Transaction | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """The stage's own fields, by name; what plugins change about them is changed here."""
    size: int | None = None
    """Octets of the message, as far as known."""


_OK = Reply(250)


@dataclass(slots=True)
class Outcome:
    """What became of a question. `each` holds every recipient's verdict where the chain runs for each of them
    (`message`, `submitted`, `expanded`); elsewhere it is empty."""

    verdict: Verdict = PROCEED
    by: str = "house"
    binding: Binding | None = None
    pending: Reply = _OK
    """The positive reply as it would be said now, with the text a plugin gave it."""
    each: dict[Recipient, tuple[Verdict, str]] = field(default_factory=dict)


class House(Protocol):
    """The server's own policy, asked at its place in the chain."""

    stages: frozenset[type[stages.Event]]
    """Where it has an opinion; elsewhere it isn't asked."""

    def ask(self, question: Question, *, may_relay: bool) -> Verdict | Awaitable[Verdict]:
        """The house's verdict; `may_relay` if a binding that is allowed to has accepted."""

    def admits(self, session: Session, recipient: Recipient) -> str | None:
        """Why a recipient added by a plugin can't be had from this session; None if it can."""
