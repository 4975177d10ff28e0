"""`gatepost user`: who has a maildrop and may authenticate, besides the users of the settings."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from gatepost.app.cli.access import as_the_server
from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.app.settings import Settings
    from gatepost.store.registry import Registry
    from gatepost.store.users import User


@click.group("user")
def command() -> None:
    """Add, list and remove users. A running server knows of it at once."""


@command.command("add")
@click.argument("name")
@click.option("--alias", "aliases", multiple=True, help="A further address whose mail goes to the same maildrop.")
@click.option("--send-as", multiple=True, help="A further address, or a pattern, that the user may send as.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input (its first line).")
@click.option("--no-password", is_flag=True, help="Only a maildrop: nobody can log in as this user.")
@pass_frame
def add(
    frame: Frame,
    *,
    name: str,
    aliases: tuple[str, ...],
    send_as: tuple[str, ...],
    password_stdin: bool,
    no_password: bool,
) -> None:
    """Add NAME (the full address, which is the login name too); asks for the password unless told where it is."""
    from gatepost.app.users import passwords
    from gatepost.model import AddressError, Path
    from gatepost.store.registry import RegistryError

    try:
        for address in (name, *aliases):
            Path.parse(address)
    except AddressError as error:
        raise Failure(
            f'"{address}" is no address: {error}', Exit.USAGE, next_step="gatepost user add ann@example.org"
        ) from None
    settings = frame.settings()
    _is_ours(settings, name)
    with _registry(settings) as registry:
        try:
            if no_password:
                registry.add(name, None, aliases=aliases, send_as=send_as)
            else:
                secrets = asyncio.run(passwords().make(_password(password_stdin)))
                registry.add(name, secrets, aliases=aliases, send_as=send_as)
        except (RegistryError, ValueError) as error:
            why = _taken(registry, (name, *aliases)) or str(error)
            raise Failure(why, Exit.USAGE, next_step="gatepost user list") from None
    click.echo(f"{name} added")


@command.command("passwd")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input (its first line).")
@click.option(
    "--keep-plain",
    is_flag=True,
    help="Keep the password itself too, which CRAM-MD5 and APOP need: who reads data/users.db or a backup reads it.",
)
@pass_frame
def passwd(frame: Frame, *, name: str, password_stdin: bool, keep_plain: bool) -> None:
    """Give NAME another password."""
    from gatepost.app.users import passwords
    from gatepost.store.registry import RegistryError

    settings = frame.settings()
    _is_ours(settings, name)
    with _registry(settings) as registry:
        try:
            secrets = asyncio.run(passwords().make(_password(password_stdin), keep_plain=keep_plain))
            registry.set_password(name, secrets)
        except (RegistryError, ValueError) as error:
            raise Failure(str(error), Exit.USAGE, next_step="gatepost user list") from None
    click.echo(f"{name} has another password")
    if keep_plain:
        click.echo(f"It is kept in the clear: whoever can read {settings.data}/users.db, or a copy of it, reads it.")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_frame
def listed(frame: Frame, *, as_json: bool) -> None:
    """List users: those of the settings, then those of files, then those added here."""
    settings = frame.settings()
    users = [
        _facts(one.name, one.aliases, one.send_as, login=one.password is not None, source="settings")
        for one in settings.user
    ]
    for file, known in _files(settings):
        users += [
            _facts(one.name, one.aliases, one.send_as, login=one.password is not None, source=str(file))
            for one in known
        ]
    if settings.data is not None and (settings.data / "users.db").exists():
        with _registry(settings) as registry:
            users += [
                _facts(one.name, one.aliases, one.send_as, login=one.password is not None, source="registry")
                for one in registry.all()
            ]
    if as_json:
        click.echo(json.dumps(users, indent=2))
        return
    if not users:
        click.echo("no users; add one:  gatepost user add ann@example.org")
    for user in users:
        aliases = f"  aliases {', '.join(user['aliases'])}" if user["aliases"] else ""
        login = "" if user["login"] else "  no login"
        click.echo(f"{user['name']}  ({user['from']}){aliases}{login}")


@command.command("remove")
@click.argument("name")
@pass_frame
def remove(frame: Frame, *, name: str) -> None:
    """Remove NAME. The maildrop and its mail stay on disk."""
    from gatepost.store.registry import RegistryError

    settings = frame.settings()
    _is_ours(settings, name)
    with _registry(settings) as registry:
        try:
            registry.remove(name)
        except RegistryError as error:
            raise Failure(str(error), Exit.USAGE, next_step="gatepost user list") from None
    click.echo(f"{name} removed; the maildrop stays")


def _files(settings: Settings) -> Iterator[tuple[Path, list[User]]]:
    """The files of users that the settings name, and who stands there."""
    if settings.users.files:
        from gatepost.app.users import files_of_users

        for file, source in files_of_users(settings).items():
            yield file, list(source.all())


def _is_ours(settings: Settings, name: str) -> None:
    """Refuse to change who isn't kept by these commands."""
    wanted = name.lower()
    if any(user.name.lower() == wanted for user in settings.user):
        raise Failure(
            f"{name} is a user of the settings: they are changed there", Exit.USAGE, next_step="gatepost user list"
        )
    for file, known in _files(settings):
        for user in known:
            if wanted == user.name.lower():
                step = "edit it; a running server reads it again by itself"
                raise Failure(
                    f"{name} is a user of {file}, which these commands don't change", Exit.USAGE, next_step=step
                )


def _taken(registry: Registry, addresses: Sequence[str]) -> str:
    """Which of the addresses is somebody's already; "" if none is."""
    wanted = {address.lower(): address for address in addresses}
    for user in registry.all():
        if theirs := wanted.keys() & {one.lower() for one in (user.name, *user.aliases)}:
            return f"{wanted[min(theirs)]} belongs to {user.name} already"
    return ""


def _facts(name: str, aliases: Sequence[str], send_as: Sequence[str], *, login: bool, source: str) -> dict[str, Any]:
    return {"name": name, "aliases": list(aliases), "send_as": list(send_as), "login": login, "from": source}


@contextmanager
def _registry(settings: Settings) -> Iterator[Registry]:
    import gatepost.app.users  # noqa: F401  all that is needed, as long as every file can be read
    from gatepost.store.registry import Registry, RegistryError

    if settings.data is None:
        raise Failure("these settings have no data folder", Exit.CONFIGURATION, next_step='data = "/var/lib/gatepost"')
    as_the_server(settings)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        registry = Registry(settings.data / "users.db", os.urandom)
    except RegistryError as error:
        raise Failure(str(error), Exit.NO_PERMISSION, next_step="run it as the server's user") from None
    try:
        yield registry
    finally:
        registry.close()


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return asked
