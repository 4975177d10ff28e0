"""What plugins keep for a session or a transaction, and how it is closed: beside the session, in bounded time.

A plugin's `aclose` may hang, so nobody on the line waits for it; a session that has hung up waits a little, so that a
server which stops has closed everything it could.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from gatepost.hooks.session import Holder
from gatepost.serving.patience import LoopPatience

log = logging.getLogger("gatepost.serving")

CLOSE_S = 5.0
"""Seconds that the objects of one session or transaction have for closing."""


class Closings:
    """Closes belongings, each exactly once and in a task of its own; most held nothing, and cost none."""

    __slots__ = ("_patience", "_tasks", "_token")

    def __init__(self, patience: LoopPatience, token: str) -> None:
        self._patience = patience
        self._token = token
        self._tasks: Sequence[asyncio.Task[None]] = ()

    def close(self, belongings: Holder) -> None:
        """Begin to close; nobody gets anything of it from here on."""
        if belongings.seal():
            under_way = [task for task in self._tasks if not task.done()]
            self._tasks = [*under_way, self._patience.spawn(self._closed(belongings))]

    async def settled(self) -> None:
        """Wait until everything is closed, or its time is over."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)

    async def _closed(self, belongings: Holder) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                errors = await belongings.close()
        except TimeoutError as too_slow:
            errors = [too_slow]
        for error in errors:
            log.error("an object of a plugin couldn't be closed; token %s", self._token, exc_info=error)
