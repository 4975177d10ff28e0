"""The process that runs one isolated Python plugin: `python -m gatepost.plugins.python.child`, started by the house.

It loads the plugin with the ordinary loader, tells its marks, and answers questions over the frames of `wire.host`,
many at once: coroutines as tasks, plain functions in the plugin's threads. What the plugin prints goes to the log.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path as File
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from gatepost.hooks import stages
from gatepost.hooks.answers import AnswerError
from gatepost.hooks.api import PREPARE
from gatepost.hooks.session import ServerView
from gatepost.plugins.host.channel import Channel
from gatepost.plugins.host.confinement import confine_self
from gatepost.plugins.loaded import PluginError
from gatepost.plugins.python.heart import Heart
from gatepost.plugins.python.loading import Hook, InProcess, bound_like, collect
from gatepost.plugins.python.rebuilding import (
    Kept,
    Lookup,
    forget_content,
    read_event,
    read_notice,
    read_session,
    update_session,
    write_answer,
)
from gatepost.plugins.threads import Threads
from gatepost.wire.host import (
    VERSION,
    Ask,
    Failed,
    FrameError,
    Hello,
    Load,
    Log,
    Ready,
    SessionEnded,
    Stop,
    ToHost,
    Told,
    frames_to_host,
)
from gatepost.wire.host import (
    Loaded as LoadedFrame,
)

T = TypeVar("T")
log = logging.getLogger("gatepost.plugins")
_TEXT = 1000  # characters of an error that are told
_LINES = 40  # of one record, mostly a traceback's
Level = Literal["debug", "info", "warning", "error"]
_LEVELS: dict[int, Level] = {logging.ERROR: "error", logging.WARNING: "warning", logging.INFO: "info"}


class _Clock:
    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        return datetime.now(UTC).astimezone()

    def unix(self) -> tuple[float, int]:
        now = time.time()
        return now, time.localtime(now).tm_gmtoff


class _NoFacts:
    """The ledger isn't reachable from here, and a plugin that needs it hears so."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("server.facts isn't there for an isolated plugin; take isolate = true away")


class _Patience:
    """hooks' port, as far as a session in a child needs it: work beside the questions."""

    def __init__(self) -> None:
        self.beside: set[asyncio.Task[Any]] = set()

    async def within(self, seconds: float, hook: Coroutine[Any, Any, T], waiting_for: Any) -> T:
        raise RuntimeError("hooks have their deadline from the house")

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self.beside.add(task)
        task.add_done_callback(self._done)
        return task

    def is_cancellation(self, error: BaseException) -> bool:
        return isinstance(error, asyncio.CancelledError)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.beside.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work beside a session failed", exc_info=error)


class Child:
    """One plugin and the sessions it is asked about. Ends when it is told to stop, or when the house is gone."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._channel = Channel(frames_to_host(), self._heard, self._over.set)
        self._patience = _Patience()
        self._server = ServerView("", _Clock(), _NoFacts())
        self._lookup: Lookup | None = None
        self._plugin: InProcess | None = None
        self._hooks: list[Hook] = []
        self._threads = Threads("plugin")
        self._sessions: dict[str, Kept] = {}
        self._answering: dict[asyncio.Task[None], float] = {}
        """Coroutine hooks at work, and their deadlines; plain functions can't be interrupted."""
        self._in_threads: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._opened: list[Any] = []
        self._files = File()
        self._pid = os.getpid()

    async def run(self, end: socket.socket) -> None:
        """Answer until the end."""
        logging.basicConfig(handlers=[_Telling(self._channel, self._loop)], level=logging.INFO)
        await self._channel.open(end)
        self._channel.send(Hello(VERSION, "python"))
        await self._over.wait()
        await self._channel.finish()

    def _heard(self, frame: ToHost | FrameError) -> None:
        match frame:
            case Ask():
                self._asked(frame)
            case SessionEnded():
                if (kept := self._sessions.pop(frame.session, None)) is not None:
                    self._patience.spawn(_closing(kept.close()))
            case Told(session="", notice="open"):
                self._patience.spawn(self._open(frame.facts))
            case Told(notice="transaction-ended"):
                if (kept := self._sessions.get(frame.session)) is not None:
                    self._patience.spawn(_closing(kept.close_transaction(frame.facts["transaction"])))
            case Told():
                self._told(frame)
            case Hello():
                pass
            case Load():
                self._load(frame)
            case Stop():
                self._patience.spawn(self._stop())
            case FrameError():
                self._over.set()

    # ── the plugin ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _load(self, frame: Load) -> None:
        try:
            self._plugin, self._hooks = collect(frame.source, name=frame.plugin or None, properties=frame.properties)
            for hook in self._hooks:
                hook.properties = MappingProxyType({}) if hook.properties is None else hook.properties
            marks = [[[mark.stage.name, dict(mark.words)] for mark in hook.marks] for hook in self._hooks]
            facts = {"name": self._plugin.name, "source": self._plugin.source, "hooks": marks}
            self._channel.send(LoadedFrame(self._plugin.name, facts))
        except PluginError as error:
            self._refuse(error)
        except BaseException as error:  # noqa: BLE001  whatever a plugin's module does, the house hears of it
            self._refuse(PluginError(f'"{frame.source}" can\'t be loaded: {type(error).__name__}: {error}'))

    async def _open(self, facts: dict[str, Any]) -> None:
        plugin = self._plugin
        assert plugin is not None
        self._files = File(facts["files"])
        resolver = None
        if facts["resolver"] is not None:
            # most plugins don't look names up, and what can costs them a third of their start
            from gatepost.net.resolver import Resolver  # noqa: PLC0415

            resolver = Resolver(nameservers=facts["resolver"])
            self._lookup = resolver.reverse
        self._server = ServerView(facts["hostname"], self._server.clock, _NoFacts(), resolver)
        Heart(facts["stall_s"], lambda task: task in self._answering)
        try:
            await plugin.open(self._server)
            self._opened = plugin.instances
        except PluginError as error:
            self._refuse(error)
        except BaseException as error:  # noqa: BLE001  as above
            self._refuse(PluginError(f'plugin "{plugin.name}" couldn\'t open: {type(error).__name__}: {error}'))
        else:
            self._channel.send(Ready())

    async def _stop(self) -> None:
        """Answer what is open, close everything, leave."""
        if at_work := [*self._answering, *self._in_threads]:
            await asyncio.wait(at_work)
        for kept in list(self._sessions.values()):
            await _closing(kept.close())
        self._sessions.clear()
        if self._plugin is not None:
            self._plugin.instances = self._opened
            try:
                await self._plugin.close()
            except BaseException as error:  # noqa: BLE001  as above
                errors = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
                said = "; ".join(f"{type(one).__name__}: {one}" for one in errors)
                self._refuse(PluginError(f'plugin "{self._plugin.name}" couldn\'t be closed: {said}'))
        self._over.set()

    def _refuse(self, error: PluginError) -> None:
        self._channel.send(Failed(0, type(error).__name__, str(error)[: 2 * _TEXT]))

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _asked(self, ask: Ask) -> None:
        which, inline = ask.facts["hook"], ask.facts["inline"]
        hook = self._hooks[which]
        if inspect.iscoroutinefunction(hook.function) or inline:
            task = self._loop.create_task(self._answer(ask, hook, None))
            deadline = self._loop.time() + ask.deadline_s
            self._answering[task] = deadline
            task.add_done_callback(self._answered)
            if self._watch is None or self._watch.when() > deadline:
                self._watch_until(deadline)
        else:
            task = self._loop.create_task(self._answer(ask, hook, self._threads))
            self._in_threads.add(task)
            task.add_done_callback(self._in_threads.discard)

    async def _answer(self, ask: Ask, hook: Hook, threads: Threads | None) -> None:
        turn = stages.Turn(hook.properties, time.monotonic() + ask.deadline_s, time.monotonic)
        event: stages.Event | None = None
        try:
            event = read_event(ask, self._known(ask.session, ask.facts["session"]), self._server, turn, self._files)
            capabilities = list(event.capabilities) if isinstance(event, stages.Hello) else None
            if (prepare := getattr(hook.function, PREPARE, None)) is not None:
                turn.prepared = self._preparation(ask, hook, prepare)
            answer = hook.function(event) if threads is None else await threads.run(hook.function, event)
            if inspect.isawaitable(answer):
                answer = await answer
            turn.is_open = False
            self._channel.send(write_answer(ask, event, capabilities, answer, self._files))
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError | AnswerError):
                log.error("%s at %s", type(error).__name__, ask.stage, exc_info=error)
            kind = "TimeoutError" if isinstance(error, asyncio.CancelledError) else type(error).__name__
            self._channel.send(Failed(ask.id, kind[:100], str(error)[:_TEXT]))
        finally:
            if os.getpid() != self._pid:
                os._exit(1)  # the hook has forked and came back twice
            turn.is_open = False
            if isinstance(turn.prepared, asyncio.Task):
                turn.prepared.cancel()
            if event is not None:
                forget_content(event)

    def _preparation(self, ask: Ask, hook: Hook, prepare: Callable[..., Any]) -> asyncio.Task[Any]:
        """It begins with the question of its own hook, not earlier, and may look at the event, not change it."""
        looking = stages.Turn(hook.properties, 0.0, time.monotonic, is_open=False)
        event = read_event(ask, self._known(ask.session, ask.facts["session"]), self._server, looking, self._files)
        return self._loop.create_task(bound_like(hook.function, prepare)(event))

    def _known(self, id: str, facts: Mapping[str, Any]) -> Kept:
        kept = self._sessions.get(id)
        if kept is None:
            kept = self._sessions[id] = Kept(read_session(id, facts, self._patience, self._lookup))
        else:
            update_session(kept.session, facts)
        return kept

    def _answered(self, task: asyncio.Task[None]) -> None:
        del self._answering[task]

    def _watch_until(self, when: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """Cancel the hooks whose time is over; the house kills whoever doesn't listen."""
        self._watch = None
        now = self._loop.time()
        for task, deadline in self._answering.items():
            if deadline <= now:
                task.cancel()
        if left := [deadline for deadline in self._answering.values() if deadline > now]:
            self._watch_until(min(left))

    # ── notices ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _told(self, told: Told) -> None:
        if told.session:
            session = self._known(told.session, told.facts["session"]).session
        elif "session" in told.facts:
            session = read_session(told.facts["id"], told.facts["session"], self._patience, self._lookup)
        else:
            session = None
        notice = read_notice(told, session, self._server)
        for hook in self._hooks:
            if any(mark.stage is type(notice) for mark in hook.marks):
                self._patience.spawn(self._tell(hook, notice))

    async def _tell(self, hook: Hook, notice: Any) -> None:
        if inspect.iscoroutinefunction(hook.function):
            await hook.function(notice)
        else:
            await self._threads.run(hook.function, notice)


class _Telling(logging.Handler):
    """What the plugin logs, as frames for the house's log, a line each."""

    def __init__(self, channel: Channel[ToHost], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._channel = channel
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = next((word for number, word in _LEVELS.items() if record.levelno >= number), "debug")
        lines = self.format(record)[: 16 * _TEXT].splitlines()[:_LINES]
        frames = [Log(level, line[:_TEXT]) for line in lines]
        with suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(self._send, frames)

    def _send(self, frames: list[Log]) -> None:
        for frame in frames:
            self._channel.send(frame)


async def _closing(closing: Coroutine[Any, Any, list[BaseException]]) -> None:
    for error in await closing:
        log.error("an object of a plugin couldn't be closed", exc_info=error)


def take_channel() -> socket.socket:
    """The house's end of standard input, out of the plugin's way: what it reads is empty, what it prints is logged."""
    end = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    os.register_at_fork(after_in_child=end.close)  # what a plugin forks has nothing to say to the house
    return end


def main() -> None:
    """Run until the house has gone."""
    end = take_channel()
    confine_self()
    asyncio.run(_run(end))
    os._exit(0)  # a hung thread mustn't keep the process


async def _run(end: socket.socket) -> None:
    await Child().run(end)


if __name__ == "__main__":
    main()
