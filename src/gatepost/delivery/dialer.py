"""Opens sessions with next servers: connecting, TLS, authentication, until a message may be sent.

Strategy: a session that doesn't come about is an `Unreachable` value; whatever the server said then, it is a reason to
come back later, never a reason to give a message up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Protocol

from gatepost.delivery.connection import Connection, Timeouts, Unreachable, later, words
from gatepost.delivery.families import answering
from gatepost.delivery.handshakes import Handshakes, NoTls, Trouble
from gatepost.delivery.handshakes import no_tls as _no_tls
from gatepost.delivery.ports import Outbound
from gatepost.delivery.route import Calling, Hop, Host, Lmtp, called
from gatepost.delivery.security import PolicyFound, Protection, Security, Way
from gatepost.model import Peer, Reply
from gatepost.net import Stream
from gatepost.net.client_contexts import Contexts
from gatepost.net.connecting import Connector
from gatepost.net.proxies import Via
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import (
    NO_QUESTIONS,
    Authenticated,
    AuthRefused,
    Closed,
    Event,
    Phase,
    ProtocolError,
    Ready,
    TlsRefused,
    TlsWanted,
    Unwelcome,
)
from gatepost.wire.smtp.client_events import Protocol as SpokenTo

_LOOKS = 4  # connections until what one has learned decides: stale, learned, tried, and one to spare


class Observer(Protocol):
    """Who counts how TLS went, for reports (RFC 8460). Must not raise, and must not take long."""

    def negotiated(self, host: Host, found: PolicyFound, trouble: Trouble | None) -> None:
        """A session began with a host under a policy; `trouble` is what kept it from being as the policy wants."""


class Dialer:
    """Opens sessions. Holds what doesn't depend on the message: our name, timeouts, TLS, the address to call from."""

    def __init__(
        self,
        hostname: str,
        *,
        timeouts: Timeouts | None = None,
        contexts: Contexts | None = None,
        source: str | None = None,
        observer: Observer | None = None,
        outbound: Callable[[], Outbound | None] = lambda: None,
    ) -> None:
        """`outbound` gives whom to ask in a session that begins now, if anybody."""
        self._hostname = hostname
        self._timeouts = timeouts or Timeouts()
        self._handshakes = Handshakes(contexts or Contexts())
        self._source = () if source is None else (source,)
        self._connector = Connector()
        self._turn = 0
        self._observer = observer
        self._outbound = outbound

    async def open(self, hop: Hop, host: Host) -> Connection | Unreachable:
        """A session that stands, with TLS and authenticated as the hop and the host's protection say; or why there is
        none. Only what may go in the clear is tried in the clear.
        """
        self._turn += 1
        hop = called(hop, host, self._turn)
        if (outbound := self._outbound()) is None:
            return await self._call(hop, host, None)
        try:
            asked = await outbound.session(hop, host)
            if isinstance(asked, Reply):  # what is refused for good is as a server's own word to every recipient
                return Unreachable(Phase.SENDER if asked.is_permanent else Phase.CONNECT, asked, is_by_plugin=True)
            opened = await self._call(*asked, outbound)
        except BaseException:
            outbound.ended(None)
            raise
        if isinstance(opened, Unreachable):
            outbound.ended(None)
        return opened

    async def _call(self, hop: Hop, host: Host, outbound: Outbound | None) -> Connection | Unreachable:
        protection = host.protection or Protection(hop.tls, identity=hop.identity)
        if protection.refusal:
            if protection.trouble is not None:
                self._tell(host, protection, None)
            return Unreachable(Phase.TLS, later("4.7.5", host, protection.refusal))
        failed: NoTls | None = None
        for way in protection.ways:
            for _ in range(_LOOKS):
                opened = await self._open(hop, host, protection, way, outbound)
                if not (isinstance(opened, NoTls) and opened.asks_again):
                    break
            if not isinstance(opened, NoTls):
                self._tell(host, protection, None if way.must and not way.is_trial else failed)
                return opened
            failed = failed or opened
        assert failed is not None, "the last way is in the clear, or TLS failed"
        self._tell(host, protection, failed)
        return failed.why

    def _tell(self, host: Host, protection: Protection, failed: NoTls | None) -> None:
        if self._observer is not None and protection.found is not None:
            trouble = protection.trouble or (None if failed is None else failed.trouble)
            self._observer.negotiated(host, protection.found, trouble)

    async def _open(
        self, hop: Hop, host: Host, protection: Protection, way: Way, outbound: Outbound | None
    ) -> Connection | Unreachable | NoTls:
        try:
            stream = await self._reach(hop.calling, host)
        except OSError as error:
            return Unreachable(Phase.CONNECT, later("4.4.1", host, words(error)))
        if hop.calling.proxy is None:
            host = answering(host, stream.peer.address)
        spoken = SpokenTo.LMTP if isinstance(hop, Lmtp) else SpokenTo.SMTP
        asks = NO_QUESTIONS if outbound is None else outbound.asks()
        client = Client(hop.calling.helo or self._hostname, protocol=spoken, asks=asks)
        connection = Connection(host, stream, client, self._timeouts, outbound=outbound)
        connection.introduces = hop.introduce
        try:
            result = await self._begin(hop, protection, way, connection, stream, client)
        except BaseException:
            stream.abort()
            await stream.close()
            raise
        if result is not connection:
            await connection.close()
        return result

    async def _begin(
        self,
        hop: Hop,
        protection: Protection,
        way: Way,
        connection: Connection,
        stream: Stream,
        client: Client,
    ) -> Connection | Unreachable | NoTls:
        host = connection.host
        failure: Unreachable | NoTls | None
        if protection.level is Security.IMPLICIT and (failure := await self._encrypt(protection, way, stream, host)):
            return failure
        if (failure := await _until_ready(connection)) is not None:
            return failure
        if way.tls and protection.level is not Security.IMPLICIT:
            if "STARTTLS" in client.capabilities and (way.must or self._handshakes.contexts.offered is not None):
                client.start_tls()
                failure = await self._start_tls(protection, way, connection, stream, client)
            elif way.must:  # perhaps somebody has cut it out of the answer
                failure = _no_tls(Trouble.NOT_OFFERED, "4.7.10", host, "TLS is required, and not offered")
            if failure is not None:
                return failure
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
        self, protection: Protection, way: Way, connection: Connection, stream: Stream, client: Client
    ) -> Unreachable | NoTls | None:
        host = connection.host
        match await connection.next_event():
            case TlsWanted():
                pass
            case TlsRefused() if not way.must:
                return None  # the same session goes on in the clear
            case TlsRefused(reply):
                return _no_tls(Trouble.NOT_OFFERED, "4.7.10", host, f"TLS is required, and it said {reply}")
            case Closed(None):  # some do that instead of saying that they can't
                why = connection.failure or "it closed the connection at STARTTLS"
                return _no_tls(Trouble.HANDSHAKE, "4.7.5", host, why)
            case event:
                return _ended(connection, Phase.HELLO, event)
        if (failure := await self._encrypt(protection, way, stream, host)) is not None:
            return failure
        client.tls_started()
        return await _until_ready(connection)

    async def _encrypt(self, protection: Protection, way: Way, stream: Stream, host: Host) -> NoTls | None:
        stream.deadline = asyncio.get_running_loop().time() + self._timeouts.of(Phase.TLS)
        return await self._handshakes.shake(protection, way, stream, host)

    async def _reach(self, calling: Calling, host: Host) -> Stream:
        if host.socket is None:
            proxy = calling.proxy
            return await self._connector.connect(
                host.name if host.address is None else (host.address, *host.also),
                host.port,
                timeout=self._timeouts.connect,
                source=calling.source or self._source,
                via=None if proxy is None else Via(proxy.host, proxy.port, proxy.tunnel),
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
