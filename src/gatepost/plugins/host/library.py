"""What is known of a library without loading it: the words in which the ELF and PE readers answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Export:
    """One thing a library offers. Only PE has ordinals, forwarders ("NTDLL.RtlMove"), and things without a name."""

    name: str
    ordinal: int | None = None
    forwarder: str = ""


@dataclass(frozen=True, slots=True)
class Import:
    """A library that another one needs; ELF doesn't say which symbols come from it. "#7" is an ordinal."""

    library: str
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Library:
    """One file, as its headers describe it."""

    format: Literal["elf", "pe"]
    machine: str
    """ "x86-64", "i386", "aarch64" (ELF), "arm64" (PE) …; "machine 4711" if it is one nobody here knows."""
    bits: int
    byte_order: Literal["little", "big"]
    is_library: bool
    """False: a program."""
    exports: tuple[str, ...]
    """Names, in the file's order."""
    entries: tuple[Export, ...]
    """The same with ordinals and forwarders, and what has no name."""
    imports: tuple[Import, ...]
    """The libraries it can't be loaded without."""
    undefined: tuple[str, ...] = ()
    """ELF: the symbols that those libraries (or the program that loads it) must have."""
    rpath: tuple[str, ...] = ()
    """ELF: where it wants its libraries to be looked for first."""
    soname: str = ""
    """The name it gives itself."""
    managed: bool = False
    """PE: a .NET assembly, whose code needs that runtime."""
    path: Path = Path()
    """Where it was read, absolute."""
