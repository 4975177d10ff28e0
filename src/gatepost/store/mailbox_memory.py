"""Mailboxes in memory: for an embedded server without `data`, and for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import count

from gatepost.model import Blob
from gatepost.model.blob import CHUNK
from gatepost.store.mailbox_content import with_crlf
from gatepost.store.mailboxes import Content, Entry, MailboxInUse, MailboxSession, MessageGone

_Box = dict[str, tuple[str, bytes]]  # by name: unique id, content with CRLF


class MemoryMailboxes:
    """Invariant: at most one session holds a mailbox. Users are told apart without regard to case."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        """`entropy` gives random octets: the unique ids of one life of the server must not be those of another."""
        self._key = entropy(16)
        self._boxes: dict[str, _Box] = {}
        self._held: set[str] = set()
        self._count = count(1)

    async def deliver(self, user: str, content: Blob, *, name: str | None = None) -> None:
        """Put a message into a mailbox, unless one of this name is there already."""
        box = self._boxes.setdefault(user.lower(), {})
        number = next(self._count)
        if (name := name or str(number)) not in box:
            uid = blake2b(number.to_bytes(8, "big"), key=self._key, digest_size=16).hexdigest()
            box[name] = uid, with_crlf(b"".join(content.chunks()))

    async def open(self, user: str) -> MailboxSession:
        if user.lower() in self._held:
            raise MailboxInUse(f"another session has the mailbox of {user}")
        return _MemorySession(self._boxes.setdefault(user.lower(), {}), user.lower(), self._held)

    async def close(self) -> None:
        """Nothing is under way."""


class _MemorySession:
    def __init__(self, box: _Box, user: str, held: set[str]) -> None:
        self._box = box
        self._user = user
        self._held = held
        self._is_closed = False
        held.add(user)
        self.messages: Sequence[Entry] = [
            Entry(number, uid, len(data), name) for number, (name, (uid, data)) in enumerate(box.items(), 1)
        ]
        self.octets = sum(entry.size for entry in self.messages)

    async def open_content(self, entry: Entry) -> Content:
        uid, data = self._box.get(entry.key, ("", b""))
        if uid != entry.uid:
            raise MessageGone(f"{entry.name} isn't there any more")
        return MemoryContent(data)

    async def delete(self, entries: Iterable[Entry]) -> Sequence[Entry]:
        for entry in entries:
            self._box.pop(entry.key, None)
        return []

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._held.discard(self._user)


class MemoryContent:
    """Octets as a message being read; their line ends are CRLF."""

    def __init__(self, data: bytes) -> None:
        self._pieces = _pieces(data)
        self._left = len(data)

    @property
    def is_over(self) -> bool:
        return not self._left

    async def read(self) -> bytes:
        piece = next(self._pieces, b"")
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._pieces = iter(())
        self._left = 0


def _pieces(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + CHUNK
        if data[end - 1 : end + 1] == b"\r\n":
            end += 1
        yield data[at:end]
        at = end
