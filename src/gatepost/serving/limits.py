"""How many sessions there may be, in all and from one peer; counted by a port, so that workers can share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from gatepost.model import Address


class Admission(Enum):
    """Whether one session more may begin."""

    GRANTED = "granted"
    FULL = "too many sessions in all"
    PEER_FULL = "too many sessions from this peer"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """0 stands for no limit."""

    in_all: int = 1000
    per_peer: int = 50


class SessionCounter:
    """The sessions of one worker. Every granted admission is given back exactly once, by `leave`."""

    def __init__(self, limits: SessionLimits) -> None:
        self.limits = limits
        self.in_all = 0
        self._by_peer: Counter[str] = Counter()

    def enter(self, peer: Address) -> Admission:
        """Count one session more from this peer, if there is room. IPv6 peers are counted by /64."""
        limits, key = self.limits, peer_key(peer)
        if limits.in_all and self.in_all >= limits.in_all:
            return Admission.FULL
        if limits.per_peer and self._by_peer[key] >= limits.per_peer:
            return Admission.PEER_FULL
        self.in_all += 1
        self._by_peer[key] += 1
        return Admission.GRANTED

    def leave(self, peer: Address) -> None:
        """One session fewer."""
        key = peer_key(peer)
        self.in_all -= 1
        self._by_peer[key] -= 1
        if not self._by_peer[key]:
            del self._by_peer[key]


def peer_key(peer: Address) -> str:
    """What counts as one peer: an IPv4 address, an IPv6 /64."""
    if peer.version == 4:
        return str(peer)
    return f"{int(peer) >> 64:x}/64"
