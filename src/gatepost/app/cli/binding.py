"""`gatepost binding`: which event sinks are bound to what; smtpreg's commands, with its arguments.

Strategy: a command makes the new text of the registry, looks whether settings with it would be taken, writes it, and
asks the running server to reload. If that refuses, the text before is put back.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import rich_click as click

from gatepost.app.cli.access import as_the_server
from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from pathlib import Path

    from gatepost.app.bindings import Row
    from gatepost.app.bindings_changes import Bag
    from gatepost.app.bindings_events import Event
    from gatepost.app.bindings_file import KeptText
    from gatepost.app.settings import Settings

_RELOAD_S = 300.0
Edit = Callable[[list["Row"]], tuple[list["Row"], str]]
"""From the rows there are to those there shall be, and what was done, in words."""


class _Commands(click.RichGroup):
    """As smtpreg has them: `/add` is `add`, in any case; `list` is `enum`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0].lower()
        plain = name.removeprefix("/")
        return super().resolve_command(ctx, [{"list": "enum"}.get(plain, plain), *args[1:]])


@click.group("binding", cls=_Commands)
def command() -> None:
    """Bind event sinks to events, as smtpreg does.

    A running server knows of each change at once.

    INSTANCE is a listener's number, from 1 in the order of the settings. EVENT is such as OnInboundCommand or
    OnArrival, or its category's GUID. A NAME that begins with { is a binding's GUID, else it is its display name, whose
    case counts.
    """


_ROW = (
    click.argument("instance", type=click.IntRange(1)),
    click.argument("event"),
    click.argument("name"),
)


def _of_row(function: Callable[..., Any]) -> Callable[..., Any]:
    for argument in reversed(_ROW):
        function = argument(function)
    return function


@command.command("add")
@_of_row
@click.argument("sink_class")
@click.argument("rule", default="")
@click.argument("priority", type=click.IntRange(0, 32767), required=False)
@pass_frame
def add(
    frame: Frame, *, instance: int, event: str, name: str, sink_class: str, rule: str, priority: int | None
) -> None:
    """Bind SINK_CLASS to EVENT: a ProgID or {CLSID} that was registered, package.module:Class or file.py:Class.

    RULE is such as "ehlo=*.example.com; mail from=*; rcpt to=*@example.org": any item is enough; without one it is
    asked every time. PRIORITY is 0, asked first, to 32767, by default 24575.
    """
    from gatepost.app.bindings_changes import added

    meant = _event(event)

    def edit(rows: list[Row]) -> tuple[list[Row], str]:
        made, row = added(rows, instance, meant, name, sink_class, rule, priority)
        same = [one for one in rows if row.name and (one.instance, one.event, one.name) == (instance, meant, row.name)]
        note = f'\n  another one is named "{row.name}", and is meant by it; this one by its GUID' if same else ""
        return made, f"added: {_words(row)}{note}"

    _change(frame, edit)


@command.command("remove")
@_of_row
@pass_frame
def remove(frame: Frame, *, instance: int, event: str, name: str) -> None:
    """Remove a binding."""
    from gatepost.app.bindings_changes import removed

    _change_one(frame, instance, event, name, lambda rows, row: (removed(rows, row), row), "removed")


@command.command("enable")
@_of_row
@pass_frame
def enable(frame: Frame, *, instance: int, event: str, name: str) -> None:
    """Ask a sink again that was disabled."""
    from gatepost.app.bindings_changes import switched

    _change_one(frame, instance, event, name, lambda rows, row: switched(rows, row, enabled=True), "enabled")


@command.command("disable")
@_of_row
@pass_frame
def disable(frame: Frame, *, instance: int, event: str, name: str) -> None:
    """Keep a binding, but ask its sink no more."""
    from gatepost.app.bindings_changes import switched

    _change_one(frame, instance, event, name, lambda rows, row: switched(rows, row, enabled=False), "disabled")


_BAG = click.argument("bag", type=click.Choice(["Source", "Sink"], case_sensitive=False))


@command.command("setprop", context_settings={"ignore_unknown_options": True})
@_of_row
@_BAG
@click.argument("property_name")
@click.argument("value", default="")
@pass_frame
def setprop(frame: Frame, *, instance: int, event: str, name: str, bag: str, property_name: str, value: str) -> None:
    """Set a property: of Source, how it is asked, or of Sink, which the sink itself is given.

    Source properties that mean something: Rule, Priority, timeout, on_failure, shadow, always, secrets,
    ehlo_matches_helo, threads.
    """
    from gatepost.app.bindings_changes import with_property
    from gatepost.app.settings.bindings_rows import READ, is_read

    note = ""
    if bag.lower() == "source" and not is_read(property_name):
        note = f"\n  it is kept, but nothing here reads it: what is read is {', '.join(READ)}"

    _change_one(
        frame,
        instance,
        event,
        name,
        lambda rows, row: with_property(rows, row, _bag(bag), property_name, value),
        f"{bag.lower()} property {property_name} set",
        note,
    )


@command.command("delprop")
@_of_row
@_BAG
@click.argument("property_name")
@pass_frame
def delprop(frame: Frame, *, instance: int, event: str, name: str, bag: str, property_name: str) -> None:
    """Remove a property."""
    from gatepost.app.bindings_changes import without_property

    _change_one(
        frame,
        instance,
        event,
        name,
        lambda rows, row: without_property(rows, row, _bag(bag), property_name),
        f"{bag.lower()} property {property_name} removed",
    )


@command.command("enum")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def enum(frame: Frame, *, as_json: bool) -> int:
    """List all bindings, those of the settings and those made here, each with the place it stands at.

    Exit code 78 if anything is wrong with them.
    """
    from gatepost.app.bindings_listing import listed

    settings, is_wrong = frame.settings_or_without_bindings()
    rows: Mapping[int, Row] = {}
    if settings.data is not None:
        try:
            rows = _rows(_file(settings.data).read())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):  # told already
            return Exit.CONFIGURATION
    told = listed(settings, rows)
    click.echo(json.dumps(told, indent=2) if as_json else "\n".join(_lines(told)))
    return Exit.CONFIGURATION if is_wrong else Exit.OK


# ── changing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _change_one(
    frame: Frame,
    instance: int,
    event: str,
    name: str,
    edit: Callable[[Sequence[Row], Row], tuple[list[Row], Row]],
    done: str,
    note: str = "",
) -> None:
    """Change the row that is meant; one that was written in the settings isn't changed here."""
    from gatepost.app.bindings_changes import NoSuchRow, found

    meant = _event(event)

    def edit_it(rows: list[Row]) -> tuple[list[Row], str]:
        try:
            row = found(rows, instance, meant, name)
        except NoSuchRow:
            _not_of_settings(frame, name)
            raise
        made, now = edit(rows, row)
        return made, f"{done}: {_words(now)}{note}"

    _change(frame, edit_it)


def _change(frame: Frame, edit: Edit) -> None:
    from gatepost.app.bindings import text_of
    from gatepost.app.bindings_changes import Refused
    from gatepost.app.bindings_file import Busy

    settings = _load(frame, rows="")
    if settings.data is None:
        raise Failure("these settings have no data folder", Exit.CONFIGURATION, next_step='data = "/var/lib/gatepost"')
    file = _file(settings.data)
    try:
        before = file.read()
    except (OSError, UnicodeDecodeError):
        frame.settings()  # says why
        raise
    wrong_before = _wrong(frame, before or "")
    try:
        rows = _rows(before)
    except tomllib.TOMLDecodeError:
        rows = {}
    if wrong_before and len(rows) != _count(before):  # what can't be read would be lost
        click.echo("\n".join(wrong_before.values()), err=True)
        raise Failure(f"{file.path} has to be mended first", Exit.CONFIGURATION, next_step="gatepost check")
    try:
        made, done = edit([*rows.values()])
    except Refused as error:
        raise Failure(str(error), Exit.USAGE, next_step=error.mend) from None
    text = text_of(made)
    if new := [report for what, report in _wrong(frame, text).items() if what not in wrong_before]:
        click.echo("\n".join(new), err=True)
        raise Failure("nothing was changed", Exit.CONFIGURATION, next_step="gatepost binding --help")
    as_the_server(settings)
    try:
        with file.alone():
            if file.read() != before:
                raise Busy(f"another command has changed {file.path}")
            file.write(text)
            told = _tell_server(settings.data, lambda: file.write(before))
    except Busy as error:
        raise Failure(str(error), Exit.TEMPORARY, next_step="try again") from None
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise Failure(f"{file.path} can't be written: {words}", Exit.CANT_CREATE, next_step="gatepost check") from None
    click.echo(f"{done}\n{told}")


def _tell_server(data: Path, put_back: Callable[[], None]) -> str:
    """Let the running server take it, whole, or put everything back."""
    from gatepost.app.control import ControlClient, ControlError, NotRunning

    try:
        with ControlClient(data, timeout_s=_RELOAD_S) as client:
            told: str = client.ask("reload")
            return told
    except NotRunning:
        return "no server runs now; gatepost plugin list tells whether the next one can work with it"
    except ControlError as error:
        put_back()
        refusal = error.failure
        code = Exit(refusal.code) if refusal.code in set(Exit) else Exit.TEMPORARY
        text = f"the server doesn't take it, nothing was changed: {refusal.message}"
        raise Failure(text, code, next_step=refusal.mend) from None
    except TimeoutError:
        text = f"it is written, but the server hasn't taken it within {_RELOAD_S:g} seconds"
        raise Failure(text, Exit.TEMPORARY, next_step="gatepost reload") from None


def _not_of_settings(frame: Frame, name: str) -> None:
    """Failure that says where to change it, if a plugin of the settings has that name."""
    from gatepost.app.bindings_listing import origin_of, place_in_registry

    settings = _load(frame, rows="")
    for at, plugin in enumerate(settings.plugin):
        if plugin.name == name and place_in_registry(settings, at) is None:
            place = origin_of(settings, at) or "the settings"
            keys = "rule, priority, enabled and properties"
            raise Failure(
                f'"{name}" is written in {place}, not here',
                Exit.USAGE,
                next_step=f"change {keys} of that [[plugin]] there, then: gatepost reload",
            )


def _load(frame: Frame, *, rows: str | None) -> Settings:
    from gatepost.app.settings import SettingsError, load

    try:
        return load(frame.file, environ=os.environ, rows=rows)
    except SettingsError as error:
        _refuse(str(error))


def _refuse(report: str) -> NoReturn:
    click.echo(report, err=True)
    raise SystemExit(Exit.CONFIGURATION)


def _wrong(frame: Frame, text: str) -> dict[str, str]:
    """What is wrong with the settings if the registry has that text: what, and how it is shown."""
    from gatepost.app.settings import SettingsError, load

    try:
        load(frame.file, environ=os.environ, rows=text)
    except SettingsError as error:
        return {finding.what: str(finding) for finding in error.findings}
    return {}


def _file(data: Path) -> KeptText:
    from gatepost.app.bindings_file import KeptText
    from gatepost.app.settings.bindings_rows import ROWS
    from gatepost.store.files import RealFiles

    return KeptText(data, ROWS, RealFiles())


def _rows(text: str | None) -> dict[int, Row]:
    from gatepost.app.bindings import rows_in

    return rows_in(tomllib.loads(text or ""))[0]


def _count(text: str | None) -> int:
    """How many rows a text has, good or not; -1 if that can't be told."""
    try:
        tables = tomllib.loads(text or "").get("binding", [])
    except tomllib.TOMLDecodeError:
        return -1
    return len(tables) if isinstance(tables, list) else -1


def _event(text: str) -> Event:
    from gatepost.app.bindings_events import NoSuchEvent, event_named

    try:
        return event_named(text)
    except NoSuchEvent as error:
        what, _, mend = str(error).partition("; ")
        raise Failure(what, Exit.USAGE, next_step=mend or "gatepost binding --help") from None


def _bag(text: str) -> Bag:
    bag: Literal["source", "sink"] = "source" if text.lower() == "source" else "sink"
    return bag


# ── showing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _words(row: Row) -> str:
    name = f'"{row.name}" ' if row.name else ""
    return f"{name}{row.id}, {row.event.name} of instance {row.instance}, {row.cls}"


def _lines(told: Mapping[str, Any]) -> list[str]:
    lines = [f"instance {one['instance']}  {one['listener']}  {one['address']}" for one in told["instances"]]
    if not told["bindings"]:
        lines.append("no bindings; add one:  gatepost binding add 1 OnInboundCommand NAME sinks.py:Class")
    for one in told["bindings"]:
        where = f"instance {one['instance']} ({one['listener']})" if one["instance"] else "every instance"
        event = one["event"] or ", ".join(one["stages"]) or "as its code says"
        parts = [one["name"], one["id"], one["dialect"], event, where if one["dialect"] == "sink" else ""]
        parts.append("" if one["priority"] is None else str(one["priority"]))
        parts += ["" if one["enabled"] else "disabled", one["origin"]]
        lines.append("  ".join(part for part in parts if part))
        lines.append(f"  class   {one['class']}")
        if one["rule"]:
            lines.append(f"  rule    {one['rule']}")
        for bag in ("source", "sink"):
            shown = ", ".join(
                f"{name} = {json.dumps(value, ensure_ascii=False)}"
                for name, value in one[bag].items()
                if bag == "sink" or name.lower() not in {"rule", "priority"}
            )
            if shown:
                lines.append(f"  {bag:<7} {shown}")
    return lines
