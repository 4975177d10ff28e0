"""Each plugin of the settings to the loader of its dialect. A dialect's room is imported when a plugin needs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path as File
from types import MappingProxyType
from typing import Any

from gatepost.app.bindings_instances import keep_to_instance
from gatepost.app.settings.plugins import Binding as Asked
from gatepost.app.settings.plugins import Plugin
from gatepost.plugins.host.launching import DIRECTLY, Starter
from gatepost.plugins.loaded import Loaded, PluginError, Wish

WINE_OF_OTHERS = File("/var/tmp")  # noqa: S108  a folder there is ours, or it isn't used
"""Where Wine's prefixes of plugins with a user of their own are: a place they can reach that outlives a restart."""

StarterFor = Callable[[str], Starter]
"""Who starts the processes of plugins that run as that user. PluginError where nobody can."""


def only_as_ourselves(user: str) -> Starter:
    """Where no launcher was started."""
    raise PluginError(
        f'user = "{user}": only a server that is started as root, with run_as, can run a plugin as somebody else; '
        "start it so, or take user away"
    )


async def load_plugins(
    wanted: Iterable[Plugin],
    *,
    scratch: File | None = None,
    data: File | None = None,
    message_size: int = 0,
    starter_for: StarterFor = only_as_ourselves,
    instances: Mapping[str, int] = MappingProxyType({}),
) -> list[Loaded]:
    """The plugins that settings name, in their order. PluginError says which can't be used, and why.

    Those with processes have them from now on, so all have to be closed. `scratch`: where their content travels;
    `data`: the server's folder, where Wine is kept if its user has no home; `message_size`: the most octets of a
    message they may rewrite, 0 for no limit; `instances`: the listeners' numbers, by name.
    """
    loaded: list[Loaded] = []
    try:
        for plugin in wanted:
            if plugin.enabled:
                loaded.append(await _load(plugin, scratch, data, message_size, starter_for, instances))
    except BaseException:
        for one in reversed(loaded):
            await one.close()
        raise
    return loaded


async def _load(
    plugin: Plugin,
    scratch: File | None,
    data: File | None,
    message_size: int,
    starter_for: StarterFor,
    instances: Mapping[str, int],
) -> Loaded:
    wishes = [_wish(plugin, asked) for asked in plugin.asked]
    if plugin.dialect == "python" and not plugin.isolate:
        from gatepost.plugins.python import load

        return load(plugin.source, name=plugin.name, properties=plugin.properties, wishes=wishes)
    words: dict[str, Any] = {"name": plugin.name, "wishes": wishes, "scratch": scratch, "starter": DIRECTLY}
    try:
        if plugin.user is not None:
            words["starter"] = starter_for(plugin.user)
    except PluginError as error:
        raise PluginError(f'plugin "{plugin.name}": {error}') from None
    if plugin.limits is not None:
        words["limits"] = plugin.limits.made()
    if plugin.processes is not None:
        words["processes"] = plugin.processes
    match plugin.dialect:
        case "python":
            return await _isolated(plugin, words)
        case "mailenable":
            return await _mailenable(plugin, words, data, message_size)
        case "indimail":
            return await _indimail(plugin, words)
        case "program":
            return await _program(plugin, words)
        case "sink":
            return await _sink(plugin, words, data, message_size, instances)


async def _isolated(plugin: Plugin, words: dict[str, Any]) -> Loaded:
    from gatepost.plugins.python import load_isolated

    return await load_isolated(plugin.source, properties=plugin.properties, env=plugin.environment, **words)


async def _mailenable(plugin: Plugin, words: dict[str, Any], data: File | None, message_size: int) -> Loaded:
    from gatepost.plugins.mailenable import load_mailenable

    options = None if plugin.mailenable is None else plugin.mailenable.made()
    windows = None if plugin.windows is None else plugin.windows.made()
    words |= {"options": options, "windows": windows, "message_size": message_size}
    words["prefixes"] = wine_prefixes(plugin.user, data)
    return await load_mailenable(plugin.source, env=plugin.environment, **words)


def wine_prefixes(user: str | None, data: File | None) -> File | None:
    """Where Wine's prefixes are kept for plugins that run as `user`; None: in our user's cache."""
    if user is not None:  # our cache, as our data, is closed to others
        return WINE_OF_OTHERS / f"gatepost-wine-{os.getuid()}-{user}"
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME", "")
    return None if data is None or os.access(home, os.W_OK) else data / "wine"


async def _indimail(plugin: Plugin, words: dict[str, Any]) -> Loaded:
    from gatepost.plugins.indimail import load_indimail

    if plugin.indimail is not None:
        words["options"] = plugin.indimail.made()
    return await load_indimail(plugin.source, env=plugin.environment, **words)


async def _program(plugin: Plugin, words: dict[str, Any]) -> Loaded:
    from gatepost.plugins.program import load_program

    options = None if plugin.program is None else plugin.program.made()
    return await load_program(plugin.source, options=options, env=plugin.environment, **words)


async def _sink(
    plugin: Plugin, words: dict[str, Any], data: File | None, message_size: int, instances: Mapping[str, int]
) -> Loaded:
    from gatepost.plugins.sink.loading import load_sink
    from gatepost.plugins.sink.options import SinkOptions

    options = SinkOptions() if plugin.sink is None else plugin.sink.made()
    words |= {"message_size": message_size, "instances": instances}
    if plugin.isolate:  # a library
        words["windows"] = None if plugin.windows is None else plugin.windows.made()
        words |= {"env": plugin.environment, "prefixes": wine_prefixes(plugin.user, data)}
    loaded = await load_sink(plugin.source, properties=plugin.properties, options=options, **words)
    if options.instance and instances:
        try:
            keep_to_instance(loaded, options.instance, instances)
        except PluginError:
            await loaded.close()
            raise
    return loaded


def _wish(plugin: Plugin, asked: Asked) -> Wish:
    return Wish(
        stages=tuple(asked.stages or ()),
        rule=asked.rule,
        when=asked.when,
        priority=asked.priority,
        timeout=asked.timeout,
        on_failure=asked.on_failure,
        shadow=plugin.shadow,
        always=plugin.always,
        pipelining=plugin.pipelining,
        secrets=plugin.secrets or None,
        inline=plugin.inline,
        may_relay=plugin.may_relay,
    )


__all__: Sequence[str] = ["StarterFor", "load_plugins", "only_as_ourselves", "wine_prefixes"]
