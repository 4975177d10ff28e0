"""delivery's Maildrop over the store's: an address leads to a user, a user to a Maildir."""

from __future__ import annotations

from gatepost.app.quotas import Quotas
from gatepost.delivery import NoMailbox
from gatepost.delivery.ports import MailboxFull
from gatepost.model import Blob, Path, Recipient, Ticket
from gatepost.store.addresses import POSTMASTER
from gatepost.store.maildrop import Maildrop
from gatepost.store.users import Accounts


class Maildrops:
    """Maildirs of known users; of everybody only where no users are asked (without a settings file).

    The postmaster has one even if nobody is a user of that name (RFC 5321 §4.5.1).
    """

    def __init__(self, store: Maildrop | None, users: Accounts, quotas: Quotas, *, takes_everybody: bool) -> None:
        self._store = store
        self._users = users
        self._quotas = quotas
        self._takes_everybody = takes_everybody

    async def deliver(self, ticket: Ticket, recipient: Recipient, content: Blob, *, sender: Path, fresh: bool) -> None:
        """Into the recipient's Maildir, once. NoMailbox if the address is nobody's, MailboxFull if it has to wait for
        its user to make room, OSError if the disk won't."""
        if self._store is None:
            raise NoMailbox("a server without data has no maildrops")
        found = self._users.addresses.user(recipient.path)
        if found is not None and not await self._quotas.takes(found):
            raise MailboxFull(found.name)
        user = None if found is None else found.name
        if user is None and recipient.local.lower() == POSTMASTER:
            user = POSTMASTER
        if user is None and self._takes_everybody:
            user = recipient.address
        if user is None:
            raise NoMailbox(recipient.address)
        await self._store.deliver(
            user, ticket, recipient, content, sender=sender, delivered_to=recipient.address, look=not fresh
        )

    async def close(self) -> None:
        """Wait for deliveries under way."""
        if self._store is not None:
            await self._store.close()
