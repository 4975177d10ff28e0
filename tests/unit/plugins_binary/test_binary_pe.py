"""Windows libraries, built by mingw, against what objdump says of them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from gatepost.plugins.host.binary import (
    Library,
    NotALibrary,
    builtin_folders,
    dialect_of,
    inspect,
    lies_beside,
    missing,
)
from unit.plugins_binary.building import PLUGIN, built, dll, dll_exports, dll_imports

MINGW = "x86_64-w64-mingw32-gcc"
MINGW_32 = "i686-w64-mingw32-gcc"
pytestmark = pytest.mark.needs(MINGW, "objdump")

DEFINITION = """LIBRARY plug.dll
EXPORTS
 Execute @5
 Moved=KERNEL32.GetTickCount @9
 of_its_own @11 NONAME
"""


def test_a_real_library_is_what_objdump_says(tmp_path: Path) -> None:
    file = dll(tmp_path / "plug.dll", PLUGIN, "-lws2_32")
    found = inspect(file)
    assert (found.format, found.machine, found.bits, found.byte_order) == ("pe", "x86-64", 64, "little")
    assert found.is_library
    assert not found.managed
    assert set(found.exports) == set(dll_exports(file)) == {"Execute", "of_its_own"}
    assert {entry.name: entry.ordinal for entry in found.entries} == dll_exports(file)
    assert {one.library: set(one.symbols) for one in found.imports} == dll_imports(file)
    assert {one.library for one in found.imports} == {"KERNEL32.dll", "msvcrt.dll"}
    assert (found.soname, dialect_of(found)) == ("plug.dll", "mailenable")


def test_ordinals_forwarders_and_things_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "plug.def").write_text(DEFINITION)
    file = dll(tmp_path / "plug.dll", PLUGIN.replace("__declspec(dllexport)", ""), str(tmp_path / "plug.def"))
    found = inspect(file)
    assert [(entry.name, entry.ordinal, entry.forwarder) for entry in found.entries] == [
        ("Execute", 5, ""),
        ("Moved", 9, "KERNEL32.GetTickCount"),
        ("", 11, ""),
    ]
    assert found.exports == ("Execute", "Moved")
    assert dll_exports(file) == {"Execute": 5, "Moved": 9}


def test_what_is_wanted_by_ordinal(tmp_path: Path) -> None:
    (tmp_path / "part.def").write_text("LIBRARY part.dll\nEXPORTS\n part @7 NONAME\n")
    definition = str(tmp_path / "part.def")
    library = f"-Wl,--out-implib,{tmp_path / 'libpart.a'}"
    dll(tmp_path / "part.dll", "int part(void) { return 1; }", definition, library)
    uses = "__declspec(dllimport) int part(void); __declspec(dllexport) int Execute(void) { return part(); }"
    found = inspect(dll(tmp_path / "plug.dll", uses, f"-L{tmp_path}", "-lpart"))
    assert next(one for one in found.imports if one.library == "part.dll").symbols == ("#7",)


@pytest.mark.needs(MINGW_32)
def test_32_bit_libraries_and_their_decorated_names(tmp_path: Path) -> None:
    source = "__declspec(dllexport) long __stdcall Execute(char *a, char *b) { return 1; }"
    file = built(MINGW_32, tmp_path / "plug.dll", source)
    found = inspect(file)
    assert (found.machine, found.bits) == ("i386", 32)
    assert found.exports == ("Execute@8",)
    assert {one.library: set(one.symbols) for one in found.imports} == dll_imports(file)
    assert dialect_of(found) == "mailenable"


def test_dialects_by_symbols(tmp_path: Path) -> None:
    offered = "__declspec(dllexport) int {}(void) {{ return 1; }}"
    for symbol, dialect in (("DllGetClassObject", "sink"), ("plugin_init", None), ("virusscan", None)):
        assert dialect_of(inspect(dll(tmp_path / "one.dll", offered.format(symbol)))) == dialect


def test_programs_are_no_libraries(tmp_path: Path) -> None:
    file = dll(tmp_path / "plug.dll")
    octets = bytearray(file.read_bytes())
    [start] = struct.unpack_from("<I", octets, 0x3C)
    [flags] = struct.unpack_from("<H", octets, start + 22)
    struct.pack_into("<H", octets, start + 22, flags & ~0x2000)
    file.write_bytes(octets)
    assert not inspect(file).is_library
    assert dialect_of(inspect(file)) is None


def test_assemblies_are_known_by_their_header(tmp_path: Path) -> None:
    file = dll(tmp_path / "plug.dll")
    octets = bytearray(file.read_bytes())
    [start] = struct.unpack_from("<I", octets, 0x3C)
    struct.pack_into("<II", octets, start + 24 + 112 + 14 * 8, 0x2000, 72)
    file.write_bytes(octets)
    assert inspect(file).managed


def test_needed_libraries_are_looked_for_beside_it_in_any_case(tmp_path: Path) -> None:
    found = _using_a_part(tmp_path)
    assert missing(found, builtin=()) == ()
    (tmp_path / "part.dll").rename(tmp_path / "PART.Dll")
    assert missing(found, builtin=()) == ()
    assert lies_beside(found, "part.dll")
    (tmp_path / "PART.Dll").unlink()
    assert missing(found, builtin=()) == ("part.dll",)
    assert not lies_beside(found, "part.dll")


def test_needed_libraries_are_looked_for_in_the_prefix_and_among_wines_own(tmp_path: Path) -> None:
    found = _using_a_part(tmp_path)
    system = tmp_path / "prefix" / "drive_c" / "windows" / "system32"
    system.mkdir(parents=True)
    (tmp_path / "part.dll").rename(system / "Part.DLL")
    assert missing(found, builtin=()) == ("part.dll",)
    assert missing(found, prefix=tmp_path / "prefix", builtin=()) == ()
    assert missing(found, builtin=[system]) == (), "no Wine is there, so nobody knows what Windows has"
    (system / "ntdll.dll").touch()
    assert missing(found, builtin=[system]) == ("KERNEL32.dll", "msvcrt.dll")
    (system / "kernel32.dll").touch()
    (system / "msvcrt.dll").touch()
    assert missing(found, builtin=[system]) == ()


def test_in_a_prefix_for_both_32_bit_libraries_have_a_folder_of_their_own(tmp_path: Path) -> None:
    found = _using_a_part(tmp_path)
    windows = tmp_path / "prefix" / "drive_c" / "windows"
    (windows / "syswow64").mkdir(parents=True)
    (tmp_path / "part.dll").rename(windows / "syswow64" / "part.dll")
    assert missing(found, prefix=tmp_path / "prefix", builtin=()) == ("part.dll",)


@pytest.mark.needs("wine64")
def test_wines_own_libraries_are_found_where_it_is_installed(tmp_path: Path) -> None:
    assert builtin_folders("x86-64")
    assert builtin_folders("sparc") == ()
    assert missing(inspect(dll(tmp_path / "plug.dll", PLUGIN, "-lws2_32", "-lole32"))) == ()


def _using_a_part(folder: Path) -> Library:
    part = "__declspec(dllexport) int part(void) { return 1; }"
    uses = "__declspec(dllimport) int part(void); __declspec(dllexport) int Execute(void) { return part(); }"
    dll(folder / "part.dll", part, f"-Wl,--out-implib,{folder / 'libpart.a'}")
    return inspect(dll(folder / "plug.dll", uses, f"-L{folder}", "-lpart"))


def test_older_files_of_windows_are_named(tmp_path: Path) -> None:
    file = tmp_path / "old.dll"
    file.write_bytes(b"MZ" + bytes(58) + struct.pack("<I", 64) + b"NE" + bytes(64))
    with pytest.raises(NotALibrary, match="16-bit"):
        inspect(file)
    file.write_bytes(b"MZ" + bytes(200))
    with pytest.raises(NotALibrary, match="DOS program"):
        inspect(file)
