"""What an attempt comes to: from each recipient's answer to one settlement of its entry. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gatepost.delivery.notice import Answer, Failure, Policy
from gatepost.delivery.route import Host
from gatepost.delivery.schedule import Schedule
from gatepost.model import Recipient, Reply, fact
from gatepost.store import Deposit, Entry, Fate, RecipientOutcome


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

    @property
    def said(self) -> str:
        """What the operator is shown."""
        return "" if self.reply is None else str(self.reply).replace("\n", " ")


@fact
class Settlement:
    """What the spool is told, in one step; and who heard of the failures."""

    results: tuple[Result, ...]
    outcomes: tuple[RecipientOutcome, ...]
    next_attempt: float | None
    held: str | None
    deposits: tuple[Deposit, ...]
    told: Answer


def settle(
    entry: Entry, results: Sequence[Result], *, now: float, chance: float, schedule: Schedule, policy: Policy
) -> Settlement:
    """The settlement of an attempt that ended at `now` (s, Unix time); `chance` is a fraction for the jitter."""
    told = policy.decide(entry)
    if all(result.fate is Fate.DONE for result in results):  # as nearly always
        return Settlement(tuple(results), _outcomes(results), None, None, (), told)
    wait = schedule.wait_s(entry.attempts + 1, now - entry.since, chance)
    is_expired = wait is None
    waiting = [] if is_expired else [result for result in results if result.fate is Fate.LATER]
    failures = [
        Failure(r.recipient, r.reply or _NO_WORD, r.host, r.is_ours, r.fate is Fate.LATER)
        for r in results
        if r.fate is Fate.FAILED or (is_expired and r.fate is Fate.LATER)
    ]
    results = tuple(
        Result(r.recipient, Fate.FAILED, r.reply, r.host, r.is_ours) if is_expired and r.fate is Fate.LATER else r
        for r in results
    )
    next_attempt = now + wait if wait is not None and waiting else None
    if not failures:
        return Settlement(results, _outcomes(results), next_attempt, None, (), told)
    deposits = policy.notice(entry, told, failures, now)
    if told is Answer.REPORT:
        return Settlement(results, _outcomes(results), next_attempt, None, tuple(deposits), told)
    reason = f"undeliverable: {failures[0].recipient}: {_brief(failures[0].reply)}"
    if waiting:
        deposits.append(policy.held_copy(entry, failures, reason))
        return Settlement(results, _outcomes(results), next_attempt, None, tuple(deposits), told)
    kept = {failure.recipient for failure in failures}
    outcomes = _outcomes(
        [Result(r.recipient, Fate.LATER, r.reply) if r.recipient in kept else r for r in results]
    )  # who failed stays in the entry, which is held for them
    return Settlement(results, outcomes, None, reason, tuple(deposits), told)


def postpone(results: Sequence[Result], *, now: float, schedule: Schedule) -> Settlement:
    """The settlement where a bug keeps us from a better one: who has the message leaves, all others wait for long."""
    results = tuple(r if r.fate is Fate.DONE else Result(r.recipient, Fate.LATER, r.reply) for r in results)
    return Settlement(results, _outcomes(results), now + schedule.longest_s, None, (), Answer.HOLD)


_NO_WORD = Reply(451, "4.3.0", "no answer")


def _outcomes(results: Sequence[Result]) -> tuple[RecipientOutcome, ...]:
    return tuple(RecipientOutcome(result.recipient, result.fate, result.said) for result in results)


def _brief(reply: Reply) -> str:
    return str(reply).replace("\n", " ")[:200]
