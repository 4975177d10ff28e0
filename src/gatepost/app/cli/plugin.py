"""`gatepost plugin`: which plugins are asked at which stage, what the shadows among them would have done, and what a
file would be as a plugin.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure
from gatepost.app.cli.registering import include, register, unregister

if TYPE_CHECKING:
    from gatepost.app.settings import Settings


@click.group("plugin")
def command() -> None:
    """List the plugins, look at a file as a plugin, register COM classes."""


@command.command("list")
@click.option("--stages", is_flag=True, help="Instead: all stages there are, and what each is.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def listed(frame: Frame, *, stages: bool, as_json: bool) -> None:
    """List plugins with their stages and bindings: those of the running server, else those of the settings."""
    if stages:
        _list_stages(as_json)
        return
    told = _ask(frame)
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    if not told:
        click.echo('no plugins; add one:  gatepost run --plugin mine.py, or [[plugin]] source = "mine.py"')
    for plugin in told:
        click.echo("\n".join(_lines(plugin)))


@command.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def checked(*, file: Path, as_json: bool) -> int:
    """Look at FILE without running it: what it is, its dialect and symbols, what it lacks, how it would be run.

    Exit code 0 if it could be run here, 69 if something has to be installed first, else 78.
    """
    from gatepost.app.examining import examine

    try:
        found = examine(file)
    except PermissionError:
        raise Failure(f"{file} can't be read by this user", Exit.NO_PERMISSION) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        words = (getattr(error, "strerror", None) or str(error)).lower()
        raise Failure(f"{file} can't be read: {words}", Exit.NO_INPUT) from None
    click.echo(json.dumps(found.plain(), indent=2) if as_json else "\n".join(found.lines()))
    if not found.hindrances:
        return Exit.OK
    return Exit.UNAVAILABLE if all(one.is_lacking for one in found.hindrances) else Exit.CONFIGURATION


command.add_command(register)
command.add_command(unregister)
command.add_command(include)


def _ask(frame: Frame) -> list[dict[str, Any]]:
    from gatepost.app.control import ControlClient, ControlError, NotRunning

    settings, _ = frame.settings_or_without_bindings()
    if settings.data is not None:
        try:
            with ControlClient(settings.data) as client:
                told: list[dict[str, Any]] = client.ask("plugin.list")
                return told
        except NotRunning:
            pass
        except ControlError as error:
            raise Failure(error.failure.message, Exit(error.failure.code), next_step=error.failure.mend) from None
    return _of_settings(settings)


def _of_settings(settings: Settings) -> list[dict[str, Any]]:
    from gatepost.app.inspection import told_plugins
    from gatepost.app.recording import MemoryRing
    from gatepost.app.stores import MemoryRecords, TraceRecords
    from gatepost.plugins.loaded import PluginError
    from gatepost.store.files import RealFiles

    try:
        told = asyncio.run(_facts(settings))
    except PluginError as error:
        raise Failure(str(error), Exit.CONFIGURATION, next_step="gatepost check") from None
    if settings.data is None:
        return told_plugins(told, MemoryRecords(MemoryRing()), time.time())
    return told_plugins(told, TraceRecords(settings.data / "trace", RealFiles(), None), time.time())


async def _facts(settings: Settings) -> list[dict[str, Any]]:
    from gatepost.app.bindings_listing import with_origins
    from gatepost.app.dialects import load_plugins
    from gatepost.app.inspection import plugin_facts
    from gatepost.app.settings.bindings import instances
    from gatepost.plugins.host.launched import Starters

    starters = Starters()
    try:
        numbers = instances(settings)
        loaded = await load_plugins(settings.plugin, starter_for=starters.of, instances=numbers)
        try:
            return with_origins(plugin_facts(loaded, settings), settings)
        finally:
            for plugin in loaded:
                await plugin.close()
    finally:
        starters.close()


def _lines(plugin: Mapping[str, Any]) -> list[str]:
    head = [plugin["name"], plugin["dialect"], plugin["source"]]
    if plugin.get("class"):
        head[-1] += f":{plugin['class']}"
    if plugin.get("instance"):
        head.append(f"instance {plugin['instance']} ({plugin['listener']})")
    lines = ["  ".join([*head, plugin.get("origin", "")]).rstrip()]
    for asked in plugin["stages"]:
        rule = f"  {asked['rule']}" if asked["rule"] else ""
        marks = "".join(f", {mark}" for mark in ("always",) if asked[mark])
        if asked["conditional"]:
            marks += ", under conditions"
        what = "shadow, never obeyed" if asked["shadow"] else f"{asked['timeout_s']:g}s, else {asked['on_failure']}"
        lines.append(f"  {asked['stage']:<9} {asked['priority']:>5}  {what}{marks}{rule}")
    if plugin["told"]:
        lines.append(f"  is told of {', '.join(plugin['told'])}")
    if counts := plugin.get("shadow"):
        would = ", ".join(f"{verdict} {count}" for verdict, count in sorted(counts.items()) if verdict != "asked")
        lines.append(f"  as a shadow asked {counts['asked']} times in 7 days; it would have said: {would}")
    return lines


def _list_stages(as_json: bool) -> None:
    from gatepost.hooks.effects import allowed_failures
    from gatepost.hooks.stages import STAGES

    rows = [
        {"stage": name, "what": " ".join(str(inspect.getdoc(stage)).split()), "on_failure": [*allowed_failures(stage)]}
        for name, stage in STAGES.items()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['stage']:<13} {row['what']}")
        click.echo(f"{'':<13} on_failure: {', '.join(row['on_failure'])}")
