"""The conversation with one POP3 server: the client machine over a stream, with deadlines; what goes wrong has a kind.

A command's answer is waited for so many seconds, and so many again for each further piece of a listing or message. A
piece that counts is half a kilobyte: who sends an octet now and then doesn't keep us for ever.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import assert_never

from gatepost.collecting.ports import RemoteError, Talk, Trouble
from gatepost.net import Stream
from gatepost.net.errors import DeadlinePassed
from gatepost.wire.pop3.client import Client
from gatepost.wire.pop3.client_events import (
    NEED_DATA,
    Answered,
    Challenge,
    Closed,
    Complete,
    Names,
    Piece,
    ProtocolError,
    Sizes,
)
from gatepost.wire.pop3.client_states import State
from gatepost.wire.pop3.replies import Reply

MAX_UNWANTED = 64 * 1024 * 1024  # octets of a message nobody wants that are waited for, so that the session can go on
_PIECE = 512  # octets after which the deadline is moved
_LATER = frozenset({"IN-USE", "LOGIN-DELAY", "SYS/TEMP"})  # rfc2449#8.1, rfc3206#4
_BUSY = re.compile(
    r"\b(already|unable to|could not|couldn't|can't|cannot) lock|\block(ed)? by\b"
    r"|\bmail ?(box|drop)\b.*\block|\bin use\b|\bbusy\b|\btempor",
    re.IGNORECASE,
)

Heard = Answered | Challenge | Sizes | Names | Piece | Complete


class Dialogue:
    """One connection. Used by one task; every method raises RemoteError when the session is over, and then again."""

    __slots__ = ("_command_s", "_heard", "_is_open", "_loop", "_over", "_talk", "client", "host", "stream")

    def __init__(self, host: str, stream: Stream, command_s: float, talk: Talk | None) -> None:
        self.host = host
        self.stream = stream
        self.client = Client()
        self._command_s = command_s
        self._talk = talk
        self._loop = asyncio.get_running_loop()
        self._heard = 0  # octets since the deadline was moved
        self._is_open = False  # a message is coming that nobody may want to the end
        self._over: RemoteError | None = None
        self.move_deadline()

    def move_deadline(self) -> None:
        """What is waited for now has all its time."""
        self._heard = 0
        self.stream.deadline = self._loop.time() + self._command_s

    async def before(self, shown: str) -> None:
        """To be called before the machine is told to say something; `shown` is that, without secrets.

        What is left of a message is passed over, and what the server has said by itself is heard.
        """
        if self._over is not None:
            raise self._over
        if self._is_open:
            await self._pass_over()
        if not self.client.is_waiting and self.stream.pending:
            self.client.receive(self.stream.receive_nowait())
        self.move_deadline()
        if self.client.state is State.CLOSED:  # by what it heard when it was to say something else
            await self.next_event()
        if self._talk is not None:
            self._talk.said(shown)

    async def answer(self) -> Reply:
        """The answer that is due, passing over what belongs to nothing."""
        while True:
            event = await self.next_event()
            if isinstance(event, Answered):
                return event.reply
            assert not isinstance(event, Challenge), "only AUTH is asked, and its events are read one by one"

    async def content(self) -> bytes | None:
        """The next piece of a message; None at its end."""
        event = await self.next_event()
        if isinstance(event, Piece):
            return event.data
        assert isinstance(event, Complete)
        return None

    async def next_event(self) -> Heard:
        """What the server says next."""
        if self._over is not None:
            raise self._over
        client = self.client
        while (event := client.next_event()) is NEED_DATA:
            await self._move_octets()
        match event:
            case Answered(ask, reply):
                if self._talk is not None:
                    self._talk.heard(str(reply))
                self._is_open = reply.is_positive and ask.value in ("RETR", "TOP")
            case Complete():
                self._is_open = False
            case Closed(reply):
                raise self.over(_farewell(reply), Trouble.LOST if reply is None else trouble(reply, Trouble.TEMPORARY))
            case ProtocolError(text):
                raise self.over(text, Trouble.PROTOCOL)
            case Challenge() | Sizes() | Names() | Piece():
                pass
            case _:
                assert_never(event)
        return event

    def over(self, text: str, kind: Trouble) -> RemoteError:
        """The session can't go on, for this reason."""
        self._over = RemoteError(f"{self.host}: {text}", kind)
        return self._over

    async def hang_up(self) -> None:
        """End the connection at once. Never raises."""
        self._over = self._over or RemoteError(f"{self.host}: the session is closed", Trouble.LOST)
        self.stream.abort()
        await self.stream.close()

    async def close(self) -> None:
        """End the connection after the last word was heard."""
        self._over = self._over or RemoteError(f"{self.host}: the session is closed", Trouble.LOST)
        await self.stream.close()

    async def _move_octets(self) -> None:
        try:
            if data := self.client.data_to_send():
                self.stream.write(data)
                await self.stream.drain()
            received = await self.stream.receive()
        except OSError as error:
            raise self.over(words(error), Trouble.LOST) from error
        self._heard += len(received)
        if self._heard >= _PIECE:
            self.move_deadline()
        self.client.receive(received)

    async def _pass_over(self) -> None:
        unwanted = 0
        while (data := await self.content()) is not None:
            unwanted += len(data)
            if unwanted > MAX_UNWANTED:
                raise self.over("a message without end", Trouble.PROTOCOL)


def trouble(reply: Reply, otherwise: Trouble) -> Trouble:
    """What kind of thing a negative answer tells of; `otherwise` where it doesn't say.

    Servers without codes say that a maildrop is locked in words of their own; taken for a wrong password, that would
    keep us away for long.
    """
    if reply.code in _LATER or (not reply.code and _BUSY.search(reply.text)):
        return Trouble.TEMPORARY
    return Trouble.LOGIN if reply.code == "AUTH" else otherwise


def words(error: OSError) -> str:
    """What went wrong with a connection, in one line."""
    if isinstance(error, DeadlinePassed):
        return str(error)
    if error.errno is not None and "Connect call failed" in str(error):  # asyncio's word for whatever it was
        return os.strerror(error.errno).lower()
    return " ".join((error.strerror or str(error) or type(error).__name__).split())


def _farewell(reply: Reply | None) -> str:
    return "it closed the connection" if reply is None else f"it ended the session: {reply}"
