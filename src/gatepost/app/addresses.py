"""The rules by which addresses lead to users, as settings say them."""

from __future__ import annotations

from gatepost.app.settings.root import Settings
from gatepost.app.settings.users import Alias
from gatepost.model import Path
from gatepost.store.addresses import Rules
from gatepost.store.users import folded


def rules(settings: Settings) -> Rules:
    """What of `[users]` and `[[alias]]` concerns addresses. The settings are checked: every address is one."""
    users = settings.users
    return Rules(
        frozenset(users.domains),
        users.domain_aliases,
        users.plus,
        {domain: Path.parse(address) for domain, address in users.catch_all.items()},
        {_key(alias): tuple(map(Path.parse, alias.to)) for alias in settings.alias},
        frozenset(_key(alias) for alias in settings.alias if alias.send_as),
    )


def _key(alias: Alias) -> str:
    return folded(Path.parse(alias.address, bare_postmaster=True).address)
