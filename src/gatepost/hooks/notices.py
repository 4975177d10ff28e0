"""What plugins are told, without being asked: nothing they answer changes anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gatepost.hooks.session import ServerView, Session
from gatepost.model import Path, Recipient, Reply, Ticket


@dataclass(frozen=True, slots=True)
class Notice:
    """What every notice has."""

    name: ClassVar[str] = ""
    server: ServerView


@dataclass(frozen=True, slots=True)
class Disconnected(Notice):
    """A connection has ended; `clean` says whether by QUIT."""

    name: ClassVar[str] = "disconnected"
    session: Session
    clean: bool


@dataclass(frozen=True, slots=True)
class Queued(Notice):
    """A message is durable; its 250 is about to be said."""

    name: ClassVar[str] = "queued"
    session: Session
    ticket: Ticket
    sender: Path
    recipients: tuple[Recipient, ...]
    size: int
    """Octets, as stored."""


@dataclass(frozen=True, slots=True)
class Delivered(Notice):
    """A recipient has the message."""

    name: ClassVar[str] = "delivered"
    ticket: Ticket
    recipient: Recipient
    reply: Reply | None
    """The next server's; None for a Maildir."""


@dataclass(frozen=True, slots=True)
class Deferred(Notice):
    """An attempt has failed and another will follow."""

    name: ClassVar[str] = "deferred"
    ticket: Ticket
    recipient: Recipient
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class Bounced(Notice):
    """A recipient will not have the message: refused for good, or expired."""

    name: ClassVar[str] = "bounced"
    ticket: Ticket
    recipient: Recipient
    reply: Reply | None


NOTICES: dict[str, type[Notice]] = {
    notice.name: notice for notice in (Disconnected, Queued, Delivered, Deferred, Bounced)
}
"""Every notice there is, by name."""
