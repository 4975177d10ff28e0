"""Everything that lists do after the 250: what comes of mail to their addresses, how copies look, what they send by
themselves.

Strategy: a post is judged where the gate hasn't done it, archived, and becomes copies for the members; all else goes to
`requests`. Nothing is kept here: whatever is decided stands in the lists' database or in the spool, so that any worker
may handle any mail, and after a crash handles it once more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gatepost.lists import moderation, requests
from gatepost.lists.addressing import Purpose, purpose_of
from gatepost.lists.archive import Archive
from gatepost.lists.context import Context
from gatepost.lists.copies import Copies, copies
from gatepost.lists.expansion import LIST, expand, has_had
from gatepost.lists.gate import judgement_of
from gatepost.lists.handled import Handled
from gatepost.lists.posting import ALLOWED, LOOP, TOO_MANY_HOPS, Judgement, Moderate, Refused, examine
from gatepost.lists.probing import Probing
from gatepost.model import Recipient, Reply
from gatepost.model.kept import FACT, read_kept
from gatepost.net.answers import Resolving
from gatepost.store import Deposit, Entry
from gatepost.store.lists import ListError, MailingList

log = logging.getLogger("gatepost.lists")

_GONE = Reply(550, "5.1.1", "there is no such list")
_UNKNOWN = Reply(550, "5.1.1", "the list has no such address")
_LATER = Reply(451, "4.3.0", "the lists can't be asked now")
_NO_ARCHIVE = Reply(451, "4.3.0", "the list's archive can't be written now")


class ListHouse:
    """The lists of one worker. Invariant: what it hands back is not yet done; whoever commits it does it."""

    def __init__(self, context: Context, resolver: Callable[[], Resolving], archive: Archive | None = None) -> None:
        """`resolver` is asked for DMARC policies; without an `archive` none is kept, whatever options say."""
        self._context = context
        self._resolver = resolver
        self._archive = archive
        self._probing = Probing(context)

    async def take(self, name: str, entry: Entry, recipient: Recipient) -> Handled:
        """What mail to one of the addresses of the list `name` comes to. Doesn't raise where a store fails."""
        try:
            mailing_list = await self._context.store.find(name)
            if mailing_list is None:
                return Handled(refusal=_GONE)
            found = purpose_of(mailing_list.address, recipient.path)
            if found is None:
                return Handled(refusal=_UNKNOWN)
            purpose, extension = found
            if purpose is Purpose.POST:
                if has_had(entry, name):
                    return Handled()
                return await self._post(mailing_list, entry, recipient)
            if LIST in entry.facts and purpose is not Purpose.OWNER:
                return Handled()  # a copy for a member: its author has asked this address for nothing
            return await requests.take(self._context, mailing_list, purpose, extension, entry, recipient)
        except ListError as error:
            log.error("list %s: %s waits: %s", name, entry.id, error)
            return Handled(refusal=_LATER)

    async def copies(self, entry: Entry) -> Copies | None:
        """How the copies in an entry are to look now; None where it has none. Raises ListError and OSError."""
        return await copies(self._context, entry, self._resolver())

    async def tick(self, now: float) -> list[Deposit]:
        """What lists send by themselves and is due, to be committed; `now` is Unix time in seconds."""
        return await self._probing.tick(now)

    async def decisions(self) -> list[tuple[str, bool]]:
        """The tickets of held posts that were decided about, and whether they were approved; not yet carried out."""
        return [(decision.ticket, decision.approved) for decision in await self._context.store.decisions()]

    async def refused(self, entry: Entry) -> list[Deposit]:
        """What is to be committed before a held post is deleted that was refused."""
        return await moderation.refused(self._context, entry)

    async def carried_out(self, ticket: str) -> None:
        """A decision has been carried out."""
        await self._context.store.carried_out(ticket)

    async def _post(self, mailing_list: MailingList, entry: Entry, recipient: Recipient) -> Handled:
        match await self._judged(mailing_list, entry):
            case Refused(reply):
                if reply in (LOOP, TOO_MANY_HOPS) or not _is_from_outside(entry):
                    return Handled(refusal=reply)
                # by an alias, or a plugin: 250 was said, and a bounce would go to whoever stands there as sender
                reason = reply.text.partition(";")[0]
                return await moderation.hold(self._context, mailing_list, entry, recipient, reason)
            case Moderate(reason):
                return await moderation.hold(self._context, mailing_list, entry, recipient, reason)
            case _:
                pass
        if mailing_list.options.archive and self._archive is not None:
            try:
                await self._archive.keep(
                    mailing_list.name,
                    str(entry.ticket),
                    entry.content,
                    sender=entry.envelope.sender,
                    at=entry.received_at,
                )
            except OSError as error:
                log.error(
                    "list %s: %s waits, since its archive can't be written: %s", mailing_list.name, entry.id, error
                )
                return Handled(refusal=_NO_ARCHIVE)
        return Handled(await expand(self._context, mailing_list, entry))

    async def _judged(self, mailing_list: MailingList, entry: Entry) -> Judgement:
        """What was decided in the session; of what came by none, now."""
        if entry.facts.get(moderation.HELD) == mailing_list.name:
            return ALLOWED  # an entry that is held isn't attempted: somebody has let it go on
        kept = read_kept(entry.notes.get(FACT, entry.facts.get(FACT)))
        if (said := judgement_of(kept, mailing_list.name)) is not None:
            return said
        return await examine(
            self._context.store,
            mailing_list,
            entry.content,
            sender=entry.envelope.sender,
            user=entry.authenticated,
        )


def _is_from_outside(entry: Entry) -> bool:
    """Whether anybody can have written its sender there; copies of other lists come back to those."""
    return entry.authenticated is None and bool(entry.envelope.sender) and LIST not in entry.facts
