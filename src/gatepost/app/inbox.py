"""Where mail rests in a server without `data` and without routes: a list, for applications and their tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

from gatepost.content.view import View
from gatepost.model import Bytes, Ticket
from gatepost.model import Message as MessageView
from gatepost.store.draft import Draft
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Deposit, Memos, Spool


@dataclass(frozen=True, slots=True)
class Received:
    """One message that was accepted, as it would have been stored."""

    sender: str
    recipients: list[str]
    content: bytes = field(repr=False)
    ticket: str = ""
    held: str | None = None
    """Why it waits for an operator; None for what was simply accepted."""
    authenticated: str | None = None

    @property
    def message(self) -> MessageView:
        """Headers and parts, as plugins see them."""
        return View(Bytes(self.content))

    @property
    def email(self) -> EmailMessage:
        """The standard library's view, parsed anew at each call."""
        return BytesParser(policy=policy.SMTP).parsebytes(self.content)

    @property
    def message_id(self) -> str | None:
        """The Message-ID without angle brackets."""
        return self.message.message_id

    @property
    def subject(self) -> str:
        """The subject, decoded; "" without one."""
        return self.message.headers.get("Subject") or ""

    def __getitem__(self, name: str) -> str:
        """A header's first value; KeyError if there is none."""
        return self.message.headers[name]


class Inbox:
    """Keeps what is committed in `messages`. A 250 here isn't durable, and says nothing about a restart."""

    def __init__(self) -> None:
        self.messages: list[Received] = []
        self._arrived = asyncio.Condition()
        self._drafts: Spool = memory_spool(time.time)

    def draft(self, ticket: Ticket) -> Draft:
        return self._drafts.draft(ticket)

    async def commit(
        self, deposits: Sequence[Deposit], *, records: Sequence[tuple[object, ...]] = (), memos: Memos | None = None
    ) -> None:
        """Append each deposit to the list."""
        for deposit in deposits:
            content = deposit.content
            blob = content if not hasattr(content, "finish") else await content.finish()
            self.messages.append(
                Received(
                    sender=deposit.envelope.sender.address,
                    recipients=[recipient.address for recipient in deposit.envelope.recipients],
                    content=b"".join(blob.chunks()),
                    ticket=str(deposit.ticket),
                    held=deposit.held,
                    authenticated=deposit.authenticated,
                )
            )
        if memos:
            await self._drafts.commit([], memos=memos)
        async with self._arrived:
            self._arrived.notify_all()

    async def memos(self, prefix: str) -> dict[str, bytes]:
        """As the spool's."""
        return await self._drafts.memos(prefix)

    async def wait(self, fits: object, timeout_s: float) -> Received:
        """The first message for which `fits` is true, now or within the time; TimeoutError with what did arrive."""
        assert callable(fits)
        async with asyncio.timeout(timeout_s), self._arrived:
            while True:
                for message in self.messages:
                    if fits(message):
                        return message
                await self._arrived.wait()
