"""After the 250: plugins at `submitted` and `expanded` are asked about an entry when delivery first takes it up.

Strategy: what everybody lets pass goes on to its attempt at once, and is noted with that attempt's settlement, as are
texts that plugins want kept. What was changed becomes new entries, and what was refused, held or thrown away leaves,
all in one settlement; so a crash before it asks again, and one after it never does. A failure, and a refusal for now,
changes nothing: the entry is asked about again later, and held when its time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

from gatepost.content.view import Files, Views
from gatepost.delivery.notice import Answer
from gatepost.delivery.outbound import about, about_texts, apart, closed, is_bound, pause
from gatepost.delivery.settlement import Arrival, Result, Settlement
from gatepost.delivery.texts import changed, facts_of, texts_of
from gatepost.hooks import stages
from gatepost.hooks.dispatcher import Dispatcher
from gatepost.hooks.effects import EFFECTS
from gatepost.hooks.ports import Patience, Recorder
from gatepost.hooks.questions import Outcome, Question
from gatepost.hooks.replies import refusal
from gatepost.hooks.session import Holder, Session
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import Discard, Quarantine, Refuse, Take, Verdict
from gatepost.model import Blob, Envelope, Peer, Recipient, Reply
from gatepost.store import Deposit, Entry, Fate, RecipientOutcome

ASKED = "asked"
"""The note, or a new entry's fact, that names the last of these stages that an entry has passed; "" if it has begun."""
PARTS = 10_000  # new entries that one may become: its recipients are fewer

Decide = Callable[[Entry, Sequence[Result]], Settlement]
"""What an attempt with these results comes to."""
Stage = type[stages.Event]

_ORDER: tuple[Stage, ...] = (stages.Submitted, stages.Expanded)
_AT: Mapping[str, int] = {"": 0, "submitted": 1, "expanded": 2}  # how many of them have been passed
_NOBODY = Peer(IPv4Address(0))
_OK = Reply(250)
_NOT_OURS = frozenset({"notice-of", "held-from"})  # facts of what we wrote ourselves, or have asked about before


class Submission:
    """Asks, for one worker. Where nobody is bound, an entry costs one look."""

    def __init__(
        self,
        dispatcher: Callable[[], Dispatcher],
        *,
        patience: Patience,
        recorder: Recorder,
        files: Files | None = None,
    ) -> None:
        """`dispatcher` gives the present one: delivery outlives reloads."""
        self._dispatcher = dispatcher
        self._patience = patience
        self._recorder = recorder
        self._files = files
        self._seen: Dispatcher | None = None
        self._is_wanted = self._is_out = False
        self._kept: dict[str, list[Holder]] = {}

    def begin(self, entry: Entry) -> tuple[Stage, ...]:
        """An attempt begins: what is to be asked before it. To be called in the attempt's own task."""
        dispatcher = self._dispatcher()
        if dispatcher is not self._seen:
            self._seen = dispatcher
            self._is_out = is_bound(dispatcher)
            self._is_wanted = not stages.AFTERWARDS.isdisjoint(dispatcher.chains)
        if self._is_out:
            about.set(entry.ticket)
            about_texts.set(texts_of(entry))
        return self._due(entry, dispatcher) if self._is_wanted else ()

    async def take_up(self, entry: Entry, due: Sequence[Stage], decide: Decide) -> Entry | Settlement:
        """The entry as its attempt is to be made, or what it has come to without one. When that is settled, `over` is
        to be called.
        """
        for stage in due:
            dispatcher = self._dispatcher()
            if stage not in dispatcher.chains:
                continue  # a reload has come between
            transaction, stored = self._transaction(entry)
            session = self._session(entry)
            question = Question(stage, session, _OK, transaction, size=entry.content.size)
            self._kept.setdefault(entry.id, []).extend((transaction.holder, session.holder))
            outcome = await apart(dispatcher.ask(question))
            if (later := _put_off(outcome)) is not None:
                return self._again(entry, stage, later, decide)
            if not _is_plain(entry, transaction, outcome):
                return self._change(entry, stage, transaction, stored, outcome, decide)
            entry = replace(entry, notes={**entry.notes, **changed(entry, transaction.kept), ASKED: stage.name})
        if self._is_out:
            about_texts.set(texts_of(entry))
        return replace(entry, notes={**entry.notes, ASKED: stages.Expanded.name})

    def over(self, entry: Entry) -> None:
        """What came of it is settled: what plugins kept for it, files that they gave among it, is closed beside."""
        for holder in self._kept.pop(entry.id, ()):
            if holder.seal():
                self._patience.spawn(closed(holder))

    def _due(self, entry: Entry, dispatcher: Dispatcher) -> tuple[Stage, ...]:
        passed = entry.notes.get(ASKED)
        if passed is None:
            if entry.attempts or not _NOT_OURS.isdisjoint(entry.facts):
                return ()  # under way before anybody was bound, or our own
            passed = entry.facts.get(ASKED, "")
        return tuple(stage for stage in _ORDER[_AT.get(passed, 0) :] if stage in dispatcher.chains)

    def _session(self, entry: Entry) -> Session:
        """What is left of the session it came by: its token, and who had authenticated."""
        return Session(
            id=entry.ticket.token,
            listener="",
            protocol="",
            peer=_NOBODY,
            local=("", 0),
            started=datetime.fromtimestamp(entry.received_at, UTC),
            patience=self._patience,
            user=entry.authenticated,
        )

    def _transaction(self, entry: Entry) -> tuple[Transaction, Views]:
        envelope = entry.envelope
        stored = Views(entry.content, utf8=envelope.smtputf8, files=self._files, pause=pause)
        transaction = Transaction(
            entry.ticket,
            envelope.sender,
            envelope.parameters,
            recipients=list(envelope.recipients),
            content=stored,
            kept=texts_of(entry),
        )
        return transaction, stored

    def _again(self, entry: Entry, stage: Stage, reply: Reply, decide: Decide) -> Settlement:
        """Asked about again later; held when the time is over, since nobody has refused it."""
        results = [Result(r, Fate.LATER, reply, is_ours=True) for r in entry.envelope.recipients]
        settlement = decide(entry, results)
        notes = {**entry.notes, **(settlement.notes or {}), ASKED: entry.notes.get(ASKED) or entry.facts.get(ASKED, "")}
        if settlement.next_attempt is not None:
            return replace(settlement, notes=notes)
        outcomes = tuple(RecipientOutcome(r, Fate.LATER, str(reply)) for r in entry.envelope.recipients)
        held = f"{stage.name}: plugins couldn't be asked until its time was over"
        return Settlement((), outcomes, None, held, (), Answer.HOLD, notes)

    def _change(
        self,
        entry: Entry,
        stage: Stage,
        transaction: Transaction,
        stored: Views,
        outcome: Outcome,
        decide: Decide,
    ) -> Settlement:
        """One settlement: what goes on or is held becomes new entries, everything else leaves."""
        here = entry.envelope.recipients
        refused = {
            one: _refusal(verdict, stage, entry)
            for one, (verdict, _) in outcome.each.items()
            if isinstance(verdict, Refuse)
        }
        results = [
            Result(one, Fate.FAILED, refused[one], is_ours=True)
            if one in refused
            else Result(one, Fate.DONE, arrival=Arrival.PASSED_ON)
            for one in here
        ]
        settlement = decide(entry, results)
        deposits = self._deposits(entry, stage, transaction, stored, outcome)
        self._record(entry, stage, transaction, outcome)
        return replace(
            settlement,
            results=tuple(result for result in settlement.results if result.fate is not Fate.DONE),
            deposits=(*deposits, *settlement.deposits),
            # who was refused and may not be told is held in the old entry; an operator who releases it wants it sent
            notes={**entry.notes, **changed(entry, transaction.kept), ASKED: stages.Expanded.name},
            records=tuple(
                ("discarded", str(entry.ticket), str(entry.envelope.sender), str(one), by, verdict.reason)
                for one, (verdict, by) in outcome.each.items()
                if isinstance(verdict, Discard)
            ),
        )

    def _deposits(
        self, entry: Entry, stage: Stage, transaction: Transaction, stored: Views, outcome: Outcome
    ) -> list[Deposit]:
        made: list[Deposit] = []
        envelope = entry.envelope
        for members, edits in transaction.groups():
            content: Blob = stored.with_edits(edits) if edits else entry.content
            by_fate: dict[str | None, list[Recipient]] = {}
            for one in members:
                verdict, _ = outcome.each.get(one, (None, ""))
                if isinstance(verdict, Quarantine):
                    by_fate.setdefault(verdict.reason or stage.name, []).append(one)
                elif not isinstance(verdict, Refuse | Discard | Take):
                    by_fate.setdefault(None, []).append(one)
            for held, recipients in by_fate.items():
                addresses = {recipient.address for recipient in recipients}
                made.append(
                    Deposit(
                        entry.ticket,
                        Envelope(
                            transaction.sender,
                            tuple(recipients),
                            envelope.body,
                            envelope.smtputf8,
                            envelope.parameters,
                        ),
                        content,
                        entry.received_at,
                        held,
                        entry.authenticated,
                        (entry.part + 1) * PARTS + len(made),
                        {address: route for address, route in entry.routes.items() if address in addresses},
                        {**facts_of(entry), **changed(entry, transaction.kept), ASKED: stage.name},
                    )
                )
        return made

    def _record(self, entry: Entry, stage: Stage, transaction: Transaction, outcome: Outcome) -> None:
        """What became of whom; the plugins' own words are in the record of the question."""
        told = {
            str(one): [_FATES[type(verdict)], by]
            for one, (verdict, by) in list(outcome.each.items())[:100]
            if type(verdict) in _FATES
        }
        facts: dict[str, Any] = {"stage": stage.name, "transaction": entry.ticket.number, "each": told}
        if transaction.sender != entry.envelope.sender:
            facts["sender"] = str(transaction.sender)
        self._recorder.record(entry.ticket.token, "changed", facts)


_FATES: Mapping[type, str] = {Refuse: "refused", Quarantine: "held", Discard: "discarded", Take: "taken"}


def _put_off(outcome: Outcome) -> Reply | None:
    """The first refusal for now, if there is one."""
    for verdict, _ in outcome.each.values():
        if isinstance(verdict, Refuse) and isinstance(verdict.reply, Reply) and 400 <= verdict.reply.code < 500:
            return verdict.reply
    return None


def _refusal(verdict: Verdict, stage: Stage, entry: Entry) -> Reply:
    assert isinstance(verdict, Refuse)
    effect = EFFECTS[(stage, Refuse)]
    return refusal(verdict.reply, code=effect.code, status=effect.status, token=str(entry.ticket))


def _is_plain(entry: Entry, transaction: Transaction, outcome: Outcome) -> bool:
    """Whether it goes on as it is."""
    return (
        not (transaction.edits or transaction.splits)
        and transaction.sender == entry.envelope.sender
        and transaction.recipients == list(entry.envelope.recipients)
        and all(type(verdict) not in _FATES for verdict, _ in outcome.each.values())
    )
