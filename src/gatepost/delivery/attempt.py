"""One attempt to give a message to a next server, or to ask it about one: host after host, until each recipient has
an answer.

Strategy: recipients wait; a host is asked over as many sessions and messages as it needs (RCPTMAX, MAILMAX, 452 for
"enough in one message"), and whoever it puts off before the end of data is offered to the next host. After the end of
data nobody is: the host may have the message, and another one would be a second copy (U1). What is for all recipients
or for none goes in one message, to the next host only as a whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from gatepost.content.headers import read_section
from gatepost.delivery.connection import Connection, Unreachable
from gatepost.delivery.introducing import introduced
from gatepost.delivery.route import Host
from gatepost.model import Blob, Body, Bytes, Envelope, Path, Recipient, Reply
from gatepost.model.origin import Origin
from gatepost.wire.smtp.client_events import NOT_SENT, Outcome, Phase, Purpose, Transaction

_TOO_MANY = 452  # rfc5321#4.5.3.1.10
OnProgress = Callable[[Host, Phase, int], None]
"""Takes the host, the phase and how many octets of content have been written to it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message for some recipients of one destination. `smtputf8`: the content needs RFC 6531; `is_for_all`: nobody
    gets it where one of them is refused before the content; `requiretls`: nobody gets it over a connection that isn't
    proven (RFC 8689). `ret` and `envid` are MAIL's parameters (RFC 3461), "" where there is none. `on_progress` hears
    of every step.
    """

    sender: Path
    recipients: tuple[Recipient, ...]
    content: Blob
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    is_for_all: bool = False
    requiretls: bool = False
    on_progress: OnProgress | None = field(default=None, compare=False)
    origin: Origin | None = None
    """The client that has brought it, where the next server is to be told."""
    ret: str = ""
    envid: str = ""

    @classmethod
    def of(
        cls,
        envelope: Envelope,
        recipients: Iterable[Recipient],
        content: Blob,
        *,
        is_for_all: bool = False,
        origin: Origin | None = None,
    ) -> Letter:
        """The letter to some of an envelope's recipients."""
        # what the client declared needs RFC 6531 only if the header section isn't ASCII; addresses speak for themselves
        smtputf8 = envelope.smtputf8 and not read_section(content).raw.isascii()
        asked = envelope.parameters
        return cls(
            envelope.sender,
            tuple(recipients),
            content,
            envelope.body,
            smtputf8,
            is_for_all,
            origin=origin,
            requiretls="REQUIRETLS" in asked,
            ret=asked.get("RET", "").upper(),
            envid=asked.get("ENVID", ""),
        )

    def transaction(self, batch: tuple[Recipient, ...]) -> Transaction:
        """The command sequence for some of the recipients."""
        purpose = Purpose.MESSAGE_TO_ALL if self.is_for_all else Purpose.MESSAGE
        return Transaction(
            self.sender,
            batch,
            self.content.size,
            self.body,
            self.smtputf8,
            purpose,
            self.ret,
            self.envid,
            self.requiretls,
        )


_NOTHING = Bytes(b"")


@dataclass(frozen=True, slots=True)
class Probe:
    """A question about some recipients of one destination: would a message from this sender be taken?

    `size` in octets, 0 where it isn't known.
    """

    sender: Path
    recipients: tuple[Recipient, ...]
    size: int = 0
    body: Body = Body.SEVEN_BIT
    content: Blob = _NOTHING
    is_for_all: bool = False
    origin: Origin | None = None

    def transaction(self, batch: tuple[Recipient, ...]) -> Transaction:
        """The command sequence for some of the recipients."""
        return Transaction(self.sender, batch, self.size, self.body, purpose=Purpose.PROBE)


Errand = Letter | Probe


@dataclass(frozen=True, slots=True)
class Answered:
    """A recipient's outcome, and which host it came from; None where there was none to ask. With `rest_s` nobody was
    asked: every host is left alone for now, the first of them for so long (s).
    """

    outcome: Outcome
    host: Host | None
    rest_s: float | None = None


Take = Callable[[], Awaitable[Connection | Unreachable]]
Give = Callable[[Connection], None]


class Attempt:
    """One errand, host after host. Invariant: a recipient is waiting, or has its answer."""

    def __init__(self, errand: Errand, *, hosts_max: int | None = None) -> None:
        """`hosts_max` is how many hosts may be talked to; those that can't be reached don't count."""
        self._errand = errand
        self._hosts_left = hosts_max
        self._waiting = list(errand.recipients)
        self._answers: dict[Recipient, Answered] = {}

    @property
    def origin(self) -> Origin | None:
        """For whom it is sent."""
        return self._errand.origin

    @property
    def is_over(self) -> bool:
        """Whether no other host is to be asked."""
        return not self._waiting or self._hosts_left == 0

    @property
    def answers(self) -> list[Answered]:
        """Every recipient's answer, in order; there is one once a host was asked, or failed."""
        return [self._answers[recipient] for recipient in self._errand.recipients]

    async def ask(self, host: Host, take: Take, give: Give) -> Unreachable | None:
        """One host, over sessions from `take`, which `give` has back; why it couldn't be reached."""
        failure = await self._ask(host, take, give)
        self._waiting = self._whom_to_ask_elsewhere()
        if failure is None and self._hosts_left is not None:
            self._hosts_left -= 1
        return failure

    def fail(self, host: Host, why: Unreachable) -> None:
        """The host can't be reached, as others have just found out."""
        self._note_unreachable(host, why)
        self._waiting = self._whom_to_ask_elsewhere()

    def put_off(self, host: Host, why: Reply, rest_s: float) -> None:
        """The host isn't asked before `rest_s` seconds are over. Whoever waits may be offered to others."""
        for recipient in self._waiting:
            earlier = self._answers.get(recipient)
            if earlier is None:
                self._answers[recipient] = Answered(Outcome(recipient, why, Phase.CONNECT, is_ours=True), host, rest_s)
            elif earlier.rest_s is not None:
                self._answers[recipient] = replace(earlier, rest_s=min(earlier.rest_s, rest_s))

    def forgive(self, host: Host, rest_s: float) -> None:
        """What the host has just failed at isn't held against anybody: it has too much to do with us already."""
        for recipient, answer in self._answers.items():
            if answer.host is host and answer.outcome.is_ours and answer.outcome.reply.code // 100 == 4:
                self._answers[recipient] = replace(answer, rest_s=rest_s)

    def _whom_to_ask_elsewhere(self) -> list[Recipient]:
        recipients = self._errand.recipients
        again = {recipient for recipient in recipients if _may_go_elsewhere(self._answers[recipient].outcome)}
        if self._errand.is_for_all and len(again) < len(set(recipients)):
            return []
        return [recipient for recipient in recipients if recipient in again]

    async def _ask(self, host: Host, take: Take, give: Give) -> Unreachable | None:
        """As many sessions as it takes; afterwards nobody waits."""
        while self._waiting:
            if isinstance(self._errand, Letter) and self._errand.on_progress is not None:
                self._errand.on_progress(host, Phase.CONNECT, 0)
            connection = await take()
            if isinstance(connection, Unreachable):
                self._note_unreachable(host, connection)
                return connection
            try:
                await self._use(connection)
            except BaseException:
                connection.abort()
                raise
            finally:
                give(connection)
        return None

    async def _use(self, connection: Connection) -> None:
        """One session, over as many messages as it takes and gives; who still waits then needs another session."""
        errand = self._errand
        is_first = True  # what a new session says of itself too early is heard as the answer to its first message
        while self._waiting and (is_first or connection.can_send):
            is_first = False
            batch = tuple(self._waiting)
            if not errand.is_for_all:
                if (limit := connection.domains_max) is not None:
                    batch = _of_domains(batch, limit)
                batch = batch[: connection.recipients_at_once]
            elif connection.recipients_max is not None and len(batch) > connection.recipients_max:
                self._say_too_many(connection.host, connection.recipients_max)
                return
            hear = errand.on_progress if isinstance(errand, Letter) else None
            told = None if hear is None else partial(hear, connection.host)
            by = connection.introduces
            refused = None if by is None else await introduced(connection, by, errand.origin)
            if refused is None:
                outcomes = await connection.send(errand.transaction(batch), errand.content, told)
            elif isinstance(refused, Reply):
                outcomes = tuple(Outcome(one, refused, Phase.INTRODUCTION) for one in batch)
            elif connection.is_reused and connection.is_over:
                return
            else:
                outcomes = tuple(Outcome(one, refused.reply, refused.phase, is_ours=True) for one in batch)
            if connection.is_reused and connection.is_over and _has_come_too_late(outcomes):
                return
            connection.is_reused = True
            is_enough = not errand.is_for_all and any(
                o.reply.code != _TOO_MANY and o.phase is not Phase.SENDER for o in outcomes
            )
            later = {o.recipient for o in outcomes if is_enough and _is_too_many(o)}
            for outcome in outcomes:
                if outcome.recipient not in later:
                    self._note(connection.host, outcome)
            answered = set(batch) - later
            self._waiting = [recipient for recipient in self._waiting if recipient not in answered]

    def _say_too_many(self, host: Host, limit: int) -> None:
        """What is for all and has more recipients than the host takes at once: nobody gets it."""
        for at, recipient in enumerate(self._waiting):
            if at < limit:
                outcome = Outcome(recipient, NOT_SENT, Phase.RECIPIENT, is_ours=True)
            else:  # the host's own word, said in EHLO instead of to RCPT
                reply = Reply(_TOO_MANY, "4.5.3", f"no more than {limit} recipients at once")
                outcome = Outcome(recipient, reply, Phase.RECIPIENT)
            self._note(host, outcome)
        self._waiting = []

    def _note_unreachable(self, host: Host, why: Unreachable) -> None:
        for recipient in self._waiting:
            earlier = self._answers.get(recipient)
            if earlier is None or earlier.outcome.is_ours:  # what a host said tells more than that another is silent
                self._note(host, Outcome(recipient, why.reply, why.phase, is_ours=True))
        self._waiting = []

    def _note(self, host: Host, outcome: Outcome) -> None:
        self._answers[outcome.recipient] = Answered(outcome, host)


def _of_domains(recipients: tuple[Recipient, ...], limit: int) -> tuple[Recipient, ...]:
    """Those of the first `limit` domains (rfc9422#4)."""
    domains = {*[*dict.fromkeys(recipient.domain for recipient in recipients)][:limit]}
    return tuple(recipient for recipient in recipients if recipient.domain in domains)


def _may_go_elsewhere(outcome: Outcome) -> bool:
    return not (outcome.reply.is_positive or outcome.reply.is_permanent or outcome.phase is Phase.END_OF_DATA)


def _is_too_many(outcome: Outcome) -> bool:
    return outcome.phase is Phase.RECIPIENT and outcome.reply.code == _TOO_MANY


def _has_come_too_late(outcomes: tuple[Outcome, ...]) -> bool:
    """Whether a kept session had ended before the server heard of this message."""
    return all(o.phase is Phase.SENDER and (o.is_ours or o.reply.code == 421) for o in outcomes)
