"""Builds the plugin hosts of this folder into the package, for each system there is a compiler for.

    python native/build.py            what is missing or older than its sources
    python native/build.py --all      all of them anew

Run by `make native`, and by hatch_build.py when the package is installed or a wheel is made. The standard library only.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
BUILT = SOURCES.parent / "src" / "gatepost" / "plugins" / "host" / "built"
WARNINGS = ("-Wall", "-Wextra")
FLAGS = ("-std=gnu11", "-O2")


@dataclass(frozen=True)
class Target:
    """A system that a host is built for."""

    name: str
    output: str
    compiler: str
    package: str
    """Debian's name of what has the compiler."""
    flags: tuple[str, ...]

    def command(self) -> list[str] | None:
        """The compiler, with its flags; None where there is none."""
        words = shlex.split(os.environ.get("CC", "cc")) if self.compiler == "cc" else [self.compiler]
        return [*words, *FLAGS, *WARNINGS] if words and shutil.which(words[0]) else None

    def sources(self) -> list[Path]:
        """The files to compile: IndiMail's plugins need fork, which Windows doesn't have."""
        is_windows = self.output.endswith(".exe")
        return sorted(each for each in SOURCES.glob("*.c") if not (is_windows and each.name.startswith("indimail")))


TARGETS = (
    Target("linux", "gatepost-host", "cc", "gcc libc6-dev", ("-pthread", "-ldl")),
    Target(
        "win64",
        "gatepost-host-win64.exe",
        "x86_64-w64-mingw32-gcc",
        "gcc-mingw-w64-x86-64",
        ("-static", "-s", "-luuid"),
    ),
    Target(
        "win32", "gatepost-host-win32.exe", "i686-w64-mingw32-gcc", "gcc-mingw-w64-i686", ("-static", "-s", "-luuid")
    ),
)


HEADERS = ("gatepost_sinks.h", "gatepost_sinks_com.h", "gatepost_sinks_values.h")
"""What authors of event sinks compile against; it is installed with the package."""


class BuildFailed(RuntimeError):
    """The compiler refused; its own words."""


def build(target: Target, folder: Path = BUILT, *, anew: bool = False, flags: tuple[str, ...] = ()) -> str:
    """Builds it if it is missing or older than a source; says in a line what was done, or why nothing was.

    `flags` are added to the compiler's. Raises BuildFailed.
    """
    output = folder / target.output
    command = target.command()
    if command is None:
        return (
            f"{target.output}: not built, no {target.compiler} here "
            f"(in Debian: apt-get install {target.package}; then: make native)"
        )
    inputs = [*SOURCES.glob("*.[ch]"), Path(__file__)]
    if not anew and output.exists() and output.stat().st_mtime > max(each.stat().st_mtime for each in inputs):
        return f"{target.output}: as new as its sources"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:  # whoever runs the old one isn't disturbed
            made = Path(beside) / target.output
            arguments = [*command, *flags, *map(str, target.sources()), "-o", str(made), *target.flags]
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603  our own command
            if done.returncode != 0:
                raise BuildFailed(f"{target.output}: {target.compiler} failed\n{done.stderr}")
            sys.stderr.write(done.stderr)
            made.replace(output)
    except OSError as error:
        raise BuildFailed(f"{target.output}: {error}") from error
    return f"{target.output}: built"


def copy_headers(folder: Path = BUILT) -> list[Path]:
    """Puts the headers beside the hosts, where they are older or missing; where they are then."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = [folder / name for name in HEADERS]
    for copy in copies:
        octets = (SOURCES / copy.name).read_bytes()
        if not copy.exists() or copy.read_bytes() != octets:
            copy.write_bytes(octets)
    return copies


def main() -> int:
    """Builds what can be built; 1 if a compiler refused."""
    status = 0
    copy_headers()
    for target in TARGETS:
        try:
            print(build(target, anew="--all" in sys.argv[1:]))  # noqa: T201
        except BuildFailed as failed:
            print(failed, file=sys.stderr)  # noqa: T201
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
