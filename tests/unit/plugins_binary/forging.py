"""Small ELF files made octet by octet: of any class and byte order, well-formed or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal

GLOBAL, WEAK, LOCAL = 1, 2, 0
DEFAULT, HIDDEN = 0, 2
Symbol = tuple[str, int, int, int]
"""name, binding, visibility, section (0: undefined)"""


def forged_elf(
    bits: int,
    order: Literal["<", ">"],
    symbols: Sequence[Symbol],
    *,
    machine: int = 20,
    kind: int = 3,
    needed: Sequence[str] = (),
    runpath: str = "",
    flags_1: int = 0,
) -> bytes:
    """A library whose one segment is the whole file, loaded at 0x10000."""
    wide = bits == 64
    base = 0x10000
    address = "Q" if wide else "I"
    head_size, segment_size, symbol_size = (64, 56, 24) if wide else (52, 32, 16)
    names = bytearray(b"\0")

    def name(text: str) -> int:
        at = len(names)
        names.extend(text.encode() + b"\0")
        return at

    table = bytearray(symbol_size)
    for text, binding, visibility, section in symbols:
        if wide:
            table += struct.pack(order + "IBBHQQ", name(text), binding << 4, visibility, section, 0, 0)
        else:
            table += struct.pack(order + "IIIBBH", name(text), 0, 0, binding << 4, visibility, section)
    tags = [(1, name(library)) for library in needed]
    tags += [(29, name(runpath))] if runpath else []
    tags += [(0x6FFFFFFB, flags_1)] if flags_1 else []
    symbols_at = head_size + 2 * segment_size
    names_at = symbols_at + len(table)
    hash_at = names_at + len(names)
    hashed = struct.pack(order + "4I", 1, 1 + len(symbols), 0, 0)
    dynamic_at = hash_at + len(hashed)
    tags += [(4, base + hash_at), (5, base + names_at), (6, base + symbols_at), (10, len(names)), (0, 0)]
    dynamic = b"".join(struct.pack(order + 2 * address, *tag) for tag in tags)
    size = dynamic_at + len(dynamic)
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    head = struct.pack(
        order + f"HHI{3 * address}IHHHHHH", kind, machine, 1, 0, head_size, 0, 0, head_size, segment_size, 2, 0, 0, 0
    )
    if wide:
        load = struct.pack(order + "IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096)
        second = struct.pack(order + "IIQQQQQQ", 2, 4, dynamic_at, base + dynamic_at, 0, len(dynamic), len(dynamic), 8)
    else:
        load = struct.pack(order + "IIIIIIII", 1, 0, base, base, size, size, 5, 4096)
        second = struct.pack(order + "IIIIIIII", 2, dynamic_at, base + dynamic_at, 0, len(dynamic), len(dynamic), 4, 4)
    return identity + head + load + second + bytes(table) + bytes(names) + hashed + dynamic
