"""Sessions counted by all workers together, in shared memory.

Strategy: each worker writes a row of its own and reads everybody's, so nobody waits for anybody. A row is the worker's
sessions in all, then two tables of cells for peers, under two keyed hashes. A peer's sessions are at most the smaller
of its two cells' sums: two peers are taken for one only if they collide twice, and nobody without the key can arrange
that. When a worker dies, whoever restarts it clears its row. Two workers that count at the same moment may let one
session too many in, and no more than one each.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from hashlib import blake2b

from gatepost.model import Address
from gatepost.serving.limits import Admission, SessionCounter, SessionLimits, peer_key

_KEY = 16  # octets at the beginning
_CELL = 4
_CELLS = 1 << 16  # of each of the two tables; pages that nobody has written take no memory
_ROW = 1 + 2 * _CELLS  # the first cell is the sum


class Counts:
    """The shared table: a key, and a row of cells for each worker. Every cell has one writer."""

    def __init__(self, descriptor: int, workers: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, _size(workers))
        self._whole = memoryview(self._map)
        cells = self._whole[_KEY:].cast("I")
        self.key = bytes(self._whole[:_KEY])
        self.rows = [cells[at * _ROW : (at + 1) * _ROW] for at in range(workers)]
        self._cells = cells

    @classmethod
    def make(cls, workers: int) -> Counts:
        """A new table, all zeroes, in memory that has no name."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("gatepost-sessions")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.truncate(descriptor, _size(workers))
        os.pwrite(descriptor, os.urandom(_KEY), 0)
        return cls(descriptor, workers)

    def clear(self, worker: int) -> None:
        """Forget a worker's sessions: it has died."""
        self.rows[worker][:] = memoryview(bytes(_ROW * _CELL)).cast("I")

    def close(self) -> None:
        """Let go of the memory; it is gone with the last worker."""
        for view in (*self.rows, self._cells, self._whole):
            view.release()
        self._map.close()
        os.close(self.descriptor)


class SharedCounter(SessionCounter):
    """One worker's view: counts in its own row, limits by the sum of all."""

    def __init__(self, limits: SessionLimits, counts: Counts, worker: int) -> None:
        super().__init__(limits)
        self._rows = counts.rows
        self._own = counts.rows[worker]
        self._key = counts.key

    def enter(self, peer: Address) -> Admission:
        """Count one session more from this peer, if there is room in all workers together."""
        limits, rows = self.limits, self._rows
        if limits.in_all and sum([row[0] for row in rows]) >= limits.in_all:
            return Admission.FULL
        first, second = self._cells(peer)
        if limits.per_peer:
            known = min(sum([row[first] for row in rows]), sum([row[second] for row in rows]))
            if known >= limits.per_peer:
                return Admission.PEER_FULL
        own = self._own
        self.in_all += 1
        own[0] += 1
        own[first] += 1
        own[second] += 1
        return Admission.GRANTED

    def leave(self, peer: Address) -> None:
        """One session fewer."""
        first, second = self._cells(peer)
        own = self._own
        self.in_all -= 1
        own[0] -= 1
        own[first] -= 1
        own[second] -= 1

    def _cells(self, peer: Address) -> tuple[int, int]:
        digest = blake2b(peer_key(peer).encode(), digest_size=4, key=self._key).digest()
        first, second = int.from_bytes(digest[:2]), int.from_bytes(digest[2:])
        return 1 + first % _CELLS, 1 + _CELLS + second % _CELLS


def _size(workers: int) -> int:
    return _KEY + workers * _ROW * _CELL
