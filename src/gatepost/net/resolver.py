"""The resolver over name servers, and one that answers from a dictionary.

Answers are kept as long as they say (bounded, least recently used first out), and so is that a name doesn't exist; one
question is in flight only once, however many sessions ask it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from gatepost.net.answers import Answers, Exchange, Found, NotFound, ResolverError, Resolving, TemporaryFailure, plain

if TYPE_CHECKING:
    from gatepost.net.nameservers import NameServers

__all__ = [
    "Exchange",
    "Found",
    "NotFound",
    "Resolver",
    "ResolverError",
    "Resolving",
    "StaticResolver",
    "TemporaryFailure",
    "Zone",
]

SHORTEST_S = 1.0  # one that says less still serves whoever asks in the same moment
LONGEST_S = 86_400.0  # no answer is kept for more than a day, whatever it says
LARGEST = 16 * 1024  # characters of an answer that is kept; what is larger is asked for again


class Resolver(Answers):
    """Asks name servers. At most `size` answers are kept and `at_once` questions are out; belongs to one event loop.

    `nameservers` are addresses, with their ports or without (the system's, where there are none), each asked for
    `timeout_s`, all tries together for `lifetime_s` seconds. That an answer is validated is
    believed where all of them are loopback addresses, or where `trust_ad` says that nobody stands between
    (rfc4035#4.9.3).
    """

    def __init__(
        self,
        *,
        nameservers: Sequence[str | tuple[str, int]] = (),
        port: int = 53,
        timeout_s: float = 2.0,
        lifetime_s: float = 8.0,
        trust_ad: bool = False,
        size: int = 10_000,
        at_once: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.nameservers = tuple(nameservers)
        self._asking = (nameservers, port, timeout_s, lifetime_s, trust_ad)
        self._size = size
        self._clock = clock
        self._servers: NameServers | None = None
        self._known: OrderedDict[tuple[str, str], tuple[float, Found | ResolverError]] = OrderedDict()
        self._asked: dict[tuple[str, str], asyncio.Task[Found | ResolverError]] = {}
        self._turns = asyncio.Semaphore(at_once)

    async def close(self) -> None:
        """Gives up the questions that are out; who waits for one hears TemporaryFailure."""
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    @property
    def is_trusted(self) -> bool:
        """Whether it is believed when it says that an answer is validated."""
        return self._nameservers().is_trusted

    async def find(self, name: str, kind: str) -> Found:
        question = (plain(name), kind)
        known = self._known.get(question)
        if known is not None and known[0] > self._clock():
            self._known.move_to_end(question)
            return _answered(known[1])
        task = self._asked.get(question)
        if task is None:
            task = self._asked[question] = asyncio.create_task(self._ask(question))
            task.add_done_callback(lambda _: self._asked.pop(question, None))
        try:  # shielded: who gives up waiting doesn't take the answer from the others
            return _answered(await asyncio.shield(task))
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if task.cancelled() and waiting is not None and not waiting.cancelling():
                raise TemporaryFailure("the resolver is closing") from None
            raise

    async def _ask(self, question: tuple[str, str]) -> Found | ResolverError:
        async with self._turns:
            answer, keep_s = await self._nameservers().ask(*question)
        if isinstance(answer, Found) and sum(map(len, answer.records)) > LARGEST:
            return answer
        self._known[question] = (self._clock() + min(max(keep_s, SHORTEST_S), LONGEST_S), answer)
        self._known.move_to_end(question)
        if len(self._known) > self._size:
            self._known.popitem(last=False)
        return answer

    def _nameservers(self) -> NameServers:
        if self._servers is None:
            # dnspython takes longer to import than a whole program may need to start
            from gatepost.net.nameservers import NameServers  # noqa: PLC0415

            self._servers = NameServers(*self._asking)
        return self._servers


def _answered(answer: Found | ResolverError) -> Found:
    if isinstance(answer, NotFound | TemporaryFailure):
        raise type(answer)(*answer.args)  # a new one: an exception raised twice would gather tracebacks
    assert isinstance(answer, Found)
    return answer


Zone = Mapping[str, "str | Sequence[str] | Mapping[str, str | Sequence[str]]"]


class StaticResolver(Answers):
    """Answers from a dictionary: for tests and for trying plugins. Counts nothing, waits for nothing.

    `{"mx.example.org": "192.0.2.1", "example.org": {"MX": "10 mx.example.org", "TXT": ["v=spf1 -all"]},
    "192.0.2.1": {"PTR": "mx.example.org"}, "slow.example": "SERVFAIL"}`: a text or list without types is addresses, an
    address as key stands for its reverse name (a text or list there is names), SERVFAIL is a temporary failure.
    """

    def __init__(self, zone: Zone | None = None, *, is_secure: bool = False) -> None:
        """`is_secure`: every answer counts as validated."""
        self._zone: dict[tuple[str, str], list[str]] = {}
        self._is_secure = is_secure
        for name, value in (zone or {}).items():
            self._add(name, value)

    def _add(self, name: str, value: str | Sequence[str] | Mapping[str, str | Sequence[str]]) -> None:
        try:
            owner, untyped = ip_address(name).reverse_pointer, "PTR"
        except ValueError:
            owner, untyped = plain(name), ""
        typed = value if isinstance(value, Mapping) else {untyped: value}
        for kind, records in typed.items():
            for record in [records] if isinstance(records, str) else records:
                if kind or record == "SERVFAIL":
                    there = kind.upper() or "*"
                else:
                    there = "AAAA" if ip_address(record).version == 6 else "A"
                self._zone.setdefault((owner, there), []).append(record)

    async def find(self, name: str, kind: str) -> Found:
        found = self._zone.get((plain(name), kind), []) + self._zone.get((plain(name), "*"), [])
        if "SERVFAIL" in found:
            raise TemporaryFailure(f"nobody could tell the {kind} records of {name}: SERVFAIL")
        if not found:
            raise NotFound(f"{name} has no {kind} record")
        records = tuple(plain(record) if kind == "PTR" else record for record in found)
        return Found(records, self._is_secure, plain(name))
