"""`gatepost user`: who has a maildrop and may authenticate, besides the users of the settings and of files."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

import rich_click as click

from gatepost.app.cli.access import as_the_server
from gatepost.app.cli.frame import Frame, pass_frame
from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.app.settings import Settings
    from gatepost.store.registry import Registry
    from gatepost.store.users import User

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_FROM_STDIN = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input (its first line)."
)
_LIST = "gatepost user list"


@click.group("user")
def command() -> None:
    """Add, list, change and remove users.

    A running server knows of it at once.
    """


@command.command("add")
@click.argument("name")
@click.option("--alias", "aliases", multiple=True, help="A further address whose mail goes to the same maildrop.")
@click.option("--send-as", multiple=True, help="A further address, or a pattern, that the user may send as.")
@_FROM_STDIN
@click.option("--no-password", is_flag=True, help="Only a maildrop: nobody can log in as this user.")
@click.option("--quota", help='What the maildrop may hold: "1GiB", or none. Without it what [users] says.')
@_AS_JSON
@pass_frame
def add(
    frame: Frame,
    *,
    name: str,
    aliases: tuple[str, ...],
    send_as: tuple[str, ...],
    password_stdin: bool,
    no_password: bool,
    quota: str | None,
    as_json: bool,
) -> None:
    """Add NAME (the full address, which is the login name too); asks for the password unless told where it is."""
    from gatepost.app.users import passwords
    from gatepost.store.registry import RegistryError

    _check_addresses((name, *aliases))
    octets = None if quota is None else _octets(quota)
    settings = frame.settings()
    _check_free(settings, (name, *aliases))
    with _registry(settings) as registry:
        try:
            if why := _taken(registry, (name, *aliases)):
                raise Failure(why, Exit.USAGE, next_step=_LIST)
            secrets = None if no_password else asyncio.run(passwords().make(_password(password_stdin)))
            user = registry.add(name, secrets, aliases=aliases, send_as=send_as, quota=octets)
        except (RegistryError, ValueError) as error:
            raise Failure(str(error), Exit.USAGE, next_step=_LIST) from None
    _say(as_json, _facts(user, "registry"), f"{name} added")


@command.command("passwd")
@click.argument("name")
@_FROM_STDIN
@click.option(
    "--keep-plain",
    is_flag=True,
    help="Keep the password itself too, which CRAM-MD5 and APOP need: who reads data/users.db or a backup reads it.",
)
@_AS_JSON
@pass_frame
def passwd(frame: Frame, *, name: str, password_stdin: bool, keep_plain: bool, as_json: bool) -> None:
    """Give NAME another password."""
    from gatepost.app.users import passwords

    settings = frame.settings()
    with _changing(settings, name) as registry:
        registry.set_password(name, asyncio.run(passwords().make(_password(password_stdin), keep_plain=keep_plain)))
    text = f"{name} has another password"
    if keep_plain:
        text += f"\nIt is kept in the clear: whoever can read {settings.data}/users.db, or a copy of it, reads it."
        if not (settings.users.cram_md5 or settings.pop3.apop):
            text += "\nNothing uses it yet: switch on cram_md5 in [users], or apop in [pop3]."
    _say(as_json, {"name": name, "plain": keep_plain}, text)


@command.command("list")
@_AS_JSON
@pass_frame
def listed(frame: Frame, *, as_json: bool) -> None:
    """List users: those of the settings, then those of files, then those added here."""
    from gatepost.app.settings.users import show_quota

    users = [_facts(user, source) for user, source in _everybody(frame.settings())]
    if as_json:
        click.echo(json.dumps(users, indent=2))
        return
    if not users:
        click.echo("no users; add one:  gatepost user add ann@example.org")
    for user in users:
        aliases = f"  aliases {', '.join(user['aliases'])}" if user["aliases"] else ""
        quota = "" if user["quota"] is None else f"  quota {show_quota(user['quota'])}"
        login = "" if user["login"] else "  no login"
        click.echo(f"{user['name']}  ({user['from']}){aliases}{quota}{login}")


@command.command("quota")
@click.argument("name")
@click.argument("size", required=False)
@_AS_JSON
@pass_frame
def quota(frame: Frame, *, name: str, size: str | None, as_json: bool) -> None:
    """Show what NAME's maildrop holds, and may hold.

    With SIZE it may hold so much from now on: "1GiB", none, or default for what [users] says.
    """
    from gatepost.app.quotas import limit_of
    from gatepost.app.settings.units import show_size
    from gatepost.store.quota import Quota, Usage

    settings = frame.settings()
    if size is not None:
        octets = _octets(size)
        with _changing(settings, name) as registry:
            registry.set_quota(name, octets)
    user = _somebody(settings, name)

    async def count() -> Usage:
        counting = Quota(lambda user: _mailbox(settings, user))
        try:
            return await counting.usage(user.name)
        finally:
            await counting.close()

    try:
        used = asyncio.run(count())
    except OSError as error:
        mend = "run it as the server's user"
        raise Failure(f"the mailbox can't be read: {error}", Exit.NO_PERMISSION, next_step=mend) from None
    may = limit_of(user, settings).octets
    of = ", no quota" if may is None else f" of {show_size(may)} ({100 * used.octets // max(1, may)}%)"
    facts = {"name": user.name, "quota": may, "used": used.octets, "messages": used.messages}
    _say(as_json, facts, f"{user.name}: {used.octets} octets in {used.messages} messages{of}")


@command.command("alias")
@click.argument("name")
@click.option("--add", "added", multiple=True, help="A further address whose mail goes to NAME's maildrop.")
@click.option("--remove", "removed", multiple=True, help="An address that is NAME's no more.")
@_AS_JSON
@pass_frame
def alias(frame: Frame, *, name: str, added: tuple[str, ...], removed: tuple[str, ...], as_json: bool) -> None:
    """Show, add and remove further addresses of NAME. An address of several people is an [[alias]] of the settings."""
    _check_addresses(added)
    settings = frame.settings()
    if added or removed:
        _check_free(settings, added)
        with _changing(settings, name) as registry:
            user = _somebody(settings, name)
            gone = {_folded(one) for one in removed}
            for one in sorted(gone - {_folded(known) for known in user.aliases}):
                raise Failure(f"{one} is no alias of {name}", Exit.USAGE, next_step=f"gatepost user alias {name}")
            if why := _taken(registry, added, but=user.name):
                raise Failure(why, Exit.USAGE, next_step=_LIST)
            kept = [one for one in user.aliases if _folded(one) not in gone]
            registry.set_aliases(name, list(dict.fromkeys((*kept, *added))))
    user = _somebody(settings, name)
    facts = {"name": user.name, "aliases": list(user.aliases)}
    _say(as_json, facts, "\n".join(user.aliases) if user.aliases else f"{user.name} has no aliases")


@command.command("remove")
@click.argument("name")
@_AS_JSON
@pass_frame
def remove(frame: Frame, *, name: str, as_json: bool) -> None:
    """Remove NAME. The maildrop and its mail stay on disk."""
    settings = frame.settings()
    with _changing(settings, name) as registry:
        registry.remove(name)
    mailbox = _mailbox(settings, name)
    has_mail, is_open = mailbox.is_dir(), _is_open(mailbox)
    text = f"{name} removed; " + (f"the mail stays in {mailbox}" if has_mail else "there was no mail")
    if is_open:
        text += "\na POP3 session of this user is open and goes on to its end; nobody can begin another"
    _say(as_json, {"name": name, "mailbox": str(mailbox) if has_mail else None, "session": is_open}, text)


def _everybody(settings: Settings) -> list[tuple[User, str]]:
    """Every user, and where he is kept; who counts first comes first."""
    from gatepost.app.users import of_settings

    users = [(of_settings(one), "settings") for one in settings.user]
    users += [(one, str(file)) for file, known in _files(settings) for one in known]
    if settings.data is not None and (settings.data / "users.db").exists():
        with _registry(settings) as registry:
            users += [(one, "registry") for one in registry.all()]
    return users


def _somebody(settings: Settings, name: str) -> User:
    """The user of this name."""
    for user, _ in _everybody(settings):
        if _folded(user.name) == _folded(name):
            return user
    raise Failure(f"there is no user {name}", Exit.USAGE, next_step=_LIST)


def _files(settings: Settings) -> Iterator[tuple[File, list[User]]]:
    """The files of users that the settings name, and who stands there."""
    if settings.users.files:
        from gatepost.app.users import files_of_users

        for file, source in files_of_users(settings).items():
            yield file, list(source.all())


@contextmanager
def _changing(settings: Settings, name: str) -> Iterator[Registry]:
    """The registry, to change one of its users; who isn't kept by these commands is refused."""
    from gatepost.store.registry import RegistryError

    _check_ours(settings, name)
    with _registry(settings) as registry:
        try:
            yield registry
        except (RegistryError, ValueError) as error:
            raise Failure(str(error), Exit.USAGE, next_step=_LIST) from None


def _check_ours(settings: Settings, name: str) -> None:
    wanted = _folded(name)
    if any(_folded(user.name) == wanted for user in settings.user):
        raise Failure(f"{name} is a user of the settings: they are changed there", Exit.USAGE, next_step=_LIST)
    for file, known in _files(settings):
        if any(_folded(user.name) == wanted for user in known):
            step = "edit it; a running server reads it again by itself"
            raise Failure(f"{name} is a user of {file}, which these commands don't change", Exit.USAGE, next_step=step)


def _check_free(settings: Settings, addresses: Sequence[str]) -> None:
    """None of the addresses belongs to who comes first: the users of the settings and of files, and aliases."""
    _check_ours(settings, addresses[0] if addresses else "")
    taken = {_folded(one): user.name for user in settings.user for one in (user.name, *user.aliases)}
    taken |= {_folded(user.name): user.name for _, known in _files(settings) for user in known}
    for address in addresses:
        if owner := taken.get(_folded(address)):
            raise Failure(f"{address} belongs to {owner} already", Exit.USAGE, next_step=_LIST)
    for alias in settings.alias:
        for address in addresses:
            if _folded(alias.address) == _folded(address) and _folded(address) not in map(_folded, alias.to):
                step = f'put "{address}" into its to as well'
                raise Failure(
                    f"{address} is an [[alias]] of the settings, and its mail goes elsewhere",
                    Exit.USAGE,
                    next_step=step,
                )


def _check_addresses(addresses: Sequence[str]) -> None:
    from gatepost.model import AddressError, Path

    for address in addresses:
        try:
            if not Path.parse(address):
                raise AddressError("it is empty")
        except AddressError as error:
            step = "gatepost user add ann@example.org"
            raise Failure(f'"{address}" is no address: {error}', Exit.USAGE, next_step=step) from None


def _folded(address: str) -> str:
    """An address as the server compares it."""
    from gatepost.store.users import folded

    return folded(address)


def _octets(text: str) -> int | None:
    """A quota as it is kept: 0 for "none", None for "default"."""
    from pydantic_core import PydanticCustomError

    from gatepost.app.settings.users import parse_quota

    if text == "default":
        return None
    try:
        return parse_quota(int(text) if text.isascii() and text.isdecimal() else text)
    except PydanticCustomError:
        step = '"1GiB", a number of octets, none, or default'
        raise Failure(f'"{text}" is no quota', Exit.USAGE, next_step=step) from None


def _taken(registry: Registry, addresses: Sequence[str], *, but: str = "") -> str:
    """Which of the addresses is somebody's already, another one's than `but`; "" if none is."""
    wanted = {_folded(address): address for address in addresses}
    for user in registry.all():
        theirs = wanted.keys() & {_folded(one) for one in (user.name, *user.aliases)}
        if theirs and user.name != but:
            return f"{wanted[min(theirs)]} belongs to {user.name} already"
    return ""


def _mailbox(settings: Settings, name: str) -> File:
    """Where a user's mail rests."""
    from gatepost.store.maildrop import mailbox_below

    return mailbox_below(File(str(settings.data)) / "mail", name)


def _is_open(mailbox: File) -> bool:
    """Whether a POP3 session has the mailbox at this moment."""
    import fcntl

    from gatepost.store.mailbox import LOCK_NAME

    try:
        with (mailbox / LOCK_NAME).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # nobody has ever opened it
    return False


def _say(as_json: bool, facts: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(facts, indent=2) if as_json else text)


def _facts(user: User, source: str) -> dict[str, Any]:
    quota = user.quota
    if quota is None and user.extra:
        from gatepost.store.quota import quota_in

        limit = quota_in(user.extra)
        quota = None if limit is None else limit.octets or 0
    return {
        "name": user.name,
        "aliases": list(user.aliases),
        "send_as": list(user.send_as),
        "login": user.password is not None,
        "quota": quota,
        "from": source,
    }


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
