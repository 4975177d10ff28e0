"""`gatepost fetch`: mail from the servers of `[[collect]]`, now."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure
from gatepost.model.written import printable

if TYPE_CHECKING:
    from gatepost.app.settings import Settings

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
Rows = list[dict[str, Any]]

_LOOK_S = 0.2
_ADVICE = {
    "login": "user, password and auth in its [[collect]]; tried again by interval after a while, after a reload at once"
}
_LIST, _FETCH = "collect.list", "collect.fetch"


@click.command("fetch")
@click.argument("accounts", nargs=-1)
@click.option("--background", is_flag=True, help="Let the running server do it, and return at once.")
@click.option("--list", "as_list", is_flag=True, help="Show the accounts: the last run, counts, the next run, trouble.")
@click.option("--progress/--no-progress", default=None, help="A bar for each account. Default: on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def command(
    frame: Frame,
    *,
    accounts: tuple[str, ...],
    background: bool,
    as_list: bool,
    progress: bool | None,
    as_json: bool,
) -> int:
    """Fetch mail from other servers, all accounts or some.

    The running server does it by POP3; without one it is done here. Exit code 75 where an account should be tried again
    later, 77 where a server refused the login.
    """
    settings, _ = frame.settings_or_without_bindings()
    if not settings.collect:
        raise Failure("no account is in these settings", Exit.CONFIGURATION, next_step="[[collect]] server, user, to")
    if as_list:
        _show(_listed(settings, accounts), as_json=as_json)
        return Exit.OK
    rows = asyncio.run(_fetch(settings, accounts, background=background, progress=progress and not as_json))
    if background:
        click.echo(f"under way: {', '.join(row['name'] for row in rows)}; gatepost fetch --list")
        return Exit.OK
    return _tell([row["last"] for row in rows], as_json=as_json)


# ── asking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _fetch(settings: Settings, accounts: tuple[str, ...], *, background: bool, progress: bool | None) -> Rows:
    from gatepost.admin.queue import ActionError
    from gatepost.app.control import ControlError

    async with _asking(settings, needs_server=background) as ask:
        try:
            before: dict[str, int] = await ask(_FETCH, {"accounts": list(accounts)})
            if background:
                return _of(await ask(_LIST, {}), before)
            return await _follow(ask, before, progress)
        except ControlError as error:
            raise Failure(error.failure.message, _exit(error.failure.code), next_step=error.failure.mend) from None
        except ActionError as error:
            raise Failure(str(error), _exit(error.code), next_step=error.mend) from None


async def _follow(ask: Ask, before: Mapping[str, int], progress: bool | None) -> Rows:
    """Look until each account has had one more run."""
    draw, close = _bars(progress)
    try:
        while True:
            rows = _of(await ask(_LIST, {}), before)
            for row in rows:
                draw(row)
            behind = [row for row in rows if row["totals"].get("runs", 0) <= before[row["name"]]]
            if not behind:
                return rows
            lost = [row["name"] for row in behind if not row["running"]]
            if lost:  # the process that had them has begun anew
                before = {**before, **await ask(_FETCH, {"accounts": lost})}
            await asyncio.sleep(_LOOK_S)
    finally:
        close()


def _of(rows: Rows, names: Mapping[str, int]) -> Rows:
    return [row for row in rows if row["name"] in names]


@asynccontextmanager
async def _asking(settings: Settings, *, needs_server: bool) -> AsyncIterator[Ask]:
    """The running server, or one for this command alone: without listeners, and nothing is fetched unasked."""
    from gatepost.app.control import ControlClient, NotRunning

    assert settings.data is not None, "load refuses accounts without data"
    try:
        with ControlClient(settings.data) as client:
            yield lambda action, arguments: asyncio.to_thread(client.ask, action, arguments)
            return
    except NotRunning as error:
        if needs_server:
            raise Failure(str(error), Exit.UNAVAILABLE, next_step="gatepost run, or without --background") from None
    from gatepost.app.cli.access import as_the_server
    from gatepost.app.collecting import begin_runs
    from gatepost.app.starting import REASONS, failure
    from gatepost.app.worker import Worker

    as_the_server(settings)
    log = logging.getLogger("gatepost.collecting")
    before = log.level
    by_command = tuple(one.model_copy(update={"every": 0.0}) for one in settings.collect)
    worker = Worker(settings.model_copy(update={"listen": (), "collect": by_command}))
    try:
        await worker.start()
    except REASONS as error:
        told = failure(error)
        raise Failure(str(told), _exit(told.code), next_step=told.mend) from None
    collecting = worker.collecting
    assert collecting is not None

    async def ask(action: str, arguments: Mapping[str, Any]) -> Any:
        return collecting.listed() if action == _LIST else begin_runs(collecting, arguments["accounts"])

    log.setLevel(logging.ERROR)  # the command tells it itself
    try:
        yield ask
    finally:
        log.setLevel(before)
        await worker.stop()


def _listed(settings: Settings, accounts: tuple[str, ...]) -> Rows:
    from gatepost.app.control import ControlClient, ControlError, NotRunning

    assert settings.data is not None, "load refuses accounts without data"
    try:
        with ControlClient(settings.data) as client:
            rows: Rows = client.ask(_LIST)
    except ControlError as error:
        raise Failure(error.failure.message, _exit(error.failure.code), next_step=error.failure.mend) from None
    except NotRunning:
        rows = asyncio.run(_kept(settings))
    unknown = next((name for name in accounts if not any(row["name"] == name for row in rows)), None)
    if unknown is not None:
        raise Failure(f'there is no account "{unknown}"', Exit.USAGE, next_step="gatepost fetch --list")
    return [row for row in rows if not accounts or row["name"] in accounts]


async def _kept(settings: Settings) -> Rows:
    """What the first shard says of the last runs, while no server has it."""
    from pathlib import Path as File

    from gatepost.app.cli.access import as_the_server
    from gatepost.app.collecting import accounts, standings
    from gatepost.store.embedded import open_shard
    from gatepost.store.errors import SpoolError
    from gatepost.store.files import RealFiles

    folder = File(str(settings.data)) / "shards" / "0"
    if not folder.exists():
        return standings(accounts(settings), {})
    as_the_server(settings)
    try:
        spool = await open_shard(folder, RealFiles(), time.time)
    except (SpoolError, OSError) as error:
        raise Failure(str(error), Exit.TEMPORARY, next_step="a server is starting or stopping; try again") from None
    try:
        return standings(accounts(settings), await spool.memos("collect/"))
    finally:
        await spool.close()


def _exit(code: int) -> Exit:
    return Exit(code) if code in set(Exit) else Exit.TEMPORARY


# ── telling ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tell(reports: list[dict[str, Any]], *, as_json: bool) -> int:
    from gatepost.collecting.reports import Report, summed

    read = [Report.read(one) for one in reports]
    if as_json:
        click.echo(json.dumps(reports, indent=2))
    else:
        for one in read:
            click.echo(f"{one.account}: {printable(str(one))}")
            for text in one.told:
                click.echo(f"  {printable(text)}")
            if one.trouble is not None and (advice := _ADVICE.get(one.trouble.value)):
                click.echo(f"  {advice}")
        if len(read) > 1:
            click.echo(f"all {len(read)}: {printable(str(summed(read)))}")
    kinds = {one["trouble"] for one in reports} - {None}
    if "login" in kinds:
        return Exit.NO_PERMISSION
    return Exit.TEMPORARY if kinds else Exit.OK


def _show(rows: Rows, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']}  {printable(row['user'])} at {printable(row['server'])}  {_state(row)}")
        if row["last"] is not None:
            click.echo(f"  {_when(row['last']['ended'])}  {printable(_said(row['last']))}")
        if row["failures"] > 1:
            click.echo(f"  {row['failures']} runs in a row have failed")
        if totals := {name: count for name, count in row["totals"].items() if count}:
            click.echo(f"  since the server started: {', '.join(f'{count} {name}' for name, count in totals.items())}")


def _said(last: dict[str, Any]) -> str:
    from gatepost.collecting.reports import Report

    return str(Report.read(last))


def _state(row: dict[str, Any]) -> str:
    if row["running"]:
        step = row["step"]
        return "is being looked at" if step is None else f"fetching {step['done']} of {step['total']}"
    if not row["enabled"]:
        return "switched off"
    if row["next_at"] is None:
        return "by command only" if not row["every_s"] else "not under way"
    return f"next run {_when(row['next_at'])}"


def _when(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%m-%d %H:%M:%S}"


def _bars(wanted: bool | None) -> tuple[Callable[[dict[str, Any]], None], Callable[[], None]]:
    """What draws an account's progress, and what ends the drawing."""
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        return (lambda _: None), (lambda: None)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    tasks: dict[str, TaskID] = {}

    def draw(row: dict[str, Any]) -> None:
        name, step = row["name"], row["step"]
        if not tasks:
            bars.start()
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=None)
        if step is not None and step["total"]:
            bars.update(tasks[name], completed=step["done"], total=step["total"])

    return draw, lambda: bars.stop() if tasks else None
