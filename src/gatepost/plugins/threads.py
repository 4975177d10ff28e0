"""A bounded pool of daemon threads, one per plugin: a plain `def` hook can block there and hurts only its own kind.

The standard executor joins its threads at exit, so one hung plugin would keep the server from stopping; these threads
are simply left.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

_Job = tuple[Callable[[Any], Any], Any, asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class PoolFull(RuntimeError):
    """Every thread is busy, perhaps hung, and as many questions as allowed are waiting."""


class Threads:
    """At most `size` threads, begun when first needed; at most `waiting` questions wait for one."""

    def __init__(self, name: str, size: int = 4, waiting: int = 64) -> None:
        self._name = name
        self._size = size
        self._waiting = waiting
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._begun = 0
        self._busy = 0
        self._lock = threading.Lock()

    async def run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """`function(argument)` in a thread; PoolFull at once if there is no room. Cancelling abandons the call."""
        with self._lock:
            if self._busy >= self._size + self._waiting:
                raise PoolFull(f"all {self._size} threads of {self._name} are busy")
            self._busy += 1
            if self._busy > self._begun and self._begun < self._size:
                self._begun += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._begun}", daemon=True).start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._jobs.put((function, argument, loop, done))
        return await done

    def close(self) -> None:
        """Let the threads end when they are through; a hung one is left."""
        for _ in range(self._begun):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, argument, loop, done = job
            result: Any = None
            failure: BaseException | None = None
            if not done.cancelled():
                try:
                    result = function(argument)
                except BaseException as error:  # noqa: BLE001  whatever a hook raises belongs to whoever asked
                    failure = error
            with self._lock:
                self._busy -= 1
            with suppress(RuntimeError):  # the loop is gone; so is whoever asked
                loop.call_soon_threadsafe(_finish, done, result, failure)


def _finish(done: asyncio.Future[Any], result: Any, failure: BaseException | None) -> None:
    if done.cancelled():
        return
    if failure is None:
        done.set_result(result)
    elif isinstance(failure, Exception) and not isinstance(failure, StopIteration):
        done.set_exception(failure)
    else:  # what would end a coroutine, a task or the program means nothing outside of its thread
        error = RuntimeError(f"the hook raised {type(failure).__name__}")
        error.__cause__ = failure
        done.set_exception(error)
