"""Who is told what became of a message: the sender by a report, the postmaster by a notice, or nobody. Never by chance.

The decisions are pure. Authenticated senders, and senders in our own domains, are told by a report. Anybody else's
address may be forged, and a report to it would be backscatter (L4): the message is held and the postmaster told; of a
delay or a success nobody is. A message with the null sender is a report itself: it is held, and nothing is sent that
could go round (L2). What a client asked for by NOTIFY (RFC 3461 §4.1) narrows that: who wants no notice of a failure
gets none, and the failure is only recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from gatepost.content import dsn
from gatepost.delivery.return_paths import ReturnPaths
from gatepost.delivery.route import Hop, Host, Mx
from gatepost.delivery.texts import facts_of
from gatepost.model import NULL_PATH, Blob, Body, Bytes, Envelope, Path, Recipient, Reply, Ticket, xtext
from gatepost.store import Deposit, Entry

EXPIRED = "4.4.7"  # rfc3463#3.5: delivery time expired
WARNED = "warned"
"""The note that remembers when a sender was told of a delay (s, Unix time)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A recipient that won't have the message: the last word on it, whose it was, and whether time just ran out."""

    recipient: Recipient
    reply: Reply
    host: Host | None = None
    is_ours: bool = False
    is_expired: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """A recipient that doesn't have the message yet: the last word on it, and whose it was."""

    recipient: Recipient
    reply: Reply
    host: Host | None = None
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Success:
    """A recipient that has the message (`is_relayed` False), or whose next server has it and won't tell of it."""

    recipient: Recipient
    reply: Reply | None = None
    host: Host | None = None
    is_relayed: bool = False


class Answer(Enum):
    """Who is told of a failure. The values are what an observer hears."""

    REPORT = "sender"
    HOLD_AND_TELL = "postmaster"
    HOLD = ""
    UNWANTED = "nobody, as the sender asked"


class Occasion(Enum):
    """What a sender may want to be told of. The values are NOTIFY's words (rfc3461#4.1)."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


def wants(recipient: Recipient, occasion: Occasion) -> bool:
    """Whether the sender wants to be told; who didn't say hears of failures and delays (rfc3461#4.1)."""
    asked = recipient.parameters.get("NOTIFY") if recipient.parameters else None
    if asked is None:
        return occasion is not Occasion.SUCCESS
    return occasion.value in asked.upper().split(",")


def decide(sender: Path, authenticated: str | None, is_own: Callable[[Path], bool]) -> Answer:
    """Who is told that a message of this sender failed; `is_own` says whether an address is in our domains."""
    if not sender:
        return Answer.HOLD
    if authenticated is not None or is_own(sender):
        return Answer.REPORT
    return Answer.HOLD_AND_TELL


@dataclass(frozen=True, slots=True)
class Manner:
    """What settings say about it, which may be others after a reload."""

    warn_s: float = 0.0
    """Seconds after which a sender is told of a delay, once; 0: never."""
    returned_max: int = 65536
    """Octets of a message that a report brings back at most."""
    return_paths: ReturnPaths | None = None
    """How return paths are made; None: everything leaves with its sender."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What notices need: our name, whose addresses are ours, where the postmaster reads, and new tickets."""

    hostname: str
    postmaster: Path
    is_own: Callable[[Path], bool]
    new_ticket: Callable[[], Ticket]
    offset_s: int = 0
    """Seconds east of UTC, for the dates in notices."""
    manner: Callable[[], Manner] = Manner

    def decide(self, entry: Entry) -> Answer:
        """Who is told of a failure of this entry."""
        return decide(entry.envelope.sender, entry.authenticated, self.is_own)

    def return_path(self, entry: Entry, hop: Hop | Mx, recipients: Sequence[Recipient], now: float) -> Path:
        """The sender an entry leaves with by this hop."""
        paths = self.manner().return_paths
        sender = entry.envelope.sender
        return sender if paths is None else paths.of(sender, entry.authenticated, hop, recipients, now)

    def warns(self, entry: Entry, now: float) -> bool:
        """Whether it is time to tell the sender that this entry is late, and nobody has yet."""
        warn_s = self.manner().warn_s
        if not warn_s or now - entry.since < warn_s or WARNED in entry.notes:
            return False
        return self.decide(entry) is Answer.REPORT

    def notice(self, entry: Entry, answer: Answer, failures: Sequence[Failure], now: float) -> list[Deposit]:
        """The message that tells of failures, to be committed with the settlement; none for Answer.HOLD."""
        if answer not in (Answer.REPORT, Answer.HOLD_AND_TELL):
            return []
        outcomes = [_failure(failure, now) for failure in failures]
        if answer is Answer.REPORT:
            return [self._report(entry, outcomes, now)]
        ticket = self.new_ticket()
        content = dsn.render_postmaster_notice(self._about(entry, ticket, now), self.postmaster.address, outcomes)
        return [self._deposit(ticket, self.postmaster, content, now, entry)]

    def delay(self, entry: Entry, waits: Sequence[Wait], now: float, until: float) -> list[Deposit]:
        """The report that recipients don't have the message yet, and that it is tried `until` then (s, Unix time); none
        if the sender doesn't want to know. Only where `warns` says so.
        """
        outcomes = [_wait(wait, now, until) for wait in waits if wants(wait.recipient, Occasion.DELAY)]
        return [self._report(entry, outcomes, now)] if outcomes else []

    def success(self, entry: Entry, successes: Sequence[Success], now: float) -> list[Deposit]:
        """The reports that recipients have the message, where the sender asked for them and may be told."""
        wanted = [one for one in successes if wants(one.recipient, Occasion.SUCCESS)]
        if not wanted or self.decide(entry) is not Answer.REPORT:
            return []
        kinds = [[_success(one, now) for one in wanted if one.is_relayed is is_relayed] for is_relayed in (False, True)]
        return [self._report(entry, outcomes, now) for outcomes in kinds if outcomes]

    def expanded(self, entry: Entry, recipients: Sequence[Recipient], now: float) -> list[Deposit]:
        """The report that mail for these recipients went on to several, where the sender asked for it and may be told;
        failures may still follow (rfc3464#2.3.3).
        """
        wanted = [one for one in recipients if one.parameters and wants(one, Occasion.SUCCESS)]
        if not wanted or self.decide(entry) is not Answer.REPORT:
            return []
        return [self._report(entry, [dsn.Outcome(one, dsn.Action.EXPANDED, "2.0.0") for one in wanted], now)]

    def held_copy(self, entry: Entry, failures: Sequence[Failure], reason: str) -> Deposit:
        """The message for those who failed, held on its own, where others are still waiting for theirs."""
        recipients = tuple(failure.recipient for failure in failures)
        envelope = Envelope(
            entry.envelope.sender, recipients, entry.envelope.body, entry.envelope.smtputf8, entry.envelope.parameters
        )
        addresses = {recipient.address for recipient in recipients}
        routes = {address: route for address, route in entry.routes.items() if address in addresses}
        facts = {**facts_of(entry), "held-from": entry.id}
        return Deposit(
            self.new_ticket(), envelope, entry.content, entry.received_at, reason, entry.authenticated, 0, routes, facts
        )

    def _report(self, entry: Entry, outcomes: Sequence[dsn.Outcome], now: float) -> Deposit:
        ticket, parameters = self.new_ticket(), entry.envelope.parameters
        is_failure = outcomes[0].action is dsn.Action.FAILED
        content = dsn.render_report(
            self._about(entry, ticket, now),
            outcomes,
            # of other kinds only headers come back (rfc3461#6.2); what must travel encrypted doesn't (rfc8689#5)
            return_full=is_failure and parameters.get("RET", "").upper() == "FULL" and "REQUIRETLS" not in parameters,
            limit=self.manner().returned_max,
        )
        return self._deposit(ticket, entry.envelope.sender, content, now, entry)

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
            envid=xtext.decode(entry.envelope.parameters.get("ENVID", "")) or "",
        )

    def _deposit(self, ticket: Ticket, to: Path, content: bytes, now: float, about: Entry) -> Deposit:
        is_ascii = content.isascii()
        envelope = Envelope(
            NULL_PATH,  # rfc5321#4.5.5
            (Recipient(to),),
            Body.SEVEN_BIT if is_ascii else Body.EIGHT_BIT_MIME,
            smtputf8=to.needs_smtputf8,
            # what mustn't be read on its way there mustn't be read on its way back (rfc8689#5)
            parameters={"REQUIRETLS": ""} if "REQUIRETLS" in about.envelope.parameters else {},
        )
        blob: Blob = Bytes(content)
        facts: Mapping[str, str] = {"notice-of": about.id}
        return Deposit(ticket, envelope, blob, now, facts=facts)


def _failure(failure: Failure, now: float) -> dsn.Outcome:
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


def _wait(wait: Wait, now: float, until: float) -> dsn.Outcome:
    reply = wait.reply
    status = reply.status if reply.status.startswith("4.") else "4.0.0"
    said = None if wait.is_ours else reply
    remote = wait.host.name if wait.host is not None and said is not None else ""
    return dsn.Outcome(wait.recipient, dsn.Action.DELAYED, status, said, remote, reply.text, now, until)


def _success(success: Success, now: float) -> dsn.Outcome:
    action = dsn.Action.RELAYED if success.is_relayed else dsn.Action.DELIVERED
    remote = success.host.name if success.host is not None and success.reply is not None else ""
    return dsn.Outcome(success.recipient, action, "2.0.0", success.reply, remote, last_attempt=now)
