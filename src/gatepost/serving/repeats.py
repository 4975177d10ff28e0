"""No second copy for a client that vanished before it could hear our 250.

A fingerprint is armed only if the connection ended and no octet came from the client after the 250 was written. The
same message from the same neighbourhood is then answered with the old ticket, once. A client that heard its 250 can
send the same mail again as often as it likes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from ipaddress import IPv4Address
from typing import Protocol

from gatepost.content.headers import Section
from gatepost.hooks.session import Session
from gatepost.model import Address, Path, Recipient

SPACE = "repeat"
TTL_S = 5 * 24 * 3600.0  # as long as senders try again
REFRESH_S = 1.0
ANY = "any"

log = logging.getLogger("gatepost.serving")


class Memory(Protocol):
    """The ledger, as far as repeats need it."""

    async def put(self, space: str, key: str, value: str, ttl_s: float) -> None: ...

    async def get(self, space: str, key: str) -> str | None: ...

    async def take_once(self, space: str, key: str) -> str | None:
        """The value, given out once in all workers; None afterwards."""


class Repeats:
    """Arms and fires fingerprints. What is armed rests in the ledger that all workers share; where the ledger fails, a
    message is taken for a new one, for a second copy is better than none."""

    def __init__(self, memory: Memory, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._memory = memory
        self.now = monotonic
        self._looked = float("-inf")
        self._any = False

    async def arm(self, fingerprint: str, ticket: str) -> None:
        """Remember that the client of this message may not have heard its 250."""
        try:
            await self._memory.put(SPACE, fingerprint, ticket, TTL_S)
            await self._memory.put(SPACE, ANY, ticket, TTL_S)
        except Exception:
            log.exception("a repetition of %s won't be noticed", ticket)
        else:
            self._any, self._looked = True, self.now()

    async def may_fire(self, began: float) -> bool:
        """Whether anything at all is armed, in any worker, for a session that began at `began` (by `now`).

        Looked up once a second, and again for a session that is younger: its client may come straight from another
        worker, having lost its connection there.
        """
        now = self.now()
        if self._looked < began or self._looked <= now - REFRESH_S:
            try:
                self._any = await self._memory.get(SPACE, ANY) is not None
            except Exception:
                log.exception("repetitions aren't noticed now")
                return False
            self._looked = now
        return self._any

    async def fires(self, fingerprint: str) -> str | None:
        """The ticket of the copy that we already have, once; None if this is new."""
        try:
            return await self._memory.take_once(SPACE, fingerprint)
        except Exception:
            log.exception("a repetition can't be noticed now")
            return None


def fingerprint(
    peer: Address, helo: str, sender: str, recipients: Iterable[Recipient], content: bytes, message_id: str
) -> str:
    """What makes a message the same: neighbourhood, envelope, content (its digest) and Message-ID."""
    if isinstance(peer, IPv4Address):
        neighbourhood = f"{int(peer) >> 8:x}/24"
    else:
        neighbourhood = f"{int(peer) >> 64:x}/64"
    domain = ".".join(helo.lower().split(".")[-2:]) if "." in helo and not helo.startswith("[") else ""
    digest = blake2b(digest_size=20)
    for piece in (domain or neighbourhood, sender, *sorted(recipient.address for recipient in recipients), message_id):
        digest.update(piece.encode("utf-8", "replace") + b"\0")
    digest.update(content)
    return digest.hexdigest()


def fingerprint_of(
    session: Session, mail: Path, heard: Iterable[Recipient], section: Section | None, digest: Callable[[], bytes]
) -> Callable[[], str]:
    """What it takes to make a message's, of what the client itself has said; hardly ever is it made."""
    address, helo, recipients = session.peer.address, session.helo, tuple(heard)

    def made() -> str:
        ids = section.raw_values("message-id") if section is not None else []
        message_id = ids[0].decode("utf-8", "replace").strip() if ids else ""
        return fingerprint(address, helo, mail.address, recipients, digest(), message_id)

    return made
