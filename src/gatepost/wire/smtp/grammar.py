"""Command lines: from octets to verb, paths and parameters, or to the reply that says what is wrong.

Strategy: a line is decoded and looked over for control characters once; what follows works on text. One linear
expression divides path and parameters; addresses are `model.Path`'s business, whose plain ASCII case is fast. A
refusal is a value: every function returns what was meant, or a Reply. Two liberties with RFC 5321 §4.1.2: a blank after
the colon, which some clients send, and blanks at the end of the line.
"""

from __future__ import annotations

import binascii
import re
from binascii import a2b_base64
from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Final

from gatepost.model import NULL_PATH, AddressError, Body, Path, Reply
from gatepost.model.path import parse_domain
from gatepost.wire.smtp import refusals as no
from gatepost.wire.smtp import wishes
from gatepost.wire.smtp.events import Mail, Rcpt
from gatepost.wire.smtp.states import Verb

NO_PARAMETERS: Final[Mapping[str, str]] = MappingProxyType({})
MAX_CHUNK = 2**32  # octets of one BDAT; who claims more is closed, not listened to

# <path>, where a quoted local part may hold anything; then parameters
_PATH = r'<([^<>" ]*+(?:"(?:[^"\\]|\\.)*+"[^<>" ]*+)?)>(?: +(.+))?'
_FROM = re.compile(f"FROM: ?{_PATH}", re.IGNORECASE)
_TO = re.compile(f"TO: ?{_PATH}", re.IGNORECASE)
_PARAMETER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:=[^= ]+)?")  # rfc5321#4.1.2 esmtp-param
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SIZE = re.compile(r"[0-9]{1,20}")  # rfc1870#3
_CHUNK_SIZE = re.compile(r"0|[1-9][0-9]{0,9}")
_VERBS: dict[str, Verb] = {verb.value: verb for verb in Verb if verb is not Verb.UNKNOWN}
_BODIES = {body.value: body for body in Body}

_NO_SENDER = Reply(501, "5.5.4", "the form is MAIL FROM:<address>")
_NO_RECIPIENT = Reply(501, "5.5.4", "the form is RCPT TO:<address>")
_NULL_RECIPIENT = Reply(553, "5.1.3", "the null path can't receive")
_BAD_PARAMETER = Reply(501, "5.5.4", "a parameter isn't well-formed")
_TWICE = Reply(501, "5.5.4", "a parameter is given twice")
_BAD_CHUNK = Reply(501, "5.5.4", "the form is BDAT octets [LAST]")


def decode(line: bytes) -> str | Reply:
    """The text of a line without its line end: ASCII, or UTF-8 (rfc6531#3.1), without control characters."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return no.NOT_TEXT
    if text.isprintable() or not _CONTROL.search(text):
        return text
    return no.NOT_TEXT


def split(text: str) -> tuple[Verb, str, str]:
    """Verb, the word as written, and the argument without blanks around it."""
    word, _, argument = text.partition(" ")
    verb = _VERBS.get(word) or _VERBS.get(word.upper(), Verb.UNKNOWN)
    return verb, word, argument.strip(" ")


def hello(argument: str) -> str | Reply:
    """The name in EHLO, HELO, LHLO: one word. Whether it is true, or a domain at all, is for policy to judge."""
    if not argument or " " in argument or not argument.isascii() or len(argument) > 255:
        return Reply(501, "5.5.4", "the form is EHLO your.host.name")
    return argument


def mail(argument: str, allowed: Set[str]) -> Mail | Reply:
    """MAIL's argument. `allowed`: the parameters honoured in this session, and "BINARYMIME" if that body is."""
    match = _FROM.fullmatch(argument)
    if match is None:
        return _NO_SENDER
    written, rest = match.groups()
    path = _path(written, "5.1.7")
    if isinstance(path, Reply):
        return path
    if rest is None:
        return Mail(path, NO_PARAMETERS) if argument.isascii() else no.NEEDS_SMTPUTF8
    parameters = _parameters(rest, allowed)
    if isinstance(parameters, Reply):
        return parameters
    size: int | None = None
    body = Body.SEVEN_BIT
    for keyword, value in parameters.items():
        match keyword:
            case "SIZE" if _SIZE.fullmatch(value):
                size = int(value)
            case "BODY" if (named := _BODIES.get(value.upper())) and (
                named is not Body.BINARY_MIME or "BINARYMIME" in allowed
            ):
                body = named
            case "SMTPUTF8" | "PRDR" | "REQUIRETLS" if not value:
                pass
            case "AUTH" if value:
                pass
            case "RET" if wishes.is_ret(value):
                pass
            case "ENVID" if wishes.is_envid(value):
                pass
            case _:
                return _wrong_value(keyword)
    if not argument.isascii() and "SMTPUTF8" not in parameters:
        return no.NEEDS_SMTPUTF8
    return Mail(path, MappingProxyType(parameters), size, body, "SMTPUTF8" in parameters, "PRDR" in parameters)


def rcpt(argument: str, *, smtputf8: bool, allowed: Set[str] = frozenset()) -> Rcpt | Reply:
    """RCPT's argument in a transaction with or without SMTPUTF8. `allowed`: the parameters honoured in this session."""
    match = _TO.fullmatch(argument)
    if match is None:
        return _NO_RECIPIENT
    written, rest = match.groups()
    path = _path(written, "5.1.3", bare_postmaster=True)
    if isinstance(path, Reply):
        return path
    if not path:
        return _NULL_RECIPIENT
    if not smtputf8 and not argument.isascii():
        return no.NEEDS_SMTPUTF8
    if rest is None:
        return Rcpt(path, NO_PARAMETERS)
    parameters = _parameters(rest, allowed)
    if isinstance(parameters, Reply):
        return parameters
    for keyword, value in parameters.items():
        match keyword:
            case "NOTIFY" if wishes.is_notify(value):
                pass
            case "ORCPT" if wishes.is_orcpt(value):
                pass
            case _:
                return _wrong_value(keyword)
    return Rcpt(path, MappingProxyType(parameters))


def chunk(argument: str) -> tuple[int, bool] | Reply:
    """BDAT's argument: octets, and whether it is the last (rfc3030#2). No sign, no base, no leading zeros."""
    number, _, last = argument.partition(" ")
    if not _CHUNK_SIZE.fullmatch(number) or int(number) >= MAX_CHUNK or last.upper() not in {"", "LAST"}:
        return _BAD_CHUNK
    return int(number), bool(last)


def base64(text: bytes) -> bytes | Reply:
    """The octets of a SASL response; `=` alone is the empty one (rfc4954#4)."""
    if text == b"=":
        return b""
    try:
        return a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return no.NOT_BASE64


def _path(written: str, status: str, *, bare_postmaster: bool = False) -> Path | Reply:
    """The mailbox between the angle brackets, its source route dropped (rfc5321#3.6.1)."""
    if not written:
        return NULL_PATH
    try:
        if written.startswith("@"):
            route, colon, written = written.partition(":")
            if not colon or not written:
                raise AddressError("the source route has no address")
            for hop in route.split(","):
                if not hop.startswith("@"):
                    raise AddressError("the source route isn't valid")
                parse_domain(hop[1:])
        return Path.parse(written, bare_postmaster=bare_postmaster)
    except AddressError as error:
        return Reply(553, status, str(error))


def _wrong_value(keyword: str) -> Reply:
    return Reply(501, "5.5.4", f"{keyword} has a wrong value")


def _parameters(text: str, allowed: Set[str]) -> dict[str, str] | Reply:
    parameters: dict[str, str] = {}
    for item in text.split(" "):
        if not item:
            continue
        if not _PARAMETER.fullmatch(item):
            return _BAD_PARAMETER
        keyword, _, value = item.partition("=")
        keyword = keyword.upper()
        if keyword in parameters:
            return _TWICE
        if keyword not in allowed or keyword == "BINARYMIME":
            return Reply(555, "5.5.4", f"the parameter {keyword[:64]} isn't known here")  # rfc5321#4.1.1.11
        parameters[keyword] = value
    return parameters
