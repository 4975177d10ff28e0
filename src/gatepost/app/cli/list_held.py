"""`gatepost list`, the part about moderation: posts that wait, and what is decided about them."""

from __future__ import annotations

import json
import time
from typing import Any

import rich_click as click

from gatepost.app.cli.desk import ask
from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.list_words import known, opened
from gatepost.app.cli.outcome import Exit, Failure
from gatepost.model.written import printable

_PAGE = 500


@click.command("held")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def held(frame: Frame, *, name: str | None, as_json: bool) -> None:
    """List posts that wait for a moderator, to NAME or to any list."""
    settings = frame.settings()
    found = [entry for entry in _held(frame) if (whose := _list_of(entry)) and name in (None, whose)]
    with opened(settings) as lists:
        if name is not None and not found:  # of a list that was removed posts may still wait
            known(lists, name)
        decided = {one.ticket: one.approved for one in lists.decisions()}
    if as_json:
        rows = [{**entry, "list": _list_of(entry), "approved": decided.get(entry["id"].upper())} for entry in found]
        click.echo(json.dumps(rows, indent=2))
        return
    for entry in found:
        line = f"{entry['id']}  {_list_of(entry)}  <{entry['sender']}>  {entry['size']:,} octets"
        if (approved := decided.get(entry["id"].upper())) is not None:
            line += "  approved" if approved else "  refused"
        click.echo(printable(line))
    click.echo(f"{len(found)} held")


@click.command("approve")
@click.argument("tickets", nargs=-1, required=True)
@pass_frame
def approve(frame: Frame, *, tickets: tuple[str, ...]) -> None:
    """Let held posts go to their lists."""
    _decide(frame, tickets, approved=True)


@click.command("refuse")
@click.argument("tickets", nargs=-1, required=True)
@pass_frame
def refuse(frame: Frame, *, tickets: tuple[str, ...]) -> None:
    """Throw held posts away."""
    _decide(frame, tickets, approved=False)


COMMANDS = (held, approve, refuse)


def _decide(frame: Frame, tickets: tuple[str, ...], *, approved: bool) -> None:
    settings = frame.settings()
    for ticket in tickets:
        entry = ask(frame, "queue.show", {"id": ticket})
        if not _list_of(entry):
            next_step = f"gatepost queue {'release' if approved else 'delete'} {printable(ticket)}"
            raise Failure(
                f"{printable(ticket)} isn't a post that waits for a moderator", Exit.USAGE, next_step=next_step
            )
        with opened(settings) as lists:
            counts = lists.decide(entry["id"].upper(), approved, "command", time.time())
        word = "approved" if counts.approved else "refused"
        if counts.approved is not approved:
            next_step = f"gatepost queue {'release' if approved else 'delete'} {entry['id']}"
            raise Failure(
                f"{entry['id']} was {word} already by {printable(counts.by)}", Exit.USAGE, next_step=next_step
            )
        click.echo(f"{entry['id']} {word}")


def _held(frame: Frame) -> list[dict[str, Any]]:
    """Every held entry, page by page."""
    entries: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = ask(frame, "queue.list", {"held": True, "limit": _PAGE, "after": after})["entries"]
        entries += page
        if len(page) < _PAGE:
            return entries
        after = page[-1]["id"]


def _list_of(entry: dict[str, Any]) -> str:
    """Which list a held entry is a post to, by the reason it is held for; "" for none."""
    word, _, rest = (entry["held"] or "").partition(" ")
    name, colon, why = rest.partition(": ")
    return name if word == "list" and colon and why.startswith("waits for a moderator") else ""
