"""Bounded looks into a file that somebody else made: every read has an end, every name and every count a limit.

Strategy: nothing is mapped (a file cut short meanwhile would end the process); each piece is read where the headers say
it is, checked against the file's size first, and paid for out of one budget, so that headers which point at the same
octets again and again come to an end too.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_PIECE = 32 * 2**20
"""Octets that are read at once: a symbol or string table of the largest libraries fits."""
MAX_NAME = 4096
"""Octets of one name; C++ makes long ones."""
_BUDGET = 96 * 2**20
_NAME_COST = 64  # what a name takes beyond its letters


class NotALibrary(ValueError):
    """The file isn't a library that could be a plugin; the text says what is wrong with it."""


class Octets:
    """An open file. Invariant: what was read and what was kept stays within the budget."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self._descriptor = descriptor
        self._budget = _BUDGET

    def at(self, offset: int, size: int, what: str) -> bytes:
        """Exactly these octets; NotALibrary names `what` if the file doesn't have them."""
        if not (0 <= offset <= self.size and 0 <= size <= self.size - offset):
            raise NotALibrary(f"it is cut short or damaged: {what} would lie beyond its end")
        if size > MAX_PIECE:
            raise NotALibrary(f"{what} is larger than {MAX_PIECE} octets")
        self._pay(size)
        found = os.pread(self._descriptor, size, offset)
        if len(found) != size:
            raise NotALibrary(f"it is cut short or damaged: {what} couldn't be read whole")
        return found

    def fields(self, layout: struct.Struct, offset: int, what: str) -> tuple[Any, ...]:
        """One record."""
        return layout.unpack(self.at(offset, layout.size, what))

    def name(self, offset: int, what: str) -> str:
        """The text that ends with a NUL, from `offset` of the file."""
        if not 0 <= offset < self.size:
            raise NotALibrary(f"it is damaged: {what} would lie beyond its end")
        for length in (128, MAX_NAME + 1):
            piece = self.at(offset, min(length, self.size - offset), what)
            if (end := piece.find(b"\0")) >= 0:
                return self.kept(piece[:end])
        raise NotALibrary(f"it is damaged: {what} has no end")

    def name_in(self, table: bytes, offset: int, what: str) -> str:
        """The text that ends with a NUL within a table of them."""
        end = table.find(b"\0", offset, offset + MAX_NAME + 1) if 0 <= offset < len(table) else -1
        if end < 0:
            raise NotALibrary(f"it is damaged: {what} isn't in its table of names")
        return self.kept(table[offset:end])

    def kept(self, name: bytes) -> str:
        """The octets as text that is safe to show; paid for, since somebody keeps it."""
        self._pay(len(name) + _NAME_COST)
        text = name.decode("utf-8", "replace")
        return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)

    def _pay(self, octets: int) -> None:
        self._budget -= octets
        if self._budget < 0:
            raise NotALibrary("its headers name more than a library could hold")


@contextmanager
def opened(path: Path) -> Iterator[Octets]:
    """The file, read only and closed afterwards. NotALibrary where it can't be had or is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        words = (getattr(error, "strerror", None) or str(error)).lower()
        raise NotALibrary(f"it can't be read: {words}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotALibrary("it is a folder" if stat.S_ISDIR(status.st_mode) else "it isn't a regular file")
        yield Octets(descriptor, status.st_size)
    except OSError as error:
        raise NotALibrary(f"it can't be read: {(error.strerror or str(error)).lower()}") from error
    finally:
        os.close(descriptor)
