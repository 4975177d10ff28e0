"""What an embedded server without `data` has received, as POP3 shows it: to each user the messages that came for them.

The list is looked through at each login, so what an application takes out of `server.messages` is gone here too; what a
client deletes here stays in `server.messages`, and isn't shown again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from gatepost.app.inbox import Inbox, Received
from gatepost.store.mailbox_memory import MemoryContent
from gatepost.store.mailboxes import Content, Entry, MailboxInUse, MailboxSession
from gatepost.store.users import Users, folded


class InboxMailboxes:
    """Invariant: at most one session holds a user's mailbox."""

    def __init__(self, inbox: Inbox, users: Users) -> None:
        """`users` say whose an address is, where it isn't the user's name itself."""
        self._inbox = inbox
        self._users = users
        self._held: set[str] = set()
        self._deleted: set[tuple[str, str]] = set()  # user and unique id

    async def open(self, user: str) -> MailboxSession:
        owner = folded(user)
        if owner in self._held:
            raise MailboxInUse(f"another session has the mailbox of {user}")
        self._held.add(owner)
        try:
            return _Session(self._held, self._deleted, owner, await self._messages(user))
        except BaseException:
            self._held.discard(owner)
            raise

    async def close(self) -> None:
        """Nothing is under way."""

    async def _messages(self, user: str) -> list[tuple[str, Received]]:
        """What is shown, with its unique id: the ticket, and which of its parts it is where there are several."""
        parts: Counter[str] = Counter()
        found = []
        for message in list(self._inbox.messages):
            part = parts[message.ticket]
            parts[message.ticket] += 1
            uid = f"{message.ticket}.{part}" if part else message.ticket
            if message.held is None and (folded(user), uid) not in self._deleted and await self._is_for(user, message):
                found.append((uid, message))
        return found

    async def _is_for(self, user: str, message: Received) -> bool:
        for address in message.recipients:
            if folded(address) == folded(user) or await self._users.mailbox(address) == user:
                return True
        return False


class _Session:
    """Invariant: the mailbox is let go exactly once."""

    def __init__(
        self, held: set[str], deleted: set[tuple[str, str]], owner: str, messages: Iterable[tuple[str, Received]]
    ) -> None:
        self._held = held
        self._deleted = deleted
        self._owner = owner
        self._contents = dict(messages)
        self._is_closed = False
        self.messages: Sequence[Entry] = [
            Entry(number, uid, len(message.content), uid)
            for number, (uid, message) in enumerate(self._contents.items(), 1)
        ]
        self.octets = sum(entry.size for entry in self.messages)

    async def open_content(self, entry: Entry) -> Content:
        return MemoryContent(self._contents[entry.key].content)

    async def delete(self, entries: Iterable[Entry]) -> Sequence[Entry]:
        self._deleted.update((self._owner, entry.uid) for entry in entries)
        return []

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._held.discard(self._owner)
