"""`gatepost trace`: finds sessions by address and time."""

from __future__ import annotations

import json
import time
from datetime import datetime

import rich_click as click

from gatepost.app.cli.desk import ask
from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command("trace")
@click.option("--to", help="A recipient, or a part of one.")
@click.option("--from", "sender", help="A sender, or a part of one.")
@click.option("--peer", help="The client's address, or its beginning.")
@click.option("--heard", help="A part of a reply that the sender heard: a code, words, another server's id.")
@click.option("--since", default="1d", show_default=True, help="How far back (2h, 3d), or a date and time.")
@click.option("--until", help="Until when: a time ago, or a date and time.")
@click.option("--limit", default=50, show_default=True, help="At most so many, the newest first.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def command(
    frame: Frame,
    *,
    to: str | None,
    sender: str | None,
    peer: str | None,
    heard: str | None,
    since: str,
    until: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List sessions, the newest first; `explain` tells one in full.

    Those that were refused or abandoned are there too.
    """
    arguments = {"to": to, "from": sender, "peer": peer, "heard": heard, "limit": limit, "since_ms": _when(since)}
    if until:
        arguments["until_ms"] = _when(until)
    found = ask(frame, "trace", {key: value for key, value in arguments.items() if value is not None})
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo(f"no session since {since} fits; look further back: --since 7d")
    for one in found:
        when = datetime.fromtimestamp(one["ms"] / 1000).astimezone()
        to_whom = " ".join(f"<{recipient}>" for recipient in one["to"])
        more = f"  and {others} more before it" if (others := one["messages"] - 1) > 0 else ""
        whose = f"<{one['from']}> → {to_whom}{more}"
        click.echo(f"{one['token']}  {when:%m-%d %H:%M:%S}  {one['outcome']:<10} {one['peer']:<15} {whose}")


def _when(text: str) -> int:
    """Unix time in ms: "2h" is two hours ago."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isdigit():
        return int((time.time() - int(number) * _UNITS[unit]) * 1000)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError:
        raise Failure(f'"{text}" is no time', Exit.USAGE, next_step="--since 2h, --since 2026-11-24T09:00") from None
