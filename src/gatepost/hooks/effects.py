"""What each verdict does at each stage: one table, from which the documentation is drawn and which the core test walks.

A pair that isn't in the table is a malformed answer, and goes the way of the binding's `on_failure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gatepost.hooks import stages
from gatepost.hooks.verdicts import (
    VERDICTS,
    Accept,
    Converse,
    Credentials,
    Deny,
    Discard,
    Hangup,
    Identity,
    Proceed,
    Quarantine,
    Refuse,
    Respond,
    Scope,
    Take,
)
from gatepost.model import Reply


class After(Enum):
    """Where the session stands afterwards."""

    ON = "goes on as if nobody had objected"
    STAYS = "stands where it stood before the command"
    REFUSED = "answers 503 to everything but QUIT"
    SWALLOWING = "takes the rest of the content and throws it away"
    ENDED = "is ready for the next transaction"
    CLOSED = "is closed"


@dataclass(frozen=True, slots=True)
class Effect:
    """What the sender hears, where the session stands afterwards, and what becomes of the mail."""

    heard: str
    after: After
    mail: str = ""
    code: int = 0
    """The stage's own code, for a refusal that gives only a text."""
    status: str = ""


_PASSED = Effect("the pending reply", After.ON)
_STICKS_SESSION = "held, with every later message of the session"
_STICKS_TRANSACTION = "held when it is complete"
_GONE_SESSION = "thrown away, with every later message of the session"
_GONE = "thrown away when it is complete"

EFFECTS: dict[tuple[type[stages.Event], type], Effect] = {
    (stages.Connect, Proceed): _PASSED,
    (stages.Connect, Accept): _PASSED,
    (stages.Connect, Refuse): Effect("554 (a 4xx refusal: 421)", After.REFUSED, "", 554, "5.7.1"),
    (stages.Connect, Quarantine): Effect("the pending reply", After.ON, _STICKS_SESSION),
    (stages.Connect, Discard): Effect("the pending reply", After.ON, _GONE_SESSION),
    (stages.Connect, Hangup): Effect("its reply", After.CLOSED),
    (stages.Hello, Proceed): _PASSED,
    (stages.Hello, Accept): _PASSED,
    (stages.Hello, Refuse): Effect("its reply", After.STAYS, "", 550, "5.7.1"),
    (stages.Hello, Quarantine): Effect("the pending reply", After.ON, _STICKS_SESSION),
    (stages.Hello, Discard): Effect("the pending reply", After.ON, _GONE_SESSION),
    (stages.Hello, Hangup): Effect("its reply", After.CLOSED),
    (stages.Auth, Proceed): Effect("what the house's users say", After.ON),
    (stages.Auth, Identity): Effect("235 2.7.0", After.ON),
    (stages.Auth, Credentials): Effect("what the proof shows", After.ON),
    (stages.Auth, Deny): Effect("535 5.7.8", After.STAYS, "", 535, "5.7.8"),
    (stages.Auth, Refuse): Effect("its reply", After.STAYS, "", 535, "5.7.8"),
    (stages.Sender, Proceed): _PASSED,
    (stages.Sender, Accept): _PASSED,
    (stages.Sender, Refuse): Effect("its reply", After.STAYS, "", 550, "5.7.1"),
    (stages.Sender, Quarantine): Effect("the pending reply", After.ON, _STICKS_TRANSACTION),
    (stages.Sender, Discard): Effect("the pending reply", After.ON, _GONE),
    (stages.Sender, Hangup): Effect("its reply", After.CLOSED),
    (stages.Recipient, Proceed): _PASSED,
    (stages.Recipient, Accept): _PASSED,
    (stages.Recipient, Refuse): Effect("its reply", After.STAYS, "not for this recipient", 550, "5.7.1"),
    (stages.Recipient, Quarantine): Effect("the pending reply", After.ON, "held for this recipient"),
    (stages.Recipient, Discard): Effect("the pending reply", After.ON, "thrown away for this recipient"),
    (stages.Recipient, Hangup): Effect("its reply", After.CLOSED),
    (stages.Data, Proceed): _PASSED,
    (stages.Data, Accept): _PASSED,
    (stages.Data, Refuse): Effect("its reply instead of the 354", After.ENDED, "", 554, "5.7.1"),
    (stages.Data, Quarantine): Effect("the pending reply", After.ON, _STICKS_TRANSACTION),
    (stages.Data, Discard): Effect("the pending reply", After.ON, _GONE),
    (stages.Data, Hangup): Effect("its reply", After.CLOSED),
    (stages.Headers, Proceed): _PASSED,
    (stages.Headers, Accept): _PASSED,
    (stages.Headers, Refuse): Effect("its reply, at end-of-data", After.SWALLOWING, "", 554, "5.7.1"),
    (stages.Headers, Quarantine): Effect("nothing yet", After.ON, _STICKS_TRANSACTION),
    (stages.Headers, Discard): Effect("nothing yet", After.ON, _GONE),
    (stages.Headers, Hangup): Effect("its reply, at once", After.CLOSED),
    (stages.Message, Proceed): Effect("250 and the ticket, once the message is durable", After.ENDED, "queued"),
    (stages.Message, Accept): Effect("250 and the ticket, once the message is durable", After.ENDED, "queued"),
    (stages.Message, Refuse): Effect("its reply", After.ENDED, "", 554, "5.7.1"),
    (stages.Message, Quarantine): Effect("250 and the ticket, once the message is durable", After.ENDED, "held"),
    (stages.Message, Discard): Effect("250 and the ticket, once its record is durable", After.ENDED, "thrown away"),
    (stages.Message, Take): Effect("250 and the ticket", After.ENDED, "the plugin's"),
    (stages.Message, Hangup): Effect("its reply", After.CLOSED),
    (stages.Command, Proceed): Effect("what the house says to the command", After.ON),
    (stages.Command, Respond): Effect("its reply", After.STAYS),
    (stages.Command, Refuse): Effect(
        "its reply (QUIT and RSET are obeyed all the same)", After.STAYS, "", 550, "5.7.1"
    ),
    (stages.Command, Converse): Effect("its reply", After.STAYS, "the next lines go to the plugin"),
    (stages.Command, Hangup): Effect("its reply", After.CLOSED),
    (stages.Replying, Proceed): _PASSED,
    (stages.Replying, Respond): Effect("its text, with a code of the same class", After.ON),
    (stages.Replying, Hangup): Effect("its reply", After.CLOSED),
}

_SCOPES: dict[type[stages.Event], frozenset[Scope]] = {
    stages.Connect: frozenset({Scope.STAGE, Scope.SESSION}),
    stages.Hello: frozenset({Scope.STAGE, Scope.SESSION}),
    stages.Sender: frozenset({Scope.STAGE, Scope.TRANSACTION, Scope.SESSION}),
    stages.Recipient: frozenset(Scope),
    stages.Data: frozenset({Scope.STAGE, Scope.TRANSACTION, Scope.SESSION}),
    stages.Headers: frozenset({Scope.STAGE, Scope.TRANSACTION, Scope.SESSION}),
    stages.Message: frozenset(Scope),
}

_FAILURES: dict[type[stages.Event], tuple[str, ...]] = {
    stages.Auth: ("tempfail", "proceed", "refuse"),
    stages.Command: ("tempfail", "proceed", "refuse"),
    stages.Replying: ("proceed",),
}


def legal_scopes(stage: type[stages.Event]) -> frozenset[Scope]:
    """The scopes that an Accept may have at a stage."""
    return _SCOPES.get(stage, frozenset())


def allowed_failures(stage: type[stages.Event]) -> tuple[str, ...]:
    """The `on_failure` policies that can be kept at a stage; the first is the default."""
    return _FAILURES.get(stage, ("tempfail", "proceed", "refuse", "quarantine"))


def complaint(stage: type[stages.Event], verdict: object) -> str | None:
    """Why this can't be an answer at this stage; None if it can."""
    if (stage, type(verdict)) not in EFFECTS:
        word = type(verdict).__name__
        return f'"{stage.name}" knows no answer {word if type(verdict) in VERDICTS else repr(verdict)[:80]}'
    if wrong := _wrong_fields(verdict):
        return f"{type(verdict).__name__} has {wrong}"
    if isinstance(verdict, Accept) and verdict.scope not in legal_scopes(stage):
        legal = ", ".join(sorted(scope.value for scope in legal_scopes(stage)))
        return f'accept("{verdict.scope.value}") means nothing at "{stage.name}"; there are: {legal}'
    return None


def _wrong_fields(verdict: object) -> str | None:
    """Which field isn't what its type says; plugins aren't type-checked."""
    match verdict:
        case Refuse(reply) if not isinstance(reply, Reply | str):
            return f"no reply but {reply!r:.40}"
        case Hangup(reply) | Respond(reply) if not isinstance(reply, Reply):
            return f"no reply but {reply!r:.40}"
        case Quarantine(reason) | Discard(reason) | Take(reason) | Deny(reason) if not isinstance(reason, str):
            return f"no reason but {reason!r:.40}"
        case Converse(reply, lines, octets):
            if not isinstance(reply, Reply):
                return f"no reply but {reply!r:.40}"
            if not _is_count(octets) or not (lines is None or _is_count(lines)):
                return "limits that are no numbers from 1"
        case Identity(user, maildrop):
            if not (isinstance(user, str) and user) or not isinstance(maildrop, str | None):
                return f"no user's name but {user!r:.40}"
        case Credentials(keys) if not isinstance(keys, Mapping):
            return f"no keys but {keys!r:.40}"
        case Accept(scope) if not isinstance(scope, Scope):
            return f"no scope but {scope!r:.40}"
        case _:
            pass
    return None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_judging(stage: type[stages.Event]) -> bool:
    """Whether an Accept means anything at a stage: only judging bindings are silenced by it."""
    return stage in _SCOPES
