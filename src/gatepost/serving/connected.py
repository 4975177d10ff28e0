"""One connection and its end: counted while it lasts, served in a task, over once. What is spoken on it stands above.

`Reception` speaks SMTP and LMTP, `Pop` POP3; both are made for each connection by whoever listens.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Generic, TypeVar

from gatepost.hooks.notices import Disconnected
from gatepost.hooks.session import Session
from gatepost.model import Address, Peer, Reply, Tls
from gatepost.net import ConnectionLost, DeadlinePassed, HandshakeFailed, Stream
from gatepost.serving.carrying import Carrier
from gatepost.serving.keeping import Closings
from gatepost.serving.limits import Admission
from gatepost.serving.place import Ground

log = logging.getLogger("gatepost.serving")

TIMED_OUT = Reply(421, "4.4.2", "you took too long")
SHUTTING_DOWN = Reply(421, "4.3.2", "the server is going down, try again later")
BROKEN = Reply(421, "4.3.0", "an error here, try again later")

G = TypeVar("G", bound=Ground)


class Connected(ABC, Generic[G]):
    """Invariant: what was begun is ended once, whatever happens; a session that is turned away is asked nothing."""

    __slots__ = ("_carrier", "_clean", "_closings", "_counted", "_is_going_down", "_is_running", "ending", "is_idle",
                 "place", "session", "stream")  # fmt: skip

    def __init__(self, place: G, stream: Stream, protocol: str) -> None:
        self.place: G = place
        self.stream = stream
        peer = stream.peer
        if place.lookup is not None:
            peer = stream.peer = Peer(peer.address, peer.port, place.lookup, peer.via)
        self.session = Session(
            id=place.tokens.next(),
            listener=place.listener,
            protocol=protocol,
            peer=peer,
            local=stream.local,
            started=place.clock.now(),
            patience=place.patience,
            tls=stream.tls,
        )
        self.is_idle = True
        """Between transactions, waiting for the client: the moment to end it when the server goes down."""
        self.ending = ""
        """How it ended, once it has: quit, closed, lost, timeout, shutdown, error."""
        self._closings: Closings | None = None
        self._counted: Address | None = None
        """The peer this session is counted for."""
        self._carrier = Carrier()
        self._is_running = False
        self._is_going_down = False
        self._clean = False

    async def run(self) -> None:
        """Serve until the end. Whatever happens, everything that was begun is closed once."""
        await self.serve(_nothing)

    def serve(self, ended: Callable[[Connected[Any]], None]) -> Awaitable[None]:
        """As run, and `ended` hears that it is over. Not `async`: every idle session would have one more frame."""
        admission = self._enter(self.session.peer.address)
        if admission is not Admission.GRANTED:
            return self._turn_away(admission, ended)
        return self._carrier.carry(self._serve(ended))

    def go_down(self) -> None:
        """The server wants to stop: an idle session ends now, a busy one after its transaction."""
        self._is_going_down = True
        if self.is_idle and self._is_running:
            self._carrier.cancel()

    def cut_off(self) -> None:
        """The time for finishing is over: end the session wherever it is, but for a commit under way."""
        self._is_going_down = True
        if self._is_running and not self._is_committing:
            self._carrier.cancel()

    @property
    def closings(self) -> Closings:
        """What closes the belongings of the session and its transactions."""
        if self._closings is None:
            self._closings = Closings(self.place.patience, self.session.id)
        return self._closings

    # ── what a protocol gives ──────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def _serve(self, ended: Callable[[Connected[Any]], None]) -> Coroutine[Any, Any, None]:
        """The session, from `_begin` to `_end`; then `ended`."""

    @property
    @abstractmethod
    def _is_committing(self) -> bool:
        """Whether something is under way that a loss mustn't stop."""

    @abstractmethod
    def _last_octets(self, reply: Reply) -> bytes:
        """What is due, and this as the last the client hears."""

    @abstractmethod
    async def _wind_up(self, ending: str) -> None:
        """End what is the protocol's own."""

    @abstractmethod
    def told(self) -> Mapping[str, object]:
        """What the session came to, for the trace."""

    # ── beginnings and endings ─────────────────────────────────────────────────────────────────────────────────────

    def _enter(self, peer: Address) -> Admission:
        """Count the session for a peer, if there is room."""
        admission = self.place.counter.enter(peer)
        if admission is Admission.GRANTED:
            self._counted = peer
        return admission

    def _leave(self) -> None:
        """Count it no more."""
        counted, self._counted = self._counted, None
        if counted is not None:
            self.place.counter.leave(counted)

    def _facts(self, **more: object) -> dict[str, object]:
        """Whom the session is with, for the trace."""
        peer = self.session.peer
        facts = {"peer": str(peer), **more, "listener": self.session.listener}
        return facts if peer.via is None else {**facts, "via": str(peer.via)}

    async def _turn_away(self, admission: Admission, ended: Callable[[Connected[Any]], None]) -> None:
        """Over the limit of sessions: a refusal at once, without asking anybody."""  # attack R7
        self.ending = "turned away"
        reply = Reply(421, "4.7.0", f"{admission.value}, try again later ({self.session.id})")
        self.place.recorder.record(self.session.id, "session", self._facts(turned_away=admission.value))
        self.stream.deadline = asyncio.get_running_loop().time() + 5
        self.stream.write(self._last_octets(reply))
        try:
            await self.stream.close()
        finally:
            ended(self)

    def _begin(self) -> None:
        self._is_running = True
        self.stream.on_lost(self._lost)
        self.place.recorder.record(self.session.id, "session", self._facts(port=self.session.peer.port))

    def _lost(self) -> None:
        """The peer is gone. Only before the hand-over to the writer does that cancel anything."""
        if self._is_running and not self._is_committing:
            self._carrier.cancel()

    async def _secure(self, discarded: int, due: bytes, behind: str) -> Tls:
        """Say what is `due`, the go-ahead at its end, and shake hands. What the client has sent behind its command
        counts for nothing: `discarded` octets of it the machine had. ConnectionLost if there is no handshake.
        """
        stream, place, session = self.stream, self.place, self.session
        discarded += stream.discard()  # before the go-ahead is written  # attacks F10, T1, O5
        stream.deadline = asyncio.get_running_loop().time() + place.timeouts.handshake
        stream.write(due)
        if discarded:
            log.warning("%d octets behind %s were thrown away; token %s", discarded, behind, session.id)
            place.recorder.record(session.id, "discarded", {"octets": discarded, "behind": behind})
        if place.tls is None:
            raise RuntimeError(f"{behind} was offered without a certificate")
        try:
            tls = await stream.start_tls(place.tls(), server_side=True)
        except HandshakeFailed as error:
            place.recorder.record(session.id, "tls", {"failed": str(error)[:200]})
            raise ConnectionLost(str(error)) from error
        session.tls = tls
        place.recorder.record(session.id, "tls", {"version": tls.version, "cipher": tls.cipher})
        return tls

    def _failed(self, error: BaseException) -> str:
        """How a session ends by an error, which the client is told where it can still hear."""
        match error:
            case ConnectionLost():
                return "lost"
            case DeadlinePassed():
                self._last_words(TIMED_OUT)
                return "timeout"
            case asyncio.CancelledError():
                if self.stream.lost:
                    return "lost"
                self._last_words(SHUTTING_DOWN)
                return "shutdown"
            case _:
                log.error("a session ended by an error of ours; token %s", self.session.id, exc_info=error)
                self._last_words(BROKEN)
                return "error"

    def _last_words(self, reply: Reply) -> None:
        if not self.stream.lost:
            self.stream.write(self._last_octets(reply.with_text(f"{reply.text} ({self.session.id})")))

    async def _end(self, ending: str) -> None:
        place, session = self.place, self.session
        self.ending = ending
        self._leave()
        try:
            await self._wind_up(ending)
            self.closings.close(session.holder)
            place.recorder.record(session.id, "end", {"how": ending, **self.told()})
            place.tell(Disconnected(place.dispatcher.server, session, self._clean))
        finally:
            if ending == "lost":
                self.stream.abort()
            else:
                self.stream.deadline = asyncio.get_running_loop().time() + 5
                await self.stream.close()
        await self.closings.settled()


def _nothing(_: Connected[Any]) -> None:
    """Nobody wants to know."""
