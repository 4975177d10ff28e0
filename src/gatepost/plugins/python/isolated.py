"""A Python plugin with `isolate = true`: it runs in child processes, and its bindings ask them.

The child loads the plugin with the ordinary loader and tells its marks; here they are bound like anybody's, to a hook
that sends the event over. A plugin that can't be used is refused by the same words as in-process.

What differs for the plugin: `server.facts` isn't there (using it raises), `server.resolver` asks name servers of its
own, a `prepare` function begins with its own hook's question, a coroutine that blocks for half of its plugin's shortest
timeout is interrupted, and what was kept for sessions is lost when its process ends. `processes` run it beside each
other; a session stays in one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from gatepost.hooks import stages
from gatepost.hooks.api import Mark
from gatepost.hooks.breaker import Breaker
from gatepost.hooks.notices import NOTICES, Notice
from gatepost.hooks.session import ServerView
from gatepost.hooks.stages import Event, stage_named
from gatepost.net.resolver import Resolver
from gatepost.plugins.host import Backoff, Command, Crew, HostError, Limits, LoadRefused, Recipe
from gatepost.plugins.host.launching import DIRECTLY, Starter
from gatepost.plugins.loaded import Loaded, PluginError, Wish
from gatepost.plugins.python.loading import Hook, bind
from gatepost.wire.host import Load

_LONG_S = 30.0  # a question's time, where no binding says less
_SECRETS = "GATEPOST_"  # variables of the environment that are the server's, not the plugin's


@dataclass(slots=True)
class Isolated(Loaded):
    """A plugin in processes of its own. It has some from the moment it is loaded: close it, whatever becomes of it."""

    crew: Crew = field(kw_only=True)
    nameservers: Sequence[str] = ()

    def _asked(self, resolver: object) -> list[str | tuple[str, int]] | None:
        """The name servers that a process asks itself: the server's own; None where it asks nobody."""
        if not isinstance(resolver, Resolver):
            return None
        return list(self.nameservers or resolver.nameservers)

    async def open(self, server: ServerView) -> None:
        """Before the first connection; PluginError if the plugin can't open, which also closes it."""
        facts = {
            "hostname": server.hostname,
            "resolver": self._asked(server.resolver),
            "stall_s": min((binding.timeout or _LONG_S for binding in self.bindings), default=_LONG_S) / 2,
        }
        try:
            await self.crew.open(facts)
        except LoadRefused as error:
            raise PluginError(str(error)) from None
        except (HostError, OSError) as error:
            raise PluginError(f'plugin "{self.name}" couldn\'t open: {error}') from error

    async def close(self) -> None:
        """After the last session; nothing of its processes is left. What the plugin couldn't close goes on up."""
        if errors := await self.crew.close():
            raise ExceptionGroup(f"plugin {self.name} couldn't be closed", errors)


async def load_isolated(
    source: str | Path,
    *,
    name: str | None = None,
    properties: Mapping[str, Any] | None = None,
    wishes: Sequence[Wish] = (),
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
    processes: int = 1,
    limits: Limits | None = None,
    starter: Starter = DIRECTLY,
    nameservers: Sequence[str] = (),
    scratch: Path | None = None,
    load_s: float = 30.0,
    grace_s: float = 1.0,
    stop_s: float = 5.0,
    backoff: Backoff | None = None,
) -> Isolated:
    """The plugin at `source` (a file, `package.module:attribute`, or an entry point's name), in a child process.

    As `load`, with the same refusals. `limits` are each process's, `starter` says whom they run as; content travels by
    files in `scratch`. A process may take `load_s` seconds to load and to open, answers at most `grace_s` after a
    question's deadline, or is killed, and has `stop_s` to leave. PluginError says what is wrong.
    """
    if not isinstance(source, str | Path):
        raise PluginError(f"{source!r} is here already; a plugin that runs by itself is a file or an import path")
    text = str(source)
    where = str(((folder or Path()) / text).absolute()) if text.endswith(".py") or isinstance(source, Path) else text
    recipe = Recipe(
        Command(
            (sys.executable, "-P", "-m", "gatepost.plugins.python.child"),
            {**_environment(), **starter.home, **(env or {})},
        ),
        "python",
        Load(name or "", where, dict(properties or {})),
        limits or Limits(),
        scratch=scratch,
        starter=starter,
        load_s=load_s,
    )
    crew = Crew(name or Path(text).stem, recipe, processes=processes, grace_s=grace_s, stop_s=stop_s, backoff=backoff)
    try:
        facts = await crew.load()
    except LoadRefused as error:
        raise PluginError(str(error)) from None
    except (HostError, OSError, ValueError, TypeError) as error:
        raise PluginError(f'plugin "{name or text}" can\'t be loaded in a process of its own: {error}') from error
    try:
        return _bound(crew, facts, text, wishes, nameservers)
    except BaseException:
        await crew.close()
        raise


def _bound(
    crew: Crew, facts: Mapping[str, Any], source: str, wishes: Sequence[Wish], nameservers: Sequence[str]
) -> Isolated:
    try:
        told = msgspec.convert(facts, _Told)
        marks = [[Mark(_stage(stage), words) for stage, words in hook] for hook in told.hooks]
    except (msgspec.ValidationError, LookupError) as error:
        raise PluginError(f'plugin "{crew.name}": its process says it is no plugin: {error}') from error
    crew.name = told.name
    loaded = Isolated(told.name, source, crew=crew, nameservers=nameservers)
    breaker = Breaker()
    for wish in wishes or (Wish(),):
        hooks = [Hook(_asking(crew, which, wish.inline, of_hook), of_hook) for which, of_hook in enumerate(marks)]
        bind(loaded, hooks, [replace(wish, inline=True)], breaker)
    for binding in loaded.bindings:
        if binding.stage in stages.OUTBOUND | stages.AFTERWARDS:
            raise PluginError(
                f'plugin "{told.name}", stage "{binding.stage.name}": isolated plugins aren\'t asked after the 250; '
                "take isolate = true away, or bind it to other stages"
            )
        if binding.stage in stages.POP:
            raise PluginError(
                f'plugin "{told.name}", stage "{binding.stage.name}": isolated plugins aren\'t asked in POP3 sessions; '
                "take isolate = true away, or bind it to other stages"
            )
    return loaded


class _Told(msgspec.Struct):
    """What a child says of its plugin: its name, and each hook's marks as [stage, words]."""

    name: str
    hooks: list[list[tuple[str, dict[str, Any]]]]


def _stage(name: str) -> type[Event] | type[Notice]:
    return NOTICES[name] if name in NOTICES else stage_named(name)


def _asking(crew: Crew, which: int, inline: bool | None, marks: Sequence[Mark]) -> Callable[[Any], Any]:
    """A hook that asks the child's hook number `which`. It isn't a coroutine function, so bind it `inline`."""
    by_stage = {mark.stage.name: bool(mark.words.get("inline")) for mark in marks}
    more = {
        stage: {"hook": which, "inline": in_code if inline is None else inline} for stage, in_code in by_stage.items()
    }

    def ask(subject: Event | Notice) -> Any:
        if isinstance(subject, Notice):
            crew.tell(subject)
            return None
        return crew.ask(subject, more[subject.name])

    return ask


def _environment() -> dict[str, str]:
    """Ours without the server's own secrets; modules are found where we find them."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_SECRETS)}
    kept["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return kept
