"""What makes recipients of one message different for the house, and what a RCPT leaves behind that is refused.

Where a client hears one reply for all, recipients whose copies would be judged by other plugins, or be given to another
server, are sent separately, so that each sender hears its own answer. A person's mail client doesn't: it shows the 452
and gives up. So who has authenticated isn't asked to; one refusal is then for all, and its text is shown.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace

from gatepost.hooks import stages
from gatepost.hooks.session import Session
from gatepost.hooks.transaction import Transaction
from gatepost.model import Path, Recipient
from gatepost.serving.house import HandOver
from gatepost.serving.place import Disagreement, Place


def taker(place: Place, recipient: Recipient, sender: Path, user: str | None) -> HandOver | None:
    """Who is given the recipient's mail while its sender waits; None where it is queued."""
    if not place.house.hands_over:
        return None
    gate = place.house.gate_for(recipient, sender, user)
    return None if gate is None else gate.hand_over


def next_server_of(
    place: Place, queued: Iterable[Recipient], over: Container[Recipient], sender: Path, user: str | None
) -> str:
    """Who has answered in our place about a message that was handed over, for the record."""
    gate = next((place.house.gate_for(recipient, sender, user) for recipient in queued if recipient in over), None)
    return "the next server" if gate is None else f"the next server {gate.to}".rstrip()


def are_alike(
    place: Place, session: Session, transaction: Transaction, first: Recipient, other: Recipient, *, heard_singly: bool
) -> bool:
    """Whether one reply can be true for both."""
    sender, user = transaction.sender, session.user
    if taker(place, first, sender, user) != taker(place, other, sender, user):
        return False
    if heard_singly or user is not None or place.policy.recipients_disagree is not Disagreement.ONE_POLICY:
        return True
    chains = place.dispatcher.chains
    if transaction.is_silenced(first) is not transaction.is_silenced(other):
        return all(one.always or one.shadow for one in chains.get(stages.Message, ()))
    for stage in (stages.Data, stages.Headers, stages.Message):
        for binding in chains.get(stage, ()):
            rule = binding.rule
            if rule is None or binding.shadow:
                continue
            if len(rule.among(session.helo, transaction.sender, (first, other))) == 1:
                return False
    return True


class Before:
    """How things stood before a question about a recipient: a RCPT that is refused in the end changes none of them."""

    __slots__ = ("_known", "_own", "_recipient", "_session", "_silenced", "_snapshot", "_transaction")

    def __init__(self, session: Session, transaction: Transaction, recipient: Recipient) -> None:
        self._session, self._transaction, self._recipient = session, transaction, recipient
        self._snapshot = transaction.snapshot()
        self._known = len(transaction.recipients)
        self._silenced = (session.standing.silenced, transaction.standing.silenced)
        own = transaction.standings.get(recipient)
        self._own = None if own is None else replace(own)

    def restore(self) -> None:
        session, transaction = self._session, self._transaction
        known = self._snapshot[0][: self._known]  # the list itself grows when the recipient is taken
        came = [recipient for recipient in transaction.recipients if recipient not in known]
        for recipient in (*came, self._recipient):
            transaction.standings.pop(recipient, None)
        if self._own is not None:
            transaction.standings[self._recipient] = self._own
        session.standing.silenced, transaction.standing.silenced = self._silenced
        transaction.restore(self._snapshot)
        transaction.recipients = known
