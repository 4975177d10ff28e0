"""Patience and clock, made with asyncio: carries hooks that suspend, in the session's own task.

A hook was stepped once by the dispatcher within the session's task, so whatever it took hold of (`asyncio.timeout`, a
task group) belongs to that task, and will cancel that task when it means the hook. So no task is made for it; the
session's task drives it on. When its time is over it is handed to a task beside, which cancels it there and closes it
if it won't end; and since it may still hold the session's task, the session leaves that task to it (`carrying`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime, tzinfo
from types import coroutine
from typing import Any, TypeVar

from gatepost.serving.carrying import leave_task

T = TypeVar("T")
log = logging.getLogger("gatepost.plugins")

GRACE_S = 5.0
"""Seconds that a cancelled hook has for cleaning up, beside its session."""
CLOSE_S = 1.0
"""Seconds that work beside sessions has for ending when the worker ends."""


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._zone: tzinfo | None = UTC
        self._offset_s = 0
        self._look_again = 0.0

    def now(self) -> datetime:
        now, _ = self.unix()
        return datetime.fromtimestamp(now, self._zone)

    def unix(self) -> tuple[float, int]:
        now = time.time()
        if now >= self._look_again:  # daylight saving begins and ends on a minute
            local = datetime.fromtimestamp(now).astimezone()
            offset = local.utcoffset()
            self._zone = local.tzinfo
            self._offset_s = 0 if offset is None else int(offset.total_seconds())
            self._look_again = now - now % 60 + 60
        return now, self._offset_s


class _TimeIsOver(Exception):
    """The hook's time is over; it still stands where it was, and what it waits for was cancelled."""


class LoopPatience:
    """Waits on the running loop. One instance serves every session of a worker."""

    def __init__(self) -> None:
        self._beside: set[asyncio.Task[Any]] = set()
        self._is_closing = False

    async def within(self, seconds: float, hook: Coroutine[Any, Any, T], waiting_for: Any) -> T:
        """The hook's result; TimeoutError when `seconds` are over."""
        try:
            async with asyncio.timeout(seconds) as limit:
                return await _driven(hook, waiting_for, limit.expired)
        except _TimeIsOver:
            await leave_task(self.spawn(self._ended(hook)))
            raise TimeoutError("the hook's time was over") from None

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task beside the session; kept until it is done, its failure logged."""
        task = asyncio.get_running_loop().create_task(_contained(work))
        task.add_done_callback(
            lambda _: work.close()
        )  # a task that is cancelled before its first step leaves it unbegun
        self._beside.add(task)
        task.add_done_callback(self._done)
        return task

    def is_cancellation(self, error: BaseException) -> bool:
        """A CancelledError that was asked for from outside the hook."""
        if not isinstance(error, asyncio.CancelledError):
            return False
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    async def idle(self) -> None:
        """Wait until nothing runs beside any more."""
        while self._beside:
            await asyncio.gather(*self._beside, return_exceptions=True)

    async def close(self) -> None:
        """Cancel what still runs beside; what doesn't end soon is left. Hooks whose time was over are closed."""
        self._is_closing = True
        for task in self._beside:
            task.cancel()
        if self._beside:
            _, stubborn = await asyncio.wait(self._beside, timeout=CLOSE_S)
            if stubborn:
                log.warning("%d pieces of work beside sessions ignored their cancellation and are left", len(stubborn))

    async def _ended(self, hook: Coroutine[Any, Any, Any]) -> None:
        """Cancel a hook, give it a moment to clean up; then close it."""
        try:
            waiting_for = hook.throw(asyncio.CancelledError)
            async with asyncio.timeout(GRACE_S) as limit:
                await _driven(hook, waiting_for, lambda: limit.expired() or self._is_closing)
        except (StopIteration, asyncio.CancelledError):
            pass
        except _TimeIsOver:
            log.warning("a hook ignored its cancellation and was closed")
            _close(hook)
        except (Exception, SystemExit) as error:
            log.debug("a hook ended with an error after its time was over", exc_info=error)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._beside.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work beside a session failed", exc_info=error)


def _close(hook: Coroutine[Any, Any, Any]) -> None:
    try:
        hook.close()
    except (Exception, SystemExit) as error:
        log.warning("a hook couldn't be closed", exc_info=error)


@coroutine
def _driven(hook: Coroutine[Any, Any, T], waiting_for: Any, is_over: Callable[[], bool]) -> Generator[Any, Any, T]:
    """`yield from` for a coroutine whose first future is already in hand; _TimeIsOver, without telling the hook."""
    while True:
        error: BaseException | None = None
        try:
            yield waiting_for
        except GeneratorExit:  # the session itself is thrown away
            hook.close()
            raise
        except BaseException as thrown:  # noqa: BLE001  cancellations above all; the hook answers them as it likes
            if is_over():
                raise _TimeIsOver from None
            error = thrown
        try:
            waiting_for = hook.send(None) if error is None else hook.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        except GeneratorExit as exit_:  # which would look like the end of the session
            raise RuntimeError("the hook raised GeneratorExit") from exit_


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    """What a plugin spawns may end itself, not the loop it runs in."""
    try:
        return await work
    except SystemExit as error:
        raise RuntimeError("work beside a session raised SystemExit") from error
