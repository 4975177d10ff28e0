"""A host program on the other end of frames: started, spoken to, and ended, without the house."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

from gatepost.wire.host import Ask, Frame, FromHost, Hello, Load, Loaded, Ready, Told, encode, frames_from_host

LONGEST_S = 30.0  # for anything to happen


class Talk:
    """A running host. Invariant: after `close` nothing of it is left."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        pipes: bool = False,
        env: Mapping[str, str] | None = None,
        inherited: Sequence[int] = (),
    ) -> None:
        """`pipes`: two of them instead of a socket pair."""
        if pipes:
            theirs_in, ours_out = os.pipe()
            ours_in, theirs_out = os.pipe()
            self._ends = [ours_in, ours_out]
        else:
            ours, theirs = (each.detach() for each in socket.socketpair())
            theirs_in, theirs_out = theirs, os.dup(theirs)
            self._ends = [ours, os.dup(ours)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  a pipe would be kept open by Wine's services
        self.process = subprocess.Popen(
            command, stdin=theirs_in, stdout=theirs_out, stderr=self._errors, env=env, pass_fds=inherited
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._decoder = frames_from_host()
        self._heard: list[object] = []

    def send(self, *frames: Frame) -> None:
        self.send_octets(b"".join(encode(frame) for frame in frames))

    def send_octets(self, octets: bytes) -> None:
        while octets:
            octets = octets[os.write(self._ends[1], octets) :]

    def hear(self) -> object:
        """The next frame or FrameError; None when the host has closed. Whoever waits for ever is ended by its test."""
        while not self._heard:
            try:
                data = os.read(self._ends[0], 65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._heard += self._decoder.feed(data)
        return self._heard.pop(0)

    def begin(self, dialect: str, load: Load) -> FromHost:
        """Hello, Load and open; what was said to the Load."""
        self.send(Hello(1, dialect))
        assert self.hear() == Hello(1, dialect)
        self.send(load)
        loaded = self.hear()
        if isinstance(loaded, Loaded):
            self.send(Told("", "open", {"files": "/nowhere"}))
            assert self.hear() == Ready()
        return loaded

    def ask(self, frame: Ask) -> object:
        self.send(frame)
        return self.hear()

    def shut(self) -> None:
        """Say no more, and listen no more: what a house does that is gone."""
        for end in self._ends:
            os.close(end)
        self._ends = []

    def end(self) -> tuple[int, str]:
        """Wait until it has ended: its status, and what it said on standard error."""
        status = self.process.wait(LONGEST_S)
        return status, self.said()

    def said(self) -> str:
        """Its standard error so far, with the line ends of Unix."""
        octets = os.pread(self._errors.fileno(), 100_000_000, 0)
        return octets.decode("utf-8", "backslashreplace").replace("\r\n", "\n")

    def wait_for(self, words: str) -> None:
        """Until it has said them on standard error."""
        until = time.monotonic() + LONGEST_S
        while words not in self.said():
            assert time.monotonic() < until, f"never said {words!r}"
            time.sleep(0.002)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(LONGEST_S)
        self._errors.close()
        self.shut()
