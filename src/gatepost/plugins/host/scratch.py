"""Files that content travels in between the house and a child, since it never travels in frames.

Each life of a child has a folder of its own, gone with it. A question's content is the file named by the question's id,
a private copy: in memory (a file system there) if it is small, in the folder if it is large. What the child hands back
it writes into the folder as `ID.something`, and names it in its answer; the house takes it away before it believes it.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from errno import ENOSPC
from io import FileIO
from pathlib import Path as File
from typing import Any, NamedTuple, TypeGuard, TypeVar

from gatepost.hooks.records import RecordError
from gatepost.model import Blob, Bytes
from gatepost.plugins.host.keeping import OwnFile
from gatepost.plugins.host.launching import DIRECTLY, Starter

SMALL = 64 * 1024
"""Octets up to which content is written in the loop, and an answer's octets stay in its frame."""
_PREFIX = "gatepost-scratch-"  # of these folders alone: what has it is removed one day
_YOUNG_S = 60.0
T = TypeVar("T")
LARGEST = 1024 * 1024 * 1024  # octets handed back in one file
_NOT_PLAIN = "the message's file isn't a plain file any more, or it is too large"


class Print(NamedTuple):
    """What a file looks like from outside: another one, once it was written to or put in its place."""

    inode: int
    size: int
    changed_ns: int


def take_print(file: str | int) -> Print:
    """The print of the file, by path or descriptor. Its time is set back to a whole second, so that no clock is too
    coarse to show a change."""
    when = int(time.time()) - 2
    if isinstance(file, int):
        os.utime(file, (when, when))
        return _print(os.fstat(file))
    os.utime(file, (when, when), follow_symlinks=False)
    return _print(os.lstat(file))


async def rewritten(path: str, print_: Print, before: Blob | None, make: Callable[[], File]) -> Blob | None:
    """The content of a file that a child was free to write, if it has; moved out of its reach, and if it is large to
    the file that `make` names. `before`: what it was, where a change may not be seen from outside.

    RecordError if there is no plain file any more, or one too large.
    """
    try:
        found = os.lstat(path)
        looks_the_same = _print(found) == print_
        if looks_the_same and before is None:
            return None
        file = _opened(path, found)
    except OSError as error:
        raise RecordError(f"the message's file can't be read back: {error.strerror}") from error
    return await _read_back(file, before if looks_the_same else None, make)


async def take_beside(content: str | None, id: int, name: object, make: Callable[[], File]) -> Blob:
    """What the child wrote beside the file `content` of question `id` and called `name`; moved as `rewritten` does it.

    RecordError if that can't be.
    """
    if content is None or not _is_name(name, id):
        raise RecordError(f"no name of a file: {str(name)[:80]!r}")
    path = f"{content.rpartition('/')[0]}/{name}"
    try:
        blob = await _read_back(_opened(path, os.lstat(path)), None, make)
        os.unlink(path)  # noqa: PTH108  half the time of Path.unlink
    except (OSError, ValueError) as error:
        raise RecordError(f"{str(name)[:80]!r} can't be had: {error}") from error
    assert blob is not None
    return blob


def _opened(path: str, found: os.stat_result) -> FileIO:
    if not _is_plain(found):  # nor opened, then
        raise RecordError(_NOT_PLAIN)
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", 0)


async def _read_back(file: FileIO, before: Blob | None, make: Callable[[], File]) -> Blob | None:
    """What is in the file; None if that is `before`."""
    if os.fstat(file.fileno()).st_size <= SMALL:
        with file:
            octets = file.read(SMALL)
        return None if before is not None and octets == before.read() else Bytes(octets)
    return await asyncio.get_running_loop().run_in_executor(None, _copied, file, before, make())


def _print(found: os.stat_result) -> Print:
    return Print(found.st_ino, found.st_size, found.st_mtime_ns)


def _is_name(name: object, id: int) -> TypeGuard[str]:
    """Whether it names a file that may be handed back with the answer to question `id`."""
    return isinstance(name, str) and name.startswith(f"{id}.") and "/" not in name and "\0" not in name


def _is_plain(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size <= LARGEST


def _copied(file: FileIO, before: Blob | None, to: File) -> Blob | None:
    """What is in the file, at `to`; None if that is `before`."""
    with file:
        if not _is_plain(os.fstat(file.fileno())):
            raise RecordError(_NOT_PLAIN)
        if before is not None and all(file.read(len(chunk)) == chunk for chunk in before.chunks()):
            return None
        file.seek(0)
        size = 0
        try:
            with to.open("xb") as copy:
                while piece := file.read(256 * 1024):
                    size += copy.write(piece)
                    if size > LARGEST:
                        raise RecordError(_NOT_PLAIN)
        except BaseException:
            _discard(to)
            raise
    return OwnFile(to, size)


def _shows_changes(folder: File) -> bool:
    """Whether a file's time tells every change there. In memory (Linux' tmpfs) those made by a map don't show."""
    path = folder / "probe"
    try:
        with path.open("xb+") as file:
            file.write(b"before")
            file.flush()
            print_ = take_print(file.fileno())
            with mmap.mmap(file.fileno(), 6) as map_:
                if map_[:] == b"before":  # what was read first, isn't noticed when it is written
                    map_[:] = b"after "
            return _print(os.fstat(file.fileno())) != print_
    except (OSError, ValueError):
        return False
    finally:
        path.unlink(missing_ok=True)


class Scratch:
    """The folder of one life. Invariant: after `remove` nothing of it is left."""

    def __init__(self, folder: File | None, quick: File | None = None, starter: Starter = DIRECTLY) -> None:
        """`folder` is where it is made, the system's place for such things without one; `quick` is in memory. Those
        whom `starter` starts can use it."""
        self._locks: list[int] = []
        self._starter = starter
        self._mode = None if starter.group is None else 0o660
        self.folder = self._make(folder)
        self._quick = self.folder
        if quick is not None:
            with suppress(OSError):  # not every system has one
                self._quick = self._make(quick)
        self._hiding = tuple(f"{each}/" for each in {self.folder, self._quick} if not _shows_changes(each))

    def write_small(self, id: int, content: Blob, suffix: str = "") -> str:
        """The question's content as a file. OSError."""
        return self._written(f"{id}{suffix}", content, _no_print)[0]

    def write_printed(self, id: int, content: Blob, suffix: str = "") -> tuple[str, Print]:
        """The same, and what the file looks like: for a plugin that may write into it. OSError."""
        return self._written(f"{id}{suffix}", content, take_print)

    def _written(self, name: str, content: Blob, look: Callable[[int], T]) -> tuple[str, T]:
        path = f"{self._quick}/{name}"
        try:
            return path, _write_at_once(path, content, self._mode, look)
        except OSError:  # the memory set aside is full
            path = f"{self.folder}/{name}"
            return path, _write_at_once(path, content, self._mode, look)

    async def write(self, id: int, content: Blob, suffix: str = "") -> str:
        """The same, for content of any size."""
        path = self.folder / f"{id}{suffix}"
        await asyncio.get_running_loop().run_in_executor(None, write, path, content, self._mode)
        return str(path)

    def hides(self, path: str) -> bool:
        """Whether a file of this folder may have been changed though it looks as it did."""
        return path.startswith(self._hiding)

    def is_usable(self) -> bool:
        """Whether files can still be made: a child may have removed the folder, or closed it."""
        return os.access(self.folder, os.W_OK | os.X_OK)

    async def take(self, id: int, name: object, to: File) -> Blob:
        """What the child wrote for question `id` and called `name`, moved to `to`. RecordError if that can't be."""
        if not _is_name(name, id):
            raise RecordError(f"no name of a file: {str(name)[:80]!r}")
        try:
            _check_plain(name, os.lstat(self.folder / name))
            os.replace(self.folder / name, to)  # noqa: PTH105  one system call, within one file system
            found = os.lstat(to)  # what lies where the child can't put another in its place
        except (OSError, ValueError) as error:
            raise RecordError(f"{name[:80]!r} can't be had: {error}") from error
        try:
            _check_plain(name, found)
            if self._mode is not None and not os.access(to, os.R_OK):
                raise RecordError(f"{name[:80]!r} isn't readable for its group")
        except RecordError:
            _discard(to)
            raise
        return OwnFile(to, found.st_size)

    def forget(self, file: str | None, edits: Iterable[Mapping[str, Any]] = ()) -> None:
        """The question is over: its content may go, and what its answer handed back."""
        paths = [f"{self.folder}/{name}" for name in handed_back(edits) if "/" not in name] if edits else []
        for path in [*paths, file] if file is not None else paths:
            with suppress(OSError, ValueError):
                os.unlink(path)  # noqa: PTH108  half the time of Path.unlink

    def forsake(self) -> None:
        """Remove it while it is empty still."""
        for folder in {self.folder, self._quick}:
            folder.rmdir()
        self._unlock()

    async def remove(self) -> None:
        """All of it, whatever a child has left there."""
        for folder in {self.folder, self._quick}:
            await asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, folder, True)
            await self._starter.remove(folder)
        self._unlock()

    def _make(self, where: File | None) -> File:
        """A folder nobody else may enter, locked for as long as this process lives."""
        folder = File(tempfile.mkdtemp(prefix=_PREFIX, dir=where))
        lock = os.open(folder, os.O_RDONLY)
        self._locks.append(lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if self._starter.group is not None:
            share(str(folder), self._starter.group)
        return folder

    def _unlock(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


def sweep(where: File | None) -> None:
    """Remove what houses left there that were killed: folders of ours that nobody has locked. Young ones are let be,
    since theirs may be about to."""
    oldest = time.time() - _YOUNG_S
    for folder in File(where or tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.getuid() or found.st_mtime > oldest or not stat.S_ISDIR(found.st_mode):
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _check_plain(name: str, found: os.stat_result) -> None:
    if not _is_plain(found):
        raise RecordError(f"{name[:80]!r} isn't a plain file, or it is too large")


def _discard(path: File) -> None:
    try:
        path.unlink()
    except OSError:  # a folder
        shutil.rmtree(path, ignore_errors=True)


def share(folder: str, group: int) -> None:
    """Let the group in, and into what will be made there; we belong to it, or are root. OSError."""
    os.chown(folder, -1, group)
    os.chmod(folder, 0o2770)  # noqa: PTH101, S103  half the time of Path.chmod


def _no_print(_: int) -> None:
    return None


def _write_at_once(path: str, content: Blob, mode: int | None, look: Callable[[int], T]) -> T:
    """The octets in a new file, without the layers that small content would mostly pay for; what `look` makes of it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        octets = content.read()
        if os.write(descriptor, octets) != len(octets):
            raise OSError(ENOSPC, "the file system is full", path)
        if mode is not None:
            os.fchmod(descriptor, mode)
        return look(descriptor)
    except OSError:
        os.unlink(path)  # noqa: PTH108  as above
        raise
    finally:
        os.close(descriptor)


def write(path: File, content: Blob, mode: int | None = None) -> None:
    """The content as a new file; its mode as the umask says, if it isn't said here. OSError: nothing is left then."""
    with path.open("xb") as file:
        try:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            for chunk in content.chunks():
                file.write(chunk)
            file.flush()
        except OSError:
            _discard(path)
            raise


def handed_back(edits: Iterable[Mapping[str, Any]]) -> list[str]:
    """The files that an answer's edits name."""
    names: list[str] = []
    for edit in edits:
        inner = edit.get("edits", ())  # a split holds edits, and those hold none
        for one in [edit, *(inner if isinstance(inner, list) else ())]:
            if isinstance(one, dict) and isinstance(name := one.get("file"), str):
                names.append(name)
    return names


__all__ = [
    "SMALL",
    "Print",
    "Scratch",
    "handed_back",
    "rewritten",
    "share",
    "sweep",
    "take_beside",
    "take_print",
    "write",
]
