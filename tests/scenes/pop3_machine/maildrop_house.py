"""Drives a POP3 session without a socket: a house with a maildrop in memory, which keeps what it hears."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import md5

from gatepost.wire.pop3 import events as ev
from gatepost.wire.pop3.server import NEED_DATA, Profile, Reply, ServerSession
from gatepost.wire.sasl import Challenge, Credentials, Exchange, NeedKeys, ScramKeys, Success

STAMP = "<1896.697170952@pop.example.org>"
MAIL = (b"Subject: one\n\nfirst line\n.\n..two dots\nlast\n", b"Subject: two\r\n\r\n.\r\nno line end")
PIECE = 7  # octets of a message read at once


@dataclass
class MaildropHouse:
    session: ServerSession
    mail: tuple[bytes, ...] = MAIL
    users: dict[str, str] = field(default_factory=lambda: {"ann": "secret", "Jörg": " zwei  Wörter "})
    keys: ScramKeys | None = None
    answers: list[tuple[str, str, Reply]] = field(default_factory=list)  # question's name, text in it, answer
    events: list[ev.Event] = field(default_factory=list)
    output: bytes = b""
    marked: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
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

    @property
    def refusals(self) -> list[ev.Refused]:
        return [event for event in self.events if isinstance(event, ev.Refused)]

    def meet(self, event: ev.Event) -> None:
        if isinstance(event, ev.Capa | ev.Lang | ev.Refused | ev.Ended):
            return
        for name, text, reply in self.answers:
            if name == type(event).__name__ and text in repr(event):
                self.give(reply)
                return
        self.answer(event)

    def give(self, reply: Reply) -> None:
        if reply.is_positive:
            self.session.ok(reply.text)
        else:
            self.session.err(reply.text, reply.code)

    def answer(self, event: ev.Question) -> None:
        session = self.session
        there = [number for number in range(1, len(self.mail) + 1) if number not in self.marked]
        match event:
            case ev.Connect():
                session.ok("POP3 ready")
            case ev.StartTls() | ev.Utf8() | ev.Noop():
                session.ok("go on")
            case ev.User():
                session.ok("and the password?")
            case ev.Login(user, password, digest, _):
                known = self.users.get(user, "")
                proof = md5((session.timestamp + known).encode(), usedforsecurity=False).hexdigest()
                self.admit(bool(known) and (digest == proof if password is None else password == known))
            case ev.Auth(mechanism, initial):
                self.exchange = Exchange(mechanism, nonce="servernonce")
                self.authenticate(self.exchange.start(initial))
            case ev.AuthResponse(data):
                assert self.exchange is not None
                self.authenticate(self.exchange.respond(data))
            case ev.Stat():
                session.ok(f"{len(there)} {sum(self.size(number) for number in there)}")
            case ev.List(None):
                session.listing(f"{len(there)} messages", [f"{number} {self.size(number)}" for number in there])
            case ev.Uidl(None):
                session.listing("ids", [f"{number} .id{number}" for number in there])
            case ev.Reset():
                self.marked.clear()
                session.ok("all are kept")
            case ev.Quit(update):
                self.deleted = set(self.marked) if update else set()
                session.ok("bye")
            case ev.List(number) | ev.Uidl(number) | ev.Retrieve(number) | ev.Top(number) | ev.Delete(number):
                assert number is not None
                self.message(event, number, exists=number in there)

    def message(self, event: ev.Question, number: int, *, exists: bool) -> None:
        session = self.session
        match event:
            case _ if not exists:
                session.err("no such message")
            case ev.List():
                session.ok(f"{number} {self.size(number)}")
            case ev.Uidl():
                session.ok(f"{number} .id{number}")
            case ev.Delete():
                self.marked.add(number)
                session.ok("marked")
            case _:
                content = self.mail[number - 1]
                session.content("here it is")
                for at in range(0, len(content), PIECE):
                    if not session.feed(content[at : at + PIECE]):
                        break
                session.end()

    def size(self, number: int) -> int:
        """As sent: with CRLF, the one after the last line included; without the stuffing (rfc1939#11)."""
        sent = self.mail[number - 1].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return len(sent) if sent.endswith(b"\n") else len(sent) + 2

    def admit(self, is_right: bool) -> None:
        if is_right:
            self.session.logged_in("welcome")
        else:
            self.session.err("not so", "AUTH")

    def authenticate(self, outcome: object) -> None:
        if isinstance(outcome, NeedKeys):
            assert self.exchange is not None
            outcome = self.exchange.keys(self.keys)
        match outcome:
            case Challenge(data):
                self.session.challenge(data)
            case Credentials(user, password):
                self.admit(self.users.get(user) == password)
            case _:
                self.admit(isinstance(outcome, Success))


def maildrop_house(*, tls: bool = True, **profile: object) -> MaildropHouse:
    """A house whose greeting is said already, over TLS unless told otherwise; what was said so far is forgotten."""
    made = MaildropHouse(ServerSession(Profile(**profile), tls=tls, timestamp=STAMP))
    made.run()
    made.output, made.events = b"", []
    return made


def opened(**profile: object) -> MaildropHouse:
    """A house where ann has logged in."""
    made = maildrop_house(**profile)
    made.say("USER ann", "PASS secret")
    made.output, made.events = b"", []
    return made
