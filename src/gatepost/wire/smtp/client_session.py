"""The client's session around its messages: greeting, hello, STARTTLS, AUTH, introduction, QUIT, and every way to end.

Strategy: each command sent leaves behind what its reply is to be; a reply that nothing waits for breaks the protocol.
What belongs to a message is left to `Client`, which is told when the session ends under it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Literal

from gatepost.model import Recipient, Reply
from gatepost.wire.smtp.client_asking import Asking
from gatepost.wire.smtp.client_auth import opening
from gatepost.wire.smtp.client_envelope import command, hello_of, introduction
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    NO_CAPABILITIES,
    Asks,
    Authenticated,
    AuthRefused,
    Capabilities,
    Closed,
    Credentials,
    Event,
    Greeting,
    Introduced,
    Introduction,
    Needs,
    Phase,
    Protocol,
    ProtocolError,
    Ready,
    State,
    TlsRefused,
    TlsWanted,
    Unwelcome,
)
from gatepost.wire.smtp.client_replies import Malformed, ReplyReader
from gatepost.wire.smtp.client_steps import Effect
from gatepost.wire.smtp.client_transaction import Asked, Command

_ALLOWED: dict[str, frozenset[State]] = {
    "start_tls": frozenset({State.IDLE}),
    "tls_started": frozenset({State.HANDSHAKE}),
    "authenticate": frozenset({State.IDLE}),
    "introduce": frozenset({State.IDLE}),
    "send": frozenset({State.IDLE}),
    "send_content": frozenset({State.CONTENT}),
    "end_content": frozenset({State.CONTENT}),
    "quit": frozenset({State.IDLE}),
}
"""What the caller may do in which state; anything else is a bug of the caller's and raises RuntimeError."""


class Session(Asking):
    """One connection without its messages. After CLOSED nothing is sent and nothing is told."""

    def __init__(self, helo: str, *, protocol: Protocol, asks: Asks) -> None:
        super().__init__(asks)
        self._hello_line = command(f"{'LHLO' if protocol is Protocol.LMTP else 'EHLO'} {helo}")
        self._helo_line = command(f"HELO {helo}")
        self.protocol = protocol
        """SMTP or LMTP."""
        self._reader = ReplyReader()
        self._waiting.append((b"", Asked.GREETING, -1))
        self._answers: deque[bytes] = deque()  # what follows in AUTH, or the rest of an introduction
        self._state = State.GREETING
        self._has_fallen_back = False
        self._has_ended = False
        self.capabilities = NO_CAPABILITIES
        """What the server offers now; empty before Ready and after HELO."""
        self.is_encrypted = False
        """Whether `tls_started()` was called; the caller of an implicit TLS connection knows better."""

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._state

    @property
    def phase(self) -> Phase:
        """What is waited for now; it says which timeout of RFC 5321 §4.5.3.2 runs."""
        if self._state is State.CONTENT:
            return Phase.CONTENT
        if self._state is State.HANDSHAKE:
            return Phase.TLS
        return self._waiting[0][1].phase if self._waiting else Phase.SENDER

    @property
    def is_idle(self) -> bool:
        """Whether a transaction may begin as far as the protocol goes."""
        return self._state is State.IDLE

    # Octets and events.

    def receive(self, data: bytes) -> None:
        """Octets from the server, cut anywhere; b"" is the end of its stream."""
        if data:
            self._reader.feed(data)
        else:
            self._has_ended = True

    def next_event(self) -> Event | Literal[Needs.DATA]:
        """The next event, or NEED_DATA. Raises RuntimeError while a question isn't answered."""
        if not self._events:
            self._drain_replies()
        return self._events.popleft() if self._events else NEED_DATA

    def data_to_send(self) -> bytes:
        """What is to be written now; b"" if nothing is. To be asked after each event and each call."""
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    # What the caller does.

    def start_tls(self) -> None:
        """Ask for TLS: TlsWanted or TlsRefused follows. Only where it is offered (RuntimeError)."""
        self._check("start_tls")
        if "STARTTLS" not in self.capabilities or self.is_encrypted:
            raise RuntimeError("the server doesn't offer STARTTLS")
        if self._hears_too_early():
            return
        self._state = State.STARTTLS
        self._issue((b"STARTTLS\r\n", Asked.STARTTLS, -1))

    def tls_started(self) -> None:
        """The handshake is done: what was known of the server is forgotten and EHLO said again (RFC 3207 §4.2)."""
        self._check("tls_started")
        if self._reader.has_input:
            self._break("octets in the clear after STARTTLS")
        else:
            self.is_encrypted = True
            self._say_hello()

    def authenticate(self, credentials: Credentials) -> bool:
        """AUTH by PLAIN or LOGIN: Authenticated or AuthRefused follows. False, and nothing done, if neither is offered.

        Raises ValueError for credentials with NUL, CR or LF. Whether the connection is private is the caller's concern.
        """
        self._check("authenticate")
        exchange = opening(credentials, self.capabilities.mechanisms)
        if exchange is None:
            return False
        if self._hears_too_early():
            return True
        line, answers = exchange
        self._answers = deque(answers)
        self._auth_line = f"{b' '.join(line.split()[:2]).decode()} …"
        self._state = State.AUTH
        self._issue((line, Asked.AUTH, -1))
        return True

    def introduce(self, attributes: Mapping[str, str], *, by: Introduction = Introduction.XFORWARD) -> bool:
        """Tell the server for whom we speak, as far as it wants to know: Introduced follows, and after an XCLIENT that
        was taken Ready anew. False, and nothing done, if it isn't offered or none of the attributes is.

        Names and values are those of Postfix's XFORWARD_README and XCLIENT_README; "" is said to be unavailable.
        """
        self._check("introduce")
        lines = introduction(attributes, by, self.capabilities)
        if not lines:
            return False
        if self._hears_too_early():
            return True
        self._answers = deque(lines)
        if by is Introduction.XCLIENT and (helo := hello_of(attributes)):  # the hello after it is the client's too
            self._hello_line = command(f"{self._hello_line[:4].decode()} {helo}")
        self._state = State.INTRODUCTION
        self._go_on_introducing()
        return True

    def quit(self) -> None:
        """Say goodbye; Closed follows, which need not be waited for."""
        self._check("quit")
        self._state = State.QUIT
        self._issue((b"QUIT\r\n", Asked.QUIT, -1))

    def abandon(self, reply: Reply) -> None:
        """The caller gives up (deadline, stream error): `reply` is the outcome of whoever has none; then Closed."""
        if self._state is not State.CLOSED:
            self._close(None, reply)

    # Replies.

    def _drain_replies(self) -> None:
        if self._question is not None:
            raise RuntimeError("a question isn't answered")
        while not self._events and self._state is not State.CLOSED:
            reply = self._reader.next_reply()
            if reply is None:
                if self._has_ended:
                    self._close(None, _LOST)
                return
            if isinstance(reply, Malformed):
                self._break(reply.text)
            elif self._waiting:
                self._judge(reply, self._waiting.popleft())
            elif reply.code == 421 and self._state is not State.QUIT:
                self._close(reply, reply)
            else:
                self._hear_unasked(reply)

    def _heed(self, reply: Reply, heard: Command) -> None:
        if not self._breaks_off(reply, heard):
            self._answer(reply, heard)
            self._go_on()

    def _breaks_off(self, reply: Reply, heard: Command) -> bool:
        asked = heard[1]
        if reply.code == 421 and self._state is not State.QUIT:  # rfc5321#3.8: at any time, then the end
            if self._state in (State.GREETING, State.HELLO):
                self._events.append(Unwelcome(reply, asked.phase))
            self._close(reply, reply, asked.phase)
            return True
        if 300 <= reply.code < 400 and asked not in _EXPECTS_3XX and not self._begins_each(reply, asked):
            self._break(f"a reply {reply.code} to {asked.phase.value}", asked.phase)
            return True
        return False

    def _begins_each(self, reply: Reply, asked: Asked) -> bool:
        """Whether the reply begins the answers to the content for each recipient."""
        return False

    def _answer(self, reply: Reply, heard: Command) -> None:
        """What a reply means, of what doesn't belong to a message."""
        match heard[1]:
            case Asked.GREETING:
                self._hear_greeting(reply)
            case Asked.HELLO:
                self._hear_hello(reply)
            case Asked.STARTTLS:
                self._hear_starttls(reply)
            case Asked.AUTH:
                self._hear_auth(reply)
            case Asked.INTRODUCTION:
                self._hear_introduction(reply, heard)
            case Asked.QUIT:
                self._close(reply, reply)
            case _:
                raise AssertionError(heard)

    def _hear_greeting(self, reply: Reply) -> None:
        if reply.code != 220:
            self._turn_away(reply, Phase.GREETING)
        else:
            self._events.append(Greeting(reply))
            self._say_hello()

    def _say_hello(self) -> None:
        self.capabilities = NO_CAPABILITIES
        self._has_fallen_back = False
        self._state = State.HELLO
        self._issue((self._hello_line, Asked.HELLO, -1))

    def _hear_hello(self, reply: Reply) -> None:
        if reply.is_positive:
            if not self._has_fallen_back:
                self.capabilities = Capabilities.of(reply)
            self._state = State.IDLE
            self._events.append(Ready(self.capabilities))
        elif reply.is_permanent and self.protocol is Protocol.SMTP and not self._has_fallen_back:
            self._has_fallen_back = True  # rfc5321#3.2
            self._issue((self._helo_line, Asked.HELLO, -1))
        else:
            self._turn_away(reply, Phase.HELLO)

    def _hear_starttls(self, reply: Reply) -> None:
        if not reply.is_positive:
            self._state = State.IDLE
            self._events.append(TlsRefused(reply))
        elif self._reader.has_input:  # answers forged before the handshake must not count after it
            self._break("octets in the clear after STARTTLS")
        else:
            self._state = State.HANDSHAKE
            self._events.append(TlsWanted())

    def _hear_auth(self, reply: Reply) -> None:
        if reply.code == 334 and self._answers:
            self._send_due((self._answers.popleft(), Asked.AUTH, -1))
        elif reply.code < 400 and reply.code != 235:
            self._break(f"a reply {reply.code} to AUTH")
        else:
            self._state = State.IDLE
            self._events.append(Authenticated(reply) if reply.is_positive else AuthRefused(reply))

    def _hear_introduction(self, reply: Reply, heard: Command) -> None:
        if reply.is_positive and self._answers:
            self._go_on_introducing()
            return
        self._answers.clear()
        self._events.append(Introduced(reply))
        if reply.is_positive and heard[0].startswith(b"XCLIENT"):
            self._say_hello()  # the server has forgotten everything, and greeted with that reply
        else:
            self._state = State.IDLE

    def _go_on_introducing(self) -> None:
        self._issue((self._answers.popleft(), Asked.INTRODUCTION, -1))

    def _hears_too_early(self) -> bool:
        """Whether the server has said something before it was asked, which ends the session: it isn't the answer to
        what is said next.
        """
        if not self._reader.has_input:
            return False
        self._drain_replies()
        if self._state is not State.CLOSED:
            self._break("octets that nobody asked for")
        return True

    def _hear_unasked(self, reply: Reply) -> None:
        self._break(f"a reply {reply.code} that nobody asked for")

    # Steps.

    def _may_repeat(self, reply: Reply, heard: Command) -> bool:
        if reply.code == 421:
            return False
        match heard[1]:
            case Asked.STARTTLS:
                return not reply.is_positive
            case Asked.INTRODUCTION:
                return not (reply.is_positive and heard[0].startswith(b"XCLIENT"))
            case Asked.DATA:
                return reply.code != 354
            case Asked.SENDER | Asked.RECIPIENT:  # two of either would be another envelope
                return not 200 <= reply.code < 300
            case _:
                return True

    def _pass_over(self, due: Command) -> None:
        if due[1] is Asked.INTRODUCTION:
            self._hear_introduction(_PASSED_OVER, (b"", Asked.INTRODUCTION, -1))

    def _refuse(self, reply: Reply, due: Command) -> None:
        match due[1]:
            case Asked.STARTTLS:
                self._state = State.IDLE
                self._events.append(TlsRefused(reply))
            case Asked.AUTH:
                self._state = State.IDLE
                self._events.append(AuthRefused(reply))
            case _:
                self._turn_away(reply, due[1].phase)

    def _overrule(self, given: Reply, reply: Reply, heard: Command) -> None:
        if self._breaks_off(reply, heard):
            return
        if heard[1] is Asked.STARTTLS and not reply.is_positive:
            self._hear_starttls(given)
        elif heard[1] is Asked.AUTH and not 300 <= reply.code < 400:
            self._hear_auth(given)
        else:
            self._part(given, reply, heard)

    def _end_session(self, reply: Reply, phase: Phase) -> None:
        if phase is Phase.QUIT:
            self._close(None, reply)
        else:
            self._turn_away(reply, phase)

    def _end_after(self, what: Effect, given: Reply, reply: Reply, heard: Command) -> None:
        if not self._breaks_off(reply, heard):
            self._part(given, reply, heard)

    def _part(self, given: Reply, reply: Reply, heard: Command) -> None:
        """Leave, politely unless the server awaits something else than a command."""
        if heard[1] in (Asked.STARTTLS, Asked.AUTH) and reply.code < 400 and reply.code != 235:
            self._events.append(Unwelcome(given, heard[1].phase))
            self._close(None, given)
        else:
            self._turn_away(given, heard[1].phase)

    def _recipient(self, at: int) -> Recipient | None:
        return None

    def _is_moot(self, due: Command) -> bool:
        return False

    def _note_unheeded(self, reply: Reply, heard: Command) -> None:
        return

    def _taint(self) -> None:
        return

    def _go_on(self) -> None:
        return

    # The end.

    def _check(self, action: str) -> None:
        if self._state not in _ALLOWED[action]:
            raise RuntimeError(f"{action}() in state {self._state.name}")
        if self._question is not None:
            raise RuntimeError(f"{action}() before a question is answered")

    def _turn_away(self, reply: Reply, phase: Phase) -> None:
        self._events.append(Unwelcome(reply, phase))
        self._state = State.QUIT
        self._issue((b"QUIT\r\n", Asked.QUIT, -1))  # rfc5321#3.1

    def _break(self, text: str, phase: Phase | None = None) -> None:
        outcome = Reply(451, "4.5.0", f"the next server broke the protocol: {text}")
        self._shut(outcome, phase or self.phase, is_ours=True)
        self._events.append(ProtocolError(text))

    def _close(self, said: Reply | None, outcome: Reply, phase: Phase | None = None) -> None:
        self._shut(outcome, phase or self.phase, is_ours=said is None)
        self._events.append(Closed(said))

    def _shut(self, outcome: Reply, phase: Phase, *, is_ours: bool) -> None:
        self._state = State.CLOSED
        if self._question is not None:
            if self._events and self._events[-1] is self._question:
                self._events.pop()
            self._question = None
        self._waiting.clear()
        self._out.clear()
        self._lose_message(outcome, phase, is_ours=is_ours)

    @abstractmethod
    def _lose_message(self, outcome: Reply, phase: Phase, *, is_ours: bool) -> None:
        """The session has ended under a message, if there is one."""


_EXPECTS_3XX = frozenset({Asked.AUTH, Asked.DATA, Asked.QUIT})
_LOST = Reply(451, "4.4.2", "the next server closed the connection")
_PASSED_OVER = Reply(250, "2.0.0", "passed over")
