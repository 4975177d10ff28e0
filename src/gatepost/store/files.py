"""The file system as a port: every write, sync and rename of the store goes through it.

It is handed in, so that the crash suite can record each step, drop what wasn't synced at every prefix and inject
errors. Every write is whole or an OSError; nothing here is durable until it was synced, a name not until its folder
was.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path as File
from typing import BinaryIO, Protocol

_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700


class Lock(Protocol):
    """An operating system's lock on a file; gone with the process that holds it."""

    def release(self) -> None: ...


class WritableFile(Protocol):
    """A file being written, from its creation or its end on."""

    def write(self, data: bytes) -> None:
        """All of `data`, or OSError."""

    def sync(self) -> None:
        """Everything written is durable when it returns."""

    def close(self) -> None: ...


class FileSystem(Protocol):
    """What the store asks of a file system. All methods may block and raise OSError."""

    def create(self, path: File) -> WritableFile:
        """A new file, readable by its owner only; FileExistsError if there is one."""

    def append(self, path: File) -> WritableFile:
        """An existing or new file, written at its end."""

    def open(self, path: File) -> BinaryIO: ...

    def sync_file(self, path: File) -> None: ...

    def sync_dir(self, path: File) -> None:
        """The names in a folder are durable when it returns."""

    def rename(self, source: File, target: File) -> None: ...

    def link(self, source: File, target: File) -> None: ...

    def unlink(self, path: File) -> None:
        """Remove a name; that there is none is no error."""

    def make_dir(self, path: File) -> None:
        """A folder with its parents, durably; that there is one is no error."""

    def exists(self, path: File) -> bool: ...

    def size(self, path: File) -> int: ...

    def list_dir(self, path: File) -> list[str]:
        """The names in a folder, sorted; none if there is no such folder."""

    def free_space(self, path: File) -> int:
        """Octets an unprivileged process may still write."""

    def lock(self, path: File) -> Lock | None:
        """The exclusive lock of a file, made if need be; None if another holds it."""


class RealFiles:
    """The operating system's files."""

    def create(self, path: File) -> WritableFile:
        return _Descriptor(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE))

    def append(self, path: File) -> WritableFile:
        return _Descriptor(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _PRIVATE_FILE))

    def open(self, path: File) -> BinaryIO:
        return path.open("rb")

    def sync_file(self, path: File) -> None:
        _sync(path, os.O_RDWR)

    def sync_dir(self, path: File) -> None:
        _sync(path, os.O_RDONLY)

    def rename(self, source: File, target: File) -> None:
        source.replace(target)

    def link(self, source: File, target: File) -> None:
        os.link(source, target)

    def unlink(self, path: File) -> None:
        path.unlink(missing_ok=True)

    def make_dir(self, path: File) -> None:
        if path.is_dir():
            return
        if path.parent != path:
            self.make_dir(path.parent)
        with suppress(FileExistsError):
            path.mkdir(_PRIVATE_FOLDER)
        self.sync_dir(path.parent)

    def exists(self, path: File) -> bool:
        return path.exists()

    def size(self, path: File) -> int:
        return path.stat().st_size

    def list_dir(self, path: File) -> list[str]:
        try:
            return sorted(entry.name for entry in path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def free_space(self, path: File) -> int:
        facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize

    def lock(self, path: File) -> Lock | None:
        import fcntl  # noqa: PLC0415  POSIX only; the spool in memory has no files and runs everywhere

        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        return _Held(descriptor)


class _Descriptor:
    """A file descriptor open for writing; closed once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]  # the kernel may take less, most of all before ENOSPC

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Held:
    """A held flock; released once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _sync(path: File, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
