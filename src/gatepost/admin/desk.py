"""What an operator can ask of a server, by name: one table of actions for control socket, command line and pages.

An action takes plain data and gives plain data. A server that runs answers for all of it; without one, the command line
opens the stores itself and asks the same desk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from gatepost.admin.destinations import ROWS
from gatepost.admin.queue import PAGE, ActionError, Queue
from gatepost.admin.telling import Entry, explain
from gatepost.model import Ticket, TokenError, token_time

SEARCH_LIMIT = 50
EX_USAGE = 64
EX_NO_INPUT = 66
_LONG = 1 << 62
NAME_MAX = 260  # octets of a destination's name, with a port


class Records(Protocol):
    """The trace, as far as the desk needs it. It reads files, so it is asked in a thread."""

    def find(self, token: str) -> Iterable[Entry]:
        """Every entry of one session."""

    def sessions(
        self, *, since_ms: int, until_ms: int, fits: Callable[[list[Entry]], bool], limit: int
    ) -> Iterable[list[Entry]]:
        """The entries of sessions that fit, newest first."""


Action = Callable[[Mapping[str, Any]], Awaitable[Any]]


class Desk:
    """Actions by name. `more` are those that only a running server has: reload, status, plugins."""

    def __init__(self, queue: Queue | None, records: Records, more: Mapping[str, Action] | None = None) -> None:
        self._records = records
        self.actions: dict[str, Action] = {"explain": self._explain, "trace": self._trace, **(more or {})}
        if queue is not None:
            self.actions |= {
                "queue.list": lambda a: queue.listed(
                    held=_choice(a, "held"),
                    after=_text(a, "after") or None,
                    limit=read_number(a, "limit", PAGE),
                    to=_text(a, "to"),
                    sender=_text(a, "from"),
                    destination=_text(a, "destination"),
                ),
                "queue.show": lambda a: queue.shown(_id(a)),
                "queue.retry": lambda a: queue.retry(_id(a)),
                "queue.retry-destination": lambda a: queue.destinations.retry(_name(a)),
                "queue.destinations": lambda a: queue.destinations.listed(read_number(a, "limit", ROWS)),
                "queue.suspend": lambda a: queue.destinations.suspend([_name(a)]),
                "queue.resume": lambda a: queue.destinations.resume([_name(a)]),
                "queue.hold": lambda a: queue.hold(_id(a), _text(a, "reason", "held by an operator")),
                "queue.release": lambda a: queue.release(_id(a)),
                "queue.delete": lambda a: queue.delete(_id(a)),
                "queue.flush": lambda a: queue.flush(),
            }

    async def do(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """One action; ActionError if there is none of that name, or it can't be done."""
        action = self.actions.get(name)
        if action is None:
            raise ActionError(f'there is no action "{name}" here')
        return await action(arguments)

    async def _explain(self, arguments: Mapping[str, Any]) -> Any:
        token, number = read_token(_text(arguments, "token"))
        told = explain(await asyncio.to_thread(self._records.find, token), number)
        if told is None:
            raise ActionError(
                f"nothing is known of {token}",
                "it may be older than the trace is kept; find others: gatepost trace",
                EX_NO_INPUT,
            )
        if arguments.get("json"):
            return told.as_json()
        return told.text(verbose=bool(arguments.get("verbose")))

    async def _trace(self, arguments: Mapping[str, Any]) -> Any:
        wanted = {key: text.lower() for key in ("to", "from", "peer", "heard") if (text := _text(arguments, key))}
        found = await asyncio.to_thread(
            self._records.sessions,
            since_ms=read_number(arguments, "since_ms", 0, least=-_LONG),
            until_ms=read_number(arguments, "until_ms", _LONG, least=-_LONG),
            fits=lambda entries: _fits(entries, wanted),
            limit=read_number(arguments, "limit", SEARCH_LIMIT),
        )
        return [_line(entries) for entries in found]


def read_token(text: str) -> tuple[str, int | None]:
    """(token, transaction's number if it was a ticket); ActionError if it is neither."""
    try:
        ticket = Ticket.parse(text)
    except TokenError:
        pass
    else:
        return ticket.token, ticket.number
    try:
        token_time(text)
    except TokenError as error:
        mend = "a refusal's text ends with its token, a 250's with its ticket; find others: gatepost trace"
        raise ActionError(str(error), mend, EX_USAGE) from error
    return text.upper(), None


def read_number(arguments: Mapping[str, Any], key: str, default: int, *, least: int = 0) -> int:
    """What an action was given for a number, the default for nothing; ActionError if it is something else."""
    match arguments.get(key):
        case None:
            return default
        case int(number) if least <= number <= _LONG and not isinstance(number, bool):
            return number
        case value:
            raise _not_a("a number" if least else "a number from 0 on", key, value)


def _text(arguments: Mapping[str, Any], key: str, default: str = "") -> str:
    match arguments.get(key):
        case None:
            return default
        case str(text):
            return text
        case value:
            raise _not_a("text", key, value)


def _choice(arguments: Mapping[str, Any], key: str) -> bool | None:
    match arguments.get(key):
        case None:
            return None
        case bool(choice):
            return choice
        case value:
            raise _not_a("true or false", key, value)


def _not_a(kind: str, key: str, value: object) -> ActionError:
    return ActionError(f"{key} is {kind}, not {value!r:.60}", "", EX_USAGE)


def _id(arguments: Mapping[str, Any]) -> str:
    if not (id := _text(arguments, "id").strip().upper()):
        raise ActionError("which message? give its ticket", "gatepost queue list")
    return id


def _name(arguments: Mapping[str, Any]) -> str:
    name = _text(arguments, "destination").strip()
    if not name or len(name) > NAME_MAX or not name.isprintable() or " " in name:
        raise ActionError("which destination? give a domain or a server", "gatepost queue destinations", EX_USAGE)
    if name.rpartition("@")[0]:
        domain = name.rpartition("@")[2]
        raise ActionError(f"{name} is an address, and a destination is a domain or a server", f"say {domain}", EX_USAGE)
    return name


def _fits(entries: list[Entry], wanted: Mapping[str, str]) -> bool:
    """Whether a session has every address and word that is looked for, whole or as a part."""
    said: dict[str, list[str]] = {"to": [], "from": [], "peer": [], "heard": []}
    for _, _, kind, facts in entries:
        said["heard"].append(str(facts.get("reply", "")).lower())
        match kind:
            case "recipient" | "delivered" | "deferred" | "bounced":  # a list's members are named by the latter alone
                said["to"].append(str(facts.get("recipient", "")).lower())
            case "sender":
                said["from"].append(str(facts.get("sender", "")).lower())
            case "session":
                said["peer"].append(str(facts.get("peer", "")).lower())
            case _:
                pass
    return all(any(value in one for one in said[key]) for key, value in wanted.items())


def _line(entries: list[Entry]) -> dict[str, Any]:
    told = explain(entries)
    if told is None:
        return {}
    last = told.transactions[-1] if told.transactions else None
    return {
        "token": told.token,
        "ms": told.began_ms,
        "peer": told.peer,
        "from": last.sender if last else "",
        "to": (last.recipients or [recipient for recipient, _ in last.refused])[:5] if last else [],
        "outcome": last.outcome if last else "NO MESSAGE",
        "heard": last.heard if last else "",
        "messages": len(told.transactions),
    }
