"""A transaction's content as it arrives: into the draft, past the header section's judges, or swallowed.

What is refused here is said at end-of-data, as SMTP wants it; what comes after it is taken and not kept.
"""

from __future__ import annotations

import asyncio
import logging

from gatepost.content.headers import Section, TooLarge
from gatepost.content.intake import forged_results, submission_edits
from gatepost.content.received import count_received, date
from gatepost.content.view import Views
from gatepost.hooks import stages
from gatepost.hooks.questions import Outcome, Question
from gatepost.hooks.records import describe_edit
from gatepost.hooks.session import Session
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import Discard, Hangup, Refuse
from gatepost.model import Recipient, Reply
from gatepost.serving.conclusion import stage_refusal
from gatepost.serving.intake import Intake, ReceivedFields
from gatepost.serving.place import Place
from gatepost.store.draft import Draft
from gatepost.store.errors import SpoolFailure, SpoolFull
from gatepost.wire.smtp import events
from gatepost.wire.smtp.server import ServerSession

log = logging.getLogger("gatepost.serving")

ACCEPTED = Reply(250, "2.0.0", "accepted")
TOO_MANY_HOPS = Reply(554, "5.4.6", "this message has been through too many servers")  # rfc5321#6.3
DISK_FULL = Reply(452, "4.3.1", "no room for this message now, try again later")
NOT_STORED = Reply(451, "4.3.0", "the message couldn't be stored, try again later")


class Arriving:
    """A transaction under way, and what is there of its content.

    While `awaits_content`, more of it has to come until `content_deadline`, in the loop's seconds.
    """

    # fmt: off
    __slots__ = (
        "_early", "_heard", "_intake", "_is_data_asked", "_late", "_late_by", "_loop", "_machine", "_mail", "_place",
        "_received", "_section", "_session", "awaits_content", "content_deadline", "transaction",
    )
    # fmt: on

    def __init__(self, place: Place, machine: ServerSession, session: Session) -> None:
        self._place = place
        self._loop = asyncio.get_running_loop()
        self._machine = machine
        self._session = session
        self.transaction: Transaction | None = None
        self.awaits_content = False
        self.content_deadline = 0.0
        self._mail: events.Mail | None = None
        self._heard: list[Recipient] = []
        """Every RCPT that was answered with 250, in order: who is answered singly by LMTP and PRDR."""
        self._intake: Intake | None = None
        self._section: Section | None = None
        self._early: Section | TooLarge | None = None
        """A header section that came before its Data question (BDAT)."""
        self._is_data_asked = False
        self._late: Reply | None = None
        """A refusal that waits for end-of-data."""
        self._late_by = "house"
        self._received = ReceivedFields(place, session)

    @property
    def is_open(self) -> bool:
        """Whether a transaction is under way."""
        return self.transaction is not None

    def _begin_intake(self) -> Intake:
        if self._intake is None:
            place, transaction = self._place, self._open
            self._late, self._late_by, self._section, self._early = None, "house", None, None
            draft: Draft | None = None
            try:
                draft = place.spool.draft(transaction.ticket)
            except SpoolFull:
                self._late = DISK_FULL
            except SpoolFailure:
                log.exception("no content can be kept; token %s", self._session.id)
                self._late = NOT_STORED
            extended, utf8 = self._machine.extended, self._utf8
            received = self._received.field(transaction, extended=extended, utf8=utf8)
            self._intake = Intake(draft, received, place.policy)
            self.awaits_content = True
            self.content_deadline = self._loop.time() + place.timeouts.content
        return self._intake

    async def ready(self) -> None:
        """Back-pressure, before more content is read. A failing disk is said at end-of-data, not here."""
        if self._intake is not None:
            try:
                await self._intake.ready()
            except SpoolFull:
                self._swallow(DISK_FULL)
            except SpoolFailure:
                log.exception("content couldn't be written; token %s", self._session.id)
                self._swallow(NOT_STORED)

    async def chunk(self, event: events.Chunk) -> None:
        """Content octets."""
        found = self._begin_intake().write(event.data)
        if found is not None and self._is_data_asked:
            await self._header_section(found)
        elif found is not None:
            self._early = found

    def farewell(self) -> Reply | None:
        """What to say before hanging up in the middle of the content, if that was decided; recorded, so ask once."""
        if not self.awaits_content or self._late is None or self._late.code != 421:
            return None
        self._record("message", reply=str(self._late), by=self._late_by, edits=self._described_edits())
        return self._late

    async def _header_section(self, found: Section | TooLarge) -> None:
        place, session, transaction, intake = self._place, self._session, self._open, self._intake
        assert intake is not None
        if isinstance(found, TooLarge):
            self._swallow(Reply(552, "5.3.4", str(found)))
            return
        self._section = found
        if count_received(found) > place.policy.max_hops:
            self._swallow(TOO_MANY_HOPS)
            return
        if forged := forged_results(found, place.profile.hostname, place.policy.stripped_headers):
            transaction.edits[:0] = forged
        if place.policy.complete_headers:
            transaction.edits += submission_edits(
                found,
                date=date(*place.clock.unix()),
                message_id=f"{transaction.ticket}@{place.profile.hostname}",
                sender=transaction.sender,
            )
        if stages.Headers not in place.dispatcher.chains:
            return
        transaction.content = Views(intake.header_blob(found), utf8=self._utf8, files=place.files)
        question = Question(
            stages.Headers, session, ACCEPTED, transaction, size=self._mail.size if self._mail else None
        )
        outcome = await place.dispatcher.ask(question)
        if (refused := self._negative(stages.Headers, outcome)) is not None:
            self._swallow(refused, outcome.by)
        elif isinstance(outcome.verdict, Discard):
            intake.swallow()

    def _swallow(self, reply: Reply, by: str = "house") -> None:
        """Take the rest and keep nothing; this is said at the end."""
        self._late, self._late_by = reply, by
        if self._intake is not None:
            self._intake.swallow()

    # ── small questions ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _open(self) -> Transaction:
        if self.transaction is None:
            raise RuntimeError("there is no transaction")
        return self.transaction

    @property
    def _utf8(self) -> bool:
        return self._mail is not None and self._mail.smtputf8

    def _described_edits(self) -> list[str]:
        transaction = self.transaction
        return [] if transaction is None else [describe_edit(edit)[:200] for edit in transaction.edits[:50]]

    def _verbatim(self, outcome: Outcome) -> bool:
        return self._place.policy.verbatim or (outcome.binding is not None and outcome.binding.verbatim)

    def _negative(self, stage: type[stages.Event], outcome: Outcome) -> Reply | None:
        """The refusal to say, if the outcome is one."""
        match outcome.verdict:
            case Refuse(said):
                return stage_refusal(stage, said, self._session.id, self._verbatim(outcome))
            case Hangup(said):
                reply = stage_refusal(stage, said, self._session.id)
                return Reply(421, "4" + reply.status[1:], reply.text)
            case _:
                return None

    def _record(self, kind: str, **facts: object) -> None:
        if self.transaction is not None:
            facts["transaction"] = self.transaction.ticket.number
        self._place.recorder.record(self._session.id, kind, facts)
