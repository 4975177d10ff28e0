"""What delivery needs from elsewhere: a place for local mail, somebody to tell, and plugins to ask on the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gatepost.delivery.route import Hop, Host
from gatepost.delivery.settlement import Result
from gatepost.model import Blob, Path, Peer, Recipient, Reply, Ticket, Tls
from gatepost.store import Deposit, Entry
from gatepost.wire.smtp.client_events import (
    Asks,
    Capabilities,
    CommandDue,
    EndSession,
    ReplyHeard,
    Step,
    Transaction,
)


class NoMailbox(LookupError):
    """There is no such mailbox (any more)."""


class MailboxFull(Exception):
    """The mailbox holds more than it may; the message isn't refused for good by that."""


class Maildrop(Protocol):
    """Where local mail comes to rest."""

    async def deliver(self, ticket: Ticket, recipient: Recipient, content: Blob, *, sender: Path, fresh: bool) -> None:
        """Put a copy into the recipient's maildrop, durably and exactly once, however often it is asked.

        `sender` goes into Return-Path. `fresh`: this is the first time it is asked, so that there is no earlier copy
        to be looked for.
        Raises OSError or MailboxFull where it can't be done now, NoMailbox where it never can.
        """


class Copies(Protocol):
    """How the copies of a list's post look in one attempt."""

    @property
    def each(self) -> bool:
        """Whether every recipient has a return path or header section of its own."""

    def of(self, recipients: Sequence[Recipient]) -> tuple[Path, Blob]:
        """The return path and the content for some of the recipients."""


class Lists(Protocol):
    """Who knows the lists."""

    async def take(self, name: str, entry: Entry, recipient: Recipient) -> Result:
        """What mail to one of a list's addresses comes to: where it is done, with what it goes on as."""

    async def copies(self, entry: Entry) -> Copies | None:
        """How a list's copies are to look now; None where the entry isn't any, or its list is gone."""


class Aliases(Protocol):
    """Which addresses stand for others."""

    async def targets(self, address: Path) -> Sequence[Path] | None:
        """Whose mail an address's is in the end, each once; None if it is no alias."""

    async def person(self, address: Path) -> str:
        """What two addresses have in common whose mail comes to rest in one maildrop; nothing else has it."""


class Observer(Protocol):
    """Who is told what became of mail, after it is durable that it did. Must not raise, and must not take long.

    `host` is the server it went to or was tried at; None where there was none.
    """

    def delivered(self, entry: Entry, recipient: Recipient, reply: Reply | None, host: Host | None) -> None:
        """A recipient has the message, by the word of the next server; None for a maildrop or nowhere."""

    def deferred(
        self, entry: Entry, recipient: Recipient, reply: Reply, next_attempt: float, host: Host | None
    ) -> None:
        """An attempt has failed; the next one is at `next_attempt` (s, Unix time)."""

    def bounced(self, entry: Entry, recipient: Recipient, reply: Reply, told: str, host: Host | None) -> None:
        """A recipient will not have the message; `told` says who knows: "sender", "postmaster", or "" for nobody."""

    def written(self, entry: Entry, deposit: Deposit) -> None:
        """A message with a ticket of its own is in the queue because of the entry: a report, word to the postmaster,
        or a copy that is held for those who won't have it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message as it is to go: what plugins changed about it concerns this transaction only. `mail_line` is the MAIL
    command, without CRLF, if it is to be another one than the machine would write.
    """

    transaction: Transaction
    content: Blob
    mail_line: str | None = None


class Talk(Protocol):
    """What is known of a session with a next server. Asked for anew with every question: it changes as it goes on."""

    @property
    def peer(self) -> Peer:
        """The server's address."""

    @property
    def local(self) -> tuple[str, int]:
        """Our own."""

    @property
    def tls(self) -> Tls | None:
        """What protects the connection."""

    @property
    def capabilities(self) -> Capabilities:
        """What the server offers now."""


class Outbound(Protocol):
    """Who is asked on the way out. Where nobody is, there is None instead, and nothing is waited for.

    Nothing here raises, but for the cancellation of the asking task.
    """

    def asks(self) -> Asks:
        """Which commands and replies a session's machine is to stand still for."""

    async def session(self, hop: Hop, host: Host) -> tuple[Hop, Host] | Reply:
        """Before connecting: whom to call, and how; or why not to, as a 4xx reply, or 5xx for good."""

    async def message(
        self, connection: Talk, transaction: Transaction, content: Blob, mail_line: str
    ) -> Prepared | Reply | EndSession:
        """Before MAIL: the message as it is to go, or what becomes of everybody; `EndSession` ends the session too."""

    def probe(self, connection: Talk) -> None:
        """Before MAIL, where recipients are asked about without a message."""

    async def command(self, connection: Talk, event: CommandDue) -> Step:
        """The step that answers a command that is due, always one that is legal there."""

    async def reply(self, connection: Talk, event: ReplyHeard) -> Step:
        """The step that answers a reply that was heard, always one that is legal there."""

    def ended(self, connection: Talk | None) -> None:
        """The session is over, or none came about: what plugins kept for it is closed. Whatever ended it."""
