"""What the client machine tells: frozen values; and what a server can do.

Strategy: every command has one `Answered`, whatever it was; what has several lines then goes on in pieces and ends with
`Complete`. Which call leads where stands in `client_states`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from gatepost.wire.pop3.client_states import Ask
from gatepost.wire.pop3.replies import Reply


class Needs(Enum):
    """No event: `NEED_DATA` says that the machine waits for the server or for its caller."""

    DATA = "data"


NEED_DATA: Final = Needs.DATA


@dataclass(frozen=True, slots=True)
class Answered:
    """The server's word on a command, or its greeting. `number` is that of the message it was about."""

    ask: Ask
    reply: Reply
    number: int = 0


@dataclass(frozen=True, slots=True)
class Challenge:
    """What AUTH is asked, decoded: `respond` or `cancel`."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Some of LIST: numbers and octets, as the server says they are."""

    entries: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Names:
    """Some of UIDL: numbers and names; None for a name that can't be one."""

    entries: tuple[tuple[int, str | None], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the content of RETR or TOP: CRLF lines without stuffing, no CRLF divided."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Complete:
    """What had several lines is whole."""

    ask: Ask
    number: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """The server has ended the session. `reply` is what it said of it by itself, if anything."""

    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class ProtocolError:
    """What the server says can't be POP3, or can't be believed. The session is over."""

    text: str


Event = Answered | Challenge | Sizes | Names | Piece | Complete | Closed | ProtocolError


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What CAPA told: tags in upper case, with their arguments. `are_known`: there was a CAPA, and it told."""

    tags: Mapping[str, tuple[str, ...]]
    are_known: bool = False

    def __contains__(self, tag: str) -> bool:
        return tag in self.tags

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Of AUTH, in upper case and the server's order."""
        return tuple(name.upper() for name in self.tags.get("SASL", ()))


NO_CAPABILITIES: Final = Capabilities(MappingProxyType({}))
