"""Hand-over before the 250: the next server is asked while our sender waits, and its answer is ours.

Strategy: at RCPT a probe with the real sender; at end-of-data one message for all recipients, sent only if all of them
are still taken, so that a refusal leaves nothing behind and the sender can repeat without a second copy. Only two
things can't be undone, and both are the protocol's: an answer lost after the final dot (451, the sender repeats), and a
server that answers for each recipient singly (LMTP). It is given one recipient a message, so that its answer is one.
Nothing is queued, nothing is bounced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatepost.delivery.attempt import Answered, Letter, Probe
from gatepost.delivery.destinations import Destinations
from gatepost.delivery.route import Hop, Lmtp
from gatepost.delivery.said import LOST, NO_ANSWER, one_line, passed_on
from gatepost.model import Blob, Body, Envelope, Path, Recipient, Reply
from gatepost.model.origin import Origin
from gatepost.wire.smtp.client_events import Phase

log = logging.getLogger("gatepost.delivery")

ASK_S = 25.0  # for the answer at RCPT; the question there has a budget of 30 s
GIVE_S = 480.0  # for the answer at end-of-data; our sender waits 600 s  # rfc5321#4.5.3.2.6
LEARNED_S = 600.0  # how long a number of recipients that was too many is heeded

_ONE_AT_A_TIME = Reply(452, "4.5.3", "one recipient at a time for this server, send to this one separately")
_UNREADABLE = Reply(451, "4.3.0", "the message can't be read back here, try again later")
_TOO_MANY = Reply(452, "4.5.3", "too many recipients for the next server, send to this one separately")


@dataclass(frozen=True, slots=True)
class HandedOver:
    """What became of a message. `reply` is positive if and only if the next server has it for at least one recipient;
    whom it doesn't have it for then is in `refused` (only LMTP can bring that about).
    """

    reply: Reply
    refused: tuple[tuple[Recipient, Reply], ...] = ()
    answers: tuple[Answered, ...] = ()
    """What was said, and by whom; empty where nobody answered in time."""


class HandOver:
    """Gives mail to next servers while senders wait. Holds nothing but how many recipients were too many for whom."""

    def __init__(
        self,
        destinations: Destinations,
        *,
        monotonic: Callable[[], float],
        ask_s: float = ASK_S,
        give_s: float = GIVE_S,
    ) -> None:
        """`monotonic` is a clock in seconds; `ask_s` and `give_s` bound the answers at RCPT and at end-of-data."""
        self._destinations = destinations
        self._monotonic = monotonic
        self._ask_s = ask_s
        self._give_s = give_s
        self._too_many: dict[Hop, tuple[int, float]] = {}

    async def recipient(
        self,
        hop: Hop,
        sender: Path,
        recipient: Recipient,
        *,
        earlier: int = 0,
        size: int = 0,
        body: Body = Body.SEVEN_BIT,
        origin: Origin | None = None,
    ) -> Reply | None:
        """None if the next server takes the recipient, else the refusal; 451 4.4.1 where it can't be asked.

        `earlier` counts the recipients the message has already, `size` is what the sender announced, in octets, or 0;
        `origin` is the client, for a server that is told.
        """
        if isinstance(hop, Lmtp) and earlier:
            return _ONE_AT_A_TIME
        limit, until = self._too_many.get(hop, (0, 0.0))
        if limit and earlier >= limit and self._monotonic() < until:
            return _TOO_MANY
        try:
            async with asyncio.timeout(self._ask_s):
                [answer] = await self._destinations.probe(hop, Probe(sender, (recipient,), size, body, origin=origin))
        except TimeoutError:
            log.warning("%s wasn't answered for within %g s at the next server", recipient, self._ask_s)
            return NO_ANSWER
        reply = passed_on(answer.outcome)
        if reply.is_positive:
            return None
        log.info("%s, asked for %s: %s", answer.host, recipient, answer.outcome.reply)
        return reply

    async def message(self, hop: Hop, envelope: Envelope, content: Blob, *, origin: Origin | None = None) -> HandedOver:
        """Give the message to the next server, to all recipients or to none; its answer is ours."""
        try:
            letter = Letter.of(envelope, envelope.recipients, content, is_for_all=True, origin=origin)
        except OSError:
            log.exception("a message from %s can't be read back", envelope.sender)
            return HandedOver(_UNREADABLE)
        try:
            async with asyncio.timeout(self._give_s):
                answers = await self._destinations.deliver(hop, letter)
        except TimeoutError:
            log.warning("a message from %s wasn't taken or refused within %g s", envelope.sender, self._give_s)
            return HandedOver(LOST)
        for answer in answers:
            if not answer.outcome.reply.is_positive:
                log.info("%s, given a message for %s: %s", answer.host, answer.outcome.recipient, answer.outcome.reply)
        self._learn(hop, answers)
        return _conclude(answers)

    def _learn(self, hop: Hop, answers: Sequence[Answered]) -> None:
        """So many were taken before one was too many: the next message for this server is given no more."""
        outcomes = [answer.outcome for answer in answers if answer.outcome.phase is Phase.RECIPIENT]
        taken = sum(outcome.is_left_out for outcome in outcomes)
        if taken and any(_is_too_many(outcome.reply) for outcome in outcomes):
            self._too_many[hop] = (taken, self._monotonic() + LEARNED_S)


def _conclude(answers: Sequence[Answered]) -> HandedOver:
    outcomes = [answer.outcome for answer in answers]
    said = [(outcome.recipient, passed_on(outcome)) for outcome in outcomes if not outcome.is_left_out]
    taken = [reply for _, reply in said if reply.is_positive]
    refused = tuple((recipient, reply) for recipient, reply in said if not reply.is_positive)
    if taken:
        return HandedOver(taken[0], refused, tuple(answers))
    recipient, reply = next(((r, reply) for r, reply in refused if not reply.is_permanent), refused[0])
    if len(said) < len(outcomes) or any(one.is_permanent != reply.is_permanent for _, one in refused):
        # taken a moment ago: the sender, who repeats it all, hears at RCPT who is refused
        text = one_line(f"{recipient} was refused after all, so nobody was sent it: {reply.text}")
        reply = Reply(451, "4.5.3" if _is_too_many(reply) else "4.3.0", text)
    return HandedOver(reply, (), tuple(answers))


def _is_too_many(reply: Reply) -> bool:
    """rfc5321#4.5.3.1.10; the same code with another status is about a mailbox or a disk."""
    return reply.code == _TOO_MANY.code and reply.status in ("", "4.0.0", "4.5.3")
