"""What the server machine says to whoever drives it: questions that stand still until answered, and facts that don't.

Strategy: one frozen class per thing that can happen, two closed unions. A *question* is answered with exactly one call
on the session (its docstring says which, and `err` answers each); until then the machine gives no other event. What is
*told* needs no answer. Message numbers are well-formed and nothing more: whether there is such a message, or it is
deleted, is for who answers to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gatepost.wire.pop3.replies import Reply


@dataclass(frozen=True, slots=True)
class Connect:
    """The connection is there and nothing was said yet. `ok` greets, `err` says no and closes."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STLS. `ok` waits for `tls_started`, once the output is flushed and the handshake is through."""


@dataclass(frozen=True, slots=True)
class User:
    """USER. `ok` waits for PASS; say it for names there aren't too (RFC 1939 §7 allows it), so that nobody learns."""

    name: str


@dataclass(frozen=True, slots=True)
class Login:
    """USER and PASS, or APOP. `logged_in` opens the maildrop.

    `mechanism` is "USER" or "APOP"; with USER there is a `password`, with APOP a `digest`: the MD5, in 32 lower-case
    hexadecimal digits, of the session's `timestamp` and the shared secret.
    """

    user: str
    password: str | None = field(default=None, repr=False)
    digest: str | None = field(default=None, repr=False)
    mechanism: str = "USER"


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH with a mechanism that is offered. `challenge` goes on with the exchange, `logged_in` and `err` end it.

    `initial` is the decoded initial response: None if there was none, b"" for `=`.
    """

    mechanism: str
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The decoded response to a challenge. Answered like `Auth`."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Utf8:
    """UTF8. `ok` switches: `session.utf8` is true, replies and content may go beyond ASCII (RFC 6856 §2.1)."""


@dataclass(frozen=True, slots=True)
class Stat:
    """STAT. `ok` with "messages octets", those not deleted."""


@dataclass(frozen=True, slots=True)
class List:
    """LIST. With a number `ok` with "number octets"; without one `listing` of such lines."""

    number: int | None = None


@dataclass(frozen=True, slots=True)
class Uidl:
    """UIDL. With a number `ok` with "number id"; without one `listing` of such lines."""

    number: int | None = None


@dataclass(frozen=True, slots=True)
class Retrieve:
    """RETR. `content`, then `feed` as often as needed, then `end`."""

    number: int


@dataclass(frozen=True, slots=True)
class Top:
    """TOP: the header section, the blank line and this many `lines` after it. As `Retrieve`; the machine counts."""

    number: int
    lines: int


@dataclass(frozen=True, slots=True)
class Delete:
    """DELE. `ok` marks the message; it is deleted at `Quit` only."""

    number: int


@dataclass(frozen=True, slots=True)
class Reset:
    """RSET. `ok`: no message is marked any more."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP. `ok`."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT. `ok`, or `err` if something marked couldn't be deleted; the session closes either way.

    `update`: the maildrop is open, and what was marked is to be deleted before the answer (RFC 1939 §6).
    """

    update: bool


@dataclass(frozen=True, slots=True)
class Capa:
    """CAPA was said, and answered from the profile. Told."""


@dataclass(frozen=True, slots=True)
class Lang:
    """LANG was said, and answered from the profile: with a language's tag, which `session.language` is now, or None for
    the list of them. Told."""

    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The machine has refused this line by itself, with this reply. Told. Secrets are cut off the line."""

    line: bytes
    reply: Reply


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing comes any more; told once. `clean`: the client said QUIT. Only then is anything deleted."""

    clean: bool


class NeedData(Enum):
    """Not an event: flush `data_to_send`, then `receive` more (or start TLS, or close)."""

    NEED_DATA = "need data"


NEED_DATA: Final = NeedData.NEED_DATA

Question = (
    Connect
    | StartTls
    | User
    | Login
    | Auth
    | AuthResponse
    | Utf8
    | Stat
    | List
    | Uidl
    | Retrieve
    | Top
    | Delete
    | Reset
    | Noop
    | Quit
)
Told = Capa | Lang | Refused | Ended
Event = Question | Told
