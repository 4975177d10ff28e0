"""What comes back: whose address doesn't take mail, how often, and when it is given up.

Strategy: a copy's return path carries its member, signed, so a bounce says whose it is and nobody can make up one.
What our own delivery reports is believed as it stands, and so is every report where a list has no such paths. Only
delivery status notifications that say "failed" count. A score rises by at most one bounce a day and is forgotten after
some quiet days; at the limit mail stops and a probe is sent (lists.probing), and only a bounce of that probe takes a
member off. Nothing here is ever answered: a bounce of a bounce, and a storm of them, ends here (L2).
"""

from __future__ import annotations

from dataclasses import replace

from gatepost.content.dsn import Action
from gatepost.content.dsn_reading import Told, read_report
from gatepost.lists import answering, mails
from gatepost.lists.addressing import Purpose, bounced_member
from gatepost.lists.context import Context
from gatepost.lists.handled import Handled
from gatepost.lists.moderation import owners
from gatepost.store import Entry
from gatepost.store.lists import MailingList, Member

DAY_S = 86_400.0
HARD, SOFT = 1.0, 0.5
PROBE = "probe"
"""The action of the token that a probe's return path carries."""

_OURS = "notice-of"  # the fact of a report that our own delivery has written: it names whom it couldn't reach
_ABOUT_THE_MAIL = ("5.2.3", "5.3.4", "5.4.6", "5.6.", "5.7.")  # rfc3463#3: too large, a loop, its content, policy


async def take(context: Context, mailing_list: MailingList, purpose: Purpose, extension: str, entry: Entry) -> Handled:
    """A mail to the -bounces (`purpose` BOUNCES) or -probe address (PROBE)."""
    report = read_report(entry.content)
    failed = [told for told in report or () if told.action is Action.FAILED]
    if not failed:
        return Handled()
    if purpose is Purpose.PROBE:
        return await _probed(context, mailing_list, extension, failed[0])
    is_ours = _OURS in entry.facts
    for member, told in await _members(context, mailing_list, extension, failed, is_ours=is_ours):
        await _count(context, mailing_list, member, weight(told))
    return Handled()


def weight(told: Told) -> float:
    """How much one failure counts: what says that there is no such mailbox more than what may pass, or is about the
    mail rather than the address.
    """
    return HARD if told.status.startswith("5.") and not told.status.startswith(_ABOUT_THE_MAIL) else SOFT


def scored(member: Member, by: float, now: float, *, limit: float, days: int) -> Member | None:
    """The member after a bounce that counts `by`, at `now` (s, Unix time); None if it changes nothing."""
    if member.stopped_at is not None:
        return None
    before, last = member.score, member.bounced_at
    if last is not None:
        if now - last < DAY_S:
            return None
        if now - last >= days * DAY_S:
            before = 0.0
    after = replace(member, score=before + by, bounced_at=now)
    return replace(after, stopped_at=now, probed_at=None) if after.score >= limit else after


def working(member: Member) -> Member:
    """The member once it is known that his address takes mail."""
    return replace(member, score=0.0, bounced_at=None, probed_at=None, stopped_at=None)


async def _members(
    context: Context, mailing_list: MailingList, extension: str, failed: list[Told], *, is_ours: bool
) -> list[tuple[Member, Told]]:
    store = context.store
    if extension:
        id = bounced_member(mailing_list, extension, store.secret)
        member = None if id is None else await store.member_by_id(id)
        worst = max(failed, key=weight)
        return [] if member is None else [(member, worst)]
    if mailing_list.options.verp and not is_ours:
        return []  # no copy has left with this address: anybody may have written the report
    found: dict[int, tuple[Member, Told]] = {}
    for told in failed:
        for address in dict.fromkeys(filter(None, (told.original, told.final))):
            if (member := await store.member(mailing_list.name, address)) is not None:
                found.setdefault(member.id, (member, told))
                break
    return list(found.values())


async def _count(context: Context, mailing_list: MailingList, member: Member, by: float) -> None:
    options = mailing_list.options
    after = scored(member, by, context.now(), limit=options.bounce_limit, days=options.bounce_days)
    if after is not None:
        await context.store.change_member(after)


async def _probed(context: Context, mailing_list: MailingList, token: str, told: Told) -> Handled:
    """A probe has come back: the member is taken off, if he hasn't shown since that his address works."""
    store = context.store
    asked = await store.asked(token, context.now())
    if asked is None or asked.action != PROBE or asked.list != mailing_list.name:
        return Handled()
    member = await store.member(mailing_list.name, asked.address)
    if member is None or member.stopped_at is None:
        return Handled()
    await store.unsubscribe(mailing_list.name, member.address)
    await store.answer(token, context.now())
    if not await answering.may_tell(context, mailing_list):
        return Handled()
    said = " ".join(filter(None, (told.status, told.text)))
    letter = mails.removed(mailing_list, owners(mailing_list), member, said)
    return Handled((mails.deposit(context, mailing_list, letter),))
