"""Users' secrets, in the settings and in files: looked at when settings are loaded, so that no login finds out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gatepost.app.settings.problems import KeyPath, Problem
from gatepost.model import AddressError
from gatepost.model.path import parse_domain

if TYPE_CHECKING:
    from gatepost.app.settings.root import Settings
    from gatepost.app.settings.users import User

_HASHES = ("$argon2id$", "$argon2i$", "$argon2d$")
_SHOWN = 20  # lines of a file


def default_domain(settings: Settings) -> str:
    """The domain of names in files that have none."""
    users = settings.users
    return users.default_domain or next(iter(users.domains), settings.hostname)


def check_secret(user: User, path: KeyPath) -> Iterator[Problem]:
    """A password of the settings is a secret that can be checked."""
    text = "" if user.password is None else user.password.reveal()
    if not text or text.startswith(_HASHES):
        return
    from gatepost.store.secret_schemes import SecretError, parse

    try:
        parse(text)
    except SecretError as error:
        what = f"password: {error}"
        yield Problem((*path, "password"), what, mend=f"gatepost user add {user.name}", see="it makes a hash")


def check_user_files(settings: Settings) -> Iterator[Problem]:
    """Files of users can be read and understood."""
    if not settings.users.files:
        return
    from gatepost.store.passwd_file import PasswdFile, PasswdFileError

    try:
        parse_domain(default_domain(settings))
    except AddressError as error:
        what = f'"{default_domain(settings)}" isn\'t a domain: {error}'
        yield Problem(("users", "default_domain"), what, mend='default_domain = "example.org"')
        return
    for at, file in enumerate(settings.users.files):
        path: KeyPath = ("users", "files", at)
        try:
            PasswdFile(file, default_domain(settings), lambda: 0.0)
        except PasswdFileError as error:
            for mistake in error.mistakes[:_SHOWN]:
                yield Problem(path, f"{file}:{mistake.line}: {mistake.what}", mend=mistake.mend)
            if len(error.mistakes) > _SHOWN:
                yield Problem(path, f"{file}: {len(error.mistakes) - _SHOWN} lines more are wrong", mend="mend these")
            if not error.mistakes:
                yield Problem(path, str(error), mend="name a file that the server may read")
