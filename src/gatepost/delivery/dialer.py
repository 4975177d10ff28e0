"""Opens sessions with next servers: connecting, TLS, authentication, until a message may be sent.

Strategy: a session that doesn't come about is an `Unreachable` value; whatever the server said then, it is a reason to
come back later, never a reason to give a message up.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address

from gatepost.delivery.connection import Connection, Timeouts, Unreachable, later, words
from gatepost.delivery.route import Hop, Host, Lmtp, Security
from gatepost.model import Peer
from gatepost.net import Stream, connect
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import (
    Authenticated,
    AuthRefused,
    Closed,
    Event,
    Phase,
    Protocol,
    ProtocolError,
    Ready,
    TlsRefused,
    TlsWanted,
    Unwelcome,
)


@dataclass(frozen=True, slots=True)
class Contexts:
    """TLS as a client: `offered` checks nobody's name (opportunistic), `required` is for TLS that must be there."""

    offered: ssl.SSLContext | None = None
    required: ssl.SSLContext | None = None


class Dialer:
    """Opens sessions. Holds what doesn't depend on the message: our name, timeouts, TLS, the address to call from."""

    def __init__(
        self,
        hostname: str,
        *,
        timeouts: Timeouts | None = None,
        contexts: Contexts | None = None,
        source: str | None = None,
    ) -> None:
        self._hostname = hostname
        self._timeouts = timeouts or Timeouts()
        self._contexts = contexts or Contexts()
        self._source = source

    async def open(self, hop: Hop, host: Host) -> Connection | Unreachable:
        """A session that stands, with TLS and authenticated as the hop says; or why there is none."""
        opened = await self._open(hop, host, hop.tls)
        if opened is None:  # opportunistic TLS failed: rfc7435#3, better in the clear than not at all
            opened = await self._open(hop, host, Security.NONE)
        assert opened is not None
        return opened

    async def _open(self, hop: Hop, host: Host, security: Security) -> Connection | Unreachable | None:
        try:
            stream = await self._reach(host)
        except OSError as error:
            return Unreachable(Phase.CONNECT, later("4.4.1", host, words(error)))
        protocol = Protocol.LMTP if isinstance(hop, Lmtp) else Protocol.SMTP
        connection = Connection(
            host, stream, client := Client(hop.helo or self._hostname, protocol=protocol), self._timeouts
        )
        try:
            result = await self._begin(hop, security, connection, stream, client)
        except BaseException:
            stream.abort()
            await stream.close()
            raise
        if result is not connection:
            await connection.close()
        return result

    async def _begin(
        self, hop: Hop, security: Security, connection: Connection, stream: Stream, client: Client
    ) -> Connection | Unreachable | None:
        host = connection.host
        if security is Security.IMPLICIT and (failure := await self._encrypt(stream, host, self._contexts.required)):
            return failure
        failure = await _until_ready(connection)
        if failure is not None:
            return failure
        if security in (Security.STARTTLS, Security.REQUIRED):
            wanted = security is Security.REQUIRED or self._contexts.offered is not None
            if "STARTTLS" in client.capabilities and wanted:
                client.start_tls()
                failure = await self._start_tls(security, connection, stream, client)
            elif security is Security.REQUIRED:  # perhaps somebody has cut it out of the answer
                failure = Unreachable(Phase.TLS, later("4.7.10", host, "TLS is required, and not offered"))
            if failure is not None:
                return None if security is Security.STARTTLS and failure.phase is Phase.TLS else failure
        if hop.auth is None:
            return connection
        if stream.tls is None:
            return Unreachable(Phase.AUTH, later("4.7.11", host, "a password never goes over a plain connection"))
        if not client.authenticate(hop.auth):
            return Unreachable(Phase.AUTH, later("4.7.4", host, "it offers no way to authenticate that is spoken here"))
        match await connection.next_event():
            case Authenticated():
                return connection
            case AuthRefused(reply):
                return Unreachable(Phase.AUTH, later("4.7.8", host, f"it said {reply}"))
            case event:
                return _ended(connection, Phase.AUTH, event)

    async def _start_tls(
        self, security: Security, connection: Connection, stream: Stream, client: Client
    ) -> Unreachable | None:
        host = connection.host
        match await connection.next_event():
            case TlsWanted():
                pass
            case TlsRefused() if security is Security.STARTTLS:
                return None  # the same session goes on in the clear
            case TlsRefused(reply):
                return Unreachable(Phase.TLS, later("4.7.10", host, f"TLS is required, and it said {reply}"))
            case event:
                return _ended(connection, Phase.HELLO, event)
        context = self._contexts.offered if security is Security.STARTTLS else self._contexts.required
        if (failure := await self._encrypt(stream, host, context)) is not None:
            return failure
        client.tls_started()
        return await _until_ready(connection)

    async def _encrypt(self, stream: Stream, host: Host, context: ssl.SSLContext | None) -> Unreachable | None:
        stream.deadline = asyncio.get_running_loop().time() + self._timeouts.of(Phase.TLS)
        try:
            if context is None:
                raise OSError("no TLS is configured here")
            await stream.start_tls(context, server_side=False, server_hostname=host.name or None)
        except (OSError, ValueError) as error:  # ValueError: a name that can't be one of a server
            return Unreachable(Phase.TLS, later("4.7.5", host, words(error)))
        return None

    async def _reach(self, host: Host) -> Stream:
        if host.socket is None:
            return await connect(
                host.address or host.name, host.port, timeout=self._timeouts.connect, source=self._source
            )
        async with asyncio.timeout(self._timeouts.connect):
            return await _connect_locally(host.socket)


async def _connect_locally(path: str) -> Stream:
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.setblocking(False)
        await loop.sock_connect(connection, path)
        stream = Stream(loop, connection, Peer(IPv4Address("127.0.0.1")), (path, 0))
        await loop.create_unix_connection(lambda: stream, sock=connection)
    except BaseException:
        connection.close()
        raise
    return stream


async def _until_ready(connection: Connection) -> Unreachable | None:
    while True:
        match await connection.next_event():
            case Ready():
                return None
            case Unwelcome(reply, phase):
                return Unreachable(phase, later("4.3.2", connection.host, f"it said {reply}"))
            case Closed() | ProtocolError() as event:
                return _ended(connection, Phase.GREETING, event)
            case _:
                pass


def _ended(connection: Connection, phase: Phase, event: Event) -> Unreachable:
    host = connection.host
    match event:
        case Closed(reply) if reply is not None:
            return Unreachable(phase, later("4.3.2", host, f"it said {reply}"))
        case ProtocolError(text):
            return Unreachable(phase, later("4.5.0", host, text))
        case _:
            return Unreachable(phase, later("4.4.2", host, connection.failure or "it closed the connection"))
