"""`gatepost list`, the part about people: who is on a list, who comes and goes, who hasn't confirmed yet."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.list_words import known, member_with_words, opened, people
from gatepost.app.cli.outcome import Exit, Failure
from gatepost.model.written import printable

if TYPE_CHECKING:
    from gatepost.store.lists_facts import Member

_from_file = click.option(
    "--file", type=click.Path(path_type=Path, allow_dash=True), help="A file with an address a line; - reads them here."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command("members")
@click.argument("name")
@_as_json
@pass_frame
def members(frame: Frame, *, name: str, as_json: bool) -> None:
    """List who is on NAME, in the order they came."""
    with opened(frame.settings()) as lists:
        known(lists, name)
        found = lists.members(name)
    if as_json:
        click.echo(json.dumps([_facts(one) for one in found], indent=2))
        return
    for one in found:
        click.echo(_line(one))


@click.command("subscribe")
@click.argument("name")
@click.argument("addresses", nargs=-1)
@_from_file
@click.option("--nomail", is_flag=True, help="They may post, and get no mail.")
@pass_frame
def subscribe(frame: Frame, *, name: str, addresses: tuple[str, ...], file: Path | None, nomail: bool) -> None:
    """Put addresses on NAME, all in one step. Nobody is asked to confirm, and nobody is told."""
    if not addresses and file is None:
        raise Failure("who?", Exit.USAGE, next_step=f"gatepost list subscribe {name} ann@example.org, or --file FILE")
    wanted = people(addresses, file)
    with opened(frame.settings()) as lists:
        known(lists, name)
        added = lists.subscribe_all(name, wanted, mode="nomail" if nomail else "mail", now=time.time())
    there = len(wanted) - added
    click.echo(f"{added:,} added to {name}" + (f", {there:,} on it already" if there else ""))


@click.command("unsubscribe")
@click.argument("name", required=False)
@click.argument("addresses", nargs=-1)
@_from_file
@click.option("--token", help="What a one-click unsubscribe link carries, instead of a name and an address.")
@pass_frame
def unsubscribe(
    frame: Frame, *, name: str | None, addresses: tuple[str, ...], file: Path | None, token: str | None
) -> None:
    """Take addresses off NAME, all in one step. Nobody is told.

    With --token=TOKEN whom a one-click link was sent to. Exit codes: 0 is off the list now, 65 the token isn't ours,
    75 try again later.
    """
    settings = frame.settings()
    if token is not None:
        if name is not None or file is not None:
            raise Failure("a token says who", Exit.USAGE, next_step="gatepost list unsubscribe --token=TOKEN")
        with opened(settings) as lists:
            member = None if (id := _member_of(token, lists.secret)) is None else lists.member_by_id(id)
            if id is None:
                raise Failure("this token isn't one of ours", Exit.DATA)
            if member is not None:
                lists.unsubscribe(member.list, member.address)
        click.echo("not on the list any more" if member is None else f"{printable(member.address)} left {member.list}")
        return
    if name is None or (not addresses and file is None):
        raise Failure("who?", Exit.USAGE, next_step="gatepost list unsubscribe NAME ann@example.org, or --file FILE")
    wanted = [address for address, _ in people(addresses, file)]
    with opened(settings) as lists:
        known(lists, name)
        gone = len(lists.unsubscribe_all(name, wanted))
    if not gone:
        raise Failure(f"nobody of them is on {name}", Exit.USAGE, next_step=f"gatepost list members {name}")
    missing = len(set(wanted)) - gone
    click.echo(f"{gone:,} taken off {name}" + (f", {missing:,} weren't on it" if missing > 0 else ""))


@click.command("member")
@click.argument("name")
@click.argument("address")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@_as_json
@pass_frame
def member(frame: Frame, *, name: str, address: str, words: tuple[str, ...], as_json: bool) -> None:
    """Show one member of NAME, or change him: `mode=nomail`, `vacation=2026-08-31`, `moderated=yes`, `display=Ann`,
    `bounces=0` (forget them, and send mail again).
    """
    with opened(frame.settings()) as lists:
        known(lists, name)
        found = lists.member(name, address)
        if found is None:
            next_step = f"gatepost list members {name}"
            raise Failure(f"{printable(address)} isn't on {name}", Exit.USAGE, next_step=next_step)
        if words:
            found = member_with_words(found, words)
            lists.change_member(found)
    click.echo(json.dumps(_facts(found), indent=2) if as_json else _line(found))


@click.command("pending")
@click.argument("name")
@_as_json
@pass_frame
def pending(frame: Frame, *, name: str, as_json: bool) -> None:
    """List what NAME waits for: who was asked and hasn't answered, whom the owners could let in, and probes."""
    with opened(frame.settings()) as lists:
        known(lists, name)
        found = lists.waiting(name, time.time())
    if as_json:  # a token confirms for whoever has it, so it stays here
        facts = [
            {"address": one.address, "waits_for": who, "action": what, "asked_at": one.asked_at, "until": one.until}
            for one in found
            for who, what in [_waits_for(one.action)]
        ]
        click.echo(json.dumps(facts, indent=2))
        return
    for one in found:
        who, what = _waits_for(one.action)
        said = "probe, to see whether the address works; sent" if who == "probe" else f"{what}; {who} asked"
        click.echo(printable(f"{one.address}  {said} {_when(one.asked_at)}, until {_when(one.until)}"))


def _waits_for(action: str) -> tuple[str, str]:
    """Who is asked ("member", "owners"; "probe": nobody, a mail is to come back or not), and about what."""
    word, _, argument = action.partition(" ")
    if word == "probe":
        return "probe", word
    if word == "approve":
        return "owners", "subscribe"
    return "member", f"{word} {argument}" if word == "vacation" else word


COMMANDS = (members, subscribe, unsubscribe, member, pending)


def _member_of(token: str, secret: bytes) -> int | None:
    from gatepost.lists.addressing import unsubscribing_member

    return unsubscribing_member(token.strip(), secret)


def _facts(one: Member) -> dict[str, Any]:
    from dataclasses import asdict

    return {key: value for key, value in asdict(one).items() if key != "list"}


def _line(one: Member) -> str:
    said = [one.address, *([f"({one.display})"] if one.display else []), f"since {_when(one.since)}"]
    if one.mode != "mail":
        said.append(one.mode)
    if one.vacation_until is not None and one.vacation_until > time.time():
        from gatepost.lists.commands import shown_day

        said.append(f"on vacation until {shown_day(one.vacation_until)} is over")
    if one.moderated:
        said.append("moderated")
    if one.stopped_at is not None:
        said.append(f"STOPPED by bounces {_when(one.stopped_at)}")
    elif one.score:
        said.append(f"bounces {one.score:g}")
    return printable("  ".join(said))


def _when(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}"
