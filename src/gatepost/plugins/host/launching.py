"""Starts a child process and knows when it has ended: group, descriptors, exit; nothing about what it says.

The child gets one end of a socket pair as its standard input and output, a pipe as its standard error, a session of its
own, and no other descriptor. Its end is seen by its process descriptor where the system has those, else by a thread;
before the dead child is reaped its whole group is killed, since afterwards the number may be somebody else's.
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

from gatepost.plugins.host.confinement import Limits, limit


@dataclass(frozen=True, slots=True)
class Command:
    """What to run."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    """None: the house's own."""


class Process:
    """A running child. Invariant: it is reaped exactly once, and its group is gone by then.

    `channel` and `errors` belong to the caller, who closes them.
    """

    def __init__(self, command: Command, limits: Limits) -> None:
        """Starts it, within a running loop. OSError where that can't be."""
        self.channel, theirs = socket.socketpair()
        self.errors, writing = os.pipe()
        try:
            self._popen = subprocess.Popen(  # noqa: S603  the command is the settings' or our own
                command.arguments,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=writing,
                env=command.environment,
                start_new_session=True,
            )
        except BaseException:
            self.channel.close()
            os.close(self.errors)
            raise
        finally:
            theirs.close()
            os.close(writing)
        self.pid = self._popen.pid
        self.channel.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        """The exit status; negative: the signal that ended it."""
        limit(self.pid, limits)
        self._watch()

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
        self.kill()
        self.exited.set_result(self._popen.wait())


def ending(status: int) -> str:
    """An exit status in words: "exited with status 3", "was ended by SIGSEGV"."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
