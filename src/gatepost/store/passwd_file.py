"""Users from a file as htpasswd and Dovecot write it: `name:secret`, or `name:secret:uid:gid:gecos:home:shell:extra`.

The file is read whole. It is looked at again by `look_again`, which reads in a thread, or, where nobody calls that,
when somebody is looked for, at most once a second. One that can't be understood changes nothing: the users stay as they
were, and the log says which line is why.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path as File

from gatepost.model import AddressError, Path
from gatepost.store.quota import quota_in
from gatepost.store.secret_schemes import Secret, SecretError, parse
from gatepost.store.stand_ins import StandIn, StandIns
from gatepost.store.users import Offers, User, UsersFileError, folded

LOOK_S = 1.0
"""How long a change may go unnoticed."""
_MAX_SIZE = 64 * 2**20  # octets
_SHOWN = 5  # problems in a message
_EXTRA = 7  # fields before those of Dovecot's that have a name
_WHO_MAY = ("allow_nets", "deny", "nologin", "nopassword", "proxy", "proxy_maybe", "master", "noauthenticate")
"""Extra fields by which others keep somebody out or let him in; passed over they would be another answer than meant."""

log = logging.getLogger("gatepost.users")


@dataclass(frozen=True, slots=True)
class Mistake:
    """A line that can't be used."""

    line: int
    what: str
    mend: str


class PasswdFileError(UsersFileError):
    """The file can't be read or understood; `mistakes` has each line."""

    def __init__(self, file: File, what: str, mistakes: tuple[Mistake, ...] = ()) -> None:
        lines = [f"{file}:{one.line}: {one.what}\n  mend:  {one.mend}" for one in mistakes[:_SHOWN]]
        if len(mistakes) > _SHOWN:
            lines.append(f"and {len(mistakes) - _SHOWN} lines more")
        super().__init__("\n".join(lines) or f"{file}: {what}")
        self.file = file
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class _Known:
    """What a reading of the file has found."""

    users: Mapping[str, User]
    by_address: Mapping[str, User]
    secret: bytes
    stand_in: StandIn
    offers: Offers


_Seen = tuple[int, int, int]  # mtime in ns, size, inode


class PasswdFile:
    """A Source. Invariant: all users are of one reading of the file, the latest that could be understood."""

    def __init__(self, file: File, domain: str, clock: Callable[[], float]) -> None:
        """`domain` is that of names without one, `clock` gives seconds. Raises PasswdFileError."""
        self._file = file
        self._domain = domain
        self._clock = clock
        self._seen: _Seen | None = None
        with suppress(OSError):  # `_read` tells it
            self._seen = _seen(file.stat())
        self._known = self._read()
        self._look_at = clock() + LOOK_S

    @property
    def secret(self) -> bytes:
        return self._known.secret

    @property
    def stand_in(self) -> StandIn:
        self._look()
        return self._known.stand_in

    @property
    def offers(self) -> Offers:
        return self._known.offers

    async def look_again(self) -> None:
        """As the first look of a second, so that none of those who ask for a user is the one who reads."""
        if self._clock() >= self._look_at - LOOK_S / 2 and self._has_changed():
            await asyncio.to_thread(self._read_again)

    def find(self, address: str) -> User | None:
        """The user with this name, with or without its domain."""
        self._look()
        return self._known.by_address.get(address)

    def all(self) -> Iterable[User]:
        self._look()
        return self._known.users.values()

    def close(self) -> None:
        """Nothing is open."""

    def _look(self) -> None:
        if self._clock() >= self._look_at and self._has_changed():
            self._read_again()

    def _has_changed(self) -> bool:
        """Whether there is a file that wasn't seen yet."""
        self._look_at = self._clock() + LOOK_S
        try:
            seen = _seen(self._file.stat())
        except OSError as error:
            if self._seen is not None:
                self._seen = None
                log.error("the users stay as they were: %s: %s", self._file, error.strerror)
            return False
        if seen == self._seen:
            return False
        self._seen = seen  # whatever is found: it is told once
        return True

    def _read_again(self) -> None:
        seen = self._seen
        try:
            known = self._read()
        except PasswdFileError as error:
            log.error("the users stay as they were: %s", error)
            return
        if self._seen == seen:  # nobody has read a newer one meanwhile
            self._known = known
            log.info("%s was read again: %d users", self._file, len(self._known.users))

    def _read(self) -> _Known:
        try:
            with self._file.open("rb") as opened:
                data = opened.read(_MAX_SIZE + 1)
        except OSError as error:
            raise PasswdFileError(self._file, f"it can't be read: {error.strerror}") from error
        if len(data) > _MAX_SIZE:
            raise PasswdFileError(self._file, f"it has more than {_MAX_SIZE} octets")
        return self._understood(data)

    def _understood(self, data: bytes) -> _Known:
        users: dict[str, User] = {}
        by_address: dict[str, User] = {}
        lines: dict[str, int] = {}
        mistakes: list[Mistake] = []
        stand_ins = StandIns()
        for number, text in _lines(data, mistakes):
            try:
                user, secret = self._user(text)
            except _Wrong as wrong:
                mistakes.append(Mistake(number, wrong.what, wrong.mend))
                continue
            address = folded(user.name)
            if address in users:
                what = f"{user.name} stands in line {lines[address]} already"
                mistakes.append(Mistake(number, what, "remove one of the two"))
                continue
            users[address], lines[address] = user, number
            by_address[address] = user
            local, _, domain = address.rpartition("@")
            if domain == folded(self._domain):
                by_address[local] = user
            if secret is not None:
                stand_ins.count(user.password, secret.cost)
        if mistakes:
            raise PasswdFileError(self._file, "", tuple(sorted(mistakes, key=lambda one: one.line)))
        return _Known(users, by_address, blake2b(data).digest(), stand_ins.usual(), Offers.of(users.values()))

    def _user(self, text: str) -> tuple[User, Secret | None]:
        """What a line says; its secret is None where the password is locked, as in `name:!:`."""
        name, colon, rest = text.partition(":")
        name = name.strip()
        if not colon:
            raise _Wrong("there is no colon", "name:secret, as htpasswd and doveadm pw write it")
        address = name if "@" in name else f"{name}@{self._domain}"
        try:
            Path.parse(address)
        except AddressError as error:
            raise _Wrong(f"{_shown(name)} is no name: {error}", "ann, or ann@example.org") from None
        fields = rest.split(":", _EXTRA - 1)
        written = fields[0].strip()
        extra = _extra(fields[_EXTRA - 1]) if len(fields) == _EXTRA else {}
        if written in ("!", "*", "!!"):
            return User(address, extra=extra), None
        try:
            secret = parse(written)
        except SecretError as error:
            raise _Wrong(f"{name}: {error}", error.mend) from None
        return User(address, written, secret.scram, plain=secret.plain, extra=extra), secret


class _Wrong(Exception):
    """Why a line can't be used."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend


def _lines(data: bytes, mistakes: list[Mistake]) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers."""
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            text = line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError:
            mistakes.append(Mistake(number, "this isn't UTF-8", "write the file in UTF-8"))
            continue
        if not text.isprintable():
            mistakes.append(Mistake(number, "there is a control character", "remove it"))
            continue
        yield number, text


def _extra(text: str) -> dict[str, str]:
    """Dovecot's fields that have a name, divided by blanks; one without a value is "yes"."""
    extra: dict[str, str] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if name.removeprefix("passdb_") in _WHO_MAY:
            what = f"{name} decides who may log in, and isn't known here"
            raise _Wrong(what, "remove the field, or the line; a plugin at pop_login and auth can decide instead")
        extra[name] = value if equals else "yes"
    try:
        quota_in(extra)
    except ValueError as error:
        what, _, mend = str(error).partition("; ")
        raise _Wrong(what, mend) from None
    return extra


def _seen(stat: os.stat_result) -> _Seen:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _shown(name: str) -> str:
    return f'"{name[:80]}"'
