"""Sending from a program: now and directly, through a queue, or through another server.

Strategy: `Sending` gives a message to what a worker has anyway (destinations, spool), so that mail of a program goes
the way of all mail: routes, TLS, signatures, outbound plugins, trace. `gatepost.send` starts such a worker without a
listener for one message; `Server.send` uses the one that runs. Whoever wants to know what happens hears `Progress`, the
states of the host-program module (contract: host-program module, MsgCallback).
"""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import TypeVar

from gatepost.app.messages import Content, Messages
from gatepost.app.submission import Submissions
from gatepost.content.headers import read_section
from gatepost.content.outgoing import body_of, completed
from gatepost.content.received import date
from gatepost.delivery import Destinations
from gatepost.delivery.attempt import Answered, Letter, OnProgress
from gatepost.delivery.route import Hop, Host, Mx, Relay, Security
from gatepost.model import AddressError, Blob, Envelope, Path, Recipient, Reply, Ticket
from gatepost.plugins.loaded import seconds
from gatepost.store import Entry
from gatepost.wire.smtp.client_events import Credentials, Outcome, Phase

log = logging.getLogger("gatepost")
T = TypeVar("T")

_SMALL = 256 * 1024  # octets that are prepared in the loop
_AT_ONCE = 10  # domains that one message is sent to at a time
_TO_A_SERVER = (Security.NONE, Security.STARTTLS, Security.ENCRYPT, Security.REQUIRED, Security.IMPLICIT)


class SendState(Enum):
    """Where sending stands. The values are the words shown to people."""

    FINDING_HOST = "finding host"
    CONNECTING = "connecting"
    DIALOGUE = "dialogue"
    SENDING = "sending"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Progress:
    """One step, for the recipients who share it. `sent` of `size` octets of content are on their way; `host` is the
    server, once there is one. At DONE `results` has each recipient's answer.
    """

    state: SendState
    recipients: tuple[str, ...]
    sent: int = 0
    size: int = 0
    host: str = ""
    results: tuple[SentTo, ...] = ()


@dataclass(frozen=True, slots=True)
class SentTo:
    """What became of one recipient: the reply that decided it, which server gave it ("": none, we did), and when."""

    recipient: str
    reply: Reply
    host: str = ""
    phase: Phase = Phase.END_OF_DATA

    @property
    def is_accepted(self) -> bool:
        """Whether the next server, or our queue, has the message for this recipient."""
        return self.reply.is_positive

    @property
    def may_be_repeated(self) -> bool:
        """Whether trying again later makes sense."""
        return not (self.reply.is_positive or self.reply.is_permanent)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a message; true if every recipient was accepted. `ticket` is what our queue knows it by."""

    results: tuple[SentTo, ...]
    ticket: str | None = None

    def __bool__(self) -> bool:
        return all(one.is_accepted for one in self.results)

    @property
    def refused(self) -> tuple[SentTo, ...]:
        """Who wasn't accepted."""
        return tuple(one for one in self.results if not one.is_accepted)


Hear = Callable[[Progress], object]
"""Takes each step. What it raises is logged, and it is asked no more."""


class Listeners:
    """Who hears of messages in the queue, by ticket, until each of its recipients is done."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[Following, set[str]]] = {}

    def follow(self, ticket: Ticket, following: Following, recipients: Iterable[str]) -> None:
        """From now on `following` hears of this message."""
        self._heard[str(ticket)] = (following, set(recipients))

    def attempt(self, entry: Entry, recipients: Sequence[Recipient]) -> OnProgress | None:
        """Who hears of an attempt: delivery's question."""
        found = self._heard.get(str(entry.ticket)) if self._heard else None
        return None if found is None else partial(found[0].step, recipients)

    def done(self, ticket: Ticket, result: SentTo) -> None:
        """A recipient has it, or never will."""
        found = self._heard.get(str(ticket)) if self._heard else None
        if found is None:
            return
        following, waiting = found
        waiting.discard(result.recipient)
        if not waiting:
            del self._heard[str(ticket)]
        following.done((result,))


class Following:
    """Turns what delivery tells into Progress for one message."""

    def __init__(self, hear: Hear | None, size: int) -> None:
        self._hear = hear
        self._size = size

    def step(self, recipients: Sequence[Recipient], host: Host, phase: Phase, octets: int) -> None:
        """delivery's word on an attempt: which phase, and how many octets of content have been written."""
        match phase:
            case Phase.CONNECT:
                state = SendState.CONNECTING
            case Phase.CONTENT | Phase.END_OF_DATA:
                state = SendState.SENDING
            case _:
                state = SendState.DIALOGUE
        self.say(state, recipients, octets, str(host))

    def say(self, state: SendState, recipients: Sequence[Recipient], sent: int = 0, host: str = "") -> None:
        """One step."""
        if self._hear is not None:
            self._tell(Progress(state, tuple(one.address for one in recipients), sent, self._size, host))

    def done(self, results: tuple[SentTo, ...]) -> None:
        """The last step for these recipients."""
        if self._hear is not None:
            to = tuple(one.recipient for one in results)
            self._tell(Progress(SendState.DONE, to, self._size, self._size, results[0].host, results))

    def _tell(self, progress: Progress) -> None:
        assert self._hear is not None
        try:
            self._hear(progress)
        except Exception:
            log.exception("the callback for the progress of a message has failed, it is asked no more")
            self._hear = None


class Sending:
    """The three ways of one worker. Holds nothing of a message after its `send` has returned, but who follows it."""

    def __init__(
        self, destinations: Destinations, submissions: Submissions | None, hostname: str, listeners: Listeners, mx: Mx
    ) -> None:
        """`submissions` is None where there is no queue; `mx` says how servers found by the DNS are spoken to."""
        self._destinations = destinations
        self._submissions = submissions
        self._hostname = hostname
        self._listeners = listeners
        self._mx = mx

    async def send(
        self,
        message: Content,
        sender: str,
        recipients: str | Sequence[str],
        *,
        mode: str,
        progress: Hear | None = None,
        tls: str = "starttls",
        user: str | None = None,
        password: str | None = None,
        expire: str | float | None = None,
    ) -> Sent:
        """By one of the ways: "now", "queue", for which `expire` is, or "via HOST:PORT", for which `tls`, `user` and
        `password` are.
        """
        if expire is not None and mode != "queue":
            raise ValueError(f'expire is for mode="queue", not "{mode}"')
        if mode in {"now", "queue"} and (user is not None or password is not None):
            raise ValueError(f'user and password are for mode="via HOST:PORT", not "{mode}"')
        match mode.split():
            case ["now"]:
                return await self.directly(message, sender, recipients, progress=progress)
            case ["queue"]:
                return await self.queue(message, sender, recipients, progress=progress, expire=expire)
            case ["via", where]:
                hop = next_server(where, tls=tls, user=user, password=password)
                return await self.directly(message, sender, recipients, via=hop, progress=progress)
            case _:
                raise ValueError(f'there is no mode "{mode}"; there are "now", "queue" and "via HOST:PORT"')

    async def queue(
        self,
        content: Content,
        sender: str,
        recipients: str | Sequence[str],
        *,
        progress: Hear | None = None,
        user: str = "",
        expire: str | float | None = None,
    ) -> Sent:
        """Into the queue: durable when this returns, delivered in the background while the worker runs, until `expire`
        ("24h", or seconds) is over.
        """
        if self._submissions is None:
            raise RuntimeError("this server keeps what it accepts in `messages`; it has no queue to send from")
        back, to = envelope_of(sender, recipients)
        facts = ends_after(expire)
        messages = Messages()
        try:
            blob = await aside(messages.take, content)
            ticket = self._submissions.new_ticket()
            if progress is not None:
                self._listeners.follow(ticket, Following(progress, blob.size), [one.address for one in to])
            await self._submissions.submit(blob, back, to, ticket=ticket, user=user or user_here(), facts=facts)
        finally:
            messages.close()
        reply = Reply(250, "2.0.0", f"queued as {ticket}")
        return Sent(tuple(SentTo(one.address, reply) for one in to), str(ticket))

    async def directly(
        self,
        content: Content,
        sender: str,
        recipients: str | Sequence[str],
        *,
        via: Hop | None = None,
        progress: Hear | None = None,
    ) -> Sent:
        """Now: to each domain's own servers, or `via` one server. Each recipient's answer, in order; nothing is tried
        twice.
        """
        back, to = envelope_of(sender, recipients)
        messages = Messages()
        try:
            letter = await aside(lambda given: self._letter(messages.take(given), back, to), content)
            following = Following(progress, letter.content.size)
            places = asyncio.Semaphore(_AT_ONCE)
            groups = [(via, to)] if via is not None else self._by_domain(to)
            answers = await asyncio.gather(
                *(self._give(hop, replace(letter, recipients=some), following, places) for hop, some in groups)
            )
        finally:
            messages.close()
        by_address = {one.recipient: one for some in answers for one in some}
        return Sent(tuple(by_address[one.address] for one in to))

    def _by_domain(self, recipients: Sequence[Recipient]) -> list[tuple[Hop | Mx, tuple[Recipient, ...]]]:
        groups: dict[str, list[Recipient]] = {}
        for recipient in recipients:
            groups.setdefault(recipient.domain, []).append(recipient)
        return [(replace(self._mx, domain=domain), tuple(some)) for domain, some in groups.items()]

    async def _give(
        self, hop: Hop | Mx, letter: Letter, following: Following, places: asyncio.Semaphore
    ) -> tuple[SentTo, ...]:
        async with places:
            following.say(SendState.FINDING_HOST, letter.recipients)
            letter = replace(
                letter,
                on_progress=partial(following.step, letter.recipients),
            )
            try:
                answers = await self._destinations.deliver(hop, letter)
            except OSError as error:
                reply = Reply(451, "4.3.0", f"the message can't be read: {error.strerror or error}")
                answers = [
                    Answered(Outcome(one, reply, Phase.CONTENT, is_ours=True), None) for one in letter.recipients
                ]
            results = tuple(sent_to(answer) for answer in answers)
            following.done(results)
            return results

    def _letter(self, blob: Blob, sender: Path, recipients: tuple[Recipient, ...]) -> Letter:
        now = time.time()
        is_utf8 = not read_section(blob).raw.isascii()
        message = completed(
            blob,
            date=date(now, time.localtime(now).tm_gmtoff),
            message_id=f"{os.urandom(12).hex()}@{self._hostname}",
            sender=sender,
            utf8=is_utf8,
        )
        utf8 = is_utf8 or sender.needs_smtputf8 or any(one.path.needs_smtputf8 for one in recipients)
        return Letter.of(Envelope(sender, recipients, body_of(message), utf8), recipients, message)


async def aside(work: Callable[[Content], T], content: Content) -> T:
    """Work on content beside the loop, unless it's small and at hand."""
    if isinstance(content, bytes | bytearray | str) and len(content) <= _SMALL:
        return work(content)
    return await asyncio.to_thread(work, content)


def ends_after(expire: str | float | None) -> Mapping[str, str] | None:
    """The fact by which a message in the queue has an end of its own; ValueError for what is no duration."""
    if expire is None:
        return None
    after = seconds(expire)
    if after <= 0:
        raise ValueError(f"a message expires after more than {expire}")
    return {"expires": str(after)}


def next_server(where: str, *, tls: str = "starttls", user: str | None = None, password: str | None = None) -> Relay:
    """HOST:PORT (port 25 if it isn't said) as a server to send through; ValueError for what isn't one.

    `tls` is a route's word: none, starttls, encrypt, required or implicit. A password goes over verified TLS only.
    """
    host, colon, port = where.rpartition(":")
    if not colon or host.endswith(":") or "]" in port or (":" in host and not host.startswith("[")):
        host, port = where, "25"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f'"{where}" is no server; write "via mail.example.org:587"')
    words = [one.value for one in _TO_A_SERVER]
    if tls not in words:
        raise ValueError(f'there is no tls = "{tls}"; there are {", ".join(words)}')
    if user is not None and tls not in ("required", "implicit"):
        raise ValueError('a password never goes over a connection that may be plain: tls="required"')
    auth = None if user is None else Credentials(user, password or "")
    return Relay((Host(host, int(port)),), Security(tls), auth)


def sent_to(answer: Answered) -> SentTo:
    """delivery's answer, in the words of this module."""
    host = "" if answer.host is None or answer.outcome.is_ours else str(answer.host)
    return SentTo(answer.outcome.recipient.address, answer.outcome.reply, host, answer.outcome.phase)


def envelope_of(sender: str, recipients: str | Sequence[str]) -> tuple[Path, tuple[Recipient, ...]]:
    """Sender ("" for none) and recipients, once each. AddressError for what is no address, ValueError for nobody."""
    several = [recipients] if isinstance(recipients, str) else recipients
    to = tuple(dict.fromkeys(Recipient(_path(one)) for one in several))
    if not to or not all(one.path for one in to):
        raise ValueError("a message needs at least one recipient, and each one an address")
    return _path(sender), to


def _path(written: str) -> Path:
    try:
        return Path.parse(written, bare_postmaster=True)
    except AddressError as error:
        raise AddressError(f'"{written}" is no address: {error}') from None


def user_here() -> str:
    """Who runs this program, as the system calls them; "" for nobody it knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return ""


__all__ = [
    "Content",
    "Hear",
    "Listeners",
    "Progress",
    "SendState",
    "Sending",
    "Sent",
    "SentTo",
    "envelope_of",
    "sent_to",
]
