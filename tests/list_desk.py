"""A list with a database in memory and a clock that is set by hand, and what comes of the mail it gets."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import count
from typing import Any

from gatepost.lists import requests
from gatepost.lists.addressing import purpose_of
from gatepost.lists.context import Context
from gatepost.lists.handled import Handled
from gatepost.model import Blob, Bytes, Envelope, Path, Recipient, Ticket
from gatepost.store import Deposit, Entry
from gatepost.store.lists import ListOptions, ListStore, MailingList, open_lists

ADDRESS = "news@example.org"
OWNER = "olga@example.org"
NOON = 1_800_000_000.0
DAY = 86_400.0


class Desk:
    """One list, `news@example.org`, owned by `olga@example.org`."""

    def __init__(self, store: ListStore, mailing_list: MailingList) -> None:
        numbers = count(1)
        self.store = store
        self.list = mailing_list
        self.now = NOON
        self.context = Context(
            store, "mx.example.org", lambda: self.now, lambda: Ticket("0000HK-000000", next(numbers)), 10_000_000
        )
        self._tickets = count(1)

    @classmethod
    async def open(cls, **options: Any) -> Desk:
        """`options` are fields of ListOptions."""
        store = open_lists(None)
        wanted = replace(ListOptions(owners=(OWNER,), description="News of the house"), **options)
        return cls(store, await store.create("news", ADDRESS, wanted))

    def entry(self, to: str, content: bytes, *, sender: str, authenticated: str | None = None) -> Entry:
        """A message at rest for one of the list's addresses."""
        ticket = Ticket("1111HK-000000", next(self._tickets))
        envelope = Envelope(Path.parse(sender), (Recipient(Path.parse(to)),))
        return Entry(str(ticket), ticket, 0, envelope, Bytes(content), self.now, self.now, authenticated=authenticated)

    async def handle(self, entry: Entry) -> Handled:
        """What the list makes of it."""
        [recipient] = entry.envelope.recipients
        found = purpose_of(self.list.address, recipient.path)
        assert found is not None, recipient
        return await requests.take(self.context, self.list, *found, entry, recipient)

    async def get(
        self,
        to: str,
        *,
        sender: str = "ann@example.net",
        head: str = "",
        subject: str = "",
        text: str = "",
        authenticated: str | None = None,
    ) -> list[EmailMessage]:
        """The letters that a person's mail is answered with."""
        author = f"From: Ann <{sender}>\r\n" if "From:" not in head and sender else ""
        content = f"{author}Message-ID: <1@example.net>\r\nSubject: {subject}\r\n{head}\r\n{text}".encode()
        handled = await self.handle(self.entry(to, content, sender=sender, authenticated=authenticated))
        assert handled.refusal is None
        return [letter_of(deposit) for deposit in handled.deposits]

    async def answer(self, letter: EmailMessage, *, sender: str = "ann@example.net") -> list[EmailMessage]:
        """What a reply to a letter is answered with."""
        return await self.get(
            letter["Reply-To"] or letter["From"].addresses[0].addr_spec,
            sender=sender,
            subject=f"Re: {letter['Subject']}",
        )

    async def bounce(self, to: str, address: str, status: str = "5.1.1", action: str = "failed") -> Handled:
        """A delivery status notification about an address comes in."""
        return await self.handle(self.entry(to, report(address, status, action), sender=""))


def content_of(deposit: Deposit) -> Blob:
    """A deposit's content, which is no draft."""
    assert isinstance(deposit.content, Blob)
    return deposit.content


def letter_of(deposit: Deposit) -> EmailMessage:
    """A deposit as its reader sees it; its envelope stands in X-Envelope-From and X-Envelope-To."""
    message = message_from_bytes(content_of(deposit).read(), policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    message["X-Envelope-From"] = deposit.envelope.sender.address
    message["X-Envelope-To"] = ", ".join(one.address for one in deposit.envelope.recipients)
    return message


def words(letter: EmailMessage) -> str:
    """A letter's text on one line."""
    body = letter.get_body(("plain",))
    assert body is not None
    return " ".join(body.get_content().split())


def report(address: str, status: str = "5.1.1", action: str = "failed") -> bytes:
    """A delivery status notification of another server."""
    return (
        "From: MAILER-DAEMON@mx.example.net\r\nSubject: Undelivered\r\nAuto-Submitted: auto-replied\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\n\r\nSorry.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; mx.example.net\r\n\r\nFinal-Recipient: rfc822; {address}\r\nAction: {action}\r\n"
        f"Status: {status}\r\nDiagnostic-Code: smtp; 550 no such user\r\n--b--\r\n"
    ).encode()
