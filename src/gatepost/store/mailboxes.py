"""Mailboxes as POP3 sees them: what a session asks of a maildrop, whatever it rests on.

A session is a snapshot under an exclusive lock. Messages have their numbers and unique ids when it opens, and what
comes meanwhile belongs to the next one. Nothing is removed before `delete`, which is called at QUIT (rfc1939#6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec


class MailboxError(Exception):
    """The mailbox can't be used now; the client may come back ([SYS/TEMP], rfc3206#4)."""


class MailboxInUse(MailboxError):
    """Another session has the mailbox ([IN-USE], rfc2449#8.1.2)."""


class MessageGone(MailboxError):
    """Somebody else has removed the message since the session was opened."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One message of a session.

    `number` counts from 1 in the order of delivery. `uid` is 1 to 70 characters of 0x21 to 0x7E, unique in the mailbox
    and the same in every session (rfc1939#7). `size` is the octets as they are sent, with CRLF, without dots and the
    terminating line. `key` is the mailbox's own handle: never to be shown, it may hold anything that a file name may.
    """

    number: int
    uid: str
    size: int
    key: str

    @property
    def name(self) -> str:
        """The message's name for logs and plugins: printable, without folder and flags."""
        return printable(self.key.rpartition("/")[2].partition(":")[0])


class Content(Protocol):
    """A message being read."""

    async def read(self) -> bytes:
        """The next piece, at most 128 KiB, every line end CRLF and no CRLF cut; nothing at the end.

        The last line may lack its end. Raises MailboxError.
        """

    @property
    def is_over(self) -> bool:
        """Whether nothing will come any more. It may be known with the last piece, or only when nothing came."""

    def close(self) -> None:
        """Let go of it, at its end or before. A second call does nothing."""


class MailboxSession(Protocol):
    """One user's mailbox while this session has its lock."""

    @property
    def messages(self) -> Sequence[Entry]:
        """The snapshot; entry N is at N - 1."""

    @property
    def octets(self) -> int:
        """The sizes of all messages together (STAT)."""

    async def open_content(self, entry: Entry) -> Content:
        """A message from its beginning; the caller closes it. Raises MessageGone or another MailboxError."""

    async def delete(self, entries: Iterable[Entry]) -> Sequence[Entry]:
        """Remove messages, durably; those that couldn't be removed come back.

        What is gone already counts as removed. Raises nothing for the disk.
        """

    async def close(self) -> None:
        """Let go of the lock. A second call does nothing."""


class Mailboxes(Protocol):
    """Every user's mailbox."""

    async def open(self, user: str) -> MailboxSession:
        """A session; an empty one for a user who has no mail yet. Raises MailboxInUse or another MailboxError."""

    async def close(self) -> None:
        """Wait for what is under way."""


def printable(text: str) -> str:
    """A text with a question mark for every character that doesn't print."""
    return "".join(character if character.isprintable() else "?" for character in text)
