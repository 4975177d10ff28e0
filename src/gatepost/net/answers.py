"""The words of name resolution: the port `Resolving`, its errors, and what follows from the records of one question.

"There is none" and "nobody could tell" never mix: only the first is a reason to refuse for good.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol

from gatepost.model import Address

_REVERSE_NAMES = 10  # an address with more names than that is looked at no further


class ResolverError(Exception):
    """A question without a usable answer; one of the two below."""


class NotFound(ResolverError):
    """Permanent: there is no such name, or it has no records of that type."""


class TemporaryFailure(ResolverError):
    """Nobody could tell: time-out, SERVFAIL, a broken answer. Ask again later; it is no reason to refuse for good."""


@dataclass(frozen=True, slots=True, order=True)
class Exchange:
    """One MX record: lower preference first; host in lower case without the last dot, "" for a null MX (rfc7505)."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Found:
    """The records of one question, at least one. `is_secure`: a resolver that is trusted has validated them, and the
    aliases that led there (rfc4035#3.2.3); `name` is where the aliases ended.
    """

    records: tuple[str, ...]
    is_secure: bool = False
    name: str = ""


class Resolving(Protocol):
    """Who answers questions about names. All methods raise NotFound and TemporaryFailure unless they say otherwise."""

    async def addresses(self, name: str) -> tuple[Address, ...]:
        """The IPv4 and IPv6 addresses of a name, at least one."""

    async def reverse(self, address: Address) -> str | None:
        """The name that points to the address and back (rfc8601#3: iprev); None where there is none."""

    async def txt(self, name: str) -> tuple[str, ...]:
        """The TXT records of a name, each with its strings joined; octets above 127 as Latin-1."""

    async def mx(self, name: str) -> tuple[Exchange, ...]:
        """The MX records of a name, best first."""

    async def find(self, name: str, kind: str) -> Found:
        """The records of a name and type as text, and whether they are validated."""


class Answers(ABC):
    """The questions in terms of one: the records of a name and type, as text."""

    @abstractmethod
    async def find(self, name: str, kind: str) -> Found:
        """The records, at least one. Raises NotFound and TemporaryFailure."""

    async def _records(self, name: str, kind: str) -> tuple[str, ...]:
        return (await self.find(name, kind)).records

    async def addresses(self, name: str) -> tuple[Address, ...]:
        """What one family answers is enough; a failure counts only where the other has nothing."""
        found: list[Address] = []
        failure: ResolverError | None = None
        answers = await asyncio.gather(self._records(name, "A"), self._records(name, "AAAA"), return_exceptions=True)
        for answer in answers:
            match answer:
                case tuple():
                    found += [ip_address(text) for text in answer]
                case TemporaryFailure():
                    failure = answer
                case NotFound():
                    failure = failure or answer
                case _:
                    raise answer
        if not found and failure is not None:
            raise failure
        return tuple(found)

    async def reverse(self, address: Address) -> str | None:
        try:
            names = await self._records(address.reverse_pointer, "PTR")
        except NotFound:
            return None
        failure: TemporaryFailure | None = None
        for name in names[:_REVERSE_NAMES]:
            try:
                if address in await self.addresses(name):
                    return name
            except NotFound:
                continue
            except TemporaryFailure as error:
                failure = error
        if failure is not None:
            raise failure
        return None

    async def txt(self, name: str) -> tuple[str, ...]:
        return await self._records(name, "TXT")

    async def mx(self, name: str) -> tuple[Exchange, ...]:
        return exchanges(await self._records(name, "MX"))


def exchanges(records: tuple[str, ...]) -> tuple[Exchange, ...]:
    """MX records as they are written, best first."""
    pairs = (record.split() for record in records)
    return tuple(sorted(Exchange(int(preference), plain(host)) for preference, host in pairs))


def plain(name: str) -> str:
    """The name in lower case without the last dot."""
    return name.lower().removesuffix(".")
