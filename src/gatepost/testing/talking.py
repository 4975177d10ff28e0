"""Sessions that a test holds by hand, line by line, with a running server or with a plugin in a server in memory.

Strategy: everything is said and heard in the test's own thread, so that tests are plain functions; a server in memory
has a loop in a thread of its own. The dialogue is kept, for the report of a test that fails.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from gatepost.plugins.loaded import Loaded
from gatepost.testing.chaos.steps import shown
from gatepost.testing.giving import load_given
from gatepost.testing.line import SessionEnd
from gatepost.testing.rig import Rig

T = TypeVar("T")
PATIENCE_S = 30.0


class NotExpected(AssertionError):
    """A reply isn't what a test expects. The text has the dialogue."""


class Wire(Protocol):
    """What a session is spoken through."""

    def send(self, octets: bytes) -> None:
        """Send."""

    def hear(self) -> bytes:
        """What comes next; b"" once the server has closed. TimeoutError after PATIENCE_S."""

    def shut(self) -> None:
        """Say no more."""

    def hang_up(self) -> None:
        """End it."""


class Talk:
    """One session. Its banner waits to be heard."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._rest = b""
        self.dialogue: list[tuple[str, bytes]] = []
        """("C" or "S", octets), in order."""

    def send(self, octets: bytes) -> None:
        """Octets as they are."""
        self.dialogue.append(("C", octets))
        self._wire.send(octets)

    def reply(self) -> str:
        """The next whole reply, its lines joined by newlines, without line ends; "" once the server has closed."""
        lines: list[str] = []
        while True:
            while b"\n" not in self._rest:
                try:
                    heard = self._wire.hear()
                except TimeoutError:
                    raise NotExpected(f"no reply within {PATIENCE_S:g} s\n{self}") from None
                if not heard:
                    return "\n".join(lines)
                self._rest += heard
            line, _, self._rest = self._rest.partition(b"\n")
            self.dialogue.append(("S", line + b"\n"))
            lines.append(line.removesuffix(b"\r").decode("utf-8", "replace"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    def command(self, line: str | bytes) -> str:
        """One command, its CRLF added, and its reply."""
        octets = line.encode("utf-8") if isinstance(line, str) else line
        self.send(octets + b"\r\n")
        return self.reply()

    def expect(self, code: int, text: str = "", *, after: str | bytes | None = None) -> str:
        """The next reply, or that to the command `after`; NotExpected if it has another code, or hasn't this text."""
        reply = self.reply() if after is None else self.command(after)
        if reply[:3] != str(code) or text not in reply:
            wanted = f'{code} with "{text}"' if text else str(code)
            raise NotExpected(f"{wanted} was expected, and this heard: {reply or '(closed)'}\n{self}")
        return reply

    def content(self, content: bytes | str) -> str:
        """Content behind a 354: line ends made CRLF, stuffed, ended; and its (first) reply."""
        octets = content.encode("utf-8") if isinstance(content, str) else content
        octets = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        octets = octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"
        stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
        self.send(stuffed + b".\r\n")
        return self.reply()

    def shut(self) -> None:
        """Say no more, and still listen."""
        self._wire.shut()

    def hang_up(self) -> None:
        """End the connection at once."""
        self._wire.hang_up()

    def __str__(self) -> str:
        return "\n".join(f"{who}: {shown(octets, 400)}" for who, octets in self.dialogue)


class Socket:
    """A wire over TCP."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=PATIENCE_S)

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def hear(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except ConnectionError:
            return b""

    def shut(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def hang_up(self) -> None:
        self._socket.close()


class InMemory:
    """A server in memory with one plugin, at work in a thread of its own. Close it."""

    def __init__(self, plugin: object, **words: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server in memory", daemon=True)
        self._thread.start()
        self._loaded: Loaded | None = None
        self._rig: Rig | None = None
        try:
            self._rig = self.call(self._open(plugin, words))
        except BaseException:
            self.close()
            raise

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Do work in the server's loop and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    async def _open(self, plugin: object, words: dict[str, Any]) -> Rig:
        self._loaded = await load_given(plugin, **words)
        rig = Rig([self._loaded])
        await rig.open()
        return rig

    @property
    def rig(self) -> Rig:
        """The server: its spool and its records."""
        assert self._rig is not None
        return self._rig

    def connect(self, ip: str = "192.0.2.1") -> MemoryTalk:
        """A session with it."""
        return MemoryTalk(self, self.call(self._connected(ip)))

    async def _connected(self, ip: str) -> SessionEnd:
        return self.rig.connect(ip).line

    def messages(self) -> list[bytes]:
        """The contents that were stored, oldest first."""
        return self.call(self._stored())

    async def _stored(self) -> list[bytes]:
        return [entry.content.read() for entry in await self.rig.spool.entries()]

    def close(self) -> None:
        """End its sessions, close the plugin, and stop the thread."""
        try:
            if self._rig is not None:
                self.call(self._rig.close())
            elif self._loaded is not None:
                self.call(self._loaded.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class MemoryTalk(Talk):
    """A session with a server in memory."""

    def __init__(self, server: InMemory, line: SessionEnd) -> None:
        super().__init__(_Inside(server, line))
        self.server = server

    def messages(self) -> list[bytes]:
        """The contents that the server has stored, of all its sessions, oldest first."""
        return self.server.messages()


class _Inside:
    """A wire into a server in memory."""

    def __init__(self, server: InMemory, line: SessionEnd) -> None:
        self._server, self._line = server, line

    def send(self, octets: bytes) -> None:
        self._server.call(_done(self._line.arrive, octets))

    def hear(self) -> bytes:
        return self._server.call(self._line.heard(), PATIENCE_S)

    def shut(self) -> None:
        self._server.call(_done(self._line.end_of_file))

    def hang_up(self) -> None:
        self._server.call(_done(self._line.lose))


async def _done(act: Any, *arguments: Any) -> None:
    act(*arguments)
