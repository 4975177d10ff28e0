"""Signing with DKIM: whose mail is signed, with which keys, from when till when; and what can be wrong with that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from gatepost.app.settings.problems import KeyPath, Problem
from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import AnyPath, Duration, Filled, Kind, Switch, Text, Texts, shown, wrong
from gatepost.content.dkim import NEVER, SIGNED
from gatepost.content.dkim_keys import KeyProblem, check_selector, load_key
from gatepost.model import AddressError
from gatepost.model.edits import check_name
from gatepost.model.path import parse_domain

if TYPE_CHECKING:
    from gatepost.app.settings.root import Settings

FRESH_KEY = "gatepost dns key SELECTOR --domain DOMAIN"


def _parse_moment(value: object) -> datetime:
    """A day begins at 00:00 UTC."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError:
            wrong(f"{shown(value)} isn't a day", mend="2026-11-21, without quotes")
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    wrong(f"{shown(value)} isn't a day", mend="2026-11-21, without quotes")


Moment = Annotated[
    datetime,
    BeforeValidator(_parse_moment),
    Kind("day, or day and time"),
    PlainSerializer(lambda value: value.isoformat()),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class DkimKey(Section):
    """A private key and its name in the DNS. Its record is `SELECTOR._domainkey.DOMAIN`; `gatepost dns` prints it."""

    selector: Text = Field(description="The key's name in the DNS; a new key has a new name.")
    file: AnyPath = Field(
        description="The private key, PEM without a passphrase: RSA from 1024 bits, or Ed25519; `gatepost dns key` "
        "makes one."
    )
    algorithm: Annotated[Literal["rsa-sha256", "ed25519-sha256"] | None, Filled("what the key is for")] = Field(
        default=None, description="Refused if the key isn't for it."
    )
    begins: Moment | None = Field(
        default=None, alias="from", description="From when it signs; published before, so that the DNS knows it then."
    )
    until: Moment | None = Field(
        default=None, description="Till when it signs; it stays published as long as it stands here."
    )


class Dkim(Section):
    """One domain that signs."""

    domain: Text = Field(description="The domain that signs (d=), whose DNS has the keys.")
    match: Annotated[Texts, Filled("the domain and its subdomains")] = Field(
        default=(),
        description='Domains of From, else of the sender, whose mail it signs, such as "example.org", "*.example.org".',
    )
    key: tuple[DkimKey, ...] = Field(
        default=(), description="The keys; each one whose time it is signs, so that a message has several signatures."
    )
    strangers: Switch = Field(
        default=False,
        description='Sign what goes by a route `for = "anyone"` too, though a stranger may have brought it as yours.',
    )
    canonical: Literal["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"] = Field(
        default="relaxed/relaxed",
        description="How much may change on the way, in header fields and in the body, without breaking a signature.",
    )
    headers: Annotated[Texts, Filled("those of RFC 6376 §5.4.1")] = Field(
        default=(), description="The header fields that are signed; From always is."
    )
    oversign: Annotated[Texts, Filled("those that a reader sees")] = Field(
        default=(), description="Header fields that nobody may add on the way; From always is one."
    )
    expire: Duration = Field(default=0.0, description="How long a signature holds; 0 for ever.")

    @property
    def patterns(self) -> tuple[str, ...]:
        """`match`, with its default, in lower case."""
        return tuple(one.lower() for one in self.match) or (self.domain, f"*.{self.domain}")


def check_dkim(settings: Settings) -> Iterator[Problem]:
    """Domains and selectors are names, every key can be read and is what it is said to be."""
    seen: set[tuple[str, str]] = set()
    for at, table in enumerate(settings.dkim):
        path: KeyPath = ("dkim", at)
        try:
            parse_domain(table.domain)
        except AddressError as error:
            yield Problem((*path, "domain"), f'domain "{table.domain}": {error}', mend='domain = "example.org"')
        for number, pattern in enumerate(table.match):
            if "@" in pattern:
                what = f'"{pattern}" is a pattern of addresses; here domains are meant'
                yield Problem((*path, "match", number), what, mend=f'match = "{pattern.rpartition("@")[2]}"')
        yield from _fields(table, path)
        if not table.key:
            yield Problem(
                (*path, "domain"),
                f"nothing signs for {table.domain}: there is no key",
                mend="[[dkim.key]]",
                see=FRESH_KEY,
            )
        for number, key in enumerate(table.key):
            here: KeyPath = (*path, "key", number)
            name = (table.domain.lower(), key.selector.lower())
            if name in seen:
                what = f'selector "{key.selector}" is another key\'s already'
                yield Problem((*here, "selector"), what, mend="give another", see=FRESH_KEY)
            seen.add(name)
            yield from _key(key, here)


def _fields(table: Dkim, path: KeyPath) -> Iterator[Problem]:
    for where in ("headers", "oversign"):
        for number, name in enumerate(getattr(table, where)):
            try:
                check_name(name)
            except ValueError as error:
                yield Problem((*path, where, number), str(error), mend=f"{where} = {[*SIGNED[:4]]}".replace("'", '"'))
                continue
            if name.lower() in NEVER:
                what = f"{name} changes on the way, so it can't be signed"
                yield Problem((*path, where, number), what, mend="remove it")  # rfc6376#5.4.1


def _key(key: DkimKey, path: KeyPath) -> Iterator[Problem]:
    try:
        check_selector(key.selector)
    except KeyProblem as error:
        what, _, mend = str(error).partition(": ")
        yield Problem((*path, "selector"), what, mend=mend)
    if key.begins and key.until and key.until <= key.begins:
        yield Problem((*path, "until"), "it ends before it begins", mend="until = a later day")
    if not key.file.is_file():
        yield Problem((*path, "file"), f'there is no file "{key.file}"', mend=FRESH_KEY, see="it makes one")
        return
    if not os.access(key.file, os.R_OK):
        what = f"{key.file} can't be read by this user"
        yield Problem(
            (*path, "file"), what, mend="make the server's user its owner, or ask as the server's user or as root"
        )
        return
    try:
        found = load_key(key.file.read_bytes(), is_proven=False)
    except KeyProblem as error:
        what, _, mend = str(error).partition("; ")
        yield Problem((*path, "file"), f"{key.file}: {what}", mend=mend)
        return
    if key.algorithm is not None and found.algorithm.value != key.algorithm:
        what = f'the key in {key.file} is for "{found.algorithm.value}"'
        yield Problem((*path, "algorithm"), what, mend=f'algorithm = "{found.algorithm.value}", or leave it out')
