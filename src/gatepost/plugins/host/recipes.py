"""Which host runs a native library, and how: found out from the library's file, before anything of it runs.

A library of this system runs in the Linux host; a DLL in the Windows host, under Wine, or by itself where the system is
Windows. The dialects whose plugins are libraries of either kind begin here.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gatepost.plugins.host.binary import MARKS, Dialect, Library, NotALibrary, dialect_of, inspect, missing
from gatepost.plugins.host.confinement import MIB, Limits, confining
from gatepost.plugins.host.launching import DIRECTLY, Command, Starter
from gatepost.plugins.host.life import Recipe
from gatepost.plugins.host.native import host_path
from gatepost.plugins.host.wine import Keeper, Windows, find_prefix, find_wine, path_there
from gatepost.plugins.loaded import PluginError
from gatepost.wire.host import Load

MEMORY = 1024 * MIB
"""What a process may use under Wine, where nothing else is said."""

_SECRETS = "GATEPOST_"  # variables of the environment that are the server's, not the plugin's
_SHOWN = 8  # symbols named in an error
_OURS = {"AMD64": "x86-64", "x86_64": "x86-64", "i686": "i386", "ARM64": "arm64"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a library runs in, as settings say."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Added to its environment."""
    limits: Limits | None = None
    """Each process's; under Wine, which needs much address space, that limit means memory really used."""
    scratch: Path | None = None
    load_s: float = 30.0
    starter: Starter = DIRECTLY
    """Whom it runs as."""
    windows: Windows | None = None
    """For DLLs that run under Wine: what they find there."""
    prefixes: Path | None = None
    """Where Wine's prefixes are kept, those of one user."""


def examine(file: Path, dialect: Dialect, kind: str) -> Library:
    """What the library is. PluginError if it is none, or none of this dialect; `kind` is what those are called, "COM
    class". Reads the disk.
    """
    if not file.exists():
        raise PluginError(f"there is no file {file}")
    try:
        library = inspect(file)
    except (NotALibrary, OSError) as error:
        raise PluginError(f"{file} is no library: {error}") from error
    if not library.is_library:
        raise PluginError(f"{file} is a program, not a library")
    marks = MARKS[dialect]
    if not set(marks) & set(library.exports):
        some = ", ".join(library.exports[:_SHOWN]) or "nothing"
        instead = _instead(library, marks[0])
        raise PluginError(f"{file} has no function {marks[0]}, which every {kind} exports; it exports {some}{instead}")
    return library


def _instead(library: Library, mark: str) -> str:
    """What the library is instead, as the rest of a sentence."""
    if any(mark in name for name in library.exports):
        return f'; {mark} has to be declared extern "C", so that it keeps its plain name'
    if library.managed:
        return "; it is a .NET assembly, which needs a runtime that isn't here"
    other = dialect_of(library)
    return "" if other is None else f'; it is one for dialect = "{other}"'


async def native_recipe(
    library: Library, dialect: Dialect, properties: Callable[[str], dict[str, Any]], around: Surroundings
) -> tuple[Recipe, Keeper | None]:
    """How its host begins, and what keeps Wine warm for it, if that is needed. `properties` are told at its load; they
    are made from the folder it lies in, as its process calls it. PluginError where it can't be run.
    """
    recipe = Recipe(
        Command(()),
        dialect,
        Load("", "", {}),
        around.limits or Limits(),
        around.scratch,
        load_s=around.load_s,
        starter=around.starter,
    )
    if library.format == "pe" and sys.platform != "win32":
        return await _on_wine(recipe, library, properties, around)
    return _here(recipe, library, properties, around), None


def lacking(library: Library) -> str:
    """What may be why it can't be loaded, as the rest of a sentence. Reads the disk."""
    names = missing(library)
    return f"; it needs {', '.join(names)}, which can't be found" if names else ""


async def in_thread(work: Any, *arguments: object) -> Any:
    """What reads the disk, beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def _here(
    recipe: Recipe, library: Library, properties: Callable[[str], dict[str, Any]], around: Surroundings
) -> Recipe:
    """For a library of this system. PluginError if it is one of another."""
    file = library.path
    if around.windows:
        raise PluginError("windows = { … } is for DLLs that run under Wine, and this one doesn't")
    if library.format == "elf" and sys.platform == "win32":  # pragma: no cover  nobody runs this there
        raise PluginError(f"{file} is a library for Unix")
    if (machine := _OURS.get(platform.machine(), platform.machine())) != library.machine:
        raise PluginError(f"{file} is for {library.machine}, and this machine is {machine}")
    host = host_path("linux" if library.format == "elf" else "win64")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_SECRETS)}
    return replace(
        recipe,
        command=Command((str(host), recipe.dialect), {**environment, **recipe.starter.home, **around.env}),
        load=Load("", str(file), properties(str(file.parent))),
    )


async def _on_wine(
    recipe: Recipe, library: Library, properties: Callable[[str], dict[str, Any]], around: Surroundings
) -> tuple[Recipe, Keeper]:
    """For a DLL, and what keeps Wine warm for it. PluginError where Wine can't run it."""
    file, bits = library.path, _bits(library)
    host, wine = host_path("win64" if bits == 64 else "win32"), await find_wine(bits, recipe.starter)
    load = Load("", path_there(str(file)), properties(path_there(str(file.parent))))
    prefix = await find_prefix(wine, around.windows, folder=around.prefixes)
    keeper = Keeper(wine, prefix, host, recipe.dialect)
    within = replace(recipe.limits, address_space=None)
    confined = confining(within) if recipe.starter is DIRECTLY else ()  # a launcher does as much
    made = replace(
        recipe,
        command=Command(
            (*confined, str(wine.loader), str(host), recipe.dialect), {**wine.environment(prefix), **around.env}
        ),
        load=load,
        limits=within,
        path_there=path_there,
        resident=MEMORY if around.limits is None else around.limits.address_space,
        ready=keeper.ready,
    )
    return made, keeper


def _bits(library: Library) -> int:
    """32 or 64; PluginError for a machine there is no host for."""
    match library.machine:
        case "x86-64":
            return 64
        case "i386":
            return 32
        case machine:
            raise PluginError(f"{library.path} is for Windows on {machine}; x86-64 and i386 can be run")
