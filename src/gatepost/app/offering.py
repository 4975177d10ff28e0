"""What logins are offered follows the users while a server runs: their files, and what `gatepost user` changes.

SCRAM-SHA-256 needs keys of everybody, CRAM-MD5 and APOP a password that is kept in the clear. The users are looked at
from time to time, in a thread where that takes long; when they ask for another offer, the places of the generation in
effect are made anew, for sessions that begin from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from gatepost.store.users import Accounts

if TYPE_CHECKING:
    from gatepost.app.generation import Generation

LOOK_S = 0.5

log = logging.getLogger("gatepost")


class Offering:
    """Looks again and again, from `begin` to `stop`. Invariant: users that can't be read change nothing."""

    def __init__(self, users: Accounts, generation: Callable[[], Generation]) -> None:
        """`generation` gives the one in effect."""
        self._users = users
        self._generation = generation
        self._looking: asyncio.Task[None] | None = None
        self._has_failed = False

    def begin(self) -> None:
        """From now on."""
        self._looking = asyncio.get_running_loop().create_task(self._look_on())

    async def stop(self) -> None:
        """No more of it."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except Exception as error:  # told once, until it works again
                if not self._has_failed:
                    log.error("the users can't be looked at", exc_info=error)
                self._has_failed = True
            else:
                self._has_failed = False

    async def _look(self) -> None:
        await self._users.look_again()
        generation = self._generation()
        if generation.offered != self._users.offers:
            generation.renew()
            log.info("what logins are offered has changed with the users")
