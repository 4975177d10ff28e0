"""One worker as a process of its own, under a supervisor: `python -m gatepost.app.worker_process DESCRIPTOR NAME`.

It was started by exec, with its end of a socketpair as the descriptor. What to do comes over it: `start` first, with
settings, shard and sockets; then what an operator asks; `stop` at last. If the supervisor dies, it stops by itself.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from gatepost.admin.queue import ActionError
from gatepost.app.channel import Serving
from gatepost.app.counting import Counts, SharedCounter
from gatepost.app.inspection import plugin_facts, worker_facts
from gatepost.app.logs import Journal, configure, journal
from gatepost.app.running import GRACE_S, collect_seldom, loop_factory, worker_desk
from gatepost.app.settings import Settings
from gatepost.app.starting import REASONS, refused, unpacked
from gatepost.app.worker import Worker
from gatepost.plugins.host.launched import Starters, rebuilt
from gatepost.serving.limits import SessionLimits

log = logging.getLogger("gatepost")

BEAT_S = 1.0


class WorkerProcess:
    """The worker behind a channel. Invariant: sockets are closed once, when nothing more is accepted."""

    def __init__(self, channel: Serving) -> None:
        self._channel = channel
        self._worker: Worker | None = None
        self._sockets: dict[str, socket.socket] = {}
        self._journal: Journal | None = None
        self._verbosity = 0
        self._shard = 0
        self._stopping = asyncio.Event()
        self._grace_s = GRACE_S
        self._actions = {
            "start": self._start,
            "prepare": self._prepare,
            "switch": self._switch,
            "abandon": self._abandon,
            "status": self._status,
            "plugin.list": self._plugins,
            "flush": self._flush,
            "stop": self._stop,
        }

    async def run(self) -> None:
        """Serve until told to stop, or until the supervisor is gone."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        serving = asyncio.create_task(self._channel.serve(self._do))
        serving.add_done_callback(lambda _: self._stopping.set())
        beating = asyncio.create_task(self._beat())
        await self._stopping.wait()
        await self._end()
        beating.cancel()
        serving.cancel()
        await self._channel.close()

    async def _do(self, action: str, arguments: Mapping[str, Any]) -> Any:
        if (own := self._actions.get(action)) is not None:
            return await own(arguments)
        return await worker_desk(self._running, {}).do(action, arguments)

    @property
    def _running(self) -> Worker:
        if self._worker is None:
            raise ActionError("this worker hasn't started yet", "try again")
        return self._worker

    async def _beat(self) -> None:
        while True:
            self._channel.alive({"sessions": 0 if self._worker is None else self._worker.sessions})
            await asyncio.sleep(BEAT_S)

    async def _start(self, orders: Mapping[str, Any]) -> None:
        sys.path[:] = orders["path"]
        settings = unpacked(orders["settings"])
        self._shard, self._verbosity = orders["shard"], orders["verbosity"]
        self._sockets = {name: socket.socket(fileno=number) for name, number in orders["sockets"].items()}
        counts = Counts(orders["counts"], orders["workers"])
        limits = SessionLimits(settings.limits.sessions, settings.limits.sessions_per_peer)
        worker = Worker(
            settings,
            shard=self._shard,
            workers=orders["workers"],
            counter=SharedCounter(limits, counts, self._shard),
            starters=_starters(orders),
        )
        self._log_as(worker, settings)
        try:
            await worker.start(self._sockets)
        except REASONS as error:
            raise refused(error) from error
        self._worker = worker
        collect_seldom()

    def _log_as(self, worker: Worker, settings: Settings) -> None:
        if self._journal is not None:
            self._journal.flush()
        configure(settings.log, verbosity=self._verbosity, worker=self._shard)
        later = asyncio.get_running_loop().call_later
        self._journal = journal(settings.log, later, verbosity=self._verbosity, worker=self._shard)
        worker.say = None if self._journal is None else self._journal.say

    async def _prepare(self, arguments: Mapping[str, Any]) -> None:
        try:
            await self._running.prepare(unpacked(arguments["settings"]))
        except REASONS as error:
            raise refused(error) from error

    async def _switch(self, _: Mapping[str, Any]) -> None:
        self._running.switch()
        self._log_as(self._running, self._running.settings)

    async def _abandon(self, _: Mapping[str, Any]) -> None:
        await self._running.abandon()

    async def _status(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return worker_facts(self._running)

    async def _plugins(self, _: Mapping[str, Any]) -> list[dict[str, Any]]:
        return plugin_facts(self._running.generation.plugins, self._running.settings)

    async def _flush(self, _: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._running.stores.flush)

    async def _stop(self, arguments: Mapping[str, Any]) -> None:
        self._grace_s = float(arguments.get("grace_s", GRACE_S))
        self._stopping.set()

    async def _end(self) -> None:
        if self._worker is not None:
            await self._worker.stop_accepting()
            for one in self._sockets.values():
                one.close()
            await self._worker.stop(self._grace_s)
        if self._journal is not None:
            self._journal.flush()


def _starters(orders: Mapping[str, Any]) -> Starters:
    """Who starts plugins as other users: the supervisor's launcher, if there is one."""
    if orders["door"] is None:
        return Starters()
    door = socket.socket(fileno=orders["door"])
    door.set_inheritable(False)  # whoever holds it can start programs
    return Starters(door, rebuilt(orders["accounts"]))


async def _serve(end: socket.socket) -> None:
    await WorkerProcess(await Serving.open(end)).run()


def main(arguments: list[str]) -> int:
    """The process; 0 once it has stopped."""
    for number in (signal.SIGINT, signal.SIGHUP):  # meant for the supervisor, said to the whole terminal
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=int(arguments[0]))
    end.setblocking(False)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(end))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
