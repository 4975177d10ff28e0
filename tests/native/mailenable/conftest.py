"""MailEnable plugins built from C, as a shared object and as a DLL, and loaded into processes of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gatepost.plugins.host import Backoff
from gatepost.plugins.mailenable import MailEnableOptions, load_mailenable
from programs import program

HERE = Path(__file__).parent
PREFIXES = HERE.parents[2] / ".wine" / "gatepost"
"""Kept for the next run: a prefix takes a dozen seconds. Ignored by git."""
COMPILERS = {"so": "cc", "dll": "x86_64-w64-mingw32-gcc", "dll32": "i686-w64-mingw32-gcc"}
ON_WINE = pytest.param("dll", marks=pytest.mark.needs(COMPILERS["dll"], "wine64"))
KINDS = ["so", ON_WINE]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Called with a C file, a kind, and further words for the compiler: the library, built once, without a warning."""
    folder = tmp_path_factory.mktemp("mailenable")
    made = {}

    def compile(source: Path, kind: str, *more: str) -> Path:
        key = (source, kind, more)
        if key not in made:
            output = folder / str(len(made)) / f"{source.stem}.{kind[:3]}"
            output.parent.mkdir()
            flags = ["-shared", "-O1", "-Wall", "-Wextra", "-Werror", *(["-fPIC"] if kind == "so" else [])]
            command = [program(COMPILERS[kind]), *flags, str(source), "-o", str(output), *more]
            subprocess.run(command, check=True, timeout=60)
            made[key] = output
        return made[key]

    return compile


@pytest.fixture
def load(compiled, tmp_path, monkeypatch):
    """Called with a kind and what `load_mailenable` takes: the plugin of postman.c, or the library that is given."""
    monkeypatch.setenv("GATEPOST_SECRET", "the server's own")

    async def loaded(kind, library=None, options=None, **more):
        library = library or compiled(HERE / "postman.c", kind)
        more = {"backoff": Backoff(0.05, 1.0), "grace_s": 0.2, "scratch": tmp_path, "processes": 1} | more
        more.setdefault("prefixes", PREFIXES)
        return await load_mailenable(library, options=MailEnableOptions(**(options or {})), **more)

    return loaded
