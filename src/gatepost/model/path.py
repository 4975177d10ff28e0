"""Paths and addresses: RFC 5321 mailboxes, with RFC 6531's UTF-8, as frozen values.

Strategy: one linear expression recognises the plain ASCII mailbox that nearly every session brings; everything else
(quoted local parts, address literals, UTF-8) goes a slower way that checks part by part. Domains are kept as lower-case
A-labels, so that two spellings of one domain compare equal; `raw` keeps what was written.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

MAX_LOCAL = 64  # rfc5321#4.5.3.1.1
MAX_DOMAIN = 255  # rfc5321#4.5.3.1.2
MAX_PATH = 254  # rfc5321#4.5.3.1.3, less the angle brackets (errata 1690)

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # rfc1035#2.3.4: up to 63
_PLAIN = re.compile(rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@((?:{_LABEL}\.)*{_LABEL})", re.ASCII)
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*", re.ASCII)
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}", re.ASCII)
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}  # no control, format, surrogate, private, space


class AddressError(ValueError):
    """The text isn't an address; the message says which rule it breaks, in words fit for a 553 reply."""


@dataclass(frozen=True, slots=True)
class Path:
    """A reverse-path or forward-path (RFC 5321 §4.1.2). The null path is falsy.

    `local` is without quotes, `domain` a lower-case A-label name or an address literal with its brackets, "" for the
    bare postmaster and the null path. Equality ignores `raw`, what the peer or author wrote.
    """

    local: str = ""
    domain: str = ""
    raw: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str, *, bare_postmaster: bool = False) -> Path:
        """The path of a mailbox without angle brackets; "" is the null path.

        Raises AddressError. `bare_postmaster` admits "postmaster" without a domain (RFC 5321 §4.5.1).
        """
        if bare_postmaster and text.lower() == "postmaster":
            return cls(text, "", text)
        return _parsed(text) if text else NULL_PATH

    @property
    def address(self) -> str:
        """`local@domain` as it goes on the wire: the local part quoted where it must be."""
        if not self.domain:
            return self.local
        return f"{_quote(self.local)}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the address can only travel with SMTPUTF8 (RFC 6531)."""
        return not self.local.isascii()

    def matches(self, pattern: str) -> bool:
        """Whether a pattern fits: `*@example.org`, `ann@*`, `info*` (any domain), without regard to case."""
        name, at, domain = pattern.lower().rpartition("@")
        if not at:
            name, domain = domain, "*"
        return glob_matches(name, self.local.lower()) and glob_matches(domain, self.domain)

    def __bool__(self) -> bool:
        return bool(self.local)

    def __hash__(self) -> int:  # a str keeps its hash, a tuple doesn't; recipients are looked up many times a message
        return hash(self.local)

    def __str__(self) -> str:
        return self.address


NULL_PATH = Path()


def glob_matches(pattern: str, text: str) -> bool:
    """Whether `pattern`, in which `*` stands for any characters, fits the whole text, in time linear per star."""
    if "*" not in pattern:
        return pattern == text
    head, *middles, tail = pattern.split("*")
    if len(text) < len(head) + len(tail) or not text.startswith(head) or not text.endswith(tail):
        return False
    at, end = len(head), len(text) - len(tail)
    for middle in middles:
        found = text.find(middle, at, end)
        if found < 0:
            return False
        at = found + len(middle)
    return True


def parse_domain(text: str) -> str:
    """A domain as lower-case A-labels, or an address literal; raises AddressError."""
    if text.startswith("["):
        return _parse_literal(text)
    if not text.isascii():
        text = _to_ascii(text)
    if len(text) > MAX_DOMAIN:
        raise AddressError("the domain is longer than 255 octets")
    if not _DOMAIN.fullmatch(text):
        raise AddressError("the domain isn't a valid name")
    if text.rpartition(".")[2].isdigit():
        raise AddressError("a domain can't end in a number; an IP address goes in brackets")
    return text.lower()


@lru_cache(maxsize=1024)  # the same few write and are written to all day
def _parsed(text: str) -> Path:
    if (plain := _PLAIN.fullmatch(text)) and len(text) <= MAX_PATH:
        local, domain = plain.groups()
        if len(local) <= MAX_LOCAL and not domain[-1].isdigit():  # a digit: it could be an IP address
            return Path(local, domain.lower(), text)
    return _parse_slowly(text)


def _parse_slowly(text: str) -> Path:
    if text.startswith('"'):
        local, rest = _parse_quoted(text)
    else:
        at = text.rfind("@")
        local, rest = (text, "") if at < 0 else (text[:at], text[at:])
        _check_dot_string(local)
    if not rest.startswith("@") or len(rest) == 1:
        raise AddressError("the address has no domain")
    if len(local.encode("utf-8", "surrogatepass")) > MAX_LOCAL:
        raise AddressError("the local part is longer than 64 octets")
    path = Path(local, parse_domain(rest[1:]), text)
    if len(path.address.encode()) > MAX_PATH:
        raise AddressError("the address is longer than 254 octets")
    return path


def _check_dot_string(local: str) -> None:
    if not local:
        raise AddressError("the local part is empty")
    if any(_is_bad_utf8(c) for c in local if not c.isascii()):
        raise AddressError("the local part has an invisible or forbidden character")
    ascii_shape = "".join(c if c.isascii() else "a" for c in local)  # rfc6531#3.3 widens atext by UTF-8
    if not _DOT_STRING.fullmatch(ascii_shape):
        raise AddressError("the local part isn't valid; quote it if it holds special characters")


def _parse_quoted(text: str) -> tuple[str, str]:
    """The unquoted local part and what follows the closing quote (RFC 5321 §4.1.2 Quoted-string)."""
    local: list[str] = []
    characters = iter(enumerate(text[1:], start=1))
    for at, written in characters:
        character = written
        if character == '"':
            if not local:
                raise AddressError("the local part is empty")
            return "".join(local), text[at + 1 :]
        if character == "\\":
            _, character = next(characters, (0, "\0"))
        if _is_bad_utf8(character) if not character.isascii() else not " " <= character <= "~":
            raise AddressError("the local part has an invisible or forbidden character")
        local.append(character)
    raise AddressError("the quoted local part doesn't end")


def _parse_literal(text: str) -> str:
    """rfc5321#4.1.3: [192.0.2.1] or [IPv6:2001:db8::1]; no zone, no general literal."""
    inside = text[1:-1]
    if not text.endswith("]"):
        raise AddressError("the address literal has no closing bracket")
    try:
        if inside[:5].lower() == "ipv6:":
            if "%" in inside:
                raise AddressError("an address literal has no zone")
            return f"[IPv6:{IPv6Address(inside[5:])}]"
        return f"[{IPv4Address(inside)}]"
    except ValueError as error:
        raise AddressError("the address literal isn't an IP address") from error


def _to_ascii(domain: str) -> str:
    import idna  # noqa: PLC0415  only international names pay for its tables

    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise AddressError("the domain isn't a valid international name") from error


def _is_bad_utf8(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE


@lru_cache(maxsize=4096)
def _quote(local: str) -> str:
    if _DOT_STRING.fullmatch(local if local.isascii() else "".join(c if c.isascii() else "a" for c in local)):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
