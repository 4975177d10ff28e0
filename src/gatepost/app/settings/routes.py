"""Routes: where a recipient's mail goes, for whom, and how it is known whether the recipient exists.

The short forms of `deliver` become the same table the long form is. Defaults that depend on other keys are filled in
before validation, so whoever reads a Route finds every answer in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from gatepost.app.settings.origins import Written
from gatepost.app.settings.proxying import OwnProxy, Sources
from gatepost.app.settings.sections import Section
from gatepost.app.settings.tls import BY_DOMAIN, LEVELS, PROVEN, Certificate, Level
from gatepost.app.settings.units import (
    AnyPath,
    Endpoint,
    Filled,
    Kind,
    Network,
    SecretText,
    Switch,
    Text,
    Texts,
    Whole,
    each_of,
    parse_endpoint,
    parse_network,
    parse_path,
    parse_several,
    parse_text,
    shown,
    wrong,
)
from gatepost.model import AddressError
from gatepost.model.path import parse_domain
from gatepost.model.senders import NULL
from gatepost.store.lists_facts import ListError, check_address, check_name

SMTP_PORT = 25
LMTP_PORT = 24
_WAYS = '"maildir", "mx", "relay HOST:PORT", "lmtp HOST:PORT", "lmtp /path", "list NAME", or "discard"'

ForWhom = Literal["anyone", "authenticated"] | tuple[Network, ...]
RecipientsFrom = Literal["users", "ask", "any"] | Path


def _parse_for(value: object) -> ForWhom:
    if value in ("anyone", "authenticated"):
        return "anyone" if value == "anyone" else "authenticated"
    several = parse_several(value)
    if not isinstance(several, tuple) or not several:
        wrong(f"{shown(value)} names nobody", mend='"anyone", "authenticated", or ["192.0.2.0/24"]')
    if isinstance(value, str) and "." not in value and ":" not in value:
        wrong(f"there is no {shown(value)} in for", mend='"anyone", "authenticated", or ["192.0.2.0/24"]')
    return tuple(parse_network(network) for network in several)


def _parse_recipients(value: object) -> RecipientsFrom:
    match value:
        case Path():
            return value
        case "users" | "ask" | "any":
            return value
    text = parse_text(value)
    if not text.startswith("file:") or text == "file:":
        wrong(f"recipients can't be known from {shown(text)}", mend='"users", "ask", "file:recipients.txt", or "any"')
    return parse_path(Written.of(text[5:], value.folder) if isinstance(value, Written) else text[5:])


def _parse_hosts(value: object) -> tuple[Endpoint, ...]:
    return tuple(parse_endpoint(host, port=SMTP_PORT) for host in each_of(value))


def _show_for(value: ForWhom) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


def _show_recipients(value: RecipientsFrom) -> str:
    return f"file:{value}" if isinstance(value, Path) else value


_TEXTS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


class Caller(Section):
    """One of several ways to call a server."""

    source: Sources | None = Field(
        default=None, description="The address to call from; one of IPv4 and one of IPv6 may stand together."
    )
    helo: Text | None = Field(default=None, description="The name said in EHLO from there, if not the server's own.")
    proxy: OwnProxy | None = Field(default=None, description="The proxy on the way, if not the route's.")

    @model_validator(mode="after")
    def _is_whole(self) -> Caller:
        versions = [source.version for source in self.source or ()]
        if len(set(versions)) < len(versions):
            wrong(
                "two addresses of one family are two callers",
                at=("source",),
                mend='pool = [{ source = "192.0.2.1" }, { source = "192.0.2.2" }]',
            )
        if self.source is None and self.helo is None and self.proxy is None:
            wrong("a caller says where from, by which name or through which proxy", mend='{ source = "192.0.2.1" }')
        _check_helo(self.helo)
        return self


class Deliver(Section):
    """One way of delivery. relay and lmtp connect to `hosts`, in order; lmtp may have a `socket` instead; mx finds the
    servers of each recipient's domain in the DNS.
    """

    by: Literal["maildir", "mx", "relay", "lmtp", "list", "discard"] = Field(
        description="The way: maildir, mx, relay, lmtp, list or discard."
    )
    name: Text | None = Field(default=None, description="The mailing list, for list.")
    hosts: Annotated[
        tuple[Endpoint, ...],
        PlainValidator(_parse_hosts),
        Kind("host:port, one or several", lambda hosts: ", ".join(map(str, hosts))),
        PlainSerializer(lambda hosts: [str(host) for host in hosts]),
        WithJsonSchema(_TEXTS_SCHEMA),
    ] = Field(
        default=(), description="The servers that take the mail, tried in this order; relay's default port is 25."
    )
    socket: AnyPath | None = Field(default=None, description="A local socket, for lmtp.")
    tls: Annotated[Level, Filled('"published" for mx, "none" for the short forms of lmtp, else "starttls"')] = Field(
        default="starttls", description=f"Whether the connection is encrypted: {LEVELS}"
    )
    certificate: Certificate | None = Field(
        default=None, description="The certificate shown to servers that ask for one, if not the one of [tls.client]."
    )
    user: Text | None = Field(default=None, description="The name to authenticate with, over TLS only.")
    password: SecretText | None = Field(default=None, description="The password to authenticate with.")
    helo: Text | None = Field(default=None, description="The name said in EHLO, if not the server's own.")
    source: Sources | None = Field(
        default=None,
        description="The addresses to call from; of several of a family each server always sees the same one. A server "
        "of the other family isn't called where only one is given.",
    )
    proxy: OwnProxy | None = Field(
        default=None,
        description="The proxy that servers are reached through, SOCKS5 or HTTP CONNECT, if not [delivery]'s; "
        '"direct" for none.',
    )
    rotation: Literal["by-destination", "round-robin"] = Field(
        default="by-destination",
        description="How one of several addresses or callers is chosen: always the same for one server, or the next "
        "for each connection.",
    )
    pool: tuple[Caller, ...] = Field(
        default=(), description="Addresses to call from with their own names or proxies, instead of source and helo."
    )
    introduce: Literal["xforward", "xclient"] | None = Field(
        default=None,
        description="Whether relay and lmtp tell a server that offers it for which client a message is: xforward (for "
        "its log), or xclient (as if the client had called it).",
    )
    port: Whole | None = Field(default=None, ge=1, le=65535, description="The port that mx calls instead of 25.")
    allow_private: Switch = Field(
        default=False,
        description="Whether mx may call servers at private, loopback and link-local addresses; without it a domain "
        "that names such ones can't make the server talk to what is behind it.",
    )

    def __str__(self) -> str:
        target = self.name or (str(self.socket) if self.socket else ", ".join(map(str, self.hosts)))
        return f"{self.by} {target}".strip()

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if not isinstance(value, str):
            is_mx = isinstance(value, Mapping) and value.get("by") == "mx"
            return {"tls": "published", **value} if is_mx else value
        way, _, target = value.strip().partition(" ")
        target = target.strip()
        match way:
            case "list" if target:
                return {"by": way, "name": target}
            case "list":
                wrong('"list" doesn\'t say which one', mend='deliver = "list news"')
            case "maildir" | "discard" if not target:
                return {"by": way}
            case "mx" if not target:
                return {"by": way, "tls": "published"}
            case "relay" | "lmtp" if len(several := target.replace(",", " ").split()) > 1:
                hosts = ", ".join(f'"{one}"' for one in several)
                wrong(f'"{way}" names one server here', mend=f'deliver = {{ by = "{way}", hosts = [{hosts}] }}')
            case "relay" if target:
                example = '"relay mail.example.org:25"'
                return {"by": way, "hosts": [parse_endpoint(target, port=SMTP_PORT, example=example)]}
            case "lmtp" if target.startswith(("/", "./", "../")):
                folder = value.folder if isinstance(value, Written) else Path()
                return {"by": way, "socket": Written.of(target, folder), "tls": "none"}
            case "lmtp" if target:
                example = '"lmtp 127.0.0.1:24"'
                return {"by": way, "hosts": [parse_endpoint(target, port=LMTP_PORT, example=example)], "tls": "none"}
            case "relay" | "lmtp":
                wrong(f'"{way}" doesn\'t say where to', mend=f'deliver = "{way} 127.0.0.1:2525"')
            case "mx":
                wrong('"mx" finds its servers in the DNS', mend=f'deliver = "mx", or "relay {target}"')
            case _:
                wrong(f"{shown(value)} is no way of delivery", mend=f"deliver = {_WAYS}")

    @model_validator(mode="after")
    def _is_whole(self) -> Deliver:
        connects = self.by in {"relay", "lmtp"}
        if connects and not self.hosts and not self.socket:
            wrong(f'"{self.by}" doesn\'t say where to', mend='hosts = ["10.0.0.5:25"]')
        if self.socket and (self.by != "lmtp" or self.hosts):
            wrong("socket is for lmtp, and instead of hosts", mend="remove socket or hosts")
        if self.by == "mx" and (self.hosts or self.user):
            wrong(
                "mx finds its servers in the DNS, and no password goes to them", mend='by = "relay" where you name them'
            )
        if not connects and (self.hosts or self.user):
            wrong(f'"{self.by}" connects to nothing', mend="remove hosts, user and password")
        if (self.by == "list") != (self.name is not None):
            wrong('"list" and a name belong together', mend='deliver = "list news"')
        if self.by != "mx" and self.port is not None:
            wrong("port is for mx", mend=f'hosts = ["10.0.0.5:{self.port}"]')
        if self.by != "mx" and self.allow_private:
            wrong("allow_private is for mx", mend="remove it; which hosts you name is up to you")
        if self.by == "mx" and self.tls == "implicit":
            wrong("mail servers found by MX begin in the clear", mend='tls = "published", or "required"')
        if self.by != "mx" and self.tls in BY_DOMAIN:
            what = f'tls = "{self.tls}" is about a recipient\'s domain, and the servers of "{self.by}" are named here'
            wrong(what, at=("tls",), mend='tls = "required"')
        if not connects and self.introduce is not None:
            wrong("only servers of your own are told who a client is", mend="remove introduce")
        if self.introduce == "xclient" and self.user is not None:
            wrong("after XCLIENT a server forgets who has authenticated", mend='introduce = "xforward", or no user')
        if (self.user is None) != (self.password is None):
            wrong("user and password belong together", mend="give both or neither")
        _check_helo(self.helo)
        _check_callers(self)
        if self.user is not None and self.tls not in PROVEN:
            wrong("a password never goes over a connection that may be plain", mend='tls = "required"')
        return self


def _check_helo(helo: str | None) -> None:
    if helo is None:
        return
    try:
        parse_domain(helo)
    except AddressError as error:
        wrong(f"nobody could be told {shown(helo)}: {error}", at=("helo",), mend='"out.example.org"')


def _check_callers(deliver: Deliver) -> None:
    """Who calls belongs to a way that calls somebody, and is said once."""
    given = [key for key in ("source", "proxy", "pool") if getattr(deliver, key)]
    if given and (deliver.by not in {"relay", "lmtp", "mx"} or deliver.socket):
        what = "a local socket" if deliver.socket else f'"{deliver.by}"'
        wrong(f"{given[0]} is for connections, and {what} makes none", at=(given[0],), mend=f"remove {given[0]}")
    if deliver.pool and (deliver.source or deliver.helo):
        key = "source" if deliver.source else "helo"
        wrong(f"pool says {key} itself", at=(key,), mend=f"pool = [{{ {key} = … }}, …]")


def _check_from(patterns: tuple[str, ...]) -> None:
    for at, pattern in enumerate(patterns):
        if pattern.startswith("user:"):
            if pattern == "user:":
                wrong("user: names nobody", at=("from", at), mend='"user:ann@example.org"')
        elif pattern != NULL and "@" not in pattern and pattern != "*":
            mend = f'"*@{pattern.removeprefix("*.")}"' if "." in pattern else f'"{pattern}@*", or "user:{pattern}"'
            wrong(f"{shown(pattern)} isn't a pattern of senders", at=("from", at), mend=mend)


def _check_list(name: str, patterns: tuple[str, ...]) -> None:
    if len(patterns) != 1 or "*" in patterns[0] or "@" not in patterns[0]:
        example = f'match = "{name}@example.org"'
        wrong("a list has one address, and its route takes mail for it", at=("match",), mend=example)
    try:
        check_name(name)
        check_address(patterns[0])
    except ListError as error:
        wrong(str(error), mend='deliver = "list news"')


class Route(Section):
    """Mail for the recipients that `match`; the first route that matches wins."""

    match: Texts = Field(description='Patterns of recipients, such as "*@example.org"; `*` stands for any characters.')
    deliver: Deliver = Field(
        description='"maildir", "mx", "relay HOST:PORT", "lmtp HOST:PORT", "lmtp /path", "list NAME", "discard", or a '
        "table as below."
    )
    senders: Texts = Field(
        default=(),
        alias="from",
        description="Whose mail alone takes this route: patterns of senders, such as `*@example.org` (`<>` for the "
        "null sender), or of users who have authenticated, such as `user:ann`. Others take the next route.",
    )
    for_whom: Annotated[
        ForWhom,
        Filled('"anyone"; "authenticated" for mx and where every domain matches'),
        PlainValidator(_parse_for),
        Kind("anyone, authenticated, or networks", _show_for),
        PlainSerializer(_show_for),
        WithJsonSchema(_TEXTS_SCHEMA),
    ] = Field(
        default="anyone",
        alias="for",
        description='Whose mail is taken: "anyone", "authenticated", or a list of networks.',
    )
    recipients: Annotated[
        RecipientsFrom,
        Filled(
            '"users" for maildir, "ask" for relay and lmtp; "any" for mx, list, discard and where every domain matches'
        ),
        PlainValidator(_parse_recipients),
        Kind("users, ask, any, or file:PATH", _show_recipients),
        PlainSerializer(_show_recipients),
        WithJsonSchema({"type": "string"}),
    ] = Field(
        default="users",
        description="How it is known at RCPT that a recipient exists: our users, asking the next server, a file with "
        "one address a line, or any.",
    )
    handover: Literal["queue", "before-reply"] = Field(
        default="queue", description="Whether mail is queued, or given to the next server before the sender hears 250."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Route:
        _check_from(self.senders)
        if self.deliver.by == "list":
            _check_list(self.deliver.name or "", self.match)
        return self

    @property
    def matches_every_domain(self) -> bool:
        """Whether some pattern fits domains that nobody owns together: `*`, `ann@*`, `*@*.org`."""
        return any(not _is_bounded(pattern) for pattern in self.match)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, value: Any) -> Any:
        """The defaults that depend on other keys."""
        if not isinstance(value, Mapping):
            return value
        filled = dict(value)
        patterns = parse_several(filled.get("match", ()))
        wide = isinstance(patterns, tuple) and any(isinstance(one, str) and not _is_bounded(one) for one in patterns)
        deliver = filled.get("deliver", "")
        by = str(deliver.get("by", "")) if isinstance(deliver, Mapping) else str(deliver).partition(" ")[0]
        if "for" not in filled and "for_whom" not in filled and (wide or by == "mx"):
            filled["for"] = "authenticated"
        if "recipients" not in filled:
            filled["recipients"] = (
                "any" if wide or by in {"mx", "discard", "list"} else {"relay": "ask", "lmtp": "ask"}.get(by, "users")
            )
        return filled


def _is_bounded(pattern: str) -> bool:
    """Whether the pattern's domain is one, or the subdomains of one with at least two labels."""
    _, at, domain = pattern.rpartition("@")
    if not at:
        return pattern.lower() == "postmaster"
    if "*" not in domain:
        return True
    return "." in domain.rpartition("*")[2].strip(".")
