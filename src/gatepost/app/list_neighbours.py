"""Who else has one of a list's addresses, and which members no route leads to: what `gatepost list create` and `check`
say before mail goes astray.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

from gatepost.app.addresses import rules
from gatepost.app.gates import delivery_routes
from gatepost.app.settings.root import Settings
from gatepost.app.users import files_of_users, of_settings
from gatepost.lists.addressing import Purpose, address_for
from gatepost.model import Path
from gatepost.store.lists_facts import MailingList, Member
from gatepost.store.passwd_file import PasswdFileError
from gatepost.store.registry import Registry, RegistryError
from gatepost.store.users import Source, StaticUsers, folded

_EVERYBODY = (Purpose.POST, Purpose.OWNER, Purpose.REQUEST, Purpose.SUBSCRIBE, Purpose.UNSUBSCRIBE, Purpose.BOUNCES)
"""The addresses that people and servers write to as they stand, without a "+"."""


def lists_beside(lists: Iterable[MailingList]) -> Iterator[tuple[MailingList, MailingList]]:
    """Pairs of lists, where the address of the second is one of the first's other addresses."""
    by_address = {folded(one.address): one for one in lists}
    for one in by_address.values():
        for purpose in _EVERYBODY:
            other = by_address.get(folded(address_for(one.address, purpose).address))
            if other is not None and other is not one:
                yield one, other


def people_beside(settings: Settings, one: MailingList) -> Iterator[str]:
    """Aliases and users that have one of the list's addresses; a text for each, with what becomes of the mail."""
    aliases = rules(settings).aliases
    addresses = [address_for(one.address, purpose).address for purpose in _EVERYBODY]
    for address in addresses:
        if folded(address) in aliases:
            yield f"{address} is an [[alias]] too, which goes first: the list {one.name} gets none of that mail"
    for source in _sources(settings):
        try:
            found = [(address, user) for address in addresses if (user := source.find(folded(address)))]
        except RegistryError:
            found = []
        finally:
            source.close()
        for address, user in found:
            yield f"{address} is an address of the user {user.name} too: that mail goes to the list {one.name} now"


def without_route(settings: Settings, one: MailingList, members: Iterable[Member]) -> tuple[str, int]:
    """Of a list's members: the first that no route takes mail for ("" if there is none), and how many there are. Of a
    domain that a route has been found for nobody is looked at any more.
    """
    routes = delivery_routes(settings)
    sender = address_for(one.address, Purpose.BOUNCES)
    reached: set[str] = set()
    first, count = "", 0
    for member in members:
        path = Path.parse(member.address)
        if path.domain in reached:
            continue
        if routes.find(path, sender) is not None:
            reached.add(path.domain)
            continue
        first, count = first or member.address, count + 1
    return first, count


def _sources(settings: Settings) -> Iterator[Source]:
    """Where users are kept; what can't be read is told by those who need it."""
    yield StaticUsers(of_settings(user) for user in settings.user)
    with suppress(PasswdFileError):
        yield from files_of_users(settings).values()
    registry = None if settings.data is None else settings.data / "users.db"
    if registry is not None and registry.exists():
        with suppress(RegistryError):
            yield Registry(registry, os.urandom)
