"""Collecting: accounts on other servers, whom their mail is for, how long it is left there; and what can be wrong."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from gatepost.app.settings.problems import KeyPath, Problem
from gatepost.app.settings.sections import Section
from gatepost.app.settings.units import (
    AnyPath,
    Duration,
    Endpoint,
    Filled,
    Kind,
    Network,
    SecretText,
    Size,
    Switch,
    Text,
    Texts,
    Whole,
    each_of,
    is_ip,
    parse_duration,
    parse_endpoint,
    parse_text,
    parse_trusted,
    show_duration,
    show_size,
    shown,
)
from gatepost.model import AddressError, Path
from gatepost.model.edits import check_name

if TYPE_CHECKING:
    from gatepost.app.settings.root import Settings

IMPLICIT_PORT, PLAIN_PORT = 995, 110
FOREVER: Literal["forever"] = "forever"
_SOONEST_S = 10.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_NETWORK = re.compile(r"[0-9./]+|[0-9A-Fa-f:./]*:[0-9A-Fa-f:./]*")
_EXAMPLE = '"pop.example.net:995"'

Way = Literal["auto", "user", "apop", "plain", "login", "cram-md5", "scram-sha-256", "xoauth2", "oauthbearer"]
_BY_TOKEN = ("xoauth2", "oauthbearer")


def _parse_server(value: object) -> Endpoint:
    return parse_endpoint(value, port=IMPLICIT_PORT, example=_EXAMPLE)


def _parse_keep(value: object) -> float | Literal["forever"]:
    return FOREVER if value == FOREVER else parse_duration(value)


def _show_keep(value: float | str) -> str:
    return value if isinstance(value, str) else show_duration(value)


def _parse_believed(value: object) -> tuple[Network | str, ...]:
    """Networks, and names with or without `*`."""
    found: list[Network | str] = []
    for one in each_of(value):
        text = one if not isinstance(one, str) else parse_text(one).strip()
        if isinstance(text, str) and not _NETWORK.fullmatch(text):
            found.append(text.lower())
        else:
            found += parse_trusted(one)
    return tuple(found)


class Collect(Section):
    """One maildrop on another server, whose mail is fetched by POP3."""

    name: Annotated[Text, Filled("the user, at the server if need be")] = Field(
        default="", description="Its name in logs, listings and `gatepost fetch`."
    )
    server: Annotated[
        Endpoint,
        PlainValidator(_parse_server),
        Kind("host:port"),
        PlainSerializer(str),
        WithJsonSchema({"type": "string"}),
    ] = Field(description='The server, such as "pop.example.net"; port 995 unless another is named.')
    tls: Annotated[Literal["implicit", "starttls", "none"], Filled('"starttls" on port 110, else "implicit"')] = Field(
        default="implicit", description="How TLS begins; with none the password and the mail can be read on the way."
    )
    ca: AnyPath | None = Field(
        default=None, description="Authorities to trust for this server instead of the system's: a PEM file."
    )
    fingerprint: Text = Field(
        default="",
        description="The SHA-256 of the server's certificate, in hexadecimal: nothing else of it is checked then.",
    )
    user: Text = Field(description="The login name there.")
    password: SecretText | None = Field(default=None, description="The password there.")
    token_file: AnyPath | None = Field(
        default=None, description="A file with the access token for XOAUTH2 on its first line, read at each login."
    )
    token_command: Text = Field(
        default="",
        description="A program with its arguments that prints the access token for XOAUTH2, run at each login.",
    )
    auth: Annotated[tuple[Way, ...], BeforeValidator(each_of)] = Field(
        default=("auto",),
        description="How to log in, or several ways in order; auto is the safest that the server offers.",
    )
    to: Text = Field(description="Whose mail it is: the address that gets what is fetched.")
    envelope: Text = Field(
        default="",
        description="The header field in which the server names each message's recipients, where the maildrop is for "
        'several people, such as "X-Envelope-To" or "Delivered-To"; what names nobody goes to `to`.',
    )
    prefix: Text = Field(default="", description="What the server puts before each address in that field.")
    domains: Texts = Field(
        default=(), description='The domains whose addresses in that field count, such as "example.org"; all without.'
    )
    every: Duration = Field(
        default=300.0, description="How long between two runs; 0 only when `gatepost fetch` asks for it."
    )
    keep: Annotated[
        float | Literal["forever"],
        PlainValidator(_parse_keep),
        Kind('seconds, or "forever"', _show_keep),
        WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
    ] = Field(
        default=7 * 86400.0,
        description="How long a message is left on the server after it was fetched; 0 deletes it as soon as it is "
        "durable here.",
    )
    expire: Annotated[
        float | Literal["forever"],
        PlainValidator(_parse_keep),
        Kind('seconds, or "forever"', _show_keep),
        WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
    ] = Field(
        default=5 * 86400.0,
        description="How long a message that is refused for now (4xx) is fetched again; after that it is held as if it "
        "were refused for good.",
    )
    size_limit: Annotated[Size, Filled("limits.message_size")] = Field(
        default=0, description="The largest message that is fetched; larger ones stay there and are told once."
    )
    at_most: Whole = Field(default=1000, ge=1, description="Messages fetched in one run; the next goes on.")
    trusted: Annotated[
        tuple[Network | str, ...],
        PlainValidator(_parse_believed),
        Kind("networks and names"),
        PlainSerializer(lambda several: [str(one) for one in several]),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(
        default=(),
        description="Servers whose Received fields are believed, beside the one that mail is fetched from and its own "
        'network: addresses, networks, or names such as "*.example.net". They tell which client a message came from.',
    )
    refused: Literal["quarantine", "discard"] = Field(
        default="quarantine", description="What becomes of a message that a plugin or limit refuses: nobody hears it."
    )
    timeout: Duration = Field(default=60.0, gt=0, description="How long the server may take for each answer.")
    enabled: Switch = Field(default=True, description="Whether it is looked at, by interval or when asked for.")

    @property
    def has_token(self) -> bool:
        """Whether an access token is how it logs in."""
        return self.token_file is not None or bool(self.token_command)

    @property
    def path(self) -> Path:
        """`to` as an address; raises AddressError."""
        return Path.parse(self.to, bare_postmaster=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, value: Any) -> Any:
        """What depends on other keys."""
        if not isinstance(value, Mapping):
            return value
        filled = dict(value)
        server = str(filled.get("server", ""))
        if "tls" not in filled and server.endswith(f":{PLAIN_PORT}"):
            filled["tls"] = "starttls"
        if server and ":" not in server and filled.get("tls") in ("starttls", "none"):
            filled["server"] = f"{server}:{PLAIN_PORT}"
        if "name" not in filled and filled.get("user"):
            user, host = str(filled["user"]), server.partition(":")[0]
            filled["name"] = re.sub(r"[^A-Za-z0-9._@+-]", "-", user if "@" in user else f"{user}@{host}")[:64]
        return filled


def check_collect(settings: Settings) -> Iterator[Problem]:
    """Accounts can be told apart, log in somehow, and have somebody whom their mail is for."""
    seen: dict[str, str] = {}
    maildrops: dict[tuple[str, str], str] = {}
    for at, table in enumerate(settings.collect):
        path: KeyPath = ("collect", at)
        maildrop = table.server.host.lower(), table.user
        if maildrop in maildrops:
            what = f'the maildrop of {shown(table.user)} there is that of "{maildrops[maildrop]}" already'
            mend = 'one table for it; several people are told apart by envelope = "X-Envelope-To"'
            yield Problem((*path, "user"), what, mend=mend)
        maildrops.setdefault(maildrop, table.name)
        if not _NAME.fullmatch(table.name):
            what = f"{shown(table.name)} can't be a name: letters, digits and . _ @ + - are"
            yield Problem((*path, "name"), what, mend='name = "isp"')
        elif table.name.lower() in seen:
            yield Problem(
                (*path, "name"), f'name "{table.name}" is taken by an earlier [[collect]]', mend="give another"
            )
        seen[table.name.lower()] = table.name
        if settings.data is None:
            what = "without data nothing is known of what was fetched, and all of it would be fetched again"
            yield Problem((*path, "server"), what, mend='data = "gatepost-data"')
        yield from _connection(table, path)
        yield from _login(settings, table, path)
        yield from _recipients(settings, table, path)
        yield from _sizes(settings, table, path)
        if table.refused in settings.never:
            note = f'never = ["{table.refused}"] promises that nothing is'
            other = next((one for one in ("quarantine", "discard") if one not in settings.never), "")
            mend = f'refused = "{other}"' if other else "remove one of the promises: nobody hears a refusal here"
            yield Problem((*path, "refused"), "what is refused here can't be sent back", note, mend)


def _connection(table: Collect, path: KeyPath) -> Iterator[Problem]:
    port = table.server.port
    if not port:
        yield Problem((*path, "server"), "port 0 can't be called", mend=f'server = "{table.server.host}:995"')
    if table.tls != "implicit" and port == IMPLICIT_PORT:
        what = f'tls = "{table.tls}" can\'t be: on port 995 TLS comes first'
        yield Problem((*path, "tls"), what, mend='tls = "implicit", or port 110')
    if table.tls == "implicit" and port == PLAIN_PORT:
        yield Problem((*path, "tls"), "on port 110 TLS doesn't come first", mend='tls = "starttls", or port 995')
    for key in ("ca", "fingerprint"):
        if table.tls == "none" and getattr(table, key):
            yield Problem((*path, key), f"{key} is about TLS, and there is none", mend='tls = "starttls", or remove it')
    digits = table.fingerprint.replace(":", "")
    if table.fingerprint and not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        what = f"{shown(table.fingerprint)} isn't the SHA-256 of a certificate, which has 64 hexadecimal digits"
        mend = "openssl x509 -noout -fingerprint -sha256 -in certificate.pem"
        yield Problem((*path, "fingerprint"), what, mend=mend)
    if table.fingerprint and table.ca:
        what = "with a fingerprint no authority is asked"
        yield Problem((*path, "ca"), what, mend="remove one of the two")
    if table.ca is not None and not table.ca.is_file():
        yield Problem((*path, "ca"), f'there is no file "{table.ca}"', mend="ca = a PEM file that the server may read")


def _login(settings: Settings, table: Collect, path: KeyPath) -> Iterator[Problem]:
    ways = [key for key in ("password", "token_file", "token_command") if getattr(table, key)]
    if not ways and settings.origins.of((*path, "password")) is None:  # one that can't be read is told already
        what = "there is neither a password nor a token, so nobody can log in"
        yield Problem((*path, "user"), what, mend='password = "@secrets/password"', see='or token_command = "…"')
    for key in ways[1:]:
        yield Problem((*path, key), f"{ways[0]} and {key} are two ways to log in", mend="remove one of the two")
    if table.token_file is not None and not table.token_file.is_file():
        yield Problem((*path, "token_file"), f'there is no file "{table.token_file}"', mend="name a file that is there")
    if table.token_command and not _words(table.token_command):
        what = f"{shown(table.token_command)} isn't a program with its arguments: a quote isn't closed"
        yield Problem((*path, "token_command"), what, mend='token_command = "/usr/local/bin/token ann"')
    if not table.auth:
        yield Problem((*path, "auth"), "no way to log in is left", mend='auth = "auto"')
    if "auto" in table.auth and len(table.auth) > 1:
        yield Problem((*path, "auth"), '"auto" is every way already', mend='auth = "auto", or without it')
    for number, way in enumerate(table.auth):
        by_token = way in _BY_TOKEN
        if way != "auto" and ways and by_token != table.has_token:
            what = f'"{way}" logs in with a token, and there is only a password'
            what = what if by_token else f'"{way}" logs in with a password, and there is only a token'
            mend = 'token_command = "…", or auth = "auto"' if by_token else 'auth = "xoauth2", or "auto"'
            yield Problem((*path, "auth", number), what, mend=mend)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def _recipients(settings: Settings, table: Collect, path: KeyPath) -> Iterator[Problem]:
    try:
        to = table.path
    except AddressError as error:
        yield Problem((*path, "to"), f'"{table.to}" isn\'t an address: {error}', mend='to = "ann@example.org"')
        return
    if not to:
        yield Problem((*path, "to"), "somebody must get the mail", mend='to = "ann@example.org"')
    elif settings.route and to.domain and not any(to.matches(one) for route in settings.route for one in route.match):
        what = f"no route takes mail for {to}"
        yield Problem((*path, "to"), what, mend=f'[[route]] match = "*@{to.domain}"')
    if table.envelope:
        try:
            check_name(table.envelope)
        except ValueError as error:
            yield Problem((*path, "envelope"), str(error), mend='envelope = "X-Envelope-To"')
        if table.envelope.lower() in ("to", "cc", "from", "bcc"):
            what = f"{table.envelope} is what the author wrote; lists and Bcc go to others"
            yield Problem((*path, "envelope"), what, mend='envelope = "X-Envelope-To", or "Delivered-To"')
    for key in ("prefix", "domains"):
        if getattr(table, key) and not table.envelope:
            what = f"{key} is about the addresses in a header field, and none is named"
            yield Problem((*path, key), what, mend='envelope = "Delivered-To"')
    for number, domain in enumerate(table.domains):
        if "@" in domain:
            what = f'"{domain}" is an address or a pattern of them; here domains are meant'
            yield Problem((*path, "domains", number), what, mend=f'domains = "{domain.rpartition("@")[2]}"')


def _sizes(settings: Settings, table: Collect, path: KeyPath) -> Iterator[Problem]:
    largest = settings.limits.message_size
    if table.size_limit > largest:
        what = f"size_limit can't be more than limits.message_size, {show_size(largest)}"
        yield Problem((*path, "size_limit"), what, mend=f'size_limit = "{show_size(largest)}"')
    if 0 < table.every < _SOONEST_S:
        what = f"every {show_duration(table.every)} is more than a server will bear"
        yield Problem((*path, "every"), what, mend='every = "5m"')
    for number, one in enumerate(table.trusted):
        if isinstance(one, str) and (not one.strip("*.") or is_ip(one) or "@" in one):
            what = f"{shown(one)} isn't a server's name, nor are those of your provider like that"
            yield Problem((*path, "trusted", number), what, mend='trusted = ["*.example.net", "192.0.2.0/24"]')
