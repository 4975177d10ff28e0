"""Posts that wait for a moderator: held with a notice to those who decide, and what they decide by mail.

Strategy: the post is an entry of its own, held; the notice carries two signed addresses, one to approve and one to
refuse it. Who has such an address may decide, once: the first decision counts, and is carried out by whoever has the
entry. An author hears of a refusal only where the address is known to be his (L4).
"""

from __future__ import annotations

from dataclasses import replace

from gatepost.content.headers import read_section
from gatepost.content.values import read_value
from gatepost.lists import answering, mails
from gatepost.lists.addressing import Purpose, address_for, decided_ticket, decision_address
from gatepost.lists.context import Context
from gatepost.lists.handled import Handled
from gatepost.model import Envelope, Path, Recipient
from gatepost.store import Deposit, Entry
from gatepost.store.lists import MailingList

HELD = "list-held"
"""The fact of an entry that it waits for a moderator: the list's name."""

_ASKED = "asked"  # delivery's note of the stages that an entry has passed; of a new entry it is a fact
_NOT_KEPT = frozenset({"notice-of", "held-from"})


async def hold(context: Context, mailing_list: MailingList, entry: Entry, recipient: Recipient, reason: str) -> Handled:
    """The post waits: a held entry, and the notice to the moderators."""
    ticket = context.new_ticket()
    old = entry.envelope
    facts = {name: text for name, text in entry.facts.items() if name not in _NOT_KEPT}
    if asked := entry.notes.get(_ASKED):
        facts[_ASKED] = asked
    held = Deposit(
        ticket,
        Envelope(old.sender, (recipient,), old.body, old.smtputf8, old.parameters),
        entry.content,
        entry.received_at,
        f"list {mailing_list.name}: waits for a moderator",
        entry.authenticated,
        routes={name: route for name, route in entry.routes.items() if name == recipient.address},
        facts={**facts, HELD: mailing_list.name},
    )
    return Handled((held, *await _notice(context, mailing_list, entry, str(ticket), reason)))


async def decide(
    context: Context, mailing_list: MailingList, purpose: Purpose, extension: str, entry: Entry
) -> Handled:
    """A mail to one of the two addresses: it is a moderator's decision. Programs decide nothing, nor does who has
    forged the address; neither hears of it.
    """
    ticket = decided_ticket(mailing_list, purpose, extension, context.store.secret)
    section = read_section(entry.content)
    if ticket is None or answering.is_automatic(section, entry.envelope.sender):
        return Handled()
    by, _ = answering.author_of(section, entry.envelope.sender)
    is_approved = purpose is Purpose.APPROVE
    decision = await context.store.decide(ticket, is_approved, by.address, context.now())
    if decision.by == by.address and decision.approved is is_approved:
        return Handled()
    if answering.is_program(by) or not await answering.may_write(context, mailing_list, by):
        return Handled()
    await answering.count(context, mailing_list, by)
    what = "approved" if decision.approved else "refused"
    letter = mails.told(
        mailing_list, by, f"{ticket} is decided", f"The post {ticket} was {what} already by {decision.by}: that counts."
    )
    return Handled((mails.deposit(context, mailing_list, _answer(letter, entry)),))


async def refused(context: Context, entry: Entry) -> list[Deposit]:
    """What is to be committed when a held post is deleted because it was refused: the author hears of it, if he is a
    member or had authenticated, and a person has written it.
    """
    name = entry.facts.get(HELD)
    mailing_list = None if name is None else await context.store.find(name)
    section = read_section(entry.content)
    if mailing_list is None or answering.is_automatic(section, entry.envelope.sender):
        return []
    author, _ = answering.author_of(section, entry.envelope.sender)
    is_known = entry.authenticated is not None or await context.store.member(mailing_list.name, author.address)
    if not is_known or answering.is_program(author) or not await answering.may_write(context, mailing_list, author):
        return []
    await answering.count(context, mailing_list, author)
    subjects = section.raw_values("subject")
    subject = read_value(subjects[0])[:200] if subjects else ""
    owner = address_for(mailing_list.address, Purpose.OWNER).address
    letter = mails.told(
        mailing_list,
        author,
        "your post was refused",
        f"A moderator of {mailing_list.address} has refused your post:",
        f"    {subject or '(no subject)'}",
        f"The people who look after the list read {owner}.",
    )
    return [mails.deposit(context, mailing_list, _answer(letter, entry))]


def deciders(mailing_list: MailingList) -> tuple[Path, ...]:
    """Who decides about posts: the moderators, else the owners, else our postmaster."""
    options = mailing_list.options
    addresses = options.moderators or options.owners
    return tuple(map(Path.parse, addresses)) or owners(mailing_list)


def owners(mailing_list: MailingList) -> tuple[Path, ...]:
    """Who is told of what happens to the list; the postmaster of its domain where nobody is named."""
    found = tuple(map(Path.parse, mailing_list.options.owners))
    return found or (Path("postmaster", Path.parse(mailing_list.address).domain),)


async def _notice(
    context: Context, mailing_list: MailingList, entry: Entry, ticket: str, reason: str
) -> tuple[Deposit, ...]:
    left = await answering.may_tell(context, mailing_list)
    if not left:
        return ()
    author, _ = answering.author_of(read_section(entry.content), entry.envelope.sender)
    subject, opening, head = mails.moderation(
        mailing_list, entry.content, ticket=ticket, author=author.address or "(nobody)", reason=reason
    )
    approve, refuse = (
        decision_address(mailing_list, purpose, ticket, context.store.secret).address
        for purpose in (Purpose.APPROVE, Purpose.REFUSE)
    )
    closing = (
        f"To approve it, write to\n\n    {approve}\n\nTo refuse it, write to\n\n    {refuse}\n\n"
        "What stands in the mail doesn't matter; the first decision counts. On the server:\n\n"
        f"    gatepost list approve {ticket}\n    gatepost list refuse {ticket}\n"
    )
    if left == 1:
        closing += f"\nMore posts of this hour are held without a notice: gatepost list held {mailing_list.name}\n"
    letter = mails.Letter(deciders(mailing_list), subject, f"{opening}\n{closing}", Purpose.OWNER, attached=head)
    return (mails.deposit(context, mailing_list, letter),)


def _answer(letter: mails.Letter, entry: Entry) -> mails.Letter:
    return replace(letter, answers=mails.message_id_of(read_section(entry.content)))
