"""A small SMTP server over TCP that can be broken on purpose: what a driver has to find."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

CHUNK = re.compile(rb"BDAT +(0|[1-9]\d{0,8})(?: LAST)? *", re.IGNORECASE)


@dataclass
class Faults:
    """What is wrong with the server; by default nothing."""

    twice: bytes = b""
    """This verb has two replies."""
    mute: bytes = b""
    """This verb has none."""
    line_end: bytes = b"\r\n"
    text: bytes = b"ok"
    """Of every positive reply."""
    lines: tuple[bytes, ...] = ()
    """The whole reply to NOOP."""
    ends: tuple[bytes, ...] = (b"\r\n.\r\n",)
    """What ends content."""
    leaves: bytes = b""
    """This verb closes the connection, without a word about it."""
    orderly: bool = True
    """RCPT needs a sender, DATA a recipient."""
    longest: int = 1000
    """Longer lines are refused."""
    hangs: bool = False
    """The connection is never closed."""
    slow_end: bytes = b""
    """What is said after 221."""


class Stub:
    """One session."""

    def __init__(self, faults: Faults, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.faults, self.reader, self.writer = faults, reader, writer
        self.sender, self.recipients = False, 0

    def say(self, code: int, text: bytes = b"") -> None:
        self.writer.write(b"%d %s%s" % (code, text or self.faults.text, self.faults.line_end))

    async def serve(self) -> None:
        self.say(220, b"stub")
        while True:
            try:
                line = await self.reader.readuntil(b"\n")
            except (asyncio.IncompleteReadError, OSError):
                return
            verb = line.split()[0].upper() if line.split() else b""
            if not await self.answer(verb, line):
                return

    async def answer(self, verb: bytes, line: bytes) -> bool:
        """Whether the session goes on."""
        faults = self.faults
        if faults.leaves and verb == faults.leaves:
            return False
        if faults.mute and verb == faults.mute:
            return True
        if faults.twice and verb == faults.twice:
            self.say(250)
        if len(line) > faults.longest or not line.endswith(b"\r\n") or re.search(rb"[^ -~]", line[:-2]):
            self.say(500, b"what?")
        elif verb == b"QUIT" and line.rstrip().upper() == b"QUIT":
            self.say(221)
            self.writer.write(faults.slow_end)
            return False
        elif verb == b"NOOP" and faults.lines:
            self.writer.write(b"".join(faults.lines))
        elif verb in (b"EHLO", b"HELO", b"RSET"):
            self.sender, self.recipients = False, 0
            self.say(250)
        elif verb == b"NOOP":
            self.say(250)
        elif verb == b"MAIL" and (not self.sender or not faults.orderly):
            self.sender = True
            self.say(250)
        elif verb == b"RCPT" and (self.sender or not faults.orderly):
            self.recipients += 1
            self.say(250)
        elif verb == b"DATA" and (self.recipients or not faults.orderly):
            self.say(354)
            self.sender, self.recipients = False, 0
            return await self.content()
        elif verb == b"BDAT":
            return await self.chunk(line)
        else:
            self.say(503, b"no")
        return True

    async def content(self) -> bool:
        data = b"\r\n"
        try:
            while not data.endswith(self.faults.ends):
                data += await self.reader.readexactly(1)
        except (asyncio.IncompleteReadError, OSError):
            return False
        self.say(250)
        return True

    async def chunk(self, line: bytes) -> bool:
        form = CHUNK.fullmatch(line.removesuffix(b"\r\n"))
        if form is None:
            self.say(421, b"no size")
            return False
        try:
            await self.reader.readexactly(int(form[1]))
        except (asyncio.IncompleteReadError, OSError):
            return False
        self.say(503, b"no")
        return True


@asynccontextmanager
async def stub(faults: Faults | None = None) -> AsyncIterator[int]:
    """A stub that listens on a port of loopback; the port."""
    at_work: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        at_work.add(task)
        try:
            session = Stub(faults or Faults(), reader, writer)
            await session.serve()
            if session.faults.hangs:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        finally:
            at_work.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in [*at_work]:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)
