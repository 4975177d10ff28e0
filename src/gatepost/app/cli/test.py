"""`gatepost test`: what is tried by hand. `--chaos`: many sessions that no client would hold, past a plugin."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure
from gatepost.app.cli.try_ import plugin_given

if TYPE_CHECKING:
    from gatepost.plugins.host.launched import Starters
    from gatepost.testing.chaos import Report

_TOLD_EVERY_S = 0.5


@click.command("test")
@click.option("--chaos", "plugin", metavar="PLUGIN", help='The plugin that must bear it; "" for the server alone.')
@click.option("--server", metavar="HOST:PORT", help="In its place: a service that runs, of any make, over TCP.")
@click.option("--sessions", type=click.IntRange(1), default=1000, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The number of the first one.")
@click.option("--at-once", type=click.IntRange(1), default=8, show_default=True, help="How many at a time.")
@click.option("--verb", "verbs", multiple=True, help="A verb of the plugin's own; may be given again.")
@click.option("--patience", type=float, default=120, show_default=True, help="Seconds that a reply may take.")
@click.option("--stage", "stages", multiple=True, help="Ask the plugin only there; may be given again.")
@click.option("--property", "properties", multiple=True, metavar="NAME=VALUE", help="A property, as TOML or text.")
@click.option("--dialect", help="How the plugin is spoken to, where its file doesn't say it.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable of its environment, if it has processes.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def command(
    frame: Frame,
    *,
    plugin: str | None,
    server: str | None,
    sessions: int,
    seed: int,
    at_once: int,
    verbs: tuple[str, ...],
    patience: float,
    stages: tuple[str, ...],
    properties: tuple[str, ...],
    dialect: str | None,
    env: tuple[str, ...],
    as_json: bool,
) -> int:
    """Hold sessions past a plugin that no client would hold.

    PLUGIN is a file, package.module:attribute, or a name from the settings; it runs in a server in memory. Commands
    come in orders that are legal and ones that aren't, malformed, at the bounds of lengths, torn, pipelined, broken
    off. Looked for are replies that aren't well formed, that are missing or too many, content that ends where it
    doesn't, connections closed without a word, failures of the plugin, and objects that a library never releases.

    What is found is told with a number. The same session again: --seed NUMBER --sessions 1, other options as before.

    Exit code 0 if nothing was wrong, 1 if anything was.
    """
    from gatepost.plugins.host.launched import Starters
    from gatepost.plugins.loaded import PluginError
    from gatepost.testing.chaos import Knobs

    if (plugin is None) == (server is None):
        raise Failure(
            "one thing is tested at a time" if plugin else "nothing was given that could be tested",
            Exit.USAGE,
            next_step="gatepost test --chaos PLUGIN, or --server HOST:PORT",
        )
    knobs = Knobs(verbs=verbs)
    words: dict[str, Any] = {"sessions": sessions, "seed": seed, "at_once": at_once, "patience_s": patience}
    words |= {"knobs": knobs, "progress": _Progress(sessions) if sys.stderr.isatty() else None}
    starters = Starters()
    leaks = _Leaks()
    serving = logging.getLogger("gatepost.serving")
    before = serving.level
    serving.setLevel(logging.ERROR)  # attacks are usual here
    logging.getLogger("gatepost.plugins").addHandler(leaks)
    try:
        if server is not None:
            report = asyncio.run(_over_tcp(server, words))
        else:
            report = asyncio.run(_in_memory(frame, plugin or "", (properties, dialect, env, stages), starters, words))
    except PluginError as error:
        raise Failure(str(error), Exit.CONFIGURATION) from None
    finally:
        starters.close()
        serving.setLevel(before)
        logging.getLogger("gatepost.plugins").removeHandler(leaks)
    for text, count in leaks.heard.items():
        report.found[f"plugin: {text}"] += count
    click.echo(json.dumps(_plain(report), indent=2) if as_json else str(report))
    return 0 if report.is_clean else 1


async def _in_memory(
    frame: Frame, plugin: str, given: tuple[Any, ...], starters: Starters, words: dict[str, Any]
) -> Report:
    from gatepost.testing.chaos import run_with

    properties, dialect, env, stages = given
    loaded = [await plugin_given(frame, plugin, properties, dialect, env, stages, starters)] if plugin else []
    return await run_with(loaded, **words)


async def _over_tcp(server: str, words: dict[str, Any]) -> Report:
    from gatepost.testing.chaos import Expected, TcpArena, run

    host, _, port = server.rpartition(":")
    if not (host and port.isdecimal()):
        raise Failure(f'"{server}" is no address', Exit.USAGE, next_step="--server 127.0.0.1:2525")
    verbs = frozenset(verb.upper().encode() for verb in words["knobs"].verbs)
    return await run(TcpArena(host.strip("[]"), int(port)), expected=Expected(verbs=verbs), **words)


class _Leaks(logging.Handler):
    """What a library has kept that it should have released, as its host says; a dialogue doesn't show it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        if (text := record.getMessage()).startswith("leak: "):
            self.heard[text] += 1


class _Progress:
    """One line on standard error that is written over, and away at the end."""

    def __init__(self, sessions: int) -> None:
        self._sessions = sessions
        self._next = 0.0

    def __call__(self, report: Report) -> None:
        now = time.monotonic()
        if report.sessions == self._sessions:
            click.echo("\r\x1b[K", err=True, nl=False)
        elif now >= self._next:
            self._next = now + _TOLD_EVERY_S
            found = f", {report.found.total()} findings" if report.found else ""
            click.echo(f"\r\x1b[K{report.sessions} of {self._sessions} sessions{found}", err=True, nl=False)


def _plain(report: Report) -> dict[str, Any]:
    from gatepost.testing.chaos import EDITION

    return {
        "sessions": report.sessions,
        "first_seed": report.first_seed,
        "edition": EDITION,
        "steps": report.steps,
        "octets": report.octets,
        "seconds": round(report.seconds, 3),
        "replies": {str(code): count for code, count in sorted(report.replies.items())},
        "taken": report.taken,
        "found": dict(report.found),
        "findings": [
            {"seed": one.seed, "step": one.step, "kind": one.kind, "what": one.what, "dialogue": one.dialogue}
            for one in report.findings
        ],
    }
