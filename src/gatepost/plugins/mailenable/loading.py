"""Loads a MailEnable plugin: finds out what its library is, begins the host that can run it, and binds it.

What the plugin knows about the server, it knows from the text it is passed at each call: so nothing is told beside
that, and its processes are each like the other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gatepost.hooks import stages
from gatepost.hooks.breaker import Breaker
from gatepost.hooks.session import ServerView
from gatepost.plugins.host import Backoff, Crew, HostError, Limits, LoadRefused
from gatepost.plugins.host.binary import Dialect
from gatepost.plugins.host.launching import DIRECTLY, Starter
from gatepost.plugins.host.recipes import Surroundings, examine, in_thread, lacking, native_recipe
from gatepost.plugins.host.wine import Keeper, Windows
from gatepost.plugins.loaded import Loaded, PluginError, Wish, bind_stages, make_binding
from gatepost.plugins.mailenable.calling import Calling
from gatepost.plugins.mailenable.configuration import COMMANDS
from gatepost.plugins.mailenable.options import MailEnableOptions

DIALECT: Dialect = "mailenable"
ROUTING_HEADERS = ("X-ME-Content", "X-ME-Spam", "X-ME-Bayesian")
"""Header fields by which a MailEnable server decides where in a mailbox mail goes. Others of that prefix are other
people's."""


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
    try:
        library = await in_thread(examine, file, DIALECT, "MailEnable plugin")
        around = Surroundings(env or {}, limits, scratch, load_s, starter, windows, prefixes)
        recipe, keeper = await native_recipe(library, DIALECT, partial(_properties, options), around)
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
        missing = await in_thread(lacking, library)
        raise PluginError(f'plugin "{name}" ({file}) can\'t be loaded: {error}{missing}') from error
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


def _properties(options: MailEnableOptions, folder: str) -> dict[str, Any]:
    return {"threads": options.threads, "response": options.response_size, "folder": folder}
