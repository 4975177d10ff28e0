"""A plugin as a test names it, loaded with the bindings that settings would give it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatepost.app.dialects import load_plugins
from gatepost.app.settings import load as load_settings
from gatepost.plugins.loaded import Loaded, Wish, seconds
from gatepost.plugins.python import load
from gatepost.plugins.sink.creating import methods_of
from gatepost.plugins.sink.loading import load_sink


async def load_given(plugin: object, **words: Any) -> Loaded:
    """Load a plugin: a source as in settings, whose dialect is inferred as there, or an object in Python.

    `words` are keys of a `[[plugin]]` table; those that are None are left out. Raises SettingsError or PluginError.
    """
    said = {key: value for key, value in words.items() if value is not None}
    if isinstance(plugin, Loaded):
        return plugin
    if isinstance(plugin, str | Path):
        settings = load_settings(None, environ={}, overrides={"plugin": [{"source": str(plugin), **said}]})
        return (await load_plugins(settings.plugin))[0]
    properties, dialect = said.pop("properties", None), said.pop("dialect", None)
    wishes = [_wish(said)]
    if isinstance(plugin, type) and dialect in (None, "sink") and methods_of(plugin):
        return await load_sink(plugin, wishes=wishes, properties=properties)
    return load(plugin, properties=properties, wishes=wishes)


def _wish(said: Mapping[str, Any]) -> Wish:
    words = dict(said)
    if "stages" in words:
        words["stages"] = tuple(words["stages"])
    if "timeout" in words:
        words["timeout"] = seconds(words["timeout"])
    return Wish(**words)
