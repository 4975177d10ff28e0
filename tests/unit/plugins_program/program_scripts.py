"""Programs that tests write, and the stories of what became of a message that was shown to one."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager

from gatepost.plugins.host.launched import Starters
from gatepost.plugins.loaded import Wish
from gatepost.plugins.program import ProgramOptions, load_program
from gatepost.testing import try_plugin

MESSAGE = (
    b"From: Dave <dave@bobo.example>\r\nTo: Ann <ann@example.org>\r\nSubject: hello\r\n"
    b"Message-ID: <1@bobo.example>\r\n\r\nHello Ann.\r\n"
)


def script(folder, text, name="program"):
    """A shell script; its path."""
    return _executable(folder / f"{name}.sh", f"#!/bin/sh\n{text}\n")


def python(folder, text, name="program"):
    """A Python script; its path."""
    return _executable(folder / f"{name}.py", f"#!{sys.executable} -IS\nimport os, signal, sys, time\n{text}\n")


def _executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


async def asked(source, *, message=MESSAGE, timeout=20.0, wish=None, to="ann@example.org", **more):
    """The story of one message shown to this program; `options` are as in the settings."""
    options = ProgramOptions(**more.pop("options", {}))
    user = {"user": more.pop("user_of_session", None), "sender": more.pop("sender", "dave@bobo.example")}
    starters = Starters()
    try:
        more["starter"] = starters.of(more.pop("user", None))
        loaded = await load_program(str(source), options=options, wishes=[wish or Wish(timeout=timeout)], **more)
        return await try_plugin(loaded, message=message, to=to, **user)
    finally:
        starters.close()


def body(story):
    """The content that would have been stored, without our own Received field."""
    content = story.content
    assert content.startswith(b"Received: ")
    at = 0
    while True:
        at = content.index(b"\r\n", at) + 2
        if content[at : at + 1] not in {b" ", b"\t"}:
            return content[at:]


def failure(story):
    """Why the only hook that was asked failed; the sender was asked to come again."""
    assert story.reply.startswith("451 4.3.0 "), story.reply
    assert story.content is None
    assert len(story.errors) == 1
    return str(story.errors[0])


async def every_code(source, **more):
    """(exit code, story) for all there are; `source` takes the code as its last word."""
    busy = asyncio.Semaphore(8)

    async def one(code):
        async with busy:
            return code, await asked(f"{source} {code}", timeout=40.0, **more)

    return await asyncio.gather(*(one(code) for code in range(256)))


@asynccontextmanager
async def pipe(path):
    """A named pipe between a test and its programs; neither end waits for the other to open."""
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield _Pipe(descriptor)
    finally:
        os.close(descriptor)


class _Pipe:
    def __init__(self, descriptor):
        self._descriptor = descriptor

    def say(self, line):
        """A line for whoever reads one."""
        os.write(self._descriptor, line.encode() + b"\n")

    async def heard(self):
        """The next line that a program says."""
        loop, there = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._descriptor, there.set)
        try:
            await there.wait()
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, 4096).decode().strip()


async def gone(pid):
    """Wait until the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
