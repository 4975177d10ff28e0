"""What was received and isn't used up yet: lines and octets taken from the front, in bounded memory.

Strategy: one bytes object and an index. `receive` joins what is left with what is new; as the driver receives only when
the machine needs data, what is left is at most an unfinished line, and content goes through without being copied here.
"""

from __future__ import annotations


class Input:
    """Invariant: `_data[_at:]` is what was received and not taken. While a line is skipped, nothing is kept of it."""

    __slots__ = ("_at", "_data", "_skipping", "ended")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._skipping = False
        self.ended = False  # no more will come; what is here still counts

    def __len__(self) -> int:
        return len(self._data) - self._at

    def receive(self, data: bytes) -> None:
        """More octets; b"" is the end."""
        if not data:
            self.ended = True
        elif self._at == len(self._data):
            self._data, self._at = data, 0
        else:
            self._data, self._at = self._data[self._at :] + data, 0

    def line(self, limit: int) -> bytes | None:
        """The next line with its LF; None if more is needed.

        Of a line over `limit` octets the first `limit` + 1 are returned and the rest is dropped, now and as it arrives.
        """
        if self._skipping and not self._skip():
            return None
        data, at = self._data, self._at
        end = data.find(b"\n", at) + 1
        if not end:
            if len(data) - at <= limit:
                return None
            self._skipping = True
            self._skip()
            return data[at : at + limit + 1]
        if end == len(data):
            self._data, self._at = b"", 0
        else:
            self._at = end
        return data[at : end if end - at <= limit else at + limit + 1]

    def line_part(self, most: int) -> bytes:
        """The next line with its LF, or its first `most` octets if it is longer; b"" if more is needed."""
        end = self._data.find(b"\n", self._at, self._at + most) + 1
        if not end and len(self) < most:
            return b""
        return self.octets((end or self._at + most) - self._at)

    def everything(self) -> bytes:
        """All octets, b"" if there are none."""
        data = self._data[self._at :] if self._at else self._data
        self._data, self._at = b"", 0
        return data

    def octets(self, most: int) -> bytes:
        """Up to `most` octets, b"" if there are none."""
        if most >= len(self):
            return self.everything()
        data = self._data[self._at : self._at + most]
        self._at += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        """Octets taken too many, to the front again."""
        self._data, self._at = data + self._data[self._at :], 0

    def peek(self, most: int) -> bytes:
        """Up to `most` octets without taking them."""
        return self._data[self._at : self._at + most]

    def discard(self) -> int:
        """Drop everything; how many octets it was."""
        dropped = len(self)
        self._data, self._at = b"", 0
        return dropped

    def _skip(self) -> bool:
        """Drop up to the end of the line; whether the end was there."""
        end = self._data.find(b"\n", self._at) + 1
        if end:
            self._at = end
        else:
            self.discard()
        self._skipping = not end
        return not self._skipping
