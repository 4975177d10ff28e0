"""The registry of users: a small database that `gatepost user` changes while servers read it.

Every change is one transaction; every question is one indexed look-up, so a change counts at once in all workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import apsw
import msgspec

from gatepost.store.passwords import Secrets
from gatepost.store.shared import open_shared
from gatepost.store.stand_ins import StandIn
from gatepost.store.users import Offers, User, folded

_SCHEMA = """
CREATE TABLE IF NOT EXISTS user(name TEXT PRIMARY KEY, facts BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS address(
    address TEXT PRIMARY KEY, name TEXT NOT NULL REFERENCES user ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS address_name ON address(name);
CREATE TABLE IF NOT EXISTS secret(value BLOB NOT NULL);
"""
_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON")
_decoder = msgspec.msgpack.Decoder(User)


class RegistryError(Exception):
    """The registry can't be read or written, or the change would make it contradict itself."""


class UnknownUser(RegistryError):
    """There is no such user."""


class Registry:
    """Users in a database, a Source. Invariant: an address, by name or alias, leads to one user."""

    def __init__(self, path: File, entropy: Callable[[int], bytes]) -> None:
        """Open or make it; `entropy` gives random octets. Raises RegistryError."""
        try:
            self._connection = open_shared(path, _PRAGMAS, _SCHEMA)
        except apsw.Error as error:
            raise RegistryError(f"{path} can't be opened: {error}") from error
        try:
            path.chmod(0o600)
            self._ask("INSERT INTO secret SELECT ? WHERE NOT EXISTS (SELECT 1 FROM secret)", entropy(32))
            self.secret: bytes = self._ask("SELECT value FROM secret")[0][0]
            self._counted: tuple[int, StandIn, Offers] | None = None  # with the version that they are of
        except BaseException:
            self._connection.close(True)
            raise

    def find(self, address: str) -> User | None:
        """The user with this name or alias; raises RegistryError."""
        rows = self._ask("SELECT facts FROM address JOIN user USING (name) WHERE address = ?", folded(address))
        return _decoder.decode(rows[0][0]) if rows else None

    def all(self) -> Iterable[User]:
        """Every user by name; raises RegistryError."""
        return [_decoder.decode(facts) for (facts,) in self._ask("SELECT facts FROM user ORDER BY name")]

    @property
    def stand_in(self) -> StandIn:
        """All secrets here are the house's own; raises RegistryError."""
        return self._count()[1]

    @property
    def offers(self) -> Offers:
        """Raises RegistryError."""
        return self._count()[2]

    async def look_again(self) -> None:
        """Each question asks the database."""

    def add(
        self,
        name: str,
        secrets: Secrets | None = None,
        *,
        aliases: Sequence[str] = (),
        send_as: Sequence[str] = (),
        quota: int | None = None,
    ) -> User:
        """A new user, who can't log in without secrets; RegistryError if an address is somebody's already."""
        user = User(name, aliases=tuple(aliases), send_as=tuple(send_as), quota=quota)
        user = (
            user if secrets is None else replace(user, password=secrets.hash, scram=secrets.scram, plain=secrets.plain)
        )
        self._change([("INSERT INTO user VALUES (?, ?)", (folded(name), _encode(user))), *_addresses(user)])
        return user

    def remove(self, name: str) -> None:
        """The user is gone, the mailbox stays; raises UnknownUser."""
        self._change([("DELETE FROM user WHERE name = ?", (folded(self._user(name).name),))])

    def set_password(self, name: str, secrets: Secrets) -> None:
        """Another password; raises UnknownUser."""
        self._replace(replace(self._user(name), password=secrets.hash, scram=secrets.scram, plain=secrets.plain))

    def set_aliases(self, name: str, aliases: Sequence[str]) -> None:
        """Other aliases; raises UnknownUser, RegistryError if one is somebody's already."""
        self._replace(replace(self._user(name), aliases=tuple(aliases)))

    def set_send_as(self, name: str, send_as: Sequence[str]) -> None:
        """Other addresses, or patterns of them, that the user may send as; raises UnknownUser."""
        self._replace(replace(self._user(name), send_as=tuple(send_as)))

    def set_quota(self, name: str, quota: int | None) -> None:
        """Another quota (octets; 0 is without end, None what holds for everybody); raises UnknownUser."""
        self._replace(replace(self._user(name), quota=quota))

    def close(self) -> None:
        self._connection.close()

    def _user(self, name: str) -> User:
        user = self.find(name)
        if user is None or folded(user.name) != folded(name):
            raise UnknownUser(f"there is no user {name}")
        return user

    def _replace(self, user: User) -> None:
        name = folded(user.name)
        self._change(
            [
                ("UPDATE user SET facts = ? WHERE name = ?", (_encode(user), name)),
                ("DELETE FROM address WHERE name = ?", (name,)),
                *_addresses(user),
            ]
        )

    def _change(self, statements: Sequence[tuple[str, Sequence[Any]]]) -> None:
        self._counted = None
        try:
            with self._connection:
                for sql, values in statements:
                    self._connection.execute(sql, values)
        except apsw.ConstraintError as error:
            raise RegistryError("one of these addresses belongs to somebody already") from error
        except apsw.Error as error:
            raise RegistryError(f"the users can't be changed: {error}") from error

    def _count(self) -> tuple[int, StandIn, Offers]:
        [(version,)] = self._ask("PRAGMA data_version")  # which another connection's change makes another
        if self._counted is None or self._counted[0] != version:
            users = self.all()
            self._counted = (version, StandIn(sum(1 for _ in users)), Offers.of(users))
        return self._counted

    def _ask(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, values or None).fetchall()
        except apsw.Error as error:
            raise RegistryError(f"the users can't be read: {error}") from error


_encode = msgspec.msgpack.Encoder().encode


def _addresses(user: User) -> list[tuple[str, Sequence[Any]]]:
    places = dict.fromkeys(folded(address) for address in (user.name, *user.aliases))
    return [("INSERT INTO address VALUES (?, ?)", (place, folded(user.name))) for place in places]
