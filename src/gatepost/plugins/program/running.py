"""Runs one program at a time, or a few beside each other: its files, its pipes, its end.

A turn is one message's: a folder that only it knows, gone with it. Standard input is a file there, so that nobody
waits for a program that doesn't read it (and qmail's filters may seek in theirs); standard output is a pipe, read
until its end and up to a limit. What a program said counts only if it ended by itself: of one that was killed, or that
crashed, no octet is used.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path as File
from typing import IO

from gatepost.model import Blob, Bytes
from gatepost.plugins.host.confinement import Limits
from gatepost.plugins.host.launching import DIRECTLY, Command, Running, Starter, ending
from gatepost.plugins.host.scratch import SMALL, Scratch, share, sweep
from gatepost.plugins.host.voice import Voice
from gatepost.store.blobs import FileBlob

QUICK = File("/dev/shm")  # noqa: S108  a file system in memory; folders of one's own are made in it
_PIECE = 64 * 1024
_WORDS = 4096  # octets kept of what a program says on standard error


class ProgramFailed(RuntimeError):
    """The program gave no answer; the text says why, for log and trace."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A program has ended by itself."""

    status: int
    """0–255"""
    output: Blob
    """What it wrote, octet for octet. Lasts as long as its turn."""
    words: str
    """The beginning of what it said on standard error."""


class Runner:
    """Everything that one plugin's programs share. Opened once, closed once; no program outlives it."""

    def __init__(
        self,
        name: str,
        *,
        limits: Limits,
        most: int,
        starter: Starter = DIRECTLY,
        scratch: File | None = None,
        folder: File | None = None,
    ) -> None:
        """`most` programs run beside each other; `scratch` is where files are made, `folder` where programs work."""
        self._log = logging.getLogger(f"gatepost.plugins.{name}")
        self._limits = limits
        self._most = most
        self._starter = starter
        self._where = scratch
        self._folder = None if folder is None else str(folder)
        self._scratches: list[Scratch] = []
        self._count = 0
        self._running: set[Running] = set()

    def open(self) -> None:
        """Make the folders. OSError."""
        self._free = asyncio.Semaphore(self._most)
        self.voice = Voice(self._log)
        sweep(self._where)
        self._scratches = [Scratch(self._where)]
        if QUICK.is_dir():
            with suppress(OSError):
                sweep(QUICK)
                self._scratches.append(Scratch(QUICK))
        if self._starter.group is not None:
            for scratch in self._scratches:
                scratch.folder.chmod(0o711)  # their user may go through, into what is shared

    async def close(self) -> None:
        """End what still runs, and leave nothing."""
        for program in self._running:
            program.kill()
        if self._scratches:
            self.voice.close()
        while self._scratches:
            await self._scratches.pop().remove()

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncIterator[Turn]:
        """A message's turn, once there is room for another program; `size` octets say where its files go."""
        async with self._free:
            self._count += 1
            scratch = self._scratches[-1 if size <= SMALL else 0]
            folder = f"{scratch.folder}/{self._count}"
            self._own_folder(folder)
            turn = Turn(self, File(folder), self._scratches[0].folder / f"outside-{self._count}")
            try:
                yield turn
            finally:
                turn.forget()
                await _removed(folder, is_small=size <= SMALL)
                await self._starter.remove(File(folder))

    def kept_file(self) -> File:
        """A file's name where content can outlive its turn; whoever makes it removes it."""
        self._count += 1
        return self._scratches[0].folder / f"kept-{self._count}"

    def _own_folder(self, path: str) -> None:
        os.mkdir(path, 0o700)  # noqa: PTH102  half the time of Path.mkdir
        if self._starter.group is not None:
            share(path, self._starter.group)

    def start(self, words: Sequence[str], environment: Mapping[str, str], stdin: int) -> Running:
        """OSError where that can't be."""
        command = Command(tuple(words), environment, self._folder)
        program = self._starter.program(command, self._limits, stdin)
        self._running.add(program)
        program.exited.add_done_callback(lambda _: self._running.discard(program))
        return program


class Turn:
    """One message's turn. `folder` is the program's own, as far as it is anybody's."""

    def __init__(self, runner: Runner, folder: File, outside: File) -> None:
        self._runner = runner
        self.folder = folder
        self._outside = outside
        self._files: list[File] = []

    def outside(self) -> File:
        """A name for a file of this turn that is out of the program's reach."""
        self._files.append(self._outside.with_name(f"{self._outside.name}-{len(self._files)}"))
        return self._files[-1]

    def forget(self) -> None:
        """The turn is over."""
        for file in self._files:
            file.unlink(missing_ok=True)

    async def write(self, name: str, content: Blob, *, lf: bool) -> File:
        """The content as a file of this turn, with LF or CRLF. OSError."""
        path = self.folder / name
        if content.size <= SMALL:
            self._write(path, content, lf=lf)
        else:
            await asyncio.get_running_loop().run_in_executor(None, lambda: self._write(path, content, lf=lf))
        return path

    def make_folder(self, name: str) -> None:
        """A folder of this turn's, as deep as it says. OSError."""
        path = self.folder
        for part in name.split("/"):
            path = path / part
            if not path.exists():
                self._runner._own_folder(str(path))

    async def run(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        stdin: File | None,
        *,
        most: int,
        needs_all: bool,
    ) -> Finished:
        """Run a program to its end. ProgramFailed if it crashes, or writes more than `most` octets; OSError.

        `needs_all`: its output is read to the end, even if it is others who write that; else what there is by then,
        cut at `most`. Whoever is cancelled here has killed it.
        """
        runner = self._runner
        reading = os.open(os.devnull, os.O_RDONLY) if stdin is None else _opened(stdin)
        try:
            program = runner.start(words, environment, reading)
        finally:
            os.close(reading)
        errors = _Errors(runner._log, runner.voice)
        pipe: IO[bytes] | None = os.fdopen(program.errors, "rb", 0)
        output = _Output(program.output, self.outside(), most, cuts=not needs_all)
        try:
            await asyncio.get_running_loop().connect_read_pipe(lambda: errors, pipe)
            pipe = None  # the loop's
            await self._ended(program, output, needs_all=needs_all)
            errors.finish_reading(program.errors)
        finally:
            program.kill()
            try:
                await _done(program.died)
            finally:
                status = program.reap()
                output.finish()
                errors.close()
                if pipe is not None:
                    pipe.close()
        said = f"; it said last: {errors.last[-1][:200]}" if errors.last else ""
        if output.wrong is not None:
            raise ProgramFailed(f"it {output.wrong}{said}")
        if status < 0:
            raise ProgramFailed(f"it {ending(status)}{said}")
        return Finished(status, output.content(), bytes(errors.beginning).decode("utf-8", "backslashreplace"))

    async def _ended(self, program: Running, output: _Output, *, needs_all: bool) -> None:
        """The program has ended, and its output too; or its output is wrong."""
        await asyncio.wait({program.died, output.over}, return_when=asyncio.FIRST_COMPLETED)
        if output.wrong is None:
            await asyncio.wait({program.died})
            if needs_all:
                await asyncio.wait({output.over})

    def _write(self, path: File, content: Blob, *, lf: bool) -> None:
        pieces: Iterable[bytes] = _lf(content.chunks()) if lf else content.chunks()
        with path.open("xb", 0) as file:
            for piece in pieces:
                _write_all(file.fileno(), piece)
            if self._runner._starter.group is not None:
                os.fchmod(file.fileno(), 0o660)


class _Output:
    """Reads standard output: in memory as long as it is small, then in a file. `over` is done at its end."""

    def __init__(self, descriptor: int, file: File, most: int, *, cuts: bool) -> None:
        self._descriptor = descriptor
        self._path = file
        self._file: int | None = None
        self._most = most
        self._cuts = cuts
        self._held = bytearray()
        self._size = 0
        self._is_closed = False
        self.wrong: str | None = None
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._ready)

    def _ready(self) -> None:
        try:
            data = os.read(self._descriptor, _PIECE)
            self._take(data)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(f"wrote something that can't be kept: {error.strerror}")
            return
        if not data:
            self._end(None)

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            if self._cuts:
                self._held += data[: max(0, self._most - len(self._held))]
            else:
                self._end(f"wrote more than {self._most} octets")
            return
        self._held += data
        if len(self._held) > SMALL:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            _write_all(self._file, bytes(self._held))
            self._held.clear()

    def _end(self, wrong: str | None) -> None:
        self.wrong = self.wrong or wrong
        self._loop.remove_reader(self._descriptor)
        if not self.over.done():
            self.over.set_result(None)

    def finish(self) -> None:
        """Nobody writes any more: what is in the pipe still is all there will be."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self.over.done():
            with suppress(BlockingIOError):
                while not self.over.done() and self._size <= self._most and (data := os.read(self._descriptor, _PIECE)):
                    self._take(data)
            self._end(None)
        os.close(self._descriptor)
        if self._file is not None:
            with suppress(OSError):
                _write_all(self._file, bytes(self._held))
            os.close(self._file)

    def content(self) -> Blob:
        """What was written."""
        return Bytes(bytes(self._held)) if self._file is None else FileBlob(self._path, self._size)


class _Errors(Voice):
    """Reads standard error. Its lines go into the log as fast as the plugin's voice lets them all together."""

    def __init__(self, log: logging.Logger, voice: Voice) -> None:
        super().__init__(log)
        self._voice = voice
        self.beginning = bytearray()

    def say(self, level: str, text: str) -> None:
        self._voice.say(level, text)

    def _confess(self) -> None:
        self._voice._dropped += self._dropped
        self._dropped = 0

    def data_received(self, data: bytes) -> None:
        self.beginning += data[: _WORDS - len(self.beginning)]
        super().data_received(data)


def _opened(path: File) -> int:
    """A descriptor of the file, to read it. OSError; ProgramFailed if something else has been put in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would be waited for
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ProgramFailed("the message's file isn't a plain file any more")
    os.set_blocking(descriptor, True)
    return descriptor


async def _done(future: asyncio.Future[None]) -> None:
    """The future is done, whoever wants to leave meanwhile; not awaited itself, since that would cancel it."""
    leaving: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            leaving = error
    if leaving is not None:
        raise leaving


async def _removed(folder: str, *, is_small: bool) -> None:
    """The folder goes, whatever a program has left in it."""
    if is_small:
        try:
            for name in os.listdir(folder):  # noqa: PTH208  as above
                os.unlink(f"{folder}/{name}")  # noqa: PTH108  as above
            os.rmdir(folder)  # noqa: PTH106  as above
            return
        except OSError:  # something else than plain files is there
            pass
    await asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, folder, True)


def _write_all(descriptor: int, octets: bytes) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(descriptor, view) :]


def _lf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same lines, each ended by LF."""
    held = b""  # a CR at the end of a piece may belong to a CRLF
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        yield data[: len(data) - len(held)].replace(b"\r\n", b"\n")
    if held:
        yield held
