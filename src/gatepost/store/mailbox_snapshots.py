"""The latest snapshots of large mailboxes, kept for the next session as long as their folders haven't changed.

A client comes every few minutes, and in most mailboxes nothing has changed meanwhile; reading ten thousand names again
costs forty times what two looks at the folders cost. Bounded by the messages of all snapshots together; the oldest go.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path as File
from threading import Lock
from typing import NamedTuple

from gatepost.store.mailbox_cache import CACHE_NAME
from gatepost.store.mailbox_scan import FOLDERS
from gatepost.store.mailboxes import Entry

_WATCHED = (*FOLDERS, CACHE_NAME)
_MESSAGES = 50_000  # about 15 MB
_LEAST = 100  # messages; fewer are read again as quickly
_SETTLED_NS = 2_000_000_000  # a folder that changed later than that may change again without another time

Stamp = tuple[tuple[int, int, int], ...]
"""Device, inode and time of change (ns) of what a snapshot depends on; zeros for what isn't there."""


class _Kept(NamedTuple):
    stamp: Stamp
    entries: Sequence[Entry]


class Snapshots:
    """Snapshots by mailbox, for any thread. Invariant: what is given out is what the folders hold at that moment."""

    def __init__(self, *, messages: int = _MESSAGES, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._limit = messages
        self._now_ns = now_ns
        self._lock = Lock()
        self._kept: dict[File, _Kept] = {}
        self._messages = 0

    def stamp(self, mailbox: File) -> Stamp:
        """How things are now: to be taken before they are read. Raises OSError."""
        found = []
        for name in _WATCHED:
            facts = None
            with suppress(FileNotFoundError):
                facts = os.lstat(mailbox / name)
            found.append((0, 0, 0) if facts is None else (facts.st_dev, facts.st_ino, facts.st_mtime_ns))
        return tuple(found)

    def find(self, mailbox: File, stamp: Stamp) -> Sequence[Entry] | None:
        """The snapshot that was kept under this stamp."""
        kept = self._kept.get(mailbox)
        return kept.entries if kept is not None and kept.stamp == stamp else None

    def keep(self, mailbox: File, stamp: Stamp, entries: Sequence[Entry]) -> None:
        """Remember a snapshot taken after its folders' stamp, if it can be told when it is old, and is worth it.

        What is known of sizes is written by whoever has the mailbox, so its file is stamped anew. Raises OSError.
        """
        stamp = (*stamp[: len(FOLDERS)], *self.stamp(mailbox)[len(FOLDERS) :])
        with self._lock:
            self._forget(mailbox)
            settled = self._now_ns() - _SETTLED_NS
            folders = stamp[: len(FOLDERS)]
            if not _LEAST <= len(entries) <= self._limit or any(changed > settled for _, _, changed in folders):
                return
            self._kept[mailbox] = _Kept(stamp, entries)
            self._messages += len(entries)
            while self._messages > self._limit:
                self._forget(next(iter(self._kept)))

    def forget(self, mailbox: File) -> None:
        """Something else is known of a mailbox now."""
        with self._lock:
            self._forget(mailbox)

    def _forget(self, mailbox: File) -> None:
        kept = self._kept.pop(mailbox, None)
        if kept is not None:
            self._messages -= len(kept.entries)
