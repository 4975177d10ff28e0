"""The systems that event sinks run on, and the sinks of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import wine
from native.sink.hosts import HERE, System, compile_sink
from native.talking import Talk
from programs import program

MINGW = "x86_64-w64-mingw32-gcc"


@pytest.fixture(scope="session")
def sink_library(tmp_path_factory: pytest.TempPathFactory):
    """Called with a file's name here, a suffix, a compiler and its further words: the library, compiled once."""
    folder = tmp_path_factory.mktemp("sinks")
    made: dict[tuple[str, ...], Path] = {}

    def compiled(name: str, suffix: str, compiler: str, *more: str) -> Path:
        key = (name, suffix, compiler, *more)
        if key not in made:
            source = next(HERE.glob(f"{name}.c*"))
            made[key] = compile_sink(source, folder / f"{name}-{len(made)}.{suffix}", compiler, *more)
        return made[key]

    return compiled


@pytest.fixture(
    scope="module", params=["linux", "sanitized", pytest.param("wine", marks=pytest.mark.needs(MINGW, "wine64"))]
)
def sink_systems(request, built, sink_library, tmp_path_factory):
    """The system, and the hosts that were started on it; `sanitized` is Linux with a host that looks at itself."""
    talks: list[Talk] = []
    if request.param == "linux":
        command, env, suffix, compiler = [str(built("linux")), "sink"], None, "so", "cc"
    elif request.param == "sanitized":
        command, suffix, compiler = [str(built("linux", "-g", "-fsanitize=address,undefined")), "sink"], "so", "cc"
        spared = tmp_path_factory.mktemp("sanitized") / "spared"
        spared.write_text("leak:channel_fill\nleak:kit_new\n")  # the process's one buffer; what a sink of a test leaks
        env = os.environ | {
            "ASAN_OPTIONS": "detect_leaks=1:handle_segv=0",
            "UBSAN_OPTIONS": "halt_on_error=1",
            "LSAN_OPTIONS": f"suppressions={spared}:print_suppressions=0",
        }
    else:
        command, suffix, compiler = [program("wine64"), str(built("win64")), "sink"], "dll", MINGW
        env = wine.environment(wine.prefix())

    def start() -> Talk:
        talks.append(Talk(command, env=env))
        return talks[-1]

    def library(name: str, *more: str) -> Path:
        return sink_library(name, suffix, compiler, *more)

    yield System(request.param, start, library, str if suffix == "so" else wine.windows_path), talks
    for each in talks:
        each.close()


@pytest.fixture
def system(sink_systems):
    """For hosts of the test's own."""
    system, talks = sink_systems
    before = len(talks)
    yield system
    for each in talks[before:]:
        each.close()
    del talks[before:]


@pytest.fixture(scope="module")
def lively(sink_systems):
    """A host that the well-behaved share; its sink is cacheable and has been asked before."""
    return sink_systems[0].words()
