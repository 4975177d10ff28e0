"""How a server is called, as settings write it: proxies as URLs, addresses to call from.

A proxy's URL may hold a password, so the whole of it is kept as a secret is: `@file` and `env:NAME` stand for it, and
what is shown of it has dots in its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from gatepost.app.settings.units import Kind, parse_endpoint, parse_secret, parse_several, parse_text, shown, wrong
from gatepost.wire.socks import Proxy, Way

_PORTS = {Way.SOCKS5: 1080, Way.HTTP: 3128}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*", re.ASCII)
_LONGEST_SCHEME = 8  # of those one could mean: socks4a, socks5h
_EXAMPLE = '"socks5://user:password@192.0.2.1:1080", "http://192.0.2.1:3128", or "@file" with one of them'


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """A proxy, and where its URL came from: `@file`, `env:NAME`, or "" where the settings say it themselves."""

    proxy: Proxy
    source: str = ""

    def __str__(self) -> str:
        if self.source:
            return self.source
        scheme, _, place = str(self.proxy).partition("://")
        return f"{scheme}://{self.proxy.user}:…@{place}" if self.proxy.user is not None else f"{scheme}://{place}"


def parse_proxy(value: object, info: ValidationInfo) -> ProxyUrl:
    """`socks5://[user:password@]host[:port]` or `http://…`; what is special in user and password is %-encoded."""
    if isinstance(value, ProxyUrl):
        return value
    secret = parse_secret(value, info)
    scheme, colon, rest = secret.reveal().strip().partition("://")
    if not colon or not _SCHEME.fullmatch(scheme):
        wrong("a proxy is a URL", mend=_EXAMPLE)
    if scheme.lower() not in ("socks5", "socks5h", "http"):
        kind = f"{shown(scheme)} proxies" if len(scheme) <= _LONGEST_SCHEME else "such proxies"  # perhaps a password
        what = "TLS to a proxy isn't spoken" if scheme.lower() == "https" else f"{kind} aren't spoken"
        wrong(f"{what}, only SOCKS5 and HTTP CONNECT are", mend=_EXAMPLE)
    way = Way.HTTP if scheme.lower() == "http" else Way.SOCKS5  # socks5h: names are always the proxy's to resolve
    named, at, place = rest.removesuffix("/").rpartition("@")
    user, with_password, password = named.partition(":")
    try:
        endpoint = parse_endpoint(place, port=_PORTS[way])
    except PydanticCustomError:  # its words repeat what may be the password
        wrong("the proxy's host and port can't be read", mend=_EXAMPLE)
    if endpoint.port == 0:
        wrong("a proxy doesn't listen at port 0", mend=_EXAMPLE)
    if at and not with_password:
        wrong("the proxy's user has no password", mend=_EXAMPLE)
    try:
        proxy = Proxy(way, endpoint.host, endpoint.port, unquote(user) if at else None, unquote(password))
    except ValueError as error:
        wrong(str(error), mend=_EXAMPLE)
    return ProxyUrl(proxy, secret.source)


def parse_own_proxy(value: object, info: ValidationInfo) -> ProxyUrl | Literal["direct"]:
    """A route's: as above, or "direct" for none."""
    return "direct" if value == "direct" else parse_proxy(value, info)


def parse_sources(value: object) -> tuple[IPv4Address | IPv6Address, ...]:
    """Addresses to call from, each once."""
    found: list[IPv4Address | IPv6Address] = []
    several = parse_several(value)
    for one in several if isinstance(several, tuple) else (several,):
        if isinstance(one, IPv4Address | IPv6Address):
            found.append(one)
            continue
        text = parse_text(one)
        try:
            address = ip_address(text.strip())
        except ValueError:
            wrong(f"{shown(text)} isn't an IP address", mend='"192.0.2.1", or ["192.0.2.1", "2001:db8::1"]')
        if address.is_unspecified or address.is_multicast or "%" in str(address):
            wrong(f"{shown(text)} is no address to call from", mend='"192.0.2.1", an address of this machine')
        found.append(address)
    if not found:
        wrong("source names no address", mend='"192.0.2.1", or ["192.0.2.1", "2001:db8::1"]')
    return tuple(dict.fromkeys(found))


_STRING = {"type": "string"}
_KIND = "URL; a secret: text, @file or env:NAME"

DefaultProxy = Annotated[
    ProxyUrl, PlainValidator(parse_proxy), Kind(_KIND), PlainSerializer(str), WithJsonSchema(_STRING)
]
OwnProxy = Annotated[
    ProxyUrl | Literal["direct"],
    PlainValidator(parse_own_proxy),
    Kind(f'"direct", or a {_KIND}'),
    PlainSerializer(str),
    WithJsonSchema(_STRING),
]
Sources = Annotated[
    tuple[IPv4Address | IPv6Address, ...],
    PlainValidator(parse_sources),
    Kind("addresses, one or several", lambda sources: ", ".join(map(str, sources))),
    PlainSerializer(lambda sources: [str(source) for source in sources]),
    WithJsonSchema({"anyOf": [_STRING, {"type": "array", "items": _STRING}]}),
]
