"""The host programs, built for the tests without a warning, and the C files of the tests."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from programs import program

HERE = Path(__file__).parent
SOURCES = HERE.parent.parent / "native"


@pytest.fixture(scope="session")
def building() -> ModuleType:
    """native/build.py."""
    spec = importlib.util.spec_from_file_location("native_build", SOURCES / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def built(building: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    """Called with a target's name, and flags: its host, built once for all who run tests now; a warning is an error."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "hosts"
    folder.mkdir(exist_ok=True)

    def build(name: str, *flags: str) -> Path:
        target = next(each for each in building.TARGETS if each.name == name)
        place = folder / "-".join([name, *(flag.strip("-").replace(",", "-") for flag in flags)])
        place.mkdir(exist_ok=True)
        with (folder / f"{place.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            building.build(target, place, flags=("-Werror", *flags))
        return place / target.output

    return build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory):
    """Called with a C file's name below plugins, and a compiler: the library of it."""
    folder = tmp_path_factory.mktemp("libraries")

    def compiled(name: str, compiler: str = "cc") -> Path:
        output = folder / (f"{name}.so" if compiler == "cc" else f"{name}.dll")
        if not output.exists():
            source = HERE / "plugins" / f"{name}.c"
            flags = ["-shared", "-O1", "-w", *(["-fPIC"] if compiler == "cc" else [])]
            subprocess.run([program(compiler), *flags, str(source), "-o", str(output)], check=True)
        return output

    return compiled
