"""Connecting: from a name or addresses to a stream, by the address that answers first, perhaps through a proxy.

Strategy (RFC 8305): IPv6 and IPv4 by turns; the next address is called when the one before has failed, or hasn't
answered within a quarter of a second, and goes on being waited for; the first that answers wins, the others are closed.
An address that was dead a moment ago is called last, for a short while. One address costs no task and no timer.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

from gatepost.model import Address, Peer
from gatepost.model.peer import plain_address
from gatepost.net.errors import DeadlinePassed
from gatepost.net.mx_rules import interleaved
from gatepost.net.proxies import ProxyRefused, Via, open_way
from gatepost.net.stream import Stream

NEXT_AFTER_S = 0.25  # rfc8305#5: the Connection Attempt Delay
MAX_ADDRESSES = 10  # of one server that are called
DEAD_S = 60.0  # how long an address that didn't answer is called last
_MAX_DEAD = 1000  # such addresses that are remembered


class Connector:
    """Connects, and remembers which addresses were dead lately. Belongs to one event loop."""

    __slots__ = ("_dead", "_next_after_s")

    def __init__(self, *, next_after_s: float = NEXT_AFTER_S) -> None:
        self._next_after_s = next_after_s
        self._dead: OrderedDict[tuple[Address, int], float] = OrderedDict()

    async def connect(
        self,
        host: str | Sequence[str],
        port: int,
        *,
        timeout: float,
        source: Sequence[str] = (),
        via: Via | None = None,
    ) -> Stream:
        """A stream to `host`: a name, an address, or several addresses of one server, IPv6 preferred.

        `source` are the addresses to call from, at most one of a family; where there are any, servers of another family
        aren't called. Through a proxy it is the proxy that is called from there, and that looks a name up. `timeout` is
        in seconds and covers everything. Raises DeadlinePassed, ProxyRefused, or the OSError of the last address tried.
        """
        names = (host,) if isinstance(host, str) else tuple(host)
        try:
            async with asyncio.timeout(timeout):
                if via is not None:
                    return await self._through(via, names, port, timeout, source)
                return await self._reach(names, port, source)
        except TimeoutError as error:
            through = f" through the proxy {via}" if via is not None else ""
            raise DeadlinePassed(f"no connection to {names[0]} port {port} within {timeout:g} s{through}") from error

    async def _through(
        self, via: Via, names: tuple[str, ...], port: int, timeout: float, source: Sequence[str]
    ) -> Stream:
        refused: OSError | None = None
        for name in names[:MAX_ADDRESSES]:
            try:
                tunnel = via.tunnel(name, port)
            except ValueError as error:
                raise OSError(f"no way to {name!a} can be asked for: {error}") from error
            try:
                stream = await self._reach((via.host,), via.port, source)
            except OSError as error:
                raise ProxyRefused(f"the proxy {via} can't be reached: {error.strerror or error}") from error
            stream.deadline = asyncio.get_running_loop().time() + timeout  # the time-out around all comes earlier
            try:
                await open_way(stream, via, tunnel)
            except OSError as error:
                await _drop(stream)
                refused = error
                if not isinstance(error, ProxyRefused):
                    raise ProxyRefused(f"the proxy {via}: {error}") from error
            except BaseException:
                stream.abort()
                raise
            else:
                stream.deadline = None
                return stream
        raise refused or OSError("there is no address")

    async def _reach(self, names: tuple[str, ...], port: int, source: Sequence[str]) -> Stream:
        addresses = await self._addresses(names, port)
        allowed = _allowed(addresses, source)
        if not allowed:
            if not addresses:
                raise OSError(f"{names[0]} has no address")
            family = f"IPv{addresses[0].version}"
            raise OSError(f"{addresses[0]} isn't called: there is no {family} address to call from")
        if len(allowed) == 1:
            return await self._call(allowed[0], port, source)
        return await self._race(self._living_first(allowed, port)[:MAX_ADDRESSES], port, source)

    async def _addresses(self, names: tuple[str, ...], port: int) -> tuple[Address, ...]:
        try:
            return interleaved([ip_address(name) for name in names])
        except ValueError:
            pass  # a name: only the system knows what stands in its own tables
        found = await asyncio.get_running_loop().getaddrinfo(names[0], port, type=socket.SOCK_STREAM)
        return interleaved([ip_address(target[4][0]) for target in found])

    async def _call(self, address: Address, port: int, source: Sequence[str]) -> Stream:
        try:
            connection = await _connected(address, port, source)
        except TimeoutError:
            self._note_dead(address, port)
            raise OSError(f"{address} doesn't answer") from None
        except OSError:
            self._note_dead(address, port)
            raise
        except asyncio.CancelledError:
            self._note_dead(address, port)  # whoever waited for it has given it up
            raise
        return await _stream(connection)

    async def _race(self, addresses: Sequence[Address], port: int, source: Sequence[str]) -> Stream:
        calls: dict[asyncio.Task[socket.socket], Address] = {}
        waiting = list(addresses)
        failure: OSError | None = None
        winner: socket.socket | None = None
        try:
            while (waiting or calls) and winner is None:
                if waiting:
                    address = waiting.pop(0)
                    calls[asyncio.create_task(_connected(address, port, source))] = address
                ended, _ = await asyncio.wait(
                    calls, timeout=self._next_after_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for call in ended:
                    address = calls.pop(call)
                    try:
                        connection = call.result()
                    except OSError as error:
                        failure = error
                        self._note_dead(address, port)
                        continue
                    self._dead.pop((address, port), None)
                    if winner is None:
                        winner = connection
                    else:
                        connection.close()
        finally:
            self._end(calls, port)
        if winner is None:
            raise failure or OSError("there is no address")
        return await _stream(winner)

    def _end(self, calls: dict[asyncio.Task[socket.socket], Address], port: int) -> None:
        """Close what comes too late. Who hadn't answered by now is called later the next time."""
        for call, address in calls.items():
            self._note_dead(address, port)
            call.add_done_callback(_close_late)
            call.cancel()

    def _note_dead(self, address: Address, port: int) -> None:
        now = asyncio.get_running_loop().time()
        self._dead[address, port] = now + DEAD_S
        self._dead.move_to_end((address, port))
        while len(self._dead) > _MAX_DEAD or next(iter(self._dead.values())) <= now:
            self._dead.popitem(last=False)

    def _living_first(self, addresses: Sequence[Address], port: int) -> list[Address]:
        if not self._dead:
            return [*addresses]
        now = asyncio.get_running_loop().time()
        return sorted(addresses, key=lambda address: self._dead.get((address, port), 0.0) > now)


async def connect(
    host: str | Sequence[str],
    port: int,
    *,
    timeout: float,
    source: str | Sequence[str] | None = None,
    via: Via | None = None,
) -> Stream:
    """A stream to `host`, by a connector that remembers nothing; see Connector.connect."""
    sources = (source,) if isinstance(source, str) else source or ()
    return await Connector().connect(host, port, timeout=timeout, source=sources, via=via)


def _allowed(addresses: Sequence[Address], source: Sequence[str]) -> tuple[Address, ...]:
    if not source:
        return tuple(addresses)
    families = {ip_address(one).version for one in source}
    return tuple(address for address in addresses if address.version in families)


async def _connected(address: Address, port: int, source: Sequence[str]) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        for one in source:
            if ip_address(one).version == address.version:
                try:
                    connection.bind((one, 0))
                except OSError as error:
                    # without a number: whoever tells of one has only the system's word for it
                    raise OSError(f"{one}, to call from, isn't this machine's: {error.strerror}") from error
                break
        await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
    except BaseException:
        connection.close()
        raise
    return connection


async def _stream(connection: socket.socket) -> Stream:
    loop = asyncio.get_running_loop()
    try:
        host, port = connection.getpeername()[:2]
        peer = Peer(plain_address(ip_address(host)), port)
        stream = Stream(loop, connection, peer, connection.getsockname()[:2])
        await loop.create_connection(lambda: stream, sock=connection)
    except BaseException:
        connection.close()
        raise
    return stream


async def _drop(stream: Stream) -> None:
    stream.abort()
    await stream.close()


def _close_late(call: asyncio.Task[socket.socket]) -> None:
    if not call.cancelled():
        with suppress(OSError):
            call.result().close()
