"""`gatepost list`: mailing lists, with and without a running server, which knows of every change at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import rich_click as click

from gatepost.app.cli import list_held, list_members
from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.list_words import ask_first, known, opened, option_words, with_words, written
from gatepost.app.cli.outcome import Exit, Failure
from gatepost.model.written import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatepost.app.settings import Settings
    from gatepost.store.lists_facts import ListOptions, MailingList


@click.group("list", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Make mailing lists, set them, and say who is on them.

    Without a command: list them. A running server knows of every change at once.
    """
    if context.invoked_subcommand is not None:
        return
    with opened(context.ensure_object(Frame).settings()) as lists:
        found = [(one, lists.count(one.name)) for one in lists.all()]
    if as_json:
        rows = [{"name": one.name, "address": one.address, "members": count} for one, count in found]
        click.echo(json.dumps(rows, indent=2))
        return
    if not found:
        click.echo("no lists; make one:  gatepost list create news news@example.org")
    for one, count in found:
        about = f"  {one.options.description}" if one.options.description else ""
        click.echo(printable(f"{one.name}  {one.address}  {_members(count)}, post: {one.options.post}{about}"))


@command.command("create")
@click.argument("name")
@click.argument("address")
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--owner", "owners", multiple=True, metavar="ADDRESS", help="Who hears of what happens to the list.")
@pass_frame
def create(frame: Frame, *, name: str, address: str, words: tuple[str, ...], owners: tuple[str, ...]) -> None:
    """Make the list NAME, whose address is ADDRESS. KEY=VALUE as for `set`."""
    from gatepost.app.list_neighbours import people_beside
    from gatepost.store.lists_facts import ListOptions, MailingList

    settings = frame.settings()
    options = with_words(ListOptions(owners=owners), words)
    with opened(settings) as lists:
        _check_people(address, options)
        _check_beside(MailingList(name, address, options), lists.all())
        made = lists.create(name, address, options)
    click.echo(f"{made.name} made: {made.address}")
    for text in people_beside(settings, made):
        click.echo(printable(f"  note:  {text}"))
    if not _has_route(settings, made.name, made.address):
        click.echo(f"  next:  a route in the settings, then gatepost reload:\n{_route(made.name, made.address)}")


@command.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Don't ask.")
@pass_frame
def remove(frame: Frame, *, name: str, yes: bool) -> None:
    """Remove the list NAME and its members. Its archive stays on disk."""
    settings = frame.settings()
    with opened(settings) as lists:
        gone = known(lists, name)
        ask_first(f"Remove {gone.name} and its {_members(lists.count(name))}?", yes)
        lists.remove(name)
    click.echo(f"{name} removed")
    if _has_route(settings, gone.name, gone.address):
        click.echo("  next:  remove its route from the settings, then gatepost reload")


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def show(frame: Frame, *, name: str, as_json: bool) -> None:
    """Show NAME: its address and its options."""
    with opened(frame.settings()) as lists:
        found, count = known(lists, name), lists.count(name)
    options = option_words(found.options)
    if as_json:
        click.echo(json.dumps({"name": name, "address": found.address, "members": count, **options}, indent=2))
        return
    click.echo(f"{name}  {found.address}  {_members(count)}")
    for key, value in options.items():
        click.echo(printable(f"  {key} = {written(value)}"))


@command.command("set")
@click.argument("name")
@click.argument("words", nargs=-1, required=True, metavar="KEY=VALUE...")
@pass_frame
def set_options(frame: Frame, *, name: str, words: tuple[str, ...]) -> None:
    """Change options of NAME: `post=members`, `owners+=ann@example.org`. `gatepost list show NAME` lists them."""
    with opened(frame.settings()) as lists:
        found = known(lists, name)
        before = found.options
        after = with_words(before, words)
        _check_people(found.address, after)
        lists.change(name, after)
    was, now = option_words(before), option_words(after)
    changed = [key for key in now if now[key] != was[key]]
    for key in changed:
        click.echo(printable(f"{key} = {written(now[key])}"))
    if not changed:
        click.echo("nothing has changed")


for _one in (*list_members.COMMANDS, *list_held.COMMANDS):
    command.add_command(_one)


def _check_people(address: str, options: ListOptions) -> None:
    """Those who look after a list are people, and not the list itself."""
    from gatepost.lists.addressing import purpose_of
    from gatepost.store.lists_facts import check_address, check_options, checked_path

    check_options(options)
    own = check_address(address)
    for one in (*options.owners, *options.moderators):
        if purpose_of(own, checked_path(one)) is not None:
            raise Failure(
                f"{printable(one)} is the list's own address: its mail would go round in circles",
                Exit.USAGE,
                next_step="the address of somebody who looks after the list",
            )


def _check_beside(wanted: MailingList, lists: Sequence[MailingList]) -> None:
    """A new list takes no address of another's."""
    from gatepost.app.list_neighbours import lists_beside

    for one, other in lists_beside([*lists, wanted]):
        if wanted.name in (one.name, other.name):
            raise Failure(
                f"{other.address} is one of the addresses of the list {one.name}, so no other list can have it",
                Exit.USAGE,
                next_step=f"gatepost list create {wanted.name} with another address",
            )


def _members(count: int) -> str:
    return f"{count:,} member{'' if count == 1 else 's'}"


def _has_route(settings: Settings, name: str, address: str) -> bool:
    return any(
        route.deliver.by == "list" and route.deliver.name == name and address.lower() in map(str.lower, route.match)
        for route in settings.route
    )


def _route(name: str, address: str) -> str:
    return f'         [[route]]\n         match = "{address}"\n         deliver = "list {name}"'
