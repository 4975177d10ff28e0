"""What a server writes on top of a message: Received and Return-Path, and what it looks for in those of others.

Strategy: fields are built from facts handed in, time included; a name that a client chose is written only in the
characters a domain has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from ipaddress import IPv6Address

from gatepost.content.headers import Section
from gatepost.model import Address, Path, Tls

MAX_RECEIVED = 100  # rfc5321#6.3

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_IN_DOMAIN = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_DOMAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-fIPv:.]+\]")
_NOT_IN_COMMENT = re.compile(r"[^A-Za-z0-9._ -]")
_MAX_HELO = 255


def received(
    *,
    helo: str,
    address: Address | None,
    hostname: str,
    keyword: str,
    ticket: str,
    unix_time: float,
    offset_s: int = 0,
    name: str | None = None,
    tls: Tls | None = None,
    recipients: tuple[Path, ...] = (),
) -> bytes:
    """The Received field (RFC 5321 §4.4), with its line ends.

    `helo` is what the client said, `name` its verified reverse name; `keyword` from `with_keyword`; `unix_time` in
    seconds with the local offset east of Greenwich in seconds. `for` is written for a single recipient only, so that
    nobody learns of the others (rfc5321#7.6).
    """
    head = received_head(helo=helo, address=address, hostname=hostname, keyword=keyword, name=name, tls=tls)
    return received_after(head, ticket=ticket, unix_time=unix_time, offset_s=offset_s, recipients=recipients)


def received_after(
    head: str, *, ticket: str, unix_time: float, offset_s: int = 0, recipients: Sequence[Path] = ()
) -> bytes:
    """The field from its head on: what is another in each message. The facts are those of `received`."""
    whom = ""
    if len(recipients) == 1 and (only := recipients[0].address).isprintable():
        whom = f" for <{only}>"
    return f"{head}\r\n\tid {ticket}{whom};\r\n\t{date(unix_time, offset_s)}\r\n".encode("utf-8", "replace")


def received_head(
    *, helo: str, address: Address | None, hostname: str, keyword: str, name: str | None = None, tls: Tls | None = None
) -> str:
    """The beginning of the field, the same for all messages of a session. The facts are those of `received`."""
    clauses = [
        f"Received: from {_from(helo, address)} ({_info(name, address)})",
        f"by {_safe_domain(hostname)} (Gatepost) with {keyword}",
    ]
    if tls is not None:
        clauses.append(f"({_NOT_IN_COMMENT.sub('', tls.version)} {_NOT_IN_COMMENT.sub('', tls.cipher)})")
    return "\r\n\t".join(clauses)


def with_keyword(
    *, lmtp: bool = False, extended: bool = True, tls: bool = False, authenticated: bool = False, utf8: bool = False
) -> str:
    """The protocol of the `with` clause (RFC 3848, and RFC 6531 §4.3 with SMTPUTF8)."""
    if not lmtp and not extended:
        return "SMTP"
    base = ("UTF8LMTP" if lmtp else "UTF8SMTP") if utf8 else ("LMTP" if lmtp else "ESMTP")
    return base + ("S" if tls else "") + ("A" if authenticated else "")


def return_path(sender: Path) -> bytes:
    """The Return-Path field of final delivery (rfc5321#4.4), with its line end."""
    address = sender.address if sender.address.isprintable() else ""
    return f"Return-Path: <{address}>\r\n".encode("utf-8", "replace")


def count_received(section: Section) -> int:
    """How many servers the message went through; more than MAX_RECEIVED is a loop (5.4.6, rfc5321#6.3)."""
    return section.count("received")


def date(unix_time: float, offset_s: int = 0) -> str:
    """A date-time as RFC 5322 §3.3 writes it; the offset in seconds east of Greenwich."""
    return _date(int(unix_time), offset_s)


@lru_cache(maxsize=8)
def _date(second: int, offset_s: int) -> str:
    minutes = offset_s // 60
    when = datetime.fromtimestamp(second, timezone(timedelta(minutes=minutes)))
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return (
        f"{_DAYS[when.weekday()]}, {when.day} {_MONTHS[when.month - 1]} {when.year:04} "
        f"{when.hour:02}:{when.minute:02}:{when.second:02} {sign}{minutes // 60:02}{minutes % 60:02}"
    )


def _from(helo: str, address: Address | None) -> str:
    """The HELO name where it can be one, else the address literal; whatever was said, nothing else can follow."""
    if len(helo) <= _MAX_HELO and _DOMAIN.fullmatch(helo):
        return helo
    return _literal(address) if not helo else _safe_domain(helo)


def _info(name: str | None, address: Address | None) -> str:
    """TCP-info: what we know, not what the client said."""
    return f"{_safe_domain(name)} {_literal(address)}" if name else _literal(address)


def _literal(address: Address | None) -> str:
    """rfc5321#4.1.3; the peer of a local socket has no address."""
    if address is None:
        return "localhost"
    return f"[IPv6:{address}]" if isinstance(address, IPv6Address) else f"[{address}]"


def _safe_domain(name: str) -> str:
    return _NOT_IN_DOMAIN.sub("?", name[:_MAX_HELO])
