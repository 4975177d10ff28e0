"""Sessions of a collector with a scripted server, for the tests of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from gatepost.collecting.ports import Login, RemoteError, Talk
from gatepost.collecting.remote import PopRemote, connect
from unit.collecting_remote.bad_server import BadServer

MAIL = [b"Subject: one\r\n\r\nfirst\r\n.\r\n..dots\r\n", b"Subject: two\r\n\r\nsecond\r\n", b"\r\nno header\r\n"]


def login(server: BadServer, **changed: Any) -> Login:
    """How ann logs in there, in the clear unless told otherwise."""
    facts: dict[str, Any] = {
        "host": "127.0.0.1", "port": server.port, "tls": "none", "user": "ann", "password": "secret",
        "connect_s": 5.0, "command_s": 5.0,
    }  # fmt: skip
    return Login(**{**facts, **changed})


@asynccontextmanager
async def session(server: BadServer, talk: Talk | None = None, **changed: Any) -> AsyncIterator[PopRemote]:
    """A session that is logged in, on a server that runs; hung up at the end."""
    async with server.running():
        remote = await connect(login(server, **changed), talk)
        assert isinstance(remote, PopRemote)
        try:
            yield remote
        finally:
            await remote.abort()


async def content(remote: PopRemote, number: int, limit: int = 1 << 20) -> bytes:
    """A whole message."""
    return b"".join([piece async for piece in remote.retrieve(number, limit)])


async def trouble(what: Callable[[], Awaitable[object]]) -> RemoteError:
    """What goes wrong, as it must; its text is one safe line."""
    try:
        await what()
    except RemoteError as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        return error
    raise AssertionError("nothing went wrong")


async def refused(server: BadServer, **changed: Any) -> RemoteError:
    """Why there is no session."""
    async with server.running():
        return await trouble(lambda: connect(login(server, **changed)))
