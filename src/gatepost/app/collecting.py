"""Collecting in a worker: accounts from the settings, the house from the stores, and what an operator asks.

Only the worker with the first shard collects: its spool has the ledger. Without `[[collect]]` nothing of it is loaded.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

from gatepost.admin.desk import Action
from gatepost.admin.queue import ActionError
from gatepost.app.intake import HouseIntake
from gatepost.app.settings.collect import FOREVER, Collect
from gatepost.app.settings.root import Settings
from gatepost.collecting.accounts import Account, Believed, MultiDrop
from gatepost.collecting.collector import House
from gatepost.collecting.ports import Login, RemoteError, Trouble
from gatepost.collecting.remote import Remotes
from gatepost.collecting.schedule import Collecting, Standing, recalled
from gatepost.model import Ticket

if TYPE_CHECKING:
    from gatepost.app.generation import Generation, Surroundings
    from gatepost.app.stores import Stores

LIST, FETCH = "collect.list", "collect.fetch"
EX_USAGE = 64
_TOKEN_S = 30.0
_MAX_TOKEN = 64 * 1024


def open_collecting(stores: Stores, around: Surroundings, generation: Callable[[], Generation]) -> Collecting:
    """What collects into these stores; `begin` it. `generation` gives the present one."""
    house = House(
        connect=Remotes().connect,
        intake=HouseIntake(generation, stores.spool),
        notes=stores.spool,
        draft=lambda: stores.spool.draft(Ticket(around.tokens.next(), 1)),
        now=time.time,
    )
    return Collecting(house)


def accounts(settings: Settings) -> tuple[Account, ...]:
    """The accounts of checked settings."""
    return tuple(_account(one, settings) for one in settings.collect)


def _account(table: Collect, settings: Settings) -> Account:
    networks = tuple(one for one in table.trusted if not isinstance(one, str))
    names = tuple(one for one in table.trusted if isinstance(one, str))
    domains = tuple(one.lower() for one in table.domains)
    return Account(
        name=table.name,
        login=_login(table),
        to=table.path,
        every_s=table.every,
        envelope=MultiDrop(table.envelope, table.prefix, domains) if table.envelope else None,
        keep_s=None if table.keep == FOREVER else float(table.keep),
        size_limit=table.size_limit or settings.limits.message_size,
        believed=Believed(networks, names),
        on_refusal=table.refused,
        most=table.at_most,
        most_recipients=settings.limits.recipients,
        expire_s=None if table.expire == FOREVER or "quarantine" in settings.never else float(table.expire),
        enabled=table.enabled,
    )


def _login(table: Collect) -> Login:
    token: Callable[[], Awaitable[str]] | None = None
    if table.token_file is not None:
        token = _FromFile(table.token_file)
    elif table.token_command:
        token = _FromCommand(tuple(shlex.split(table.token_command)))
    return Login(
        host=table.server.host,
        port=table.server.port,
        tls=table.tls,
        user=table.user,
        password="" if table.password is None else table.password.reveal(),
        token=token,
        mechanisms=() if table.auth == ("auto",) else table.auth,
        ca=table.ca,
        fingerprint=table.fingerprint,
        command_s=table.timeout,
        connect_s=min(30.0, table.timeout),
    )


class _FromFile:
    """An access token on the first line of a file, read at each login: somebody else keeps it fresh."""

    def __init__(self, file: File) -> None:
        self._file = file

    async def __call__(self) -> str:
        try:
            text = await asyncio.to_thread(self._read)
        except (OSError, UnicodeDecodeError) as error:
            raise RemoteError(f"the token's file {self._file} can't be read: {error}", Trouble.TEMPORARY) from error
        return _first_line(text, f"the token's file {self._file}")

    def _read(self) -> str:
        with self._file.open(encoding="utf-8") as file:
            return file.readline(_MAX_TOKEN)


class _FromCommand:
    """An access token that a program prints, run at each login."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words

    async def __call__(self) -> str:
        name = f"token_command ({self._words[0]})"
        nowhere = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words, stdin=nowhere, stdout=asyncio.subprocess.PIPE, stderr=nowhere
            )
        except OSError as error:
            raise RemoteError(f"{name} can't be run: {error.strerror or error}", Trouble.TEMPORARY) from error
        try:
            async with asyncio.timeout(_TOKEN_S):
                assert process.stdout is not None
                said = await process.stdout.read(_MAX_TOKEN)
                status = await process.wait()
        except TimeoutError as error:
            raise RemoteError(f"{name} has said nothing for {_TOKEN_S:g} s", Trouble.TEMPORARY) from error
        finally:
            if process.returncode is None:
                process.kill()
        if status:
            raise RemoteError(f"{name} has ended with exit code {status}", Trouble.TEMPORARY)
        return _first_line(said.decode("utf-8", "replace"), name)


def _first_line(text: str, whose: str) -> str:
    token = text.partition("\n")[0].strip()
    if not token or not token.isprintable():
        raise RemoteError(f"{whose} has no token on its first line", Trouble.LOGIN)
    return token


# ── what an operator asks ──────────────────────────────────────────────────────────────────────────────────────────


def actions(collecting: Collecting | None) -> dict[str, Action]:
    """For the desk of the worker that collects."""

    async def listed(_: Mapping[str, Any]) -> list[dict[str, Any]]:
        return _there(collecting).listed()

    async def fetch(arguments: Mapping[str, Any]) -> dict[str, int]:
        return begin_runs(_there(collecting), arguments.get("accounts"))

    return {LIST: listed, FETCH: fetch}


def standings(known: Sequence[Account], memos: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """The same listing of accounts that nobody looks at now, from what is kept."""
    kept = recalled(known, memos, time.time())
    rows = [kept.get(one.name, Standing(one)) for one in known]
    return [{**row.as_json(), "next_at": None} for row in rows]


def begin_runs(collecting: Collecting, wanted: object) -> dict[str, int]:
    """Look at these accounts now, at all without any; how many runs each has had. ActionError for one that isn't."""
    known = {one["name"]: one for one in collecting.listed()}
    names = [str(name) for name in wanted] if isinstance(wanted, list) else []
    for name in names:
        if name not in known:
            raise ActionError(f'there is no account "{name}"', "gatepost fetch --list", EX_USAGE)
        if not known[name]["enabled"]:
            raise ActionError(f'the account "{name}" is switched off', "enabled = true", EX_USAGE)
    chosen = names or [name for name, one in known.items() if one["enabled"]]
    for name in chosen:
        collecting.fetch(name)
    return {name: int(known[name]["totals"].get("runs", 0)) for name in chosen}


def _there(collecting: Collecting | None) -> Collecting:
    if collecting is None:
        raise ActionError("the running server has no account to collect from", "[[collect]], then gatepost reload", 78)
    return collecting
