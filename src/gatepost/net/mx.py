"""Finds the mail servers of a domain: the questions to the DNS that `mx_rules` judges.

"There is no way" and "nobody could tell" never mix: the first ends a message, the second puts it off. Nothing is kept
here, since the resolver keeps every answer as long as it says.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gatepost.model import Address, AddressError, Reply
from gatepost.model.path import parse_domain
from gatepost.model.peer import plain_address
from gatepost.net.answers import Exchange, NotFound, Resolving, TemporaryFailure, plain
from gatepost.net.mx_rules import (
    MAX_HOSTS,
    Target,
    before_ours,
    in_order,
    interleaved,
    is_null,
    literal_address,
    may_be_called,
)

SMTP_PORT = 25
_MAX_TEXT = 300  # of a resolver's words


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No server to try: 5xx where the domain takes no mail, 4xx where that can't be told now."""

    reply: Reply


class Exchangers:
    """Knows who we are, and asks. All names are A-labels inside, however they were written (D7)."""

    def __init__(
        self,
        resolver: Resolving,
        *,
        chance: Callable[[], float],
        names: Iterable[str] = (),
        is_own: Callable[[Address, int], bool] = lambda address, port: False,
    ) -> None:
        """`chance` gives fractions below 1. `names` are ours; `is_own` says whether a connection to an address and
        port would come back to us.
        """
        self._resolver = resolver
        self._chance = chance
        self._names = frozenset(map(_name, names))
        self._is_own = is_own

    async def find(
        self, domain: str, *, port: int = SMTP_PORT, allow_private: bool = False
    ) -> tuple[Target, ...] | Nowhere:
        """The servers that take mail for a domain or address literal, in the order to try them, at least one.

        Never raises for what the DNS says. `allow_private` admits addresses that aren't on the Internet.
        """
        try:
            name = parse_domain(domain)
        except AddressError as error:
            return Nowhere(Reply(550, "5.1.2", f"no mail can be sent to this domain: {error}"))
        if (address := literal_address(name)) is not None:
            return self._judge(domain, [(Exchange(0, str(address)), (address,))], port, allow_private)
        try:
            records = await self._resolver.mx(name)
        except NotFound:
            records = (Exchange(0, name),)  # rfc5321#5.1: the implicit MX
        except TemporaryFailure as error:
            return _later(domain, error)  # rfc5321#5.1: never the implicit MX because of a failure
        if is_null(records):
            return Nowhere(Reply(556, "5.1.10", f"{domain} takes no mail, its DNS says"))  # rfc7505#4.2
        ordered = in_order(records, self._chance)
        better = before_ours(ordered, lambda record: plain(record.host) in self._names)
        if ordered and not better:
            return _loop(domain)
        return await self._look_up(domain, better[:MAX_HOSTS], port, allow_private)

    async def _look_up(
        self, domain: str, records: Sequence[Exchange], port: int, allow_private: bool
    ) -> tuple[Target, ...] | Nowhere:
        answers = await asyncio.gather(
            *(self._resolver.addresses(record.host) for record in records), return_exceptions=True
        )
        known: list[tuple[Exchange, tuple[Address, ...]]] = []
        failure: TemporaryFailure | None = None
        for record, answer in zip(records, answers, strict=True):
            match answer:
                case tuple():
                    known.append((record, answer))
                case TemporaryFailure():
                    failure = failure or answer
                case NotFound():
                    pass
                case _:
                    raise answer
        found = self._judge(domain, known, port, allow_private)
        return _later(domain, failure) if failure is not None and isinstance(found, Nowhere) else found

    def _judge(
        self, domain: str, known: Sequence[tuple[Exchange, tuple[Address, ...]]], port: int, allow_private: bool
    ) -> tuple[Target, ...] | Nowhere:
        """Who of the servers with these addresses may be tried."""
        if not known:
            return Nowhere(Reply(550, "5.1.2", f"{domain} doesn't exist, or has no mail server"))
        addresses = dict(known)
        better = before_ours(
            [record for record, _ in known],
            lambda record: any(self._is_own(plain_address(one), port) for one in addresses[record]),
        )
        if not better:
            return _loop(domain)
        targets: list[Target] = []
        for record in better:
            allowed = [one for one in addresses[record] if may_be_called(one, allow_private=allow_private)]
            if allowed:
                targets.append(Target(record.host, interleaved(allowed)))
        if not targets:
            text = f"the mail servers of {domain} have only addresses that no mail is sent to"
            return Nowhere(Reply(550, "5.4.4", text))
        return tuple(targets)


def is_here(address: Address) -> bool:
    """Whether an address is one of this machine's."""
    try:
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))  # the system lets a socket have its own addresses only
    except OSError:
        return False
    return True


def _name(name: str) -> str:
    try:
        return parse_domain(name.removesuffix("."))
    except AddressError:
        return plain(name)


def _loop(domain: str) -> Nowhere:
    return Nowhere(Reply(554, "5.4.6", f"mail for {domain} would come back here, its best mail server"))


def _later(domain: str, error: TemporaryFailure) -> Nowhere:
    words = "".join(character if character.isprintable() else " " for character in str(error))[:_MAX_TEXT]
    return Nowhere(Reply(451, "4.4.3", f"the mail servers of {domain} can't be found now: {words}"))
