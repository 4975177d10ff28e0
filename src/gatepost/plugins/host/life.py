"""One life of a host: a process from its start to its end, with its channel, its voice and its files.

It greets, loads, opens, answers, and ends; whatever it says out of turn ends it at once (attack P1). What its answers
mean is for its host.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path as File
from typing import IO, Any

from gatepost.plugins.host.channel import Channel
from gatepost.plugins.host.confinement import Limits
from gatepost.plugins.host.errors import HostDown
from gatepost.plugins.host.launching import DIRECTLY, Command, Starter, ending
from gatepost.plugins.host.scratch import Scratch
from gatepost.plugins.host.voice import Voice
from gatepost.wire.host import (
    VERSION,
    Answer,
    Failed,
    Frame,
    FrameError,
    FromHost,
    Hello,
    Load,
    Loaded,
    Log,
    Ready,
    Stop,
    Told,
    frames_from_host,
)

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_LOOK_S = 0.1  # how often memory is looked at: while the question that eats it is alone still (supervision.ALONE_S)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a host's lives begin: always the same way."""

    command: Command
    dialect: str
    load: Load
    limits: Limits
    scratch: File | None = None
    """Where the folders of files are made; the system's place without one."""
    quick: File | None = File("/dev/shm")  # noqa: S108  folders of one's own are made in it
    """A file system in memory, for small content; where there is none, `scratch` has it all."""
    load_s: float = 30.0
    """Seconds for starting and loading, and again for opening."""
    path_there: Callable[[str], str] = str
    """How the process calls a file that we call so."""
    resident: int | None = None
    """Octets of memory that it may really use, where a limit of its address space is none; it is looked at (Linux)."""
    starter: Starter = DIRECTLY
    """Who starts them, and so whom they run as."""
    ready: Callable[[], Awaitable[None]] | None = None
    """What is awaited before each life, such as a service that outlives it. OSError where that can't be."""


class LoadRefused(RuntimeError):
    """The host is well, but refuses to load or open the plugin, or can't close it: its own words."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class _Expects(Enum):
    HELLO = auto()
    LOADED = auto()
    READY = auto()
    NOTHING = auto()


class Life:
    """Invariant: `on_end` is called exactly once, after `on_answer` for the last time, unless `stop` ended it."""

    def __init__(
        self,
        recipe: Recipe,
        log: logging.Logger,
        on_answer: Callable[[Answer | Failed], None],
        on_end: Callable[[str], None],
        on_room: Callable[[], None],
    ) -> None:
        """Starts the process. OSError where that can't be."""
        self._recipe = recipe
        self._on_answer = on_answer
        self._on_end: Callable[[str], None] | None = on_end
        self._expects = _Expects.NOTHING
        self._expected: asyncio.Future[Any] | None = None
        self._refused_to_close: LoadRefused | None = None
        self._why: str | None = None
        self._is_open = False
        self.began = asyncio.get_running_loop().time()
        self.answered = 0
        self.scratch = Scratch(recipe.scratch, recipe.quick, recipe.starter)
        try:
            self._process = recipe.starter.host(recipe.command, recipe.limits)
        except BaseException:
            self.scratch.forsake()
            raise
        self._pipe: IO[bytes] | None = os.fdopen(self._process.errors, "rb", 0)
        self.voice = Voice(log)
        self.channel: Channel[FromHost] = Channel(frames_from_host(), self._heard, self._silent, on_room)
        self._process.exited.add_done_callback(self._exited)
        self._looking: asyncio.TimerHandle | None = None
        if recipe.resident is not None:
            self._look(recipe.resident)

    @property
    def pid(self) -> int:
        """Of its process; 0 while it isn't known."""
        return self._process.pid

    async def load(self) -> dict[str, Any]:
        """What the plugin says of itself. LoadRefused, HostDown."""
        recipe = self._recipe
        pipe, self._pipe = self._pipe, None
        await asyncio.get_running_loop().connect_read_pipe(lambda: self.voice, pipe)
        await self.channel.open(self._process.channel)
        hello = await self._asked(Hello(VERSION, recipe.dialect), _Expects.HELLO)
        if hello.dialect != recipe.dialect:
            self.kill(f"speaks the dialect {hello.dialect[:40]!r}, not {recipe.dialect!r}")
            raise HostDown(self._dead())
        loaded: Loaded = await self._asked(recipe.load, _Expects.LOADED)
        return loaded.facts

    async def open(self, facts: dict[str, Any]) -> None:
        """Let the plugin open; with the facts it hears in which folder the `files` are that it hands back.

        LoadRefused, HostDown.
        """
        await self._asked(Told("", "open", facts | {"files": str(self.scratch.folder)}), _Expects.READY)
        self._is_open = True

    def send(self, frame: Frame) -> None:
        """ValueError if it is too large."""
        self.channel.send(frame)

    def kill(self, why: str) -> None:
        """End it; `why` continues a sentence that begins with "it"."""
        if self._why is None:
            self._why = why
        self._process.kill()

    async def stop(self, grace_s: float) -> None:
        """Let it answer what is open, close its plugins and leave; then make it. LoadRefused if closing failed."""
        self._on_end = None
        self.channel.send(Stop())
        await asyncio.wait({self._process.exited}, timeout=grace_s)
        await self.end()
        if self._refused_to_close is not None:
            raise self._refused_to_close

    async def end(self) -> None:
        """Make sure that nothing of it is left."""
        self._on_end = None
        self.kill("was stopped")
        await asyncio.wait({self._process.exited})  # not awaited itself: a cancelled waiter would cancel it
        await self.channel.close()
        self._process.channel.close()
        self.voice.close()
        if self._pipe is not None:
            self._pipe.close()
        await self.scratch.remove()

    # ── what the process says and does ─────────────────────────────────────────────────────────────────────────────

    def _heard(self, frame: FromHost | FrameError) -> None:
        if type(frame) is Answer and self._is_open:  # nearly all of them
            self.answered += 1
            self._on_answer(frame)
            return
        match frame:
            case Failed(id=0):
                self._refused(LoadRefused(frame.kind[:100], frame.text[:2000]))
            case Failed() if self._is_open:
                self.answered += 1
                self._on_answer(frame)
            case Answer() | Failed():
                self.kill("broke the protocol: an answer before it was ready")
            case Log():
                self.voice.say(frame.level, frame.text)
            case FrameError():
                self.kill(f"broke the protocol: {frame.text}")
            case Hello() | Loaded() | Ready():
                self._came(frame, {Hello: _Expects.HELLO, Loaded: _Expects.LOADED, Ready: _Expects.READY}[type(frame)])

    def _refused(self, refusal: LoadRefused) -> None:
        if self._expected is None:
            self._refused_to_close = refusal
        elif not self._expected.done():
            self._expected.set_exception(refusal)

    def _came(self, frame: FromHost, what: _Expects) -> None:
        if self._expects is not what or self._expected is None:
            self.kill(f"broke the protocol: {type(frame).__name__.lower()} out of turn")
        elif not self._expected.done():
            self._expected.set_result(frame)

    async def _asked(self, frame: Frame, expects: _Expects) -> Any:
        if self._process.exited.done():
            raise HostDown(self._dead())
        self._expects = expects
        self._expected = asyncio.get_running_loop().create_future()
        try:
            self.channel.send(frame)
            async with asyncio.timeout(self._recipe.load_s):
                return await self._expected
        except TimeoutError:
            self.kill(f"wasn't ready after {self._recipe.load_s:g} s ({expects.name.lower()})")
            raise HostDown(self._dead()) from None
        finally:
            self._expects, self._expected = _Expects.NOTHING, None

    def _silent(self) -> None:
        """The channel has ended; a process without one is of no use, unless it is leaving as it was asked to."""
        if self._on_end is not None:
            self._process.kill()

    def _look(self, most: int) -> None:
        """Whether it uses more memory than it may. It can be more for as long as nobody looks."""
        uses = _resident(self.pid)
        if uses is not None and uses > most:
            self.kill(f"used {uses >> 20} MiB of memory, of {most >> 20} it may")
        self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look, most)

    def _exited(self, _: asyncio.Future[int]) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self.channel.finish_reading(self._process.channel)
        if self._pipe is None:
            self.voice.finish_reading(self._process.errors)
        if self._expected is not None and not self._expected.done():
            self._expected.set_exception(HostDown(self._dead()))
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end(self._dead())

    @property
    def over(self) -> str | None:
        """Why it has ended; None while it lasts."""
        return self._dead() if self._process.exited.done() else None

    def _dead(self) -> str:
        exited = self._process.exited
        why = self._why or (ending(exited.result()) if exited.done() else "is ending")
        said = self.voice.last[-1] if self.voice.last else ""
        return f"its process {why}" + (f"; it said last: {said[:200]}" if said else "")


def _resident(pid: int) -> int | None:
    """Octets of memory that a process has in use; None where the system doesn't tell."""
    try:
        with open(f"/proc/{pid}/statm", "rb", 0) as file:  # noqa: PTH123  four times a second, for each process
            return int(file.read(200).split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None
