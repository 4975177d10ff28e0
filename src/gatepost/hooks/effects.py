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
    Blob,
    Converse,
    Credentials,
    Deny,
    Discard,
    EndSession,
    Fail,
    Hangup,
    Identity,
    Jump,
    Proceed,
    Quarantine,
    Refuse,
    Repeat,
    Respond,
    Scope,
    Send,
    Skip,
    Take,
    Target,
    is_line,
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
    UNOPENED = "isn't opened; the next server there is, is tried"
    QUITTING = "ends with QUIT"
    REPEATS = "asks again, with the same command"
    JUMPS = "goes on where the jump leads"


@dataclass(frozen=True, slots=True)
class Effect:
    """What the other side hears, where the session stands afterwards, and what becomes of the mail.

    The other side is the sender; on the way out, the next server.
    """

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

_NOTHING = "nothing"
_REPORT = "nothing; a report, where the sender may have one"
_REFUSED_LATE = "not delivered: reported, or held and the postmaster told; 4xx: asked again later"
_WAITS = "waits for the next attempt"
_FAILED_ALL = "all recipients fail with the reply; 4xx: they wait for the next attempt"
_GOES = Effect("the command", After.ON)
_ITS_LINE = Effect("its line", After.ON)
_ITS_OCTETS = Effect("its octets", After.ON)
_AGAIN = Effect("the command, and once more if it refuses that; or first the line given", After.REPEATS)
_JUMPED = Effect(_NOTHING, After.JUMPS, "who is passed over waits for the next attempt")
_ERR = "-ERR with its text, and [SYS/TEMP] for 4xx"
_QUITS = Effect("QUIT", After.QUITTING, "whoever has no outcome waits for the next attempt, or has its reply")

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
    (stages.Replying, Respond): Effect(
        "its reply; its text alone, where another class of code wouldn't be true", After.ON
    ),
    (stages.Replying, Hangup): Effect("its reply", After.CLOSED),
    (stages.Submitted, Proceed): Effect(_NOTHING, After.ON, "goes on to its delivery"),
    (stages.Submitted, Refuse): Effect(_REPORT, After.ENDED, _REFUSED_LATE, 554, "5.7.1"),
    (stages.Submitted, Quarantine): Effect(_NOTHING, After.ENDED, "held"),
    (stages.Submitted, Discard): Effect(_NOTHING, After.ENDED, "thrown away"),
    (stages.Submitted, Take): Effect(_NOTHING, After.ENDED, "the plugin's"),
    (stages.Expanded, Proceed): Effect(_NOTHING, After.ON, "goes on to its delivery"),
    (stages.Expanded, Refuse): Effect(_REPORT, After.ENDED, _REFUSED_LATE, 554, "5.7.1"),
    (stages.Expanded, Quarantine): Effect(_NOTHING, After.ENDED, "held"),
    (stages.Expanded, Discard): Effect(_NOTHING, After.ENDED, "thrown away"),
    (stages.Expanded, Take): Effect(_NOTHING, After.ENDED, "the plugin's"),
    (stages.OutSession, Proceed): Effect(_NOTHING, After.ON),
    (stages.OutSession, Skip): Effect(_NOTHING, After.UNOPENED, _WAITS),
    (stages.OutSession, Fail): Effect(_NOTHING, After.UNOPENED, _FAILED_ALL, 550, "5.7.1"),
    (stages.OutMessage, Proceed): _GOES,
    (stages.OutMessage, Send): _ITS_LINE,
    (stages.OutMessage, Skip): Effect(_NOTHING, After.ENDED, _WAITS),
    (stages.OutMessage, Fail): Effect(_NOTHING, After.ENDED, _FAILED_ALL, 550, "5.7.1"),
    (stages.OutMessage, EndSession): _QUITS,
    (stages.OutRecipient, Proceed): _GOES,
    (stages.OutRecipient, Send): _ITS_LINE,
    (stages.OutRecipient, Skip): Effect(_NOTHING, After.ON, "this recipient waits for the next attempt"),
    (stages.OutRecipient, Blob): _ITS_OCTETS,
    (stages.OutRecipient, Repeat): _AGAIN,
    (stages.OutRecipient, Jump): _JUMPED,
    (stages.OutRecipient, Fail): Effect(
        _NOTHING, After.ON, "this recipient fails with the reply; 4xx: waits for the next attempt", 550, "5.7.1"
    ),
    (stages.OutRecipient, EndSession): _QUITS,
    (stages.OutData, Proceed): _GOES,
    (stages.OutData, Send): _ITS_LINE,
    (stages.OutData, Skip): Effect("RSET", After.ENDED, _WAITS),
    (stages.OutData, Blob): _ITS_OCTETS,
    (stages.OutData, Repeat): _AGAIN,
    (stages.OutData, Jump): _JUMPED,
    (stages.OutData, Fail): Effect("RSET", After.ENDED, _FAILED_ALL, 554, "5.7.1"),
    (stages.OutData, EndSession): _QUITS,
    (stages.OutQuit, Proceed): _GOES,
    (stages.OutQuit, Send): _ITS_LINE,
    (stages.OutQuit, Skip): Effect(_NOTHING, After.CLOSED),
    (stages.OutQuit, Blob): _ITS_OCTETS,
    (stages.OutCommand, Proceed): _GOES,
    (stages.OutCommand, Send): _ITS_LINE,
    (stages.OutCommand, Skip): Effect(_NOTHING, After.ON, "as at the command's own stage"),
    (stages.OutCommand, Blob): _ITS_OCTETS,
    (stages.OutCommand, Repeat): _AGAIN,
    (stages.OutCommand, Jump): _JUMPED,
    (stages.OutCommand, Fail): Effect(_NOTHING, After.ON, "as at the command's own stage", 550, "5.7.1"),
    (stages.OutCommand, EndSession): _QUITS,
    (stages.OutReply, Proceed): Effect(_NOTHING, After.ON, "what the reply says"),
    (stages.OutReply, Repeat): _AGAIN,
    (stages.OutReply, Jump): _JUMPED,
    (stages.OutReply, Fail): Effect(
        _NOTHING, After.ON, "the recipient concerned, or all who wait for this reply, fail with it", 550, "5.7.1"
    ),
    (stages.OutReply, EndSession): _QUITS,
    (stages.PopLogin, Proceed): Effect("what the house's users say", After.ON),
    (stages.PopLogin, Identity): Effect("+OK, and the maildrop is open", After.ON),
    (stages.PopLogin, Credentials): Effect("what the proof shows", After.ON),
    (stages.PopLogin, Deny): Effect("-ERR [AUTH]", After.STAYS, "", 535, "5.7.8"),
    (stages.PopLogin, Refuse): Effect(
        "-ERR with its text and [AUTH]; [SYS/PERM] for a 5xx other than 535, [SYS/TEMP] for 4xx",
        After.STAYS,
        "",
        535,
        "5.7.8",
    ),
    (stages.PopRetrieve, Proceed): Effect("+OK and the message", After.ON),
    (stages.PopRetrieve, Refuse): Effect(_ERR, After.STAYS, "stays in the maildrop", 550, "5.7.1"),
    (stages.PopDelete, Proceed): Effect("+OK", After.ON, "removed at QUIT"),
    (stages.PopDelete, Refuse): Effect(_ERR, After.STAYS, "stays in the maildrop", 550, "5.7.1"),
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
    stages.Submitted: ("tempfail", "proceed", "quarantine"),
    stages.Expanded: ("tempfail", "proceed", "quarantine"),
    stages.OutSession: ("tempfail", "proceed", "refuse"),
    stages.OutMessage: ("tempfail", "proceed", "refuse"),
    stages.OutRecipient: ("tempfail", "proceed", "refuse"),
    stages.OutData: ("tempfail", "proceed", "refuse"),
    stages.OutCommand: ("tempfail", "proceed", "refuse"),
    stages.OutQuit: ("proceed",),
    stages.OutReply: ("proceed",),
    stages.PopLogin: ("tempfail", "proceed", "refuse"),
    stages.PopRetrieve: ("tempfail", "proceed", "refuse"),
    stages.PopDelete: ("tempfail", "proceed", "refuse"),
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
        word = type(verdict).__name__ if type(verdict) in VERDICTS else repr(verdict)[:80]
        known = ", ".join(one.__name__ for at, one in EFFECTS if at is stage)
        return f'"{stage.name}" knows no answer {word}; it knows {known}'
    if wrong := _wrong_fields(verdict):
        return f"{type(verdict).__name__} has {wrong}"
    if stage is stages.Command and isinstance(verdict, Respond) and verdict.reply.code // 100 == 3:
        return f"a reply {verdict.reply.code} invites more, which nobody would take; answer with Converse"
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
        case Send(line) if not is_line(line):
            return f"no command line but {line!r:.40}"
        case Repeat(line) if line != "" and not is_line(line):
            return f"no command line but {line!r:.40}"
        case Blob(data) if not (isinstance(data, bytes) and data):
            return f"no octets but {data!r:.40}"
        case Jump(to) if not isinstance(to, Target):
            return f"no place to go on at but {to!r:.40}"
        case Fail(reply) | EndSession(reply) if not isinstance(reply, Reply | str):
            return f"no reply but {reply!r:.40}"
        case Fail(Reply() as reply) | EndSession(Reply() as reply) if reply.code < 400:
            return f"the code {reply.code}, which is no failure"
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
