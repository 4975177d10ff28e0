"""The control socket: `data/control.sock`, for the owner of the data folder only. Both of its ends.

Requests are bounded frames; each is answered in order. Garbage closes the connection and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatepost.admin.desk import Desk
from gatepost.app.channel import EX_SOFTWARE, answered
from gatepost.wire.control import Failure, FrameError, Reply, Request, encode, read_replies, read_requests

log = logging.getLogger("gatepost.control")

NAME = "control.sock"
EX_TEMPFAIL = 75
MAX_CLIENTS = 16


class NotRunning(ConnectionError):
    """No server answers at the data folder's socket."""


class ControlError(RuntimeError):
    """The server's answer is an error; `failure` has its exit code, text and mend."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ControlServer:
    """Serves a desk at a socket that only its owner can open. At most MAX_CLIENTS at a time."""

    def __init__(self, folder: Path, desk: Desk) -> None:
        self._path = folder / NAME
        self._desk = desk
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen; a socket that a dead server left behind is replaced."""
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(str(self._path))
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening)

    async def close(self) -> None:
        """Answer nobody any more."""
        if self._server is None:
            return
        self._server.close()
        for client in tuple(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= MAX_CLIENTS:
            writer.close()
            return
        self._clients.add(task)
        decoder = read_requests()
        try:
            while data := await reader.read(65536):
                for frame in decoder.feed(data):
                    if isinstance(frame, FrameError):
                        log.warning("garbage at the control socket: %s", frame)
                        return
                    writer.write(self._encoded(frame, await answered(frame, self._desk.do)))
                    await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._clients.discard(task)
            writer.close()

    def _encoded(self, request: Request, reply: Reply) -> bytes:
        try:
            return encode(reply)
        except ValueError:
            failure = Failure(EX_TEMPFAIL, "the answer is too large", "ask for less: --limit, --since")
            return encode(Reply(request.id, error=failure))


class ControlClient:
    """Asks a running server, one request after the other. Blocking: commands have nothing else to do."""

    def __init__(self, folder: Path, *, timeout_s: float = 60.0) -> None:
        """NotRunning if no server answers."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(folder / NAME))
        except OSError as error:
            self._socket.close()
            raise NotRunning(f"no server runs on {folder}") from error
        self._decoder = read_replies()
        self._count = 0

    def ask(self, action: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The action's result; ControlError with what the server says."""
        self._count += 1
        self._socket.sendall(encode(Request(self._count, action, dict(arguments or {}))))
        while data := self._socket.recv(65536):
            for frame in self._decoder.feed(data):
                if isinstance(frame, FrameError):
                    raise ControlError(Failure(EX_SOFTWARE, f"the server's answer can't be read: {frame}"))
                if isinstance(frame, Reply) and frame.id == self._count:
                    if frame.error is not None:
                        raise ControlError(frame.error)
                    return frame.result
        raise ControlError(Failure(EX_TEMPFAIL, "the server hung up", "is it going down? try again"))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
