"""Values of properties to octets and back (`states.Bag` says how they are kept)."""

from __future__ import annotations

from gatepost.plugins.sink.states import Bag

_NUL = b"\0"
_WIDE_NUL = b"\0\0"


def dword(value: int) -> bytes:
    """A DWORD. ValueError for what doesn't fit into 32 bits without a sign."""
    if not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{value} is no DWORD")
    return value.to_bytes(4, "little")


def boolean(value: object) -> bytes:
    """A BOOL."""
    return dword(1 if value else 0)


def string(text: str) -> bytes:
    """A StringA, in UTF-8; what follows a NUL is cut."""
    return text.partition("\0")[0].encode("utf-8", "surrogateescape") + _NUL


def wide(text: str) -> bytes:
    """A StringW; what follows a NUL is cut."""
    return text.partition("\0")[0].encode("utf-16-le", "surrogatepass") + _WIDE_NUL


def read_dword(value: bytes) -> int:
    """The number. ValueError if it isn't 4 octets."""
    if len(value) != 4:
        raise ValueError(f"a DWORD has 4 octets, not {len(value)}")
    return int.from_bytes(value, "little")


def read_string(value: bytes) -> str:
    """The text before the NUL."""
    return value.partition(_NUL)[0].decode("utf-8", "surrogateescape")


def read_wide(value: bytes) -> str:
    """The text before the NUL. ValueError if it isn't UTF-16."""
    if len(value) % 2:
        raise ValueError("a StringW has an even number of octets")
    return value.decode("utf-16-le", "surrogatepass").partition("\0")[0]


def dword_in(bag: Bag, key: int, missing: int = 0) -> int:
    """The number in a bag; `missing` where there is none, or something else."""
    value = bag.get(key, b"")
    return int.from_bytes(value, "little") if len(value) == 4 else missing


def string_in(bag: Bag, key: int) -> str:
    """The text in a bag; "" where there is none."""
    return read_string(bag.get(key, b""))
