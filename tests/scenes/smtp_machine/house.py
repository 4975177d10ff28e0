"""Drives a server session without a socket: a house that says yes unless told otherwise, and keeps what it hears."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gatepost.model import Reply
from gatepost.wire.sasl import Challenge, Credentials, Exchange, NeedKeys, ScramKeys, Success
from gatepost.wire.smtp import events as ev
from gatepost.wire.smtp.server import NEED_DATA, Profile, ServerSession, State

HOST = "mx.example.org"
YES = {
    ev.Connect: Reply(220, "", "ready"),
    ev.Hello: Reply(250, "", "at your service"),
    ev.StartTls: Reply(220, "", "go ahead"),
    ev.Mail: Reply(250, "", "sender ok"),
    ev.Rcpt: Reply(250, "", "recipient ok"),
    ev.Data: Reply(354, "", "go ahead"),
    ev.EndOfData: Reply(250, "", "accepted"),
    ev.Reset: Reply(250, "", "forgotten"),
    ev.Noop: Reply(250, "", "ok"),
    ev.Verify: Reply(252, "", "try it"),
    ev.Expand: Reply(502, "", "no"),
    ev.Help: Reply(214, "", "read RFC 5321"),
    ev.Client: Reply(220, "", "go on"),
    ev.Forwarded: Reply(250, "", "noted"),
    ev.Quit: Reply(221, "", "bye"),
    ev.Unknown: Reply(500, "5.5.1", "unknown command"),
}
SYNCHRONISED = (ev.Data, ev.Auth, ev.AuthResponse, ev.StartTls, ev.Client)


@dataclass
class House:
    session: ServerSession
    users: dict[str, str] = field(default_factory=lambda: {"ann": "secret"})
    keys: ScramKeys | None = None
    answers: list[tuple[str, str, Reply]] = field(default_factory=list)  # question's name, text in it, answer
    events: list[ev.Event] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    output: bytes = b""
    content: bytes = b""
    exchange: Exchange | None = None

    def run(self) -> None:
        """Everything up to NEED_DATA."""
        while (event := self.session.next_event()) is not NEED_DATA:
            self.events.append(event)
            self.meet(event)
        self.output += self.session.data_to_send()

    def receive(self, data: bytes) -> None:
        self.session.receive(data)
        self.run()

    def say(self, *lines: str) -> str:
        """These command lines at once; the replies to them."""
        before = len(self.output)
        self.receive("".join(line + "\r\n" for line in lines).encode())
        return self.output[before:].decode()

    def each(self, *lines: str) -> str:
        """These command lines one by one; the replies to the last."""
        return [self.say(line) for line in lines][-1]

    def meet(self, event: ev.Event) -> None:
        if isinstance(event, ev.Chunk):
            self.content += event.data
            return
        if isinstance(event, ev.Refused | ev.Ended):
            return
        reply = self.reply_to(event)
        match event:
            case ev.EndOfData(size, failure):
                if failure is None:
                    assert size == len(self.content)
                    self.messages.append(self.content)
                self.content = b""
                self.session.answer(failure or reply)
            case ev.Auth(mechanism, initial):
                self.exchange = Exchange(mechanism, nonce="servernonce")
                self.authenticate(self.exchange.start(initial))
            case ev.AuthResponse(data):
                assert self.exchange is not None
                self.authenticate(self.exchange.respond(data))
            case ev.Data():
                if not reply.is_positive:
                    self.content = b""
                self.session.answer(reply)
            case ev.Line():
                self.session.proceed()
            case ev.Replying(said):
                self.session.answer(said)
            case _:
                self.session.answer(reply)

    def reply_to(self, event: ev.Event) -> Reply:
        for name, text, reply in self.answers:
            if name == type(event).__name__ and text in repr(event):
                return reply
        return YES.get(type(event), Reply(250))

    def authenticate(self, outcome: object) -> None:
        if isinstance(outcome, NeedKeys):
            assert self.exchange is not None
            outcome = self.exchange.keys(self.keys)
        match outcome:
            case Challenge(data):
                self.session.challenge(data)
            case Credentials(user, password) if self.users.get(user) == password:
                self.session.answer(Reply(235, "", "welcome"))
            case Success():
                self.session.answer(Reply(235, "", "welcome"))
            case _:
                self.session.answer(Reply(535, "", "not so"))


def house(*, tls: bool = False, **profile: object) -> House:
    """A house whose greeting is said already."""
    made = House(ServerSession(Profile(HOST, **profile), tls=tls))
    made.run()
    return made


def greeted(**profile: object) -> House:
    """A house that has heard EHLO; what was said so far is forgotten."""
    made = house(**profile)
    made.say("LHLO me" if profile.get("protocol") and profile["protocol"].name == "LMTP" else "EHLO me")
    made.output = b""
    return made


def in_transaction(*, recipients: int = 1, **profile: object) -> House:
    """A house with an open transaction."""
    made = greeted(**profile)
    made.say("MAIL FROM:<a@example.org>", *(f"RCPT TO:<r{n}@example.org>" for n in range(recipients)))
    made.output = b""
    return made


def coalesced(events: Iterable[ev.Event]) -> list[ev.Event]:
    """The events with adjacent Chunks joined, and those of a failed or unfinished content left out."""
    joined: list[ev.Event] = []
    for event in events:
        if isinstance(event, ev.Chunk) and joined and isinstance(joined[-1], ev.Chunk):
            joined[-1] = ev.Chunk(joined[-1].data + event.data)
        else:
            joined.append(event)
    kept: list[ev.Event] = []
    for event in joined:
        if isinstance(event, ev.Ended) or (isinstance(event, ev.EndOfData) and event.failure is not None):
            while kept and isinstance(kept[-1], ev.Chunk | ev.Data):
                kept.pop()
        kept.append(event)
    return kept


__all__ = ["HOST", "SYNCHRONISED", "House", "State", "coalesced", "greeted", "house", "in_transaction"]
