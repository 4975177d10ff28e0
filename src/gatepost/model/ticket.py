"""Tokens and tickets: the short ids by which every decision can be found again.

A token names a session, a ticket one transaction of it. Twelve characters of Crockford's base 32 hold 60 bits: the
milliseconds since 2026 (40 bits, until 2060), the shard (6 bits) and a counter (14 bits). So a token says when and
where to look, without an index and without a server; it reveals nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U
_VALUES = {character: value for value, character in enumerate(_ALPHABET)} | {"I": 1, "L": 1, "O": 0}
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_EPOCH_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class TokenError(ValueError):
    """The text isn't a token or ticket."""


def token_at(time_ms: int, shard: int, counter: int) -> str:
    """The token of a session begun at `time_ms` (Unix time) in a shard; `counter` tells apart what began together."""
    number = ((time_ms - _EPOCH_MS) & 0xFF_FFFF_FFFF) << 20 | (shard & 63) << 14 | (counter & 0x3FFF)
    return (
        f"{_PAIRS[number >> 50]}{_PAIRS[number >> 40 & 1023]}{_PAIRS[number >> 30 & 1023]}-"
        f"{_PAIRS[number >> 20 & 1023]}{_PAIRS[number >> 10 & 1023]}{_PAIRS[number & 1023]}"
    )


def token_time(token: str) -> tuple[int, int]:
    """(Unix time in ms, shard) of a token; raises TokenError."""
    digits = token.upper().replace("-", "")
    if len(digits) != 12 or any(digit not in _VALUES for digit in digits):
        raise TokenError(f"{token!r} isn't a token; a token looks like 06HK3M-9Q7TZA")
    number = 0
    for digit in digits:
        number = number << 5 | _VALUES[digit]
    return (number >> 20) + _EPOCH_MS, number >> 14 & 63


@dataclass(frozen=True, slots=True)
class Ticket:
    """A transaction's id: its session's token and its number in the session (1 first). Written `06HK3M-9Q7TZA-1`."""

    token: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """The ticket written so, in any case; raises TokenError."""
        token, _, number = text.upper().translate(_LOOK_ALIKES).rpartition("-")
        token_time(token)
        if not (number.isascii() and number.isdigit() and len(number) <= 9):
            raise TokenError(f"{text!r} isn't a ticket; a ticket looks like 06HK3M-9Q7TZA-1")
        return cls(token, int(number))

    def __str__(self) -> str:
        return f"{self.token}-{self.number}"


_LOOK_ALIKES = str.maketrans("ILO", "110")
