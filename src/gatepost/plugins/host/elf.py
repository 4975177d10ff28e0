"""What an ELF file says of itself (System V gABI 4.1; the GNU hash table as glibc and the linkers write it).

Strategy: only what the loader uses is followed: the program headers, the dynamic section, its tables. The section
headers may be stripped or lie; they are asked for nothing but the number of symbols, where no hash table says it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gatepost.plugins.host.library import Export, Import, Library
from gatepost.plugins.host.octets import NotALibrary, Octets

MAGIC = b"\x7fELF"

_MACHINES = {
    2: "sparc", 3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390", 40: "arm", 43: "sparc64", 50: "ia64",
    62: "x86-64", 183: "aarch64", 243: "riscv", 258: "loongarch",
}  # fmt: skip
_ET_REL, _ET_EXEC, _ET_DYN = 1, 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ = 0, 1, 4, 5, 6, 10
_DT_SONAME, _DT_RPATH, _DT_RUNPATH, _DT_GNU_HASH, _DT_FLAGS_1 = 14, 15, 29, 0x6FFFFEF5, 0x6FFFFFFB
_DF_1_PIE = 0x08000000
_SHT_DYNSYM = 11
_SHN_UNDEF = 0
_GLOBAL, _WEAK, _UNIQUE = 1, 2, 10
_VISIBLE = (0, 3)  # default, protected

_MAX_SEGMENTS = 512
_MAX_SECTIONS = 65_536
_MAX_DYNAMIC = 65_536
_MAX_NEEDED = 1024
_MAX_SYMBOLS = 400_000
_BYTE_ORDERS: dict[int, Literal["little", "big"]] = {1: "little", 2: "big"}


@dataclass(frozen=True, slots=True)
class _Layout:
    """The records of one class and byte order."""

    head: struct.Struct
    """type, machine, version, entry, phoff, shoff, flags, ehsize, phentsize, phnum, shentsize, shnum, shstrndx"""
    segment: struct.Struct
    section: struct.Struct
    dynamic: struct.Struct
    symbol: struct.Struct
    word: struct.Struct


def _layout(bits: int, order: str) -> _Layout:
    if bits == 64:
        formats = ("HHIQQQIHHHHHH", "IIQQQQQQ", "IIQQQQIIQQ", "QQ", "IBBHQQ", "I")
    else:
        formats = ("HHIIIIIHHHHHH", "IIIIIIII", "IIIIIIIIII", "II", "IIIBBH", "I")
    return _Layout(*(struct.Struct(order + one) for one in formats))


def read_elf(octets: Octets) -> Library:
    """The file whose first octets are MAGIC. NotALibrary where its headers can't be followed."""
    identity = octets.at(0, 16, "the ELF header")
    bits = {1: 32, 2: 64}.get(identity[4])
    byte_order = _BYTE_ORDERS.get(identity[5])
    if bits is None or byte_order is None or identity[6] != 1:
        raise NotALibrary("it is damaged: its ELF header has an unknown class, byte order or version")
    return _Reader(octets, bits, byte_order).library()


class _Reader:
    def __init__(self, octets: Octets, bits: int, byte_order: Literal["little", "big"]) -> None:
        self._octets = octets
        self._bits = bits
        self._byte_order = byte_order
        self._is = _layout(bits, "<" if byte_order == "little" else ">")
        self._loads: list[tuple[int, int, int]] = []
        """(address, offset in the file, octets in the file) of what is loaded"""
        (self._type, number, _, _, self._phoff, self._shoff, _, _, self._phentsize, self._phnum, self._shentsize,
         self._shnum, _) = octets.fields(self._is.head, 16, "the ELF header")  # fmt: skip
        machine = _MACHINES.get(number, f"machine {number}")
        self._machine = "x32" if (machine, bits) == ("x86-64", 32) else machine

    def library(self) -> Library:
        if self._type == _ET_REL:
            raise NotALibrary("it is an object file that no linker has made a library of; cc -shared does")
        if self._type not in (_ET_EXEC, _ET_DYN):
            raise NotALibrary("it is an ELF file, but neither a library nor a program")
        dynamic, interpreter = self._segments()
        entries = self._dynamic(*dynamic) if dynamic else {}
        names = self._names(entries)
        exports, undefined = self._symbols(entries, names) if names else ((), ())
        needed = self._named(entries, names, _DT_NEEDED)
        soname = next(iter(self._named(entries, names, _DT_SONAME)), "")
        paths = self._named(entries, names, _DT_RUNPATH) or self._named(entries, names, _DT_RPATH)
        flags = entries.get(_DT_FLAGS_1, [0])[0]
        is_program = self._type == _ET_EXEC or bool(flags & _DF_1_PIE) or (interpreter and not soname)
        return Library(
            format="elf",
            machine=self._machine,
            bits=self._bits,
            byte_order=self._byte_order,
            is_library=not is_program and bool(dynamic),
            exports=tuple(export.name for export in exports),
            entries=exports,
            imports=tuple(Import(name) for name in needed),
            undefined=undefined,
            rpath=tuple(path for one in paths for path in one.split(":") if path),
            soname=soname,
        )

    def _segments(self) -> tuple[tuple[int, int] | None, bool]:
        """Where the dynamic section is (offset, octets), and whether the file asks for an interpreter, as programs
        do."""
        if self._phnum > _MAX_SEGMENTS or (self._phnum and self._phentsize < self._is.segment.size):
            raise NotALibrary("it is damaged: its table of segments can't be right")
        dynamic: tuple[int, int] | None = None
        interpreter = False
        table = self._octets.at(self._phoff, self._phnum * self._phentsize, "the table of segments")
        for at in range(0, len(table), self._phentsize or 1):
            row = self._is.segment.unpack_from(table, at)
            kind = row[0]
            offset, address, length = (row[2], row[3], row[5]) if self._bits == 64 else (row[1], row[2], row[4])
            if kind == _PT_LOAD:
                self._loads.append((address, offset, length))
            elif kind == _PT_DYNAMIC:
                dynamic = (offset, length)
            elif kind == _PT_INTERP:
                interpreter = True
        return dynamic, interpreter

    def _dynamic(self, offset: int, length: int) -> dict[int, list[int]]:
        """The dynamic section: the values of each tag, in their order."""
        size = self._is.dynamic.size
        if length > _MAX_DYNAMIC * size:
            raise NotALibrary("it is damaged: its dynamic section can't be right")
        found: dict[int, list[int]] = {}
        for tag, value in self._is.dynamic.iter_unpack(
            self._octets.at(offset, length - length % size, "the dynamic section")
        ):
            if tag == _DT_NULL:
                break
            found.setdefault(tag, []).append(value)
        if len(found.get(_DT_NEEDED, ())) > _MAX_NEEDED:
            raise NotALibrary(f"it needs more than {_MAX_NEEDED} libraries")
        return found

    def _offset(self, address: int, what: str) -> int:
        """Where in the file a loaded address lies."""
        for start, offset, length in self._loads:
            if start <= address < start + length:
                return address - start + offset
        raise NotALibrary(f"it is damaged: {what} lies outside of what is loaded")

    def _names(self, entries: dict[int, list[int]]) -> bytes:
        if _DT_STRTAB not in entries or _DT_STRSZ not in entries:
            return b""
        offset = self._offset(entries[_DT_STRTAB][0], "the table of names")
        return self._octets.at(offset, entries[_DT_STRSZ][0], "the table of names")

    def _named(self, entries: dict[int, list[int]], names: bytes, tag: int) -> tuple[str, ...]:
        return tuple(self._octets.name_in(names, at, "a library's name") for at in entries.get(tag, ()))

    def _symbols(self, entries: dict[int, list[int]], names: bytes) -> tuple[tuple[Export, ...], tuple[str, ...]]:
        """What is exported, and what somebody else has to have."""
        if _DT_SYMTAB not in entries:
            return (), ()
        count = self._count(entries)
        if count > _MAX_SYMBOLS:
            raise NotALibrary(f"it has more than {_MAX_SYMBOLS} symbols")
        offset = self._offset(entries[_DT_SYMTAB][0], "the table of symbols")
        table = self._octets.at(offset, count * self._is.symbol.size, "the table of symbols")
        exported: dict[str, None] = {}
        undefined: dict[str, None] = {}
        for row in self._is.symbol.iter_unpack(table):
            name_at, info, other, section = (row[0], *row[1:4]) if self._bits == 64 else (row[0], *row[3:6])
            binding = info >> 4
            if not name_at or binding not in (_GLOBAL, _WEAK, _UNIQUE):
                continue
            if section == _SHN_UNDEF:
                if binding == _GLOBAL:
                    undefined[self._octets.name_in(names, name_at, "a symbol's name")] = None
            elif other & 3 in _VISIBLE:
                exported[self._octets.name_in(names, name_at, "a symbol's name")] = None
        return tuple(Export(name) for name in exported), tuple(undefined)

    def _count(self, entries: dict[int, list[int]]) -> int:
        """How many symbols there are: no tag says it, so the hash tables do."""
        if _DT_HASH in entries:
            # gABI "Hash Table": nbucket, nchain; there is a chain for each symbol
            at = self._offset(entries[_DT_HASH][0], "the hash table")
            return self._word(at + 4, "the hash table")
        if _DT_GNU_HASH in entries:
            return self._count_in_gnu_hash(self._offset(entries[_DT_GNU_HASH][0], "the hash table"))
        return max(self._counts_in_sections(), default=0)

    def _count_in_gnu_hash(self, at: int) -> int:
        """The last bucket's chain ends with the last symbol: the lowest bit of its hash is set."""
        buckets, first, blooms, _ = struct.unpack(
            self._is.word.format[0] + "4I", self._octets.at(at, 16, "the hash table")
        )
        if max(buckets, first, blooms) > _MAX_SYMBOLS:
            raise NotALibrary("it is damaged: its hash table can't be right")
        at += 16 + blooms * (self._bits // 8)
        starts = self._is.word.iter_unpack(self._octets.at(at, buckets * 4, "the hash table"))
        last = max((start for (start,) in starts), default=0)
        if last < first:  # it exports nothing; only the sections know how much it asks for
            return max(self._counts_in_sections(), default=first)
        at += buckets * 4
        for index in range(last, _MAX_SYMBOLS):
            if self._word(at + (index - first) * 4, "the hash table") & 1:
                return index + 1
        raise NotALibrary(f"it has more than {_MAX_SYMBOLS} symbols")

    def _counts_in_sections(self) -> Iterator[int]:
        if not self._shoff or self._shnum > _MAX_SECTIONS or self._shentsize < self._is.section.size:
            return
        table = self._octets.at(self._shoff, self._shnum * self._shentsize, "the table of sections")
        for at in range(0, len(table), self._shentsize):
            row = self._is.section.unpack_from(table, at)
            if row[1] == _SHT_DYNSYM:
                yield row[5] // self._is.symbol.size

    def _word(self, offset: int, what: str) -> int:
        [word] = self._octets.fields(self._is.word, offset, what)
        return int(word)
