"""Who is talking, and how safely: greeting, EHLO, STARTTLS and AUTH, before and between transactions.

Strategy: three facts about the client (`tls`, `extended`, `is_authenticated`) and the questions that change them.
STARTTLS forgets what was said before it, and discards what came with it.
"""

from __future__ import annotations

from abc import abstractmethod
from base64 import b64encode
from collections.abc import Sequence

from gatepost.model import Reply
from gatepost.wire.smtp import events as ev
from gatepost.wire.smtp import grammar, naming, offers
from gatepost.wire.smtp import refusals as no
from gatepost.wire.smtp.conversation import SHOWN, Conversation
from gatepost.wire.smtp.events import Event, NeedData
from gatepost.wire.smtp.profile import AUTH_LINE, Profile
from gatepost.wire.smtp.states import State, Verb


class Introduction(Conversation):
    """Invariant: `is_authenticated` and `extended` were earned under the present `tls`, never before STARTTLS."""

    __slots__ = ("_auth_failures", "extended", "is_authenticated", "tls")

    def __init__(self, profile: Profile, *, tls: bool = False) -> None:
        super().__init__(profile)
        self.tls = tls
        self.extended = False  # EHLO or LHLO was accepted
        self.is_authenticated = False
        self._auth_failures = 0

    def capabilities(self) -> list[str]:
        """The EHLO capability lines of this moment, for `answer_hello`."""
        return offers.capabilities(self.profile, tls=self.tls, authenticated=self.is_authenticated)

    def answer_hello(self, reply: Reply, capabilities: Sequence[str]) -> None:
        """Answer Hello with other capability lines than the machine's own."""
        self._closed(ev.Hello)
        self._greet(reply, capabilities)

    def challenge(self, data: bytes) -> None:
        """Answer Auth or AuthResponse: one more challenge for the client, not yet encoded."""
        self._closed(ev.Auth, ev.AuthResponse)
        self.state = State.AUTH
        self._say(Reply(334, "", b64encode(data).decode("ascii")))

    def authenticated(self) -> None:
        """The client is known: by AUTH (an answer of 235 does the same), or otherwise."""
        self.is_authenticated = True

    def tls_started(self) -> None:
        """The handshake is through: everything said before is forgotten (rfc3207#4.2), only the counts are kept."""
        if self.state is not State.TLS:
            raise RuntimeError("no handshake is due")
        self.tls, self.extended, self.is_authenticated = True, False, False
        self.state = State.START

    @abstractmethod
    def _end_transaction(self) -> None:
        """There is no transaction any more."""

    # Steps

    def _connect(self) -> Event:
        return self._ask(ev.Connect(), self._connect_answered)

    def _read_response(self) -> Event | NeedData | None:
        line = self._line(AUTH_LINE, no.AUTH_TOO_LONG)
        if isinstance(line, ev.Refused):
            self._auth_failed()
            return ev.Refused(b"", line.reply)
        if not isinstance(line, bytes):
            return line
        if self._input:
            return self._turn_away(b"", no.NOT_SYNCHRONISED)
        data = no.CANCELLED if line == b"*" else grammar.base64(line)
        if isinstance(data, Reply):
            self._auth_failed()
            return self._refuse(b"", data)
        return self._ask(ev.AuthResponse(data), self._auth_answered)

    # Commands: what each asks, or why it is refused after all

    def _guard(self, verb: Verb) -> Reply | None:
        return offers.guard(
            self.profile, verb, extended=self.extended, tls=self.tls, authenticated=self.is_authenticated
        )

    def _hello(self, verb: Verb, _: str, argument: str) -> Event | Reply:
        name = grammar.hello(argument)
        return name if isinstance(name, Reply) else self._ask(ev.Hello(name, verb), self._hello_answered)

    def _start_tls(self, verb: Verb, _: str, argument: str) -> Event | Reply:
        if argument:
            return no.NO_ARGUMENT  # rfc3207#4
        return self._guard(verb) or self._ask(ev.StartTls(), self._start_tls_answered)

    def _auth(self, verb: Verb, _: str, argument: str) -> Event | Reply:
        if refusal := self._guard(verb):
            return refusal
        if self._auth_failures >= self.profile.auth_attempts:
            return no.TOO_MANY_FAILURES
        if self._input:
            return self._turn_away(b"AUTH", no.NOT_SYNCHRONISED)
        mechanism, _, written = argument.partition(" ")
        if not mechanism:
            return no.AUTH_FORM
        mechanism = mechanism.upper()
        if mechanism not in self.profile.auth:
            return no.NO_MECHANISM
        initial = grammar.base64(written.encode()) if written else None
        if isinstance(initial, Reply):
            self._auth_failed()
            return initial
        return self._ask(ev.Auth(mechanism, initial), self._auth_answered)

    def _client(self, verb: Verb, _: str, argument: str) -> Event | Reply:
        if refusal := self._guard(verb):
            return refusal
        attributes = naming.client(argument)
        if isinstance(attributes, Reply):
            return attributes
        return self._ask(ev.Client(attributes), self._client_answered)

    def _forwarded(self, verb: Verb, _: str, argument: str) -> Event | Reply:
        if refusal := self._guard(verb):
            return refusal
        attributes = naming.forwarded(argument)
        return attributes if isinstance(attributes, Reply) else self._ask(ev.Forwarded(attributes), self._say)

    # Answers

    def _connect_answered(self, reply: Reply) -> None:
        if not reply.is_positive:
            self.state = State.REFUSED
            self._say(reply, bare=True)
        elif self._input:
            self._told += (self._turn_away(self._input.peek(SHOWN), no.EARLY_TALKER),)
        else:
            self.state = State.START
            self._say(Reply(220, "", self._named(reply.text)), bare=True)  # rfc2034#4: no status here

    def _hello_answered(self, reply: Reply) -> None:
        self._greet(reply, self.capabilities())

    def _greet(self, reply: Reply, capabilities: Sequence[str]) -> None:
        hello = self._question
        assert isinstance(hello, ev.Hello)
        if reply.code < 300:
            self._end_transaction()  # rfc5321#4.1.4
            self.state = State.READY
            self.extended = hello.verb is not Verb.HELO
            text = self._named(reply.lines[0])
            reply = Reply(250, "", "\n".join((text, *capabilities)) if self.extended else text)
        self._question = None  # whose name would be kept for as long as the client is idle
        self._say(reply, bare=True)

    def _named(self, text: str) -> str:
        """The text with our name before it (rfc5321#4.3.1)."""
        name = self.profile.hostname
        return text if text.partition(" ")[0] == name else f"{name} {text}".rstrip()

    def _client_answered(self, reply: Reply) -> None:
        if reply.code >= 300:
            self._say(reply)
            return
        self.extended = self.is_authenticated = False
        self._errors = self._auth_failures = 0  # they were another client's
        self.state = State.CONNECT  # whose answer is what is said

    def _start_tls_answered(self, reply: Reply) -> None:
        if reply.is_positive:
            self.discarded += self._input.discard()  # before the 220 is written: it can't have been meant for TLS
            self._end_transaction()
            self.state = State.TLS
            reply = Reply(220, reply.status, reply.text)
        self._say(reply)

    def _auth_answered(self, reply: Reply) -> None:
        if reply.code < 300:
            self.state = State.READY
            self.is_authenticated = True
            reply = Reply(235, reply.status, reply.text)
        else:
            self._auth_failed()
        self._say(reply)

    def _auth_failed(self) -> None:
        self._auth_failures += 1
        if self.state is State.AUTH:
            self.state = State.READY
