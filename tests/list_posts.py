"""Posts to lists in memory: the lists, a context, and entries as delivery would have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from gatepost.lists.context import Context
from gatepost.model import Blob, Bytes, Envelope, Path, Recipient, Ticket, token_at
from gatepost.store import Deposit, Entry
from gatepost.store.lists import ListOptions, ListStore, MailingList, open_lists

NOW = 1_790_000_000.0
POST = (
    b"Received: from x by mx.example.org (Gatepost) with ESMTP id T;\r\n\tTue, 22 Sep 2026 00:00:00 +0000\r\n"
    b"From: Ann Example <ann@example.net>\r\nTo: news@example.org\r\nSubject: hello\r\n"
    b"Message-ID: <1@example.net>\r\nDate: Tue, 22 Sep 2026 00:00:00 +0000\r\n\r\nHello all,\r\nFrom me.\r\n"
)


class World:
    """Lists in a database (in memory, unless a store is given), and a clock that is set by hand."""

    def __init__(self, store: ListStore | None = None) -> None:
        self.store = store or open_lists(None)
        self.now = NOW
        numbers = count(1)
        self.context = Context(
            self.store, "mx.example.org", lambda: self.now, lambda: Ticket("06HK3M-000000", next(numbers)), 10_000_000
        )

    async def make(self, name: str, *members: str, **options: Any) -> MailingList:
        """A list `NAME@example.org`; `options` are fields of ListOptions."""
        made = await self.store.create(name, f"{name}@example.org", replace(ListOptions(post="open"), **options))
        await self.store.subscribe_all(name, [(address, "") for address in members], now=NOW)
        return made


def entry(
    content: bytes | Blob = POST,
    *,
    to: Sequence[str] = ("news@example.org",),
    sender: str = "ann@example.net",
    number: int = 1,
    **more: Any,
) -> Entry:
    """A message at rest."""
    ticket = Ticket(token_at(int(NOW * 1000), 0, 7), number)
    recipients = tuple(Recipient(Path.parse(one)) for one in to)
    blob = Bytes(content) if isinstance(content, bytes) else content
    envelope = more.pop("envelope", Envelope(Path.parse(sender), recipients))
    return Entry(str(ticket), ticket, 0, envelope, blob, NOW, NOW, **more)


def at_rest(deposit: Deposit, **more: Any) -> Entry:
    """A deposit as delivery gets it."""
    assert isinstance(deposit.content, Blob)
    return Entry(
        deposit.id,
        deposit.ticket,
        deposit.part,
        deposit.envelope,
        deposit.content,
        deposit.received_at,
        deposit.received_at,
        routes=deposit.routes,
        facts=deposit.facts,
        **more,
    )


def addressed(deposits: Iterable[Deposit]) -> list[tuple[str, str]]:
    """(list, recipient) of every copy, in order."""
    return [(one.facts["list"], who.address) for one in deposits for who in one.envelope.recipients]
