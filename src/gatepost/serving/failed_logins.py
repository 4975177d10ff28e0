"""Failed logins, counted over all sessions and workers, so that passwords can't be guessed one session after another.

What counts as a guesser is a peer's address, or many peers after one user name. Beyond a limit each further login waits
before it is looked at, right or wrong, longer with each failure; an address far beyond it is sent away unheard. Who has
lately logged in from an address is known there, and goes by his own failures: who guesses behind the same NAT doesn't
slow him down. A name is never shut: whoever has the right password is let in from anywhere else, at worst after a wait.
Where many users come from one address, as from a webmail server, that address can be exempted: there only names count.
"""

from __future__ import annotations

import asyncio
import logging
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from gatepost.hooks.ports import Facts
from gatepost.model import Address
from gatepost.serving.limits import peer_key

FAR = 5
"""So many times the limit, and an address isn't listened to."""
WAITING = 100
"""Logins that wait at a time, for each worker."""
WAITING_OF_ONE = 5
"""And of those of one address."""
_KNOWN_S = 30 * 86400.0  # how long a user is known where he has logged in
_NOTED_AGAIN_S = 86400.0
_SPACE = "failed-logins"
_KNOWN = "logins"
_REMEMBERED = 4096
_REMEMBERED_S = 2.0  # how long another worker's failures may go unnoticed, as with any fact

log = logging.getLogger("gatepost.serving")


@dataclass(frozen=True, slots=True)
class Hold:
    """What a login meets before it is looked at."""

    why: str
    wait_s: float
    is_final: bool = False
    """It isn't looked at."""
    is_shared: bool = False
    """It is for the failures of others too, so nobody is sent away for them."""


@dataclass(frozen=True, slots=True)
class _Keys:
    """Under what a login is counted."""

    peer: str
    user: str
    both: str


class FailedLogins:
    """One worker's view. Invariant: what can't be counted keeps nobody out."""

    def __init__(
        self,
        facts: Facts,
        clock: Callable[[], float],
        *,
        most: int,
        within_s: float,
        longest_s: float,
        unix: Callable[[], float],
        exempt: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        """`most` failures in `within_s` seconds go unpunished, at least one; no login waits longer than `longest_s`.
        `clock` is monotonic, `unix` Unix time. Of peers in the networks `exempt` only the user names count.
        """
        self._facts = facts
        self._clock = clock
        self._unix = unix
        self._most = most
        self._within_s = within_s
        self._longest_s = longest_s
        self._exempt = tuple(exempt)
        self._none_yet: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()

    async def ahead(self, user: str, peer: Address) -> Hold | None:
        """What a login as this user from there meets now; None: nothing."""
        keys, is_exempt = _keys(user, peer), self._is_exempt(peer)
        if await self._known(keys) is not None:
            count = await self._count_of(keys.both)
            return self._hold(count, f"{user} from {peer}", can_end=not is_exempt) if count else None
        of_user = await self._count_of(keys.user)
        if not is_exempt and (of_peer := await self._count_of(keys.peer)):
            return self._hold(of_peer, str(peer), can_end=True)
        return self._hold(of_user, user, can_end=False) if of_user else None

    async def wait(self, hold: Hold, peer: Address) -> bool:
        """Wait as long as it says; False, and no wait, where too many do so already."""
        key = peer_key(peer)
        most = WAITING if self._is_exempt(peer) else WAITING_OF_ONE
        if self._waiting.total() >= WAITING or self._waiting[key] >= most:
            return False
        self._waiting[key] += 1
        try:
            await asyncio.sleep(hold.wait_s)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
        return True

    async def failed(self, user: str, peer: Address) -> None:
        """A password was wrong, or the user's name."""
        keys = _keys(user, peer)
        name = keys.user if await self._known(keys) is None else keys.both
        await asyncio.gather(*map(self._count, (name,) if self._is_exempt(peer) else (keys.peer, name)))

    async def succeeded(self, user: str, peer: Address) -> None:
        """The password was right."""
        keys = _keys(user, peer)
        since, now = await self._known(keys), self._unix()
        if since is None or now - since > _NOTED_AGAIN_S:
            await self._ask(self._facts.put(_KNOWN, keys.both, now, _KNOWN_S))
            self._none_yet.pop(keys.both + _KNOWN, None)

    def _is_exempt(self, peer: Address) -> bool:
        return any(peer in network for network in self._exempt)

    def _hold(self, count: int, whose: str, *, can_end: bool) -> Hold:
        why = f"{count} failed logins of {whose} in {self._within_s:.0f} s"
        if can_end and count >= FAR * self._most:
            return Hold(why, 0.0, is_final=True)
        doublings = min(4 * (count - self._most) / self._most, 16)
        return Hold(why, min(self._longest_s, 2.0**doublings), is_shared=not can_end)

    async def _known(self, keys: _Keys) -> float | None:
        """Since when the user is known at that address."""
        found: float | None = await self._get(_KNOWN, keys.both)
        return found

    async def _count_of(self, key: str) -> int:
        """Failures, if they are beyond the limit; else 0."""
        return await self._get(_SPACE, key) or 0

    async def _count(self, key: str) -> None:
        count = await self._ask(self._facts.count(_SPACE, key, self._within_s))
        if count is not None and count >= self._most:
            await self._ask(self._facts.put(_SPACE, key, count, self._within_s))
            self._none_yet.pop(key + _SPACE, None)

    async def _get(self, space: str, key: str) -> Any:
        """A fact; that there is none is remembered for a moment, since that is what a busy server mostly hears."""
        place, now = key + space, self._clock()
        if self._none_yet.get(place, 0.0) > now:
            return None
        found = await self._ask(self._facts.get(space, key))
        if found is None:
            if len(self._none_yet) >= _REMEMBERED:
                del self._none_yet[next(iter(self._none_yet))]
            self._none_yet[place] = now + _REMEMBERED_S
        return found

    async def _ask(self, question: Awaitable[Any]) -> Any:
        try:
            return await question
        except Exception as error:  # as the class says
            log.error("failed logins can't be counted", exc_info=error)
            return None


def _keys(user: str, peer: Address) -> _Keys:
    """Names are digested: whoever guesses may have said his own password for one, or kilobytes."""
    said = unicodedata.normalize("NFC", user).lower().encode("utf-8", "surrogatepass")
    name = blake2b(said, digest_size=16).hexdigest()
    address = peer_key(peer)
    return _Keys(f"peer {address}", f"user {name}", f"user {name} at {address}")
