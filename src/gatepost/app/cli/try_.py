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
    from gatepost.app.settings.problems import Finding
    from gatepost.plugins.host.launched import Starters
    from gatepost.testing.trying import Story


@click.command("try")
@click.argument("plugin")
@click.argument("message", nargs=-1)
@click.option("--ip", "-r", default="192.0.2.1", show_default=True, help="The client's address.")
@click.option("--local", "-l", default="192.0.2.25", show_default=True, help="Our own.")
@click.option("--host", "-R", help="The client's name in the DNS.")
@click.option("--helo", default="client.example", show_default=True, help="The name it gives itself.")
@click.option("--from", "-m", "sender", default="dave@bobo.example", show_default=True, help='The sender; "" for none.')
@click.option("--to", multiple=True, help="A recipient; may be given again. Default: ann@example.org.")
@click.option("--stage", "stages", multiple=True, help="Ask it only there; may be given again.")
@click.option("-M", "at_sender", is_flag=True, help="Ask it at MAIL only, as plugtest does.")
@click.option("-T", "at_recipient", is_flag=True, help="Ask it at RCPT only, as plugtest does.")
@click.option("-D", "at_message", is_flag=True, help="Ask it at end-of-data only, as plugtest does.")
@click.option("--user", help="Who is authenticated.")
@click.option("--tls", is_flag=True, help="As if the connection were encrypted.")
@click.option("--property", "properties", multiple=True, metavar="NAME=VALUE", help="A property, as TOML or text.")
@click.option("--dialect", help="How the plugin is spoken to, where its file doesn't say it.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable of its environment, if it has processes.")
@click.option("--dns", multiple=True, metavar="NAME/TYPE=VALUE", help="An answer of the DNS; nothing else is asked.")
@click.option("--failing", is_flag=True, help="Let every hook fail, to see what on_failure comes to.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def command(
    frame: Frame,
    *,
    plugin: str,
    message: tuple[str, ...],
    ip: str,
    local: str,
    host: str | None,
    helo: str,
    sender: str,
    to: tuple[str, ...],
    stages: tuple[str, ...],
    at_sender: bool,
    at_recipient: bool,
    at_message: bool,
    user: str | None,
    tls: bool,
    properties: tuple[str, ...],
    dialect: str | None,
    env: tuple[str, ...],
    dns: tuple[str, ...],
    failing: bool,
    as_json: bool,
) -> int:
    """Try a plugin on a message, without a server.

    PLUGIN is a file, package.module:attribute, or a name from the settings; MESSAGE is a file. A plugin that isn't
    Python is shown at work: what it was passed, what it returned. The options of IndiMail's plugtest are here too: -M,
    -T, -D, -r, -R, -l, -m, and recipients in the place of MESSAGE.

    Exit code 0 if the message would be accepted, 1 if it would be refused.
    """
    from gatepost.plugins.host.launched import Starters
    from gatepost.plugins.loaded import PluginError
    from gatepost.testing.trying import MESSAGE, try_plugin

    for stage, is_meant in (("sender", at_sender), ("recipient", at_recipient), ("message", at_message)):
        stages += (stage,) if is_meant else ()
    starters = Starters()
    file, named = _message(message)
    zone = _zone(dns)
    if host is not None:
        zone |= {ip: {"PTR": [host]}, host: [ip]}

    async def tried() -> Story:
        loaded = await plugin_given(frame, plugin, properties, dialect, env, stages, starters)
        return await try_plugin(
            loaded,
            ip=ip,
            local=local,
            helo=helo,
            sender=sender,
            to=(*to, *named) or ("ann@example.org",),
            message=file or MESSAGE,
            user=user,
            tls=tls,
            dns=zone,
            failing=failing,
        )

    try:
        story = asyncio.run(tried())
    except PluginError as error:
        raise Failure(str(error), Exit.CONFIGURATION) from None
    finally:
        starters.close()
    click.echo(json.dumps(_plain(story), indent=2, default=str) if as_json else str(story))
    return 0 if story.accepted() else 1


def _message(given: tuple[str, ...]) -> tuple[Path | None, list[str]]:
    """The file and the recipients among what stands after the plugin."""
    files = [Path(one) for one in given if "@" not in one or Path(one).is_file()]
    if len(files) > 1:
        raise Failure(f"one message at a time, not {len(files)}", Exit.USAGE, next_step="gatepost try --help")
    if files and not files[0].is_file():
        raise Failure(f'there is no file "{files[0]}"', Exit.USAGE, next_step="give a message file, or none")
    return (files[0] if files else None), [one for one in given if Path(one) not in files]


async def plugin_given(
    frame: Frame,
    plugin: str,
    properties: tuple[str, ...],
    dialect: str | None,
    env: tuple[str, ...],
    stages: tuple[str, ...],
    starters: Starters,
) -> Any:
    """The plugin with the bindings that the settings give it, if they name it; else as its file says."""
    from gatepost.app.dialects import load_plugins
    from gatepost.app.settings import SettingsError, load

    if frame.file is not None and (named := [one for one in frame.settings().plugin if one.name == plugin]):
        return (await load_plugins(named, starter_for=starters.of))[0]
    given: dict[str, Any] = {"source": plugin}
    if properties:
        given["properties"] = dict(_property(text) for text in properties)
    if dialect is not None:
        given["dialect"] = dialect
    if env:
        given["env"] = dict(text.partition("=")[::2] for text in env)
    if stages:
        given["stages"] = list(stages)
    try:
        alone = load(None, environ={}, overrides={"plugin": [given]})
    except SettingsError as error:
        first, *others = error.findings
        for finding in others:
            _failure(finding).show()
        raise _failure(first) from None
    return (await load_plugins(alone.plugin))[0]


def _failure(finding: Finding) -> Failure:
    """What is wrong with the plugin as it was given here, in the words of the options."""
    note = f" ({finding.note})" if finding.note and not finding.note.endswith(":") else ""
    return Failure(f"{finding.what}{note}", Exit.CONFIGURATION, next_step=_as_options(finding.mend))


def _as_options(mend: str) -> str:
    """What to write instead: the settings' `stages = ["message"]` is `--stage message` here."""
    key, _, value = mend.partition(" = ")
    words = value.strip('[]"').split('", "')
    match key:
        case "source":
            return "give a .py file, package.module:attribute, a library, a program, or a name from the settings"
        case "stages":
            return f"--stage {', '.join(words)}"
        case "dialect":
            return "--dialect " + value.replace('"', "")
        case "env":
            return " ".join(f"--env {one.replace(' = ', '=')}" for one in value.strip("{ }").split(", "))
        case _:
            return mend


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
        "untried": story.untried,
        "errors": [f"{type(error).__name__}: {error}" for error in story.errors],
        "content": None if story.content is None else story.content.decode("utf-8", "replace"),
    }
