"""What a plugin may decide: verdicts as values, and the functions by which authors say them.

Each family of stages has a closed union. A verdict is only an opinion: `fold` weighs the opinions of a chain, `effects`
says what the winning one does at its stage, and the house writes the reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args, overload

from gatepost.model import Recipient, Reply


class Scope(Enum):
    """How far an Accept reaches."""

    STAGE = "stage"
    RECIPIENT = "recipient"
    TRANSACTION = "transaction"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Proceed:
    """Nothing against it; the next binding is asked. What a hook says by returning None."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Later judging bindings needn't be asked, within the scope. Never overrides the house: it grants no relaying."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class Refuse:
    """4xx or 5xx to the sender. A plain text stands for "with the stage's own code"."""

    reply: Reply | str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """250 to the sender; the message is held for an operator."""

    reason: str


@dataclass(frozen=True, slots=True)
class Discard:
    """250 to the sender; the message is thrown away and the trace says so."""

    reason: str


@dataclass(frozen=True, slots=True)
class Take:
    """250 to the sender; the plugin has the message and the house keeps none."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hangup:
    """The reply, then the connection is closed."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Respond:
    """This reply instead of the house's own handling of the command; the state of the session doesn't move.

    At `reply` it takes the place of the one that would be said, and later bindings see it.
    """

    reply: Reply
    closes: bool = False
    """The session ends after it."""
    counts: bool = False
    """It counts as an error of the client's; after too many of them the session ends."""


@dataclass(frozen=True, slots=True)
class Converse:
    """This reply, then the next `lines` lines (or `octets` octets, whichever comes first) come to the plugin."""

    reply: Reply
    lines: int | None = 1
    octets: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """The client is this user; `maildrop` names the user's mailbox where that isn't the user's name."""

    user: str
    maildrop: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys by which the house can check the client's proof (SCRAM: salt, iterations, stored and server key)."""

    keys: Mapping[str, str | int | bytes]


@dataclass(frozen=True, slots=True)
class Deny:
    """Not this user, or not with this password."""

    reason: str = ""


class Target(Enum):
    """Where an outgoing transaction goes on after a Jump."""

    MESSAGE = "message"
    """At its end: whoever has no outcome waits for the next attempt, and the session is ready for another message."""
    DATA = "data"
    """At DATA: recipients that weren't named yet are left out."""
    QUIT = "quit"
    """At QUIT: whoever has no outcome waits for the next attempt."""


@dataclass(frozen=True, slots=True)
class Send:
    """This line instead of the command that would go out; the bindings that are asked later see it as the command."""

    line: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Leave this out: the host, the message, the recipient or the command. Whoever has no outcome by it waits for the
    next attempt.
    """


@dataclass(frozen=True, slots=True)
class Blob:
    """These octets instead of the command, as they are; the reply to them counts as the command's."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Repeat:
    """Say the command once more if it is refused; the question comes again with it, at most ten times.

    With a line of its own that is said first, in any case, and then the question about the command comes again; what is
    answered to the line counts for nothing, but 421 and 3xx end the session.
    """

    line: str = ""


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on at another place of the transaction."""

    to: Target


@dataclass(frozen=True, slots=True)
class Fail:
    """This reply is the outcome of the recipient asked about, or of all who have none: 4xx waits for the next attempt,
    5xx is for good. A plain text stands for "with the stage's own code".
    """

    reply: Reply | str


@dataclass(frozen=True, slots=True)
class EndSession:
    """Say QUIT and nothing more; this reply is the outcome of whoever has none. A plain text: they wait."""

    reply: Reply | str = ""


Judging = Proceed | Accept | Refuse | Quarantine | Discard | Take | Hangup
Commanding = Proceed | Respond | Converse | Refuse | Hangup
Replying = Proceed | Respond | Hangup
Authenticating = Proceed | Identity | Credentials | Deny | Refuse
Sending = Proceed | Send | Skip | Blob | Repeat | Jump | Fail | EndSession
Verdict = Judging | Commanding | Authenticating | Sending
Answer = Verdict | Mapping[Recipient, Verdict] | None

PROCEED = Proceed()
VERDICTS: frozenset[type] = frozenset(get_args(Verdict))
"""Every verdict's class."""


@overload
def refuse(text: str, /) -> Refuse: ...
@overload
def refuse(code: int, status: str, text: str, /) -> Refuse: ...
def refuse(code: int | str, status: str = "", text: str = "", /) -> Refuse:
    """Refuse with a code (400–599), an enhanced status that agrees with it, and a text; or with a text alone.

    Raises ValueError where code and status don't agree.
    """
    if isinstance(code, str):
        return Refuse(code)
    if not 400 <= code <= 599:
        raise ValueError(f"a refusal has a code between 400 and 599, not {code}")
    return Refuse(Reply(code, status, text))


@overload
def tempfail(text: str = ..., /) -> Refuse: ...
@overload
def tempfail(code: int, status: str, text: str, /) -> Refuse: ...
def tempfail(code: int | str = "try again later", status: str = "4.7.1", text: str = "", /) -> Refuse:
    """Ask the sender to come again: a refusal with a code between 400 and 499, 451 4.7.1 where only a text is given."""
    if isinstance(code, str):
        return Refuse(Reply(451, "4.7.1", code))
    if not 400 <= code <= 499:
        raise ValueError(f"a temporary refusal has a code between 400 and 499, not {code}")
    return Refuse(Reply(code, status, text))


def accept(scope: Literal["stage", "recipient", "transaction", "session"]) -> Accept:
    """Don't ask the judging plugins after this one, within the scope. ValueError for an unknown scope."""
    return Accept(Scope(scope))


def quarantine(reason: str) -> Quarantine:
    """Accept, but hold the message for an operator; the sender hears 250."""
    return Quarantine(reason)


def discard(reason: str) -> Discard:
    """Accept and throw away; the sender hears 250, the trace says discarded."""
    return Discard(reason)


def take(reason: str = "") -> Take:
    """This plugin keeps the message itself; the sender hears 250."""
    return Take(reason)


def hangup(text: str = "", /, *, code: int = 421, status: str = "4.7.0") -> Hangup:
    """Say this and close the connection."""
    return Hangup(Reply(code, status, text or "closing the connection"))


def send_line(line: str) -> Send:
    """Send this line instead of the command. ValueError for what isn't one line."""
    if not is_line(line):
        raise ValueError("a command is one line, without control characters")
    return Send(line)


def skip() -> Skip:
    """Leave out what is asked about: the host, the message, the recipient, the command. It may be tried again later."""
    return Skip()


def send_octets(data: bytes) -> Blob:
    """Send these octets instead of the command, as they are, CRLF included."""
    return Blob(data)


def repeat(line: str = "") -> Repeat:
    """Say the command once more, should it be refused; or say this line first, and be asked about the command again.
    ValueError for what isn't one line.
    """
    if line and not is_line(line):
        raise ValueError("a command is one line, without control characters")
    return Repeat(line)


def jump(to: Literal["message", "data", "quit"]) -> Jump:
    """Go on elsewhere: at the end of this message, at DATA, or at QUIT. ValueError for another place."""
    return Jump(Target(to))


@overload
def fail(text: str, /) -> Fail: ...
@overload
def fail(code: int, status: str, text: str, /) -> Fail: ...
def fail(code: int | str, status: str = "", text: str = "", /) -> Fail:
    """Decide what becomes of a recipient, or of all: a code (4xx: try again later, 5xx: for good), an enhanced status
    that agrees with it, and a text; or a text alone, for good.

    Raises ValueError where code and status don't agree.
    """
    if isinstance(code, str):
        return Fail(code)
    if not 400 <= code <= 599:
        raise ValueError(f"a failure has a code between 400 and 599, not {code}")
    return Fail(Reply(code, status, text))


def end_session(text: str = "") -> EndSession:
    """Say QUIT to the next server; whoever has no outcome yet waits for the next attempt."""
    return EndSession(text)


MOST_LINE = 2000  # octets of a command line that a plugin may send, without CRLF


def is_line(text: object) -> bool:
    """Whether a text can be sent as one command line (attack I1)."""
    return (
        isinstance(text, str)
        and bool(text)
        and len(text.encode("utf-8", "replace")) <= MOST_LINE
        and not any(c < " " or c in "\x7f\x85\u2028\u2029" for c in text)
        and not any("\ud800" <= c <= "\udfff" for c in text)
    )
