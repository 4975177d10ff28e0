"""The client's side of SMTP and LMTP: one connection, many messages, no input or output of its own.

Strategy: commands wait in a queue and go out as far as the server may have them at once: all of a transaction's
envelope with PIPELINING, else one at a time. Each command sent leaves behind what its reply is to be; a reply that
nothing waits for breaks the protocol. What the server says decides outcomes, one per recipient; a transaction ends with
exactly one `Outcomes`, and after it the machine is idle or closed. A transaction that came to nothing is forgotten with
RSET before the next.

The caller moves the octets: `receive()` what came, `next_event()` until NEED_DATA, write `data_to_send()`.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, assert_never

from gatepost.model import Reply
from gatepost.wire.smtp.client_auth import opening
from gatepost.wire.smtp.client_content import DotStuffing
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    NO_CAPABILITIES,
    Authenticated,
    AuthRefused,
    Capabilities,
    Closed,
    ContentWanted,
    Credentials,
    DataAnswered,
    Event,
    Greeting,
    Needs,
    Outcomes,
    Phase,
    Protocol,
    ProtocolError,
    Ready,
    RecipientAnswered,
    SenderAnswered,
    State,
    TlsRefused,
    TlsWanted,
    Transaction,
    Unwelcome,
)
from gatepost.wire.smtp.client_replies import Malformed, ReplyReader
from gatepost.wire.smtp.client_transaction import Asked, Command, OpenTransaction, command

MAX_PIPELINED = 100  # commands under way at once, so that neither side's buffers fill up; rfc2920#3.1


_ALLOWED: dict[str, frozenset[State]] = {
    "start_tls": frozenset({State.IDLE}),
    "tls_started": frozenset({State.HANDSHAKE}),
    "authenticate": frozenset({State.IDLE}),
    "send": frozenset({State.IDLE}),
    "send_content": frozenset({State.CONTENT}),
    "end_content": frozenset({State.CONTENT}),
    "quit": frozenset({State.IDLE}),
}
"""What the caller may do in which state; anything else is a bug of the caller's and raises RuntimeError."""


class Client:
    """One connection's client machine. Every transaction ends with one Outcomes that holds each recipient once."""

    def __init__(self, helo: str, *, protocol: Protocol = Protocol.SMTP) -> None:
        """`helo` is the name said in EHLO. Raises ValueError for a name that doesn't fit into one line."""
        self._hello_line = command(f"{'LHLO' if protocol is Protocol.LMTP else 'EHLO'} {helo}")
        self._helo_line = command(f"HELO {helo}")
        self._protocol = protocol
        self._reader = ReplyReader()
        self._events: deque[Event] = deque()
        self._out: list[bytes] = []
        self._waiting: deque[tuple[Asked, int]] = deque([(Asked.GREETING, -1)])
        self._queue: deque[Command] = deque()
        self._auth_answers: deque[bytes] = deque()
        self._state = State.GREETING
        self._has_fallen_back = False
        self._has_ended = False
        self._transaction: OpenTransaction | None = None
        self._must_reset = False
        self.capabilities = NO_CAPABILITIES
        """What the server offers now; empty before Ready and after HELO."""
        self.is_encrypted = False
        """Whether `tls_started()` was called; the caller of an implicit TLS connection knows better."""
        self.transactions = 0
        """Transactions begun on this connection."""

    # What the caller asks.

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
        return self._waiting[0][0].phase if self._waiting else Phase.SENDER

    @property
    def is_idle(self) -> bool:
        """Whether a transaction may begin as far as the protocol goes."""
        return self._state is State.IDLE

    @property
    def can_reuse(self) -> bool:
        """Whether another transaction may begin on this connection, the server's MAILMAX included."""
        limit = self.capabilities.transactions_max
        return self.is_idle and (limit is None or self.transactions < limit)

    @property
    def wants_content(self) -> bool:
        """Whether content may be fed now. It ends early when the server has refused a chunk or hung up."""
        return self._state is State.CONTENT

    # Octets and events.

    def receive(self, data: bytes) -> None:
        """Octets from the server, cut anywhere; b"" is the end of its stream."""
        if data:
            self._reader.feed(data)
        else:
            self._has_ended = True

    def next_event(self) -> Event | Literal[Needs.DATA]:
        """The next event, or NEED_DATA."""
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
        self._state = State.STARTTLS
        self._post(b"STARTTLS\r\n", Asked.STARTTLS)

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
        line, answers = exchange
        self._auth_answers = deque(answers)
        self._state = State.AUTH
        self._post(line, Asked.AUTH)
        return True

    def send(self, transaction: Transaction) -> None:
        """Begin a transaction. Raises ValueError for an envelope that can't be written as command lines, or is empty.

        What the server's capabilities exclude is settled at once: too large (5.3.4), SMTPUTF8 needed (5.6.7),
        BINARYMIME needed (5.6.3). 8-bit content goes as it is to a server without 8BITMIME, without saying so.
        A probe ends without content; it is taken back with RSET when something follows it.
        More recipients than RCPTMAX are a ValueError: the caller divides them.
        """
        self._check("send")
        if not transaction.recipients:
            raise ValueError("a transaction without recipients")
        limit = self.capabilities.recipients_max
        if limit is not None and len(transaction.recipients) > limit:
            raise ValueError(f"the server takes at most {limit} recipients at once")
        opened = OpenTransaction(transaction, self.capabilities)  # raises before anything has changed
        self.transactions += 1
        self._transaction = opened
        self._state = State.TRANSACTION
        if opened.lines:
            if self._must_reset:
                self._queue.append((b"RSET\r\n", Asked.RESET, -1))
                self._must_reset = False
            self._queue.extend(opened.lines)
        self._go_on()

    def send_content(self, chunk: bytes) -> None:
        """The next octets of the content, CRLF line ends, cut anywhere; only while `wants_content` (RuntimeError).

        Raises StrayLineEnd (a ValueError) for a bare CR or LF: nothing of the chunk is sent, and the connection must be
        dropped, since there is no other way to take back what went before.
        """
        self._check("send_content")
        content = self._current.content
        if isinstance(content, DotStuffing):
            self._out.append(content.stuff(chunk))
        elif (block := content.put(chunk)) is not None:
            self._out.append(block)
            self._waiting.append((Asked.CHUNK, -1))

    def end_content(self) -> None:
        """The content is complete; the server's word on it follows. Raises as `send_content` does."""
        self._check("end_content")
        opened = self._current
        self._out.append(opened.content.end())
        self._state = State.END_OF_DATA
        if self._protocol is Protocol.LMTP:  # rfc2033#4.2: one reply for each recipient accepted
            self._waiting.extend((Asked.END, at) for at in opened.accepted)
        else:
            self._waiting.append((Asked.END, -1))

    def quit(self) -> None:
        """Say goodbye; Closed follows, which need not be waited for."""
        self._check("quit")
        self._state = State.QUIT
        self._post(b"QUIT\r\n", Asked.QUIT)

    def abandon(self, reply: Reply) -> None:
        """The caller gives up (deadline, stream error): `reply` is the outcome of whoever has none; then Closed."""
        if self._state is not State.CLOSED:
            self._close(None, reply)

    # Replies.

    def _drain_replies(self) -> None:
        while not self._events and self._state is not State.CLOSED:
            reply = self._reader.next_reply()
            if reply is None:
                if self._has_ended:
                    self._close(None, _LOST)
                return
            if isinstance(reply, Malformed):
                self._break(reply.text)
            elif reply.code == 421 and self._state is not State.QUIT:  # rfc5321#3.8: at any time, then the end
                if self._state in (State.GREETING, State.HELLO):
                    self._events.append(Unwelcome(reply, self.phase))
                self._close(reply, reply)
            elif not self._waiting:
                self._hear_unasked(reply)
            else:
                self._hear(reply, *self._waiting.popleft())

    def _hear(self, reply: Reply, asked: Asked, at: int) -> None:
        if 300 <= reply.code < 400 and asked not in _EXPECTS_3XX:
            self._break(f"a reply {reply.code} to {asked.phase.value}", asked.phase)
            return
        match asked:
            case Asked.GREETING:
                self._hear_greeting(reply)
            case Asked.HELLO:
                self._hear_hello(reply)
            case Asked.STARTTLS:
                self._hear_starttls(reply)
            case Asked.AUTH:
                self._hear_auth(reply)
            case Asked.QUIT:
                self._close(reply, reply)
            case Asked.RESET:
                if not reply.is_positive:
                    self._break(f"a reply {reply.code} to RSET")
            case Asked.SENDER:
                self._events.append(SenderAnswered(reply))
                self._current.answer_sender(reply)
                if not reply.is_positive:
                    self._queue.clear()
            case Asked.RECIPIENT:
                self._events.append(RecipientAnswered(self._current.recipient(at), reply))
                self._current.answer_recipient(at, reply)
            case Asked.DATA:
                self._hear_data(reply)
            case Asked.CHUNK:
                if not reply.is_positive:
                    self._stop_content(reply)
            case Asked.END:
                self._hear_end(reply, at)
            case Asked.NOTHING:
                pass
            case _:
                assert_never(asked)
        self._go_on()

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
        self._post(self._hello_line, Asked.HELLO)

    def _hear_hello(self, reply: Reply) -> None:
        if reply.is_positive:
            if not self._has_fallen_back:
                self.capabilities = Capabilities.of(reply)
            self._state = State.IDLE
            self._events.append(Ready(self.capabilities))
        elif reply.is_permanent and self._protocol is Protocol.SMTP and not self._has_fallen_back:
            self._has_fallen_back = True  # rfc5321#3.2
            self._post(self._helo_line, Asked.HELLO)
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
        if reply.code == 334 and self._auth_answers:
            self._post(self._auth_answers.popleft(), Asked.AUTH)
        elif reply.code < 400 and reply.code != 235:
            self._break(f"a reply {reply.code} to AUTH")
        else:
            self._state = State.IDLE
            self._events.append(Authenticated(reply) if reply.is_positive else AuthRefused(reply))

    def _hear_data(self, reply: Reply) -> None:
        opened = self._current
        self._events.append(DataAnswered(reply))
        if not reply.is_positive:
            opened.settle(reply, Phase.DATA)
        elif reply.code != 354:
            self._break(f"a reply {reply.code} to DATA", Phase.DATA)
        elif not opened.accepted:  # rfc2920#3.1: content for nobody
            self._post(b".\r\n", Asked.NOTHING)
        elif not opened.has_sender:  # somebody would get an empty message
            self._break("a refused sender, and 354 all the same")
        else:
            self._state = State.CONTENT
            self._events.append(ContentWanted())

    def _hear_end(self, reply: Reply, at: int) -> None:
        if at < 0:
            self._current.settle(reply, Phase.END_OF_DATA)
        else:
            self._current.settle_one(at, reply, Phase.END_OF_DATA)

    def _hear_unasked(self, reply: Reply) -> None:
        if self._state is State.CONTENT and not reply.is_positive:
            self._close(reply, reply)  # refused while it was sent; there is no way to end the content but hanging up
        else:
            self._break(f"a reply {reply.code} that nobody asked for")

    def _stop_content(self, reply: Reply) -> None:
        """A chunk was refused: what is under way is waited for, nothing more is sent."""
        self._current.settle(reply, Phase.CONTENT)
        if self._state is State.END_OF_DATA and self._protocol is Protocol.LMTP:
            self._close(reply, reply)  # how many replies follow the last chunk isn't said anywhere
            return
        self._must_reset = True
        if self._state is State.CONTENT:
            self._state = State.TRANSACTION

    # What follows.

    def _go_on(self) -> None:
        """Send what may be sent; end a transaction that is through."""
        opened = self._transaction
        if opened is None:
            return
        room = MAX_PIPELINED if "PIPELINING" in self.capabilities else 1
        while self._queue and len(self._waiting) < room:
            line, asked, at = self._queue[0]
            if asked is Asked.DATA and (opened.waits_for_all or not self._waiting) and not opened.has_takers:
                if not self._waiting:
                    self._queue.clear()
                break
            self._queue.popleft()
            self._out.append(line)
            self._waiting.append((asked, at))
        if not self._waiting and self._state in (State.TRANSACTION, State.END_OF_DATA):
            if opened.has_takers and not opened.is_settled and not opened.uses_data:
                self._state = State.CONTENT
                self._events.append(ContentWanted())
            else:
                self._finish(opened)

    def _finish(self, opened: OpenTransaction) -> None:
        if self._state is State.TRANSACTION and opened.sender_reply is not None:
            self._must_reset = True
        self._state = State.IDLE
        self._transaction = None
        self._events.append(Outcomes(opened.outcomes))

    @property
    def _current(self) -> OpenTransaction:
        assert self._transaction is not None
        return self._transaction

    def _check(self, action: str) -> None:
        if self._state not in _ALLOWED[action]:
            raise RuntimeError(f"{action}() in state {self._state.name}")

    def _post(self, line: bytes, asked: Asked) -> None:
        self._out.append(line)
        self._waiting.append((asked, -1))

    def _turn_away(self, reply: Reply, phase: Phase) -> None:
        self._events.append(Unwelcome(reply, phase))
        self._state = State.QUIT
        self._post(b"QUIT\r\n", Asked.QUIT)  # rfc5321#3.1

    def _break(self, text: str, phase: Phase | None = None) -> None:
        outcome = Reply(451, "4.5.0", f"the next server broke the protocol: {text}")
        self._shut(outcome, phase or self.phase, is_ours=True)
        self._events.append(ProtocolError(text))

    def _close(self, said: Reply | None, outcome: Reply) -> None:
        self._shut(outcome, self.phase, is_ours=said is None)
        self._events.append(Closed(said))

    def _shut(self, outcome: Reply, phase: Phase, *, is_ours: bool) -> None:
        opened, self._transaction = self._transaction, None
        self._state = State.CLOSED
        self._waiting.clear()
        self._queue.clear()
        self._out.clear()
        if opened is not None:
            opened.settle(outcome, phase, is_ours=is_ours)
            self._events.append(Outcomes(opened.outcomes))


_EXPECTS_3XX = frozenset({Asked.AUTH, Asked.DATA, Asked.QUIT})
_LOST = Reply(451, "4.4.2", "the next server closed the connection")
