"""Wine for tests: one prefix, made once, shared by every test and kept for the next run.

A test of a DLL is marked with `needs("x86_64-w64-mingw32-gcc", "wine64")`. A prefix takes a dozen seconds and 700 MB,
so it stands in the checkout (.wine, ignored; `make clean` removes it).
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

from programs import program

PREFIX = Path(__file__).parent.parent / ".wine" / "prefix"


def environment(prefix: Path = PREFIX) -> dict[str, str]:
    """The house's environment, for a program under Wine: no display, no words of Wine's own, no debugger."""
    kept = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}}
    dlls = "mscoree,mshtml,winemenubuilder.exe,winedbg.exe="
    return kept | {"WINEPREFIX": str(prefix), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": dlls}


def prefix() -> Path:
    """The prefix, made if it isn't there; only one of several callers makes it."""
    PREFIX.parent.mkdir(exist_ok=True)
    is_made = PREFIX.parent / "made"
    with (PREFIX.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_made.exists():
            made = subprocess.run(
                [program("wine64"), "wineboot", "--init"],
                env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=150, text=True,
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
            subprocess.run([program("wineserver64"), "-w"], env=environment(), timeout=60, check=True)
            is_made.touch()
    return PREFIX


def windows_path(path: Path) -> str:
    """How a program under Wine names a file."""
    return "Z:" + str(path).replace("/", "\\")
