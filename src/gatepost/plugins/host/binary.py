"""What a native library is and whether it could run here, found without loading it: its code never runs.

`inspect` reads ELF and PE files, `dialect_of` names the dialect by what is exported, `missing` tells the needed
libraries that the loader wouldn't find, `unresolved` the symbols that nobody has. All of
it looks at files, and at `ldconfig`, so it isn't for the event loop.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal

from gatepost.plugins.host.elf import MAGIC as ELF_MAGIC
from gatepost.plugins.host.elf import read_elf
from gatepost.plugins.host.library import Export, Import, Library
from gatepost.plugins.host.octets import NotALibrary, opened
from gatepost.plugins.host.pe import MAGIC as PE_MAGIC
from gatepost.plugins.host.pe import read_pe

__all__ = [
    "MARKS",
    "Dialect",
    "Export",
    "Import",
    "Library",
    "NotALibrary",
    "builtin_folders",
    "dialect_of",
    "inspect",
    "lies_beside",
    "missing",
    "unresolved",
]

Dialect = Literal["mailenable", "indimail", "indimail-queue", "sink"]

MARKS: Mapping[Dialect, tuple[str, ...]] = {
    "mailenable": ("Execute", "_Execute@8", "Execute@8"),
    "indimail": ("plugin_init",),
    "indimail-queue": ("virusscan",),
    "sink": ("DllGetClassObject", "_DllGetClassObject@12", "DllGetClassObject@12"),
}
"""What a library of each dialect exports; as stdcall and the linkers of 32-bit Windows decorate it, too."""

_ONLY: Mapping[Dialect, str] = {"indimail": "elf", "indimail-queue": "elf"}
_OTHER_FILES = {
    b"!<arch>\n": "an archive of object files; link it: cc -shared",
    b"\xcf\xfa\xed\xfe": "a macOS library",
    b"\xca\xfe\xba\xbe": "a macOS library, or a Java class",
    b"/* GNU ld": "a linker script, not the library itself",
    b"PK\x03\x04": "a zip archive",
    b"#!": "a script",
}
_STANDARD_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib32", "/usr/lib32", "/usr/local/lib")
_WINE_FOLDERS = ("/usr/lib/*/wine", "/usr/lib/wine", "/usr/lib64/wine", "/usr/local/lib*/wine", "/opt/wine*/lib*/wine")
_WINE_NAMES = {"x86-64": "x86_64-windows", "i386": "i386-windows", "arm64": "aarch64-windows"}
_OF_WINDOWS = frozenset({
    "advapi32", "bcrypt", "cabinet", "comctl32", "comdlg32", "crypt32", "dbghelp", "dnsapi", "gdi32", "imm32",
    "iphlpapi", "kernel32", "kernelbase", "mpr", "mscoree", "msvcrt", "msxml3", "mswsock", "netapi32", "ntdll", "ole32",
    "oleaut32", "psapi", "rpcrt4", "secur32", "setupapi", "shell32", "shlwapi", "ucrtbase", "user32", "userenv",
    "version", "wininet", "winhttp", "winmm", "winspool.drv", "wintrust", "wldap32", "ws2_32", "wsock32",
})  # fmt: skip
_API_SETS = ("api-ms-win-", "ext-ms-win-")
_MAX_LIBRARIES = 128
_MAX_LISTED = 20_000
_LDCONFIG_S = 10.0


def inspect(path: str | os.PathLike[str]) -> Library:
    """The library or program at `path`. NotALibrary says in one clause what the file is instead."""
    file = Path(path)
    with opened(file) as octets:
        begin = octets.at(0, min(octets.size, 16), "its beginning")
        if begin.startswith(ELF_MAGIC):
            return replace(read_elf(octets), path=file.absolute())
        if begin.startswith(PE_MAGIC):
            return replace(read_pe(octets), path=file.absolute())
    if not begin:
        raise NotALibrary("it is empty")
    what = next((what for magic, what in _OTHER_FILES.items() if begin.startswith(magic)), "")
    raise NotALibrary(f"it is {what}" if what else "it is neither an ELF nor a PE file")


def dialect_of(library: Library) -> Dialect | None:
    """The dialect that its exports are those of, the first of MARKS if of several; None if they are nobody's."""
    if not library.is_library:
        return None
    names = frozenset(library.exports)
    for dialect, marks in MARKS.items():
        if _ONLY.get(dialect, library.format) == library.format and not names.isdisjoint(marks):
            return dialect
    return None


def missing(
    library: Library,
    *,
    folders: Sequence[str | os.PathLike[str]] = (),
    prefix: Path | None = None,
    builtin: Sequence[Path] | None = None,
) -> tuple[str, ...]:
    """The needed libraries that the loader wouldn't find, those of the libraries found beside it included.

    ELF: looked for in `folders` (what LD_LIBRARY_PATH would say), the run path, the loader's cache and the standard
    folders; not beside the file, where the loader doesn't look either (see `lies_beside`). PE: beside the file, in
    `folders`, in Windows's own folder of the Wine prefix, and among Wine's own (`builtin`; None: where that is
    installed; where that holds none, Windows's commonest are taken to be there).
    """
    if library.format == "elf":
        return _followed(library, _ElfSearch(library, folders))[0]
    return _followed(library, _PeSearch(library, folders, prefix, builtin))[0]


def unresolved(library: Library, *, folders: Sequence[str | os.PathLike[str]] = ()) -> tuple[str, ...]:
    """ELF: the symbols that neither it nor any library it needs has, so that loading it would fail, or calling them.

    () if a needed library is missing: then nobody knows.
    """
    if library.format != "elf" or not library.is_library:
        return ()
    lacking, found = _followed(library, _ElfSearch(library, folders))
    if lacking or len(found) >= _MAX_LIBRARIES:
        return ()
    there = frozenset(name for one in (library, *found) for name in one.exports)
    return tuple(name for name in library.undefined if name not in there)


def lies_beside(library: Library, name: str) -> bool:
    """Whether a file of that name lies beside the library; in any case, where the library is Windows's."""
    return _find_in(library.path.parent, name, exact=library.format == "elf") is not None


def builtin_folders(machine: str) -> tuple[Path, ...]:
    """Where Wine keeps its own libraries for that machine; () without Wine, or without that half of it."""
    name = _WINE_NAMES.get(machine)
    if name is None:
        return ()
    found = (folder / name for pattern in _WINE_FOLDERS for folder in sorted(Path("/").glob(pattern.removeprefix("/"))))
    return tuple(folder for folder in found if folder.is_dir())


def _followed(library: Library, search: _ElfSearch | _PeSearch) -> tuple[tuple[str, ...], list[Library]]:
    """What isn't found, wherever it is first asked for, and what was found and read: breadth first, as loaders do."""
    lacking: dict[str, None] = {}
    found: list[Library] = []
    seen: set[str] = set()
    waiting = [library]
    while waiting and len(found) < _MAX_LIBRARIES:
        one = waiting.pop(0)
        for wanted in one.imports:
            key = wanted.library if library.format == "elf" else wanted.library.lower()
            if key in seen:
                continue
            seen.add(key)
            where = search.find(wanted.library, one)
            if where is None:
                lacking[wanted.library] = None
            elif isinstance(where, Library):
                found.append(where)
                waiting.append(where)
    return tuple(lacking), found


class _ElfSearch:
    """ld.so(8): the run path, LD_LIBRARY_PATH, the cache, the standard folders; files for another machine are passed
    over."""

    def __init__(self, library: Library, folders: Sequence[str | os.PathLike[str]]) -> None:
        self._kind = (library.machine, library.bits, library.byte_order)
        self._folders = [Path(folder) for folder in folders]

    def find(self, name: str, of: Library) -> Library | bool | None:
        """The library, which has to be looked at too; True where it needn't be; None where there is none."""
        if "/" in name:
            return self._fitting(Path(name))
        folders = (*self._run_path(of), *self._folders)
        known = (folder / name for folder in folders), map(Path, _loader_cache().get(name, ())), _standard_files(name)
        return next((found for file in chain.from_iterable(known) if (found := self._fitting(file))), None)

    def _run_path(self, of: Library) -> Iterator[Path]:
        lib = "lib64" if of.bits == 64 else "lib"
        for one in of.rpath:
            text = one
            for name, value in (("ORIGIN", str(of.path.parent)), ("LIB", lib), ("PLATFORM", "")):
                text = text.replace(f"${{{name}}}", value).replace(f"${name}", value)
            yield Path(text)

    def _fitting(self, file: Path) -> Library | None:
        try:
            found = inspect(file)
        except NotALibrary:
            return None
        return found if (found.machine, found.bits, found.byte_order) == self._kind else None


class _PeSearch:
    """Beside the file, then where Windows keeps its own, by names in any case."""

    def __init__(
        self,
        library: Library,
        folders: Sequence[str | os.PathLike[str]],
        prefix: Path | None,
        builtin: Sequence[Path] | None,
    ) -> None:
        self._machine = library.machine
        self._own = [library.path.parent, *(Path(folder) for folder in folders)]
        self._system = [] if prefix is None else list(_system_folders(prefix, library.bits))
        wine = builtin_folders(library.machine) if builtin is None else builtin
        self._system += wine
        self._has_wine = any(_find_in(folder, "ntdll.dll", exact=False) for folder in wine)

    def find(self, name: str, of: Library) -> Library | bool | None:
        """As _ElfSearch.find. A name without a suffix means ".dll", as LoadLibrary has it."""
        name = name if "." in name else f"{name}.dll"
        for folder in self._own:
            if file := _find_in(folder, name, exact=False):
                try:
                    found = inspect(file)
                except NotALibrary:
                    continue
                if found.machine == self._machine:
                    return found
        if any(_find_in(folder, name, exact=False) for folder in self._system):
            return True
        low = name.lower()
        if low.startswith(_API_SETS):
            return True  # no files: Windows and Wine know whose functions they stand for
        is_windows = low.removesuffix(".dll") in _OF_WINDOWS
        return True if is_windows and not self._has_wine else None


def _system_folders(prefix: Path, bits: int) -> Iterator[Path]:
    windows = prefix / "drive_c" / "windows"
    has_both = (windows / "syswow64").is_dir()
    yield windows / ("syswow64" if bits == 32 and has_both else "system32")
    yield windows


def _find_in(folder: Path, name: str, *, exact: bool) -> Path | None:
    """The file of that name in a folder; None where there is none, or the name leads elsewhere."""
    if not name or "/" in name or "\\" in name:
        return None
    if (file := folder / name).is_file():
        return file
    return None if exact else _names_in(folder).get(name.lower())


def _names_in(folder: Path) -> dict[str, Path]:
    try:
        with os.scandir(folder) as entries:
            return {
                entry.name.lower(): folder / entry.name for entry, _ in zip(entries, range(_MAX_LISTED), strict=False)
            }
    except OSError:
        return {}


def _standard_files(name: str) -> Iterator[Path]:
    for folder in _STANDARD_FOLDERS:
        yield Path(folder, name)
    for base in ("/lib", "/usr/lib"):
        yield from (folder / name for folder in Path(base).glob("*-linux-*") if folder.is_dir())


@lru_cache(maxsize=1)
def _loader_cache() -> Mapping[str, tuple[str, ...]]:
    """What ld.so's cache knows: files by name. Empty where there is no such program."""
    program = shutil.which("ldconfig", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if program is None:
        return {}
    try:
        said = subprocess.run(  # noqa: S603  a program of the system's, without input
            [program, "-p"], capture_output=True, timeout=_LDCONFIG_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for line in said.decode("utf-8", "replace").splitlines():
        name, arrow, file = line.strip().partition(" => ")
        if arrow:
            key = name.partition(" ")[0]
            found[key] = (*found.get(key, ()), file)
    return found
