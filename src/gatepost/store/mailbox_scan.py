"""Looking into a Maildir: the names of messages, without following anything that leads out of it.

`new` is read before `cur`, so that a message which a reader moves meanwhile is seen once or twice, but not never.
POSIX only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path as File

FOLDERS = ("new", "cur")
_ATTEMPTS = 3
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO would keep its opener waiting
Tell = Callable[[str], None]


def scan(mailbox: File, tell: Tell) -> dict[str, list[str]]:
    """The names of the files in `new` and in `cur`; none in a folder that isn't there. Raises OSError.

    Other things than files are no messages; `tell` hears of them. A name with a dot in front is none either.
    """
    return {folder: scan_folder(mailbox / folder, tell) for folder in FOLDERS}


def scan_folder(folder: File, tell: Tell) -> list[str]:
    """The names of the files in one folder, read again if they changed meanwhile. Raises OSError."""
    try:
        descriptor = os.open(folder, _FOLDER)
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        if error.errno != errno.ENOENT:
            tell(f"{folder.name} is no folder, and not looked into")
        return []
    try:
        for _ in range(_ATTEMPTS):
            before = os.fstat(descriptor).st_mtime_ns
            names, others = _names(descriptor)
            if os.fstat(descriptor).st_mtime_ns == before:
                break
    finally:
        os.close(descriptor)
    if others:
        tell(f"{others} in {folder.name} aren't files, and not shown")
    return names


def _names(descriptor: int) -> tuple[list[str], int]:
    names = []
    others = 0
    with os.scandir(descriptor) as found:
        for one in found:
            name = one.name
            if name[0] == ".":
                continue
            is_file = False
            with suppress(OSError):
                is_file = one.is_file(follow_symlinks=False)
            if is_file:
                names.append(name)
            else:
                others += 1
    return names, others


@contextmanager
def folder_opened(folder: File) -> Iterator[int]:
    """A folder's descriptor for `open_at`. Raises OSError."""
    descriptor = os.open(folder, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_at(folder: int | None, name: str | File) -> int:
    """A file opened for reading. Raises OSError, also where there is something else of that name."""
    descriptor = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is no file")
    return descriptor
