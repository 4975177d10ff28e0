"""MailEnable plugins built from C, as a shared object and as a DLL, and loaded into processes of their own."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from gatepost.plugins.host import Backoff
from gatepost.plugins.host.native import host_path
from gatepost.plugins.host.wine import find_prefix, find_wine
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


@pytest.fixture(scope="session")
def warm():
    """Called before a DLL is loaded: lets Wine run as long as the tests do, so that not each of them starts it."""
    with ExitStack() as stack:
        made = []

        async def begin():
            if not made:
                wine = await find_wine(64)
                prefix = await find_prefix(wine, folder=PREFIXES)
                command = [str(wine.loader), str(host_path("win64")), "mailenable"]
                null = subprocess.DEVNULL
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=null, stderr=null, env=wine.environment(prefix)
                )
                made.append(stack.enter_context(process))  # which leaves when its standard input ends

        yield begin


@pytest.fixture
def load(compiled, warm, tmp_path, monkeypatch):
    """Called with a kind and what `load_mailenable` takes: the plugin of postman.c, or the library that is given."""
    monkeypatch.setenv("GATEPOST_SECRET", "the server's own")

    async def loaded(kind, library=None, options=None, **more):
        if kind == "dll":
            await warm()
        library = library or compiled(HERE / "postman.c", kind)
        more = {"backoff": Backoff(0.05, 1.0), "grace_s": 0.2, "scratch": tmp_path, "processes": 1} | more
        more.setdefault("prefixes", PREFIXES)
        return await load_mailenable(library, options=MailEnableOptions(**(options or {})), **more)

    return loaded
