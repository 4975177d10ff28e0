"""`gatepost reload`: the running server reads its settings again; all of it switches, or nothing."""

from __future__ import annotations

import rich_click as click

from gatepost.app.cli.desk import ask
from gatepost.app.cli.frame import Frame, pass_frame


@click.command("reload")
@pass_frame
def command(frame: Frame) -> None:
    """Let the running server load its settings and plugins anew.

    Sessions keep what they began with until they end.
    """
    click.echo(ask(frame, "reload", needs_server=True))
