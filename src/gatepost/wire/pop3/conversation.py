"""The manners every session keeps, whatever is talked about: one question at a time, replies in order, a bounded input.

Strategy: an open question is kept with the function its answer goes to and the shape its answer has; the session does
nothing until then. Content counts as a question that is still open until it ends. What a session *means* is in
`authorization` and `server`: they give the steps, one for each state, which look at the input and return an event,
NEED_DATA, or None for "look again".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar

from gatepost.wire.input import Input
from gatepost.wire.pop3 import events as ev
from gatepost.wire.pop3 import grammar
from gatepost.wire.pop3 import refusals as no
from gatepost.wire.pop3.content import Outgoing
from gatepost.wire.pop3.events import NEED_DATA, Event, NeedData, Question
from gatepost.wire.pop3.profile import Profile
from gatepost.wire.pop3.replies import Reply, encode, encode_lines
from gatepost.wire.pop3.states import State

SHOWN = 255  # octets of a refused line that are told


class Shape(Enum):
    """How a question is answered, unless by `err`."""

    LINE = "ok"
    LISTING = "listing"
    CONTENT = "content"
    LOGIN = "logged_in"


class Conversation:
    """Invariant: at most one question is open, and while it is, nothing moves; memory is bounded by what is received.

    A call out of turn, or of another shape than the question's, raises RuntimeError: a bug in the driver, never the
    peer's doing.
    """

    __slots__ = ("_clean", "_ended", "_errors", "_hides", "_input", "_outgoing", "_output", "_question", "_settle",
                 "_shape", "discarded", "language", "profile", "state", "utf8")  # fmt: skip

    _steps: ClassVar[Mapping[State, Callable[[Any], Event | NeedData | None]]]
    """One look at the input, for each state; its outcome None means: look again."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.state = State.CONNECT
        self.utf8 = False  # replies and content may go beyond ASCII
        self.language = profile.languages[0][0] if profile.languages else ""  # tag of the one texts should be in
        self.discarded = 0  # octets that came between STLS and the handshake; somebody injected them
        self._input = Input()
        self._output: list[bytes] = []
        self._question: Question | None = None
        self._settle: Callable[[Reply], None] | None = None
        self._shape = Shape.LINE
        self._outgoing: Outgoing | None = None
        self._errors = 0
        self._hides = False  # what comes now may be a secret, whatever it looks like
        self._clean = False
        self._ended = False

    def receive(self, data: bytes) -> None:
        """Octets from the peer; b"" is the end of them. Call it only when data is needed, or memory isn't bounded."""
        if data and self.state is State.TLS:
            self.discarded += len(data)
        elif self.state is not State.CLOSED:
            self._input.receive(data)

    def next_event(self) -> Event | NeedData:
        """What happens next. After a question: answer it first."""
        if self._question is not None or self._outgoing is not None:
            raise RuntimeError(f"{self._question or 'the content'} is still open")
        while True:
            event = self._steps[self.state](self)
            if event is not None:
                return event

    def ok(self, text: str = "") -> None:
        """Answer the open question with +OK."""
        self._answer(Reply(True, text), Shape.LINE)

    def err(self, text: str, code: str = "", *, closes: bool = False) -> None:
        """Answer the open question with -ERR; `code` as `Reply` has them. `closes`: the session is over."""
        self._answer(Reply(False, text, code), self._shape)
        if closes:
            self._close(clean=False)

    def listing(self, text: str, lines: Sequence[str]) -> None:
        """Answer List or Uidl without a number: +OK with this text, then these lines and the dot."""
        self._answer(Reply(True, text), Shape.LISTING)
        self._output.append(encode_lines(lines, utf8=self.utf8))

    def content(self, text: str = "") -> None:
        """Answer Retrieve or Top: +OK with this text; then `feed` the message and `end` it, or `close`."""
        question = self._question
        self._answer(Reply(True, text), Shape.CONTENT)
        self._outgoing = Outgoing(question.lines if isinstance(question, ev.Top) else None)

    def feed(self, data: bytes) -> bool:
        """The next octets of the message, their lines ended by LF or CRLF; send what is due before feeding more.

        Whether more is wanted: a TOP has enough at some place, and `end` should follow.
        """
        outgoing = self._streaming()
        if octets := outgoing.feed(data):
            self._output.append(octets)
        return outgoing.wants_more

    def end(self) -> None:
        """The message is complete."""
        self._output.append(self._streaming().end())
        self._outgoing = None

    def close(self) -> None:
        """Listen and say no more: content that can't be read to its end, an inactive client (rfc1939#3), the server's
        own end. An open question needs no answer; nothing is deleted. What was said already may still be sent."""
        self._question = self._settle = self._outgoing = None
        self._close(clean=False)

    def data_to_send(self) -> bytes:
        """Every octet that is due; they are forgotten here."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    @property
    def due(self) -> int:
        """Octets that are due."""
        return sum(map(len, self._output))

    @property
    def wants_close(self) -> bool:
        """Whether to close once the output is flushed."""
        return self.state is State.CLOSED

    @property
    def buffered(self) -> int:
        """Octets received and not used yet."""
        return len(self._input)

    # What a session's meaning is made of

    def _ask(
        self, question: Question, settle: Callable[[Reply], None] | None = None, shape: Shape = Shape.LINE
    ) -> Question:
        self._question, self._settle, self._shape = question, settle, shape
        return question

    def _answer(self, reply: Reply, shape: Shape) -> None:
        """The open question is closed, nothing of it is kept, and the reply said, after what it means was done."""
        if self._question is None:
            raise RuntimeError("no question is open")
        if self._shape is not shape:
            raise RuntimeError(f"{self._question} is answered by `{self._shape.value}`, not `{shape.value}`")
        settle, self._question, self._settle = self._settle, None, None
        if settle is None:
            self._say(reply)
        else:
            settle(reply)

    def _streaming(self) -> Outgoing:
        if self._outgoing is None:
            raise RuntimeError("no content is open")
        return self._outgoing

    def _say(self, reply: Reply) -> None:
        self._output.append(encode(reply, utf8=self.utf8, codes=self.profile.response_codes))

    def _refuse(self, line: bytes, reply: Reply) -> ev.Refused:
        """Refuse a line without asking anybody."""
        self._errors += 1
        if self._errors > self.profile.errors:
            return self._turn_away(line, no.TOO_MANY_ERRORS)
        self._say(reply)
        return ev.Refused(self._shown(line), reply)

    def _turn_away(self, line: bytes, reply: Reply) -> ev.Refused:
        """Refuse, and don't listen any more."""
        self._say(reply)
        self._close(clean=False)
        return ev.Refused(self._shown(line), reply)

    def _shown(self, line: bytes) -> bytes:
        return b"" if self._hides else grammar.shown(line, SHOWN)

    def _close(self, *, clean: bool) -> None:
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self._clean = clean
            self._input.discard()

    def _starved(self) -> Event | NeedData:
        """More input is needed, or there won't be any."""
        if not self._input.ended:
            return NEED_DATA
        self._close(clean=False)
        return self._end()

    def _end(self) -> Event | NeedData:
        """The step of a closed session."""
        if self._ended:
            return NEED_DATA
        self._ended = True
        return ev.Ended(self._clean)

    def _line(self, limit: int) -> bytes | Event | NeedData:
        """The next line without its line end, if it is one."""
        raw = self._input.line(limit)
        if raw is None:
            return self._starved()
        if len(raw) > limit:
            return self._refuse(raw, no.TOO_LONG)
        if raw[-2:] == b"\r\n":
            return raw[:-2]
        return raw[:-1] if self.profile.bare_newline else self._refuse(raw[:-1], no.BARE_NEWLINE)
