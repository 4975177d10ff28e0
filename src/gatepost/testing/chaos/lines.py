"""Where sessions are played: connections to a service over TCP, and into a server in memory, with one face."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gatepost.serving.place import Place
from gatepost.serving.reception import Reception
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Spool
from gatepost.testing.chaos.watch import Watch
from gatepost.testing.line import SessionEnd
from gatepost.testing.rig import Rig
from gatepost.wire.sasl import MECHANISMS

OPEN_S = 10.0


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that must not be: "dialogue" as it was heard, "server" or "plugin" as it was seen from inside."""

    kind: str
    text: str


class Line(Protocol):
    """The client's end of one connection."""

    was_reset: bool
    """It ended so that what the server said last may be lost."""

    def heard_now(self) -> bytes:
        """What has come and wasn't taken yet, without waiting."""

    async def hear(self) -> bytes:
        """What comes next; b"" once the server has closed."""

    async def send(self, octets: bytes) -> None:
        """Send, and let the server see it alone."""

    async def handshake(self, octets: bytes) -> bool:
        """TLS; or these octets instead of it. False if the connection is of no use any more."""

    async def shut(self) -> bool:
        """Say no more, and still listen; False if this connection can't be shut on one side."""

    async def hang_up(self) -> None:
        """End the connection at once."""


class Arena(Protocol):
    """A server, to which sessions are connected."""

    async def connect(self) -> Line:
        """A new connection. OSError if there is none to be had."""

    async def ended(self, line: Line, watch: Watch, seconds: float) -> list[Wrong]:
        """The session is over on the client's side: what went wrong on the server's, after `seconds` at the latest."""


# ── in memory ──────────────────────────────────────────────────────────────────────────────────────────────────────


class MemoryLine(SessionEnd):
    """Both ends of a connection that is none."""

    def __init__(self, ip: str) -> None:
        super().__init__(ip)
        self.was_reset = False
        self.reception: Reception | None = None
        self.task: asyncio.Task[None] | None = None

    def heard_now(self) -> bytes:
        said, self._said = self._said, b""
        return said

    async def hear(self) -> bytes:
        return await self.heard()

    async def send(self, octets: bytes) -> None:
        self.arrive(octets)
        await asyncio.sleep(0)

    async def handshake(self, octets: bytes) -> bool:
        if octets:
            self.lose()
        return not octets

    async def shut(self) -> bool:
        self.end_of_file()
        return True

    async def hang_up(self) -> None:
        self.lose()


class MemoryArena:
    """A whole server without sockets; see `gatepost.testing.rig`. STARTTLS and AUTH are offered, TLS is pretended.

    Invariant: what a session leaves (records, messages, errors) is looked at and dropped when it has ended, so that
    memory doesn't grow with the number of sessions.
    """

    def __init__(self, rig: Rig) -> None:
        self._records = rig.records
        profile = replace(rig.place.profile, starttls=True, auth=MECHANISMS, auth_without_tls=True)
        users = rig.place.users or _Nobody()
        # all sessions come from one address, whose failures would slow it down
        self._place: Place = replace(rig.place, profile=profile, tls=_no_context, users=users, failed_logins=None)
        self._failures: dict[str, list[str]] = {}

    async def connect(self) -> MemoryLine:
        line = MemoryLine("192.0.2.1")
        place = replace(self._place, spool=memory_spool(time.time))  # one a session: what it stored is known
        line.reception = Reception(place, line)  # type: ignore[arg-type]  # the double has what a Stream has
        line.task = asyncio.create_task(line.reception.run())
        return line

    async def ended(self, line: Line, watch: Watch, seconds: float) -> list[Wrong]:
        assert isinstance(line, MemoryLine) and line.task is not None and line.reception is not None
        wrong: list[Wrong] = []
        await asyncio.wait([line.task], timeout=seconds)
        if not line.task.done():
            wrong.append(Wrong("server", f"the session wasn't over {seconds:g} s after its connection had ended"))
            line.reception.cut_off()
            line.task.cancel()
            await asyncio.wait([line.task], timeout=seconds)
        elif not line.task.cancelled() and (error := line.task.exception()) is not None:
            wrong.append(Wrong("server", f"the session raised {error!r}"))
        elif line.reception.ending == "error":
            wrong.append(Wrong("server", "the session ended by an error of the server's own; its log tells it"))
        self._look_at_records()
        wrong += await _stored(line.reception.place.spool, watch)
        wrong += (Wrong("plugin", text) for text in self._failures.pop(line.reception.session.id, ()))
        return wrong

    def _look_at_records(self) -> None:
        for token, kind, facts in self._records.entries:
            if kind == "asked" and str(why := facts.get("why", "")).startswith("failed"):
                text = f'plugin "{facts["plugin"]}" at {facts["stage"]}: {why}'
                self._failures.setdefault(token, []).append(text)
        self._records.entries.clear()
        self._records.errors.clear()


async def _stored(spool: Spool, watch: Watch) -> list[Wrong]:
    """What is wrong with the messages of a session: their line ends, and how many there are."""
    wrong: list[Wrong] = []
    tickets: set[str] = set()
    for entry in await spool.entries():
        tickets.add(str(entry.ticket))
        bare = entry.content.read().replace(b"\r\n", b"")
        if b"\r" in bare or b"\n" in bare:
            wrong.append(Wrong("server", "a stored message has a CR or LF that stands alone"))
    taken = watch.taken
    if watch.is_sure_of_all and (len(tickets) > taken or (watch.expected.accepts and len(tickets) < taken)):
        wrong.append(Wrong("server", f"{taken} messages were taken, and {len(tickets)} are stored"))
    return wrong


class _Nobody:
    """Users of whom there are none."""

    async def verify(self, name: str, password: str) -> str | None:
        return None

    async def named(self, login: str) -> str | None:
        return None

    async def scram_keys(self, name: str) -> Any:
        return None

    async def prove(self, name: str, fits: Callable[[str], bool]) -> str | None:
        fits("")
        return None


def _no_context() -> ssl.SSLContext:
    """What no double of a stream looks at."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


# ── over TCP ───────────────────────────────────────────────────────────────────────────────────────────────────────


class TcpLine:
    """A connection to a service."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._reading: asyncio.Task[bytes] | None = None
        self.was_reset = False

    def heard_now(self) -> bytes:
        if self._reading is None:
            self._reading = asyncio.create_task(self._reader.read(65536))
        if not self._reading.done():
            return b""
        return self._taken() if not self._reading.exception() and self._reading.result() else b""

    async def hear(self) -> bytes:
        if self._reading is None:
            self._reading = asyncio.create_task(self._reader.read(65536))
        await asyncio.wait([self._reading])
        return self._taken()

    def _taken(self) -> bytes:
        assert self._reading is not None
        reading, self._reading = self._reading, None
        try:
            return reading.result()
        except OSError:
            self.was_reset = True
            return b""

    async def send(self, octets: bytes) -> None:
        if self._reader.at_eof() or self._writer.is_closing():
            return
        try:
            self._writer.write(octets)
            await self._writer.drain()
        except OSError:
            self.was_reset = True

    async def handshake(self, octets: bytes) -> bool:
        if octets:
            await self.send(octets)
            return False
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
            self._reading = None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            await self._writer.start_tls(context, ssl_handshake_timeout=OPEN_S)
        except OSError:
            return False
        return True

    async def shut(self) -> bool:
        if not self._writer.can_write_eof():  # TLS
            return False
        with suppress(OSError):
            self._writer.write_eof()
        return True

    async def hang_up(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        self._writer.transport.abort()


class TcpArena:
    """A service that runs somewhere."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    async def connect(self) -> TcpLine:
        async with asyncio.timeout(OPEN_S):
            return TcpLine(*await asyncio.open_connection(self._host, self._port))

    async def ended(self, line: Line, watch: Watch, seconds: float) -> list[Wrong]:
        return []
