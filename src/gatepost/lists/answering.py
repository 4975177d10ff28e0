"""Whom a list may answer, and how often: what keeps it from writing to programs, to itself and to people who never
wrote (L2, L4).

Strategy: the envelope and the header say whether a person wrote (RFC 3834 §2); the lists' database counts what was
written to an address, and what a list has written in all, for every worker at once.
"""

from __future__ import annotations

from gatepost.content import parameters
from gatepost.content.headers import Section
from gatepost.content.values import safe, unfold
from gatepost.lists.addressing import Purpose, address_for
from gatepost.lists.context import Context
from gatepost.lists.posting import ANSWERS_BY_ITSELF, authors
from gatepost.lists.rendering import author
from gatepost.model import Path
from gatepost.store.lists import MailingList

PER_ADDRESS = 6
"""Mails that the lists write to one address within `WITHIN_S`, unless a moderator or an owner caused them."""
PER_LIST = 200
"""Such mails of one list within `WITHIN_S`."""
NOTICES = 50
"""Notices of one list to its owners and moderators within `WITHIN_S`."""
WITHIN_S = 3600.0

_TOLD = "told"  # what is noted about a mail that asks nothing; it is over at once and only counted
_PROGRAMS = frozenset({"mailer-daemon", "daemon", "root", "nobody", "noreply", "no-reply", "donotreply", "listserv"})
_BEGINS = ("owner-", "bounce-", "bounces-", "bounce+", "bounces+")
_ENDS = ("-request", "-owner", "-bounces", "-bounce", "-relay", "-confirm", "-probe", "-errors")
_OF_LISTS = ("list-id", "list-post", "list-unsubscribe", "x-loop", "x-mailing-list")
_BULK = frozenset({"bulk", "junk", "list"})


def author_of(section: Section, sender: Path) -> tuple[Path, str]:
    """Who wrote: From where it names one address, else the envelope's sender; and the name shown with it."""
    found = authors(section)  # read as for posts: what an encoded word stands for is a name, no address
    if len(found) != 1:
        return sender, ""
    shown = author(section)
    return Path.parse(found[0]), "" if shown is None else safe(shown.name).strip()[:100]


def is_automatic(section: Section, sender: Path) -> bool:
    """Whether no person wrote this, as far as it says so itself: it confirms nothing and gets no answer."""
    if not sender:  # rfc5321#4.5.5
        return True
    values = section.raw_values("auto-submitted")
    if values and parameters.parse(unfold(values[0]))[0] != "no":  # rfc3834#5
        return True
    kinds = section.raw_values("content-type")
    if kinds and parameters.parse(unfold(kinds[0][: parameters.MAX_VALUE]))[0] == "multipart/report":
        return True
    if any(unfold(value).strip().lower() in _BULK for value in section.raw_values("precedence")):
        return True
    return any(section.count(name) for name in (*_OF_LISTS, *ANSWERS_BY_ITSELF))


def is_program(path: Path) -> bool:
    """Whether an address is a program's by its name, so that no letter goes there (rfc3834#2)."""
    local = path.local.lower()
    base = local.partition("+")[0]
    return base in _PROGRAMS or local.startswith(_BEGINS) or base.endswith(_ENDS)


async def may_write(context: Context, mailing_list: MailingList, to: Path) -> int:
    """How many more mails to this address are within bounds, this one among them; 0: it isn't sent. Nothing is
    noted.
    """
    since = context.now() - WITHIN_S
    if (left := PER_ADDRESS - await context.store.asked_since(to.address, since)) <= 0:
        return 0
    return left if await context.store.asked_since(mailing_list.address, since) < PER_LIST else 0


async def count(context: Context, mailing_list: MailingList, to: Path, *, is_asked: bool = False) -> None:
    """Note a mail to this address; one that asks to confirm `is_asked` has been noted for the address already."""
    addresses = [mailing_list.address] if is_asked else [to.address, mailing_list.address]
    for address in addresses:
        await context.store.ask(mailing_list.name, address, _TOLD, context.now(), 0.0)


async def may_tell(context: Context, mailing_list: MailingList) -> int:
    """How many notices to those who look after the list are left for this hour, this one among them, which is noted;
    0: it isn't sent.
    """
    us = address_for(mailing_list.address, Purpose.OWNER).address
    left = NOTICES - await context.store.asked_since(us, context.now() - WITHIN_S)
    if left > 0:
        await context.store.ask(mailing_list.name, us, _TOLD, context.now(), 0.0)
    return max(0, left)
