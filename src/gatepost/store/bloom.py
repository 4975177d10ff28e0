"""A small Bloom filter: which tokens a trace segment may hold, at two octets a token."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct

_BITS_A_WORD = 16
_PROBES = Struct("<5Q")  # five probes at 16 bits a word: about one in 500 says yes by mistake


@dataclass(frozen=True, slots=True)
class Bloom:
    """Says "no" only about words that weren't given. Of nothing it has no bits, and says "no" to everything."""

    bits: bytes

    @classmethod
    def of(cls, words: Collection[str]) -> Bloom:
        """The filter of all these words."""
        bits = bytearray((len(words) * _BITS_A_WORD + 7) // 8)
        for word in words:
            for probe in _probes(word, len(bits) * 8):
                bits[probe >> 3] |= 1 << (probe & 7)
        return cls(bytes(bits))

    def may_have(self, word: str) -> bool:
        size = len(self.bits) * 8
        return bool(size) and all(self.bits[probe >> 3] >> (probe & 7) & 1 for probe in _probes(word, size))


def _probes(word: str, size: int) -> Iterator[int]:
    digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=_PROBES.size).digest()
    return (number % size for number in _PROBES.unpack(digest))
