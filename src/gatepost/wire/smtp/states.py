"""What a client may say when: the states of a server session, the verbs, and one table that joins them.

Strategy: `LEGAL` gives for every state in which commands are read, and every verb, either the question the command
raises or the reply that refuses it. The machine looks up, the documentation draws from it, the tests walk it. What
depends on a profile (is STARTTLS configured? is authentication required?) is not here but guarded in the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from itertools import product
from types import MappingProxyType

from gatepost.model import Reply
from gatepost.wire.smtp import refusals as no


class State(Enum):
    """Where a session is. Each is reached only by the answer to a question."""

    __hash__ = object.__hash__  # Enum's own is a Python function, and every command looks up here

    CONNECT = "before the greeting"
    REFUSED = "greeted with a refusal"
    START = "greeted, before EHLO"
    READY = "between transactions"
    MAIL = "sender accepted, no recipient yet"
    NOBODY = "sender accepted, every recipient refused"
    RCPT = "a recipient accepted"
    BDAT = "between chunks"
    DATA = "content up to the dot"
    CHUNK = "octets of a chunk"
    SWALLOW = "octets of a refused chunk"
    END = "content complete, its verdict due"
    AUTH = "within an authentication exchange"
    BLOB = "a plugin converses"
    TLS = "before the TLS handshake"
    CLOSED = "over"


COMMAND_STATES = (State.REFUSED, State.START, State.READY, State.MAIL, State.NOBODY, State.RCPT, State.BDAT)
TRANSACTION_STATES = frozenset({State.MAIL, State.NOBODY, State.RCPT, State.BDAT, State.DATA, State.CHUNK, State.END})


class Verb(Enum):
    """The commands of RFC 5321, 2033, 3030, 3207, 4954, and two of Postfix's; UNKNOWN stands for every other word."""

    __hash__ = object.__hash__

    EHLO = "EHLO"
    HELO = "HELO"
    LHLO = "LHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BDAT = "BDAT"
    RSET = "RSET"
    NOOP = "NOOP"
    VRFY = "VRFY"
    EXPN = "EXPN"
    HELP = "HELP"
    QUIT = "QUIT"
    XCLIENT = "XCLIENT"
    XFORWARD = "XFORWARD"
    UNKNOWN = ""


class Ask(Enum):
    """The question a legal command raises."""

    __hash__ = object.__hash__

    HELLO = "Hello"
    START_TLS = "StartTls"
    AUTH = "Auth"
    MAIL = "Mail"
    RCPT = "Rcpt"
    DATA = "Data"
    BDAT = "Data, once the octets are read"
    RESET = "Reset"
    NOOP = "Noop"
    VERIFY = "Verify"
    EXPAND = "Expand"
    HELP = "Help"
    QUIT = "Quit"
    CLIENT = "Client"
    FORWARDED = "Forwarded"
    UNKNOWN = "Unknown"


class Protocol(Enum):
    """Which of the three dialects a listener speaks; submission differs from SMTP by policy only."""

    __hash__ = object.__hash__

    SMTP = "smtp"
    SUBMISSION = "submission"
    LMTP = "lmtp"


Decision = Ask | Reply


def _all(refusal: Reply) -> dict[Verb, Decision]:
    return dict.fromkeys(Verb, refusal)


_ALWAYS: dict[Verb, Decision] = {
    Verb.EHLO: Ask.HELLO,
    Verb.HELO: Ask.HELLO,
    Verb.LHLO: Ask.HELLO,
    Verb.RSET: Ask.RESET,
    Verb.NOOP: Ask.NOOP,
    Verb.VRFY: Ask.VERIFY,
    Verb.EXPN: Ask.EXPAND,
    Verb.HELP: Ask.HELP,
    Verb.QUIT: Ask.QUIT,
    Verb.UNKNOWN: Ask.UNKNOWN,
}
_OPEN: dict[Verb, Decision] = {
    Verb.STARTTLS: no.IN_TRANSACTION,
    Verb.AUTH: no.IN_TRANSACTION,  # rfc4954#4
    Verb.MAIL: no.NESTED,  # rfc5321#4.1.4
    Verb.RCPT: Ask.RCPT,
    Verb.XCLIENT: no.IN_TRANSACTION,
    Verb.XFORWARD: no.IN_TRANSACTION,
}
_ROWS: dict[State, dict[Verb, Decision]] = {
    State.REFUSED: _all(no.NO_SERVICE) | {Verb.QUIT: Ask.QUIT},
    State.START: _all(no.HELLO_FIRST) | _ALWAYS,
    State.READY: _all(no.MAIL_FIRST)
    | _ALWAYS
    | {Verb.STARTTLS: Ask.START_TLS, Verb.AUTH: Ask.AUTH, Verb.MAIL: Ask.MAIL}
    | {Verb.XCLIENT: Ask.CLIENT, Verb.XFORWARD: Ask.FORWARDED},
    State.MAIL: _ALWAYS | _OPEN | {Verb.DATA: no.RCPT_FIRST, Verb.BDAT: no.RCPT_FIRST},
    State.NOBODY: _ALWAYS | _OPEN | {Verb.DATA: no.NOBODY, Verb.BDAT: no.NOBODY},
    State.RCPT: _ALWAYS | _OPEN | {Verb.DATA: Ask.DATA, Verb.BDAT: Ask.BDAT},
    State.BDAT: _all(no.CHUNKS) | _ALWAYS | {Verb.BDAT: Ask.BDAT},
}


def _decide(protocol: Protocol, state: State, verb: Verb) -> Decision:
    decision = _ROWS[state][verb]
    if protocol is not Protocol.LMTP:
        return no.ONLY_LMTP if verb is Verb.LHLO and decision is Ask.HELLO else decision
    if verb in (Verb.EHLO, Verb.HELO) and decision is Ask.HELLO:
        return no.NOT_LMTP
    if decision is no.HELLO_FIRST:
        return no.LHLO_FIRST
    return no.NOBODY_LMTP if decision is no.NOBODY else decision


LEGAL: Mapping[Protocol, Mapping[tuple[State, Verb], Decision]] = MappingProxyType(
    {
        protocol: MappingProxyType(
            {(state, verb): _decide(protocol, state, verb) for state, verb in product(COMMAND_STATES, Verb)}
        )
        for protocol in Protocol
    }
)
"""The table: for each protocol, (state, verb) → the question asked, or the reply that refuses."""
