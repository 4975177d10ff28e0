"""Carries a session from one task to the next, so that a hook it has left behind can't end it.

A hook steps in its session's task and may hold it: an `asyncio.timeout` or a task group within the hook cancels that
task when it means the hook. Such a hook may outlive its time; then the task is its own from there on, and the session
goes on in a new one. The old one only waits, and swallows what is meant for the hook.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Leave:
    """Said by the work to whoever carries it: this task belongs to that hook now; go on in another."""

    __slots__ = ("hook",)

    def __init__(self, hook: asyncio.Task[Any]) -> None:
        self.hook = hook


_carried: set[asyncio.Task[Any]] = set()
"""The tasks that can be left."""


@coroutine
def leave_task(hook: asyncio.Task[Any]) -> Generator[Any, Any, None]:
    """Go on in a new task, where this one is a carrier's; `hook` is the task in which the hook left behind ends."""
    if asyncio.current_task() in _carried:
        yield _Leave(hook)


class Carrier:
    """Runs one piece of work, in one task after another. `cancel` means the work, whichever task it is in."""

    __slots__ = ("_is_cancelled", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False

    def cancel(self) -> None:
        """Cancel the work, if it is running. It may go on, and be cancelled again."""
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    @coroutine
    def carry(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """The result of the work, begun in this task: `yield from`, until the work ends or wants to leave.

        A generator rather than `async def`, because every session has one for as long as it lasts.
        """
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if self._is_cancelled:  # between two tasks
            task.cancel()
        _carried.add(task)
        error: BaseException | None = None
        sent: Any = None
        try:
            while True:
                waiting_for = work.send(sent) if error is None else work.throw(error)
                if type(waiting_for) is _Leave:
                    break
                error = sent = None
                try:
                    sent = yield waiting_for
                except BaseException as thrown:  # noqa: BLE001  the work answers it as it likes
                    error = thrown
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            _carried.discard(task)
        self._task = None
        successor = asyncio.get_running_loop().create_task(self._carry_on(work))
        return (yield from self._follow(successor, waiting_for.hook).__await__())

    async def _carry_on(self, work: Coroutine[Any, Any, T]) -> T:
        return await self.carry(work)

    async def _follow(self, successor: asyncio.Task[T], hook: asyncio.Task[Any]) -> T:
        """The work's result, from the task it is in now. Cancellations are for the hook as long as there is one."""
        while not successor.done():
            try:
                await asyncio.wait((successor,))
            except asyncio.CancelledError:
                if hook.done():
                    self.cancel()
        return successor.result()
