"""The users of a server: those of the settings, then those of files, then those of the registry, `data/users.db`."""

from __future__ import annotations

import os
import time
from pathlib import Path as File
from typing import TYPE_CHECKING

from gatepost.app.addresses import rules
from gatepost.app.settings.root import Settings
from gatepost.app.settings.user_files import default_domain
from gatepost.app.settings.users import User as UserSettings
from gatepost.store.passwords import Passwords
from gatepost.store.registry import Registry
from gatepost.store.users import Accounts, Source, StaticUsers, User

if TYPE_CHECKING:
    from gatepost.store.passwd_file import PasswdFile


async def open_users(settings: Settings, registry: File | None) -> Accounts:
    """Everybody who may authenticate and has a maildrop. RegistryError if the database can't be opened,
    PasswdFileError if a file can't be read or understood."""
    sources: list[Source] = [StaticUsers(of_settings(one) for one in settings.user)]
    sources += files_of_users(settings).values()
    if registry is not None:
        sources.append(Registry(registry, os.urandom))
    return Accounts(sources, passwords(), rules(settings))


def files_of_users(settings: Settings) -> dict[File, PasswdFile]:
    """The files of users that the settings name, read. Raises PasswdFileError."""
    if not settings.users.files:
        return {}
    from gatepost.store.passwd_file import PasswdFile

    domain = default_domain(settings)
    return {file: PasswdFile(file, domain, time.monotonic) for file in settings.users.files}


def passwords() -> Passwords:
    """What makes and checks secrets."""
    return Passwords(time.monotonic, os.urandom)


def of_settings(one: UserSettings) -> User:
    """A user as the settings say it."""
    password = None if one.password is None else one.password.reveal()
    scram = None if one.scram is None else one.scram.reveal()
    plain = None
    if password is not None and not password.startswith("$argon2"):
        from gatepost.store.secret_schemes import parse

        secret = parse(password)
        scram, plain = scram or secret.scram, secret.plain
    return User(
        name=one.name,
        password=password,
        scram=scram,
        plain=plain,
        aliases=tuple(one.aliases),
        send_as=tuple(one.send_as),
        quota=one.quota,
    )
