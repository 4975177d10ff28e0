"""In whose custody an accepted message goes: what the spool is given, and what the next server is, at once.

Pure: the message as it was judged comes in, deposits or the one letter to hand over come out.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field

from gatepost.content.view import Views
from gatepost.hooks.transaction import Transaction
from gatepost.model import Body, ContentEdit, Envelope, Recipient, Reply, fact
from gatepost.serving.conclusion import Fate, Plan, parts
from gatepost.serving.house import HandOver
from gatepost.serving.intake import Intake
from gatepost.store.spool import Deposit

log = logging.getLogger("gatepost.serving")

_NOTHING: Mapping[str, str] = {}


def _nothing() -> Mapping[str, str]:
    return _NOTHING


NOT_TOGETHER = Reply(451, "4.5.3", "these recipients get different messages, send to them separately")


@fact
class Accepted:
    """A message that was judged: its envelope apart from the recipients, and who sent it."""

    transaction: Transaction
    body: Body
    smtputf8: bool
    user: str | None
    facts: Mapping[str, str] = field(default_factory=_nothing)
    """What is kept with it."""

    def envelope(self, recipients: Sequence[Recipient]) -> Envelope:
        """The envelope to some of its recipients."""
        transaction = self.transaction
        return Envelope(transaction.sender, tuple(recipients), self.body, self.smtputf8, transaction.parameters)


def deposits(
    accepted: Accepted,
    made: Plan,
    over: Collection[Recipient],
    intake: Intake,
    content: Views | None,
    received_at: float,
) -> list[Deposit]:
    """What is kept, a deposit for each content and fate; those `over` are another server's already."""
    transaction = accepted.transaction
    found: list[Deposit] = []
    for recipients, edits, held in parts(transaction, made, over):
        blob = content.with_edits(edits) if content is not None and edits else None
        found.append(
            Deposit(
                ticket=transaction.ticket,
                envelope=accepted.envelope(recipients),
                content=intake.draft if blob is None else blob,
                received_at=received_at,
                held=held,
                authenticated=accepted.user,
                part=len(found),
                facts=accepted.facts,
            )
        )
    return found


@fact
class Letter:
    """What is handed over while the sender waits: by whom, to whom, and the edits its content needs."""

    by: HandOver
    recipients: tuple[Recipient, ...]
    edits: Sequence[ContentEdit]


def letter(transaction: Transaction, made: Plan, over: Mapping[Recipient, HandOver]) -> Letter | Reply | None:
    """The one letter of those `over`; None where nobody is, a refusal where there would have to be several: the next
    server's one answer is ours.
    """
    queued = tuple(recipient for recipient in made.having(Fate.QUEUE) if recipient in over)
    if not queued:
        return None
    takers = {over[recipient] for recipient in queued}
    groups = [edits for members, edits in transaction.groups() if any(member in queued for member in members)]
    if len(takers) > 1 or len(groups) > 1:
        log.error("%s can't be handed over: its recipients get different content or servers", transaction.ticket)
        return NOT_TOGETHER
    return Letter(takers.pop(), queued, groups[0])
