"""What a child says besides its answers: its standard error, line by line, and its log frames, into the log.

A plugin may say anything, at any length, for ever (attack P5): lines are cut and made one safe line, only so many are
taken a second and the others counted, and a flood is read slowly, so that it stops its writer and nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from contextlib import suppress
from typing import cast

LONGEST = 1000  # characters of a line
BURST = 200  # lines at once
PER_SECOND = 20.0  # lines, in the long run
_PIECE = 1024 * 1024  # octets of standard error read before a pause
_PAUSE_S = 0.05
_CONFESS_S = 10.0  # between two lines about lines left out
_LAST_READS = 16  # of 64 KiB
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Voice(asyncio.Protocol):
    """Reads one child's standard error. Invariant: holds at most LONGEST octets of an unfinished line."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.ReadTransport | None = None
        self._line = bytearray()
        self._read = 0
        self._resuming: asyncio.TimerHandle | None = None
        self._allowed = float(BURST)
        self._since = self._loop.time()
        self._dropped = 0
        self._silent_until = 0.0
        self.last: deque[str] = deque(maxlen=5)
        """Its last lines, logged or not."""

    def say(self, level: str, text: str) -> None:
        """One line for the log."""
        now = self._loop.time()
        self._allowed = min(float(BURST), self._allowed + (now - self._since) * PER_SECOND)
        self._since = now
        if self._allowed < 1.0:
            self._dropped += 1
            return
        self._allowed -= 1.0
        if self._dropped and now >= self._silent_until:
            self._confess()
        self._log.log(_LEVELS[level], "%s", one_line(text))

    def finish_reading(self, descriptor: int) -> None:
        """The child has gone: hear what it still said."""
        if self._transport is None or self._transport.is_closing():
            return
        with suppress(OSError):
            for _ in range(_LAST_READS):
                if not (data := os.read(descriptor, 64 * 1024)):
                    break
                self.data_received(data)

    def close(self) -> None:
        """Read no more."""
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        if self._transport is not None:
            self._transport.close()
        if self._line:
            self._take(bytes(self._line))
            self._line.clear()
        self._confess()

    # ── what the loop calls ────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.ReadTransport, transport)  # uvloop's isn't registered as one

    def data_received(self, data: bytes) -> None:
        self._read += len(data)
        if self._read > _PIECE and self._resuming is None and self._transport is not None:
            self._transport.pause_reading()
            self._resuming = self._loop.call_later(_PAUSE_S, self._resume)
        *lines, rest = data.split(b"\n", BURST)
        for line in lines:
            self._take(bytes(self._line) + line[:LONGEST])
            self._line.clear()
        if b"\n" in rest:  # more lines at once than are ever taken
            self._dropped += rest.count(b"\n")
            rest = rest.rpartition(b"\n")[2]
        self._line += rest[: LONGEST - len(self._line)]

    def _take(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        self.last.append(text[:LONGEST])
        self.say("info", text)

    def _resume(self) -> None:
        self._resuming = None
        self._read = 0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _confess(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._silent_until = self._loop.time() + _CONFESS_S
            self._log.warning("%d lines of it were left out", dropped)


def one_line(text: str) -> str:
    """The text as one line of printable characters, cut."""
    text = text[:LONGEST]
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
