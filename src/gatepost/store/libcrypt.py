"""crypt(3) of the system, libxcrypt on most Linuxes: SHA-crypt and yescrypt as every other program computes them.

Bound by its one function, which is the same everywhere (docs/decisions/0007). It is given memory of its own at each
call, so threads don't disturb one another, and the interpreter is free meanwhile.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache

_NAMES = ("libcrypt.so.1", "libcrypt.so.2", None)  # None: the program's own libraries; musl has it in its libc
_MEMORY = 256 * 1024  # octets; libxcrypt works in 32 KiB, glibc's own of old in 129 KiB


class Libcrypt:
    """One loaded library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._crypt = library.crypt_r
        self._crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        self._crypt.restype = ctypes.c_char_p

    def crypt(self, password: bytes, setting: bytes) -> bytes | None:
        """The hash of a password by the scheme, cost and salt that `setting` begins with; None if there is none.

        A NUL ends what C takes for the text: who calls looks for it.
        """
        made: bytes | None = self._crypt(password, setting, ctypes.create_string_buffer(_MEMORY))
        return None if made is None or made.startswith(b"*") else made

    def knows(self, setting: str) -> bool:
        """Whether the library has the scheme of this setting; computes a hash to find out."""
        return self.crypt(b"", setting.encode("ascii", "replace")) is not None


@lru_cache(maxsize=1)
def libcrypt() -> Libcrypt | None:
    """The system's library; None where it has none."""
    for name in _NAMES:
        try:
            return Libcrypt(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
    return None
