"""The spool in memory: for an embedded server without `data`, and for tests. A 250 is explicitly not durable here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from gatepost.model import Blob, Bytes, Ticket
from gatepost.store.draft import Draft, MemoryDraft
from gatepost.store.queue import Done, QueueSpool, Work
from gatepost.store.rows import Correspondents, correspondents
from gatepost.store.spool import Deposit, Spool

_RECORDS_KEPT = 10_000


def memory_spool(clock: Callable[[], float]) -> Spool:
    """A new, empty spool in memory; `clock` gives Unix time in seconds."""
    return QueueSpool(_MemoryStorage(), clock)


class _MemoryStorage:
    """Deposits in a dict, by key. Work succeeds at once and as a whole."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Deposit, Blob]] = {}
        self._memos: dict[str, bytes] = {}
        self._records: deque[tuple[object, ...]] = deque(maxlen=_RECORDS_KEPT)

    def draft(self, ticket: Ticket) -> Draft:
        return MemoryDraft(ticket)

    async def place(self, id: str, content: Blob) -> Blob:
        return content if isinstance(content, Bytes) else Bytes(b"".join(content.chunks()))

    def displace(self, id: str) -> None:
        """Nothing was put anywhere."""

    def submit(self, work: Work, done: Done) -> None:
        for insert in work.inserts:
            self._rows[insert.key] = (insert.deposit, insert.content)
        for key in work.removals:
            self._rows.pop(key, None)
        self._records.extend(work.records)
        for memo, value in work.memos:
            if value is None:
                self._memos.pop(memo, None)
            else:
                self._memos[memo] = value
        done(None)

    async def load(self, keys: Sequence[int]) -> dict[int, tuple[Deposit, Blob]]:
        return {key: self._rows[key] for key in keys if key in self._rows}

    async def look(self, keys: Sequence[int]) -> dict[int, Correspondents]:
        return {key: correspondents(self._rows[key][0]) for key in keys if key in self._rows}

    async def records(self, limit: int) -> list[tuple[object, ...]]:
        return list(self._records)[-limit:] if limit else []

    async def memos(self, prefix: str) -> dict[str, bytes]:
        return {key: value for key, value in sorted(self._memos.items()) if key.startswith(prefix)}

    async def close(self) -> None:
        self._rows.clear()
