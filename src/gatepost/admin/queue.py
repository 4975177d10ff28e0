"""The queue as an operator sees it: views and actions over the spool's port, as plain data, for every way in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from gatepost.admin.destinations import DestinationsDesk
from gatepost.content.headers import read_section
from gatepost.content.values import read_value
from gatepost.store.errors import UnknownEntry
from gatepost.store.spool import Entry, Spool, Wanted

PAGE = 100
EX_TEMPFAIL = 75
_SHOWN_HEADERS = ("from", "to", "cc", "subject", "date", "message-id")


class ActionError(LookupError):
    """What was asked for can't be done; the text says why, `mend` what to do, `code` is the command's exit code."""

    def __init__(self, text: str, mend: str = "", code: int = EX_TEMPFAIL) -> None:
        super().__init__(text)
        self.mend = mend
        self.code = code


class Queue:
    """Actions on the spools of a server. Ids are tickets, with `.part` for the groups of a split message."""

    def __init__(
        self,
        spools: Sequence[Spool],
        recorded: Callable[[str, str, Mapping[str, Any]], None],
        destinations: DestinationsDesk,
    ) -> None:
        self._spools = tuple(spools)
        self._recorded = recorded
        self.destinations = destinations

    async def listed(
        self,
        *,
        held: bool | None = None,
        after: str | None = None,
        limit: int = PAGE,
        to: str = "",
        sender: str = "",
        destination: str = "",
    ) -> dict[str, Any]:
        """Entries in order of reception, and how many there are in all. `to`, `sender`: an address of a recipient still
        waiting and that of the sender (or his user name), a part of it, or a pattern with `*`; `destination`: a domain
        or next server.
        """
        wanted = self._wanted(to.lower(), sender.lower(), destination) if to or sender or destination else None
        entries: list[Entry] = []
        for spool in self._spools:
            entries += await spool.entries(held=held, after=after, limit=limit, wanted=wanted)
        entries.sort(key=lambda entry: entry.received_at)
        counts = [spool.counts() for spool in self._spools]
        return {
            "entries": [summary(entry) for entry in entries[:limit]],
            "queued": sum(one.queued for one in counts),
            "held": sum(one.held for one in counts),
        }

    def _wanted(self, to: str, sender: str, destination: str) -> Wanted:
        there = self.destinations.concerns(destination) if destination else None

        def suits(address: str, user: str, waiting: Sequence[str]) -> bool:
            if sender and not (is_like(address, sender) or is_like(user, sender)):
                return False
            if to and not any(is_like(recipient, to) for recipient in waiting):
                return False
            return there is None or any(there(recipient.rpartition("@")[2], "") for recipient in waiting)

        domain = to.rpartition("@")[2] if "@" in to else ""
        is_whole = domain and "*" not in domain and "." in domain

        def concerns(lane: str, of: str) -> bool:
            return (there is None or there(lane, of)) and (not is_whole or lane.startswith(domain))

        return Wanted(suits, concerns)

    async def shown(self, id: str) -> dict[str, Any]:
        """One entry with its recipients, what was last said about each, and the headers people look for."""
        entry: Entry = await self._found(id, lambda spool: spool.show(id))
        section = read_section(entry.content)
        headers = [
            f"{name.title()}: {read_value(raw)}" for name in _SHOWN_HEADERS for raw in section.raw_values(name)[:1]
        ]
        said = {recipient.address: entry.said.get(recipient.address, "") for recipient in entry.envelope.recipients}
        return {
            **summary(entry),
            "recipients": said,
            "headers": headers,
            "since": entry.since,
            "notes": dict(entry.notes),
        }

    async def retry(self, id: str) -> None:
        """Due now, even where its next servers are left alone."""
        entry: Entry = await self._found(id, lambda spool: spool.show(id))
        for domain in {recipient.domain for recipient in entry.envelope.recipients}:
            self.destinations.forgive(domain)
        await self._found(id, lambda spool: spool.retry(id))

    async def hold(self, id: str, reason: str) -> None:
        """Not attempted until released."""
        await self._found(id, lambda spool: spool.hold(id, reason))
        self._note("held", id, reason=reason)

    async def release(self, id: str) -> None:
        """No longer held; its schedule starts anew."""
        await self._found(id, lambda spool: spool.release(id))
        self._note("released", id)

    async def delete(self, id: str) -> None:
        """Gone for good; nobody is told."""
        await self._found(id, lambda spool: spool.delete(id))
        self._note("deleted", id)

    async def flush(self) -> int:
        """Everything that isn't held is due now, and every next server may be called; how many messages that is."""
        self.destinations.forgive()
        return sum([await spool.flush() for spool in self._spools])

    def _note(self, kind: str, id: str, **facts: Any) -> None:
        ticket = id.partition(".")[0]
        token, _, number = ticket.rpartition("-")
        self._recorded(token, kind, {"transaction": int(number) if number.isdigit() else 0, **facts})

    async def _found(self, id: str, act: Callable[[Spool], Awaitable[Any]]) -> Any:
        for spool in self._spools:
            try:
                return await act(spool)
            except UnknownEntry:
                continue
        mend = f"gatepost explain {id}, if it has left; gatepost queue list" if "-" in id else "gatepost queue list"
        raise ActionError(f"there is no {id} in the queue", mend)


def is_like(address: str, wanted: str) -> bool:
    """Whether an address has this in it, or fits it where it is a pattern; `wanted` is lower case."""
    address = address.lower()
    return fnmatchcase(address, wanted) if "*" in wanted else wanted in address


def summary(entry: Entry) -> dict[str, Any]:
    """One entry in a line's worth of facts; times are Unix times in seconds."""
    recipients = [recipient.address for recipient in entry.envelope.recipients]
    return {
        "id": entry.id,
        "sender": entry.envelope.sender.address,
        "to": recipients[:5],
        "recipients_count": len(recipients),
        "size": entry.content.size,
        "received_at": entry.received_at,
        "attempts": entry.attempts,
        "next_attempt": entry.next_attempt,
        "held": entry.held,
        "said": next(iter(entry.said.values()), ""),
    }
