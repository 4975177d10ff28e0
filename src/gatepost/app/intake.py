"""Mail that was collected elsewhere goes the way of all mail: a session of its own, as with the client that sent it.

Strategy: a real session is talked to inside the process, so every plugin is asked at every stage, and limits hold.
Three things are different. Its spool adds the memos to whatever it commits, so that what was collected is noted in the
very step that makes it durable. Nobody hears a refusal, so what is refused is held or thrown away; a refusal for now
leaves everything as it was, until there have been enough of them. And the client's address is what another server has
written: rules, lists and plugins see it, but no route opens for it.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from gatepost.app.generation import Generation
from gatepost.app.settings.root import Listener
from gatepost.collecting.ports import Collected, IntakeLater, NoRoom, Taken, TakenAs
from gatepost.content.headers import read_section
from gatepost.content.pieces import Rendered, Span
from gatepost.content.received import date, received_head
from gatepost.content.values import unfold
from gatepost.model import Blob, Body, Bytes, Envelope, Recipient, Reply, Ticket
from gatepost.net import Stream
from gatepost.net.inner import InnerStream
from gatepost.serving.house import GateHouse
from gatepost.serving.limits import SessionCounter, SessionLimits
from gatepost.serving.place import Disagreement, Place, Refusals
from gatepost.serving.reception import Reception
from gatepost.store.draft import Draft
from gatepost.store.errors import SpoolError
from gatepost.store.spool import Deposit, Memos, Spool

_KEYWORD = "POP3"
_PART = 9000
"""Of the entry for those who were refused before there was content; a message is divided into fewer parts."""
_NO_ROOM = "4.3.1"
_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,255}")
_LOOSE = 10 * 1024 * 1024
"""Octets of a line of text: another server has let it pass."""


class HouseIntake:
    """collecting's Intake. One message at a time costs one session; nothing is kept between them."""

    def __init__(self, generation: Callable[[], Generation], spool: Spool) -> None:
        """`generation` gives the present one: each message is judged by the settings in effect."""
        self._generation = generation
        self._spool = spool

    async def take(self, collected: Collected) -> Taken:
        """Ask every plugin, and make the message and its memos durable in one step. Raises IntakeLater."""
        generation = self._generation()
        keeping = _Keeping(self._spool, collected.memos)
        place = _place(generation, collected, keeping)
        line = InnerStream(collected.peer, ("127.0.0.1", 0))
        reception = Reception(place, cast(Stream, line))  # it has what a Stream has
        ticket = Ticket(reception.session.id, 1)
        generation.begin_session()
        try:
            running = asyncio.create_task(reception.run(), name=f"collected by {collected.account}")
            try:
                refused = await _Bringing(line, collected, keeping, place, ticket).bring()
            except IntakeLater:
                if keeping.failure is not None:
                    raise keeping.failure from None
                raise
            finally:
                line.lose()
                await asyncio.wait([running])
            if refused is not None:
                return await self._unheard(collected, place, ticket, refused)
            if not keeping.has_committed:  # a plugin has taken it, or another server has it
                await self._spool.commit([], memos=collected.memos)
            return Taken(str(ticket), keeping.fate, keeping.text)
        except SpoolError as error:
            raise NoRoom(str(error)) from error
        finally:
            generation.end_session()

    async def _unheard(self, collected: Collected, place: Place, ticket: Ticket, refused: Reply) -> Taken:
        """It was refused for good as a whole: held or thrown away, with its memos."""
        why = f"refused: {refused}"
        if collected.on_refusal == "discard" and refused.is_permanent:
            records = _discarded(ticket, collected, collected.recipients, why)
            await self._spool.commit([], records=records, memos=collected.memos)
            return Taken(str(ticket), TakenAs.DISCARDED, why)
        deposit = _held(ticket, collected, collected.recipients, why, place, part=0)
        await self._spool.commit([deposit], memos=collected.memos)
        return Taken(str(ticket), TakenAs.HELD, why)


class _Keeping:
    """The session's spool: what it commits takes the memos along, and those who were refused at RCPT."""

    def __init__(self, spool: Spool, memos: Memos) -> None:
        self._spool = spool
        self._memos = memos
        self.has_committed = False
        self.besides: Sequence[Deposit] = ()
        self.besides_records: Sequence[tuple[object, ...]] = ()
        self.failure: SpoolError | None = None
        self.fate = TakenAs.ACCEPTED
        self.text = ""

    def draft(self, ticket: Ticket) -> Draft:
        return self._spool.draft(ticket)

    async def commit(self, deposits: Sequence[Deposit], *, records: Sequence[tuple[object, ...]] = ()) -> None:
        try:
            await self._spool.commit(
                (*deposits, *self.besides), records=(*records, *self.besides_records), memos=self._memos
            )
        except SpoolError as error:
            self.failure = error
            raise
        self.has_committed = True
        held = [deposit.held for deposit in (*deposits, *self.besides) if deposit.held is not None]
        if not any(deposit.held is None for deposit in deposits):
            self.fate = TakenAs.HELD if held else TakenAs.DISCARDED
            self.text = held[0] if held else _why([*records, *self.besides_records])


class _Bringing:
    """The client's part of the session."""

    def __init__(
        self, line: InnerStream, collected: Collected, keeping: _Keeping, place: Place, ticket: Ticket
    ) -> None:
        self._line = line
        self._collected = collected
        self._keeping = keeping
        self._place = place
        self._ticket = ticket
        self._rest = b""

    async def bring(self) -> Reply | None:
        """From the banner to QUIT. None where it was taken, else why not, for good; IntakeLater."""
        collected, for_good = self._collected, self._for_good
        if (refused := for_good(await self._reply())) is not None:
            return refused
        address = collected.peer.address
        literal = f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"  # rfc5321#4.1.3
        is_name = _NAME.fullmatch(collected.helo) is not None
        greeting = await self._command(f"EHLO {collected.helo if is_name else literal}")
        if greeting.code == 501 and is_name:
            greeting = await self._command(f"EHLO {literal}")
        if (refused := for_good(greeting)) is not None:
            return refused
        utf8 = collected.sender.needs_smtputf8 or any(one.path.needs_smtputf8 for one in collected.recipients)
        words = " BODY=8BITMIME SMTPUTF8" if utf8 else " BODY=8BITMIME"
        if (refused := for_good(await self._command(f"MAIL FROM:<{collected.sender.address}>{words}"))) is not None:
            return refused
        turned_away: dict[Recipient, Reply] = {}
        for recipient in collected.recipients:
            if (refused := for_good(await self._command(f"RCPT TO:<{recipient.address}>"))) is not None:
                turned_away[recipient] = refused
                if refused.code == 421:  # nothing more is heard in this session
                    return refused
        if len(turned_away) == len(collected.recipients):
            return next(iter(turned_away.values()), Reply(550, "5.1.1", "it has no recipient"))
        self._remember(turned_away)
        refused = for_good(await self._content())
        with suppress(IntakeLater):  # what was said of the message counts, whatever ends the session
            await self._command("QUIT")
        return refused

    def _for_good(self, reply: Reply) -> Reply | None:
        """The reply if it refuses for good, None if it doesn't refuse; IntakeLater for one that refuses for now."""
        if reply.status == _NO_ROOM and not reply.is_permanent and reply.code >= 400:
            raise NoRoom(str(reply))
        if 400 <= reply.code < 500 and not self._collected.is_last:
            raise IntakeLater(str(reply))
        return reply if reply.code >= 400 else None

    def _remember(self, turned_away: dict[Recipient, Reply]) -> None:
        """Those who were refused at RCPT go with whatever is committed for the others."""
        if not turned_away:
            return
        why = f"refused: {next(iter(turned_away.values()))}"
        recipients = tuple(turned_away)
        if self._collected.on_refusal == "discard" and all(one.is_permanent for one in turned_away.values()):
            self._keeping.besides_records = _discarded(self._ticket, self._collected, recipients, why)
        else:
            self._keeping.besides = [_held(self._ticket, self._collected, recipients, why, self._place, part=_PART)]

    async def _content(self) -> Reply:
        content, line = self._collected.content, self._line
        line.arrive(b"BDAT %d LAST\r\n" % content.size)
        pieces = iter(content.chunks())
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            line.arrive(piece)
            await line.taken()
        return await self._reply()

    async def _command(self, text: str) -> Reply:
        self._line.arrive(text.encode("utf-8") + b"\r\n")
        return await self._reply()

    async def _reply(self) -> Reply:
        """The next reply; IntakeLater where the session has ended."""
        lines: list[bytes] = []
        while not lines or lines[-1][3:4] == b"-":
            while b"\r\n" not in self._rest:
                said = await self._line.heard()
                if not said:
                    raise IntakeLater("the session has ended")
                self._rest += said
            one, _, self._rest = self._rest.partition(b"\r\n")
            lines.append(one)
        text = "\n".join(one[4:].decode("utf-8", "replace") for one in lines)
        status, _, rest = text.partition(" ")
        is_status = status[:2] in ("2.", "4.", "5.")
        return Reply(int(lines[-1][:3]), status if is_status else "", rest if is_status else text)


def _place(generation: Generation, collected: Collected, keeping: _Keeping) -> Place:
    """As a listener's, for mail that no stranger brings."""
    listener = Listener.model_validate(
        {"name": f"collect {collected.account}", "address": "127.0.0.1:0", "protocol": "smtp"}
    )
    usual = generation.place_for(listener)
    house = _without_networks(usual.house)
    profile = replace(
        usual.profile,
        message_size=0,  # it was limited before it was fetched
        text_line=_LOOSE,
        chunking=True,
        smtputf8=True,
        recipients=max(usual.profile.recipients, len(collected.recipients)),
    )
    return replace(
        usual,
        profile=profile,
        house=house,
        dispatcher=usual.dispatcher if house is usual.house else usual.dispatcher.with_house(house),
        spool=cast(Any, keeping),
        counter=SessionCounter(SessionLimits(0, 0)),
        repeats=None,
        policy=replace(
            usual.policy,
            recipients_disagree=Disagreement.HOLD_OTHERS,
            refusals=Refusals.HELD if collected.on_refusal == "quarantine" else Refusals.DISCARDED,
            keyword=_KEYWORD,
            stripped_headers=(*usual.policy.stripped_headers, *_written_there(collected, usual.profile.hostname)),
        ),
    )


def _without_networks(house: GateHouse) -> GateHouse:
    """The house, whose routes don't open for a client's address: that is only what another server has written."""
    if not any(gate.networks for gate in house.gates):
        return house
    closed = copy.copy(house)
    closed.gates = tuple(replace(gate, networks=()) for gate in house.gates)
    return closed


def _written_there(collected: Collected, hostname: str) -> tuple[str, ...]:
    """The fields of the other server's final delivery. Its word on whose mail it was is kept where the message has been
    here before: that may be a loop, which it ends.
    """
    section = read_section(collected.content)
    ours = f" by {hostname.lower()} "
    has_been_here = any(
        ours in f" {' '.join(unfold(value).lower().split())} " for value in section.raw_values("received")
    )
    return ("Return-Path",) if has_been_here else ("Return-Path", "Delivered-To")


def _held(
    ticket: Ticket, collected: Collected, recipients: tuple[Recipient, ...], why: str, place: Place, *, part: int
) -> Deposit:
    utf8 = collected.sender.needs_smtputf8 or any(one.path.needs_smtputf8 for one in recipients)
    envelope = Envelope(collected.sender, recipients, Body.EIGHT_BIT_MIME, utf8)
    content = _received(ticket, collected, place)
    return Deposit(ticket, envelope, content, collected.received_at, held=why, part=part)


def _received(ticket: Ticket, collected: Collected, place: Place) -> Blob:
    unix_time, offset_s = place.clock.unix()
    when = date(unix_time, offset_s)
    head = received_head(
        helo=collected.helo,
        address=collected.peer.address,
        hostname=place.profile.hostname,
        keyword=_KEYWORD,
    )
    field = f"{head}\r\n\tid {ticket};\r\n\t{when}\r\n".encode("utf-8", "replace")
    return Rendered([Span(Bytes(field), 0, len(field)), Span(collected.content, 0, collected.content.size)])


def _discarded(
    ticket: Ticket, collected: Collected, recipients: Iterable[Recipient], why: str
) -> list[tuple[object, ...]]:
    return [("discarded", str(ticket), str(collected.sender), str(one), "collecting", why) for one in recipients]


def _why(records: Sequence[tuple[object, ...]]) -> str:
    return str(records[0][-1]) if records else ""
