"""Canonical forms of DKIM (RFC 6376 §3.4): what is hashed of a header field and of a body, for signing and verifying.

Strategy: a body goes by in chunks; only what may still turn out to be nothing (blanks at the end of a line, empty
lines at the end) is held back, as two counters and at most two octets. So time is linear whatever was written.
"""

from __future__ import annotations

import hashlib
from enum import Enum

_NEWLINES = b"\r\n" * 4096


class Canonical(Enum):
    """How much a relay may change before a signature is broken."""

    SIMPLE = "simple"
    """Nothing (rfc6376#3.4.1, #3.4.3)."""
    RELAXED = "relaxed"
    """Blanks, folds and the case of field names (rfc6376#3.4.2, #3.4.4)."""


def canonical_field(field: bytes, how: Canonical) -> bytes:
    """A whole header field with its line end, as it is hashed."""
    if how is Canonical.SIMPLE:
        return field
    name, _, value = field.partition(b":")
    return name.rstrip(b" \t").lower() + b":" + _one_blank(value.replace(b"\r\n", b"")).strip(b" ") + b"\r\n"


class BodyHash:
    """SHA-256 of a body's canonical form. Invariant: what is held back is `_newlines` CRLFs, then `_tail`.

    Without a line end at its end the body is taken as if it had one: so it is sent (rfc5321#4.1.1.4).
    """

    __slots__ = ("_hash", "_is_begun", "_last", "_newlines", "_relaxed", "_tail", "size")

    def __init__(self, how: Canonical) -> None:
        self._hash = hashlib.sha256()
        self._relaxed = how is Canonical.RELAXED
        self._newlines = 0
        self._tail = b""
        self._last = b"\r\n"
        self._is_begun = False
        self.size = 0
        """Octets hashed."""

    def feed(self, chunk: bytes) -> None:
        """The next octets of the body."""
        if chunk:
            self._last = (self._last + chunk)[-2:] if len(chunk) < 2 else chunk[-2:]
            self._take(chunk)

    def digest(self) -> bytes:
        """The hash; nothing may be fed afterwards."""
        if self._last != b"\r\n":
            self._take(b"\r\n")
        if self._is_begun or not self._relaxed:
            self._update(b"\r\n")  # rfc6376#3.4.3: simple has a line end even of no body, relaxed of some body only
        return self._hash.digest()

    def _take(self, chunk: bytes) -> None:
        data = self._tail + chunk
        if self._relaxed:
            data = _one_blank(data)
            if b" \r\n" in data:
                data = data.replace(b" \r\n", b"\r\n")
        stop = len(data)
        if data.endswith(b"\r"):
            stop -= 1
        if self._relaxed and data.endswith(b" ", 0, stop):
            stop -= 1
        self._tail = data[stop:]
        content = _without_newlines(data, stop)
        if content:
            while self._newlines:
                count = min(self._newlines, len(_NEWLINES) // 2)
                self._update(_NEWLINES[: 2 * count])
                self._newlines -= count
            self._update(data[:content])
            self._is_begun = True
        self._newlines += (stop - content) // 2

    def _update(self, octets: bytes) -> None:
        self._hash.update(octets)
        self.size += len(octets)


def _without_newlines(data: bytes, stop: int) -> int:
    """Where the CRLFs that end data[:stop] begin."""
    while data.endswith(_NEWLINES, 0, stop):
        stop -= len(_NEWLINES)
    while data.endswith(b"\r\n", 0, stop):
        stop -= 2
    return stop


def _one_blank(octets: bytes) -> bytes:
    """Every run of blanks and tabs as one blank."""
    if b"\t" in octets:
        octets = octets.replace(b"\t", b" ")
    if b" " * 16 in octets:
        octets = octets.replace(b" " * 16, b" ")
    while b"  " in octets:  # at least halves the longest run each time
        octets = octets.replace(b"  ", b" ")
    return octets
