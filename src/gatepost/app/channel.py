"""Between a supervisor and a worker: a socketpair with the frames of the control socket.

The supervisor asks, the worker answers each request when it is done, in any order; besides, it tells that it lives.
Either side's end of the stream is the other's death.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gatepost.admin.queue import EX_TEMPFAIL, ActionError
from gatepost.wire.control import Failure, FrameError, Progress, Reply, Request, encode, read_replies, read_requests

log = logging.getLogger("gatepost")

EX_SOFTWARE = 70
Handler = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


class Gone(ConnectionError):
    """The worker has died, or hasn't answered in time."""


class Supervising:
    """The supervisor's end. Every request ends: with a result, an ActionError, or Gone."""

    def __init__(self, on_alive: Callable[[Mapping[str, Any]], None]) -> None:
        self._on_alive = on_alive
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self, end: socket.socket) -> None:
        """Begin to listen at this end of the pair."""
        reader, self._writer = await asyncio.open_unix_connection(sock=end)
        self._reading = asyncio.create_task(self._read(reader))

    async def ask(self, action: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = 60.0) -> Any:
        """The action's result; ActionError with what the worker says, Gone if it says nothing."""
        if self._writer is None or self._writer.is_closing():
            raise Gone("the worker isn't there")
        self._count += 1
        number = self._count
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(encode(Request(number, action, dict(arguments or {}))))
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise Gone(f"no answer to {action} within {timeout_s:g} s") from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """Hang up; whoever still waits hears Gone."""
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        decoder = read_replies()
        try:
            while data := await reader.read(65536):
                for frame in decoder.feed(data):
                    match frame:
                        case Progress(facts=facts):
                            self._on_alive(facts)
                        case Reply():
                            self._answered(frame)
                        case FrameError(text=text):
                            log.error("a worker talks nonsense: %s", text)
                            return
        except ConnectionError:
            pass
        finally:
            if self._writer is not None:
                self._writer.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(Gone("the worker has died"))

    def _answered(self, reply: Reply) -> None:
        waiting = self._waiting.get(reply.id)
        if waiting is None or waiting.done():
            return
        if reply.error is None:
            waiting.set_result(reply.result)
        else:
            waiting.set_exception(action_error(reply.error))


class Serving:
    """The worker's end: requests are handled side by side, each is answered once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, end: socket.socket) -> Serving:
        """At this end of the pair."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def alive(self, facts: Mapping[str, Any]) -> None:
        """Say so."""
        if not self._writer.is_closing():
            self._writer.write(encode(Progress(0, dict(facts))))

    async def serve(self, handle: Handler) -> None:
        """Answer until the supervisor hangs up."""
        decoder = read_requests()
        try:
            while data := await self._reader.read(65536):
                for frame in decoder.feed(data):
                    if isinstance(frame, FrameError):
                        return
                    task = asyncio.create_task(self._answer(frame, handle))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        except ConnectionError:
            return

    async def close(self) -> None:
        """Finish answers under way, and hang up."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._writer.close()

    async def _answer(self, request: Request, handle: Handler) -> None:
        reply = await answered(request, handle)
        try:
            frame = encode(reply)
        except ValueError:
            frame = encode(
                Reply(request.id, error=Failure(EX_TEMPFAIL, "the answer is too large", "ask for less: --limit"))
            )
        if not self._writer.is_closing():
            self._writer.write(frame)


async def answered(request: Request, handle: Handler) -> Reply:
    """The reply to a request; a bug of ours is one too."""
    try:
        return Reply(request.id, await handle(request.action, request.arguments))
    except ActionError as error:
        return Reply(request.id, error=Failure(error.code, str(error), error.mend))
    except Exception as error:
        log.exception("the action %s failed", request.action)
        text = f"{request.action} failed: {type(error).__name__}: {error}"
        return Reply(request.id, error=Failure(EX_SOFTWARE, text, "the server's log has the details"))


def action_error(failure: Failure) -> ActionError:
    """What the other side said, to be said on."""
    return ActionError(failure.message, failure.mend, failure.code)
