"""One session with a next server: the client machine over a stream, with the time each phase may take.

Strategy: every failure of the network becomes the machine's `abandon`, so that there is one way to an outcome. A
session that doesn't come about is an `Unreachable` value; whatever the server said then, it is a reason to come back
later, never a reason to give a message up. Where somebody wants to be asked (`Outbound`), the machine's questions are
answered here, in the order they come, and the time that takes isn't the server's.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from gatepost.content.downgrade import downgrade
from gatepost.delivery.ports import Outbound, Prepared
from gatepost.delivery.route import Host
from gatepost.model import Blob, Body, Peer, Reply, Tls
from gatepost.model.origin import Origin
from gatepost.net import Stream
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_content import StrayLineEnd
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    Capabilities,
    Closed,
    CommandDue,
    ContentWanted,
    EndSession,
    Event,
    Introduced,
    Introduction,
    Needs,
    Outcome,
    Outcomes,
    Phase,
    Protocol,
    ProtocolError,
    Purpose,
    Ready,
    ReplyHeard,
    State,
    Transaction,
)

log = logging.getLogger("gatepost.delivery")

RECIPIENTS_AT_ONCE = 100  # where the server names no RCPTMAX; rfc5321#4.5.3.1.8
_GOODBYE_S = 2.0  # how long the answer to QUIT is waited for
_CONVERTED_AT_ONCE = 256 * 1024  # octets that are re-encoded between two others' turns; more go to a thread
_NO_CONVERSION = Reply(554, "5.6.3", "conversion required but not supported")  # rfc6152#3
_NO_STEP = Reply(451, "4.3.0", "what was to be done on the way out can't be done")

OnProgress = Callable[[Phase, int], None]
"""Told at which phase a message is, and how many octets of its content have gone out: when the phase changes, and every
64 KiB of content. Must not raise."""


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
            case Phase.SENDER | Phase.RECIPIENT | Phase.QUIT | Phase.EXTRA:
                return self.command
            case _:
                assert_never(phase)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No session came about: at which phase, and why. The reply is 4xx, but where a plugin refuses for good.

    `is_by_plugin`: a plugin didn't want it, which says nothing about the host.
    """

    phase: Phase
    reply: Reply
    is_by_plugin: bool = False


class Connection:
    """A session that stands. Used by one attempt at a time; `is_reused` once it has carried a message for another."""

    def __init__(
        self,
        host: Host,
        stream: Stream,
        client: Client,
        timeouts: Timeouts,
        *,
        outbound: Outbound | None = None,
        eight_bit: Literal["convert", "pass"] = "convert",
    ) -> None:
        """`outbound` answers what `client` asks, which was made with `outbound.asks()`. `eight_bit`: whether 8-bit
        content is re-encoded for a server without 8BITMIME, or passed on as it is.
        """
        self.host = host
        self.is_reused = False
        self.failure = ""
        """What the network did, in words, if that ended the session."""
        self.introduces: Introduction | None = None
        """How it is told for whom a message is, if it is."""
        self.introduced: Origin | None = None
        """For whom the server takes us, by XCLIENT."""
        self._stream = stream
        self._client = client
        self._timeouts = timeouts
        self._outbound = outbound
        self._eight_bit = eight_bit
        self._loop = asyncio.get_running_loop()

    @property
    def spoken(self) -> Protocol:
        """SMTP or LMTP."""
        return self._client.protocol

    @property
    def capabilities(self) -> Capabilities:
        """What the server offers now."""
        return self._client.capabilities

    @property
    def peer(self) -> Peer:
        """The server's address."""
        return self._stream.peer

    @property
    def local(self) -> tuple[str, int]:
        """Our own."""
        return self._stream.local

    @property
    def tls(self) -> Tls | None:
        """What protects the connection."""
        return self._stream.tls

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
    def domains_max(self) -> int | None:
        """How many domains the recipients of one message may have, where the server says it."""
        return self._client.capabilities.domains_max

    @property
    def recipients_at_once(self) -> int:
        """How many recipients one message is given."""
        return self.recipients_max or RECIPIENTS_AT_ONCE

    async def introduce(
        self, attributes: Mapping[str, str], *, by: Introduction = Introduction.XFORWARD
    ) -> Reply | None:
        """Tell the server for whom the next message is sent; its answer, None where it doesn't offer that.

        After XCLIENT the session begins anew. Where it ends instead, `can_send` no longer holds.
        """
        if not self._client.introduce(attributes, by=by):
            return None
        reply: Reply | None = None
        while not isinstance(event := await self.next_event(), Closed | ProtocolError):
            if isinstance(event, Introduced):
                reply = event.reply
            if self._client.is_idle and isinstance(event, Introduced | Ready):
                break
        if by is Introduction.XCLIENT and reply is not None and not reply.is_positive and self._client.is_idle:
            self._client.quit()  # nobody is served any more where a client was refused
        return reply

    async def send(
        self, transaction: Transaction, content: Blob, on_progress: OnProgress | None = None
    ) -> tuple[Outcome, ...]:
        """One message; each recipient's outcome, in order. Never raises for what the server or the network does."""
        client = self._client
        mail_line: str | None = None
        if transaction.purpose is not Purpose.PROBE:
            if "8BITMIME" not in client.capabilities.keywords and self._eight_bit == "convert":
                converted = await self._convert(transaction, content)
                if isinstance(converted, Reply):
                    return _all(transaction, converted)
                transaction, content = converted
            if self._outbound is not None:
                prepared = await self._prepare(self._outbound, transaction, content)
                if isinstance(prepared, Reply):
                    return _all(transaction, prepared)
                transaction, content, mail_line = prepared.transaction, prepared.content, prepared.mail_line
        elif self._outbound is not None:
            self._outbound.probe(self)
        try:
            client.send(transaction, mail_line)
        except ValueError as error:
            return _all(transaction, Reply(554, "5.6.0", f"the envelope can't be sent: {error}"))
        told: Phase | None = None
        event = await self.next_event()
        while not isinstance(event, Outcomes):
            if on_progress is not None and client.phase is not told:
                told = client.phase
                on_progress(told, content.size if told is Phase.END_OF_DATA else 0)
            next_event = await self._feed(content, on_progress) if isinstance(event, ContentWanted) else None
            event = next_event or await self.next_event()
        return event.outcomes

    async def next_event(self) -> Event:
        """What the machine tells next. The time for it counts from the event before, whatever trickles in meanwhile."""
        client, stream = self._client, self._stream
        stream.deadline = self._loop.time() + self._timeouts.of(client.phase)
        while True:
            event = self._step()
            if event is not NEED_DATA:
                if self._outbound is None or not isinstance(event, CommandDue | ReplyHeard):
                    return event
                await self._ask(self._outbound, event)
                stream.deadline = self._loop.time() + self._timeouts.of(client.phase)
                continue
            phase = client.phase
            try:
                await stream.drain()
                client.receive(await stream.receive())
            except TimeoutError:
                self._lose(f"no answer within {self._timeouts.of(phase):g} s")
            except OSError as error:
                self._lose(words(error))

    async def close(self) -> None:
        """Say goodbye if that is still possible, and close."""
        try:
            if self._client.is_idle and not self._stream.lost:
                self._client.quit()
            if self._client.state is State.QUIT and not (self._client.is_asking or self._stream.lost):
                await self._say_goodbye()
            else:
                self._stream.abort()  # no last words: what isn't finished must not be taken for finished
        finally:
            self._end()
            await self._stream.close()

    def abort(self) -> None:
        """End it at once."""
        self._stream.abort()
        self._end()

    async def _say_goodbye(self) -> None:
        stream = self._stream
        stream.write(self._client.data_to_send())
        stream.deadline = self._loop.time() + _GOODBYE_S
        try:
            while not isinstance(event := self._step(), Closed | ProtocolError):
                if self._outbound is not None and isinstance(event, CommandDue | ReplyHeard):
                    await self._ask(self._outbound, event)
                    stream.deadline = self._loop.time() + _GOODBYE_S
                elif event is NEED_DATA:
                    self._client.receive(await stream.receive())
        except OSError:
            stream.abort()

    def _end(self) -> None:
        """Whoever was asked is told that the session is over, once."""
        outbound, self._outbound = self._outbound, None
        if outbound is not None:
            outbound.ended(self)

    def _step(self) -> Event | Literal[Needs.DATA]:
        event = self._client.next_event()
        self._stream.write(self._client.data_to_send())
        return event

    async def _ask(self, outbound: Outbound, question: CommandDue | ReplyHeard) -> None:
        """Have a question of the machine's answered."""
        if isinstance(question, CommandDue):
            step = await outbound.command(self, question)
        else:
            step = await outbound.reply(self, question)
        try:
            self._client.go(step)
        except ValueError:
            log.exception("%s was answered with what means nothing there", question)
            self._client.abandon(_NO_STEP)

    async def _prepare(self, outbound: Outbound, transaction: Transaction, content: Blob) -> Prepared | Reply:
        """The message as plugins want it to go; or why it doesn't."""
        try:
            preview = self._client.mail_line(transaction)
        except ValueError as error:
            return Reply(554, "5.6.0", f"the envelope can't be sent: {error}")
        prepared = await outbound.message(self, transaction, content, preview)
        if isinstance(prepared, EndSession):
            if self._client.is_idle:
                self._client.quit()
            return prepared.reply
        return prepared

    async def _convert(self, transaction: Transaction, content: Blob) -> tuple[Transaction, Blob] | Reply:
        """The message in seven bits, for a server that takes no others (rfc6152#3). What was never declared to be more
        than that, and can't be converted, is passed on as it came.
        """
        if transaction.body is Body.BINARY_MIME:
            return transaction, content  # there is another word for what becomes of it
        try:
            if content.size > _CONVERTED_AT_ONCE:
                converted = await asyncio.to_thread(downgrade, content)
            else:
                converted = downgrade(content)
        except OSError as error:
            return later("4.3.0", self.host, words(error))
        if converted is None:
            return _NO_CONVERSION if transaction.body is Body.EIGHT_BIT_MIME else (transaction, content)
        if converted is content and transaction.body is Body.SEVEN_BIT:
            return transaction, content
        return replace(transaction, body=Body.SEVEN_BIT, size=converted.size), converted

    async def _feed(self, content: Blob, on_progress: OnProgress | None) -> Event | None:
        """The content, as long as it is wanted; an event if one comes up early."""
        client, stream = self._client, self._stream
        octets = 0
        try:
            for chunk in content.chunks():
                if block := client.data_to_send():  # the chunk before this one; the last goes with what ends it
                    stream.write(block)
                    stream.deadline = self._loop.time() + self._timeouts.block
                    await stream.drain()
                    await asyncio.sleep(0)  # others have their turn, however fast the peer reads
                    if stream.pending:
                        client.receive(stream.receive_nowait())
                        if (event := await self._step_on()) is not NEED_DATA:
                            return event
                        if not client.wants_content:
                            return None
                if octets and on_progress is not None:
                    on_progress(Phase.CONTENT, octets)
                client.send_content(chunk)
                octets += len(chunk)
            client.end_content()
        except StrayLineEnd as error:
            client.abandon(Reply(554, "5.6.0", str(error)))
        except OSError as error:
            self._lose(words(error))
        else:
            if on_progress is not None:
                on_progress(Phase.END_OF_DATA, octets)
        return None

    async def _step_on(self) -> Event | Literal[Needs.DATA]:
        """The next event that isn't a question, without waiting for the server."""
        while isinstance(event := self._step(), CommandDue | ReplyHeard):
            assert self._outbound is not None
            await self._ask(self._outbound, event)
        return event

    def _lose(self, why: str) -> None:
        self.failure = why
        self._client.abandon(later("4.4.2", self.host, why))


def _all(transaction: Transaction, reply: Reply) -> tuple[Outcome, ...]:
    """The same outcome, ours, for everybody."""
    return tuple(Outcome(r, reply, Phase.SENDER, is_ours=True) for r in transaction.recipients)


def later(status: str, host: Host, why: str) -> Reply:
    """451: what went wrong at a host, in words."""
    return Reply(451, status, f"{host}: {why}".replace("\n", " "))


def words(error: BaseException) -> str:
    """An error of the network, in words."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()  # asyncio's own text has numbers and a tuple in it
    return str(error) or type(error).__name__
