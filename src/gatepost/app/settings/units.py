"""The kinds of values settings have: durations, sizes, numbers, switches, addresses, networks, paths and secrets.

Each kind is an annotated type with a parser that says in one sentence what is wrong and what to write. `Kind` is the
marker the generated page and the listing read. Texts from files know their folder (`Written`), so a relative path
becomes absolute right here; from the environment numbers and switches are texts too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeGuard

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from gatepost.app.settings.origins import Written
from gatepost.app.settings.problems import KeyPath
from gatepost.model.written import host_and_port

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)?", re.ASCII)
_OCTETS = {
    None: 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_RATE = re.compile(r"(\d+)\s*(?:/|per)\s*(s|sec|min|m|h|hour|d|day)", re.ASCII)
_PER = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_MAX_SECRET = 64 * 1024
_LONGEST_NAME = 255  # octets of a file's name
_WIDEST = 7  # bits; fc00::/7 is all private addresses

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value is, for people: its unit, and how it is written."""

    unit: str
    show: Callable[[Any], str] = str


@dataclass(frozen=True, slots=True)
class Filled:
    """Marks a key whose default depends on others; `by` says on what, for the generated page."""

    by: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host (a name or an IP address, without brackets) and a TCP port; 0 lets the system choose one."""

    host: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class PerTime:
    """So many in a time; a count of 0 is no bound."""

    count: int
    seconds: float

    def __str__(self) -> str:
        unit = next((name for name, size in _PER.items() if size == self.seconds), "s")
        return f"{self.count}/{unit}"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret; `reveal()` gives it, everything else shows dots. `source` is its `@file` or `env:NAME`, or ""."""

    _text: str
    source: str = ""

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__


def wrong(what: str, *, at: KeyPath = (), note: str = "", mend: str = "") -> NoReturn:
    """Refuse a value from within a validator, in the words of a `Problem`; `at` leads from it to the part meant."""
    raise PydanticCustomError("gatepost", "{what}", {"what": what, "at": at, "note": note, "mend": mend})


def shown(value: object) -> str:
    """A value as the settings file would write it, short enough for a message."""
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 60 else text[:59] + "…"


def parse_duration(value: object) -> float:
    """Seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value < float("inf"):
            return float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match.group(1)) * _SECONDS[match.group(2)]
    wrong(f"{shown(value)} isn't a duration", mend='"5s", "2m", "1h", "5d", or a number of seconds')


def show_duration(seconds: float) -> str:
    """The shortest exact way to write it."""
    if seconds and seconds < 1:
        return f"{seconds * 1000:.12g}ms"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.12g}{unit}"
    return f"{seconds:.12g}s"


def parse_size(value: object) -> int:
    """Octets."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return int(float(match.group(1)) * _OCTETS[match.group(2)])
    wrong(f"{shown(value)} isn't a size", mend='"25MiB" (1024s), "10MB" (1000s), or a number of octets')


def show_size(octets: int) -> str:
    """The shortest exact way to write it."""
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB"):
        if octets and octets % _OCTETS[unit] == 0:
            return f"{octets // _OCTETS[unit]}{unit}"
    return str(octets)


def parse_rate(value: object) -> PerTime:
    """So many in a second, minute, hour or day."""
    if isinstance(value, PerTime):
        return value
    if isinstance(value, str) and (match := _RATE.fullmatch(value.strip())) and int(match.group(1)) <= 10**9:
        return PerTime(int(match.group(1)), _PER[match.group(2)])
    wrong(f"{shown(value)} isn't a rate", mend='"10/s", "100/min", "5000/h", or "0/s" for no bound')


def parse_whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if _is_loose(value) and re.fullmatch(r"-?\d+", str(value), re.ASCII):
        return int(str(value))
    wrong(f"{shown(value)} isn't a whole number", mend="a whole number, without quotes")


def parse_switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if _is_loose(value) and str(value).lower() in {"true", "false"}:
        return str(value).lower() == "true"
    wrong(f"{shown(value)} is neither true nor false", mend="true or false, without quotes")


def parse_text(value: object) -> str:
    """One line of text; control characters could forge a reply or a log line."""
    if not isinstance(value, str):
        wrong(
            f"{shown(value)} isn't a text", mend=f'"{value}"' if isinstance(value, int | float) else "a text in quotes"
        )
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        wrong("the text holds a line end or another control character", mend="write it on one line")
    return str(value)


_ENDPOINTS = '"127.0.0.1:25" or "[::1]:25"'


def parse_endpoint(value: object, *, port: int | None = None, example: str = _ENDPOINTS) -> Endpoint:
    """`host:port`, `[v6]:port`; where `port` is given it is the default. `example` is what to write instead."""
    if isinstance(value, Endpoint):
        return value
    text = parse_text(value).strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        number = rest.removeprefix(":")
        if not bracket or (rest and not rest.startswith(":")) or not is_ip(host) or ":" not in host:
            wrong(f"{shown(text)} isn't an address", mend=example)
    elif text.count(":") > 1:
        host, _, number = text.rpartition(":")
        meant = f"[{host}]:{number}" if is_ip(host) and number.isdecimal() else f"[{text}]:{port or 25}"
        wrong(f"{shown(text)} isn't clear: an IPv6 address stands in brackets", mend=f'"{meant}"')
    else:
        host, _, number = text.partition(":")
        if not _HOST.fullmatch(host) or ".." in host or (host.replace(".", "").isdecimal() and not is_ip(host)):
            wrong(f"{shown(text)} has no usable host", mend=example)
    if not number:
        if port is None:
            wrong(f"{shown(text)} has no port", mend=f'"{text.removesuffix(":")}:25"')
        return Endpoint(host, port)
    if not (number.isascii() and number.isdecimal() and int(number) <= 65535):
        wrong(f"{shown(text)}: a port is a number from 0 to 65535", mend=example)
    return Endpoint(host, int(number))


def parse_network(value: object) -> Network:
    """An address or a CIDR block; bits beyond the prefix are forgiven to nobody, since they hide slips."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = parse_text(value)
    try:
        return ip_network(text.strip())
    except ValueError:
        pass
    try:
        wider = ip_network(text.strip(), strict=False)
    except ValueError:
        wrong(f"{shown(text)} isn't an address or a network", mend='"192.0.2.0/24", "2001:db8::/32", "192.0.2.1"')
    wrong(f"{shown(text)} names an address inside a network", mend=f'"{wider}", or "{text.partition("/")[0]}" alone')


def parse_trusted(value: object) -> tuple[Network, ...]:
    """Networks whose word is taken for who a client is; no network can be so wide that anybody is in it."""
    return _narrow(value, "who could then say he is anybody")


def parse_exempt(value: object) -> tuple[Network, ...]:
    """Networks that a limit doesn't hold for, none of them so wide either."""
    return _narrow(value, "so the limit would hold for nobody")


def _narrow(value: object, else_what: str) -> tuple[Network, ...]:
    networks = tuple(parse_network(one) for one in each_of(value))
    for network in networks:
        if network.prefixlen < _WIDEST:
            wrong(
                f"in {shown(str(network))} is nearly everybody, {else_what}",
                mend='the addresses of your own servers, such as "10.0.0.5" or "10.0.0.0/8"',
            )
    return networks


def parse_path(value: object) -> Path:
    """Absolute; what is relative begins at the folder of the file that says it."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        wrong(f"{shown(value)} isn't a path", mend='"a/path" or "/an/absolute/path"')
    text = os.fspath(value)
    if not isinstance(text, str) or "\0" in text:
        wrong("a path can't hold a NUL", mend='"a/path"')
    folder = value.folder if isinstance(value, Written) else Path()
    path = (folder / text).absolute()
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        wrong("this is longer than a file's name may be", mend='"a/path"')
    return path


def parse_secret(value: object, info: ValidationInfo) -> Secret:
    """The text itself, `@file` (its first line; relative to the settings file), or `env:NAME` of the given environ."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        wrong("a secret is a text", mend='"@secrets/password", "env:NAME", or the secret itself')
    text = parse_text(value)
    if not text:
        wrong("a secret can't be empty", mend='"@secrets/password", "env:NAME", or the secret itself')
    if text.startswith("env:"):
        found = ((info.context or {}).get("environ") or {}).get(text[4:], "")
        if not found:
            wrong(f"the secret's variable {text[4:]} isn't set, or empty", mend=f"set {text[4:]}, or use @file")
        return Secret(found, text)
    if not text.startswith("@"):
        return Secret(text)
    path = parse_path(Written.of(text[1:], value.folder)) if isinstance(value, Written) else parse_path(text[1:])
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(_MAX_SECRET).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else "it isn't UTF-8 text"
        wrong(
            f"the secret's file \"{path}\" can't be read: {words.lower()}", mend="name a file that the server may read"
        )
    if not line:
        wrong(f'the first line of the secret\'s file "{path}" is empty', mend="write the secret on its first line")
    return Secret(line, text)


def parse_several(value: object) -> Any:
    """One text stands for a list of one; in the environment commas separate."""
    if _is_loose(value):
        return tuple(
            Written.of(text.strip(), value.folder, loose=True) for text in str(value).split(",") if text.strip()
        )
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def each_of(value: object) -> tuple[Any, ...]:
    """The same; what is neither a text nor a list is one value, for whoever parses it to refuse."""
    found = parse_several(value)
    return found if isinstance(found, tuple) else (found,)


def _is_loose(value: object) -> TypeGuard[Written]:
    return isinstance(value, Written) and value.loose


def is_ip(text: str) -> bool:
    """Whether it is an IP address and not a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


_STRING = {"type": "string"}
_NUMBER_OR_STRING = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}

Duration = Annotated[
    float, BeforeValidator(parse_duration), Kind("seconds", show_duration), WithJsonSchema(_NUMBER_OR_STRING)
]
Size = Annotated[int, BeforeValidator(parse_size), Kind("octets", show_size), WithJsonSchema(_NUMBER_OR_STRING)]
PerTimeText = Annotated[
    PerTime, PlainValidator(parse_rate), Kind("messages in a time"), PlainSerializer(str), WithJsonSchema(_STRING)
]
Whole = Annotated[int, BeforeValidator(parse_whole), Kind("number")]
Days = Annotated[int, BeforeValidator(parse_whole), Kind("days")]
Switch = Annotated[bool, BeforeValidator(parse_switch), Kind("true or false")]
Text = Annotated[str, BeforeValidator(parse_text), Kind("text")]
Texts = Annotated[tuple[Text, ...], BeforeValidator(parse_several), Kind("texts")]
Address = Annotated[
    Endpoint, PlainValidator(parse_endpoint), Kind("host:port"), PlainSerializer(str), WithJsonSchema(_STRING)
]
_NETWORKS = (
    Kind("networks"),
    PlainSerializer(lambda networks: [str(one) for one in networks]),
    WithJsonSchema({"anyOf": [_STRING, {"type": "array", "items": _STRING}]}),
)
Trusted = Annotated[tuple[Network, ...], PlainValidator(parse_trusted), *_NETWORKS]
Exempt = Annotated[tuple[Network, ...], PlainValidator(parse_exempt), *_NETWORKS]
AnyPath = Annotated[Path, PlainValidator(parse_path), Kind("path"), PlainSerializer(str), WithJsonSchema(_STRING)]
SecretText = Annotated[
    Secret,
    PlainValidator(parse_secret),
    Kind("secret: text, @file or env:NAME", lambda _: "…"),
    PlainSerializer(lambda _: "…"),
    WithJsonSchema(_STRING),
]
