"""Proxies on loopback: one that speaks SOCKS5 and HTTP CONNECT and leads on, and one that says what it is told to."""

from __future__ import annotations

import asyncio
import ipaddress
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from gatepost.wire.socks import Proxy, Way


class ProxyPeer:
    """Leads to where it is asked, or to `names[host]`. `asked` has what each connection wanted, `as_user` who it was,
    `called_from` where it came from.
    """

    def __init__(self, names: dict[str, tuple[str, int]] | None = None, login: tuple[str, str] | None = None) -> None:
        self.names = names or {}
        self.login = login
        self.asked: list[tuple[str, int]] = []
        self.as_user: list[tuple[str, str] | None] = []
        self.called_from: list[str] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def facts(self, way: Way, user: str | None = None, password: str = "") -> Proxy:
        return Proxy(way, "127.0.0.1", self.port, user, password)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.called_from.append(writer.get_extra_info("peername")[0])
        first = await reader.readexactly(1)
        if first == b"\x05":
            await self._socks(reader, writer)
        else:
            await self._http(first, reader, writer)

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        if self.login is None:
            writer.write(b"\x05\x00")
            self.as_user.append(None)
        elif b"\x02" not in methods:
            writer.write(b"\x05\xff")
            return
        else:
            writer.write(b"\x05\x02")
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            self.as_user.append((user.decode(), password.decode()))
            if self.as_user[-1] != self.login:
                writer.write(b"\x01\x01")
                return
            writer.write(b"\x01\x00")
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        await self._lead(host, port, reader, writer, b"\x05\x00\x00\x01" + bytes(6), b"\x05\x05\x00\x01" + bytes(6))

    async def _http(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        host, _, port = head[0].split()[1].rpartition(":")
        who = next((line.split()[2] for line in head if line.startswith("Proxy-Authorization: Basic ")), None)
        if self.login is not None:
            user, _, password = b64decode(who or "").decode().partition(":")
            self.as_user.append((user, password))
            if (user, password) != self.login:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
        yes, no = b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
        await self._lead(host.strip("[]"), int(port), reader, writer, yes, no)

    async def _lead(
        self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, yes: bytes, no: bytes
    ) -> None:
        self.asked.append((host, port))
        try:
            there, to = await asyncio.open_connection(*self.names.get(host, (host, port)))
        except OSError:
            writer.write(no)
            return
        writer.write(yes)
        try:
            await asyncio.gather(_copy(reader, to), _copy(there, writer))
        finally:
            to.close()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def served() -> None:
            try:
                with suppress(asyncio.IncompleteReadError, ConnectionError):
                    await self.serve(reader, writer)
                    await writer.drain()
            finally:
                writer.close()

        task = asyncio.get_running_loop().create_task(served())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Scripted(ProxyPeer):
    """Says these pieces, one for each that it hears; then closes, says the last one without end, or nothing more."""

    def __init__(self, *pieces: bytes, closes: bool = False, repeats: bool = False) -> None:
        super().__init__()
        self._pieces = pieces
        self._closes = closes
        self._repeats = repeats

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in self._pieces:
            await reader.read(1000)
            writer.write(piece)
            await writer.drain()
        while self._repeats:
            writer.write(self._pieces[-1])
            await writer.drain()
        if not self._closes:
            await asyncio.Event().wait()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def running(proxy: ProxyPeer) -> AsyncIterator[ProxyPeer]:
    """The proxy, listening on 127.0.0.1."""
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
