"""Makes a plugin of a command line: looks the program up, checks what is asked of it, binds it (to `message`)."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gatepost.hooks.session import ServerView
from gatepost.hooks.stages import Event, Expanded, Message, Submitted
from gatepost.hooks.verdicts import Verdict
from gatepost.plugins.host.confinement import Limits
from gatepost.plugins.host.launching import DIRECTLY, Starter
from gatepost.plugins.loaded import Exchange, Loaded, PluginError, Wish, bind_stages
from gatepost.plugins.program.envelope import base_environment
from gatepost.plugins.program.modes import Asking
from gatepost.plugins.program.options import ProgramOptions
from gatepost.plugins.program.running import Runner

PROCESSES = 20
"""Programs of one plugin that run beside each other, where nobody says another number."""
LATER = (Submitted, Expanded)
"""Where a program is asked only if settings say so: what it refuses there its sender hears of by a report."""
PROGRAM_LIMITS = Limits(processes=1024)
"""Of each program, where nobody says others."""


@dataclass(slots=True)
class LoadedProgram(Loaded):
    """A program as a plugin. Nothing of it runs but while it is asked."""

    runner: Runner = field(kw_only=True)

    async def open(self, server: ServerView) -> None:
        """Make its folders; PluginError if that can't be."""
        try:
            self.runner.open()
        except OSError as error:
            raise PluginError(f'plugin "{self.name}": no folder for its files can be made: {error}') from error

    async def close(self) -> None:
        """End what runs still, and leave nothing."""
        await self.runner.close()


async def load_program(
    source: str,
    *,
    name: str | None = None,
    wishes: Sequence[Wish] = (),
    env: Mapping[str, str] | None = None,
    options: ProgramOptions | None = None,
    limits: Limits | None = None,
    starter: Starter = DIRECTLY,
    scratch: Path | None = None,
    folder: Path | None = None,
    processes: int = PROCESSES,
) -> Loaded:
    """The program whose command line is `source`, split into words as a shell would and given to no shell (but with
    `options.shell`); at most `processes` run beside each other, and waiting for one counts as the program's own time.

    `folder` is where it works and what paths are relative to; `env` stands over the house's own environment;
    `starter` says whom it runs as. Files are made in `scratch`. PluginError says what is wrong.
    """
    options = options or ProgramOptions()
    if not isinstance(source, str) or not source.strip():
        raise PluginError("a program's source is a command line")
    named = name or _name(source)
    base = base_environment(env or {})
    try:
        commands = _commands(source, options, base.get("PATH"), folder)
        if processes < 1:
            raise PluginError("at least one program must be allowed to run")
    except PluginError as error:
        raise PluginError(f'plugin "{named}": {error}') from None
    given = limits or PROGRAM_LIMITS
    if given.processes is None:
        given = replace(given, processes=PROGRAM_LIMITS.processes)
    runner = Runner(named, limits=given, most=processes, starter=starter, scratch=scratch, folder=folder)
    loaded = LoadedProgram(named, source, "program", runner=runner)

    def tell(exchange: Exchange) -> None:
        if loaded.on_exchange is not None:
            loaded.on_exchange(exchange)

    asking = Asking(named, commands, {**base, **starter.home, **(env or {})}, options, runner, tell)
    hooks: dict[type[Event], Callable[[Message], Awaitable[Verdict]]] = dict.fromkeys((Message, *LATER), asking.message)
    bind_stages(loaded, hooks, wishes, only_if_named=LATER)
    return loaded


def _commands(source: str, options: ProgramOptions, path: str | None, folder: Path | None) -> list[tuple[str, ...]]:
    if options.shell:
        if options.mode == "pickup":
            return [("/bin/sh", "-c", f'{source} "$@"', "sh")]
        return [("/bin/sh", "-c", source)]
    try:
        words = shlex.split(source)
    except ValueError as error:
        raise PluginError(f"{source!r} can't be split into words: {error}") from error
    chain: list[list[str]] = [[]]
    for word in words:
        if word == "--" and options.mode == "qfilter":
            chain.append([])
        else:
            chain[-1].append(word)
    if not all(chain):
        raise PluginError(f"{source!r} has nothing where a filter should be")
    return [(_found(first, path, folder), *rest) for first, *rest in chain]


def _found(program: str, path: str | None, folder: Path | None) -> str:
    """The program's absolute path. PluginError if it isn't there, or can't be run."""
    if "/" not in program:
        if (found := shutil.which(program, path=path)) is None:
            raise PluginError(f'there is no program "{program}" in PATH; write its path')
        return str(Path(found).absolute())
    file = ((folder or Path()) / program).absolute()
    if not file.exists():
        raise PluginError(f'there is no file "{file}"')
    if not file.is_file():
        raise PluginError(f'"{file}" isn\'t a file')
    if not os.access(file, os.X_OK):
        raise PluginError(f'"{file}" isn\'t executable; mend: chmod +x {shlex.quote(str(file))}')
    return str(file)


def _name(source: str) -> str:
    return Path(source.split(maxsplit=1)[0]).stem
