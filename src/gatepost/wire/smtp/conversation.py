"""The manners every session keeps, whatever is talked about: one question at a time, replies in order, a bounded input.

Strategy: an open question is kept with the function its answer goes to; the session does nothing until that is called.
What a session *means* is in `server`: it gives the steps, one for each state, which look at the input and return an
event, NEED_DATA, or None for "look again".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from gatepost.model import Reply
from gatepost.wire.input import Input
from gatepost.wire.smtp import events as ev
from gatepost.wire.smtp import refusals as no
from gatepost.wire.smtp.events import NEED_DATA, Event, NeedData, Question
from gatepost.wire.smtp.profile import BareNewline, Profile
from gatepost.wire.smtp.replies import complete, encode
from gatepost.wire.smtp.states import State

SHOWN = 512  # octets of a refused line that are told
_CLOSED, _TLS = State.CLOSED, State.TLS  # a member looked up in its class costs as much as a call
_BLOB_LINE = 64 * 1024  # octets after which a line for a plugin is handed over unfinished


@dataclass(frozen=True, slots=True)
class _Unsaid:
    """A reply that `Replying` is to be asked about, with all that its encoding needs."""

    reply: Reply
    smtputf8: bool
    fixed: bool  # the peer acts on this very code: only the text may change
    bare: bool  # without an enhanced status


class Conversation(ABC):
    """Invariant: at most one question is open, and while it is, nothing moves; memory is bounded by what is received.

    A call out of turn raises RuntimeError: a bug in the driver, never the peer's doing.
    """

    __slots__ = ("_blob_lines", "_blob_octets", "_clean", "_ended", "_errors", "_input", "_output", "_question",
                 "_resume", "_settle", "_told", "_unsaid", "discarded", "profile", "smtputf8", "state")  # fmt: skip

    _steps: ClassVar[Mapping[State, Callable[[Any], Event | NeedData | None]]]
    """One look at the input, for each state; its outcome None means: look again."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.state = State.CONNECT
        self.smtputf8 = False  # replies may go beyond ASCII
        self.discarded = 0  # octets that came between STARTTLS and the handshake; somebody injected them
        self._input = Input()
        self._output = b""
        self._question: Question | None = None
        self._settle: Callable[[Reply], None] | None = None
        self._unsaid: tuple[_Unsaid, ...] = ()
        self._told: tuple[ev.Told, ...] = ()
        self._errors = 0
        self._clean = False
        self._ended = False
        self._resume = State.CONNECT  # where a plugin's conversation goes back to
        self._blob_lines: int | None = None
        self._blob_octets = 0

    def receive(self, data: bytes) -> None:
        """Octets from the peer; b"" is the end of them. Call it only when data is needed, or memory isn't bounded."""
        if data and self.state is _TLS:
            self.discarded += len(data)
        elif self.state is not _CLOSED:
            self._input.receive(data)

    def next_event(self) -> Event | NeedData:
        """What happens next. After a question: answer it first."""
        if self._settle is not None:
            raise RuntimeError(f"{self._question} is still open")
        while True:
            if self._unsaid:
                return self._ask(ev.Replying(self._unsaid[0].reply), self._replying_answered)
            if self._told:
                told, *rest = self._told
                self._told = tuple(rest)
                return told
            event = self._steps[self.state](self)
            if event is not None:
                return event

    def answer(self, reply: Reply) -> None:
        """Answer the open question."""
        settle = self._settle
        if settle is None:
            raise RuntimeError("no question is open")
        self._settle = None
        settle(reply)

    def proceed(self) -> None:
        """Answer Line: parse it. Answer Blob: the next piece, under the limits that are left; 451 if none are."""
        question = self._closed(ev.Line, ev.Blob)
        if isinstance(question, ev.Line):
            self._parse(question.line)
        elif isinstance(question, ev.Blob) and question.last:
            self._end_blob(no.OVERDRAWN)

    def converse(self, reply: Reply | None, *, lines: int | None, octets: int) -> None:
        """Answer Line or Blob: say a reply (or nothing), then the next octets are the plugin's.

        They come as Blobs: one for each of at most `lines` lines, or as they arrive without `lines`; `octets` in all.
        """
        if octets < 1 or (lines is not None and lines < 1):
            raise ValueError("a conversation needs at least one line and one octet")
        if isinstance(self._closed(ev.Line, ev.Blob), ev.Line):
            self._resume = self.state
        self.state = State.BLOB
        self._blob_lines, self._blob_octets = lines, octets
        if reply is not None:
            self._say(reply)

    def end(self) -> None:
        """Listen no more: the session closes when what was said has left."""
        self._close(clean=False)

    def charge(self) -> Reply | None:
        """One error of the client's more; what to say instead, if that was one too many."""
        self._errors += 1
        return no.TOO_MANY_ERRORS if self._errors > self.profile.errors else None

    def finish_blob(self) -> None:
        """Answer Blob: back to commands without a word."""
        self._closed(ev.Blob)
        self.state = self._resume

    def data_to_send(self) -> bytes:
        """Every octet that is due; they are forgotten here."""
        data, self._output = self._output, b""
        return data

    @property
    def wants_close(self) -> bool:
        """Whether to close once the output is flushed."""
        return self.state is _CLOSED and not self._unsaid

    @property
    def buffered(self) -> int:
        """Octets received and not used yet."""
        return len(self._input)

    @abstractmethod
    def _parse(self, line: bytes) -> None:
        """Take this line as the next command."""

    # What a session's meaning is made of

    def _ask(self, question: Question, settle: Callable[[Reply], None]) -> Question:
        self._question, self._settle = question, settle
        return question

    def _closed(self, *kinds: type[Question]) -> Question:
        """The open question, closed; RuntimeError if it is none of these kinds, and then it stays open."""
        if self._settle is None or not isinstance(self._question, kinds):
            raise RuntimeError("this isn't an answer to the open question")
        self._settle = None
        return self._question

    def _say(self, reply: Reply, positive: str = "2.0.0", *, bare: bool = False) -> None:
        """The reply leaves, with a status (`positive`, if it is a 2xx without one) unless it is to be `bare`."""
        if reply.code == 421:  # rfc5321#3.8
            self._close(clean=False)
        if bare:
            reply = Reply(reply.code, "", reply.text) if reply.status else reply
        elif not reply.status:
            reply = complete(reply, positive)
        if self.profile.ask_replies:
            fixed = 300 <= reply.code < 400 or self.state is State.TLS
            self._unsaid += (_Unsaid(reply, self.smtputf8, fixed, bare),)
        else:
            self._output += encode(reply, smtputf8=self.smtputf8)

    def _say_plainly(self, reply: Reply) -> None:
        self._say(reply, bare=True)

    def _unfix(self) -> None:
        """The reply that `Replying` asks about may be any."""
        if self._settle is None or not isinstance(self._question, ev.Replying):
            raise RuntimeError("no reply is asked about")
        first, *rest = self._unsaid
        self._unsaid = (replace(first, fixed=False), *rest)

    def _refuse(self, line: bytes, reply: Reply, *, counted: bool = True) -> ev.Refused:
        """Refuse a line without asking anybody."""
        if counted:
            self._errors += 1
            if self._errors > self.profile.errors:
                reply = no.TOO_MANY_ERRORS
        self._say(reply)
        return ev.Refused(line[:SHOWN], reply)

    def _turn_away(self, line: bytes, reply: Reply) -> ev.Refused:
        """Refuse, and don't listen any more."""
        self._say(reply)
        self._close(clean=False)
        return ev.Refused(line[:SHOWN], reply)

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

    def _line(self, limit: int, too_long: Reply) -> bytes | Event | NeedData:
        """The next line without its line end, if it is one."""
        raw = self._input.line(limit)
        if raw is None:
            return self._starved()
        if len(raw) > limit:
            return self._refuse(raw, too_long)
        if raw[-2:] == b"\r\n":
            return raw[:-2]
        if self.profile.bare_newline is BareNewline.NORMALISE:
            return raw[:-1]
        return self._refuse(raw[:-1], no.BARE_NEWLINE)

    def _replying_answered(self, final: Reply) -> None:
        unsaid, *rest = self._unsaid
        self._unsaid = tuple(rest)
        if final.code == 421:
            self._close(clean=False)
        elif unsaid.fixed:
            final = unsaid.reply.with_text(final.text)
        final = Reply(final.code, "", final.text) if unsaid.bare else complete(final)
        self._output += encode(final, smtputf8=unsaid.smtputf8)

    # A plugin's conversation

    def _read_blob(self) -> Event | NeedData | None:
        if self._blob_lines is None:
            data = self._input.octets(self._blob_octets)
        else:
            data = self._input.line_part(min(self._blob_octets, _BLOB_LINE))
            self._blob_lines -= data.endswith(b"\n")
        if not data:
            return self._starved()
        self._blob_octets -= len(data)
        return self._ask(ev.Blob(data, self._blob_octets == 0 or self._blob_lines == 0), self._end_blob)

    def _end_blob(self, reply: Reply) -> None:
        self.state = self._resume
        self._say(reply)
