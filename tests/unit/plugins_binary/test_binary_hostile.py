"""Whatever a file holds, `inspect` answers with a Library or with NotALibrary, within its budget."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gatepost.plugins.host.binary import Library, NotALibrary, dialect_of, inspect, missing, unresolved
from gatepost.plugins.host.octets import MAX_NAME
from unit.plugins_binary.building import PLUGIN, dll, elf
from unit.plugins_binary.forging import DEFAULT, GLOBAL, forged_elf

pytestmark = pytest.mark.needs("cc", "x86_64-w64-mingw32-gcc")
MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MIB = 2**20


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("samples")
    symbols = [("plugin_init", GLOBAL, DEFAULT, 1), ("wanted", GLOBAL, DEFAULT, 0)]
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    forged = [
        forged_elf(bits, order, symbols, needed=["libc.so.6"], runpath="/x") for bits in (32, 64) for order in orders
    ]
    gnu = elf(folder / "gnu.so", PLUGIN, "-Wl,--hash-style=gnu", "-s").read_bytes()
    return [*forged, gnu, dll(folder / "one.dll", PLUGIN, "-s").read_bytes()]


def looked_at(folder: Path, octets: bytes) -> Library | NotALibrary:
    """The answer; any other exception is the test's failure."""
    file = folder / "hostile.so"
    file.write_bytes(octets)
    try:
        found = inspect(file)
    except NotALibrary as error:
        assert str(error).startswith(("it ", "its ", "the ")), error
        assert str(error).isprintable()
        return error
    assert all(name.isprintable() and len(name) <= MAX_NAME for name in (*found.exports, *found.undefined))
    dialect_of(found)
    return found


@MANY
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"MZ", b"\x7fELF", b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x02\x01"])
)
@example(b"", b"")
@example(b"", b"MZ")
def test_random_octets(tmp_path: Path, octets: bytes, begin: bytes) -> None:
    assert isinstance(looked_at(tmp_path, begin + octets), Library | NotALibrary)


@MANY
@given(st.data())
def test_truncations(tmp_path: Path, samples: list[bytes], data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(samples))
    end = data.draw(st.integers(0, len(sample) - 1) | st.integers(0, 0x400))
    found = looked_at(tmp_path, sample[:end])
    if sample[:4] == b"\x7fELF" and end < 64:
        assert isinstance(found, NotALibrary)


_EDGES = [0, 1, 2, 3, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]


@settings(MANY, max_examples=1500)
@given(st.data())
def test_mutations(tmp_path: Path, samples: list[bytes], data: st.DataObject) -> None:
    octets = bytearray(data.draw(st.sampled_from(samples)))
    places = st.integers(0, min(len(octets), 0x600) - 8) | st.integers(0, len(octets) - 8)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(places)
        width, value = (
            data.draw(st.sampled_from("BHIQ")),
            data.draw(st.sampled_from(_EDGES) | st.integers(0, 2**64 - 1)),
        )
        order = data.draw(st.sampled_from("<>"))
        struct.pack_into(order + width, octets, at, value % 2 ** (8 * struct.calcsize(width)))
    found = looked_at(tmp_path, bytes(octets))
    if isinstance(found, Library):
        assert isinstance(missing(found, builtin=()), tuple)
        assert isinstance(unresolved(found), tuple)


def test_every_octet_of_headers_and_tables_set_to_what_is_telling(tmp_path: Path, samples: list[bytes]) -> None:
    answers = set()
    for sample in samples:
        exports = max(sample.find(b"Execute\0"), 0)  # a DLL's names come right after the tables that lead to them
        for at in {*range(min(len(sample), 0x1A0)), *range(max(0, exports - 0x60), exports)}:
            for value in (0x00, 0x7F, 0xFF):
                octets = bytearray(sample)
                octets[at] = value
                answers.add(type(looked_at(tmp_path, bytes(octets))))
    assert answers == {Library, NotALibrary}


def test_many_symbols_with_one_long_name_cost_no_more_than_the_budget(tmp_path: Path) -> None:
    """All of them point at the same 4 KiB: a gigabyte of names in a small file."""
    count = 300_000
    one = bytearray(forged_elf(64, "<", [("x" * MAX_NAME, GLOBAL, DEFAULT, 1)]))
    symbol, names_at = one[0xB0 + 24 : 0xB0 + 48], 0xB0 + 48
    assert struct.unpack_from("<IBBH", symbol)[1:] == (GLOBAL << 4, DEFAULT, 1)
    growth = (count - 1) * 24
    many = one[:names_at] + bytes(symbol) * (count - 1) + one[names_at:]
    for at in (0x40 + 32, 0x40 + 40):  # the loaded segment's sizes
        struct.pack_into("<Q", many, at, struct.unpack_from("<Q", many, at)[0] + growth)
    for at in (0x78 + 8, 0x78 + 16):  # where the dynamic section is
        struct.pack_into("<Q", many, at, struct.unpack_from("<Q", many, at)[0] + growth)
    [dynamic_at] = struct.unpack_from("<Q", many, 0x78 + 8)
    for at in (dynamic_at + 8, dynamic_at + 24):  # the hash table, the names
        struct.pack_into("<Q", many, at, struct.unpack_from("<Q", many, at)[0] + growth)
    [hash_address] = struct.unpack_from("<Q", many, dynamic_at + 8)
    struct.pack_into("<I", many, hash_address - 0x10000 + 4, count + 1)
    tracemalloc.start()
    found = looked_at(tmp_path, bytes(many))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, NotALibrary)
    assert "more than a library could hold" in str(found)
    assert peak < 64 * MIB


def test_tables_that_would_be_gigantic_are_refused_unread(tmp_path: Path) -> None:
    octets = bytearray(forged_elf(64, "<", [("plugin_init", GLOBAL, DEFAULT, 1)]))
    file = tmp_path / "sparse.so"
    names_size = octets.rindex(struct.pack("<Q", 10)) + 8
    struct.pack_into("<Q", octets, names_size, 8 * 2**30)
    file.write_bytes(octets)
    os.truncate(file, 16 * 2**30)
    with pytest.raises(NotALibrary, match="table of names is larger than"):
        inspect(file)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "it is empty"),
        (b"#!/bin/sh\n", "it is a script"),
        (b"PK\x03\x04" + bytes(30), "zip archive"),
        (b"\xcf\xfa\xed\xfe" + bytes(30), "macOS"),
        (b"/* GNU ld script */ INPUT(libm.so.6)", "linker script"),
        (b"hello", "neither an ELF nor a PE file"),
        (b"\x7fELF", "cut short"),
        (b"MZ", "cut short"),
        (b"\x7fELF\x09\x01\x01" + bytes(60), "unknown class"),
    ],
)
def test_what_it_is_instead_is_said(tmp_path: Path, octets: bytes, said: str) -> None:
    file = tmp_path / "one.so"
    file.write_bytes(octets)
    with pytest.raises(NotALibrary, match=said):
        inspect(file)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.so")
    for path, said in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe.so", "regular file"),
        (Path("/dev/zero"), "regular file"),
        (tmp_path / "none.so", "no such file"),
        (Path("a\0b"), "can't be read"),
    ):
        with pytest.raises(NotALibrary, match=said):
            inspect(path)
