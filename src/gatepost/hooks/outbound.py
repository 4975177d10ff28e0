"""The moments plugins are asked about in a session with a next server, SMTP or LMTP.

Each command goes through `out-command`, then its own stage; each reply through `out-reply`. What a plugin changes here
concerns this attempt only: the message in the queue stays as it is, and the next attempt asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from gatepost.hooks.events import Event, WithContent
from gatepost.hooks.session import OutgoingSession
from gatepost.model import NULL_PATH, Path, Ticket
from gatepost.model import Recipient as Rcpt

_MOST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Call:
    """Whom a session is opened with, and how."""

    host: str
    """The next server: a name, an address, or the path of a local socket."""
    port: int = 25
    helo: str = ""
    """The name said in EHLO."""
    source: str = ""
    """The address called from; "" leaves it to the machine."""
    tls: str = "starttls"
    """How the connection is protected, in the settings' words."""
    levels: tuple[str, ...] = field(default=(), repr=False)
    """The words there are for `tls`."""


@dataclass(eq=False)
class Outgoing(Event):
    """What every stage of an outgoing session has."""

    @property
    def host(self) -> str:
        """The next server's name; its address where it has none."""
        return self._session.host

    @property
    def capabilities(self) -> Mapping[str, str]:
        """What the next server offers: EHLO keywords, upper-case, with their parameters. Empty before EHLO."""
        return self._session.capabilities

    @property
    def ticket(self) -> Ticket | None:
        """The message's, as said in its 250; None where the session isn't about one."""
        return None if self.transaction is None else self.transaction.ticket

    @property
    def _session(self) -> OutgoingSession:
        assert isinstance(self.session, OutgoingSession)
        return self.session


@dataclass(eq=False)
class Conversing(Outgoing):
    """What every command and reply has."""

    line: str = ""
    """The command, without CRLF: as it would go, or, at `out-reply`, as it went. Passwords are hidden."""

    @property
    def verb(self) -> str:
        """The first word, upper-case."""
        return self.line.partition(" ")[0].upper()

    @property
    def sender(self) -> Path:
        """The message's reverse-path; falsy for the null sender, and where the session isn't about a message."""
        return NULL_PATH if self.transaction is None else self.transaction.sender

    @property
    def recipients(self) -> tuple[Rcpt, ...]:
        """Those to whom the message goes in this transaction."""
        return () if self.transaction is None else tuple(self.transaction.recipients)


@dataclass(eq=False)
class OutSession(Outgoing):
    """A next server is about to be called. Here its address, our own, the name in EHLO and TLS may be chosen."""

    name: ClassVar[str] = "out-session"
    call: Call = field(default_factory=lambda: Call(""))
    """Whom, and how, as settings and earlier plugins would have it."""

    def connect_to(self, server: str) -> None:
        """Call this server instead: a name or an address, with or without a port, as "10.0.0.5:25". ValueError."""
        self._check_open()
        host, port = _server(server)
        self.call = replace(self.call, host=host, port=self.call.port if port is None else port)

    def call_from(self, address: str) -> None:
        """Call from this address of ours; "" leaves it to the machine."""
        self._check_open()
        self.call = replace(self.call, source=_word(address))

    def introduce_as(self, name: str) -> None:
        """Say this name in EHLO. ValueError for what can't be one."""
        self._check_open()
        if not _word(name):
            raise ValueError("EHLO needs a name")
        self.call = replace(self.call, helo=name)

    def protect(self, level: str) -> None:
        """How the connection is to be protected, in the settings' words. ValueError for another one."""
        self._check_open()
        if level not in self.call.levels:
            raise ValueError(f'there is no tls "{level}"; there are: {", ".join(self.call.levels)}')
        self.call = replace(self.call, tls=level)


@dataclass(eq=False)
class OutMessage(WithContent, Outgoing):
    """MAIL is about to go. The message may be changed for this transaction: the one in the queue stays as it is. Its
    sender and recipients can't be changed any more.
    """

    name: ClassVar[str] = "out-message"
    line: str = ""
    """The MAIL command, without CRLF, as it would go."""


@dataclass(eq=False)
class OutRecipient(Conversing):
    """A RCPT is about to go."""

    name: ClassVar[str] = "out-recipient"
    recipient: Rcpt = field(default_factory=lambda: Rcpt(Path()))
    """The recipient it names."""


@dataclass(eq=False)
class OutData(Conversing):
    """DATA is about to go; or BDAT, before its first chunk, which can be sent or given up and not be changed."""

    name: ClassVar[str] = "out-data"


@dataclass(eq=False)
class OutQuit(Conversing):
    """QUIT is about to go."""

    name: ClassVar[str] = "out-quit"


@dataclass(eq=False)
class OutCommand(Conversing):
    """A command is about to go: EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, RSET, QUIT. Asked before the command's own
    stage.
    """

    name: ClassVar[str] = "out-command"
    phase: str = ""
    """What the command is for, whatever its line says: hello, tls, auth, introduction, reset, sender, recipient, data,
    content (BDAT), quit."""
    recipient: Rcpt | None = None
    """The recipient concerned, at RCPT."""
    number: int = 0
    """Which question about a command of this session it is, from 1."""


@dataclass(eq=False)
class OutReply(Conversing):
    """The next server's `reply` to a command, before it is acted on. Commands wait for each other while somebody is
    bound here, unless every binding says `pipelining = true`.
    """

    name: ClassVar[str] = "out-reply"
    phase: str = ""
    """What it answers: greeting, hello, tls, auth, introduction, reset, sender, recipient, data, content, end of data,
    quit; extra line, which a plugin has said first (`repeat`)."""
    recipient: Rcpt | None = None
    """The recipient concerned, if it is about one."""
    number: int = 0
    """Which reply of this session it is, from 1."""
    pipelined: bool = False
    """Whether other commands are under way already, so that this one can't be repeated."""


def _server(text: str) -> tuple[str, int | None]:
    """Host and port of "name", "name:25", "10.0.0.5:25", "[::1]:25", "::1"."""
    written = _word(text)
    host, colon, digits = written.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")) or written.endswith("]"):
        host, digits = written, ""
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise ValueError(f'"{text}" is no server; write a name or an address, and :25 for its port')
    if not digits:
        if colon and host != written.strip("[]"):
            raise ValueError(f'"{text}" has a colon and no port')
        return host, None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) <= _MOST_PORT):
        raise ValueError(f'"{text}": a port is a number from 1 to {_MOST_PORT}')
    return host, int(digits)


def _word(text: str) -> str:
    if not isinstance(text, str) or not text.isprintable() or " " in text:
        raise ValueError(f"{text!r:.80} isn't one word")
    return text
