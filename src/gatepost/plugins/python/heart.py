"""Keeps a child's loop going: a coroutine hook that blocks it is interrupted by a signal, and fails alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any


class HeldUp(BaseException):
    """A coroutine hook has held up the loop, and all the others with it; raised in the hook, by a signal."""


class Heart:
    """Interrupts a coroutine hook that doesn't let the loop go on, between half of `stall_s` seconds and all of it.

    The loop beats, a signal looks whether it has beaten since the last look; so an endless loop, a sleep or a wild
    regular expression fails alone, and the others are answered. What can't be interrupted, the house kills.
    """

    def __init__(self, stall_s: float, is_hook: Callable[[asyncio.Task[Any] | None], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_hook = is_hook
        self._stall_s = stall_s
        self._has_beaten = True
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, stall_s / 2, stall_s / 2)
        self._beat()

    def _beat(self) -> None:
        self._has_beaten = True
        self._loop.call_later(self._stall_s / 4, self._beat)

    def _look(self, *_: object) -> None:
        if not self._has_beaten and self._is_hook(asyncio.current_task(self._loop)):
            raise HeldUp(f"it held up the others for more than {self._stall_s / 2:g} s")
        self._has_beaten = False
