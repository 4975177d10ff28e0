"""The users of a server: those of the settings before those of the registry, `data/users.db`."""

from __future__ import annotations

import os
import time
from pathlib import Path as File

from gatepost.app.addresses import rules
from gatepost.app.settings.root import Settings
from gatepost.app.settings.users import User as UserSettings
from gatepost.store.passwords import Passwords
from gatepost.store.registry import Registry
from gatepost.store.users import Accounts, Source, StaticUsers, User


async def open_users(settings: Settings, registry: File | None) -> Accounts:
    """Everybody who may authenticate and has a maildrop. RegistryError if the database can't be opened."""
    sources: list[Source] = [StaticUsers(_user(one) for one in settings.user)]
    if registry is not None:
        sources.append(Registry(registry, os.urandom))
    return Accounts(sources, passwords(), rules(settings))


def passwords() -> Passwords:
    """What makes and checks secrets."""
    return Passwords(time.monotonic, os.urandom)


def _user(one: UserSettings) -> User:
    return User(
        name=one.name,
        password=None if one.password is None else one.password.reveal(),
        scram=None if one.scram is None else one.scram.reveal(),
        aliases=tuple(one.aliases),
        send_as=tuple(one.send_as),
        quota=one.quota,
    )
