"""`gatepost config`: the settings as they apply, and the schema of the file."""

from __future__ import annotations

import json

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame


@click.group("config")
def command() -> None:
    """Show the settings that apply, or the schema of the file."""


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="As a JSON list of key, value and source.")
@pass_frame
def show_settings(frame: Frame, *, as_json: bool) -> None:
    """Every setting as TOML, with where it came from; secrets are hidden."""
    from gatepost.app.settings import describe, show

    settings = frame.settings()
    if as_json:
        rows = [{"key": list(one.path), "value": one.value, "source": one.source} for one in describe(settings)]
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    if settings.file is None:
        click.echo("# no settings file: these are the defaults; a file is given with gatepost -c FILE")
    click.echo(show(settings), nl=False)


@command.command("schema")
def show_schema() -> None:
    """The JSON Schema of the settings file, for editors."""
    from gatepost.app.settings import schema

    click.echo(json.dumps(schema(), ensure_ascii=False, indent=2))
