"""A supervisor's view of one worker: its process, the next one when it has died, and the channel to it.

Strategy: a process is made by exec with the worker's end of a socketpair, its listening sockets and the shared counts.
It beats once a second; one that doesn't for `stuck_s` is killed. Whatever ended it, another begins on the same shard
and the same sockets, at once the first time, then later and later while it keeps ending soon.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from gatepost.admin.queue import ActionError
from gatepost.app.channel import EX_SOFTWARE, Gone, Supervising
from gatepost.app.starting import StartFailure

log = logging.getLogger("gatepost.supervisor")

START_S = 120.0  # from exec to listening: plugins are loaded and a spool is recovered
STUCK_S = 10.0
_LONGEST_PAUSE_S = 30.0
_SETTLED_S = 60.0  # a worker that lived so long has not failed to start


class State(Enum):
    """Of the worker's process."""

    DOWN = "down"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"


class Child:
    """One worker. At most one process at a time has its shard, its sockets and its row of the counts."""

    def __init__(
        self,
        number: int,
        orders: Callable[[], Mapping[str, Any]],
        descriptors: tuple[int, ...],
        *,
        may_start: asyncio.Lock,
        on_death: Callable[[int], None],
        stuck_s: float = STUCK_S,
    ) -> None:
        """`orders` are asked for at each start. Who holds `may_start` sees no worker start meanwhile."""
        self.number = number
        self.state = State.DOWN
        self._orders = orders
        self._descriptors = descriptors
        self._may_start = may_start
        self._on_death = on_death
        self._stuck_s = stuck_s
        self._process: Process | None = None
        self._channel: Supervising | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._heard = 0.0
        self._started = 0.0

    # ── one process ────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Start the worker and wait until it listens. StartFailure says why it can't."""
        self.state = State.STARTING
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *_python_options(),
                    "-m",
                    "gatepost.app.worker_process",
                    str(theirs.fileno()),
                    f"worker-{self.number}",  # for whoever looks at the list of processes
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *self._descriptors),
                )
            except OSError as error:
                ours.close()
                self.state = State.DOWN
                text = f"worker {self.number} can't be started: {error.strerror or error}: {sys.executable}"
                mend = "the server's user must be able to run the Python that gatepost is installed in"
                raise StartFailure(text, mend) from error
        self._channel = Supervising(self._alive)
        await self._channel.open(ours)
        loop = asyncio.get_running_loop()
        self._started = self._heard = loop.time()
        try:
            await self._channel.ask("start", self._orders(), timeout_s=START_S)
        except ActionError as error:
            await self._clear_away()
            raise StartFailure(str(error), error.mend, error.code) from error
        except Gone as error:
            await self._clear_away()
            text = f"worker {self.number} ended while it started: {error}"
            raise StartFailure(text, "what it said stands above, or in the log", EX_SOFTWARE) from error
        except BaseException:
            await self._clear_away()
            raise
        self._heard = loop.time()
        self.state = State.RUNNING

    def _alive(self, _: Mapping[str, Any]) -> None:
        self._heard = asyncio.get_running_loop().time()

    async def _clear_away(self) -> None:
        """No process is left, nothing of it is counted any more."""
        self.kill()
        if self._process is not None:
            await self._process.wait()
        if self._channel is not None:
            await self._channel.close()
        self._process = self._channel = None
        self.state = State.DOWN
        self._on_death(self.number)

    # ── for as long as the server runs ─────────────────────────────────────────────────────────────────────────────

    def keep(self) -> None:
        """Restart it from now on whenever it ends."""
        self._keeping = asyncio.create_task(self._keep(), name=f"worker {self.number}")

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            assert self._process is not None
            status = await self._process.wait()
            if self.state is State.ENDING:
                return
            lived = asyncio.get_running_loop().time() - self._started
            log.error("worker %d has ended (%s) after %.0f s; it starts again", self.number, _ending(status), lived)
            await self._clear_away()
            pause = 0.0 if lived > _SETTLED_S else pause
            while not await self._restarted(pause):
                pause = min(max(2 * pause, 0.5), _LONGEST_PAUSE_S)
            pause = max(2 * pause, 0.5)

    async def _restarted(self, pause_s: float) -> bool:
        await asyncio.sleep(pause_s)
        async with self._may_start:
            try:
                await self.start()
            except StartFailure as error:
                log.error("worker %d can't start again: %s", self.number, error)
                return False
        log.warning("worker %d is back", self.number)
        return True

    def look(self) -> None:
        """Kill it if it hasn't been heard of for too long."""
        silent = asyncio.get_running_loop().time() - self._heard
        if self.state is State.RUNNING and silent > self._stuck_s:
            log.error("worker %d is stuck: nothing was heard of it for %.0f s; it is killed", self.number, silent)
            self.kill()

    def forgive(self) -> None:
        """It couldn't be heard: we were asleep ourselves, or it does what may take long."""
        self._heard = asyncio.get_running_loop().time()

    @property
    def is_there(self) -> bool:
        """Whether the worker can be asked."""
        return self._channel is not None and self.state is State.RUNNING

    async def ask(self, action: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = 60.0) -> Any:
        """The worker's answer; ActionError, or Gone while it isn't there."""
        if self._channel is None or not self.is_there:
            raise Gone(f"worker {self.number} is starting again")
        return await self._channel.ask(action, arguments, timeout_s=timeout_s)

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def stop(self, grace_s: float, more_s: float = 15.0) -> None:
        """Let it end by itself within `grace_s` for its transactions and `more_s` for the rest; else kill it."""
        was_running = self.state is State.RUNNING
        self.state = State.ENDING
        if self._keeping is not None and not was_running:
            self._keeping.cancel()
        if self._process is None or self._channel is None:
            return
        try:
            async with asyncio.timeout(grace_s + more_s):
                with suppress(ActionError, Gone):
                    await self._channel.ask("stop", {"grace_s": grace_s}, timeout_s=5.0)
                await self._process.wait()
        except TimeoutError:
            log.error("worker %d doesn't end; it is killed", self.number)
        await self._clear_away()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    def kill(self) -> None:
        """At once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()


def _python_options() -> list[str]:
    """The child must find the same gatepost, and not by chance another one in the working directory."""
    return [] if sys.path[:1] in ([""], [str(Path.cwd())]) else ["-P"]


def _ending(status: int) -> str:
    return f"exit code {status}" if status >= 0 else signal.Signals(-status).name
