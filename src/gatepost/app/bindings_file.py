"""A small text that is kept in the data folder: read whole, written whole, by one command at a time.

Written so that a crash leaves the old text or the new one: a temporary file, synced, renamed, its folder synced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatepost.store.files import FileSystem


class Busy(RuntimeError):
    """Another command is changing it."""


class KeptText:
    """The text `name` of a folder. `files`: the file system's port."""

    def __init__(self, folder: Path, name: str, files: FileSystem) -> None:
        self.path = folder / name
        self._files = files

    def read(self) -> str | None:
        """The text; None if there is none. OSError, or UnicodeDecodeError for what isn't UTF-8."""
        if not self._files.exists(self.path):
            return None
        with self._files.open(self.path) as file:
            return file.read().decode("utf-8-sig").replace("\r\n", "\n")

    def write(self, text: str | None) -> None:
        """Durable when it returns; None: there is none any more. OSError: what was there is there still."""
        folder = self.path.parent
        if text is None:
            self._files.unlink(self.path)
            self._files.sync_dir(folder)
            return
        self._files.make_dir(folder)
        partial = self.path.with_name(self.path.name + ".partial")
        self._files.unlink(partial)
        file = self._files.create(partial)
        try:
            file.write(text.encode())
            file.sync()
        finally:
            file.close()
        self._files.rename(partial, self.path)
        self._files.sync_dir(folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else changes it meanwhile. Busy if somebody does."""
        self._files.make_dir(self.path.parent)
        lock = self._files.lock(self.path.with_name(self.path.name + ".lock"))
        if lock is None:
            raise Busy(f"another command is changing {self.path}")
        try:
            yield
        finally:
            lock.release()
