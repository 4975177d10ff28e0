"""Real libraries, built for the tests and kept for the run; and what the binutils say of them."""

from __future__ import annotations

import re
import subprocess
from functools import lru_cache
from pathlib import Path

from programs import program

PLUGIN = """
#include <stdlib.h>
#ifdef _WIN32
#define OFFERED __declspec(dllexport)
#else
#define OFFERED __attribute__((visibility("default")))
#endif
OFFERED long Execute(char *configuration, char *response) { return configuration == response ? 0 : labs(1); }
OFFERED int of_its_own = 7;
int hidden_away(void) { return 8; }
"""


def built(compiler: str, target: Path, source: str, *options: str) -> Path:
    """The library, made of C source with what else the compiler is told."""
    code = target.with_suffix(".c")
    code.write_text(source)
    options = ("-fvisibility=hidden", *options)
    subprocess.run([program(compiler), "-shared", "-o", str(target), str(code), *options], check=True, timeout=50)
    return target


def elf(target: Path, source: str = PLUGIN, *options: str) -> Path:
    """A Linux library of this machine."""
    return built("cc", target, source, "-fPIC", *options)


def dll(target: Path, source: str = PLUGIN, *options: str) -> Path:
    """A 64-bit Windows library."""
    return built("x86_64-w64-mingw32-gcc", target, source, *options)


def said(tool: str, *arguments: str | Path) -> str:
    """What one of the binutils says."""
    done = subprocess.run([program(tool), *map(str, arguments)], check=True, capture_output=True, timeout=50)
    return done.stdout.decode("utf-8", "replace")


def nm_exports(file: Path) -> set[str]:
    """The defined dynamic symbols, without versions."""
    rows = (line.split() for line in said("nm", "-D", "--defined-only", file).splitlines())
    return {row[-1].partition("@")[0] for row in rows if row}


def nm_undefined(file: Path) -> set[str]:
    """Strong symbols that somebody else has to have."""
    rows = (line.split() for line in said("nm", "-D", "--undefined-only", file).splitlines())
    return {name.partition("@")[0] for kind, name in rows if kind == "U"}


@lru_cache
def objdump(file: Path) -> str:
    """The private headers."""
    return said("objdump", "-p", file)


def dynamic(file: Path, tag: str) -> list[str]:
    """The values of a tag of the dynamic section, in order."""
    return re.findall(rf"^\s+{tag}\s+(\S+)$", objdump(file), re.MULTILINE)


def dll_imports(file: Path) -> dict[str, set[str]]:
    """The symbols each needed DLL is wanted for."""
    found: dict[str, set[str]] = {}
    for part in objdump(file).split("DLL Name: ")[1:]:
        name, _, rest = part.partition("\n")
        rows = re.findall(
            r"^\s+[0-9a-f]+\s+(?:<none>\s+[0-9a-f]+|\d+)\s+(\S+)", rest.partition("\n\n")[0], re.MULTILINE
        )
        found[name.strip()] = set(rows)
    return found


def dll_exports(file: Path) -> dict[str, int]:
    """Names and their ordinals."""
    text = objdump(file)
    base = int(re.findall(r"^Ordinal Base\s+(\d+)$", text, re.MULTILINE)[0])
    table = text.partition("[Ordinal/Name Pointer] Table")[2]
    rows = re.findall(r"^\s+\[\s*(\d+)\]\s+(?:\+base\[\s*\d+\]\s+[0-9a-f]+\s+)?(\S+)$", table, re.MULTILINE)
    return {name: base + int(index) for index, name in rows}
