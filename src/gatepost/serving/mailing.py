"""The transactions of one session: MAIL, RCPT, DATA, end-of-data. The content between them is `arriving`'s.

A transaction's ticket exists from MAIL on. Nothing is promised before the spool's commit has returned; what the client
hears afterwards is only the news of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from gatepost.content.view import Views
from gatepost.hooks import stages
from gatepost.hooks.notices import Queued
from gatepost.hooks.questions import Question
from gatepost.hooks.session import Session
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import PROCEED, Verdict
from gatepost.model import Body, Recipient, Reply, Ticket
from gatepost.serving import custody
from gatepost.serving.arriving import ACCEPTED, DISK_FULL, NOT_STORED, Arriving
from gatepost.serving.conclusion import (
    Decision,
    Fate,
    Plan,
    discards,
    each_hears,
    plan,
    with_ticket,
)
from gatepost.serving.house import HandOver
from gatepost.serving.intake import Intake
from gatepost.serving.keeping import Closings
from gatepost.serving.origins import facts_of
from gatepost.serving.place import Place, names
from gatepost.serving.recipients import Before, are_alike, next_server_of, taker
from gatepost.serving.repeats import fingerprint_of
from gatepost.store.errors import SpoolFailure, SpoolFull
from gatepost.wire.smtp import events
from gatepost.wire.smtp.server import ServerSession

log = logging.getLogger("gatepost.serving")

SENDER_OK = Reply(250, "2.1.0", "sender ok")
RECIPIENT_OK = Reply(250, "2.1.5", "recipient ok")
GO_AHEAD = Reply(354, "", "send the message, end with a line that is a single dot")
CHUNK_OK = Reply(250, "2.0.0", "chunk taken")
ANOTHER_POLICY = Reply(452, "4.5.3", "this recipient has other rules, send to it separately")

_UNASKED: tuple[Verdict, str] = (PROCEED, "house")
"""What nobody was asked about."""


class Mailing(Arriving):
    """At most one transaction at a time. Invariant: a draft that was begun is discarded exactly once."""

    __slots__ = ("_before", "_began", "_closings", "_count", "_unheard", "accepted", "is_committing")

    def __init__(self, place: Place, machine: ServerSession, session: Session, closings: Closings) -> None:
        super().__init__(place, machine, session)
        self._closings = closings
        self._began = 0.0 if place.repeats is None else place.repeats.now()
        self._count = 0
        self._before: Before | None = None
        """How things stood before the recipient taken last, where that may be taken back."""
        self.accepted = 0
        """Messages answered with 250."""
        self.is_committing = False
        """From the hand-over to the writer on, a lost connection changes nothing any more."""
        self._unheard: tuple[Callable[[], str], str] | None = None
        """(its fingerprint, ticket) of what was accepted last for all, while nothing has come from the client since."""

    @property
    def begun(self) -> int:
        """MAIL commands so far."""
        return self._count

    # ── the envelope ───────────────────────────────────────────────────────────────────────────────────────────────

    async def mail(self, event: events.Mail) -> None:
        """MAIL: the ticket begins to exist."""
        self._count += 1
        session, place = self._session, self._place
        self._mail = event
        transaction = Transaction(Ticket(session.id, self._count), event.path, event.parameters)
        self.transaction, self._heard = transaction, []
        facts = {"parameters": event.parameters}
        outcome = await place.dispatcher.ask(
            Question(stages.Sender, session, SENDER_OK, transaction, facts, event.size)
        )
        if (refused := self._negative(stages.Sender, outcome)) is not None:
            self._record("sender", sender=str(event.path), reply=str(refused), by=outcome.by)
            self.forget()
            self._machine.answer(refused)
            return
        self._record("sender", sender=event.path.address)
        self._machine.answer(outcome.pending)

    async def rcpt(self, event: events.Rcpt) -> None:
        """RCPT: whether this recipient may have the message."""
        session, place, transaction = self._session, self._place, self._open
        returning = place.house.returning
        path = event.path if returning is None else returning.original(event.path, transaction.sender)
        recipient = Recipient(path, event.parameters)
        question = Question(stages.Recipient, session, RECIPIENT_OK, transaction, {"recipient": recipient})
        chains = place.dispatcher.chains
        may_change = stages.Recipient in chains or stages.Replying in chains
        self._before = before = Before(session, transaction, recipient) if may_change else None
        outcome = await place.dispatcher.ask(question)
        refused = self._negative(stages.Recipient, outcome)
        if refused is None and not self._is_like_the_first(recipient):
            refused = ANOTHER_POLICY
        if refused is not None:
            if before is not None:
                before.restore()
            self._record("recipient", recipient=str(recipient), reply=str(refused), by=outcome.by)
            self._machine.answer(refused)
            return
        self._heard.append(recipient)
        if recipient not in transaction.recipients and recipient not in transaction.removed:
            transaction.recipients.append(recipient)
        said = {} if path is event.path else {"said": event.path.address}
        self._record("recipient", recipient=path.address, **said)
        self._machine.answer(outcome.pending)

    def take_back(self, verb: str) -> None:
        """MAIL, the last RCPT or DATA is refused after all, before its reply was said."""
        if verb != "RCPT":
            self.forget()
        elif self._before is not None:
            self._before.restore()
            self._heard.pop()

    async def data(self, event: events.Data) -> None:
        """DATA, or the first BDAT: the last question before there is content."""
        session, place, transaction = self._session, self._place, self._open
        reply = CHUNK_OK if event.is_chunk else GO_AHEAD
        if stages.Data in place.dispatcher.chains:
            outcome = await place.dispatcher.ask(Question(stages.Data, session, reply, transaction))
            if (refused := self._negative(stages.Data, outcome)) is not None:
                self._record("data", reply=str(refused), by=outcome.by)
                self.forget()
                self._machine.answer(refused)
                return
            reply = outcome.pending
        self._begin_intake()
        if self._late is not None:
            refused = self._late
            self._record("data", reply=str(refused), by="house")
            self.forget()
            self._machine.answer(refused)
            return
        self._is_data_asked = True
        self._machine.answer(reply)
        if (found := self._early) is not None:
            self._early = None
            await self._header_section(found)

    # ── end-of-data ────────────────────────────────────────────────────────────────────────────────────────────────

    async def end_of_data(self, event: events.EndOfData) -> None:
        """The last word on this message, and the only one that promises anything."""
        self.awaits_content = False
        intake = self._begin_intake()
        try:
            if event.failure is not None:
                self._swallow(event.failure, "protocol")
            elif (found := intake.end()) is not None:
                await self._header_section(found)
            if self._late is not None:
                self._say_to_all(self._late, self._late_by, event.size)
                return
            await self._judge(intake, event.size)
        except SpoolFull:
            self._say_to_all(DISK_FULL, "house", event.size)
        except SpoolFailure:
            log.exception("a message couldn't be stored; token %s", self._session.id)
            self._say_to_all(NOT_STORED, "house", event.size)
        finally:
            self.is_committing = False
            self.forget()

    async def _judge(self, intake: Intake, size: int) -> None:
        place, session, transaction = self._place, self._session, self._open
        repeats = place.repeats
        print_: Callable[[], str] | None = None
        if repeats is not None and self._mail is not None:
            print_ = fingerprint_of(session, self._mail.path, self._heard, self._section, intake.digest)
        if repeats is not None and print_ is not None and await repeats.may_fire(self._began):
            self.is_committing = True  # what is given out here, once, mustn't be lost with the connection
            if (old := await repeats.fires(print_())) is not None:
                self._record("message", size=size, repeats=old, reply=f"250 accepted as {old}")
                self._unheard = (print_, old)
                self._answer({}, ACCEPTED.with_text(f"accepted as {old}"))
                return
            self.is_committing = False
        chained = stages.Message in place.dispatcher.chains
        content: Views | None = None
        hands_over = place.house.hands_over
        if not intake.swallowing and (chained or transaction.edits or transaction.splits or hands_over):
            content = Views(await intake.finish(), utf8=self._utf8, files=place.files)
            transaction.content = content
        reply = ACCEPTED
        is_discarded = (transaction.standing.discard or session.standing.discard) is not None
        if chained and not intake.swallowing and not is_discarded:
            question = Question(stages.Message, session, ACCEPTED, transaction, size=size)
            outcome = await place.dispatcher.ask(question)
            reply = outcome.pending
            each: Mapping[Recipient, tuple[Verdict, str]] = outcome.each
        else:
            each = dict.fromkeys(transaction.recipients, _UNASKED)
        made = plan(
            each,
            sticking=(session.standing, transaction.standing),
            standings=transaction.standings,
            token=session.id,
            verbatim=self._says_verbatim,
            heard_singly=self._is_heard_singly,
            disagreement=place.policy.recipients_disagree,
            refusals=place.policy.refusals,
        )
        if made.refusal is not None:
            refused_by = next((d.by for d in made.decisions.values() if d.reply is made.refusal), "house")
            self._say_to_all(made.refusal, refused_by, size)
            return
        whose = (transaction.sender, session.user)
        over = {one: to for one in made.decisions if (to := taker(place, one, *whose))} if hands_over else {}
        handed = await self._hand_over(made, over, content) if over and content is not None else None
        said_by = (
            {} if handed is None else {"handed_over": next_server_of(place, made.having(Fate.QUEUE), over, *whose)}
        )
        if handed is not None and not handed.is_positive:
            self._say_to_all(handed, said_by["handed_over"], size)
            return
        await self._commit(made, over, intake, content)
        ticket = str(transaction.ticket)
        if handed is not None:
            reply = Reply(250, handed.status, handed.text)
        else:
            reply = with_ticket(reply, ticket)
        edits = self._described_edits()
        self._record("message", size=size, reply=str(reply), each=made.told(), edits=edits, **said_by)
        refused = made.having(Fate.REFUSE)
        if len(refused) < len(made.decisions) or not refused:
            self.accepted += 1
        if print_ is not None and not refused:  # who was refused would hear 250 at the repetition
            self._unheard = (print_, ticket)
        if Queued in place.notices and (queued := tuple(r for r in made.having(Fate.QUEUE) if r not in over)):
            server = place.dispatcher.server
            place.tell(Queued(server, session, transaction.ticket, transaction.sender, queued, size))
        self._answer(made.decisions, reply)

    async def _commit(self, made: Plan, over: Collection[Recipient], intake: Intake, content: Views | None) -> None:
        """Everything in one step; when it returns, the message is safe."""
        place = self._place
        kept = custody.deposits(self._accepted, made, over, intake, content, place.clock.unix()[0])
        records = discards(self._open, made)
        if kept or records:
            self.is_committing = True
            await place.spool.commit(kept, records=records)

    async def _hand_over(self, made: Plan, over: Mapping[Recipient, HandOver], content: Views) -> Reply | None:
        """The next server's answer, where it is asked while the sender waits; None where nobody is."""
        transaction = self._open
        letter = custody.letter(transaction, made, over)
        if letter is None or isinstance(letter, Reply):
            return letter
        envelope = self._accepted.envelope(letter.recipients)
        self.is_committing = True
        return await letter.by(self._session, transaction, envelope, content.with_edits(letter.edits))

    @property
    def _accepted(self) -> custody.Accepted:
        facts = facts_of(self._place, self._session, self._open)
        return custody.Accepted(self._open, self._body, self._utf8, self._session.user, facts)

    # ── what is said ───────────────────────────────────────────────────────────────────────────────────────────────

    def _say_to_all(self, reply: Reply, by: str, size: int) -> None:
        self._record("message", size=size, reply=str(reply), by=by, edits=self._described_edits())
        if self._is_heard_singly and reply.code != 421:
            self._machine.answer_each([reply] * len(self._heard), None if self._is_lmtp else reply)
        else:
            self._machine.answer(reply)

    def _answer(self, decisions: Mapping[Recipient, Decision], reply: Reply) -> None:
        """One reply, or one for each RCPT that was accepted, in order, where the client can hear them."""
        if not self._is_heard_singly:
            self._machine.answer(reply)
            return
        each, final = each_hears(self._heard, decisions, reply)
        self._machine.answer_each(each, None if self._is_lmtp else final)

    # ── endings ────────────────────────────────────────────────────────────────────────────────────────────────────

    def heard_from_client(self) -> None:
        """The client has sent an octet after our last 250: it has heard it, and a repetition would be on purpose."""
        self._unheard = None

    def forget(self) -> None:
        """The transaction is over, whatever became of it."""
        transaction, self.transaction = self.transaction, None
        intake, self._intake = self._intake, None
        self.awaits_content = False
        self._is_data_asked = False
        if intake is not None:
            intake.swallow()  # what was committed stays
        if transaction is not None:
            self._closings.close(transaction.holder)

    async def end(self, *, unheard: bool) -> None:
        """The session is over."""
        if self.transaction is not None:
            self._record(
                "abandoned", sender=str(self.transaction.sender), recipients=names(self.transaction.recipients)
            )
        self.forget()
        if unheard and self._unheard is not None and self._place.repeats is not None:
            print_, ticket = self._unheard
            await self._place.repeats.arm(print_(), ticket)
            self._record("unheard", ticket=ticket)

    # ── small questions ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _body(self) -> Body:
        return Body.SEVEN_BIT if self._mail is None else self._mail.body

    @property
    def _is_lmtp(self) -> bool:
        return self._session.protocol == "lmtp"

    @property
    def _is_heard_singly(self) -> bool:
        return self._is_lmtp or (self._mail is not None and self._mail.prdr)

    def _says_verbatim(self, plugin: str) -> bool:
        """Whether what this plugin says at `message` leaves as it is."""
        chain = self._place.dispatcher.chains.get(stages.Message, ())
        return self._place.policy.verbatim or any(one.verbatim and one.plugin == plugin for one in chain)

    def _is_like_the_first(self, recipient: Recipient) -> bool:
        """Whether one reply at end-of-data can be true for this recipient and for the first."""
        place, session, transaction, heard = self._place, self._session, self._open, self._heard
        singly = self._is_heard_singly
        return not heard or are_alike(place, session, transaction, heard[0], recipient, heard_singly=singly)
