"""The lists' database: lists, members, what waits for a confirmation, what moderators have decided.

Every change is one transaction, synced before it is answered; several processes share the file, and see each other's
changes at once. A member's id is never used again, since return paths carry it.
"""

from __future__ import annotations

import errno
import os
from base64 import b32encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path as File
from typing import Any

import apsw
import msgspec

from gatepost.model import AddressError, Path
from gatepost.store.lists_facts import (
    Decision,
    ListError,
    ListOptions,
    MailingList,
    Member,
    Mode,
    Pending,
    Taken,
    Trouble,
    Unavailable,
    UnknownList,
    check_address,
    check_name,
    checked_options,
    checked_path,
)
from gatepost.store.shared import open_shared
from gatepost.store.users import folded

_SCHEMA = """
CREATE TABLE IF NOT EXISTS list(
    name TEXT PRIMARY KEY, address TEXT NOT NULL UNIQUE, spelled TEXT NOT NULL, options BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS member(
    id INTEGER PRIMARY KEY AUTOINCREMENT, list TEXT NOT NULL REFERENCES list ON DELETE CASCADE, key TEXT NOT NULL,
    address TEXT NOT NULL, display TEXT NOT NULL, since REAL NOT NULL, mode TEXT NOT NULL, vacation_until REAL,
    moderated INTEGER NOT NULL, score REAL NOT NULL, bounced_at REAL, probed_at REAL, stopped_at REAL,
    UNIQUE (list, key)
);
CREATE INDEX IF NOT EXISTS member_list ON member(list, id);
CREATE INDEX IF NOT EXISTS member_troubled ON member(stopped_at) WHERE stopped_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS pending(
    token TEXT PRIMARY KEY, list TEXT NOT NULL REFERENCES list ON DELETE CASCADE, key TEXT NOT NULL,
    address TEXT NOT NULL, action TEXT NOT NULL, asked_at REAL NOT NULL, until REAL NOT NULL, answered INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pending_asked ON pending(key, asked_at);
CREATE INDEX IF NOT EXISTS pending_until ON pending(until);
CREATE TABLE IF NOT EXISTS decision(
    ticket TEXT PRIMARY KEY, approved INTEGER NOT NULL, decider TEXT NOT NULL, at REAL NOT NULL, done INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS decision_done ON decision(done);
CREATE TABLE IF NOT EXISTS secret(value BLOB NOT NULL);
CREATE VIEW IF NOT EXISTS member_fact AS SELECT
    id, list, address, display, since, mode, vacation_until, moderated, score, bounced_at, probed_at, stopped_at, key
    FROM member;
"""
_PRAGMAS = ("synchronous=FULL", "foreign_keys=ON")
_SUBSCRIBE = (
    "INSERT OR IGNORE INTO member(list, key, address, display, since, mode, moderated, score) "
    "VALUES (?, ?, ?, ?, ?, ?, 0, 0.0) RETURNING 1"
)
_ANSWER = (
    "UPDATE pending SET answered = 1 WHERE token = ? AND answered = 0 AND until > ? "
    "RETURNING token, list, address, action, asked_at, until"
)
_ASKED = (
    "SELECT token, list, address, action, asked_at, until FROM pending WHERE token = ? AND answered = 0 AND until > ?"
)
_WAITING = (
    "SELECT token, list, address, action, asked_at, until FROM pending "
    "WHERE list = ? AND answered = 0 AND until > ? ORDER BY asked_at"
)
_TOKEN_OCTETS = 10  # 16 characters of base32
_REMEMBERED_S = 86_400.0  # pending confirmations that are over still count for `asked_since`
_DECIDED_S = 30 * 86_400.0  # who decides once more is told of the first decision

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ListOptions).decode


class ListDatabase:
    """The lists on disk, or in memory. Invariant: used by one thread at a time; every change is whole or isn't.

    Whatever is asked raises ListError where the database can't answer.
    """

    def __init__(self, path: File | None, entropy: Callable[[int], bytes] = os.urandom) -> None:
        """Open or make it; None: in memory. `entropy` gives random octets. Raises ListError."""
        self._entropy = entropy
        self._where = "the lists" if path is None else str(path)
        try:
            if path is None:
                self._connection = apsw.Connection(":memory:")
                self._connection.execute("PRAGMA foreign_keys=ON")
                self._connection.execute(_SCHEMA)
            else:
                self._connection = open_shared(path, _PRAGMAS, _SCHEMA)
        except (apsw.Error, OSError) as error:
            raise _unavailable(self._where, error) from error
        try:
            if not (found := self._run("SELECT value FROM secret")):  # who only looks waits for nobody who writes
                with self._change():
                    self._run("INSERT INTO secret SELECT ? WHERE NOT EXISTS (SELECT 1 FROM secret)", entropy(32))
                found = self._run("SELECT value FROM secret")
            self.secret: bytes = found[0][0]
        except BaseException:
            self._connection.close(True)
            raise

    def close(self) -> None:
        self._connection.close()

    # lists

    def create(self, name: str, address: str, options: ListOptions) -> MailingList:
        """A new list; Taken if there is one of that name or address."""
        made = MailingList(check_name(name), check_address(address).address, checked_options(options))
        with self._change():
            if self.find(name) is not None:
                raise Taken(f'there is a list "{name}" already: gatepost list show {name}')
            if (there := self.at(address)) is not None:
                raise Taken(f'{address} is the address of the list "{there.name}" already')
            key, facts = folded(made.address), _encode(made.options)
            self._run("INSERT INTO list VALUES (?, ?, ?, ?)", name, key, made.address, facts)
        return made

    def find(self, name: str) -> MailingList | None:
        """The list of that name."""
        return self._one_list("SELECT name, spelled, options FROM list WHERE name = ?", name)

    def at(self, address: str) -> MailingList | None:
        """The list that has this address (not its sub-addresses)."""
        return self._one_list("SELECT name, spelled, options FROM list WHERE address = ?", _key(address))

    def all(self) -> list[MailingList]:
        """Every list, by name."""
        return [
            _list(name, address, options)
            for name, address, options in self._run("SELECT name, spelled, options FROM list ORDER BY name")
        ]

    def change(self, name: str, options: ListOptions) -> None:
        """Other options; UnknownList."""
        options = checked_options(options)
        with self._change():
            self._known(name)
            self._run("UPDATE list SET options = ? WHERE name = ?", _encode(options), name)

    def remove(self, name: str) -> bool:
        """The list and its members are gone, what was archived stays. Whether there was one."""
        with self._change():
            return bool(self._run("DELETE FROM list WHERE name = ? RETURNING 1", name))

    # members

    def subscribe(self, name: str, address: str, *, display: str = "", mode: Mode = "mail", now: float) -> Member:
        """A new member; UnknownList; Taken if the address is on the list already."""
        if not self.subscribe_all(name, [(address, display)], mode=mode, now=now):
            raise Taken(f"{address} is on the list already")
        found = self.member(name, address)
        if found is None:
            raise ListError(f"{address} was taken off the list in the same moment; try again")
        return found

    def subscribe_all(self, name: str, people: Iterable[tuple[str, str]], *, mode: Mode = "mail", now: float) -> int:
        """Many members (address, display name) in one step, all or none; how many are new. ListError names who isn't
        an address.
        """
        rows = []
        for address, display in people:
            written = checked_path(address).address
            rows.append((name, folded(written), written, _one_line(display), now, mode))
        with self._change():
            self._known(name)
            return sum(len(self._run(_SUBSCRIBE, *row)) for row in rows)

    def unsubscribe(self, name: str, address: str) -> bool:
        """Whether there was such a member, who is none any more."""
        return bool(self.unsubscribe_all(name, [address]))

    def unsubscribe_all(self, name: str, addresses: Iterable[str]) -> list[str]:
        """Many members less in one step; those who were members."""
        with self._change():
            sql = "DELETE FROM member WHERE list = ? AND key = ? RETURNING address"
            return [row[0] for address in addresses for row in self._run(sql, name, _key(address))]

    def member(self, name: str, address: str) -> Member | None:
        """The member of a list with this address."""
        return self._one_member("SELECT * FROM member_fact WHERE list = ? AND key = ?", name, _key(address))

    def member_by_id(self, id: int) -> Member | None:
        """The member with this id."""
        return self._one_member("SELECT * FROM member_fact WHERE id = ?", id)

    def members(self, name: str, *, after: int = 0, limit: int | None = None) -> list[Member]:
        """The members with an id greater than `after`, by id; at most `limit`."""
        sql = "SELECT * FROM member_fact WHERE list = ? AND id > ? ORDER BY id LIMIT ?"
        return [_member(row) for row in self._run(sql, name, after, -1 if limit is None else limit)]

    def troubled(self) -> list[Member]:
        """The members of all lists whom bounces keep mail away from."""
        return [_member(row) for row in self._run("SELECT * FROM member_fact WHERE stopped_at IS NOT NULL")]

    def count(self, name: str) -> int:
        """How many members a list has."""
        found: int = self._run("SELECT count(*) FROM member WHERE list = ?", name)[0][0]
        return found

    def change_member(self, member: Member) -> bool:
        """Write down all facts of a member but id, list and address; whether there still is one."""
        facts = astuple(member)[3:]
        sql = (
            "UPDATE member SET display = ?, since = ?, mode = ?, vacation_until = ?, moderated = ?, score = ?, "
            "bounced_at = ?, probed_at = ?, stopped_at = ? WHERE id = ? RETURNING 1"
        )
        with self._change():
            return bool(self._run(sql, *facts, member.id))

    # what waits for a confirmation

    def ask(self, name: str, address: str, action: str, now: float, valid_s: float) -> str:
        """Note that an address was asked to confirm; the token that does it within `valid_s` seconds. UnknownList."""
        token = b32encode(self._entropy(_TOKEN_OCTETS)).decode("ascii").lower()
        with self._change():
            self._known(name)
            self._run("DELETE FROM pending WHERE until < ? AND asked_at < ?", now, now - _REMEMBERED_S)
            row = (token, name, _key(address), address, action, now, now + valid_s)
            self._run("INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, 0)", *row)
        return token

    def asked(self, token: str, now: float) -> Pending | None:
        """What the token would confirm; None for one that is unknown, over, or has been used."""
        rows = self._run(_ASKED, token.lower(), now)
        return Pending(*rows[0]) if rows else None

    def answer(self, token: str, now: float) -> Pending | None:
        """What the token confirms; None for one that is unknown, over, or has been used."""
        with self._change():
            rows = self._run(_ANSWER, token.lower(), now)
        return Pending(*rows[0]) if rows else None

    def waiting(self, name: str, now: float) -> list[Pending]:
        """What waits for a confirmation, oldest first."""
        return [Pending(*row) for row in self._run(_WAITING, name, now)]

    def asked_since(self, address: str, since: float) -> int:
        """How often an address was asked to confirm something, on any list, answered or not."""
        sql = "SELECT count(*) FROM pending WHERE key = ? AND asked_at >= ?"
        found: int = self._run(sql, _key(address), since)[0][0]
        return found

    # what moderators have decided

    def decide(self, ticket: str, approved: bool, by: str, now: float) -> Decision:
        """Note a decision; the one that counts: the first."""
        with self._change():
            self._run("DELETE FROM decision WHERE at < ?", now - _DECIDED_S)
            self._run("INSERT OR IGNORE INTO decision VALUES (?, ?, ?, ?, 0)", ticket, approved, by, now)
        found = self.decision(ticket)
        return Decision(ticket, approved, by, now) if found is None else found

    def decision(self, ticket: str) -> Decision | None:
        """What was decided about a ticket, carried out or not."""
        rows = self._run("SELECT ticket, approved, decider, at FROM decision WHERE ticket = ?", ticket)
        return _decision(rows[0]) if rows else None

    def decisions(self) -> list[Decision]:
        """What was decided and isn't carried out yet, oldest first."""
        sql = "SELECT ticket, approved, decider, at FROM decision WHERE done = 0 ORDER BY at"
        return [_decision(row) for row in self._run(sql)]

    def carried_out(self, ticket: str) -> None:
        """A decision has been carried out."""
        with self._change():
            self._run("UPDATE decision SET done = 1 WHERE ticket = ?", ticket)

    def _known(self, name: str) -> None:
        if not self._run("SELECT 1 FROM list WHERE name = ?", name):
            raise UnknownList(f'there is no list "{name[:80]}": gatepost list')

    def _one_list(self, sql: str, key: str) -> MailingList | None:
        rows = self._run(sql, key)
        return _list(*rows[0]) if rows else None

    def _one_member(self, sql: str, *values: Any) -> Member | None:
        rows = self._run(sql, *values)
        return _member(rows[0]) if rows else None

    @contextmanager
    def _change(self) -> Iterator[None]:
        """One transaction, which nobody else's can come between."""
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, values or None).fetchall()
        except apsw.Error as error:
            raise _unavailable(self._where, error) from error


def _unavailable(where: str, error: Exception) -> Unavailable:
    match error:
        case apsw.BusyError() | apsw.LockedError():
            trouble = Trouble.BUSY
        case apsw.FullError() | OSError(errno=errno.ENOSPC | errno.EDQUOT):
            trouble = Trouble.FULL
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError():
            trouble = Trouble.FORBIDDEN
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            trouble = Trouble.FORBIDDEN
        case apsw.CorruptError() | apsw.NotADBError():
            trouble = Trouble.DAMAGED
        case _:
            trouble = Trouble.OTHER
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Unavailable(f"{where}: {trouble.value} ({said})", trouble)


def _list(name: str, address: str, options: bytes) -> MailingList:
    try:
        return MailingList(name, address, _decode(options))
    except msgspec.MsgspecError as error:
        raise ListError(f'the options of the list "{name}" can\'t be read: {error}') from error


def _member(row: Sequence[Any]) -> Member:
    member = Member(*row[:-1])
    return replace(member, moderated=bool(member.moderated))


def _decision(row: Sequence[Any]) -> Decision:
    ticket, approved, by, at = row
    return Decision(ticket, bool(approved), by, at)


def _key(address: str) -> str:
    """An address as it is compared: one domain has two spellings (rfc5890#2.3.2.1)."""
    if address.isascii():
        return folded(address)
    try:
        return folded(Path.parse(address).address)
    except AddressError:
        return folded(address)


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
