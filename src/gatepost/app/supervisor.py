"""Several workers: binds for them, starts and restarts them, and speaks for them at the control socket.

Strategy: the supervisor serves no mail and loads no plugin, so that nothing of that can stop it. It keeps every socket
open and the settings in effect; a worker is told both when it starts. A reload has two phases: all workers prepare,
then all switch; one that can't prepare leaves every worker as it was.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from gatepost.admin.desk import Action, Desk, read_number
from gatepost.admin.destinations import ROWS, merged
from gatepost.admin.queue import PAGE, ActionError
from gatepost.app.bindings_listing import with_origins
from gatepost.app.channel import Gone
from gatepost.app.child import STUCK_S, Child
from gatepost.app.control import ControlServer
from gatepost.app.counting import Counts
from gatepost.app.inspection import told_plugins
from gatepost.app.listening import Sockets
from gatepost.app.logs import configure
from gatepost.app.queueing import ACTION as SUBMIT
from gatepost.app.queueing import sweep
from gatepost.app.reloading import check_reloadable
from gatepost.app.running import reload_aloud, reloaded
from gatepost.app.settings import Settings
from gatepost.app.starting import REASONS, Launch, packed, refused
from gatepost.app.stores import TraceRecords
from gatepost.plugins.host.launched import Launcher, plain
from gatepost.store.files import RealFiles

log = logging.getLogger("gatepost.supervisor")

_LOOK_S = 1.0


class Supervisor:
    """Many workers as one server. Every worker has the same generation, or is starting with it."""

    def __init__(
        self,
        launch: Launch,
        settings: Settings,
        sockets: Sockets,
        workers: int,
        launcher: Launcher | None = None,
        *,
        stuck_s: float = STUCK_S,
    ) -> None:
        """`settings.data` is a folder: workers share nothing else."""
        assert settings.data is not None
        self._data = settings.data
        self._launch = launch
        self._settings = settings
        self._sockets = sockets
        self._launcher = launcher
        self._began = time.time()
        self._generation = 1
        self._turn = 0
        self._counts = Counts.make(workers)
        self._may_start = asyncio.Lock()
        self._is_reloading = False
        self._looking: asyncio.Task[None] | None = None
        self._control: ControlServer | None = None
        self._records = TraceRecords(self._data / "trace", RealFiles(), None)
        self._children = [
            Child(
                number,
                partial(self._orders, number),
                (self._counts.descriptor, *(one.fileno() for one in self._passed(number))),
                may_start=self._may_start,
                on_death=self._counts.clear,
                stuck_s=stuck_s,
            )
            for number in range(workers)
        ]

    # ── beginning and ending ───────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Start all workers, side by side. StartFailure if one can't."""
        configure(self._settings.log, verbosity=self._launch.verbosity)
        try:
            async with asyncio.TaskGroup() as starting:
                for child in self._children:
                    starting.create_task(child.start())
        except BaseExceptionGroup as errors:
            await self.stop(0)
            raise errors.exceptions[0] from None
        except BaseException:
            await self.stop(0)
            raise
        for child in self._children:
            child.keep()
        self._looking = asyncio.create_task(self._look())
        sweep(self._data)
        self._control = ControlServer(self._data, self._desk())
        await self._control.start()

    async def stop(self, grace_s: float) -> None:
        """Nobody is accepted any more; workers end side by side."""
        if self._control is not None:
            await self._control.close()
            self._control = None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._sockets.close()
        await asyncio.gather(*(child.stop(grace_s) for child in self._children))

    def kill(self) -> None:
        """End all workers at once."""
        for child in self._children:
            child.kill()

    def _passed(self, number: int) -> list[socket.socket]:
        """The sockets that the worker inherits."""
        doors = [] if self._launcher is None else [self._launcher.doors[number]]
        return [*self._sockets.of(number).values(), *doors]

    def _orders(self, number: int) -> dict[str, Any]:
        launcher = self._launcher
        return {
            "shard": number,
            "workers": len(self._children),
            "settings": packed(self._settings),
            "sockets": {name: one.fileno() for name, one in self._sockets.of(number).items()},
            "counts": self._counts.descriptor,
            "verbosity": self._launch.verbosity,
            "path": sys.path,
            "door": None if launcher is None else launcher.doors[number].fileno(),
            "accounts": [] if launcher is None else plain(launcher.accounts),
        }

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(_LOOK_S)
            was_asleep = loop.time() - before > 2 * _LOOK_S
            for child in self._children:
                if was_asleep or self._is_reloading:  # plugins are loaded in the loop, and may be large
                    child.forgive()
                child.look()

    # ── what is asked of all of them ───────────────────────────────────────────────────────────────────────────────

    async def facts(self) -> dict[str, Any]:
        """How the server is doing, all workers together."""
        told = await self._ask_all("status")
        if not told:
            raise ActionError("all workers are starting again", "try again")
        return {
            **told[0],
            "workers": len(self._children),
            "running": len(told),
            "generation": self._generation,
            "uptime_s": round(time.time() - self._began, 1),
            **{key: sum(one[key] for one in told) for key in ("sessions", "queued", "held", "adopted")},
        }

    async def plugins(self) -> list[dict[str, Any]]:
        """Who is asked at which stage; the same in every worker."""
        for child in self._children:
            try:
                told: list[dict[str, Any]] = await child.ask("plugin.list")
            except Gone:
                continue
            return with_origins(told, self._settings)
        raise ActionError("all workers are starting again", "try again")

    async def reload(self) -> str:
        """Read the settings again and let every worker switch to them, or none."""
        async with self._may_start:
            try:
                settings = self._launch.settings()
                check_reloadable(self._settings, settings)
            except REASONS as error:
                raise refused(error) from error
            self._is_reloading = True
            try:
                await self._prepare_all(settings)
            finally:
                self._is_reloading = False
            self._settings = settings  # whoever dies now starts with them
            self._generation += 1
            await asyncio.gather(*(child.ask("switch") for child in self._children), return_exceptions=True)
        configure(settings.log, verbosity=self._launch.verbosity)
        return f"{reloaded(self._generation, settings)}, {len(self._children)} workers"

    async def _prepare_all(self, settings: Settings) -> None:
        arguments = {"settings": packed(settings)}
        answers = await asyncio.gather(
            *(child.ask("prepare", arguments) for child in self._children), return_exceptions=True
        )
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if not failed:
            return
        await asyncio.gather(*(child.ask("abandon") for child in self._children), return_exceptions=True)
        for error in failed:
            if isinstance(error, ActionError):
                raise error
        raise ActionError(f"not every worker could prepare: {failed[0]}", "try again") from failed[0]

    async def _ask_all(self, action: str, arguments: Mapping[str, Any] | None = None) -> list[Any]:
        """The answers of those that are there."""
        answers = await asyncio.gather(
            *(child.ask(action, arguments) for child in self._children), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Gone):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    def _desk(self) -> Desk:
        more: dict[str, Action] = {
            "reload": lambda _: reload_aloud(self),
            "status": lambda _: self.facts(),
            "plugin.list": lambda _: self._told_plugins(),
            "queue.list": self._queue_list,
            "queue.flush": self._queue_sum("queue.flush"),
            "queue.retry-destination": self._queue_sum("queue.retry-destination"),
            "queue.destinations": self._queue_destinations,
            "queue.suspend": self._queue_suspend,
            "queue.resume": self._queue_resume,
            SUBMIT: self._submit,
            "collect.list": self._at_first("collect.list"),
            "collect.fetch": self._at_first("collect.fetch"),
        }
        for name in ("show", "retry", "hold", "release", "delete"):
            more[f"queue.{name}"] = self._at_one(f"queue.{name}")
        desk = Desk(None, self._records, more)
        for name in ("explain", "trace"):
            desk.actions[name] = self._after_flush(desk.actions[name])
        return desk

    async def _told_plugins(self) -> list[dict[str, Any]]:
        plugins = await self.plugins()
        await self._ask_all("flush")
        return await asyncio.to_thread(told_plugins, plugins, self._records, time.time())

    def _after_flush(self, action: Action) -> Action:
        async def read(arguments: Mapping[str, Any]) -> Any:
            await self._ask_all("flush")
            return await action(arguments)

        return read

    async def _queue_list(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        told = await self._ask_all("queue.list", arguments)
        entries = sorted((entry for one in told for entry in one["entries"]), key=lambda entry: entry["received_at"])
        return {
            "entries": entries[: read_number(arguments, "limit", PAGE)],
            "queued": sum(one["queued"] for one in told),
            "held": sum(one["held"] for one in told),
        }

    def _queue_sum(self, action: str) -> Action:
        async def act(arguments: Mapping[str, Any]) -> int:
            return sum(await self._ask_all(action, arguments))

        return act

    async def _queue_destinations(self, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        told = await self._ask_all("queue.destinations", arguments)
        return merged(told, read_number(arguments, "limit", ROWS))

    async def _queue_suspend(self, arguments: Mapping[str, Any]) -> list[str]:
        told: list[list[str]] = await self._ask_all("queue.suspend", arguments)
        return told[0] if told else []

    async def _queue_resume(self, arguments: Mapping[str, Any]) -> dict[str, int]:
        due: dict[str, int] = {}
        for told in await self._ask_all("queue.resume", arguments):
            for name, count in told.items():
                due[name] = count if due.get(name, -1) < 0 else due[name] + max(count, 0)
        return due

    async def _submit(self, arguments: Mapping[str, Any]) -> Any:
        """Taken by one worker, another one each time. Never by a second one: the first may have had it already."""
        self._turn += 1
        there = [child for child in self._children if child.is_there]
        if not there:
            raise ActionError("all workers are starting again", "try again")
        try:
            return await there[self._turn % len(there)].ask(SUBMIT, arguments)
        except Gone as error:
            text = "the worker that was given the message has died; it may have it"
            raise ActionError(text, "gatepost queue list, or gatepost trace, then try again") from error

    def _at_first(self, action: str) -> Action:
        """Done by the worker that has the first shard, as collecting is."""

        async def act(arguments: Mapping[str, Any]) -> Any:
            try:
                return await self._children[0].ask(action, arguments)
            except Gone as error:
                raise ActionError("the worker that collects is starting again", "try again") from error

        return act

    def _at_one(self, action: str) -> Action:
        """Done by whichever worker has the message."""

        async def act(arguments: Mapping[str, Any]) -> Any:
            missing: ActionError | None = None
            away = False
            for child in self._children:
                try:
                    return await child.ask(action, arguments)
                except ActionError as error:
                    missing = error
                except Gone:
                    away = True
            if away:
                raise ActionError(f"{arguments.get('id')} isn't found while a worker starts again", "try again")
            assert missing is not None
            raise missing

        return act
