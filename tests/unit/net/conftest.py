"""Real loopback connections between our streams and plain sockets, on both event loops, and certificates made here."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme

from gatepost.model import Peer
from gatepost.net import Stream
from gatepost.net.certificates import Certificates, Pair, client_context

WithPeer = Callable[[], AbstractAsyncContextManager[tuple[Stream, socket.socket]]]
WithStreams = Callable[[], AbstractAsyncContextManager[tuple[Stream, Stream]]]
Issue = Callable[..., Pair]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test of this room runs on asyncio's own loop, and on uvloop where it is installed."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop"):
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def issue(authority: trustme.CA) -> Issue:
    """issue(folder, "mx.example.org", file="mx") writes a certificate for the names and returns its files."""

    def write(folder: Path, *names: str, file: str = "mx") -> Pair:
        certificate = authority.issue_cert(*names)
        pair = Pair(folder / f"{file}.pem", folder / f"{file}.key")
        pair.chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        pair.key.write_bytes(certificate.private_key_pem.bytes())
        return pair

    return write


@pytest.fixture(scope="session")
def pair(issue: Issue, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return issue(tmp_path_factory.mktemp("certificates"), "mx.example.org")


@pytest.fixture(scope="session")
def server_tls(pair: Pair) -> ssl.SSLContext:
    return Certificates([pair]).context("mx")


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = client_context(verify=True)
    authority.configure_trust(context)
    return context


async def _opened(connection: socket.socket) -> Stream:
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    host, port = connection.getpeername()
    stream = Stream(loop, connection, Peer(ip_address(host), port), connection.getsockname())
    await loop.connect_accepted_socket(lambda: stream, connection)
    return stream


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = socket.create_connection(listening.getsockname())
        here, _ = listening.accept()
    return here, there


@pytest.fixture
def connected() -> WithPeer:
    """`async with connected() as (stream, peer)`: our stream, and the peer's non-blocking socket."""

    @asynccontextmanager
    async def pair() -> AsyncIterator[tuple[Stream, socket.socket]]:
        here, there = _socket_pair()
        there.setblocking(False)
        stream = await _opened(here)
        try:
            yield stream, there
        finally:
            stream.abort()
            await stream.close()
            there.close()

    return pair


@pytest.fixture
def two_streams() -> WithStreams:
    """`async with two_streams() as (server, client)`: both ends are streams."""

    @asynccontextmanager
    async def pair() -> AsyncIterator[tuple[Stream, Stream]]:
        here, there = _socket_pair()
        server, client = await _opened(here), await _opened(there)
        try:
            yield server, client
        finally:
            for stream in (server, client):
                stream.abort()
                await stream.close()

    return pair


@pytest.fixture
def reset() -> Callable[[socket.socket], None]:
    """Closes a socket with a TCP reset."""

    def close(peer: socket.socket) -> None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    return close


@pytest.fixture
def until() -> Callable[..., object]:
    """`await until(lambda: condition)`: lets the loop turn until it holds; the test's time limit bounds it."""

    async def turn(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0)

    return turn
