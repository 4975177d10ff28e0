"""ELF files, real and forged, against what nm and objdump say of them."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from gatepost.plugins.host.binary import NotALibrary, dialect_of, inspect, lies_beside, missing, unresolved
from programs import program
from unit.plugins_binary.building import PLUGIN, dynamic, elf, nm_exports, nm_undefined
from unit.plugins_binary.forging import DEFAULT, GLOBAL, HIDDEN, LOCAL, WEAK, forged_elf

pytestmark = pytest.mark.needs("cc", "nm", "objdump")
HOSTILE_NAME = "a\x1b[2Jb"


@pytest.mark.parametrize("hashes", ["sysv", "gnu", "both"])
def test_a_real_library_is_what_the_binutils_say(tmp_path: Path, hashes: str) -> None:
    options = (f"-Wl,--hash-style={hashes}", "-Wl,-rpath,$ORIGIN/parts:/opt/x", "-Wl,-soname,plug.so.1", "-lm", "-lz")
    file = elf(tmp_path / "plug.so", PLUGIN, "-Wl,--no-as-needed", *options)
    found = inspect(file)
    assert (found.format, found.machine, found.bits, found.byte_order) == ("elf", *_here())
    assert found.is_library
    assert set(found.exports) == nm_exports(file) == {"Execute", "of_its_own"}
    assert set(found.undefined) == nm_undefined(file)
    assert [one.library for one in found.imports] == dynamic(file, "NEEDED")
    assert ":".join(found.rpath) == dynamic(file, "RUNPATH")[0]
    assert (found.soname, found.path) == ("plug.so.1", file)
    assert dialect_of(found) == "mailenable"


def _here() -> tuple[str, int, str]:
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    return {"x86_64": "x86-64"}.get(machine, machine), ctypes.sizeof(ctypes.c_void_p) * 8, sys.byteorder


def test_section_headers_are_not_needed(tmp_path: Path) -> None:
    file = elf(tmp_path / "plug.so")
    octets = bytearray(file.read_bytes())
    octets[0x28:0x30] = bytes(8)  # where the sections are
    octets[0x3A:0x40] = bytes(6)  # and how many
    file.write_bytes(octets)
    assert set(inspect(file).exports) == {"Execute", "of_its_own"}


def test_a_library_that_exports_nothing_still_says_what_it_asks_for(tmp_path: Path) -> None:
    source = "#include <stdlib.h>\nvoid __attribute__((constructor)) begin(void) { free(malloc(1)); }"
    file = elf(tmp_path / "silent.so", source, "-Wl,--hash-style=gnu", "-fno-builtin")
    found = inspect(file)
    assert found.exports == ()
    assert set(found.undefined) == nm_undefined(file) >= {"malloc", "free"}
    assert dialect_of(found) is None


def test_the_systems_own_libraries_are_read_too() -> None:
    library = inspect(Path(f"/proc/{_pid_of_libc()}").resolve())
    assert {"malloc", "printf"} <= set(library.exports)
    assert library.is_library, "libc may be run as a program, and is a library"
    assert missing(library) == ()


def _pid_of_libc() -> str:
    """Below /proc: the C library that this very process uses."""
    line = next(line for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
    return "self/root" + line.split()[-1]


def test_programs_are_no_libraries(tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text("int plugin_init(void) { return 0; } int main(void) { return 0; }")
    for option in ("-pie", "-no-pie"):
        file = tmp_path / f"program{option}"
        subprocess.run([program("cc"), "-fPIC", "-rdynamic", option, "-o", file, source], check=True)
        found = inspect(file)
        assert not found.is_library
        assert dialect_of(found) is None


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_class_and_byte_order(tmp_path: Path, bits: int, order: Literal["<", ">"]) -> None:
    symbols = [
        ("plugin_init", GLOBAL, DEFAULT, 1),
        ("weakly", WEAK, DEFAULT, 1),
        ("hidden", GLOBAL, HIDDEN, 1),
        ("local", LOCAL, DEFAULT, 1),
        ("wanted", GLOBAL, DEFAULT, 0),
        ("perhaps", WEAK, DEFAULT, 0),
        (HOSTILE_NAME, GLOBAL, DEFAULT, 1),
    ]
    file = tmp_path / "forged.so"
    file.write_bytes(forged_elf(bits, order, symbols, machine=21, needed=["libx.so.1"], runpath="$ORIGIN"))
    found = inspect(file)
    assert (found.machine, found.bits, found.byte_order) == ("ppc64", bits, "little" if order == "<" else "big")
    assert found.exports == ("plugin_init", "weakly", "a\ufffd[2Jb")
    assert found.undefined == ("wanted",)
    assert [one.library for one in found.imports] == ["libx.so.1"]
    assert found.rpath == ("$ORIGIN",)
    assert dialect_of(found) == "indimail"


def test_machines_are_named(tmp_path: Path) -> None:
    named = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 4711: "machine 4711"}
    for number, name in named.items():
        (tmp_path / "one.so").write_bytes(forged_elf(64, "<", [], machine=number))
        assert inspect(tmp_path / "one.so").machine == name
    (tmp_path / "one.so").write_bytes(forged_elf(32, "<", [], machine=62))
    assert inspect(tmp_path / "one.so").machine == "x32"


@pytest.mark.parametrize(
    ("symbols", "dialect"),
    [
        (["Execute"], "mailenable"),
        (["plugin_init"], "indimail"),
        (["virusscan"], "indimail-queue"),
        (["plugin_init", "virusscan"], "indimail"),
        (["DllGetClassObject"], "sink"),
        (["execute", "PLUGIN_INIT"], None),
        ([], None),
    ],
)
def test_dialects_by_symbols(tmp_path: Path, symbols: list[str], dialect: str | None) -> None:
    file = tmp_path / "one.so"
    file.write_bytes(forged_elf(64, "<", [(name, GLOBAL, DEFAULT, 1) for name in symbols]))
    assert dialect_of(inspect(file)) == dialect


def test_missing_libraries_are_those_the_loader_does_not_find(tmp_path: Path) -> None:
    """The oracle is the loader itself, in a process of its own."""
    part = elf(tmp_path / "libpart.so", '__attribute__((visibility("default"))) int part(void) { return 1; }')
    uses = '__attribute__((visibility("default"))) int plugin_init(void) { extern int part(void); return part(); }'
    linked = (f"-L{tmp_path}", "-lpart")
    lost = elf(tmp_path / "lost.so", uses, *linked)
    found = elf(tmp_path / "found.so", uses, *linked, "-Wl,-rpath,$ORIGIN")
    braced = elf(tmp_path / "braced.so", uses, *linked, f"-Wl,-rpath,/nowhere:${{ORIGIN}}/../{tmp_path.name}")
    for file in (lost, found, braced):
        loads = _loads(file)
        assert (missing(inspect(file)) == ()) is loads, file
        assert loads is (file is not lost)
    assert missing(inspect(lost)) == ("libpart.so",)
    assert lies_beside(inspect(lost), "libpart.so")
    assert missing(inspect(lost), folders=[tmp_path]) == ()
    assert unresolved(inspect(found)) == ()
    part.unlink()
    assert missing(inspect(found)) == ("libpart.so",)
    assert unresolved(inspect(found)) == (), "nobody knows what the missing library has"


def test_a_library_for_another_machine_is_passed_over(tmp_path: Path) -> None:
    uses = '__attribute__((visibility("default"))) int plugin_init(void) { extern int part(void); return part(); }'
    elf(tmp_path / "libpart.so", '__attribute__((visibility("default"))) int part(void) { return 1; }')
    file = elf(tmp_path / "plug.so", uses, f"-L{tmp_path}", "-lpart", "-Wl,-rpath,$ORIGIN")
    (tmp_path / "libpart.so").write_bytes(forged_elf(64, ">", [("part", GLOBAL, DEFAULT, 1)]))
    assert missing(inspect(file)) == ("libpart.so",)
    assert not _loads(file)


def test_what_a_found_library_needs_is_looked_for_too(tmp_path: Path) -> None:
    offered = '__attribute__((visibility("default"))) int {}(void) {{ return {}; }}'
    elf(tmp_path / "libdeep.so", offered.format("deep", 1))
    path = (f"-L{tmp_path}", "-Wl,-rpath,$ORIGIN", "-Wl,--no-as-needed")
    elf(tmp_path / "libpart.so", offered.format("part", 1), *path, "-ldeep")
    file = elf(tmp_path / "plug.so", offered.format("plugin_init", 1), *path, "-lpart")
    assert missing(inspect(file)) == ()
    (tmp_path / "libdeep.so").unlink()
    assert missing(inspect(file)) == ("libdeep.so",)


def test_symbols_that_nobody_has(tmp_path: Path) -> None:
    source = (
        '__attribute__((visibility("default"))) int plugin_init(void) { extern int env_get(void); return env_get(); }'
    )
    file = elf(tmp_path / "plug.so", source)
    assert unresolved(inspect(file)) == ("env_get",)
    assert not _loads(file)
    assert unresolved(inspect(elf(tmp_path / "whole.so"))) == ()


def _loads(file: Path) -> bool:
    code = "import ctypes, os, sys; ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW)"
    return subprocess.run([sys.executable, "-c", code, file], capture_output=True, check=False).returncode == 0


def test_object_files_and_archives_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "one.c").write_text(PLUGIN)
    subprocess.run([program("cc"), "-c", "-o", tmp_path / "one.o", tmp_path / "one.c"], check=True)
    with pytest.raises(NotALibrary, match=r"object file.*cc -shared"):
        inspect(tmp_path / "one.o")
    subprocess.run(["ar", "rc", tmp_path / "one.a", tmp_path / "one.o"], check=True)
    with pytest.raises(NotALibrary, match=r"an archive.*cc -shared"):
        inspect(tmp_path / "one.a")
