"""Entropy that is the same on every machine for ever: what a session is made of can be made again from its number.

The generator is SplitMix64 (Steele, Lea and Flood, 2014): one 64-bit state, one addition and two multiplications a
throw. The standard library's `choice` and `randrange` may change with a version of Python, so they aren't used.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


class Weighted(Generic[T]):
    """Things with weights: `Weighted((3, "often"), (1, "seldom"))`."""

    __slots__ = ("sums", "things")

    def __init__(self, *rows: tuple[int, T]) -> None:
        self.things = tuple(thing for _, thing in rows)
        self.sums = tuple(accumulate(weight for weight, _ in rows))


class Dice:
    """Invariant: the throws depend on the seed and on the throws before, on nothing else."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK
        self._state = self._throw()  # neighbouring seeds begin far from each other

    def _throw(self) -> int:
        self._state = (self._state + _GAMMA) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def below(self, bound: int) -> int:
        """A number from 0 to bound - 1."""
        return (self._throw() >> 11) % bound

    def between(self, least: int, most: int) -> int:
        """A number from least to most, both among them."""
        return least + self.below(most - least + 1)

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred throws."""
        return self.below(100) < percent

    def pick(self, things: Sequence[T]) -> T:
        """One of them, each as likely as any other."""
        return things[self.below(len(things))]

    def weighed(self, things: Weighted[T]) -> T:
        """One of them, by their weights."""
        return things.things[bisect(things.sums, self.below(things.sums[-1]))]

    def octets(self, count: int) -> bytes:
        """Any octets."""
        pieces = -(-count // 8)
        return b"".join(self._throw().to_bytes(8, "big") for _ in range(pieces))[:count]
