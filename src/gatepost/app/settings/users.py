"""Users and addresses: who has a maildrop, which addresses lead there, and how much it may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from gatepost.app.settings.problems import KeyPath
from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import (
    AnyPath,
    Filled,
    Kind,
    SecretText,
    Switch,
    Text,
    Texts,
    each_of,
    parse_several,
    parse_size,
    parse_text,
    show_size,
    shown,
    wrong,
)
from gatepost.model import AddressError, Path
from gatepost.model.path import parse_domain

SEPARATORS = "!#$%&'*+-/=?^_`{|}~"  # what may stand in a local part, but letters, digits and dots
_MOST_SEPARATORS = 4  # each may cost a look-up at RCPT


def parse_quota(value: object) -> int:
    """Octets; 0, or "none", is without a bound."""
    if isinstance(value, str) and value.strip().lower() == "none":
        return 0
    return parse_size(value)


def show_quota(octets: int) -> str:
    """As the file would write it."""
    return show_size(octets) if octets else "none"


def _parse_plus(value: object) -> str:
    text = parse_text(value)
    for character in text:
        if character not in SEPARATORS:
            what = f"{shown(character)} can't separate a name from what comes behind it"
            wrong(what, mend='"+", "-", "+-", or "" for none')
    if len(text) > _MOST_SEPARATORS:
        wrong(f"these are more than {_MOST_SEPARATORS} separators", mend='"+"')
    return "".join(dict.fromkeys(text))


def _parse_domains(value: object) -> Any:
    """Domains to domains, both as they are compared."""
    if not isinstance(value, Mapping):
        wrong(f"{shown(value)} isn't a table", mend='{ "example.net" = "example.org" }')
    return {_domain(one, (one,)): _domain(other, (one,)) for one, other in value.items()}


def _parse_catch_all(value: object) -> Any:
    """Domains to addresses."""
    if not isinstance(value, Mapping):
        wrong(f"{shown(value)} isn't a table", mend='{ "example.org" = "ann@example.org" }')
    caught: dict[str, str] = {}
    for domain, address in value.items():
        try:
            caught[_domain(domain, (domain,))] = Path.parse(parse_text(address)).address
        except AddressError as error:
            wrong(f"{shown(address)} isn't an address: {error}", at=(domain,), mend=f'"{domain}" = "ann@{domain}"')
    return caught


def _parse_list(value: object) -> Any:
    return tuple(_domain(one, (at,)) for at, one in enumerate(each_of(value)))


def _domain(text: object, at: KeyPath) -> str:
    try:
        return parse_domain(parse_text(text).removeprefix("@"))
    except AddressError as error:
        wrong(f"{shown(text)} isn't a domain: {error}", at=at, mend='"example.org"')


_TEXT_BY_TEXT = {"type": "object", "additionalProperties": {"type": "string"}}
Quota = Annotated[
    int,
    BeforeValidator(parse_quota),
    Kind('octets, or "none"', show_quota),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}),
]


class User(Section):
    """Somebody who has a maildrop and may authenticate."""

    name: Text = Field(description="The full address, which is the login name too.")
    password: SecretText | None = Field(
        default=None,
        description="The argon2 hash, or a secret of another scheme, such as `{SSHA512}…` or `$6$…`; without one the "
        "user can't authenticate.",
    )
    scram: SecretText | None = Field(
        default=None, description="The SCRAM-SHA-256 keys; `gatepost user add` makes both."
    )
    aliases: Texts = Field(default=(), description="Further addresses whose mail goes to the same maildrop.")
    send_as: Texts = Field(default=(), description="Further addresses, or patterns of them, that the user may send as.")
    quota: Quota | None = Field(
        default=None, description="What the maildrop may hold; without it what `[users]` says, `none` is without end."
    )


class Users(Section):
    """What concerns all users."""

    domains: Annotated[tuple[str, ...], BeforeValidator(_parse_list), Kind("domains")] = Field(
        default=(),
        description='Whose addresses lead to users where a route says `recipients = "users"`; empty: any domain\'s.',
    )
    domain_aliases: Annotated[
        dict[str, str],
        BeforeValidator(_parse_domains),
        Kind("domains and domains"),
        WithJsonSchema(_TEXT_BY_TEXT),
    ] = Field(
        default={},
        description="Domains whose addresses are those of another one, unless somebody has the very address: "
        '`{ "example.net" = "example.org" }`.',
    )
    plus: Annotated[str, BeforeValidator(_parse_plus), Kind("characters")] = Field(
        default="+",
        description="Characters behind which a local part says more than whose it is: `ann+shop@` leads to `ann@`, "
        "unless somebody has the very address; empty switches it off.",
    )
    catch_all: Annotated[
        dict[str, str],
        BeforeValidator(_parse_catch_all),
        Kind("domains and addresses"),
        WithJsonSchema(_TEXT_BY_TEXT),
    ] = Field(
        default={},
        description="Who has the mail for addresses of a domain that nobody else has, postmaster and abuse apart: "
        '`{ "example.org" = "ann@example.org" }`.',
    )
    files: Annotated[tuple[AnyPath, ...], BeforeValidator(parse_several), Kind("paths")] = Field(
        default=(),
        description="Further users, from files that htpasswd or Dovecot have written; they are read again when they "
        "have changed.",
    )
    default_domain: Annotated[Text, Filled("the first of `domains`, or the hostname")] = Field(
        default="", description="The domain of names in those files that have none."
    )
    cram_md5: Switch = Field(
        default=False,
        description="Offer CRAM-MD5 (RFC 2195), which only works for users whose password is kept in the clear: "
        "`{PLAIN}` in a file, or `gatepost user passwd --keep-plain`.",
    )  # rfc2195
    quota: Quota = Field(
        default=0, description="What a maildrop may hold, unless its user has a quota of his own; `none` is no bound."
    )
    over_quota: Literal["tempfail", "refuse"] = Field(
        default="tempfail",
        description="What is said at RCPT about a maildrop that is full: 452, so that the sender tries again, or 552.",
    )


class Alias(Section):
    """An address whose mail goes to others."""

    address: Text = Field(description="The address; `postmaster` alone stands for that of every domain.")
    to: Texts = Field(
        description="Whose mail it becomes: addresses here or elsewhere. The address itself among them is the maildrop "
        "of the user who has it."
    )
    send_as: Switch = Field(
        default=False,
        description="Whether each of several users whose mail it becomes may send as the address; one alone may.",
    )
