"""A session's belongings, and how it answers: what every layer of `Reception` stands on."""

from __future__ import annotations

from abc import abstractmethod

from gatepost.hooks.questions import Outcome, Question
from gatepost.hooks.replies import refusal
from gatepost.hooks.transaction import Transaction
from gatepost.model import Reply
from gatepost.net import Stream
from gatepost.serving.authentication import Authentication
from gatepost.serving.connected import Connected
from gatepost.serving.mailing import Mailing
from gatepost.serving.place import Place
from gatepost.wire.smtp.events import Event
from gatepost.wire.smtp.server import ServerSession


class Answering(Connected[Place]):
    """What only mail and AUTH need is made for the first of them: a session may be idle from beginning to end."""

    __slots__ = ("_authentication", "_mailing", "machine")

    def __init__(self, place: Place, stream: Stream, *, tls: bool = False) -> None:
        super().__init__(place, stream, place.profile.protocol.value)
        profile = place.profile if place.trust is None else place.trust.profile(place.profile, stream.peer.address)
        self.machine = ServerSession(profile, tls=tls)
        self._mailing: Mailing | None = None
        self._authentication: Authentication | None = None

    @abstractmethod
    async def _handle(self, event: Event) -> None:
        """Do what an event asks for."""

    @property
    def mailing(self) -> Mailing:
        """The session's transactions."""
        if self._mailing is None:
            self._mailing = Mailing(self.place, self.machine, self.session, self.closings)
        return self._mailing

    @property
    def authentication(self) -> Authentication:
        """The session's AUTH exchanges."""
        if self._authentication is None:
            self._authentication = Authentication(self.place, self.machine, self.session)
        return self._authentication

    @property
    def _transaction(self) -> Transaction | None:
        return None if self._mailing is None else self._mailing.transaction

    async def _ask(self, question: Question) -> Outcome:
        return await self.place.dispatcher.ask(question)

    def _forget(self) -> None:
        if self._mailing is not None:
            self._mailing.forget()

    def _verbatim(self, outcome: Outcome) -> bool:
        return self.place.policy.verbatim or (outcome.binding is not None and outcome.binding.verbatim)

    def _refuse(self, what: str, reply: Reply, by: str) -> None:
        self.place.recorder.record(self.session.id, "refused", {"line": what, "reply": str(reply), "by": by})
        self.machine.answer(reply)

    def _hang_up(self, said: Reply, by: str) -> None:
        reply = refusal(said, code=421, status="4.7.0", token=self.session.id)
        self._refuse("", Reply(421, "4" + reply.status[1:], reply.text), by)
