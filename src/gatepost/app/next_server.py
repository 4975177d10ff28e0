"""Before another server: reception's questions about recipients, and its messages, put to delivery's ports.

Two ways, by route: asking ahead and remembering (`recipients = "ask"`), or handing over, where every answer is the next
server's own (`handover = "before-reply"`).
"""

from __future__ import annotations

import logging
import os
import time

from gatepost import delivery
from gatepost.delivery.ahead import Memory
from gatepost.delivery.outbound import about, about_texts
from gatepost.delivery.route import Hop
from gatepost.hooks.questions import Question
from gatepost.hooks.session import Session
from gatepost.hooks.transaction import Transaction
from gatepost.model import NULL_PATH, Blob, Body, Envelope, Recipient, Reply
from gatepost.serving.house import Existence, HandOver
from gatepost.serving.origins import origin_of

log = logging.getLogger("gatepost")

_LABEL = 32  # octets of our name in a random local part, which has 64 in all  # rfc5321#4.5.3.1.1


class CallAhead:
    """Existence by asking ahead: one for all routes, so that what is remembered and under way is shared."""

    def __init__(self, destinations: delivery.Destinations, memory: Memory, hostname: str) -> None:
        label = hostname.strip("[]").partition(".")[0][:_LABEL]
        name = label if label.replace("-", "").isalnum() and label.isascii() else "gatepost"
        self._ahead = delivery.CallAhead(destinations, memory, clock=time.time, entropy=os.urandom, name=name)

    def existence(self, hop: Hop) -> Existence:
        """What the gate of a route to this server asks."""

        async def exists(question: Question) -> Reply | None:
            recipient: Recipient = question.facts["recipient"]
            return await self._ahead.ask(hop, recipient)

        return exists

    async def accepts_everything(self, hop: Hop, domain: str) -> bool | None:
        """Whether asking this server is useless, since it takes any address of the domain; None if it doesn't say."""
        return await self._ahead.accepts_everything(hop, domain)


class HandOvers:
    """Hand-over to next servers: the questions at RCPT and the message at end-of-data belong together."""

    def __init__(self, destinations: delivery.Destinations) -> None:
        self._over = delivery.HandOver(destinations, monotonic=time.monotonic)

    def pair(self, hop: Hop) -> tuple[Existence, HandOver]:
        """What the gate of a route to this server asks at RCPT, and whom it gives the message to."""

        async def exists(question: Question) -> Reply | None:
            transaction = question.transaction
            recipient: Recipient = question.facts["recipient"]
            origin = None if hop.introduce is None else origin_of(question.session)
            if transaction is None:
                return await self._over.recipient(hop, NULL_PATH, recipient, origin=origin)
            return await self._over.recipient(
                hop,
                transaction.sender,
                recipient,
                earlier=len(transaction.recipients) - (recipient in transaction.recipients),
                size=_size(transaction),
                body=_body(transaction),
                origin=origin,
            )

        async def hand_over(session: Session, transaction: Transaction, envelope: Envelope, content: Blob) -> Reply:
            asked_about = about.set(transaction.ticket)  # for plugins that are asked on its way
            asked_texts = about_texts.set(transaction.kept)
            try:
                handed = await self._over.message(
                    hop, envelope, content, origin=None if hop.introduce is None else origin_of(session)
                )
            finally:
                about.reset(asked_about)
                about_texts.reset(asked_texts)
            for recipient, reply in handed.refused:
                # only where a plugin has added recipients for a server that answers each singly
                log.error("%s: the next server has it, but not for %s: %s", transaction.ticket, recipient, reply)
            return handed.reply

        return exists, hand_over


def _size(transaction: Transaction) -> int:
    """What the sender announced (RFC 1870), 0 for nothing."""
    announced = transaction.parameters.get("SIZE", "")
    return int(announced) if announced.isascii() and announced.isdigit() and len(announced) <= 18 else 0


def _body(transaction: Transaction) -> Body:
    """What the sender announced (RFC 6152, RFC 3030)."""
    announced = transaction.parameters.get("BODY", "").upper()
    return Body(announced) if announced in _BODIES else Body.SEVEN_BIT


_BODIES = frozenset(body.value for body in Body)
