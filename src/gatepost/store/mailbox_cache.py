"""What was found out about messages whose names don't say it, kept in a small file in the Maildir.

One file, written anew and renamed, with a digest over its content: a file that is torn, old or somebody else's is
nothing, and everything is found out again. It is used only under the mailbox's lock.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path as File
from typing import NamedTuple

import msgspec

from gatepost.store.files import FileSystem
from gatepost.store.mailbox_scan import open_at

CACHE_NAME = "gatepost.sizes"
_MAGIC = b"gatepost sizes 1\n"
_DIGEST = 16
_LIMIT = 256 * 1024 * 1024  # octets of a file that is read at all
_STALE = 1000  # messages that are gone and may stay in the file


class Fact(NamedTuple):
    """What is known of one base name: octets as sent, and when it was delivered (µs, Unix time)."""

    size: int
    when: int


class _Kept(msgspec.Struct, array_like=True):
    facts: dict[bytes, Fact]
    doubles: set[str]


class Cache:
    """Facts by base name, and the unique ids that more than one file had.

    Invariant: a fact comes from the file itself, never from its name. `save` may fail; then it is found out again.
    """

    def __init__(self, mailbox: File, files: FileSystem) -> None:
        self._path = mailbox / CACHE_NAME
        self._files = files
        self.facts: dict[bytes, Fact] = {}
        self.doubles: set[str] = set()
        self.is_new = False
        self._load()

    def learn(self, base: bytes, fact: Fact) -> None:
        """A fact, until the message is gone."""
        self.facts[base] = fact
        self.is_new = True

    def learn_double(self, uid: str) -> None:
        """Two files have had this unique id at the same time."""
        if uid not in self.doubles:
            self.doubles.add(uid)
            self.is_new = True

    def forget_others(self, bases: set[bytes], uids: set[str]) -> None:
        """Drop what concerns no message any more, when it is worth writing the file anew."""
        if self.is_new or len(self.facts) > len(bases) + _STALE:
            self.facts = {base: fact for base, fact in self.facts.items() if base in bases}
            self.doubles &= uids
            self.is_new = True

    def save(self) -> None:
        """Write what is new, synced. Raises OSError; the file is then what it was."""
        if not self.is_new:
            return
        body = msgspec.msgpack.encode(_Kept(self.facts, self.doubles))
        fresh = self._path.with_name(CACHE_NAME + ".new")
        self._files.unlink(fresh)  # of a process that died
        file = self._files.create(fresh)
        try:
            try:
                file.write(_MAGIC + _digest(body) + body)
                file.sync()
            finally:
                file.close()
            self._files.rename(fresh, self._path)
        except OSError:
            with suppress(OSError):
                self._files.unlink(fresh)
            raise
        self.is_new = False

    def _load(self) -> None:
        with suppress(OSError, msgspec.DecodeError):  # ValidationError is one
            data = _read(self._path)
            body = data[len(_MAGIC) + _DIGEST :]
            if data.startswith(_MAGIC + _digest(body)):
                kept = msgspec.msgpack.decode(body, type=_Kept)
                self.facts, self.doubles = kept.facts, kept.doubles


def _read(path: File) -> bytes:
    with os.fdopen(open_at(None, path), "rb") as file:
        return file.read(_LIMIT)


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=_DIGEST).digest()
