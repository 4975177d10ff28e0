"""Windows libraries on other systems: finds Wine, makes the prefix it runs in, and translates paths.

A prefix (Wine's registry and drive C:) costs some 700 MB and a quarter of a minute, so there is one for all plugins of
a user, made under a lock and named by Wine's version. A plugin that expects a drive or a registry of its own gets a
prefix that consists of links to that one, and of what it was given. Wine's server outlives the processes it serves; it
is started on its own before them, so that no plugin's limits are its limits.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import re
import shutil
from asyncio import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gatepost.plugins.host.binary import builtin_folders
from gatepost.plugins.loaded import PluginError

T = TypeVar("T")
log = logging.getLogger("gatepost.plugins.wine")

_LOADERS = ("wine64", "/usr/lib/wine/wine64", "/usr/lib64/wine/wine64", "wine", "/opt/wine-stable/bin/wine64")
_MAKE_S = 180.0  # for a prefix; usually it takes 15
_RUN_S = 30.0
_WAIT_S = 240.0  # for another process that makes the prefix
_STAYS_S = 30  # that the server stays when nobody uses it
_QUIET = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml=;winemenubuilder.exe,winedbg.exe=d"}
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY")
_OWN = ("system.reg", "user.reg", "userdef.reg", ".update-timestamp")
_IMPORTED = "imported"
_DEEPEST = 24  # folders within folders of a drive that is laid over another


class WineError(PluginError):
    """Wine isn't here, or can't do what it has to; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Windows:
    """What a plugin expects around it."""

    drive_c: Path | None = None
    """A folder whose content it finds in C:\\. What it writes into a subfolder of it, it writes there."""
    registry: Path | None = None
    """A .reg file with what it finds in the registry."""

    def __bool__(self) -> bool:
        return self.drive_c is not None or self.registry is not None


def path_there(path: str) -> str:
    """A path of ours as Windows programs know it: `Z:\\dev\\shm\\1.MAI`. WineError for one that has no such name."""
    if "\\" in path:
        raise WineError(f"{path} has a backslash in its name, so no Windows program can open it")
    return "Z:" + os.path.abspath(path).replace("/", "\\")  # noqa: PTH100  links stay


@dataclass(frozen=True, slots=True)
class Wine:
    """The Wine of this system."""

    loader: Path
    server: Path
    version: str

    def environment(self, prefix: Path) -> dict[str, str]:
        """The variables for programs in that prefix, beside whatever else they have."""
        return {"WINEPREFIX": str(prefix), "WINESERVER": str(self.server), **_QUIET}

    async def start_server(self, prefix: Path) -> None:
        """Let the prefix's server run, if it doesn't; it leaves some time after the last process that it serves.
        OSError."""
        await _run((str(self.server), f"-p{_STAYS_S}"), self.environment(prefix), timeout=_RUN_S)

    async def run(self, prefix: Path, *arguments: str, timeout: float = _RUN_S) -> int:
        """The exit status of a Windows program. OSError, TimeoutError."""
        return await _run((str(self.loader), *arguments), self.environment(prefix), timeout=timeout)


async def find_wine(bits: int) -> Wine:
    """Wine for 64-bit or 32-bit libraries. WineError says what to install."""
    loader = next((found for name in _LOADERS if (found := shutil.which(name))), None)
    if loader is None:
        raise WineError("a Windows library needs Wine, which isn't here: in Debian, apt-get install wine64")
    machine = "i386" if bits == 32 else "x86-64"
    if not has_machine(machine) and (bits == 32 or has_machine("i386")):  # where there is neither, they lie elsewhere
        what = "wine64" if bits == 64 else "wine32:i386 (after dpkg --add-architecture i386 && apt-get update)"
        otherwise = "; or ask for the plugin's 64-bit DLL" if bits == 32 else ""
        raise WineError(
            f"a {bits}-bit Windows library needs {bits}-bit Wine, which isn't here: in Debian, apt-get install {what}"
            f"{otherwise}"
        )
    server = _server_of(Path(loader))
    try:
        process = await asyncio.create_subprocess_exec(
            loader, "--version", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=_environment(_QUIET),
        )  # fmt: skip
        async with asyncio.timeout(_RUN_S):
            said, _ = await process.communicate()
    except (OSError, TimeoutError) as error:
        raise WineError(f"Wine ({loader}) doesn't start: {error}") from error
    if process.returncode:
        raise WineError(f"Wine ({loader}) doesn't start: it exits with {process.returncode}")
    return Wine(Path(loader), server, said.decode("utf-8", "replace").strip())


def has_machine(machine: str) -> bool:
    """Whether Wine's own libraries for "x86-64" or "i386" are here, all of them."""
    return any((folder / "ntdll.dll").is_file() for folder in builtin_folders(machine))


def cache_folder() -> Path:
    """Where prefixes are kept if nobody says so: the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatepost" / "wine"


async def find_prefix(wine: Wine, windows: Windows | None = None, *, folder: Path | None = None) -> Path:
    """The prefix to run in, made if there is none yet; with surroundings of its own if they are asked for.

    `folder` is where prefixes are kept. WineError.
    """
    folder = (folder or cache_folder()).absolute()
    surroundings = windows or Windows()
    _check(surroundings)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with _locked(folder / "lock"):
            shared = folder / _name_of(wine)
            if not shared.is_dir():
                await _make(wine, shared)
            return await _lay_over(wine, shared, folder, surroundings) if surroundings else shared
    except (OSError, TimeoutError) as error:
        raise WineError(f"Wine's prefix in {folder} can't be made: {error or type(error).__name__}") from error


def _check(windows: Windows) -> None:
    if windows.drive_c is not None and not windows.drive_c.is_dir():
        raise WineError(f"windows.drive_c = {windows.drive_c} is no folder")
    if windows.registry is not None and not windows.registry.is_file():
        raise WineError(f"windows.registry = {windows.registry} is no file")


def _name_of(wine: Wine) -> str:
    """A prefix belongs to a version of Wine, which would spend its first seconds updating another's."""
    halves = "-32" if has_machine("i386") else ""
    return re.sub(r"[^A-Za-z0-9.]+", "-", wine.version).strip("-")[:60] + halves


async def _make(wine: Wine, prefix: Path) -> None:
    """A new prefix, whole or not at all."""
    log.info("making Wine's prefix %s, once: it takes some 15 s and 700 MB", prefix)
    began = asyncio.get_running_loop().time()
    partial = prefix.with_name(prefix.name + ".partial")
    await _in_thread(shutil.rmtree, partial, True)
    partial.mkdir(mode=0o700)
    status = await wine.run(partial, "wineboot", "--init", timeout=_MAKE_S)
    await _run((str(wine.server), "-w"), wine.environment(partial), timeout=_MAKE_S)
    if not all((partial / part).exists() for part in (*_OWN, "drive_c/windows/system32/ntdll.dll", "dosdevices/z:")):
        raise WineError(f"wineboot (exit status {status}) has left no whole prefix in {partial}")
    partial.rename(prefix)
    log.info("Wine's prefix is made, in %.0f s", asyncio.get_running_loop().time() - began)


async def _lay_over(wine: Wine, shared: Path, folder: Path, windows: Windows) -> Path:
    """A prefix of links to the shared one, with these surroundings. Made once; brought up to date every time."""
    key = "\0".join(str(part and part.absolute()) for part in (windows.drive_c, windows.registry))
    prefix = folder / f"{shared.name}+{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    if not (prefix / _OWN[0]).is_file():
        await _in_thread(_begin, shared, prefix)
    over = None if windows.drive_c is None else windows.drive_c.absolute()
    await _in_thread(lay, shared / "drive_c", over, prefix / "drive_c")
    if windows.registry is not None:
        await _import(wine, prefix, windows.registry.absolute())
    return prefix


def _begin(shared: Path, prefix: Path) -> None:
    shutil.rmtree(prefix, ignore_errors=True)
    prefix.mkdir(mode=0o700)
    (prefix / "dosdevices").mkdir()
    (prefix / "dosdevices/c:").symlink_to("../drive_c")
    (prefix / "dosdevices/z:").symlink_to("/")
    for name in reversed(_OWN):  # the first of them last: it says that all are there
        shutil.copy2(shared / name, prefix / name)


async def _import(wine: Wine, prefix: Path, registry: Path) -> None:
    """The .reg file into the registry, again only when it has changed."""
    now, before = await _in_thread(_imported, prefix, registry)
    if now == before:
        return
    await wine.start_server(prefix)
    status = await wine.run(prefix, "regedit", "/S", path_there(str(registry)))
    if status:
        raise WineError(f"regedit couldn't import {registry}: it exits with {status}")
    (prefix / _IMPORTED).write_text(now, "ascii")


def _imported(prefix: Path, registry: Path) -> tuple[str, str]:
    """The registry file by its hash, as it is and as it was when it was imported last; "" if it never was."""
    done = prefix / _IMPORTED
    return hashlib.sha256(registry.read_bytes()).hexdigest(), done.read_text("ascii") if done.is_file() else ""


def lay(base: Path, over: Path | None, target: Path, depth: int = 0) -> None:
    """Make `target` show what is in `base` and `over`, by links; folders in both are made anew and hold both. Where a
    name is in both, as Windows compares names, `over` wins; what is in `target` already, and no link, stays."""
    target.mkdir(exist_ok=True)
    below, above = _names(base), {} if over is None else _names(over)
    for key in below.keys() | above.keys():
        lower, upper = below.get(key), above.get(key)
        place = target / (lower or upper or target).name
        if lower and upper and lower.is_dir() and upper.is_dir() and depth < _DEEPEST:
            if place.is_symlink():
                place.unlink()
            lay(lower, upper, place, depth + 1)
        elif (wanted := upper or lower) is not None:
            _link(place, wanted)


def _link(place: Path, wanted: Path) -> None:
    if place.is_symlink():
        if place.readlink() == wanted:
            return
        place.unlink()
    with suppress(FileExistsError):
        place.symlink_to(wanted)


def _names(folder: Path) -> dict[str, Path]:
    return {entry.name.casefold(): entry for entry in sorted(folder.iterdir(), reverse=True)}


def _server_of(loader: Path) -> Path:
    """The server beside the loader, or the one in the path."""
    for folder in (loader.parent, loader.resolve().parent):
        for name in ("wineserver", "wineserver64"):
            if os.access(folder / name, os.X_OK):
                return folder / name
    found = shutil.which("wineserver")
    if found is None:
        raise WineError(f"there is no wineserver for {loader}: in Debian, apt-get install wine64")
    return Path(found)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in _SCREENS and not key.startswith("GATEPOST_")}
    return kept | dict(more)


async def _run(command: tuple[str, ...], environment: Mapping[str, str], *, timeout: float) -> int:
    """The exit status of a program that says nothing to anybody. It is killed when its time is over: TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(environment),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout):
            return await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


@asynccontextmanager
async def _locked(file: Path) -> AsyncIterator[None]:
    """Nobody else of this machine is here meanwhile. TimeoutError."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        async with asyncio.timeout(_WAIT_S):
            while not _take(descriptor):  # noqa: ASYNC110  a lock of the system's tells nobody
                await asyncio.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
