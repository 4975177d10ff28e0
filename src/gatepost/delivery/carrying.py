"""One attempt of an entry: each recipient the way its route says, each destination asked once.

Where nobody was asked, since the destination is left alone, the result says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from gatepost.delivery.attempt import Letter, OnProgress
from gatepost.delivery.destinations import Destinations
from gatepost.delivery.introducing import origin_in
from gatepost.delivery.notice import Policy
from gatepost.delivery.ports import Copies, Lists, MailboxFull, Maildrop, NoMailbox
from gatepost.delivery.route import Action, Discard, Hop, Lmtp, Maildir, Mx, Relay, Routes, ToList
from gatepost.delivery.settlement import Arrival, Result
from gatepost.delivery.suspension import AGAIN_S, suspended
from gatepost.model import Path, Recipient, Reply
from gatepost.store import Entry, Fate
from gatepost.wire.smtp.client_events import Outcome, Phase

log = logging.getLogger("gatepost.delivery")

LIST = "list"
"""The fact of an entry that it is copies of a list's post: the list's name."""
BUG = Reply(451, "4.3.0", "delivery failed inside; the log has the reason")
Followed = Callable[[Entry, Sequence[Recipient]], OnProgress | None]

_LETTERS = 10  # of one post that are sent at a time
_GIVING_UP = frozenset({Phase.SENDER, Phase.RECIPIENT, Phase.DATA, Phase.CONTENT, Phase.END_OF_DATA})
_NO_ROUTE = Reply(451, "4.4.4", "no route takes mail for this recipient")
_FULL = Reply(452, "4.2.2", "the mailbox is full")
_NO_COPIES = Reply(451, "4.3.0", "the list can't be asked now how its copies look")
_NO_MAILBOX = Reply(550, "5.1.1", "there is no such mailbox")


class Carrier:
    """Carries entries where their recipients' routes lead."""

    def __init__(
        self,
        routes: Callable[[], Routes],
        maildrop: Maildrop,
        destinations: Destinations,
        policy: Policy,
        *,
        clock: Callable[[], float],
        followed: Followed,
        lists: Callable[[], Lists | None] = lambda: None,
    ) -> None:
        self._routes = routes
        self._maildrop = maildrop
        self._destinations = destinations
        self._policy = policy
        self._clock = clock
        self._followed = followed
        self._lists = lists

    def expands(self, entry: Entry) -> bool:
        """Whether an entry is for a list, and so goes on as others."""
        if self._lists() is None:
            return False
        routes, sender, user = self._routes(), entry.envelope.sender, entry.authenticated
        found = (routes.find(recipient.path, sender, user) for recipient in entry.envelope.recipients)
        return any(route is not None and isinstance(route.action, ToList) for route in found)

    def rests(self, entry: Entry, address: Path) -> bool:
        """Whether mail of an entry's sender for an address goes into a maildrop."""
        route = self._routes().find(address, entry.envelope.sender, entry.authenticated)
        return route is not None and isinstance(route.action, Maildir)

    async def attempt(self, entry: Entry) -> list[Result]:
        """What came of every recipient still waiting. Doesn't raise, but for cancellation."""
        suspensions = self._destinations.suspensions
        if not suspensions:
            return await self._attempt_for(entry, entry.envelope.recipients)
        asked, results = [], []
        for recipient in entry.envelope.recipients:
            if (name := suspensions.covers((recipient.domain,))) is None:
                asked.append(recipient)
            else:
                results.append(Result(recipient, Fate.LATER, suspended(name), None, is_ours=True, rest_s=AGAIN_S))
        return results + (await self._attempt_for(entry, asked) if asked else [])

    async def _attempt_for(self, entry: Entry, recipients: Sequence[Recipient]) -> list[Result]:
        groups: dict[Action | None, list[Recipient]] = {}
        copies: Copies | None = None
        if LIST in entry.facts and (lists := self._lists()) is not None:
            try:
                copies = await lists.copies(entry)
            except Exception:  # the lists' database, or the content's file
                log.exception("how the copies of %s look can't be found out now", entry.id)
                return [Result(recipient, Fate.LATER, _NO_COPIES, is_ours=True) for recipient in recipients]
        routes = self._routes()
        for recipient in recipients:
            route = routes.find(recipient.path, entry.envelope.sender, entry.authenticated)
            groups.setdefault(None if route is None else route.action, []).append(recipient)
        if len(groups) == 1:
            [action] = groups
            return await self._carry_out(action, entry, recipients, copies)
        async with asyncio.TaskGroup() as together:
            tasks = [
                together.create_task(self._carry_out(action, entry, recipients, copies))
                for action, recipients in groups.items()
            ]
        return [result for task in tasks for result in task.result()]

    async def _carry_out(
        self, action: Action | None, entry: Entry, recipients: Sequence[Recipient], copies: Copies | None
    ) -> list[Result]:
        try:
            match action:
                case None:
                    return [Result(recipient, Fate.LATER, _NO_ROUTE, is_ours=True) for recipient in recipients]
                case Discard():
                    return [Result(recipient, Fate.DONE) for recipient in recipients]
                case Maildir():
                    if len(recipients) == 1:  # no task for what nearly every message has
                        return [await self._drop(entry, recipients[0], copies)]
                    return await asyncio.gather(*(self._drop(entry, recipient, copies) for recipient in recipients))
                case ToList(name):
                    return [await self._take(name, entry, recipient) for recipient in recipients]
                case Relay() | Lmtp() | Mx() if copies is not None and copies.each:
                    return await self._send_each(action, entry, recipients, copies)
                case Relay() | Lmtp() | Mx():
                    return await self._send(action, entry, recipients, copies)
                case _:
                    assert_never(action)
        except Exception:  # a bug of ours must not lose mail, nor try it without end and pause
            log.exception("the delivery of %s has failed inside", entry.id)
            return [Result(recipient, Fate.LATER, BUG, is_ours=True) for recipient in recipients]

    async def _take(self, name: str, entry: Entry, recipient: Recipient) -> Result:
        lists = self._lists()
        if lists is None:
            return Result(recipient, Fate.LATER, _NO_ROUTE, is_ours=True)
        return await lists.take(name, entry, recipient)

    async def _drop(self, entry: Entry, recipient: Recipient, copies: Copies | None) -> Result:
        try:
            sender, content = entry.envelope.sender, entry.content
            if copies is not None:
                sender, content = copies.of([recipient])
            await self._maildrop.deliver(entry.ticket, recipient, content, sender=sender, fresh=entry.fresh)
        except OSError as error:
            reply = Reply(451, "4.2.0", f"the maildrop can't be written: {error.strerror or error}")
            return Result(recipient, Fate.LATER, reply, is_ours=True)
        except MailboxFull:
            return Result(recipient, Fate.LATER, _FULL, is_ours=True)
        except NoMailbox:
            return Result(recipient, Fate.FAILED, _NO_MAILBOX, is_ours=True)
        except Exception:
            log.exception("the delivery of %s into the maildrop of %s has failed inside", entry.id, recipient)
            return Result(recipient, Fate.LATER, BUG, is_ours=True)
        return Result(recipient, Fate.DONE)

    async def _send_each(
        self, hop: Hop | Mx, entry: Entry, recipients: Sequence[Recipient], copies: Copies
    ) -> list[Result]:
        """A letter for every recipient, some at a time."""
        places = asyncio.Semaphore(_LETTERS)

        async def send(recipient: Recipient) -> list[Result]:
            async with places:
                return await self._send(hop, entry, (recipient,), copies)

        each = await asyncio.gather(*map(send, recipients))
        return [result for results in each for result in results]

    async def _send(
        self, hop: Hop | Mx, entry: Entry, recipients: Sequence[Recipient], copies: Copies | None
    ) -> list[Result]:
        letter = self._letter(hop, entry, recipients, copies)
        whose = entry.authenticated or entry.envelope.sender.domain
        answers = await self._destinations.deliver(hop, letter, may_wait=True, whose=whose)
        return [
            Result(
                answer.outcome.recipient,
                _fate(answer.outcome),
                answer.outcome.reply,
                answer.host,
                answer.outcome.is_ours,
                answer.rest_s,
                Arrival.at(hop, is_blind=answer.outcome.is_relayed_blind),
            )
            for answer in answers
        ]

    def _letter(self, hop: Hop | Mx, entry: Entry, recipients: Sequence[Recipient], copies: Copies | None) -> Letter:
        origin = origin_in(entry.facts, entry.authenticated) if entry.facts else None
        if copies is None:
            letter = Letter.of(entry.envelope, recipients, entry.content, origin=origin)
            sender = self._policy.return_path(entry, hop, recipients, self._clock())
        else:
            sender, content = copies.of(recipients)
            letter = Letter.of(entry.envelope, recipients, content, origin=origin)
        if sender is not letter.sender:
            letter = replace(letter, sender=sender)
        told = self._followed(entry, recipients)
        return letter if told is None else replace(letter, on_progress=told)


def _fate(outcome: Outcome) -> Fate:
    if outcome.reply.is_positive:
        return Fate.DONE
    return Fate.FAILED if outcome.reply.is_permanent and outcome.phase in _GIVING_UP else Fate.LATER
