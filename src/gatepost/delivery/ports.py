"""What delivery needs from elsewhere: a place for local mail, and somebody to tell."""

from __future__ import annotations

from typing import Protocol

from gatepost.delivery.route import Host
from gatepost.model import Blob, Path, Recipient, Reply, Ticket
from gatepost.store import Entry


class NoMailbox(LookupError):
    """There is no such mailbox (any more)."""


class Maildrop(Protocol):
    """Where local mail comes to rest."""

    async def deliver(self, ticket: Ticket, recipient: Recipient, content: Blob, *, sender: Path, fresh: bool) -> None:
        """Put a copy into the recipient's maildrop, durably and exactly once, however often it is asked.

        `sender` goes into Return-Path. `fresh`: this is the first time it is asked, so that there is no earlier copy
        to be looked for.
        Raises OSError where it can't be done now, NoMailbox where it never can.
        """


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
