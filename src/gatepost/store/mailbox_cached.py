"""Reading what the system has in memory already, and never waiting for a disk: what may be done in the event loop.

A message that was delivered a while ago is in the system's memory. Fetching it in a thread costs three times what
sending it does, so it is read at once where that can't wait: openat2 looks the name up in memory only (RESOLVE_CACHED,
Linux 5.12), preadv2 takes only pages that are there (RWF_NOWAIT). Where either says that it would wait, where the
system has neither, and on file systems that ask another machine or process, the answer is None, and a thread does it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from typing import Self

from gatepost.model.blob import CHUNK

_OPENAT2 = 437  # the same on every architecture
_HERE = -100  # AT_FDCWD
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_SYMLINKS, _CACHED = 0x04, 0x20  # RESOLVE_*, openat2(2)
_LOCAL = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994, 0x794C7630})
"""ext2 to ext4, XFS, btrfs, F2FS, tmpfs, overlayfs: statfs(2)."""
_STATFS = 256  # octets; the structure has 120 or so
_NEVER = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG})  # an old system, or one that forbids it


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Cached:
    """Opens and reads what is in memory. Of one loop: the buffer is shared by all its messages."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._syscall = library.syscall
        self._syscall.argtypes = (
            ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_How), ctypes.c_size_t
        )  # fmt: skip
        self._syscall.restype = ctypes.c_long
        self._statfs = library.statfs
        self._statfs.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        self._how = _How(_FLAGS, 0, _NO_SYMLINKS | _CACHED)
        self._into = memoryview(bytearray(CHUNK))
        self.is_able = True
        """Whether the system lets us; known after the first try."""

    @classmethod
    def of_system(cls) -> Self | None:
        """None where the system has no such thing."""
        if sys.platform != "linux" or not hasattr(os, "RWF_NOWAIT"):
            return None
        try:
            return cls(ctypes.CDLL(None, use_errno=True))
        except (OSError, AttributeError):
            return None

    def is_local(self, folder: bytes) -> bool:
        """Whether a folder's file system asks nobody else to open a file. It may wait: not for the loop."""
        said = ctypes.create_string_buffer(_STATFS)
        if self._statfs(folder, said):
            return False
        return ctypes.c_ulong.from_buffer(said).value in _LOCAL

    def open(self, path: bytes) -> tuple[int, int] | None:
        """A regular file's descriptor and octets, where the whole path is in memory and none of it is a link."""
        if not self.is_able:
            return None
        descriptor: int = self._syscall(_OPENAT2, _HERE, path, self._how, ctypes.sizeof(_How))
        if descriptor < 0:
            self.is_able = ctypes.get_errno() not in _NEVER
            return None
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode):
            return descriptor, facts.st_size
        os.close(descriptor)
        return None

    def read(self, descriptor: int, offset: int, most: int) -> bytes | None:
        """At most so many octets, and at most CHUNK; b"" at the end. None if they aren't in memory."""
        into = self._into[:most]
        try:
            octets = os.preadv(descriptor, (into,), offset, os.RWF_NOWAIT)
        except OSError:  # EAGAIN, or a file system that can't say; a disk's errors come again to who waits
            return None
        return bytes(into[:octets])
