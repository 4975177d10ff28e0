"""What collecting needs from elsewhere: a session on the other server, and the house that takes the mail in.

`remote.py` is the one maker of Remote that speaks POP3; the app joins Intake. Both have doubles in the tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path as File
from types import MappingProxyType
from typing import Literal, Protocol

from gatepost.model import Blob, Path, Peer, Recipient

Security = Literal["none", "starttls", "implicit"]
OnRefusal = Literal["quarantine", "discard"]

_NOTHING: Mapping[str, bytes | None] = MappingProxyType({})


def _nothing() -> Mapping[str, bytes | None]:
    return _NOTHING


# ── the other server ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Login:
    """Which server, and as whom. Times in seconds.

    `mechanisms` are the ways to log in that may be tried, in this order: "apop", "user", or a SASL mechanism's name in
    lower case; () is whatever is safest of what the server offers. `token` gives the access token of XOAUTH2 and
    OAUTHBEARER, fresh at each call; `password` everything else. `ca` is a file of authorities to trust instead of the
    system's, `fingerprint` the SHA-256 of the server's certificate in hexadecimal, which is then all that counts;
    with neither, and `verify`, the system's authorities and the server's name do.
    """

    host: str
    port: int
    tls: Security
    user: str
    password: str = field(default="", repr=False)
    token: Callable[[], Awaitable[str]] | None = field(default=None, repr=False, compare=False)
    mechanisms: tuple[str, ...] = ()
    verify: bool = True
    ca: File | None = None
    fingerprint: str = ""
    connect_s: float = 30.0
    command_s: float = 60.0
    """How long an answer, and each further piece of content, may take."""


class Trouble(Enum):
    """What kind of thing went wrong, which decides when it is tried again."""

    LOGIN = "login"
    """The server won't have this user or password."""
    TEMPORARY = "temporary"
    """The server says that it can't now: maildrop in use, logins too often, a fault of its own."""
    PROTOCOL = "protocol"
    """It doesn't speak POP3 as it ought to, or won't do what was asked."""
    TLS = "tls"
    """No encryption, or a certificate that can't be trusted."""
    LOST = "lost"
    """It can't be reached, or the connection broke off."""


class RemoteError(Exception):
    """The session can't go on; the text is one line, safe to show."""

    def __init__(self, text: str, kind: Trouble) -> None:
        super().__init__(text)
        self.kind = kind


class TooLarge(Exception):
    """The message has more octets than were asked for at most. The session goes on with the next."""


class Refused(Exception):
    """The server won't give or delete this one message (-ERR). The session goes on; the text is the server's."""


@dataclass(frozen=True, slots=True)
class Found:
    """One message of the listing. `size` in octets is the server's word; `uid` is None without UIDL."""

    number: int
    size: int
    uid: str | None


class Remote(Protocol):
    """One session on another server, logged in. Used by one task; closed once, by `quit` or `abort`.

    Every method raises RemoteError when the session is over; then only `abort` may follow.
    """

    @property
    def has_uidl(self) -> bool:
        """Whether messages have a name that stays."""

    @property
    def has_top(self) -> bool:
        """Whether a header can be had without its body."""

    async def messages(self) -> list[Found]:
        """Everything there is, whole, in the server's order."""

    async def header(self, number: int) -> bytes | None:
        """The header section (TOP n 0), CRLF lines; None where the server can't."""

    def retrieve(self, number: int, limit: int) -> AsyncIterator[bytes]:
        """The message in pieces: CRLF lines, dots un-stuffed. Raises TooLarge beyond `limit` octets, and Refused."""

    async def delete(self, number: int) -> None:
        """Mark it; it is gone when `quit` has returned. Raises Refused."""

    async def quit(self) -> None:
        """End the session; what was marked is gone when this has returned, and not otherwise."""

    async def abort(self) -> None:
        """Hang up: nothing that was marked is deleted. Never raises."""


class Talk(Protocol):
    """Who may listen to the conversation, for the log and for tests. Passwords and tokens are left out."""

    def said(self, line: str) -> None:
        """A command of ours."""

    def heard(self, line: str) -> None:
        """The first line of an answer."""


Connect = Callable[[Login, Talk | None], Awaitable[Remote]]
"""Opens a session and logs in; RemoteError says why not. `gatepost.collecting.remote.connect` is one."""


# ── the house ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Collected:
    """One message, fetched: what a session of its own would have brought.

    `content` is as it came, CRLF lines. `peer` and `helo` are those of the client that brought it to the other server,
    as far as its Received fields are believed. `memos` are made durable in the very same step as the message, or as
    the decision that there is none.
    """

    account: str
    content: Blob
    sender: Path
    recipients: tuple[Recipient, ...]
    peer: Peer
    helo: str
    received_at: float
    memos: Mapping[str, bytes | None] = field(default_factory=_nothing)
    on_refusal: OnRefusal = "quarantine"
    is_last: bool = False
    """It was refused for now for long enough: another such refusal holds it for an operator."""


class TakenAs(Enum):
    """What became of a message that was taken in."""

    ACCEPTED = "accepted"
    HELD = "held"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Taken:
    """It is durable, and so are the memos. `text` says why it was held or discarded."""

    ticket: str
    fate: TakenAs
    text: str = ""


class IntakeLater(Exception):
    """Nothing was decided and nothing noted: a plugin said 4xx, or there is no room. The text says which."""


class NoRoom(IntakeLater):
    """It can't be stored here now, which says nothing about the message."""


class Intake(Protocol):
    """The house, as somebody sees it who brings mail."""

    async def take(self, collected: Collected) -> Taken:
        """Ask every plugin, and make the message and its memos durable in one step. Raises IntakeLater."""
