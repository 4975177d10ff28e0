"""Starts a child process and knows when it has ended: group, descriptors, exit; nothing about what it says.

A host gets one end of a socket pair as its standard input and output, a pipe as its standard error; a program that runs
once gets a file as its standard input, and pipes. Either has a session of its own and no other descriptor. Its end is
seen by its process descriptor where the system has those, else by a thread; before the dead child is reaped its whole
group is killed, since afterwards the number may be somebody else's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from gatepost.plugins.host.confinement import Limits, confining, limit, stand_back


@dataclass(frozen=True, slots=True)
class Command:
    """What to run."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    """None: the house's own."""
    folder: str | None = None
    """Where it works; None: where the house does."""


class Hosting(Protocol):
    """A running host, whoever has started it. `channel` and `errors` belong to the caller, who closes them."""

    pid: int
    """0 while it isn't known."""
    channel: socket.socket
    errors: int
    exited: asyncio.Future[int]

    def kill(self) -> None:
        """It, and what it has started."""


class Running(Protocol):
    """A running program, whoever has started it; see `Program`."""

    output: int
    errors: int
    died: asyncio.Future[None]
    exited: asyncio.Future[int]

    def kill(self) -> None:
        """It, and what it has started."""

    def reap(self) -> int:
        """Of a dead child: its exit status."""


class Starter(Protocol):
    """Starts a plugin's processes: as ourselves, or as a user of their own."""

    @property
    def group(self) -> int | None:
        """The group that the house's files for them are shared with; None where they are as ourselves."""

    @property
    def home(self) -> Mapping[str, str]:
        """What the environment says of their user; it stands over the house's own."""

    def host(self, command: Command, limits: Limits) -> Hosting:
        """Starts a host, within a running loop. OSError where that can't be."""

    def program(self, command: Command, limits: Limits, stdin: int) -> Running:
        """Starts a program that runs once, within a running loop; `stdin` stays the caller's. OSError."""

    async def remove(self, folder: Path) -> None:
        """Remove what is left in a folder of ours that only they may remove."""


class _Child:
    """A running child. Invariant: it is reaped exactly once, and its group is gone by then."""

    def __init__(self, command: Command, stdin: int, stdout: int, stderr: int) -> None:
        self._popen = subprocess.Popen(  # noqa: S603  the command is the settings' or our own
            command.arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=command.environment,
            cwd=command.folder,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        """The exit status; negative: the signal that ended it."""

    def kill(self) -> None:
        """The child and whatever it has started, unless they left its group. Nothing happens if it has ended."""
        if not self.exited.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _watch(self) -> None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            threading.Thread(target=self._wait, name=f"waits for {self.pid}", daemon=True).start()
            return
        self._loop.add_reader(descriptor, self._ended, descriptor)

    def _wait(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(RuntimeError):  # the loop is gone, and so is whoever waits
            self._loop.call_soon_threadsafe(self._ended, None)

    def _ended(self, descriptor: int | None) -> None:
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._has_died()

    def _has_died(self) -> None:
        self.reap()

    def reap(self) -> int:
        """Of a dead child: its exit status, once its group is gone too."""
        if not self.exited.done():
            self.kill()
            self.exited.set_result(self._popen.wait())
        return self.exited.result()


class Process(_Child):
    """A running host. `channel` and `errors` belong to the caller, who closes them."""

    def __init__(self, command: Command, limits: Limits) -> None:
        """Starts it, within a running loop. OSError where that can't be."""
        self.channel, theirs = socket.socketpair()
        self.errors, writing = os.pipe()
        try:
            super().__init__(command, theirs.fileno(), theirs.fileno(), writing)
        except BaseException:
            self.channel.close()
            os.close(self.errors)
            raise
        finally:
            theirs.close()
            os.close(writing)
        self.channel.setblocking(False)
        limit(self.pid, limits)
        stand_back(self.pid)
        self._watch()


class Program(_Child):
    """A running program, which answers by what it writes and how it exits. It never runs without its limits.

    `output` and `errors`, the ends of its pipes, belong to the caller, who closes them. It stays dead and unreaped
    until the caller says `reap`: what it has started may be writing still.
    """

    def __init__(self, command: Command, limits: Limits, stdin: int) -> None:
        """Starts it, within a running loop; `stdin` stays the caller's. OSError where that can't be."""
        self.output, writing = os.pipe()
        self.errors, complaining = os.pipe()
        try:
            confined = Command((*confining(limits), *command.arguments), command.environment, command.folder)
            super().__init__(confined, stdin, writing, complaining)
        except BaseException:
            os.close(self.output)
            os.close(self.errors)
            raise
        finally:
            os.close(writing)
            os.close(complaining)
        self.died: asyncio.Future[None] = self._loop.create_future()
        """It has ended; what it has started perhaps not."""
        stand_back(self.pid)
        self._watch()

    def _has_died(self) -> None:
        self.died.set_result(None)


class _Directly:
    """Starts children as whoever we are."""

    group: int | None = None
    home: Mapping[str, str] = MappingProxyType({})

    def host(self, command: Command, limits: Limits) -> Process:
        return Process(command, limits)

    def program(self, command: Command, limits: Limits, stdin: int) -> Program:
        return Program(command, limits, stdin)

    async def remove(self, folder: Path) -> None:
        """There is nothing that we couldn't remove."""


DIRECTLY: Starter = _Directly()
"""Starts children as whoever we are."""


def ending(status: int) -> str:
    """An exit status in words: "exited with status 3", "was ended by SIGSEGV"."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
