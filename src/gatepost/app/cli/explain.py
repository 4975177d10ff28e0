"""`gatepost explain`: one session's story, by the token of a refusal or the ticket of a 250."""

from __future__ import annotations

import json

import rich_click as click

from gatepost.app.cli.desk import ask
from gatepost.app.cli.frame import Frame, pass_frame


@click.command("explain")
@click.argument("token")
@click.option("-v", "--verbose", is_flag=True, help="Every entry of the record.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def command(frame: Frame, *, token: str, verbose: bool, as_json: bool) -> None:
    """Say why a message was refused, held or accepted.

    TOKEN stands at the end of the reply that the sender heard.
    """
    told = ask(frame, "explain", {"token": token, "verbose": verbose, "json": as_json})
    click.echo(json.dumps(told, indent=2) if as_json else told)
