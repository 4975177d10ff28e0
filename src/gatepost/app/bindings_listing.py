"""All bindings in one list, those of the settings and those of the registry, each with the place it was written at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatepost.app.bindings import Row, Value
from gatepost.app.bindings_changes import priority_of, rule_of
from gatepost.app.bindings_events import event_of
from gatepost.app.settings.bindings import instances
from gatepost.app.settings.origins import InFile
from gatepost.app.settings.plugins import Plugin
from gatepost.app.settings.root import Settings
from gatepost.app.settings.secrecy import HIDDEN, is_secret
from gatepost.hooks.bindings import DEFAULT_PRIORITY


def origin_of(settings: Settings, at: int) -> str:
    """Where a plugin was written: `gatepost.toml:14`, a variable, or the call; "" if nobody knows."""
    return str(settings.origins.places.get(("plugin", at), ""))


def place_in_registry(settings: Settings, at: int) -> int | None:
    """Which row of the registry a plugin is; None if it is one of the settings."""
    origin = settings.origins.places.get(("plugin", at))
    if isinstance(origin, InFile) and origin.path[:1] == ("binding",) and len(origin.path) == 2:
        return int(origin.path[1])
    return None


def listener_of(settings: Settings, instance: int) -> str:
    """The listener with that number; "" if there is none."""
    return next((name for name, number in instances(settings).items() if number == instance), "")


def with_origins(told: Iterable[Mapping[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    """What plugins tell of themselves, with the place each was written at, and a sink's virtual server."""
    known = {plugin.name: (at, plugin) for at, plugin in enumerate(settings.plugin)}
    rows: list[dict[str, Any]] = []
    for one in told:
        at, plugin = known.get(one["name"], (-1, None))
        more: dict[str, Any] = {"origin": "" if plugin is None else origin_of(settings, at)}
        if plugin is not None and plugin.sink is not None:
            number = plugin.sink.instance
            more |= {"instance": number, "listener": listener_of(settings, number), "class": plugin.sink.cls}
        rows.append({**one, **more})
    return rows


def listed(settings: Settings, rows: Mapping[int, Row]) -> dict[str, Any]:
    """The virtual servers, and all bindings: those of the settings first. Rows that the settings were read without
    are listed too.
    """
    bindings: list[dict[str, Any]] = []
    left = dict(rows)
    for at, plugin in enumerate(settings.plugin):
        number = place_in_registry(settings, at)
        if number is None:
            bindings += _of_settings(settings, at, plugin)
        elif number in rows:
            row = left.pop(number)
            bindings.append({**_of_registry(settings, row), "plugin": plugin.name, "origin": origin_of(settings, at)})
    bindings += [_of_registry(settings, row) for row in left.values()]
    numbers = instances(settings)
    return {
        "instances": [
            {"instance": numbers[one.name], "listener": one.name, "address": str(one.address)}
            for one in settings.mail_listeners
        ],
        "bindings": bindings,
    }


def _of_registry(settings: Settings, row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "plugin": row.shown,
        "dialect": "sink",
        "instance": row.instance,
        "listener": listener_of(settings, row.instance),
        "event": row.event.name,
        "category": row.event.category,
        "stages": [row.event.stage],
        "class": row.cls,
        "enabled": row.enabled,
        "rule": rule_of(row),
        "priority": priority_of(row),
        "source": _shown(row.source),
        "sink": _shown(row.sink),
        "origin": "",
    }


def _of_settings(settings: Settings, at: int, plugin: Plugin) -> list[dict[str, Any]]:
    is_sink = plugin.sink is not None
    number = plugin.sink.instance if plugin.sink is not None else 0
    found = []
    for asked in plugin.asked:
        events = [event for stage in asked.stages or () if (event := event_of(stage))] if is_sink else []
        found.append({
            "id": None,
            "name": plugin.name,
            "plugin": plugin.name,
            "dialect": plugin.dialect,
            "instance": number,
            "listener": listener_of(settings, number),
            "event": ", ".join(event.name for event in events),
            "category": ", ".join(event.category for event in events),
            "stages": list(asked.stages or ()),
            "class": f"{plugin.source}:{plugin.sink.cls}" if plugin.sink and plugin.sink.cls else plugin.source,
            "enabled": plugin.enabled,
            "rule": asked.rule or "",
            "priority": DEFAULT_PRIORITY if asked.priority is None and is_sink else asked.priority,
            "source": {},
            "sink": _shown(plugin.properties),
            "origin": origin_of(settings, at),
        })  # fmt: skip
    return found


def _shown(bag: Mapping[str, Value]) -> dict[str, Value]:
    """The properties, without those that are secrets by their names."""
    return {name: HIDDEN if is_secret(("properties", name)) else value for name, value in bag.items()}
