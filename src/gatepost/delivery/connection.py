"""One session with a next server: the client machine over a stream, with the time each phase may take.

Strategy: every failure of the network becomes the machine's `abandon`, so that there is one way to an outcome. A
session that doesn't come about is an `Unreachable` value; whatever the server said then, it is a reason to come back
later, never a reason to give a message up.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Literal, assert_never

from gatepost.delivery.route import Host
from gatepost.model import Blob, Reply
from gatepost.net import Stream
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_content import StrayLineEnd
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    Closed,
    ContentWanted,
    Event,
    Needs,
    Outcome,
    Outcomes,
    Phase,
    ProtocolError,
    Transaction,
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
            case Phase.HELLO | Phase.TLS | Phase.AUTH | Phase.INTRODUCTION | Phase.RESET:
                return self.command
            case Phase.SENDER | Phase.RECIPIENT | Phase.QUIT:
                return self.command
            case _:
                assert_never(phase)


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
                self._lose(words(error))
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
            self._lose(words(error))
        return None

    def _lose(self, why: str) -> None:
        self.failure = why
        self._client.abandon(later("4.4.2", self.host, why))


def later(status: str, host: Host, why: str) -> Reply:
    """451: what went wrong at a host, in words."""
    return Reply(451, status, f"{host}: {why}".replace("\n", " "))


def words(error: BaseException) -> str:
    """An error of the network, in words."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()  # asyncio's own text has numbers and a tuple in it
    return str(error) or type(error).__name__
