"""Where the built hosts are: the programs of native/ that run plugins which are shared libraries.

They are built when the package is installed from source where there is a compiler, by `make native`, and come with a
wheel. They stand beside this file, in `built`, and need nothing but the system's C library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gatepost.plugins.loaded import PluginError

Target = Literal["linux", "win64", "win32"]
BUILT = Path(__file__).parent / "built"
HEADER = "gatepost_sinks.h"
_SOURCES = Path(__file__).parents[4] / "native"
_FILES: dict[Target, tuple[str, str]] = {
    "linux": ("gatepost-host", "gcc libc6-dev"),
    "win64": ("gatepost-host-win64.exe", "gcc-mingw-w64-x86-64"),
    "win32": ("gatepost-host-win32.exe", "gcc-mingw-w64-i686"),
}


class HostMissing(PluginError):
    """The host for such plugins isn't in this installation; the text says what to do."""


def host_path(target: Target) -> Path:
    """The host that loads libraries of this system: `linux` for ELF, `win64` and `win32` for DLLs. HostMissing."""
    file, packages = _FILES[target]
    path = BUILT / file
    if not path.is_file():
        raise HostMissing(
            f"{file}, the program that runs such plugins, isn't in this installation: install a wheel of Gatepost, "
            f"or a compiler (in Debian: apt-get install {packages}) and run `make native` in Gatepost's folder"
        )
    return path


def headers() -> Path | None:
    """The folder with the headers that event sinks are compiled against: installed beside the hosts, or where Gatepost
    runs from its sources. None where there are none.
    """
    return next((folder for folder in (BUILT, _SOURCES) if (folder / HEADER).is_file()), None)
