"""Windows libraries on other systems: finds Wine, makes the prefix it runs in, and translates paths.

A prefix (Wine's registry and drive C:) costs some 700 MB and a quarter of a minute, so there is one for all plugins of
a user, made under a lock and named by Wine's version. A plugin that expects a drive or a registry of its own gets a
prefix that consists of links to that one, and of what it was given. Wine's server and services serve all processes of a
prefix, and are what the first of them starts: so that is one of ours (`Keeper`), which no plugin's limits limit, and
which stays as long as any of them is needed.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import re
import shutil
import stat
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gatepost.plugins.host import drive
from gatepost.plugins.host.binary import builtin_folders
from gatepost.plugins.host.confinement import Limits
from gatepost.plugins.host.launching import DIRECTLY, Command, Hosting, Starter
from gatepost.plugins.host.scratch import share
from gatepost.plugins.host.voice import Voice
from gatepost.plugins.loaded import PluginError
from gatepost.wire.host import VERSION, Hello, encode

T = TypeVar("T")
log = logging.getLogger("gatepost.plugins.wine")

_LOADERS = ("wine64", "/usr/lib/wine/wine64", "/usr/lib64/wine/wine64", "wine", "/opt/wine-stable/bin/wine64")
_MAKE_S = 180.0  # for a prefix; usually it takes 15
_RUN_S = 30.0
_LEAVE_S = 2.0
_SETTLES_S = 10.0
_WAIT_S = 240.0  # for another process that makes the prefix
_QUIET = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml=;winemenubuilder.exe,winedbg.exe=d"}
_SECRETS = "GATEPOST_"  # variables of the environment that are the server's
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY")
_DRIVE = (sys.executable, "-I", "-S", drive.__file__)
_FREE = Limits(address_space=None, open_files=None, file_size=None)


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
    """The Wine of this system, and whom it runs as."""

    loader: Path
    server: Path
    version: str
    starter: Starter = DIRECTLY

    def environment(self, prefix: Path) -> dict[str, str]:
        """All variables for programs in that prefix: ours, without the server's own secrets and any screen."""
        own = {"WINEPREFIX": str(prefix), "WINESERVER": str(self.server), **_QUIET}
        return {**_environment(), **self.starter.home, **own}

    async def run(self, prefix: Path, *arguments: str, timeout: float, settles: float) -> int:
        """The exit status of a Windows program, once its registry is written: when nothing of the prefix runs any more,
        or after `settles` seconds, if others do. OSError, TimeoutError."""
        environment = self.environment(prefix)

        async def settled() -> None:
            with suppress(TimeoutError):  # others use the prefix
                await _run(self.starter, (str(self.server), "-w"), environment, settles)

        return await _run(self.starter, (str(self.loader), *arguments), environment, timeout, settled)


class Keeper:
    """Keeps a prefix warm: a host that is asked nothing, and is there before any other. Closed once."""

    def __init__(self, wine: Wine, prefix: Path, host: Path, dialect: str) -> None:
        self._command = Command((str(wine.loader), str(host), dialect), wine.environment(prefix))
        self._dialect = dialect
        self._starter = wine.starter
        self._process: Hosting | None = None
        self._voice: Voice | None = None
        self._lock = asyncio.Lock()

    async def ready(self) -> None:
        """Return when it runs and Wine's server with it. OSError where that can't be."""
        async with self._lock:
            if self._process is None or self._process.exited.done():
                await self._leave()
                await self._start()

    async def close(self) -> None:
        """Nothing of ours keeps the prefix any more."""
        async with self._lock:
            await self._leave()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._process = process = self._starter.host(self._command, _FREE)
        self._voice = voice = Voice(log)
        await loop.connect_read_pipe(lambda: voice, os.fdopen(process.errors, "rb", 0))
        greeted = loop.create_task(self._greet(process))
        first: set[asyncio.Future[Any]] = {greeted, process.exited}
        await asyncio.wait(first, timeout=_RUN_S, return_when=asyncio.FIRST_COMPLETED)
        if not greeted.done() or not greeted.result():
            greeted.cancel()
            process.kill()
            await asyncio.wait({process.exited})
            voice.finish_reading(process.errors)
            await self._leave()
            said = f": {voice.last[-1][:200]}" if voice.last else ""
            raise OSError(f"Wine doesn't start{said}")

    async def _greet(self, process: Hosting) -> bytes:
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # it has ended
            await loop.sock_sendall(process.channel, encode(Hello(VERSION, self._dialect)))
            return await loop.sock_recv(process.channel, 1024)
        return b""

    async def _leave(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.channel.close()
        await asyncio.wait({process.exited}, timeout=_LEAVE_S)
        process.kill()
        await asyncio.wait({process.exited})
        if self._voice is not None:
            self._voice.close()


async def find_wine(bits: int, starter: Starter = DIRECTLY) -> Wine:
    """Wine for 64-bit or 32-bit libraries, to be run by `starter`. WineError says what to install."""
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
            loader, "--version", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=_environment() | _QUIET
        )
        async with asyncio.timeout(_RUN_S):
            said, _ = await process.communicate()
    except (OSError, TimeoutError) as error:
        raise WineError(f"Wine ({loader}) doesn't start: {error}") from error
    if process.returncode:
        raise WineError(f"Wine ({loader}) doesn't start: it exits with {process.returncode}")
    return Wine(Path(loader), server, said.decode("utf-8", "replace").strip(), starter)


def has_machine(machine: str) -> bool:
    """Whether Wine's own libraries for "x86-64" or "i386" are here, all of them."""
    return any((folder / "ntdll.dll").is_file() for folder in builtin_folders(machine))


def cache_folder() -> Path:
    """Where prefixes are kept if nobody says so: the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gatepost" / "wine"


async def find_prefix(wine: Wine, windows: Windows | None = None, *, folder: Path | None = None) -> Path:
    """The prefix to run in, made if there is none yet; with surroundings of its own if they are asked for.

    `folder` is where prefixes are kept, those of one user; a prefix belongs to whom `wine` runs as. WineError.
    """
    folder = (folder or cache_folder()).absolute()
    surroundings = windows or Windows()
    _check(surroundings)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not stat.S_ISDIR((found := folder.lstat()).st_mode) or found.st_uid != os.geteuid():
            raise WineError(f"{folder}, where Wine's prefixes are kept, belongs to somebody else; remove it")
        if (group := wine.starter.group) is not None:
            share(str(folder), group)
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
    await wine.starter.remove(partial)
    making = (shutil.which("mkdir") or "/bin/mkdir", "-m", "750", str(partial))  # by whom Wine runs as, or it won't
    if made := await _run(wine.starter, making, wine.environment(partial), _RUN_S):
        raise WineError(f"{partial} can't be made by whom plugins run as: exit status {made}")
    status = await wine.run(partial, "wineboot", "--init", timeout=_MAKE_S, settles=_MAKE_S)
    needed = (*drive.OWN, "drive_c/windows/system32/ntdll.dll", "dosdevices/z:")
    if not all((partial / part).exists() for part in needed):
        raise WineError(f"wineboot (exit status {status}) has left no whole prefix in {partial}")
    partial.rename(prefix)
    log.info("Wine's prefix is made, in %.0f s", asyncio.get_running_loop().time() - began)


async def _lay_over(wine: Wine, shared: Path, folder: Path, windows: Windows) -> Path:
    """A prefix of links to the shared one, with these surroundings. Made once; brought up to date every time."""
    key = "\0".join(str(part and part.absolute()) for part in (windows.drive_c, windows.registry))
    prefix = folder / f"{shared.name}+{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"
    over = () if windows.drive_c is None else (str(windows.drive_c.absolute()),)
    command = (*_DRIVE, str(prefix), str(shared), *over)
    if status := await _run(wine.starter, command, wine.environment(prefix), _RUN_S):
        raise WineError(
            f"windows.drive_c = {windows.drive_c} can't be laid over {shared}: {sys.executable} exits with {status}"
        )
    if windows.registry is not None:
        await _import(wine, prefix, windows.registry.absolute())
    return prefix


async def _import(wine: Wine, prefix: Path, registry: Path) -> None:
    """The .reg file into the registry, again only when it has changed."""
    done = prefix.with_name(f"{prefix.name}.registry")
    now, before = await _in_thread(_imported, done, registry)
    if now == before:
        return
    settles = 0.0 if wine.starter is DIRECTLY else _SETTLES_S  # a launcher ends the server with what has started it
    status = await wine.run(prefix, "regedit", "/S", path_there(str(registry)), timeout=_RUN_S, settles=settles)
    if status:
        raise WineError(f"regedit couldn't import {registry}: it exits with {status}")
    done.write_text(now, "ascii")


def _imported(done: Path, registry: Path) -> tuple[str, str]:
    """The registry file by its hash, as it is and as it was when it was imported last; "" if it never was."""
    return hashlib.sha256(registry.read_bytes()).hexdigest(), done.read_text("ascii") if done.is_file() else ""


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


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in _SCREENS and not key.startswith(_SECRETS)}


async def _run(
    starter: Starter,
    command: tuple[str, ...],
    environment: Mapping[str, str],
    timeout: float,
    then: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """The exit status of a program; nobody listens to it. `then` is awaited before what it has left behind is ended.
    It is killed when its time is over: TimeoutError. OSError."""
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123, ASYNC230  asks no disk
        program = starter.program(Command(command, environment, "/"), _FREE, nothing.fileno())
    try:
        async with asyncio.timeout(timeout):
            await asyncio.wait({program.died})
        if then is not None:
            await then()
        return program.reap()
    finally:
        if not program.exited.done():
            program.kill()
            await asyncio.wait({program.died})
            program.reap()
        os.close(program.output)  # not before: who writes there would be ended by it
        os.close(program.errors)


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
