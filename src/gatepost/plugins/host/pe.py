"""What a PE file says of itself (Microsoft's "PE Format": headers, export and import tables).

Strategy: addresses are turned into places in the file by the section table, as the loader would map them; each table is
followed only as far as its own count or its limit here reaches.
"""

from __future__ import annotations

import struct

from gatepost.plugins.host.library import Export, Import, Library
from gatepost.plugins.host.octets import NotALibrary, Octets

MAGIC = b"MZ"

_MACHINES = {
    0x14C: "i386", 0x8664: "x86-64", 0xAA64: "arm64", 0x1C0: "arm", 0x1C4: "arm", 0x200: "ia64",
    0x5032: "riscv32", 0x5064: "riscv64", 0x6264: "loongarch64",
}  # fmt: skip
_FILE_HEADER = struct.Struct("<HHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")
_EXPORTS = struct.Struct("<IIHHIIIIIII")
_IMPORT = struct.Struct("<IIIII")
_DLL, _EXECUTABLE = 0x2000, 0x0002
_PE32, _PE32_PLUS = 0x10B, 0x20B
_EXPORT_TABLE, _IMPORT_TABLE, _CLR_HEADER = 0, 1, 14

_MAX_SECTIONS = 96 * 8  # Windows itself loads no more than 96
_MAX_EXPORTS = 65_536  # an ordinal has 16 bits
_MAX_LIBRARIES = 1024
_MAX_SYMBOLS = 100_000


def read_pe(octets: Octets) -> Library:
    """The file whose first octets are MAGIC. NotALibrary where its headers can't be followed."""
    return _Reader(octets).library()


class _Reader:
    def __init__(self, octets: Octets) -> None:
        self._octets = octets
        [start] = struct.unpack("<I", octets.at(0x3C, 4, "the DOS header"))
        signature = octets.at(start, 4, "the PE header")
        if signature != b"PE\0\0":
            if signature[:2] in (b"NE", b"LE", b"LX"):
                raise NotALibrary("it is a 16-bit Windows or OS/2 file, which nothing here can run")
            raise NotALibrary("it is a DOS program, or damaged: it has no PE header")
        number, sections, _, _, _, size, self._flags = octets.fields(_FILE_HEADER, start + 4, "the PE header")
        self._machine = _MACHINES.get(number, f"machine {number:#x}")
        optional = octets.at(start + 24, size, "the PE header")
        magic = int.from_bytes(optional[:2], "little")
        if magic not in (_PE32, _PE32_PLUS):
            raise NotALibrary("it is damaged, or an object file: its PE header has no known form")
        self._bits = 64 if magic == _PE32_PLUS else 32
        self._directories = _directories(optional, 112 if self._bits == 64 else 96)
        self._header_size = int.from_bytes(optional[60:64], "little")
        if sections > _MAX_SECTIONS:
            raise NotALibrary("it is damaged: its table of sections can't be right")
        table = octets.at(start + 24 + size, sections * _SECTION.size, "the table of sections")
        self._sections = [(row[2], row[1], row[4], row[3]) for row in _SECTION.iter_unpack(table)]
        """(address, size in memory, offset in the file, size in the file)"""

    def library(self) -> Library:
        if not self._flags & _EXECUTABLE:
            raise NotALibrary("it is marked as not fit to run, as linkers do after errors")
        own_name, entries = self._exports()
        imports = self._imports()
        return Library(
            format="pe",
            machine=self._machine,
            bits=self._bits,
            byte_order="little",
            is_library=bool(self._flags & _DLL),
            exports=tuple(entry.name for entry in entries if entry.name),
            entries=entries,
            imports=imports,
            soname=own_name,
            managed=self._directories.get(_CLR_HEADER, (0, 0))[0] != 0,
        )

    def _offset(self, address: int, what: str) -> int:
        """Where in the file a relative virtual address lies."""
        for start, in_memory, offset, in_file in self._sections:
            if start <= address < start + min(in_memory or in_file, in_file):
                return int(address - start + offset)
        if address < self._header_size:
            return int(address)  # the headers are mapped as they are
        raise NotALibrary(f"it is damaged: {what} lies outside of its sections")

    def _piece(self, address: int, size: int, what: str) -> bytes:
        return self._octets.at(self._offset(address, what), size, what) if size else b""

    def _name(self, address: int, what: str) -> str:
        return self._octets.name(self._offset(address, what), what)

    def _exports(self) -> tuple[str, tuple[Export, ...]]:
        start, length = self._directories.get(_EXPORT_TABLE, (0, 0))
        if not start:
            return "", ()
        what = "the table of exports"
        row = _EXPORTS.unpack(self._piece(start, _EXPORTS.size, what))
        name_at, base, functions, names, addresses_at, names_at, ordinals_at = row[4:]
        if max(functions, names) > _MAX_EXPORTS:
            raise NotALibrary(f"it exports more than {_MAX_EXPORTS} functions")
        addresses = struct.unpack(f"<{functions}I", self._piece(addresses_at, functions * 4, what))
        named = struct.unpack(f"<{names}I", self._piece(names_at, names * 4, what))
        indexes = struct.unpack(f"<{names}H", self._piece(ordinals_at, names * 2, what))
        entries: list[Export] = []
        seen: set[int] = set()
        for at, index in zip(named, indexes, strict=True):
            if index >= functions:
                raise NotALibrary("it is damaged: a name in its table of exports belongs to nothing")
            seen.add(index)
            entries.append(
                Export(
                    self._name(at, "an export's name"), base + index, self._forwarder(addresses[index], start, length)
                )
            )
        for index, address in enumerate(addresses):
            if address and index not in seen:
                entries.append(Export("", base + index, self._forwarder(address, start, length)))
        return self._name(name_at, "the library's own name") if name_at else "", tuple(entries)

    def _forwarder(self, address: int, start: int, length: int) -> str:
        """An address within the export table itself is that of a text: who has the function in truth."""
        return self._name(address, "a forwarder") if start <= address < start + length else ""

    def _imports(self) -> tuple[Import, ...]:
        at, _ = self._directories.get(_IMPORT_TABLE, (0, 0))
        if not at:
            return ()
        found: list[Import] = []
        left = _MAX_SYMBOLS
        for _ in range(_MAX_LIBRARIES):
            names_at, _, _, name_at, addresses_at = _IMPORT.unpack(
                self._piece(at, _IMPORT.size, "the table of imports")
            )
            if not name_at:
                return tuple(found)
            name = self._name(name_at, "a needed library's name")
            symbols = self._imported(names_at or addresses_at, left)
            left -= len(symbols)
            found.append(Import(name, symbols))
            at += _IMPORT.size
        raise NotALibrary(f"it needs more than {_MAX_LIBRARIES} libraries")

    def _imported(self, at: int, left: int) -> tuple[str, ...]:
        """The symbols of one needed library: by name, or "#7" by ordinal."""
        size = self._bits // 8
        by_ordinal = 1 << (self._bits - 1)
        symbols: list[str] = []
        while at:
            thunk = int.from_bytes(self._piece(at, size, "the symbols it needs"), "little")
            if not thunk:
                break
            if len(symbols) >= left:
                raise NotALibrary(f"it needs more than {_MAX_SYMBOLS} symbols")
            if thunk & by_ordinal:
                symbols.append(f"#{thunk & 0xFFFF}")
            else:
                symbols.append(self._name((thunk & 0x7FFFFFFF) + 2, "the name of a symbol it needs"))
            at += size
        return tuple(symbols)


def _directories(optional: bytes, at: int) -> dict[int, tuple[int, int]]:
    """The data directories that are there: (address, size) by number."""
    count = min(int.from_bytes(optional[at - 4 : at], "little"), (len(optional) - at) // 8, 16)
    return {number: struct.unpack_from("<II", optional, at + number * 8) for number in range(count)}
