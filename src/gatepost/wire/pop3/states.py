"""What a client may say when: the states of a session, the verbs, and one table that joins them.

Strategy: `LEGAL` gives for every state in which commands are read, and every verb, either what the command raises or
the reply that refuses it. The machine looks up, the tests walk it. What depends on a profile or on TLS is not here but
in `offers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from itertools import product
from types import MappingProxyType

from gatepost.wire.pop3 import refusals as no
from gatepost.wire.pop3.replies import Reply


class State(Enum):
    """Where a session is. Each is reached only by the answer to a question, UPDATE by the question itself."""

    __hash__ = object.__hash__  # Enum's own is a Python function, and every command looks up here

    CONNECT = "before the greeting"
    AUTHORIZATION = "greeted, nobody known"
    NAMED = "a name given, its password due"
    SASL = "within an authentication exchange"
    TRANSACTION = "the maildrop is open"
    UPDATE = "QUIT was said, what was marked is being deleted"
    TLS = "before the TLS handshake"
    CLOSED = "over"


COMMAND_STATES = (State.AUTHORIZATION, State.NAMED, State.TRANSACTION)


class Verb(Enum):
    """The commands of RFC 1939, 2449, 2595, 5034 and 6856; UNKNOWN stands for every other word."""

    __hash__ = object.__hash__

    USER = "USER"
    PASS = "PASS"  # noqa: S105  the command's name, not a password
    APOP = "APOP"
    AUTH = "AUTH"
    STLS = "STLS"
    UTF8 = "UTF8"
    LANG = "LANG"
    CAPA = "CAPA"
    STAT = "STAT"
    LIST = "LIST"
    UIDL = "UIDL"
    RETR = "RETR"
    TOP = "TOP"
    DELE = "DELE"
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"
    UNKNOWN = ""


class Ask(Enum):
    """What a legal command raises."""

    __hash__ = object.__hash__

    USER = "User"
    LOGIN = "Login"
    APOP = "Login, by a digest"
    AUTH = "Auth"
    START_TLS = "StartTls"
    UTF8 = "Utf8"
    LANG = "Lang"
    CAPA = "Capa"
    STAT = "Stat"
    LIST = "List"
    UIDL = "Uidl"
    RETRIEVE = "Retrieve"
    TOP = "Top"
    DELETE = "Delete"
    RESET = "Reset"
    NOOP = "Noop"
    QUIT = "Quit"


Decision = Ask | Reply

_ALWAYS: dict[Verb, Decision] = {
    Verb.UNKNOWN: no.UNKNOWN,
    Verb.CAPA: Ask.CAPA,  # rfc2449#5
    Verb.LANG: Ask.LANG,  # rfc6856#3
    Verb.QUIT: Ask.QUIT,
}
_AUTHORIZATION = {  # rfc1939#4
    **dict.fromkeys(Verb, no.LOGIN_FIRST),
    **_ALWAYS,
    Verb.USER: Ask.USER,
    Verb.PASS: no.USER_FIRST,
    Verb.APOP: Ask.APOP,
    Verb.AUTH: Ask.AUTH,  # rfc5034#4
    Verb.STLS: Ask.START_TLS,  # rfc2595#4
    Verb.UTF8: Ask.UTF8,  # rfc6856#2.1
}
_ROWS: dict[State, dict[Verb, Decision]] = {
    State.AUTHORIZATION: _AUTHORIZATION,
    # rfc1939#7 has PASS follow USER at once; what says nothing about the user may stand between
    State.NAMED: {**_AUTHORIZATION, Verb.PASS: Ask.LOGIN},
    State.TRANSACTION: {  # rfc1939#5
        **dict.fromkeys(Verb, no.LOGGED_IN),
        **_ALWAYS,
        Verb.STAT: Ask.STAT,
        Verb.LIST: Ask.LIST,
        Verb.UIDL: Ask.UIDL,
        Verb.RETR: Ask.RETRIEVE,
        Verb.TOP: Ask.TOP,
        Verb.DELE: Ask.DELETE,
        Verb.RSET: Ask.RESET,
        Verb.NOOP: Ask.NOOP,
    },
}

LEGAL: Mapping[tuple[State, Verb], Decision] = MappingProxyType(
    {(state, verb): _ROWS[state][verb] for state, verb in product(COMMAND_STATES, Verb)}
)
"""The table: (state, verb) → what is raised, or the reply that refuses."""
