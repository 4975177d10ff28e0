"""What a client may say when, and where it stands after the answer: one table each.

Strategy: `LEGAL` says for every state which of the machine's calls are possible; `AFTER` says which state an answer
leads to. The machine looks both up, and the tests walk them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class State(Enum):
    """Where a session is."""

    __hash__ = object.__hash__

    GREETING = "before the greeting"
    AUTHORIZATION = "greeted, not logged in"
    NAMED = "a name was taken, its password is due"
    SASL = "a challenge is to be answered"
    HANDSHAKE = "before the TLS handshake"
    TRANSACTION = "logged in"
    QUITTING = "QUIT was said"
    CLOSED = "over"


class Ask(Enum):
    """What can be said, or done. The values are the commands."""

    __hash__ = object.__hash__

    GREETING = ""
    CAPA = "CAPA"
    STLS = "STLS"
    HANDSHAKE = "the TLS handshake"
    USER = "USER"
    PASS = "PASS"  # noqa: S105  the command's name, not a password
    APOP = "APOP"
    AUTH = "AUTH"
    RESPONSE = "a response to a challenge"
    STAT = "STAT"
    LIST = "LIST"
    UIDL = "UIDL"
    TOP = "TOP"
    RETR = "RETR"
    DELE = "DELE"
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"


LEGAL: Mapping[State, frozenset[Ask]] = MappingProxyType(
    {
        State.GREETING: frozenset(),
        State.AUTHORIZATION: frozenset({Ask.CAPA, Ask.STLS, Ask.USER, Ask.APOP, Ask.AUTH, Ask.QUIT}),  # rfc1939#4
        State.NAMED: frozenset({Ask.PASS, Ask.QUIT}),
        State.SASL: frozenset({Ask.RESPONSE}),  # rfc5034#4
        State.HANDSHAKE: frozenset({Ask.HANDSHAKE}),  # rfc2595#4
        State.TRANSACTION: frozenset(  # rfc1939#5
            {
                Ask.CAPA,
                Ask.STAT,
                Ask.LIST,
                Ask.UIDL,
                Ask.TOP,
                Ask.RETR,
                Ask.DELE,
                Ask.RSET,
                Ask.NOOP,
                Ask.QUIT,
            }
        ),
        State.QUITTING: frozenset(),
        State.CLOSED: frozenset(),
    }
)
"""What the caller may do in which state; anything else is a bug of the caller's. Only in TRANSACTION may a command be
given while another's answer is due; before it every answer decides what comes next."""

AFTER: Mapping[tuple[Ask, bool], State] = MappingProxyType(
    {
        (Ask.GREETING, True): State.AUTHORIZATION,
        (Ask.GREETING, False): State.CLOSED,
        (Ask.STLS, True): State.HANDSHAKE,
        (Ask.USER, True): State.NAMED,
        (Ask.PASS, True): State.TRANSACTION,
        (Ask.PASS, False): State.AUTHORIZATION,  # rfc1939#7: USER comes again
        (Ask.APOP, True): State.TRANSACTION,
        (Ask.AUTH, True): State.TRANSACTION,
        (Ask.AUTH, False): State.AUTHORIZATION,
        (Ask.QUIT, True): State.CLOSED,
        (Ask.QUIT, False): State.CLOSED,  # rfc1939#6: some may not have been deleted, and the server ends all the same
    }
)
"""The state after a positive or negative answer; where nothing stands here it stays as it was."""

LISTINGS = frozenset({Ask.CAPA, Ask.LIST, Ask.UIDL})
"""Whose positive answer is followed by lines,"""
CONTENTS = frozenset({Ask.TOP, Ask.RETR})
"""and by a message."""
