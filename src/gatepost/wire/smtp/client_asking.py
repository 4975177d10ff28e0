"""Where the client machine stands still and asks: before a command leaves, and before a reply counts.

Strategy: every command passes `_issue`, every reply `_judge`. Where nobody asks they do what they are called for at
once; else they raise a question, and `go()` looks its answer up in the table of `client_steps`. What the effects mean
for the session is the machine's own business (`Client`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import assert_never

from gatepost.model import Recipient, Reply
from gatepost.wire.smtp.client_envelope import command
from gatepost.wire.smtp.client_events import (
    LEFT_OUT,
    AskAgain,
    Asks,
    CommandDue,
    EndSession,
    Event,
    GiveUp,
    Go,
    Phase,
    Question,
    ReplyHeard,
    SendOctets,
    Step,
)
from gatepost.wire.smtp.client_steps import MAX_AGAIN, Effect, effect
from gatepost.wire.smtp.client_transaction import Asked, Command

_UNASKED = frozenset({Asked.NOTHING})


class Asking(ABC):
    """Questions of one session. While one is open nothing is sent and no reply is read."""

    def __init__(self, asks: Asks) -> None:
        self._asks_replies = asks.replies
        self._may_pipeline = asks.may_pipeline or not (asks.commands or asks.replies)
        wanted = asks.commands | {Phase.CONTENT} if Phase.DATA in asks.commands else asks.commands
        self._shown = frozenset(asked for asked in Asked if asked.question in wanted and asked is not Asked.GREETING)
        self._question: Question | None = None
        self._held: Command = (b"", Asked.NOTHING, -1)  # what the question is about
        self._reply = LEFT_OUT  # what was heard, where it is about a reply
        self._again = 0  # how often the present command has gone once more
        self._twice: Command | None = None  # the command under way that is due again after its reply
        self._behind: Command = self._held  # what is due again after the extra line under way
        self._is_barred = False  # nothing may follow what is under way, before its reply
        self._auth_line = ""
        self._events: deque[Event] = deque()
        self._out: list[bytes] = []
        self._waiting: deque[Command] = deque()

    @property
    def is_asking(self) -> bool:
        """Whether a question has been told and isn't answered."""
        return self._question is not None and not self._events

    def go(self, step: Step) -> None:
        """The answer to the question the last event was.

        Raises RuntimeError where none is open, and ValueError, the question still open, for a step that means nothing
        there (`client_steps.complaint` says so beforehand).
        """
        question = self._question
        if question is None:
            raise RuntimeError("go() without a question")
        what = effect(question, step)
        self._question = None
        if isinstance(question, CommandDue):
            self._go_with(what, step, question)
        else:
            self._go_after(what, step)

    def _issue(self, due: Command) -> None:
        """Send a command, or ask about it first."""
        if self._shown and due[1] in self._shown:
            self._held = due
            self._question = CommandDue(due[1].question, self._line(due), self._recipient(due[2]))
            self._events.append(self._question)
        else:
            self._out.append(due[0])
            self._waiting.append(due)

    def _judge(self, reply: Reply, heard: Command) -> None:
        """Let a reply count, or ask about it first."""
        if self._asks_replies and heard[1] not in _UNASKED:
            self._held, self._reply = heard, reply
            line, is_pipelined = self._line(heard), bool(self._waiting)
            self._question = ReplyHeard(heard[1].question, line, self._recipient(heard[2]), reply, is_pipelined)
            self._events.append(self._question)
        elif heard[1] is Asked.EXTRA:
            self._go_back(reply, heard)
        elif self._twice is heard:
            self._repeat(reply, heard)
        else:
            if self._is_barred and not self._waiting:
                self._is_barred = False
                self._again = 0
            self._heed(reply, heard)

    def _go_with(self, what: Effect, step: Step, question: CommandDue) -> None:
        due = self._held
        match what:
            case Effect.SEND:
                self._send_due(due)
            case Effect.SEND_TWICE:
                if self._again < MAX_AGAIN:
                    self._twice = due
                self._is_barred = True
                self._send_due(due)
            case Effect.SEND_FIRST:
                if self._again < MAX_AGAIN:
                    self._say_first(step, due)
                else:
                    self._send_due(due)
            case Effect.SEND_OTHER if isinstance(step, SendOctets):
                self._taint()
                self._is_barred = True
                self._out.append(step.data)
                self._waiting.append((step.data, due[1], due[2]) if _is_line(step.data) else due)
            case Effect.SEND_OTHER:
                assert isinstance(step, Go)
                assert step.line is not None
                self._taint()
                self._send_due((command(step.line), due[1], due[2]))
            case Effect.SKIP:
                self._pass_over(due)
            case Effect.REFUSE:
                self._refuse(step.reply if isinstance(step, GiveUp) else LEFT_OUT, due)
            case Effect.REST_LEFT_OUT:
                self._leave_rest_out(due)
            case Effect.MESSAGE_LEFT_OUT:
                self._end_message(LEFT_OUT, question.phase)
            case Effect.FINISH:
                self._end_session(step.reply if isinstance(step, EndSession) else LEFT_OUT, question.phase)
            case Effect.HEED | Effect.REPEAT | Effect.REPEAT_AFTER | Effect.ANSWER | Effect.OVERRULE:
                raise AssertionError(what)
            case _:
                assert_never(what)
        if not self._waiting:  # nothing was sent that others would have to wait for
            self._again = 0
            self._is_barred = False
        self._go_on()

    def _go_after(self, what: Effect, step: Step) -> None:
        reply, heard = self._reply, self._held
        if heard[1] is Asked.EXTRA:
            self._go_after_extra(what, step, reply, heard)
            return
        can_go_back = not self._waiting and self._again < MAX_AGAIN and self._may_repeat(reply, heard)
        if what is Effect.REPEAT and can_go_back:
            self._repeat(reply, heard)
        elif what is Effect.REPEAT_AFTER and can_go_back:
            self._note_unheeded(reply, heard)
            self._say_first(step, heard)
        elif what is Effect.ANSWER and can_go_back:
            assert isinstance(step, SendOctets)
            self._again += 1
            self._note_unheeded(reply, heard)
            self._taint()
            self._is_barred = True
            self._out.append(step.data)
            self._waiting.append(heard)
        elif what is Effect.HEED and self._twice is heard:
            self._repeat(reply, heard)
        else:
            if not self._waiting:
                self._again = 0
                self._is_barred = False
                self._twice = None
            match what:
                case Effect.OVERRULE:
                    assert isinstance(step, GiveUp)
                    self._overrule(step.reply, reply, heard)
                case Effect.REST_LEFT_OUT | Effect.MESSAGE_LEFT_OUT | Effect.FINISH:
                    self._end_after(what, step.reply if isinstance(step, EndSession) else LEFT_OUT, reply, heard)
                case _:
                    self._heed(reply, heard)

    def _go_after_extra(self, what: Effect, step: Step, reply: Reply, heard: Command) -> None:
        """The command behind the line is due again, or has become of it what is said."""
        due = self._behind
        if what is Effect.HEED:
            self._go_back(reply, heard)
            return
        self._again = 0
        self._is_barred = False
        if self._breaks_off(reply, heard):
            return
        if isinstance(step, GiveUp) and due[1] is not Asked.QUIT:
            self._refuse(step.reply, due)
        else:
            self._end_session(step.reply if isinstance(step, EndSession) else LEFT_OUT, due[1].question)
        self._go_on()

    def _go_back(self, reply: Reply, heard: Command) -> None:
        """After an extra line: what it was said before is due again, unless nothing would come of it any more."""
        due = self._behind
        if self._breaks_off(reply, heard):
            return
        if self._is_moot(due):
            self._again = 0
            self._is_barred = False
            self._go_on()
        else:
            self._issue(due)

    def _say_first(self, step: Step, due: Command) -> None:
        assert isinstance(step, AskAgain)
        assert step.line is not None
        self._twice = None
        self._again += 1
        self._taint()
        self._is_barred = True
        self._behind = due
        self._out.append(line := command(step.line))
        self._waiting.append((line, Asked.EXTRA, due[2]))

    def _send_due(self, due: Command) -> None:
        self._out.append(due[0])
        self._waiting.append(due)

    def _repeat(self, reply: Reply, heard: Command) -> None:
        """The command once more, shown again where commands are."""
        self._twice = None
        if not self._may_repeat(reply, heard):
            self._again = 0
            self._is_barred = False
            self._heed(reply, heard)
            return
        self._again += 1  # at most MAX_AGAIN: neither question brings it here beyond that
        self._note_unheeded(reply, heard)
        self._is_barred = True
        self._issue(heard)

    def _line(self, asked: Command) -> str:
        if asked[1] is Asked.AUTH:
            return self._auth_line
        return asked[0].decode().removesuffix("\r\n")

    # What the machine makes of it.

    @abstractmethod
    def _recipient(self, at: int) -> Recipient | None: ...

    @abstractmethod
    def _heed(self, reply: Reply, heard: Command) -> None:
        """The reply counts."""

    @abstractmethod
    def _breaks_off(self, reply: Reply, heard: Command) -> bool:
        """Whether the session ended because of the reply, whatever it was about."""

    @abstractmethod
    def _is_moot(self, due: Command) -> bool:
        """Whether what was answered meanwhile leaves nothing to say the command for."""

    @abstractmethod
    def _overrule(self, given: Reply, reply: Reply, heard: Command) -> None:
        """Another reply, ours, counts instead of what was heard."""

    @abstractmethod
    def _may_repeat(self, reply: Reply, heard: Command) -> bool:
        """Whether what the server said leaves the command to be said again."""

    @abstractmethod
    def _note_unheeded(self, reply: Reply, heard: Command) -> None:
        """The reply doesn't count, and yet the server has said it."""

    @abstractmethod
    def _pass_over(self, due: Command) -> None:
        """The command isn't sent, and not missed."""

    @abstractmethod
    def _refuse(self, reply: Reply, due: Command) -> None:
        """The command isn't sent; the reply, ours, counts as if the server had refused it."""

    @abstractmethod
    def _leave_rest_out(self, due: Command) -> None:
        """This recipient and those after it aren't told to the server."""

    @abstractmethod
    def _end_message(self, reply: Reply, phase: Phase) -> None:
        """Nothing more of this transaction is sent; the reply is for all who have no outcome."""

    @abstractmethod
    def _end_session(self, reply: Reply, phase: Phase) -> None:
        """As `_end_message`, and the session ends. Outside a transaction that is being unwelcome."""

    @abstractmethod
    def _end_after(self, what: Effect, given: Reply, reply: Reply, heard: Command) -> None:
        """A reply counts as far as it can't be taken back, then the rest, the message or the session is given up."""

    @abstractmethod
    def _taint(self) -> None:
        """The server is told something that isn't in the envelope."""

    @abstractmethod
    def _go_on(self) -> None:
        """Send what may be sent; end a transaction that is through."""


def _is_line(data: bytes) -> bool:
    """Whether octets sent in place of a command are one."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return text.endswith("\r\n") and text[:-2].isprintable()
