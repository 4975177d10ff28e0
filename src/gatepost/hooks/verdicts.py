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
    """This reply instead of the house's own handling of the command; the state of the session doesn't move."""

    reply: Reply


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


Judging = Proceed | Accept | Refuse | Quarantine | Discard | Take | Hangup
Commanding = Proceed | Respond | Converse | Refuse | Hangup
Replying = Proceed | Respond | Hangup
Authenticating = Proceed | Identity | Credentials | Deny | Refuse
Verdict = Judging | Commanding | Authenticating
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
