"""What an attempt comes to: from each recipient's answer to one settlement of its entry. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum

from gatepost.delivery.notice import WARNED, Answer, Failure, Occasion, Policy, Success, Wait, wants
from gatepost.delivery.route import Host, Lmtp
from gatepost.delivery.schedule import Schedule
from gatepost.model import Recipient, Reply, fact
from gatepost.store import Deposit, Entry, Fate, RecipientOutcome


class Arrival(Enum):
    """How far a message got that was taken, and so who can tell the sender (rfc3461#5.2)."""

    __hash__ = object.__hash__

    DELIVERED = "delivered"  # into a mailbox: we tell, if it is wanted
    RELAYED = "relayed"  # to a server that doesn't know DSN: we tell that it went there
    PASSED_ON = "passed on"  # to a server that knows what is wanted, and tells

    @classmethod
    def at(cls, hop: object, *, is_blind: bool) -> Arrival:
        """Where a message is that was taken by the next server of this hop; `is_blind` if that doesn't offer DSN."""
        if isinstance(hop, Lmtp):
            return cls.DELIVERED  # rfc2033#4.2: its 250 is about the mailbox
        return cls.RELAYED if is_blind else cls.PASSED_ON


@fact
class Result:
    """One recipient after an attempt. `reply` is None where mail went into a maildrop or nowhere. With `rest_s` nobody
    was asked: the destination is left alone for so long (s).
    """

    recipient: Recipient
    fate: Fate
    reply: Reply | None = None
    host: Host | None = None
    is_ours: bool = False
    rest_s: float | None = None
    arrival: Arrival = Arrival.DELIVERED
    """Of a recipient that is done."""
    deposits: tuple[Deposit, ...] = ()
    """What its mail goes on as: committed in the very step in which it leaves."""
    told: str = ""
    """Who was told of a failure, for the observer."""

    @property
    def said(self) -> str:
        """What the operator is shown."""
        return "" if self.reply is None else str(self.reply).replace("\n", " ")


@fact
class Settlement:
    """What the spool is told, in one step; and who heard of the failures. `notes` are those from now on, if there are
    other ones than before; `records` tell of what leaves it unsent.
    """

    results: tuple[Result, ...]
    outcomes: tuple[RecipientOutcome, ...]
    next_attempt: float | None
    held: str | None
    deposits: tuple[Deposit, ...]
    told: Answer
    notes: Mapping[str, str] | None = None
    records: tuple[tuple[object, ...], ...] = ()


def settle(
    entry: Entry, results: Sequence[Result], *, now: float, chance: float, schedule: Schedule, policy: Policy
) -> Settlement:
    """The settlement of an attempt that ended at `now` (s, Unix time); `chance` is a fraction for the jitter."""
    told = policy.decide(entry)
    for result in results:
        if result.fate is not Fate.DONE or result.recipient.parameters:
            break
    else:  # everybody has it, and nobody wants to hear of it, as nearly always
        return Settlement(tuple(results), _outcomes(results), None, None, (), told)
    deposits = _of_successes(entry, results, now, policy)
    if all(result.fate is Fate.DONE for result in results):
        return Settlement(tuple(results), _outcomes(results), None, None, tuple(deposits), told)
    wait = schedule.wait_s(entry.attempts + 1, now - entry.since, chance)
    is_expired = wait is None
    waiting = [] if is_expired else [result for result in results if result.fate is Fate.LATER]
    failures = [
        Failure(r.recipient, r.reply or _NO_WORD, r.host, r.is_ours, r.fate is Fate.LATER)
        for r in results
        if r.fate is Fate.FAILED or (is_expired and r.fate is Fate.LATER)
    ]
    if told is not Answer.HOLD:  # what the sender doesn't want to hear of is nobody's business but the record's
        failures = [failure for failure in failures if wants(failure.recipient, Occasion.FAILURE)]
    notable = {failure.recipient for failure in failures}
    results = tuple(_final(r, told if r.recipient in notable else Answer.UNWANTED, is_expired) for r in results)
    next_attempt = now + wait if wait is not None and waiting else None
    notes: Mapping[str, str] | None = None
    if waiting and policy.warns(entry, now):
        waits = [Wait(r.recipient, r.reply or _NO_WORD, r.host, r.is_ours) for r in waiting]
        if warning := policy.delay(entry, waits, now, entry.since + schedule.expire_s):
            deposits += warning
            notes = {**entry.notes, WARNED: str(int(now))}
    if not failures:
        return Settlement(results, _outcomes(results), next_attempt, None, tuple(deposits), told, notes)
    deposits += policy.notice(entry, told, failures, now)
    if told is Answer.REPORT:
        return Settlement(results, _outcomes(results), next_attempt, None, tuple(deposits), told, notes)
    reason = f"undeliverable: {failures[0].recipient}: {_brief(failures[0].reply)}"
    if waiting:
        deposits.append(policy.held_copy(entry, failures, reason))
        return Settlement(results, _outcomes(results), next_attempt, None, tuple(deposits), told, notes)
    outcomes = _outcomes(
        [Result(r.recipient, Fate.LATER, r.reply) if r.recipient in notable else r for r in results]
    )  # who failed stays in the entry, which is held for them
    return Settlement(results, outcomes, None, reason, tuple(deposits), told)


def postpone(results: Sequence[Result], *, now: float, schedule: Schedule) -> Settlement:
    """The settlement where a bug keeps us from a better one: who has the message leaves, all others wait for long."""
    results = tuple(r if r.fate is Fate.DONE else Result(r.recipient, Fate.LATER, r.reply) for r in results)
    return Settlement(results, _outcomes(results), now + schedule.longest_s, None, (), Answer.HOLD)


def _of_successes(entry: Entry, results: Sequence[Result], now: float, policy: Policy) -> list[Deposit]:
    """What a sender hears who asked to be told of successes; nearly nobody does."""
    successes = [
        Success(r.recipient, r.reply, r.host, r.arrival is Arrival.RELAYED)
        for r in results
        if r.recipient.parameters and r.fate is Fate.DONE and r.arrival is not Arrival.PASSED_ON
    ]
    return policy.success(entry, successes, now) if successes else []


def _final(result: Result, told: Answer, is_expired: bool) -> Result:
    """The result as it counts: who waits has failed once the time is up."""
    if result.fate is Fate.DONE or (result.fate is Fate.LATER and not is_expired):
        return result
    return replace(result, fate=Fate.FAILED, told=told.value)


_NO_WORD = Reply(451, "4.3.0", "no answer")


def _outcomes(results: Sequence[Result]) -> tuple[RecipientOutcome, ...]:
    return tuple(RecipientOutcome(result.recipient, result.fate, result.said) for result in results)


def _brief(reply: Reply) -> str:
    return str(reply).replace("\n", " ")[:200]
