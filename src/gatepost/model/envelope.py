"""The envelope: whom a message is from and for, apart from what it says (RFC 5321 §2.3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

from gatepost.model.facts import fact
from gatepost.model.path import NULL_PATH, Path

_NOTHING: Mapping[str, str] = MappingProxyType({})


def _nothing() -> Mapping[str, str]:
    return _NOTHING


class Body(Enum):
    """What the client declared the content to be (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"
    BINARY_MIME = "BINARYMIME"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a transaction: its path and the parameters of its RCPT command (keyword upper-case)."""

    path: Path
    parameters: Mapping[str, str] = field(default_factory=_nothing, compare=False)

    @property
    def address(self) -> str:
        """`local@domain`."""
        return self.path.address

    @property
    def local(self) -> str:
        """The local part, unquoted."""
        return self.path.local

    @property
    def domain(self) -> str:
        """The domain: lower-case A-label, or an address literal."""
        return self.path.domain

    def __hash__(self) -> int:
        return hash(self.path.local)  # as the path's own, with one call less

    def matches(self, pattern: str) -> bool:
        """Whether a pattern like `*@example.org` fits; see Path.matches."""
        return self.path.matches(pattern)

    def __str__(self) -> str:
        return self.path.address


@fact
class Envelope:
    """Sender and recipients, with what the client asked for the transport. At least one recipient once committed."""

    sender: Path = NULL_PATH
    recipients: tuple[Recipient, ...] = ()
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    parameters: Mapping[str, str] = field(default_factory=_nothing, compare=False)
    """The MAIL command's parameters as given (keyword upper-case)."""
