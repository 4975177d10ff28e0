"""The moments plugins are asked about in a POP3 session: who somebody is, and what is read and removed.

Sizes and unique ids are told before, in listings, so a plugin decides here and doesn't edit. A refusal is -ERR: a 4xx
one says that it is for now ([SYS/TEMP], RFC 3206), 421 closes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gatepost.hooks.events import Event


@dataclass(eq=False)
class PopLogin(Event):
    """A POP3 client wants to be a user. Identity and Deny decide; Credentials lets the house check; None leaves it to
    the house's own users. With Identity the user's maildrop may be named, where it isn't that of the user's name.
    """

    name: ClassVar[str] = "pop-login"
    mechanism: str = ""
    """USER (with PASS), PLAIN, LOGIN or SCRAM-SHA-256."""
    user: str = ""
    """The name the client gives."""
    password: str | None = None
    """The password; None where the mechanism doesn't send one."""


@dataclass(eq=False)
class PopRetrieve(Event):
    """RETR or TOP: a message is about to be sent to the user."""

    name: ClassVar[str] = "pop-retrieve"
    number: int = 0
    """Which message of this session it is, from 1."""
    uid: str = ""
    """Its unique id, the same in every session."""
    size: int = 0
    """Octets of the whole message as it is sent, line ends counted as two."""
    is_top: bool = False
    """Whether only its beginning is asked for."""


@dataclass(eq=False)
class PopDelete(Event):
    """DELE: a message is about to be marked. It is removed at QUIT."""

    name: ClassVar[str] = "pop-delete"
    number: int = 0
    """Which message of this session it is, from 1."""
    uid: str = ""
    """Its unique id, the same in every session."""
