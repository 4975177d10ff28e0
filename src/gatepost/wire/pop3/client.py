"""The client's side of POP3: one connection, no input or output of its own.

Strategy: every command said leaves behind what is waited for, and what the server says is read as the answer to the
first of them: a line, a listing, or a message. What nobody waits for, and what comes in the clear before TLS can have
begun, breaks the session. Where the server takes it (PIPELINING, RFC 2449 §6.6) commands go out ahead, a bounded
number. A listing is bounded in lines and octets, a line in octets; a message isn't: it goes through in pieces, and
whoever takes them says when it is too much.

The caller moves the octets: `receive()` what came, `next_event()` until NEED_DATA, write `data_to_send()`.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import deque
from collections.abc import Iterable
from typing import Final, Literal, TypeVar

from gatepost.wire.input import Input
from gatepost.wire.pop3.client_content import Incoming
from gatepost.wire.pop3.client_events import (
    NEED_DATA,
    NO_CAPABILITIES,
    Answered,
    Capabilities,
    Challenge,
    Closed,
    Complete,
    Event,
    Names,
    Needs,
    Piece,
    ProtocolError,
    Sizes,
)
from gatepost.wire.pop3.client_replies import (
    capabilities,
    challenge,
    name_entry,
    parse,
    shown,
    size_entry,
    timestamp,
    without_end,
)
from gatepost.wire.pop3.client_states import AFTER, CONTENTS, LEGAL, LISTINGS, Ask, State

MAX_COMMAND: Final = 255  # octets with CRLF, rfc2449#4
MAX_ANSWER: Final = 4096  # octets of a line; rfc2449#4 has 512
MAX_CHALLENGE: Final = 12_288  # octets of a challenge's line
MAX_ENTRIES: Final = 1_000_000  # of a listing
MAX_LISTING: Final = 96 * 1024 * 1024  # octets of a listing
MAX_PIPELINED: Final = 100  # commands under way at once, so that neither side's buffers fill up
_BATCH = 1000  # entries of one event
_LAST = frozenset({b".\r\n", b".\n"})
_UNASKED = "it speaks without being asked"

_Waiting = tuple[Ask, int]
_Entry = TypeVar("_Entry")


class Client:
    """One connection's client machine. Invariant: one Answered for each command, in their order, until the session is
    over; after Closed, ProtocolError and the answer to QUIT nothing is told or sent.

    What the caller may do when stands in `client_states.LEGAL`; anything else raises RuntimeError, and a text that
    can't be said in one line ValueError.
    """

    __slots__ = (
        "_content",
        "_entries",
        "_events",
        "_initial",
        "_input",
        "_lines",
        "_octets",
        "_out",
        "_queue",
        "_reading",
        "_waiting",
        "capabilities",
        "state",
        "timestamp",
    )

    def __init__(self) -> None:
        self.state = State.GREETING
        self.capabilities: Capabilities = NO_CAPABILITIES
        """What the server can do as far as CAPA told it; forgotten with TLS (RFC 2595 §4)."""
        self.timestamp = ""
        """What APOP can be said with; "" where the greeting had none. TLS leaves it: the server has no other."""
        self._input = Input()
        self._events: deque[Event] = deque()
        self._out: list[bytes] = []
        self._queue: deque[tuple[bytes, _Waiting]] = deque()  # not said yet
        self._waiting: deque[_Waiting] = deque([(Ask.GREETING, 0)])
        self._reading = False  # the first one's answer goes on after its line
        self._content: Incoming | None = None
        self._lines: list[bytes] = []
        self._entries = 0
        self._octets = 0
        self._initial: bytes | None = None  # waits for an empty challenge

    # Octets and events

    def receive(self, data: bytes) -> None:
        """Octets from the server, cut anywhere; b"" is the end of its stream."""
        self._input.receive(data)

    def next_event(self) -> Event | Literal[Needs.DATA]:
        """The next event, or NEED_DATA."""
        while not self._events:
            if self.state is State.CLOSED or not self._read():
                return NEED_DATA
        return self._events.popleft()

    def data_to_send(self) -> bytes:
        """What is to be written now; b"" if nothing is. To be asked after each event and each call."""
        if not self._out:
            return b""
        data = b"".join(self._out)
        self._out.clear()
        return data

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is due."""
        return bool(self._waiting)

    @property
    def buffered(self) -> int:
        """Octets received and not used yet."""
        return len(self._input)

    # What the caller does

    def capa(self) -> None:
        """What can the server do? Where it has no CAPA, the answer is negative."""
        self._say(Ask.CAPA)

    def start_tls(self) -> None:
        """STLS; after a positive answer the handshake, then `tls_started`."""
        self._say(Ask.STLS)

    def tls_started(self) -> None:
        """The handshake is done. What the server said of itself in the clear is forgotten."""
        self._check(Ask.HANDSHAKE)
        if len(self._input):
            self._break("octets in the clear after STLS")
            return
        self.capabilities = NO_CAPABILITIES
        self.state = State.AUTHORIZATION

    def user(self, name: str) -> None:
        """USER; after a positive answer `password` is due."""
        self._say(Ask.USER, name)

    def password(self, password: str) -> None:
        """PASS, which is said as it is."""
        self._say(Ask.PASS, password)

    def apop(self, name: str, password: str) -> None:
        """APOP; only where there is a `timestamp` (RuntimeError)."""
        self._check(Ask.APOP)
        if not self.timestamp:
            raise RuntimeError("the greeting had no timestamp")
        digest = hashlib.md5((self.timestamp + password).encode(), usedforsecurity=False).hexdigest()
        self._say(Ask.APOP, f"{name} {digest}")

    def auth(self, mechanism: str, initial: bytes | None = None) -> None:
        """AUTH; a Challenge may follow. `initial` is said with it if there is room, and the server known to be new
        enough to have told its mechanisms; else in answer to an empty challenge.
        """
        line = mechanism
        self._initial = initial
        if initial is not None and "SASL" in self.capabilities:
            written = b64encode(initial).decode() or "="  # rfc5034#4
            if len(f"AUTH {mechanism} {written}\r\n") <= MAX_COMMAND:
                line, self._initial = f"{mechanism} {written}", None
        self._say(Ask.AUTH, line)

    def respond(self, data: bytes) -> None:
        """Answer a Challenge."""
        self._check(Ask.RESPONSE)
        self._answer_challenge(b64encode(data))

    def cancel(self) -> None:
        """Answer a Challenge with the end of the exchange; the server's word on it is negative."""
        self._check(Ask.RESPONSE)
        self._answer_challenge(b"*")

    def stat(self) -> None:
        """STAT: how many messages, and octets, are in the text of the answer."""
        self._say(Ask.STAT)

    def sizes(self) -> None:
        """LIST: Sizes, then Complete, after a positive answer."""
        self._say(Ask.LIST)

    def names(self) -> None:
        """UIDL: Names, then Complete, after a positive answer."""
        self._say(Ask.UIDL)

    def top(self, number: int, lines: int = 0) -> None:
        """TOP: Pieces, then Complete, after a positive answer."""
        self._say(Ask.TOP, f"{number} {lines}", number)

    def retrieve(self, number: int) -> None:
        """RETR: Pieces, then Complete, after a positive answer."""
        self._say(Ask.RETR, str(number), number)

    def delete(self, number: int) -> None:
        """DELE: marks it. It is gone when QUIT has been answered positively."""
        self._say(Ask.DELE, str(number), number)

    def reset(self) -> None:
        """RSET: nothing is marked any more."""
        self._say(Ask.RSET)

    def noop(self) -> None:
        """NOOP."""
        self._say(Ask.NOOP)

    def quit(self) -> None:
        """QUIT, after everything said before."""
        self._say(Ask.QUIT)
        if self.state is not State.CLOSED:
            self.state = State.QUITTING

    # Saying

    def _check(self, ask: Ask) -> None:
        is_busy = self._waiting and self.state not in (State.TRANSACTION, State.SASL)
        if is_busy or ask not in LEGAL[self.state]:
            due = f", {self._waiting[0][0].value} being answered" if self._waiting else ""
            raise RuntimeError(f"{ask.name} isn't possible now ({self.state.value}{due})")

    def _say(self, ask: Ask, argument: str = "", number: int = 0) -> None:
        self._check(ask)
        if set(argument) & {"\r", "\n", "\0"}:
            raise ValueError("what is said to a server holds no CR, LF or NUL")
        line = f"{ask.value} {argument}".encode() if argument else ask.value.encode()
        if not self._waiting and len(self._input) and not self._read_unasked():
            self._break(_UNASKED)  # half a line: what follows would be taken for the answer
        if self.state is State.CLOSED:
            return
        self._queue.append((line + b"\r\n", (ask, number)))
        self._go_on()

    def _go_on(self) -> None:
        """Say what may be said by now."""
        most = MAX_PIPELINED if "PIPELINING" in self.capabilities else 1
        while self._queue and len(self._waiting) < most:
            line, waiting = self._queue.popleft()
            self._out.append(line)
            self._waiting.append(waiting)

    def _answer_challenge(self, written: bytes) -> None:
        self.state = State.AUTHORIZATION
        self._out.append(written + b"\r\n")

    # Hearing

    def _read(self) -> bool:
        """Go on with the input; false if more is needed."""
        if not self._waiting:
            return self._read_unasked()
        if self._content is not None:
            return self._read_content(self._content) or self._at_end()
        ask = self._waiting[0][0]
        if self._reading:
            return self._read_listing(ask) or self._at_end()
        limit = MAX_CHALLENGE if ask is Ask.AUTH else MAX_ANSWER
        line = self._input.line(limit)
        if line is None:
            return self._at_end()
        return self._break("a line without end") if len(line) > limit else self._hear(line, *self._waiting[0])

    def _at_end(self) -> bool:
        if self._input.ended:
            self._end(Closed())
        return self._input.ended

    def _hear(self, line: bytes, ask: Ask, number: int) -> bool:
        line, is_bare = without_end(line), not line.endswith(b"\r\n")
        reply = parse(line)
        if reply is None:
            if ask is Ask.AUTH and (data := challenge(line)) is not None:
                return self._hear_challenge(data)
            return self._break(f"not an answer: {shown(line[:40])!r}")
        if ask is Ask.STLS and reply.is_positive and len(self._input):
            return self._break("octets in the clear after STLS")  # meant to be taken for what was said under TLS
        if ask is Ask.GREETING and reply.is_positive:
            self.timestamp = timestamp(reply)
        self._initial = None
        self._events.append(Answered(ask, reply, number))
        if self.state is not State.QUITTING or ask is Ask.QUIT:
            self.state = AFTER.get((ask, reply.is_positive), self.state)
        self._reading = reply.is_positive and (ask in LISTINGS or ask in CONTENTS)
        if self._reading:
            self._entries = self._octets = 0
            self._lines = []
            self._content = Incoming(is_bare=is_bare) if ask in CONTENTS else None
        else:
            self._through()
        return True

    def _hear_challenge(self, data: bytes) -> bool:
        self.state = State.SASL
        if self._initial is not None and not data:
            initial, self._initial = self._initial, None
            self.respond(initial)
        else:
            self._events.append(Challenge(data))
        return True

    def _read_content(self, content: Incoming) -> bool:
        """The next piece of a message; false if more is needed."""
        data = self._input.everything()
        if not data:
            return False
        text, rest = content.feed(data)
        if text:
            self._events.append(Piece(text))
        if rest is not None:
            if rest:
                self._input.give_back(rest)
            self._content = None
            self._finish()
        return True

    def _read_listing(self, ask: Ask) -> bool:
        """The next lines of a listing, or its end; false if more is needed."""
        lines: list[bytes] = []
        is_whole, wrong = False, ""
        while len(lines) < _BATCH and (line := self._input.line(MAX_ANSWER)) is not None:
            self._octets += len(line)
            is_whole = line in _LAST
            if is_whole:
                break
            self._entries += 1
            if len(line) > MAX_ANSWER or self._octets > MAX_LISTING or self._entries > MAX_ENTRIES:
                wrong = "a listing without end"
                break
            lines.append(without_end(line).removeprefix(b"."))  # rfc1939#3
        wrong = self._list_lines(ask, lines) or wrong  # in the order in which they came
        if wrong:
            return self._break(f"in answer to {ask.value}: {wrong}")
        if is_whole:
            if ask is Ask.CAPA:
                self.capabilities, self._lines = capabilities(self._lines), []
            self._finish()
        return bool(lines) or is_whole

    def _list_lines(self, ask: Ask, lines: list[bytes]) -> str:
        """Tell what the lines of a listing say; "" or what is wrong with the first that isn't one."""
        if ask is Ask.CAPA:
            self._lines += lines
            return "a listing without end" if len(self._lines) > _BATCH else ""
        if ask is Ask.LIST:
            sizes = _until_none(map(size_entry, lines))
            event: Event = Sizes(sizes)
            good = len(sizes)
        else:
            names = _until_none(map(name_entry, lines))
            event, good = Names(names), len(names)
        if good:
            self._events.append(event)
        return "" if good == len(lines) else f"{shown(lines[good][:40])!r} is no entry"

    def _finish(self) -> None:
        self._events.append(Complete(*self._waiting[0]))
        self._through()

    def _through(self) -> None:
        """The first answer is whole."""
        self._reading = False
        self._waiting.popleft()
        if self.state is State.CLOSED:
            self._forget()
        else:
            self._go_on()

    # Ending

    def _read_unasked(self) -> bool:
        """What nobody waits for: a server that has had enough says so and goes (rfc1939#3); all else is a lie."""
        if self.state is State.HANDSHAKE and len(self._input):
            return self._break("octets in the clear after STLS")
        line = self._input.line(MAX_ANSWER)
        if line is None:
            return self._at_end()
        reply = parse(without_end(line))
        if reply is None or reply.is_positive:
            return self._break(_UNASKED)
        self._end(Closed(reply))
        return True

    def _break(self, text: str) -> bool:
        self._end(ProtocolError(text))
        return True

    def _end(self, event: Event) -> None:
        self._events.append(event)
        self.state = State.CLOSED
        self._forget()

    def _forget(self) -> None:
        self._input.discard()
        self._queue.clear()
        self._waiting.clear()
        self._out.clear()
        self._content = None
        self._initial = None


def _until_none(found: Iterable[_Entry | None]) -> tuple[_Entry, ...]:
    entries = []
    for entry in found:
        if entry is None:
            break
        entries.append(entry)
    return tuple(entries)
