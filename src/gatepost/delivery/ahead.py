"""Call-ahead: the next server is asked whether a recipient exists while the sender waits at RCPT, and remembered.

Strategy: a probe with the null sender (rfc5321#6.1: nobody can be told of its failure, so nobody is asked about it in
turn). A server that takes an address nobody can have guessed takes every address, so its word means nothing: it isn't
asked any more for an hour and everybody exists. What can't be found out is never a refusal for good: an old yes still
counts for a day, else the sender is asked to come again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gatepost.delivery.attempt import Answered, Probe
from gatepost.delivery.destinations import Destinations
from gatepost.delivery.route import Hop
from gatepost.delivery.said import is_about_mail, one_line
from gatepost.model import NULL_PATH, Path, Recipient, Reply
from gatepost.store.ledger import LedgerError
from gatepost.wire.smtp.client_events import Phase

log = logging.getLogger("gatepost.delivery")

YES_S = 2 * 3600.0  # how long a yes counts
STALE_YES_S = 24 * 3600.0  # how long it counts where the server can't be asked
NO_S = 600.0
TAKES_ALL_S = 3600.0
DEADLINE_S = 25.0  # for one answer; the question at RCPT has a budget of 30 s

_RECIPIENTS = "ahead"
_DOMAINS = "ahead-all"
_KEPT_CODES = frozenset({550, 551, 553})  # rfc5321#4.3.2: what RCPT is refused with because of the mailbox
_NO_ANSWER = Reply(450, "4.4.1", "whether this recipient exists can't be found out now, try again later")
_NO_WORD = Reply(450, "4.4.0", "the next server says neither yes nor no to this recipient now, try again later")


class Memory(Protocol):
    """Facts that expire. Both raise LedgerError where that can't be done now."""

    async def put(self, space: str, key: str, value: Any, ttl_s: float) -> None:
        """Remember a value for `ttl_s` seconds, in place of an older one."""

    async def get(self, space: str, key: str) -> Any:
        """The value; None if there is none, or not any more."""


@dataclass(eq=False, slots=True)
class _Shared:
    """One question under way, and how many wait for its answer; it ends with the last of them."""

    task: asyncio.Task[Any]
    waiters: int = 0


class CallAhead:
    """Asks next servers who exists. Invariant: a question is under way once, however many sessions want its answer."""

    def __init__(
        self,
        destinations: Destinations,
        memory: Memory,
        *,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        name: str = "gatepost",
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """`clock` gives Unix time in seconds, `entropy` so many random octets. `name` (a local part) begins the random
        addresses, so that the next server's log shows who asks.
        """
        self._destinations = destinations
        self._memory = memory
        self._clock = clock
        self._entropy = entropy
        self._name = name
        self._deadline_s = deadline_s
        self._asking: dict[tuple[str, str], _Shared] = {}

    async def ask(self, hop: Hop, recipient: Recipient) -> Reply | None:
        """None if the recipient exists as far as anybody knows, else the refusal: 55x from the next server, or 450."""
        key = f"{_name(hop)} {recipient.address}"
        known = await self._recall(_RECIPIENTS, key)
        if known is not None:
            said, at = known
            if said is not None:
                return Reply(*said)
            if at + YES_S > self._clock():
                return None
        try:
            async with asyncio.timeout(self._deadline_s):
                answer = await self._ask(hop, recipient, key)
        except TimeoutError:
            log.warning("%s didn't say within %g s whether %s exists", _name(hop), self._deadline_s, recipient)
            answer = _NO_ANSWER
        return None if answer is not None and not answer.is_permanent and known is not None else answer

    async def accepts_everything(self, hop: Hop, domain: str) -> bool | None:
        """Whether the server takes any address of the domain, which makes asking it useless; None if it doesn't say."""
        key = f"{_name(hop)} {domain}"
        takes_all: bool | None = await self._recall(_DOMAINS, key)
        if takes_all is None:
            takes_all = await self._share((_DOMAINS, key), lambda: self._try_nobody(hop, domain, key))
        return takes_all

    async def _ask(self, hop: Hop, recipient: Recipient, key: str) -> Reply | None:
        if recipient.domain and await self.accepts_everything(hop, recipient.domain):
            return None
        answer: Reply | None = await self._share((_RECIPIENTS, key), lambda: self._find_out(hop, recipient, key))
        return answer

    async def _find_out(self, hop: Hop, recipient: Recipient, key: str) -> Reply | None:
        answer = await self._probe(hop, recipient)
        if answer is None:
            return _NO_ANSWER
        reply, phase = answer.outcome.reply, answer.outcome.phase
        if reply.is_positive:
            await self._remember(_RECIPIENTS, key, [None, self._clock()], STALE_YES_S)
            return None
        if answer.outcome.is_ours and not reply.is_permanent:
            log.warning("whether %s exists can't be found out: %s", recipient, reply)
            return _NO_ANSWER
        if phase is not Phase.RECIPIENT or not reply.is_permanent or not is_about_mail(reply):
            log.warning("%s was asked whether %s exists, and said: %s", answer.host, recipient, reply)
            return _NO_WORD
        code = reply.code if reply.code in _KEPT_CODES else 550
        refusal = Reply(code, reply.status or "5.1.1", one_line(reply.text) or "there is no such mailbox")
        said = [refusal.code, refusal.status, refusal.text]
        await self._remember(_RECIPIENTS, key, [said, self._clock()], NO_S)
        return refusal

    async def _try_nobody(self, hop: Hop, domain: str, key: str) -> bool | None:
        nobody = Recipient(Path(f"{self._name}-asks-{self._entropy(10).hex()}", domain))
        answer = await self._probe(hop, nobody)
        if answer is None or answer.outcome.phase is not Phase.RECIPIENT:
            return None
        reply = answer.outcome.reply
        if not (reply.is_positive or (reply.is_permanent and is_about_mail(reply))):
            return None
        if reply.is_positive:
            log.warning("%s accepts every recipient at %s: it can't be asked who exists", answer.host, domain)
        await self._remember(_DOMAINS, key, reply.is_positive, TAKES_ALL_S)
        return reply.is_positive

    async def _probe(self, hop: Hop, recipient: Recipient) -> Answered | None:
        """The answer; None where there was none in time."""
        try:
            async with asyncio.timeout(self._deadline_s):
                [answer] = await self._destinations.probe(hop, Probe(NULL_PATH, (recipient,)))
        except TimeoutError:
            return None
        return answer

    async def _share(self, key: tuple[str, str], ask: Callable[[], Awaitable[Any]]) -> Any:
        """The answer to a question that may be under way already. It goes on while anybody waits for it."""
        shared = self._asking.get(key)
        if shared is None:
            shared = self._asking[key] = _Shared(asyncio.ensure_future(ask()))
        shared.waiters += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiters -= 1
            if not shared.waiters or shared.task.done():
                shared.task.cancel()
                if self._asking.get(key) is shared:
                    del self._asking[key]

    async def _recall(self, space: str, key: str) -> Any:
        try:
            return await self._memory.get(space, key)
        except LedgerError as error:
            log.warning("what was remembered of %s can't be read: %s", key, error)
            return None

    async def _remember(self, space: str, key: str, value: Any, ttl_s: float) -> None:
        try:
            await self._memory.put(space, key, value, ttl_s)
        except LedgerError as error:
            log.warning("what was found out of %s can't be remembered: %s", key, error)


def _name(hop: Hop) -> str:
    return ", ".join(map(str, hop.hosts))
