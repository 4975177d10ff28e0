"""One session with a next server: the client machine over a stream, with the time each phase may take.

Strategy: every failure of the network becomes the machine's `abandon`, so that there is one way to an outcome. A
session that doesn't come about is an `Unreachable` value; whatever the server said then, it is a reason to come back
later, never a reason to give a message up.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal, assert_never

from gatepost.delivery.route import Hop, Host, Lmtp, Security
from gatepost.model import Blob, Peer, Reply
from gatepost.net import Stream, connect
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_content import StrayLineEnd
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    Authenticated,
    AuthRefused,
    Closed,
    ContentWanted,
    Event,
    Needs,
    Outcome,
    Outcomes,
    Phase,
    Protocol,
    ProtocolError,
    Ready,
    TlsRefused,
    TlsWanted,
    Transaction,
    Unwelcome,
)

RECIPIENTS_AT_ONCE = 100  # where the server names no RCPTMAX; rfc5321#4.5.3.1.8
_GOODBYE_S = 2.0  # how long the answer to QUIT is waited for


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each phase may take, in seconds (RFC 5321 §4.5.3.2)."""

    connect: float = 30.0
    greeting: float = 300.0  # rfc5321#4.5.3.2.1
    command: float = 300.0  # rfc5321#4.5.3.2.2, 4.5.3.2.3
    data: float = 120.0  # rfc5321#4.5.3.2.4
    block: float = 180.0  # rfc5321#4.5.3.2.5
    end: float = 600.0  # rfc5321#4.5.3.2.6

    def of(self, phase: Phase) -> float:
        """The time for a phase."""
        match phase:
            case Phase.CONNECT:
                return self.connect
            case Phase.GREETING:
                return self.greeting
            case Phase.DATA:
                return self.data
            case Phase.CONTENT:
                return self.block
            case Phase.END_OF_DATA:
                return self.end
            case Phase.HELLO | Phase.TLS | Phase.AUTH | Phase.SENDER | Phase.RECIPIENT | Phase.QUIT:
                return self.command
            case _:
                assert_never(phase)


@dataclass(frozen=True, slots=True)
class Contexts:
    """TLS as a client: `offered` checks nobody's name (opportunistic), `required` is for TLS that must be there."""

    offered: ssl.SSLContext | None = None
    required: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No session came about: at which phase, and why. The reply is always 4xx."""

    phase: Phase
    reply: Reply


class Connection:
    """A session that stands. Used by one attempt at a time; `is_reused` once it has carried a message for another."""

    def __init__(self, host: Host, stream: Stream, client: Client, timeouts: Timeouts) -> None:
        self.host = host
        self.is_reused = False
        self.failure = ""
        """What the network did, in words, if that ended the session."""
        self._stream = stream
        self._client = client
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()

    @property
    def can_send(self) -> bool:
        """Whether it can carry another message, as far as we know: no 421, no loss, MAILMAX not reached."""
        return self._client.can_reuse and not (self._stream.lost or self._stream.at_eof or self._stream.pending)

    @property
    def is_over(self) -> bool:
        """Whether the session has ended, by either side."""
        return not self._client.is_idle

    @property
    def recipients_max(self) -> int | None:
        """How many recipients one message may have, where the server says it."""
        return self._client.capabilities.recipients_max

    @property
    def recipients_at_once(self) -> int:
        """How many recipients one message is given."""
        return self.recipients_max or RECIPIENTS_AT_ONCE

    async def send(self, transaction: Transaction, content: Blob) -> tuple[Outcome, ...]:
        """One message; each recipient's outcome, in order. Never raises for what the server or the network does."""
        client = self._client
        try:
            client.send(transaction)
        except ValueError as error:
            reply = Reply(554, "5.6.0", f"the envelope can't be sent: {error}")
            return tuple(Outcome(r, reply, Phase.SENDER, is_ours=True) for r in transaction.recipients)
        event = await self.next_event()
        while not isinstance(event, Outcomes):
            next_event = await self._feed(content) if isinstance(event, ContentWanted) else None
            event = next_event or await self.next_event()
        return event.outcomes

    async def next_event(self) -> Event:
        """What the machine tells next. The time for it counts from the event before, whatever trickles in meanwhile."""
        client, stream = self._client, self._stream
        stream.deadline = self._loop.time() + self._timeouts.of(client.phase)
        while (event := self._step()) is NEED_DATA:
            phase = client.phase
            try:
                await stream.drain()
                client.receive(await stream.receive())
            except TimeoutError:
                self._lose(f"no answer within {self._timeouts.of(phase):g} s")
            except OSError as error:
                self._lose(_words(error))
        return event

    async def close(self) -> None:
        """Say goodbye if that is still possible, and close."""
        if self._client.is_idle and not self._stream.lost:
            self._client.quit()
            self._stream.write(self._client.data_to_send())
            self._stream.deadline = self._loop.time() + _GOODBYE_S
            try:
                while not isinstance(self._step(), Closed | ProtocolError):
                    self._client.receive(await self._stream.receive())
            except OSError:
                self._stream.abort()
        else:
            self._stream.abort()  # no last words: what isn't finished must not be taken for finished
        await self._stream.close()

    def abort(self) -> None:
        """End it at once."""
        self._stream.abort()

    def _step(self) -> Event | Literal[Needs.DATA]:
        event = self._client.next_event()
        self._stream.write(self._client.data_to_send())
        return event

    async def _feed(self, content: Blob) -> Event | None:
        """The content, as long as it is wanted; an event if one comes up early."""
        client, stream = self._client, self._stream
        try:
            for chunk in content.chunks():
                if block := client.data_to_send():  # the chunk before this one; the last goes with what ends it
                    stream.write(block)
                    stream.deadline = self._loop.time() + self._timeouts.block
                    await stream.drain()
                    await asyncio.sleep(0)  # others have their turn, however fast the peer reads
                    if stream.pending:
                        client.receive(stream.receive_nowait())
                        if (event := self._step()) is not NEED_DATA:
                            return event
                        if not client.wants_content:
                            return None
                client.send_content(chunk)
            client.end_content()
        except StrayLineEnd as error:
            client.abandon(Reply(554, "5.6.0", str(error)))
        except OSError as error:
            self._lose(_words(error))
        return None

    def _lose(self, why: str) -> None:
        self.failure = why
        self._client.abandon(_later("4.4.2", self.host, why))


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
            return Unreachable(Phase.CONNECT, _later("4.4.1", host, _words(error)))
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
                failure = Unreachable(Phase.TLS, _later("4.7.10", host, "TLS is required, and not offered"))
            if failure is not None:
                return None if security is Security.STARTTLS and failure.phase is Phase.TLS else failure
        if hop.auth is None:
            return connection
        if stream.tls is None:
            return Unreachable(Phase.AUTH, _later("4.7.11", host, "a password never goes over a plain connection"))
        if not client.authenticate(hop.auth):
            return Unreachable(
                Phase.AUTH, _later("4.7.4", host, "it offers no way to authenticate that is spoken here")
            )
        match await connection.next_event():
            case Authenticated():
                return connection
            case AuthRefused(reply):
                return Unreachable(Phase.AUTH, _later("4.7.8", host, f"it said {reply}"))
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
                return Unreachable(Phase.TLS, _later("4.7.10", host, f"TLS is required, and it said {reply}"))
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
            return Unreachable(Phase.TLS, _later("4.7.5", host, _words(error)))
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
                return Unreachable(phase, _later("4.3.2", connection.host, f"it said {reply}"))
            case Closed() | ProtocolError() as event:
                return _ended(connection, Phase.GREETING, event)
            case _:
                pass


def _ended(connection: Connection, phase: Phase, event: Event) -> Unreachable:
    host = connection.host
    match event:
        case Closed(reply) if reply is not None:
            return Unreachable(phase, _later("4.3.2", host, f"it said {reply}"))
        case ProtocolError(text):
            return Unreachable(phase, _later("4.5.0", host, text))
        case _:
            return Unreachable(phase, _later("4.4.2", host, connection.failure or "it closed the connection"))


def _later(status: str, host: Host, why: str) -> Reply:
    return Reply(451, status, f"{host}: {why}".replace("\n", " "))


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()  # asyncio's own text has numbers and a tuple in it
    return str(error) or type(error).__name__
