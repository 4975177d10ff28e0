"""`gatepost queue`: what waits to be delivered, what is held, and what an operator does about it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import rich_click as click

from gatepost.app.cli.desk import ask
from gatepost.app.cli.frame import Frame, pass_frame


@click.group("queue")
def command() -> None:
    """Look at the queue, retry, hold, release and delete messages. Works with and without a running server."""


@command.command("list")
@click.option("--held", is_flag=True, help="Only messages that are held.")
@click.option("--limit", default=100, show_default=True, help="At most so many.")
@click.option("--after", help="Go on behind this ticket.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def listed(frame: Frame, *, held: bool, limit: int, after: str | None, as_json: bool) -> None:
    """List messages, the oldest first."""
    found = ask(frame, "queue.list", {"held": True if held else None, "limit": limit, "after": after})
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for entry in found["entries"]:
        click.echo(_line(entry))
    click.echo(f"{found['queued']} queued, {found['held']} held")


@command.command("show")
@click.argument("ticket")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def show(frame: Frame, *, ticket: str, as_json: bool) -> None:
    """Show one message: its recipients, what was last said about each, its main headers."""
    entry = ask(frame, "queue.show", {"id": ticket})
    if as_json:
        click.echo(json.dumps(entry, indent=2))
        return
    click.echo(_line(entry))
    for recipient, said in entry["recipients"].items():
        click.echo(f"  <{recipient}>  {said}")
    for header in entry["headers"]:
        click.echo(f"  {_safe(header)}")


def _act(action: str, help_text: str, done: str) -> None:
    @command.command(action, help=help_text)
    @click.argument("tickets", nargs=-1, required=True)
    @pass_frame
    def act(frame: Frame, *, tickets: tuple[str, ...]) -> None:
        for ticket in tickets:
            ask(frame, f"queue.{action}", {"id": ticket})
            click.echo(f"{ticket} {done}")


_act("retry", "Attempt messages now.", "is due now")
_act("release", "End being held; the schedule starts anew.", "is released")
_act("delete", "Remove messages for good; nobody is told.", "is deleted")


@command.command("hold")
@click.argument("tickets", nargs=-1, required=True)
@click.option("--reason", default="held by an operator", show_default=True, help="Shown in the list.")
@pass_frame
def hold(frame: Frame, *, tickets: tuple[str, ...], reason: str) -> None:
    """Keep messages from being attempted until they are released."""
    for ticket in tickets:
        ask(frame, "queue.hold", {"id": ticket, "reason": reason})
        click.echo(f"{ticket} is held")


@command.command("flush")
@pass_frame
def flush(frame: Frame) -> None:
    """Attempt everything that isn't held now."""
    click.echo(f"{ask(frame, 'queue.flush')} due now")


def _line(entry: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(entry["received_at"]).astimezone()
    to = " ".join(f"<{recipient}>" for recipient in entry["to"])
    more = (
        f" and {entry['recipients_count'] - len(entry['to'])} more"
        if entry["recipients_count"] > len(entry["to"])
        else ""
    )
    state = f"held: {entry['held']}" if entry["held"] else f"attempts {entry['attempts']}"
    said = f"  {entry['said']}" if entry["said"] else ""
    return _safe(
        f"{entry['id']}  {when:%m-%d %H:%M}  {entry['size']:>9}  <{entry['sender']}> → {to}{more}  {state}{said}"
    )


def _safe(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
