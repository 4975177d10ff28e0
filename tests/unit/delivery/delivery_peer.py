"""A scripted next server on loopback: a list of answers to what it hears, one script a connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

from gatepost.delivery import Host

HANG = "(hang)"  # says nothing more
DROP = "(drop)"  # closes
TLS = "(tls)"  # answers 220 and negotiates

Script = Sequence[tuple[str, str]]
"""(what a line begins with, the answer): the first unused pair that fits a line is used up; "*" ones stay."""

GREETING = ("(connected)", "220 hi")
QUIT = ("QUIT*", "221 bye")


def polite(*more: tuple[str, str], offers: str = "PIPELINING") -> Script:
    """A server that takes everything, except where `more` says otherwise."""
    hello = "".join(f"250-{offer}\n" for offer in ("mx.example", *filter(None, offers.split(",")))) + "250 HELP"
    return [
        *more,
        GREETING,
        ("EHLO*", hello),
        ("LHLO*", hello),
        ("MAIL*", "250 2.1.0 sender"),
        ("RCPT*", "250 2.1.5 recipient"),
        ("DATA*", "354 go"),
        (".*", "250 2.0.0 kept"),
        ("BDAT*", "250 2.0.0 kept"),
        ("RSET*", "250 2.0.0 forgotten"),
        QUIT,
    ]


class Peer:
    """The server. `heard` has the lines of each connection, `mail` the contents as they came, dots stuffed."""

    def __init__(
        self, *scripts: Script, tls: ssl.SSLContext | None = None, at: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.scripts = list(scripts)
        self.heard: list[list[str]] = []
        self.mail: list[bytes] = []
        self.under_tls: list[bool] = []
        self.said = asyncio.Event()
        self.port = port
        self._at = at
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Peer:
        self._server = await asyncio.start_server(self.accept, self._at, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def host(self) -> Host:
        assert self._server is not None
        return Host(self._at, self.port)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something heard makes it true."""
        while not condition():
            self.said.clear()
            await self.said.wait()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, in a task of our own: a cancelled one of asyncio's would be an error to it."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.heard)
        lines: list[str] = []
        self.heard.append(lines)
        self.under_tls.append(False)
        script = list(self.scripts[min(number, len(self.scripts) - 1)])
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await self._talk(number, script, reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _talk(
        self,
        number: int,
        script: list[tuple[str, str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        line = "(connected)"
        while True:
            answer = self._answer(script, line)
            if answer == HANG:
                await asyncio.Event().wait()
            if answer == DROP:
                return
            if answer == TLS:
                writer.write(b"220 go\r\n")
                assert self._tls is not None
                await writer.start_tls(self._tls)
                self.under_tls[number] = True
            else:
                writer.write(answer.replace("\n", "\r\n").encode() + b"\r\n")
            await writer.drain()
            if line.startswith("QUIT"):
                return
            if line == "DATA" and answer.startswith("354"):
                self.mail.append(await self._content(reader))
                line = "."
            else:
                line = (await reader.readuntil(b"\r\n")).decode()[:-2]
                if line.startswith("BDAT"):
                    octets = await reader.readexactly(int(line.split()[1]))
                    self.mail.append(octets)
            self.heard[number].append(line)
            self.said.set()

    async def _content(self, reader: asyncio.StreamReader) -> bytes:
        lines = []
        while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line)
        return b"".join(lines)

    def _answer(self, script: list[tuple[str, str]], line: str) -> str:
        for pair in script:
            begin, answer = pair
            if line.startswith(begin.removesuffix("*")):
                if not begin.endswith("*"):
                    script.remove(pair)
                return answer
        return "500 5.5.1 not in the script"
