"""What may be answered to the client machine's questions, and what it does then: one table.

Strategy: the table is keyed by question and phase; for each it holds the steps that mean something there and their
effects. The machine looks its work up here, and whoever answers can ask `complaint()` first.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import assert_never

from gatepost.wire.smtp.client_events import (
    AskAgain,
    CommandDue,
    EndSession,
    GiveUp,
    Go,
    JumpTo,
    LeaveOut,
    Phase,
    Question,
    SendOctets,
    Step,
)

MAX_LINE = 2000  # octets of a changed line, without CRLF
MAX_OCTETS = 1024 * 1024  # octets sent in place of a command
MAX_AGAIN = 10  # times that one command goes once more


class Moment(Enum):
    """Which question it is."""

    COMMAND = "command due"
    REPLY = "reply heard"


class Kind(Enum):
    """Steps as the table tells them apart."""

    GO = "go"
    CHANGE = "go, changed"
    LEAVE_OUT = "leave out"
    OCTETS = "send octets"
    AGAIN = "ask again"
    AGAIN_AFTER = "ask again, after a line"
    JUMP_DATA = "jump to data"
    JUMP_SENDER = "jump to sender"
    JUMP_QUIT = "jump to quit"
    GIVE_UP = "give up"
    END = "end session"


class Effect(Enum):
    """What the machine does. The values are the words of the documentation."""

    SEND = "the command is sent"
    SEND_OTHER = "this is sent in its place"
    SEND_TWICE = "the command is sent, and due again where the server has not taken it"
    SEND_FIRST = "the line is sent, and after its reply the command is due again"
    SKIP = "the command isn't sent, and not missed"
    REFUSE = "the command isn't sent, and counts as refused"
    HEED = "the reply counts"
    REPEAT = "the reply doesn't count, the command is due again"
    REPEAT_AFTER = "the reply doesn't count, the line is sent, and after its reply the command is due again"
    ANSWER = "the reply doesn't count, the octets are sent and the next reply counts"
    OVERRULE = "the reply given counts instead, unless the server has the message"
    REST_LEFT_OUT = "no more recipients, if there is one already"
    MESSAGE_LEFT_OUT = "no more of this message"
    FINISH = "no more of the session"


_WHATEVER = {Kind.GIVE_UP: Effect.OVERRULE, Kind.JUMP_QUIT: Effect.FINISH, Kind.END: Effect.FINISH}
_COMMAND = {
    Kind.GO: Effect.SEND,
    Kind.CHANGE: Effect.SEND_OTHER,
    Kind.OCTETS: Effect.SEND_OTHER,
    Kind.AGAIN_AFTER: Effect.SEND_FIRST,
    Kind.GIVE_UP: Effect.REFUSE,
    Kind.JUMP_QUIT: Effect.FINISH,
    Kind.END: Effect.FINISH,
}
_TWICE = {Kind.AGAIN: Effect.SEND_TWICE}
_REPLY = {Kind.GO: Effect.HEED, **_WHATEVER}
_BACK = {Kind.AGAIN: Effect.REPEAT, Kind.AGAIN_AFTER: Effect.REPEAT_AFTER, Kind.OCTETS: Effect.ANSWER}
_NO_MORE = {Kind.JUMP_SENDER: Effect.MESSAGE_LEFT_OUT}
_LEAVE_OUT = {Kind.LEAVE_OUT: Effect.REFUSE}

EFFECTS: Mapping[tuple[Moment, Phase], Mapping[Kind, Effect]] = {
    (Moment.COMMAND, Phase.HELLO): {**_COMMAND, **_TWICE},
    (Moment.COMMAND, Phase.TLS): {**_COMMAND, **_LEAVE_OUT},
    (Moment.COMMAND, Phase.AUTH): {**_COMMAND, **_LEAVE_OUT},
    (Moment.COMMAND, Phase.INTRODUCTION): {**_COMMAND, **_TWICE, Kind.LEAVE_OUT: Effect.SKIP},
    (Moment.COMMAND, Phase.RESET): {**_COMMAND, **_TWICE, **_NO_MORE, Kind.LEAVE_OUT: Effect.SKIP},
    (Moment.COMMAND, Phase.SENDER): {**_COMMAND, **_TWICE, **_NO_MORE, **_LEAVE_OUT},
    (Moment.COMMAND, Phase.RECIPIENT): {
        **_COMMAND,
        **_TWICE,
        **_NO_MORE,
        **_LEAVE_OUT,
        Kind.JUMP_DATA: Effect.REST_LEFT_OUT,
    },
    (Moment.COMMAND, Phase.DATA): {**_COMMAND, **_TWICE, **_NO_MORE, **_LEAVE_OUT},
    # BDAT says how long its chunk is: it goes as it is or not at all
    (Moment.COMMAND, Phase.CONTENT): {
        Kind.GO: Effect.SEND,
        Kind.AGAIN_AFTER: Effect.SEND_FIRST,
        Kind.GIVE_UP: Effect.REFUSE,
        Kind.JUMP_QUIT: Effect.FINISH,
        Kind.END: Effect.FINISH,
        **_NO_MORE,
        **_LEAVE_OUT,
    },
    (Moment.COMMAND, Phase.QUIT): {
        Kind.GO: Effect.SEND,
        Kind.CHANGE: Effect.SEND_OTHER,
        Kind.OCTETS: Effect.SEND_OTHER,
        Kind.AGAIN_AFTER: Effect.SEND_FIRST,
        Kind.LEAVE_OUT: Effect.FINISH,
        Kind.JUMP_QUIT: Effect.SEND,
        Kind.END: Effect.FINISH,
    },
    (Moment.REPLY, Phase.GREETING): _REPLY,
    (Moment.REPLY, Phase.HELLO): {**_REPLY, **_BACK},
    (Moment.REPLY, Phase.TLS): {**_REPLY, **_BACK},
    (Moment.REPLY, Phase.AUTH): _REPLY,
    (Moment.REPLY, Phase.INTRODUCTION): {**_REPLY, **_BACK},
    (Moment.REPLY, Phase.RESET): {**_REPLY, **_BACK, **_NO_MORE},
    (Moment.REPLY, Phase.SENDER): {**_REPLY, **_BACK, **_NO_MORE},
    (Moment.REPLY, Phase.RECIPIENT): {**_REPLY, **_BACK, **_NO_MORE, Kind.JUMP_DATA: Effect.REST_LEFT_OUT},
    (Moment.REPLY, Phase.DATA): {**_REPLY, **_BACK, **_NO_MORE},
    (Moment.REPLY, Phase.CONTENT): _REPLY,
    (Moment.REPLY, Phase.END_OF_DATA): _REPLY,
    (Moment.REPLY, Phase.EXTRA): _REPLY,
    (Moment.REPLY, Phase.QUIT): {Kind.GO: Effect.HEED, Kind.JUMP_QUIT: Effect.HEED, Kind.END: Effect.HEED},
}
"""What each step does to each question; a step that isn't there is refused.

What can't be taken back isn't: after a 421 the session ends, a sender or recipient that was taken isn't said again, a
message that was taken is taken, and where the server awaits a handshake or content, any step but Go drops the
connection. The reply to an extra line counts for nothing; what is given instead of it is for the command that is due.
"""

_JUMPS = {Phase.DATA: Kind.JUMP_DATA, Phase.SENDER: Kind.JUMP_SENDER, Phase.QUIT: Kind.JUMP_QUIT}


def moment(question: Question) -> Moment:
    """Which question it is."""
    return Moment.COMMAND if isinstance(question, CommandDue) else Moment.REPLY


def complaint(question: Question, step: Step) -> str | None:
    """Why a step can't be the answer to a question, in words; None where it can."""
    kind = _kind(step)
    if kind is None or kind not in EFFECTS[moment(question), question.phase]:
        return f"{step!r} has no meaning at {question.phase.value} ({moment(question).value})"
    if isinstance(step, SendOctets) and not 0 < len(step.data) <= MAX_OCTETS:
        return f"octets instead of a command are 1 to {MAX_OCTETS}"
    if isinstance(step, Go | AskAgain) and step.line is not None:
        if not step.line or any(c in step.line for c in "\r\n\0"):
            return "a command line is not empty and can't hold CR, LF or NUL"
        if not _fits(step.line):
            return f"a command line is UTF-8 of at most {MAX_LINE} octets"
    if isinstance(step, GiveUp | EndSession) and step.reply.is_positive:
        return "a failure is a reply 4xx or 5xx"
    return None


def effect(question: Question, step: Step) -> Effect:
    """What the machine does. Raises ValueError for a step that `complaint` has something against."""
    if (wrong := complaint(question, step)) is not None:
        raise ValueError(wrong)
    kind = _kind(step)
    assert kind is not None
    return EFFECTS[moment(question), question.phase][kind]


def _fits(line: str) -> bool:
    try:
        return len(line.encode()) <= MAX_LINE
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _kind(step: Step) -> Kind | None:
    match step:
        case Go(None):
            return Kind.GO
        case Go():
            return Kind.CHANGE
        case LeaveOut():
            return Kind.LEAVE_OUT
        case SendOctets():
            return Kind.OCTETS
        case AskAgain(None):
            return Kind.AGAIN
        case AskAgain():
            return Kind.AGAIN_AFTER
        case JumpTo(phase):
            return _JUMPS.get(phase)
        case GiveUp():
            return Kind.GIVE_UP
        case EndSession():
            return Kind.END
        case _:
            assert_never(step)
