"""Loads a MailEnable plugin: finds out what its library is, begins the host that can run it, and binds it.

A library of this system runs in the Linux host; a DLL in the Windows host, under Wine, or by itself where the system is
Windows. What the plugin knows about the server, it knows from the text it is passed at each call: so nothing is told
beside that, and its processes are each like the other.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.breaker import Breaker
from gatepost.hooks.session import ServerView
from gatepost.plugins.host import Backoff, Command, Crew, HostError, Limits, LoadRefused, Recipe
from gatepost.plugins.host.binary import MARKS, Library, NotALibrary, inspect, missing
from gatepost.plugins.host.confinement import MIB, confining
from gatepost.plugins.host.launching import DIRECTLY, Starter
from gatepost.plugins.host.native import host_path
from gatepost.plugins.host.wine import Keeper, Windows, find_prefix, find_wine, path_there
from gatepost.plugins.loaded import Loaded, PluginError, Wish, bind_stages, make_binding
from gatepost.plugins.mailenable.calling import Calling
from gatepost.plugins.mailenable.configuration import COMMANDS
from gatepost.plugins.mailenable.options import MailEnableOptions
from gatepost.wire.host import Load

DIALECT = "mailenable"
ROUTING_HEADERS = ("X-ME-Content", "X-ME-Spam", "X-ME-Bayesian")
"""Header fields by which a MailEnable server decides where in a mailbox mail goes. Others of that prefix are other
people's."""
MEMORY = 1024 * MIB
"""What a process may use under Wine, where nothing else is said."""

_SECRETS = "GATEPOST_"  # variables of the environment that are the server's, not the plugin's
_SHOWN = 8  # symbols named in an error
_OURS = {"AMD64": "x86-64", "x86_64": "x86-64", "i686": "i386", "ARM64": "arm64"}


@dataclass(slots=True)
class MailEnable(Loaded):
    """A plugin in processes of its own. It has some from the moment it is loaded: close it, whatever becomes of it."""

    crew: Crew = field(kw_only=True)
    keeper: Keeper | None = None
    """What keeps Wine warm for it."""

    async def open(self, server: ServerView) -> None:
        """Before the first connection; PluginError if its processes can't begin."""
        try:
            await self.crew.open({})
        except (HostError, LoadRefused, OSError) as error:
            raise PluginError(f'plugin "{self.name}" couldn\'t open: {error}') from error

    async def close(self) -> None:
        """After the last session; nothing of its processes is left."""
        try:
            errors = await self.crew.close()
        finally:
            if self.keeper is not None:
                await self.keeper.close()
        if errors:
            raise ExceptionGroup(f"plugin {self.name} couldn't be closed", errors)


async def load_mailenable(
    source: str | Path,
    *,
    name: str | None = None,
    wishes: Sequence[Wish] = (),
    env: Mapping[str, str] | None = None,
    options: MailEnableOptions | None = None,
    limits: Limits | None = None,
    starter: Starter = DIRECTLY,
    processes: int = 2,
    message_size: int = 0,
    scratch: Path | None = None,
    windows: Windows | None = None,
    prefixes: Path | None = None,
    load_s: float = 30.0,
    grace_s: float = 1.0,
    stop_s: float = 5.0,
    backoff: Backoff | None = None,
) -> MailEnable:
    """The plugin in the library at `source`: a shared object of this system, or a Windows DLL.

    `env` is added to its environment. `limits` are each process's; under Wine, which needs much address space, that
    limit means memory really used. `starter` says whom they run as. `message_size`: the most octets of a message it
    rewrites (0: no limit). `windows` and `prefixes` (where Wine's prefixes are kept, those of one user) concern DLLs
    only. The times are as in `load_isolated`. PluginError says what is wrong.
    """
    file = Path(os.path.abspath(source))  # noqa: ASYNC240, PTH100  asks no disk
    name = name or file.stem
    options = options or MailEnableOptions()
    keeper: Keeper | None = None
    try:
        library = await _in_thread(_examined, file)
        recipe = Recipe(
            Command(()), DIALECT, Load("", "", {}), limits or Limits(), scratch, load_s=load_s, starter=starter
        )
        if library.format == "pe" and sys.platform != "win32":
            recipe, keeper = await _on_wine(recipe, library, options, env or {}, limits, windows, prefixes)
        else:
            recipe = _here(recipe, library, options, env or {}, windows)
    except PluginError as error:
        raise PluginError(f'plugin "{name}": {error}') from error
    crew = Crew(name, recipe, processes=processes, grace_s=grace_s, stop_s=stop_s, backoff=backoff)
    loaded = MailEnable(name, str(source), DIALECT, crew=crew, keeper=keeper)
    try:
        await crew.load()
        _bind(loaded, wishes, options, message_size)
    except PluginError:
        await loaded.close()
        raise
    except (HostError, LoadRefused, OSError, ValueError) as error:
        await loaded.close()
        lacking = await _in_thread(_lacking, library)
        raise PluginError(f'plugin "{name}" ({file}) can\'t be loaded: {error}{lacking}') from error
    except BaseException:
        await loaded.close()
        raise
    return loaded


def _bind(loaded: MailEnable, wishes: Sequence[Wish], options: MailEnableOptions, message_size: int) -> None:
    calling = Calling(loaded.crew, options, message_size)
    calling.loaded = loaded
    bind_stages(loaded, dict.fromkeys(COMMANDS, calling), wishes)
    decides = any(binding.stage is stages.Message and not binding.shadow for binding in loaded.bindings)
    if options.strip_routing_headers and decides:
        words = {"priority": 0, "always": True}
        loaded.bindings.append(make_binding(loaded.name, stages.Headers, strip_routing, words, Wish(), Breaker()))


def strip_routing(event: stages.Headers) -> None:
    """The hook that removes routing header fields from what comes from outside, before anybody sees the message."""
    if b"x-me-" not in event.message.blob.read().lower():  # which is nearly all mail
        return
    for header in ROUTING_HEADERS:
        if header in event.message.headers:
            event.delete_header(header)


# ── which host ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _examined(file: Path) -> Library:
    """What the library is. PluginError if it is none, or none of this dialect."""
    if not file.exists():
        raise PluginError(f"there is no file {file}")
    try:
        library = inspect(file)
    except (NotALibrary, OSError) as error:
        raise PluginError(f"{file} is no library: {error}") from error
    if not library.is_library:
        raise PluginError(f"{file} is a program, not a library")
    if not set(MARKS["mailenable"]) & set(library.exports):
        some = ", ".join(library.exports[:_SHOWN]) or "nothing"
        raise PluginError(f"{file} has no function Execute, which every MailEnable plugin exports; it exports {some}")
    return library


def _here(
    recipe: Recipe, library: Library, options: MailEnableOptions, env: Mapping[str, str], windows: Windows | None
) -> Recipe:
    """The recipe for a library of this system. PluginError if it is one of another."""
    file = library.path
    if windows:
        raise PluginError("windows = { … } is for DLLs that run under Wine, and this one doesn't")
    if library.format == "elf" and sys.platform == "win32":  # pragma: no cover  nobody runs this there
        raise PluginError(f"{file} is a library for Unix")
    if (machine := _OURS.get(platform.machine(), platform.machine())) != library.machine:
        raise PluginError(f"{file} is for {library.machine}, and this machine is {machine}")
    host = host_path("linux" if library.format == "elf" else "win64")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(_SECRETS)}
    return replace(
        recipe,
        command=Command((str(host), DIALECT), {**environment, **recipe.starter.home, **env}),
        load=Load("", str(file), _properties(options, str(file.parent))),
    )


async def _on_wine(
    recipe: Recipe,
    library: Library,
    options: MailEnableOptions,
    env: Mapping[str, str],
    limits: Limits | None,
    windows: Windows | None,
    prefixes: Path | None,
) -> tuple[Recipe, Keeper]:
    """The recipe for a DLL, and what keeps Wine warm for it. PluginError where Wine can't run it."""
    file, bits = library.path, _bits(library)
    host, wine = host_path("win64" if bits == 64 else "win32"), await find_wine(bits, recipe.starter)
    load = Load("", path_there(str(file)), _properties(options, path_there(str(file.parent))))
    prefix = await find_prefix(wine, windows, folder=prefixes)
    keeper = Keeper(wine, prefix, host, DIALECT)
    within = replace(limits or Limits(), address_space=None)
    confined = confining(within) if recipe.starter is DIRECTLY else ()  # a launcher does as much
    made = replace(
        recipe,
        command=Command((*confined, str(wine.loader), str(host), DIALECT), {**wine.environment(prefix), **env}),
        load=load,
        limits=within,
        path_there=path_there,
        resident=MEMORY if limits is None else limits.address_space,
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


def _properties(options: MailEnableOptions, folder: str) -> dict[str, Any]:
    return {"threads": options.threads, "response": options.response_size, "folder": folder}


def _lacking(library: Library) -> str:
    """What may be why it can't be loaded, as the rest of a sentence."""
    names = missing(library)
    return f"; it needs {', '.join(names)}, which can't be found" if names else ""


async def _in_thread(work: Any, *arguments: object) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)
