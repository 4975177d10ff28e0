"""A session as a value: what a client sends, when it listens, how it ends. A driver plays it, a person reads it."""

from __future__ import annotations

from dataclasses import dataclass

ANY = 0


@dataclass(frozen=True, slots=True)
class Send:
    """These octets leave, in one piece; with `after` only if the last reply had that code, or that first digit."""

    octets: bytes
    after: int = ANY


@dataclass(frozen=True, slots=True)
class Hear:
    """Wait for every reply that is owed."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """TLS, where the server has just agreed to it; with `octets` these are sent instead of it."""

    octets: bytes = b""


@dataclass(frozen=True, slots=True)
class Shut:
    """The client has said all it will say, and still listens."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """The connection is gone from one moment to the next."""


Step = Send | Hear | Handshake | Shut | HangUp


@dataclass(frozen=True, slots=True)
class Session:
    """Invariant: `HangUp` and `Shut` are the last step, if they are there at all."""

    seed: int
    steps: tuple[Step, ...]

    @property
    def octets(self) -> int:
        """How many a client that sends everything would send."""
        return sum(len(step.octets) for step in self.steps if isinstance(step, Send))

    def __str__(self) -> str:
        return "\n".join(f"{number:4}  {_told(step)}" for number, step in enumerate(self.steps))


def _told(step: Step) -> str:
    match step:
        case Send(octets, after):
            return f"{f'after {after}: ' if after else ''}{shown(octets)}"
        case Handshake(octets) if octets:
            return f"(instead of a handshake) {shown(octets)}"
        case _:
            return f"({type(step).__name__.lower()})"


def shown(octets: bytes, most: int = 200) -> str:
    """Octets for a person: escapes for what isn't printable ASCII, the middle left out where it is long."""
    if len(octets) <= most:
        return _escaped(octets)
    half = most // 2
    return f"{_escaped(octets[:half])} …({len(octets) - 2 * half} octets)… {_escaped(octets[-half:])}"


def _escaped(octets: bytes) -> str:
    return repr(octets)[2:-1].replace("\\'", "'")
