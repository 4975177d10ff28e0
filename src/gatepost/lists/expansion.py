"""From one post to new entries for all members: everybody once, lists on the list among them.

Strategy: members are read by pages and told apart by their folded addresses; a member that is a list of ours stands for
its own members, who get copies as members of that list, and a list that was met before is left out, so a circle ends.
Whoever was met first by another way has the copy already. Many members of one domain make entries of their own, all
others share some, so that a list of 10,000 domains isn't 10,000 rows with the same content.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from gatepost.lists.addressing import Purpose, address_for
from gatepost.lists.context import Context
from gatepost.lists.gate import fact_name
from gatepost.model import AddressError, Envelope, Path, Recipient
from gatepost.model.kept import read_kept
from gatepost.store import Deposit, Entry
from gatepost.store.lists import MailingList, Member
from gatepost.store.users import folded

LIST = "list"
"""The fact of an entry that it is copies of a post: the name of the list whose members they are for."""
VIA = "list-via"
"""The fact that names the addresses of the lists it came through before, blanks between them."""
HAD = "list-had"
"""The fact that names the lists whose members have the post by this expansion, or by itself, blanks between them."""
POST = "list-post"
"""The fact that names the ticket of the post."""
TOGETHER = 100
"""Recipients of one entry at most."""

_OF_THEIR_OWN = 50  # members of one domain that are worth an entry
_PAGE = 1000
_ASKED, _SUBMITTED = "asked", "submitted"  # delivery's note of what plugins were asked about: not the post again
_KEPT = "kept"  # texts of plugins
_GOES_ON = ("REQUIRETLS",)  # rfc8689#5; what is told of its way ends at the list (rfc3461#5.2.7.3)

Group = list[tuple[Recipient, int]]
"""Recipients with their members' ids."""


async def expand(context: Context, mailing_list: MailingList, entry: Entry) -> tuple[Deposit, ...]:
    """The copies of a post as entries to be committed; none for a list without members. Raises ListError."""
    ticket = context.new_ticket()  # of its own: who gets the post itself too, or by another list, gets that as well
    envelope, made = entry.envelope, list[Deposit]()
    parameters = {name: value for name, value in envelope.parameters.items() if name in _GOES_ON}
    facts = {_ASKED: _SUBMITTED, POST: str(entry.ticket)}
    if kept := entry.notes.get(_KEPT, entry.facts.get(_KEPT)):
        facts[_KEPT] = kept
    had: set[str] = set()
    reached = [found async for found in _everybody(context, mailing_list, entry, had)]
    facts[HAD] = " ".join(sorted(had))
    for one, via, groups in reached:
        sender = address_for(one.address, Purpose.BOUNCES)
        more = {LIST: one.name, VIA: " ".join(via)} if via else {LIST: one.name}
        for group in groups:
            recipients = tuple([recipient for recipient, _ in group])
            made.append(
                Deposit(
                    ticket,
                    Envelope(sender, recipients, envelope.body, envelope.smtputf8, parameters),
                    entry.content,
                    context.now(),
                    part=len(made),
                    routes={recipient.address: f"{one.name} {id}" for recipient, id in group},
                    facts={**facts, **more},
                )
            )
    return tuple(made)


def member_in(route: str) -> int | None:
    """The member's id in the route of a copy's recipient; None if it has none."""
    id = route.rpartition(" ")[2]
    return int(id) if id.isascii() and id.isdigit() else None


def via_in(entry: Entry) -> list[str]:
    """The addresses of the lists that an entry's copies came through before their own."""
    return entry.facts.get(VIA, "").split()


def has_had(entry: Entry, name: str) -> bool:
    """Whether an entry is copies of a post that the list `name` has had another way: an alias leads to it."""
    if LIST not in entry.facts:
        return False
    kept = read_kept(entry.notes.get(_KEPT, entry.facts.get(_KEPT)))
    return name in entry.facts.get(HAD, "").split() or fact_name(name) in kept


async def _everybody(
    context: Context, first: MailingList, entry: Entry, met: set[str]
) -> AsyncIterator[tuple[MailingList, tuple[str, ...], list[Group]]]:
    """List after list that the post reaches, the lists before it, and who is to have a copy by it. `met` becomes the
    names of all of them, and of those that have the post without.
    """
    nested = {folded(one.address): one for one in await context.store.all()}
    posted_to = [nested[key] for key in map(folded, map(str, entry.envelope.recipients)) if key in nested]
    met.update({first.name}, (one.name for one in posted_to))  # what has the post itself expands it itself
    met.update(entry.facts.get(HAD, "").split())
    waiting: deque[tuple[MailingList, tuple[str, ...]]] = deque([(first, _before(nested.values(), entry))])
    known: set[str] = set()
    while waiting:
        one, via = waiting.popleft()
        by_domain: dict[str, Group] = {}
        async for member in _members(context, one):
            key = folded(member.address)
            if (inner := nested.get(key)) is not None:
                if inner.name not in met:
                    met.add(inner.name)
                    waiting.append((inner, (*via, one.address)))
            elif key not in known and (recipient := _recipient(member.address)) is not None:
                known.add(key)
                by_domain.setdefault(recipient.domain, []).append((recipient, member.id))
        yield one, via, list(_groups(by_domain))


def _before(lists: Iterable[MailingList], entry: Entry) -> tuple[str, ...]:
    """The addresses of the lists that an entry came through whose recipient is an alias of another one."""
    name = entry.facts.get(LIST)
    return (*via_in(entry), *(one.address for one in lists if one.name == name))


async def _members(context: Context, mailing_list: MailingList) -> AsyncIterator[Member]:
    """Those who take mail now."""
    after, now = 0, context.now()
    while page := await context.store.members(mailing_list.name, after=after, limit=_PAGE):
        for member in page:
            if member.takes_mail(now):
                yield member
        after = page[-1].id


def _recipient(address: str) -> Recipient | None:
    try:
        return Recipient(Path.parse(address))
    except AddressError:
        return None  # was one for the version that has subscribed it


def _groups(by_domain: Mapping[str, Group]) -> Iterator[Group]:
    mixed: Group = []
    for group in by_domain.values():
        at = 0
        while len(group) - at >= _OF_THEIR_OWN:
            yield group[at : at + TOGETHER]
            at += TOGETHER
        mixed += group[at:]
        while len(mixed) >= TOGETHER:
            yield mixed[:TOGETHER]
            del mixed[:TOGETHER]
    if mixed:
        yield mixed
