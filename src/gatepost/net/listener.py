"""Listening sockets: bind, accept, and one task per connection around `serve(stream)`.

Accepting takes turns with the sessions (at most 100 a turn) and rests when descriptors or memory run out, instead of
spinning. What a session raises ends that session alone. Sockets handed in (by a supervisor) stay open when the listener
closes, so that what is queued in them isn't lost.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from typing import Any

from gatepost.model import Peer
from gatepost.model.peer import plain_address
from gatepost.net.errors import ConnectionLost, DeadlinePassed, HandshakeFailed
from gatepost.net.sockets import bind, explained
from gatepost.net.stream import Stream

ACCEPTED_AT_ONCE = 100  # connections per turn of the loop, so that a storm doesn't starve the sessions
HANDSHAKE_SECONDS = 30.0  # for implicit TLS; a STARTTLS has the session's deadline
_REST_S = (0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between tries while the system has no descriptors or memory
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

Serve = Callable[[Stream], Awaitable[None]]
Preface = Callable[[Stream], Awaitable[bool] | None]
"""What comes before everything else, TLS included, on a connection where it is expected; None where it isn't. False
ends the connection. It bounds its own time.
"""
log = logging.getLogger("gatepost.net")


async def listen(
    where: socket.socket | tuple[str, int],
    serve: Serve,
    *,
    tls: Callable[[], ssl.SSLContext] | None = None,
    preface: Preface | None = None,
    backlog: int = 1024,
    max_pending: int = 512,
    handshake_s: float = HANDSHAKE_SECONDS,
) -> Listener:
    """Accepts connections at `where` (a bound socket that stays the caller's, or an address) for `serve`.

    With `tls` (asked anew for each connection) the handshake comes first and has `handshake_s` seconds; `preface` comes
    before it. Of more than `max_pending` connections that are so far at once the oldest gives way. Raises OSError with
    a text for people.
    """
    owned = not isinstance(where, socket.socket)
    listening = bind(*where) if not isinstance(where, socket.socket) else where
    host, port = listening.getsockname()[:2]
    try:
        listening.setblocking(False)
        listening.listen(backlog)
    except OSError as error:
        if owned:
            listening.close()
        raise explained(error, host, port) from error
    return Listener(
        listening,
        (host, port),
        serve,
        owned=owned,
        tls=tls,
        preface=preface,
        pending=max_pending,
        handshake_s=handshake_s,
    )


class Listener:
    """One listening socket and the sessions it made. After close() nothing more is accepted; sessions go on."""

    def __init__(
        self,
        listening: socket.socket,
        address: tuple[str, int],
        serve: Serve,
        *,
        owned: bool,
        tls: Callable[[], ssl.SSLContext] | None,
        preface: Preface | None,
        pending: int,
        handshake_s: float,
    ) -> None:
        self.address = address
        self._loop = asyncio.get_running_loop()
        self._listening: socket.socket | None = listening
        self._owned = owned
        self._serve = serve
        self._tls = tls
        self._preface = preface
        self._max_pending = pending
        self._handshake_s = handshake_s
        self._pending: dict[Stream, None] = {}  # before their sessions, in order of arrival
        self._sessions: set[asyncio.Task[None]] = set()
        self._failures = 0  # accepts in a row that found the system exhausted
        self._rest: asyncio.TimerHandle | None = None
        self._latest_local = address
        self._loop.add_reader(listening.fileno(), self._accept)

    @property
    def sessions(self) -> int:
        """Connections that are being served, handshakes included."""
        return len(self._sessions)

    async def close(self) -> None:
        """Stops accepting. A socket that was handed in stays open, one we bound is closed; sessions go on."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        self._loop.remove_reader(listening.fileno())
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._owned:
            listening.close()

    async def finished(self) -> None:
        """Waits until every session has ended; bound it with `asyncio.timeout` and cancel() the rest."""
        while self._sessions:
            ended, _ = await asyncio.wait(self._sessions)
            self._sessions -= ended  # those, too, that were cancelled before they began

    def cancel(self) -> None:
        """Cancels the sessions that are left; their connections are aborted."""
        for session in self._sessions:
            session.cancel()

    def _accept(self) -> None:
        listening = self._listening
        if listening is None:
            return
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(listening, error)
                    return
                continue  # this peer was gone before we took it: accept(2) reports its network errors here
            self._failures = 0
            session = self._loop.create_task(self._session(connection, address))
            self._sessions.add(session)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        rest = _REST_S[min(self._failures, len(_REST_S) - 1)]
        if self._failures == 0:
            log.error("cannot accept connections at %s:%d for now: %s", *self.address, error.strerror or error)
        self._failures += 1
        self._loop.remove_reader(listening.fileno())
        self._rest = self._loop.call_later(rest, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        self._rest = None
        self._loop.add_reader(listening.fileno(), self._accept)

    async def _session(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        try:
            connection.setblocking(False)
            stream = Stream(
                self._loop, connection, Peer(plain_address(ip_address(address[0])), address[1]), self._local(connection)
            )
            await self._loop.connect_accepted_socket(partial(_same, stream), connection)
        except OSError:
            connection.close()  # gone already
            self._forget_session()
            return
        except asyncio.CancelledError:
            connection.close()
            self._forget_session()
            raise
        address = ()  # the peer has it; what a waiting session doesn't need isn't kept for it
        try:
            if (self._preface is None or await self._prefaced(stream, self._preface)) and (
                self._tls is None or await self._secured(stream, self._tls)
            ):
                await self._serve(stream)
                await stream.close()
        except (ConnectionLost, DeadlinePassed, HandshakeFailed) as error:
            log.debug("connection from %s ended: %s", stream.peer, error)
        except Exception:
            log.exception("the session with %s failed", stream.peer)
        finally:
            stream.abort()
            self._forget_session()

    def _forget_session(self) -> None:
        """The session that is running has ended."""
        if (session := asyncio.current_task()) is not None:
            self._sessions.discard(session)

    def _local(self, connection: socket.socket) -> tuple[str, int]:
        """Where the connection has come in: of all that came to the same address, the same object."""
        local: tuple[str, int] = connection.getsockname()[:2]
        if local != self._latest_local:
            self._latest_local = local
        return self._latest_local

    @contextmanager
    def _waiting(self, stream: Stream) -> Iterator[None]:
        """Before its session a connection is one of a bounded number; the oldest gives way."""
        if len(self._pending) >= self._max_pending:
            oldest = next(iter(self._pending))  # who stalls is among them; who is honest is done in milliseconds
            del self._pending[oldest]
            oldest.abort()
        self._pending[stream] = None
        try:
            yield
        finally:
            self._pending.pop(stream, None)

    async def _prefaced(self, stream: Stream, preface: Preface) -> bool:
        """What comes first, where something does. False where it failed."""
        expected = preface(stream)
        if expected is None:
            return True
        with self._waiting(stream):
            return await expected

    async def _secured(self, stream: Stream, tls: Callable[[], ssl.SSLContext]) -> bool:
        """The handshake of implicit TLS. False where it failed, which is told here."""
        stream.deadline = self._loop.time() + self._handshake_s
        try:
            with self._waiting(stream):
                await stream.start_tls(tls(), server_side=True)
        except (ConnectionLost, DeadlinePassed, HandshakeFailed) as error:
            log.info("no TLS with %s at %s:%d: %s", stream.peer, *self.address, error)
            return False
        stream.deadline = None
        return True


def _same(stream: Stream) -> Stream:
    return stream
