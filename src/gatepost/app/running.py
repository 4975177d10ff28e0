"""`gatepost run`, from the first socket to the last: start, banner, signals, reload, stop.

Strategy: a `House` is one process with one worker, or a supervisor with several; what happens around it is the same.
SIGTERM and SIGINT stop it (again: at once), SIGHUP reloads. Nothing is said to run that doesn't.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from gatepost.admin.desk import Action, Desk
from gatepost.admin.destinations import DestinationsDesk
from gatepost.admin.queue import ActionError, Queue
from gatepost.app.banner import Facts, banner
from gatepost.app.bindings_listing import with_origins
from gatepost.app.control import ControlServer
from gatepost.app.inspection import plugin_facts, told_plugins, worker_facts
from gatepost.app.listening import Sockets
from gatepost.app.logs import Journal, configure, journal
from gatepost.app.privileges import begin_launcher, drop
from gatepost.app.queueing import ACTION as SUBMIT
from gatepost.app.queueing import sweep, take_in
from gatepost.app.settings import Settings
from gatepost.app.starting import REASONS, Launch, StartFailure, failure, refused
from gatepost.app.worker import Worker
from gatepost.plugins.host.launched import Launcher, Starters

log = logging.getLogger("gatepost")

GRACE_S = 30.0  # for transactions under way when the server stops
WATCH_S = 1.0
EX_INTERRUPTED = 130
_COLLECTIONS = 10_000, 20, 50  # objects, and rounds of the younger generation, between two searches for cycles


class House(Protocol):
    """A server that runs, in one process or in several."""

    async def start(self) -> None:
        """Begin everything; StartFailure if something can't. What fails or is cancelled leaves nothing behind."""

    async def facts(self) -> dict[str, Any]:
        """How it is doing, all workers together."""

    async def plugins(self) -> list[dict[str, Any]]:
        """Who is asked at which stage."""

    async def reload(self) -> str:
        """Read the settings again; what has changed, in words. ActionError if nothing has, and why."""

    async def stop(self, grace_s: float) -> None:
        """Let transactions finish for so long, then end."""

    def kill(self) -> None:
        """End what else would outlive this process."""


Make = Callable[[Sockets, Launcher | None], House]
"""Makes the house of its sockets, and of what starts plugins as other users, if there is that."""


class Single:
    """One worker in this process, with the control socket beside it."""

    def __init__(self, launch: Launch, settings: Settings, sockets: Sockets, launcher: Launcher | None = None) -> None:
        self._launch = launch
        self._settings = settings
        self._sockets = sockets
        self._began = time.time()
        self._control: ControlServer | None = None
        self._journal: Journal | None = None
        starters = None if launcher is None else Starters(launcher.doors[0], launcher.accounts)
        self.worker = Worker(settings, starters=starters)
        self._log_as(settings)

    async def start(self) -> None:
        try:
            await self.worker.start(self._sockets.of(0))
        except REASONS as error:
            raise failure(error) from error
        if self._settings.data is not None:
            more = {
                "reload": lambda _: reload_aloud(self),
                "status": lambda _: self.facts(),
                "plugin.list": lambda _: self._told_plugins(),
            }
            sweep(self._settings.data)
            self._control = ControlServer(self._settings.data, worker_desk(self.worker, more))
            await self._control.start()

    async def facts(self) -> dict[str, Any]:
        return {**worker_facts(self.worker), "workers": 1, "uptime_s": round(time.time() - self._began, 1)}

    async def plugins(self) -> list[dict[str, Any]]:
        settings = self.worker.settings
        return with_origins(plugin_facts(self.worker.generation.plugins, settings), settings)

    async def _told_plugins(self) -> list[dict[str, Any]]:
        plugins = await self.plugins()
        return await asyncio.to_thread(told_plugins, plugins, self.worker.stores.records, time.time())

    async def reload(self) -> str:
        try:
            settings = self._launch.settings()
            await self.worker.reload(settings)
        except REASONS as error:
            raise refused(error) from error
        self._log_as(settings)
        return reloaded(self.worker.generations, settings)

    def _log_as(self, settings: Settings) -> None:
        if self._journal is not None:
            self._journal.flush()
        configure(settings.log, verbosity=self._launch.verbosity)
        self._journal = journal(settings.log, asyncio.get_running_loop().call_later, verbosity=self._launch.verbosity)
        self.worker.say = None if self._journal is None else self._journal.say

    async def stop(self, grace_s: float) -> None:
        if self._control is not None:
            await self._control.close()
        await self.worker.stop_accepting()
        self._sockets.close()
        await self.worker.stop(grace_s)
        if self._journal is not None:
            self._journal.flush()

    def kill(self) -> None:
        """Nothing outlives this process."""


def worker_desk(worker: Worker, more: Mapping[str, Action]) -> Desk:
    """The desk over one worker's stores."""
    stores, way = worker.stores, worker.delivering
    queue = None
    if way.spools:
        destinations = DestinationsDesk(way.spools, stores.ledger, time.time, way.destinations, way.ways)
        queue = Queue(way.spools, stores.recorder.record, destinations)
    submissions, data = way.submissions, worker.settings.data
    if submissions is not None and data is not None:
        more = {**more, SUBMIT: lambda arguments: take_in(submissions, data, arguments)}
    if worker.collecting is not None:
        from gatepost.app.collecting import actions

        more = {**more, **actions(worker.collecting)}
    return Desk(queue, stores.records, more)


def reloaded(generation: int, settings: Settings) -> str:
    """What a reload has come to, in words."""
    enabled = sum(plugin.enabled for plugin in settings.plugin)
    counts = f"{enabled} plugin{'s' if enabled != 1 else ''}, {len(settings.route)} route"
    return f"reloaded: generation {generation}, {counts}{'s' if len(settings.route) != 1 else ''}"


async def run(launch: Launch, settings: Settings, make: Make, *, workers: int, watch: bool, began: float) -> int:
    """Run until a signal; the exit code. StartFailure if it can't start: then nothing was started."""
    house, launcher = await _started(settings, make, workers)
    if house is None:
        return 0
    collect_seldom()
    stopping = asyncio.Event()
    beside: set[asyncio.Task[None]] = set()

    def stop() -> None:
        if stopping.is_set():
            house.kill()
            if settings.data is not None:
                (settings.data / "control.sock").unlink(missing_ok=True)
            os._exit(EX_INTERRUPTED)  # what was answered with 250 is durable; the rest was asked to end
        stopping.set()

    def reload() -> None:
        task = asyncio.create_task(_reload(house))
        beside.add(task)
        task.add_done_callback(beside.discard)

    _on_signals(stop, reload)
    _say(banner(settings, await _banner_facts(launch, house, time.time() - began, workers)))
    if watch:
        beside.add(asyncio.create_task(_watch(launch, settings, house)))
    await stopping.wait()
    log.info("going down; transactions under way have %g s", GRACE_S)
    for task in beside:
        task.cancel()
    await house.stop(GRACE_S)
    if launcher is not None:
        await asyncio.to_thread(launcher.close)
    log.info("stopped")
    return 0


async def _started(settings: Settings, make: Make, workers: int) -> tuple[House | None, Launcher | None]:
    """The house, started, None where a signal came first; and the launcher, if there is one."""
    launcher: Launcher | None = None
    try:
        sockets = Sockets(settings.listen, workers)
        launcher = begin_launcher(settings, workers)
        drop(settings.run_as, settings.data, () if launcher is None else [one.gid for one in launcher.accounts])
    except REASONS as error:
        if launcher is not None:
            launcher.close()
        raise failure(error) from error
    house = make(sockets, launcher)
    starting = asyncio.create_task(house.start())
    _on_signals(starting.cancel, lambda: None)
    try:
        await starting
    except BaseException as error:
        sockets.close()
        if launcher is not None:
            launcher.close()
        if not isinstance(error, asyncio.CancelledError):
            raise
        return None, None
    return house, launcher


def _on_signals(stop: Callable[[], object], reload: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)


async def reload_aloud(house: House) -> str:
    """Reload, and tell the log too what has come of it."""
    try:
        told = await house.reload()
    except ActionError as error:
        log.error("not reloaded, the settings before stay: %s%s", error, f"; {error.mend}" if error.mend else "")
        raise
    log.info("%s", told)
    return told


async def _reload(house: House) -> None:
    """For a signal: nobody waits for the answer."""
    try:
        await reload_aloud(house)
    except ActionError:
        return  # which was told
    except Exception:
        log.exception("not reloaded, the settings before stay")


async def _watch(launch: Launch, settings: Settings, house: House) -> None:
    """Reload when a settings or plugin file has changed."""
    before = _versions(launch.files(settings))
    while True:
        await asyncio.sleep(WATCH_S)
        now = _versions(launch.files(settings))
        if now != before:
            before = now
            await _reload(house)
            with suppress(*REASONS):
                settings = launch.settings()
                before = _versions(launch.files(settings))


def _versions(files: Iterable[Path]) -> dict[Path, tuple[int, int] | None]:
    found: dict[Path, tuple[int, int] | None] = {}
    for file in files:
        try:
            status = file.stat()
            found[file] = (status.st_mtime_ns, status.st_size)
        except OSError:
            found[file] = None
    return found


async def _banner_facts(launch: Launch, house: House, ready_s: float, workers: int) -> Facts:
    facts = await house.facts()
    return Facts(
        ready_s=ready_s,
        workers=workers,
        addresses={one["name"]: (one["address"][0], one["address"][1]) for one in facts["listeners"]},
        plugins=await house.plugins(),
        certificates=[(name, days) for name, days in facts["certificates"]],
        queued=facts["queued"],
        held=facts["held"],
        config=launch.named,
    )


def _say(text: str) -> None:
    """On standard output; nobody there is no reason not to run."""
    with suppress(OSError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def collect_seldom() -> None:
    """Search for cycles of garbage less often, and never in what there is at the start.

    With Python's own setting the messages of fifty sessions, between their commit and their delivery, are reason enough
    for a search, which costs a tenth of the CPU and tens of milliseconds at a time. For a process that is ours alone.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's, where it is installed (the extra `fast`)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


__all__ = [
    "House",
    "Single",
    "StartFailure",
    "collect_seldom",
    "loop_factory",
    "reload_aloud",
    "reloaded",
    "run",
    "worker_desk",
]
