"""`gatepost try`: one message through a plugin, without a server: what it said at each stage, the message after."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.testing.trying import Story


@click.command("try")
@click.argument("plugin")
@click.argument("message", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--ip", default="192.0.2.1", show_default=True, help="The client's address.")
@click.option("--helo", default="client.example", show_default=True, help="The name it gives itself.")
@click.option("--from", "sender", default="dave@bobo.example", show_default=True, help='The sender; "" for none.')
@click.option("--to", multiple=True, help="A recipient; may be given again. Default: ann@example.org.")
@click.option("--user", help="Who is authenticated.")
@click.option("--tls", is_flag=True, help="As if the connection were encrypted.")
@click.option("--property", "properties", multiple=True, metavar="NAME=VALUE", help="A property, as TOML or text.")
@click.option("--dns", multiple=True, metavar="NAME/TYPE=VALUE", help="An answer of the DNS; nothing else is asked.")
@click.option("--failing", is_flag=True, help="Let every hook fail, to see what on_failure comes to.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def command(
    frame: Frame,
    *,
    plugin: str,
    message: Path | None,
    ip: str,
    helo: str,
    sender: str,
    to: tuple[str, ...],
    user: str | None,
    tls: bool,
    properties: tuple[str, ...],
    dns: tuple[str, ...],
    failing: bool,
    as_json: bool,
) -> int:
    """Try PLUGIN (a .py file, package.module:attribute, or a name from the settings) on MESSAGE, without a server.

    Exit code 0 if the message would be accepted, 1 if it would be refused.
    """
    from gatepost.plugins.loaded import PluginError
    from gatepost.testing.trying import MESSAGE, try_plugin

    async def tried() -> Story:
        loaded = await _plugin(frame, plugin, properties)
        return await try_plugin(
            loaded,
            ip=ip,
            helo=helo,
            sender=sender,
            to=to or ("ann@example.org",),
            message=message or MESSAGE,
            user=user,
            tls=tls,
            dns=_zone(dns),
            failing=failing,
        )

    try:
        story = asyncio.run(tried())
    except PluginError as error:
        raise Failure(str(error), Exit.CONFIGURATION) from None
    click.echo(json.dumps(_plain(story), indent=2, default=str) if as_json else str(story))
    return 0 if story.accepted() else 1


async def _plugin(frame: Frame, plugin: str, properties: tuple[str, ...]) -> Any:
    """The plugin, loaded with its bindings if the settings name it."""
    from gatepost.app.generation import load_plugins
    from gatepost.plugins.python import load

    given = dict(_property(text) for text in properties)
    if not plugin.endswith(".py") and ":" not in plugin and frame.file is not None:
        named = [one for one in frame.settings().plugin if one.name == plugin]
        if named:
            return (await load_plugins(named))[0]
    return load(plugin, properties=given)


def _property(text: str) -> tuple[str, Any]:
    import tomllib

    name, equals, value = text.partition("=")
    if not equals:
        raise Failure(f'"{text}" is no property', Exit.USAGE, next_step="--property threshold=5")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def _zone(given: tuple[str, ...]) -> dict[str, Any]:
    zone: dict[str, dict[str, list[str]]] = {}
    for text in given:
        where, equals, value = text.partition("=")
        name, slash, kind = where.partition("/")
        if not (equals and slash):
            raise Failure(f'"{text}" is no DNS answer', Exit.USAGE, next_step="--dns mx.example/A=192.0.2.1")
        zone.setdefault(name, {}).setdefault(kind.upper(), []).append(value)
    return zone


def _plain(story: Story) -> dict[str, Any]:
    return {
        "token": story.token,
        "accepted": story.accepted(),
        "replies": [{"said": said, "heard": heard} for said, heard in story.replies],
        "asked": list(story.asked),
        "recipients": story.recipients,
        "held": story.held,
        "errors": [f"{type(error).__name__}: {error}" for error in story.errors],
        "content": None if story.content is None else story.content.decode("utf-8", "replace"),
    }
