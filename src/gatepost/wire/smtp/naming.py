"""XCLIENT and XFORWARD: a server in front names the client it speaks for, as attributes in xtext.

Sources: Postfix's XCLIENT_README and XFORWARD_README. Values are decoded and looked over here, so that what comes out
is one printable word, an address or a port (attack I6); "" stands for [UNAVAILABLE] and [TEMPUNAVAIL].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType

from gatepost.model import Reply
from gatepost.model.peer import plain_address

_LONGEST = 255  # characters of a value, decoded
_ATTRIBUTE = re.compile(r"([A-Za-z]+)=((?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})+)")  # xtext, rfc3461#4; either case of hex
_ENCODED = re.compile(rb"\+([0-9A-Fa-f]{2})")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})


def client(argument: str) -> Mapping[str, str] | Reply:
    """XCLIENT's argument: attributes by upper-case name, or what is wrong with it."""
    return _read(argument, CLIENT)


def forwarded(argument: str) -> Mapping[str, str] | Reply:
    """XFORWARD's argument, as `client`."""
    return _read(argument, FORWARDED)


def _read(argument: str, known: Mapping[str, Callable[[str], str | None]]) -> Mapping[str, str] | Reply:
    attributes: dict[str, str] = {}
    for item in argument.split(" "):
        if not (match := _ATTRIBUTE.fullmatch(item)):
            return _FORM
        name, written = match[1].upper(), match[2]
        if name not in known:
            return Reply(501, "5.5.4", f"the attribute {name[:32]} isn't known here")
        if name in attributes:
            return _TWICE
        value = "" if written.upper() in _UNKNOWN else _decoded(written)
        if value:
            value = known[name](value)
        if value is None:
            return Reply(501, "5.5.4", f"{name} has a wrong value")
        attributes[name] = value
    return MappingProxyType(attributes)


def _decoded(written: str) -> str | None:
    """The text; None for what isn't UTF-8, or has anything in it that can't be seen."""
    octets = _ENCODED.sub(lambda found: bytes([int(found[1], 16)]), written.encode("ascii"))
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and text.strip() and len(text) <= _LONGEST else None


def _name(text: str) -> str | None:
    return text if _NAME.fullmatch(text) and ".." not in text else None


def _word(text: str) -> str | None:
    return text if text.isascii() and " " not in text else None


def _any(text: str) -> str | None:
    return text


def _address(text: str) -> str | None:
    prefixed = text[:5].upper() == "IPV6:"
    try:
        address = ip_address(text[5:] if prefixed else text)
    except ValueError:
        return None
    if not isinstance(address, IPv6Address):
        return None if prefixed else str(address)
    if address.scope_id is not None:
        return None
    return str(plain_address(address))


def _port(text: str) -> str | None:
    return text if _PORT.fullmatch(text) and int(text) <= 65535 else None


def _one_of(*words: str) -> Callable[[str], str | None]:
    return lambda text: text.upper() if text.upper() in words else None


CLIENT: Mapping[str, Callable[[str], str | None]] = MappingProxyType(
    {
        "NAME": _name,
        "ADDR": _address,
        "PORT": _port,
        "PROTO": _one_of("SMTP", "ESMTP", "LMTP"),
        "HELO": _word,
        "LOGIN": _any,
        "DESTADDR": _address,
        "DESTPORT": _port,
    }
)
"""The attributes of XCLIENT, and what looks their values over."""
FORWARDED: Mapping[str, Callable[[str], str | None]] = MappingProxyType(
    {
        "NAME": _name,
        "ADDR": _address,
        "PORT": _port,
        "PROTO": _word,
        "HELO": _word,
        "IDENT": _word,
        "SOURCE": _one_of("LOCAL", "REMOTE"),
    }
)
"""The attributes of XFORWARD."""

_FORM = Reply(501, "5.5.4", "the form is NAME=value, in xtext, with one blank between two")
_TWICE = Reply(501, "5.5.4", "an attribute is given twice")
