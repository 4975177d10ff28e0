"""A POP3 server for collectors, on loopback: well-mannered by itself, and as bad as its script says.

`says` answers what a line begins with ("RETR 2", "UIDL", "" for the greeting and an empty line) with octets of its own;
the longest beginning counts. An answer may be given by a function, and HANG_UP in it ends the connection there. What is
deleted is gone when QUIT was answered, and not otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

HANG_UP = b"<<hang up>>"
SILENCE = b"<<silence>>"
Says = bytes | Callable[["BadSession", str], bytes | None]
GOOD = ("TOP", "UIDL", "USER", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING")
STAMP = "<1896.697170952@pop.example.org>"


@dataclass
class BadServer:
    """Its mail, CRLF lines; names are `uid1`, … unless given. `capa` None: a server older than CAPA."""

    mail: list[bytes] = field(default_factory=list)
    uids: list[str] = field(default_factory=list)
    users: dict[str, str] = field(default_factory=lambda: {"ann": "secret"})
    capa: tuple[str, ...] | None = GOOD
    says: dict[str, Says] = field(default_factory=dict)
    piece: int = 0
    """Octets written at a time; 0: all at once."""
    pause_s: float = 0
    """Seconds after each piece."""
    tls: ssl.SSLContext | None = None
    """For STLS, or for everything with `implicit`."""
    implicit: bool = False
    heard: list[str] = field(default_factory=list)
    """Every line, of all sessions."""
    sessions: int = 0
    port: int = 0

    def uid(self, at: int) -> str:
        return self.uids[at] if at < len(self.uids) else f"uid{at + 1}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[BadServer]:
        """On a free port of loopback."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            self.sessions += 1
            try:
                await BadSession(self, reader, writer).run()
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
                pass  # the client has gone, or the test is over
            finally:
                tasks.discard(task)
                writer.close()
                with suppress(OSError, asyncio.CancelledError, ssl.SSLError):
                    await writer.wait_closed()

        server = await asyncio.start_server(
            serve, "127.0.0.1", self.port, ssl=self.tls if self.implicit else None, limit=1 << 20
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class BadSession:
    """One connection."""

    def __init__(self, server: BadServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.user = ""
        self.marked: set[int] = set()
        self._reader, self._writer = reader, writer
        self.shown = list(zip(server.mail, (server.uid(at) for at in range(len(server.mail))), strict=True))

    async def run(self) -> None:
        if not await self._say(self._scripted("") or f"+OK ready {STAMP}\r\n".encode()):
            return
        while line := await self._reader.readline():
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            self.server.heard.append(text)
            said = self._scripted(text)
            answer = said if said is not None else self.answer(text)
            if not await self._say(answer) or text.upper() == "QUIT":
                return
            if text.upper() == "STLS" and answer.startswith(b"+OK"):
                assert self.server.tls is not None
                await self._writer.start_tls(self.server.tls)

    def answer(self, line: str) -> bytes:
        """The right one."""
        verb, _, argument = line.partition(" ")
        match verb.upper():
            case "CAPA" if self.server.capa is not None:
                return self._listing([*self.server.capa])
            case "STLS" if self.server.tls is not None:
                return b"+OK go on\r\n"
            case "USER":
                self.user = argument
                return b"+OK\r\n"
            case "PASS":
                return self._admit(self.server.users.get(self.user) == argument)
            case "APOP":
                name, _, digest = argument.partition(" ")
                right = hashlib.md5((STAMP + self.server.users.get(name, "")).encode()).hexdigest()
                return self._admit(digest == right)
            case "STAT":
                return f"+OK {len(self._there())} {sum(len(self.shown[n - 1][0]) for n in self._there())}\r\n".encode()
            case "LIST":
                return self._listing([f"{n} {len(self.shown[n - 1][0])}" for n in self._there()])
            case "UIDL" if self.server.capa is None or "UIDL" in self.server.capa:
                return self._listing([f"{n} {self.shown[n - 1][1]}" for n in self._there()])
            case "RETR" if int(argument) in self._there():
                return b"+OK\r\n" + stuffed(self.shown[int(argument) - 1][0])
            case "TOP" if self.server.capa is None or "TOP" in self.server.capa:
                header, _, _ = self.shown[int(argument.split(" ")[0]) - 1][0].partition(b"\r\n\r\n")
                return b"+OK\r\n" + stuffed(header + b"\r\n\r\n")
            case "DELE" if int(argument) in self._there():
                self.marked.add(int(argument))
                return b"+OK\r\n"
            case "RSET":
                self.marked.clear()
                return b"+OK\r\n"
            case "NOOP":
                return b"+OK\r\n"
            case "QUIT":
                self.delete()
                return b"+OK bye\r\n"
            case _:
                return b"-ERR no\r\n"

    def delete(self) -> None:
        """What QUIT does."""
        gone = [self.shown[number - 1] for number in self.marked]
        for at in reversed(range(len(self.server.mail))):
            if (self.server.mail[at], self.server.uid(at)) in gone:
                uids = [self.server.uid(n) for n in range(len(self.server.mail))]
                del self.server.mail[at], uids[at]
                self.server.uids = uids

    def _there(self) -> list[int]:
        return [number for number in range(1, len(self.shown) + 1) if number not in self.marked]

    def _admit(self, is_right: bool) -> bytes:
        return b"+OK\r\n" if is_right else b"-ERR [AUTH] not so\r\n"

    def _listing(self, lines: list[str]) -> bytes:
        return b"+OK\r\n" + "".join(f"{line}\r\n" for line in lines).encode() + b".\r\n"

    def _scripted(self, line: str) -> bytes | None:
        fitting = [start for start in self.server.says if (line.startswith(start) if start else not line)]
        if not fitting:
            return None
        says = self.server.says[max(fitting, key=len)]
        return says(self, line) if callable(says) else says

    async def _say(self, answer: bytes) -> bool:
        """Whether the session goes on."""
        answer, ended, _ = answer.partition(HANG_UP)
        answer, silent, _ = answer.partition(SILENCE)
        step = self.server.piece or max(1, len(answer))
        for at in range(0, len(answer), step):
            self._writer.write(answer[at : at + step])
            await self._writer.drain()
            if self.server.piece:
                await asyncio.sleep(self.server.pause_s)
        if silent:
            with suppress(ConnectionError):
                while await self._reader.read(65536):
                    pass
        return not ended and not silent


def stuffed(message: bytes) -> bytes:
    """A message as RETR gives it, with its end."""
    whole = message if message.endswith(b"\r\n") or not message else message + b"\r\n"
    dotted = b"." + whole if whole.startswith(b".") else whole
    return dotted.replace(b"\r\n.", b"\r\n..") + b".\r\n"
