"""What `gatepost check` sees of aliases and of who catches the rest, once it is known who the users are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal

from gatepost.app.addresses import rules
from gatepost.app.settings.root import Settings
from gatepost.app.users import files_of_users, of_settings
from gatepost.model import Path
from gatepost.store.addresses import POSTMASTER, Addresses
from gatepost.store.passwd_file import PasswdFileError
from gatepost.store.registry import Registry, RegistryError
from gatepost.store.users import Source, StaticUsers, User, folded

Seen = tuple[str, Literal["ok", "warning", "failed"], str]
"""What was looked at, how it is, and the words for it."""


def look_at_addresses(settings: Settings) -> Iterator[Seen]:
    """Where mail of aliases and catch-alls would end; nothing where there are none."""
    if not (settings.alias or settings.users.catch_all):
        return
    sources: list[Source] = []
    try:
        sources.append(StaticUsers(map(of_settings, settings.user)))
        sources += files_of_users(settings).values()
        if settings.data is not None and (settings.data / "users.db").exists():
            sources.append(Registry(settings.data / "users.db", os.urandom))
        yield from _look(settings, sources)
    except (PasswdFileError, RegistryError) as error:
        yield "addresses", "failed", str(error)
    finally:
        for source in sources:
            source.close()


def _look(settings: Settings, sources: list[Source]) -> Iterator[Seen]:
    def find(address: str) -> User | None:
        return next((user for source in sources if (user := source.find(address)) is not None), None)

    addresses = Addresses(rules(settings), find, folded)
    warnings = [*_aliases(settings, addresses), *_caught(settings, addresses)]
    for text in warnings:
        yield "addresses", "warning", text
    if not warnings:
        counts = f"aliases {len(settings.alias)}, catch_all {len(settings.users.catch_all)}"
        yield "addresses", "ok", f"{counts}: all lead to somebody"


def _aliases(settings: Settings, addresses: Addresses[User]) -> Iterator[str]:
    nobodies: set[str] = set()
    for alias in addresses.rules.aliases:
        address = Path.parse(alias, bare_postmaster=True)
        ends = addresses.targets(address) or ()
        for end in ends:
            if end.address not in nobodies and _is_nobody(settings, addresses, end):
                nobodies.add(end.address)
                yield f"{alias} → {end}: nobody has this mailbox, so copies for it fail; gatepost user add {end}"
        owner = addresses.user(address) if address.domain else None
        if owner is not None and folded(owner.name) == alias:
            users = (addresses.user(end) for end in ends)
            if not any(user is not None and user.name == owner.name for user in users):
                yield f"{alias} → {', '.join(map(str, ends))}: its user gets none of it; put {alias} into to as well"


def _caught(settings: Settings, addresses: Addresses[User]) -> Iterator[str]:
    for domain, address in addresses.rules.catch_all.items():
        if addresses.lead(address) is None:
            yield f"catch_all {domain} → {address}: nobody has it, so it catches nothing; gatepost user add {address}"
        elif (by := _delivery(settings, Path("anybody", domain))) not in {"maildir", ""}:
            yield f'catch_all {domain} → {address}: its route delivers by {by}, to the address as it was; "maildir"'


def _is_nobody(settings: Settings, addresses: Addresses[User], end: Path) -> bool:
    """Whether mail for the end of an alias goes to a mailbox that nobody has; the postmaster always has one."""
    is_here = _delivery(settings, end) == "maildir" and end.local.lower() != POSTMASTER
    return is_here and addresses.user(end) is None


def _delivery(settings: Settings, address: Path) -> str:
    """How the first route that could take mail for an address delivers it; "" if none does."""
    for route in settings.route:
        if any(address.matches(pattern) for pattern in route.match):
            return route.deliver.by
    return ""
