"""`gatepost queue`: what waits to be delivered, what is held, and what an operator does about it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import rich_click as click

from gatepost.app.cli.desk import ask
from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure
from gatepost.model.written import printable


@click.group("queue")
def command() -> None:
    """Look at the queue; retry, hold, release, delete and suspend.

    Works with and without a running server.
    """


@command.command("list")
@click.option("--held", is_flag=True, help="Only messages that are held.")
@click.option("--to", help="Only for a recipient with this in its address, or fitting it as a pattern with *.")
@click.option("--from", "sender", help="Only of a sender or user with this in the address, or fitting it.")
@click.option("--destination", help="Only for a domain or next server, as `queue destinations` names it.")
@click.option("--limit", default=100, show_default=True, help="At most so many.")
@click.option("--after", help="Go on behind this ticket.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def listed(
    frame: Frame,
    *,
    held: bool,
    to: str | None,
    sender: str | None,
    destination: str | None,
    limit: int,
    after: str | None,
    as_json: bool,
) -> None:
    """List messages, the oldest first."""
    which = {"held": True if held else None, "to": to, "from": sender, "destination": destination}
    found = ask(frame, "queue.list", {**which, "limit": limit, "after": after})
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
        click.echo(f"  <{printable(recipient)}>  {printable(_one_line(said))}")
    if warned := entry.get("notes", {}).get("warned"):
        click.echo(f"  the sender was told of the delay on {_when(float(warned))}")
    for header in entry["headers"]:
        click.echo(f"  {printable(header)}")


def _act(action: str, help_text: str, done: str) -> None:
    @command.command(action, help=help_text)
    @click.argument("tickets", nargs=-1, required=True)
    @pass_frame
    def act(frame: Frame, *, tickets: tuple[str, ...]) -> None:
        for ticket in tickets:
            ask(frame, f"queue.{action}", {"id": ticket})
            click.echo(f"{ticket} {done}")


@command.command("retry")
@click.argument("tickets", nargs=-1)
@click.option("--destination", multiple=True, help="Everything for a domain or next server.")
@pass_frame
def retry(frame: Frame, *, tickets: tuple[str, ...], destination: tuple[str, ...]) -> None:
    """Attempt messages now: some, or all for a destination."""
    if not tickets and not destination:
        raise Failure("which messages?", Exit.USAGE, next_step="gatepost queue retry TICKET, or --destination NAME")
    for ticket in tickets:
        ask(frame, "queue.retry", {"id": ticket})
        click.echo(f"{ticket} is due now")
    for name in destination:
        click.echo(f"{name}: {ask(frame, 'queue.retry-destination', {'destination': name})} due now")


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


@command.command("suspend")
@click.argument("destinations", nargs=-1, required=True)
@pass_frame
def suspend(frame: Frame, *, destinations: tuple[str, ...]) -> None:
    """Deliver nothing to domains or next servers until they are resumed; `*` stands for any characters."""
    for name in destinations:
        ask(frame, "queue.suspend", {"destination": name})
        click.echo(f"{printable(name)} is suspended")


@command.command("resume")
@click.argument("destinations", nargs=-1, required=True)
@pass_frame
def resume(frame: Frame, *, destinations: tuple[str, ...]) -> None:
    """Deliver to suspended domains or next servers again, from now on."""
    for name in destinations:
        for resumed, due in ask(frame, "queue.resume", {"destination": name}).items():
            if due < 0:
                next_step = "gatepost queue destinations"
                raise Failure(f"{printable(resumed)} isn't suspended", Exit.TEMPORARY, next_step=next_step)
            click.echo(f"{printable(resumed)} is resumed, {due} due now")


@command.command("destinations")
@click.option("--limit", default=1000, show_default=True, help="At most so many, those with most queued.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def destinations(frame: Frame, *, limit: int, as_json: bool) -> None:
    """Where the queue's mail goes: how much waits, how the servers are doing, what is suspended."""
    rows = ask(frame, "queue.destinations", {"limit": limit})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if rows:
        click.echo(f"{'queued':>7} {'in hand':>7} {'held':>5} {'conns':>5}  destination")
    for row in rows:
        click.echo(
            f"{row['queued']:>7} {row['in_hand']:>7} {row['held']:>5} {row['connections']:>5}  {printable(_told(row))}"
        )


def _told(row: dict[str, Any]) -> str:
    """A destination, and what is the matter with it."""
    said = [row["destination"] if row["domains"] <= 1 else f"{row['destination']} ({row['domains']} domains)"]
    if row["suspended"] is not None:
        said.append(f"SUSPENDED since {_when(row['suspended'])}")
    if row["rests_until"] is not None:
        said.append(f"left alone until {_when(row['rests_until'])}")
    elif row["next_attempt"] is not None and row["suspended"] is None:
        said.append(f"next attempt {_when(row['next_attempt'])}")
    if row["last_failure"]:
        said.append(row["last_failure"])
    return "  ".join(said)


def _when(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%m-%d %H:%M:%S}"


def _line(entry: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(entry["received_at"]).astimezone()
    to = " ".join(f"<{recipient}>" for recipient in entry["to"])
    more = (
        f" and {entry['recipients_count'] - len(entry['to'])} more"
        if entry["recipients_count"] > len(entry["to"])
        else ""
    )
    state = f"held: {entry['held']}" if entry["held"] else f"attempts {entry['attempts']}"
    said = f"  {_one_line(entry['said'])}" if entry["said"] else ""
    return printable(
        f"{entry['id']}  {when:%m-%d %H:%M}  {entry['size']:>9}  <{entry['sender']}> → {to}{more}  {state}{said}"
    )


def _one_line(said: str) -> str:
    """A reply of several lines, as one."""
    return " ".join(said.splitlines())
