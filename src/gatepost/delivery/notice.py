"""What happens when a recipient will never have a message that was accepted: somebody hears of it, and never nobody.

The decision is pure. Authenticated senders, and senders in our own domains, are told by a report. Anybody else's
address may be forged, and a report to it would be backscatter (L4): the message is held and the postmaster told. A
message with the null sender is a report itself: it is held, and nothing is sent that could go round (L2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from gatepost.content import dsn
from gatepost.delivery.route import Host
from gatepost.model import NULL_PATH, Blob, Body, Bytes, Envelope, Path, Recipient, Reply, Ticket
from gatepost.store import Deposit, Entry

EXPIRED = "4.4.7"  # rfc3463#3.5: delivery time expired


@dataclass(frozen=True, slots=True)
class Failure:
    """A recipient that won't have the message: the last word on it, whose it was, and whether time just ran out."""

    recipient: Recipient
    reply: Reply
    host: Host | None = None
    is_ours: bool = False
    is_expired: bool = False


class Answer(Enum):
    """Who is told of a failure. The values are what an observer hears."""

    REPORT = "sender"
    HOLD_AND_TELL = "postmaster"
    HOLD = ""


def decide(sender: Path, authenticated: str | None, is_own: Callable[[Path], bool]) -> Answer:
    """Who is told that a message of this sender failed; `is_own` says whether an address is in our domains."""
    if not sender:
        return Answer.HOLD
    if authenticated is not None or is_own(sender):
        return Answer.REPORT
    return Answer.HOLD_AND_TELL


@dataclass(frozen=True, slots=True)
class Policy:
    """What notices need: our name, whose addresses are ours, where the postmaster reads, and new tickets."""

    hostname: str
    postmaster: Path
    is_own: Callable[[Path], bool]
    new_ticket: Callable[[], Ticket]
    offset_s: int = 0
    """Seconds east of UTC, for the dates in notices."""

    def decide(self, entry: Entry) -> Answer:
        """Who is told of a failure of this entry."""
        return decide(entry.envelope.sender, entry.authenticated, self.is_own)

    def notice(self, entry: Entry, answer: Answer, failures: Sequence[Failure], now: float) -> list[Deposit]:
        """The message that tells of it, to be committed with the settlement; none for Answer.HOLD."""
        if answer is Answer.HOLD:
            return []
        ticket = self.new_ticket()
        about = self._about(entry, ticket, now)
        outcomes = [_outcome(failure, now) for failure in failures]
        if answer is Answer.REPORT:
            return [self._deposit(ticket, entry.envelope.sender, dsn.render_failure(about, outcomes), now, entry.id)]
        content = dsn.render_postmaster_notice(about, self.postmaster.address, outcomes)
        return [self._deposit(ticket, self.postmaster, content, now, entry.id)]

    def held_copy(self, entry: Entry, failures: Sequence[Failure], reason: str) -> Deposit:
        """The message for those who failed, held on its own, where others are still waiting for theirs."""
        recipients = tuple(failure.recipient for failure in failures)
        envelope = Envelope(
            entry.envelope.sender, recipients, entry.envelope.body, entry.envelope.smtputf8, entry.envelope.parameters
        )
        addresses = {recipient.address for recipient in recipients}
        routes = {address: route for address, route in entry.routes.items() if address in addresses}
        facts = {**entry.facts, "held-from": entry.id}
        return Deposit(
            self.new_ticket(), envelope, entry.content, entry.received_at, reason, entry.authenticated, 0, routes, facts
        )

    def _about(self, entry: Entry, ticket: Ticket, now: float) -> dsn.About:
        return dsn.About(
            hostname=self.hostname,
            ticket=entry.id,
            sender=entry.envelope.sender,
            content=entry.content,
            arrival=entry.received_at,
            now=now,
            boundary=f"gatepost-{ticket}",
            message_id=f"{ticket}@{self.hostname}",
            offset_s=self.offset_s,
            smtputf8=entry.envelope.smtputf8,
        )

    def _deposit(self, ticket: Ticket, to: Path, content: bytes, now: float, about: str) -> Deposit:
        is_ascii = content.isascii()
        envelope = Envelope(
            NULL_PATH,  # rfc5321#4.5.5
            (Recipient(to),),
            Body.SEVEN_BIT if is_ascii else Body.EIGHT_BIT_MIME,
            smtputf8=to.needs_smtputf8,
        )
        blob: Blob = Bytes(content)
        facts: Mapping[str, str] = {"notice-of": about}
        return Deposit(ticket, envelope, blob, now, facts=facts)


def _outcome(failure: Failure, now: float) -> dsn.Outcome:
    reply = failure.reply
    if failure.is_expired:
        status, why = EXPIRED, f"no attempt succeeded in time; at last: {reply}"
    else:
        status, why = reply.status or f"{reply.code // 100}.0.0", reply.text
    said = None if failure.is_ours else reply
    remote = failure.host.name if failure.host is not None and said is not None else ""
    return dsn.Outcome(
        failure.recipient, dsn.Action.FAILED, status, reply=said, remote=remote, reason=why, last_attempt=now
    )
