"""Where a message comes from, for next servers that are told (`introduce` of a route)."""

from __future__ import annotations

from collections.abc import Mapping

from gatepost.hooks.session import Session
from gatepost.hooks.transaction import Transaction
from gatepost.model import kept
from gatepost.model.origin import Origin
from gatepost.serving.place import Place

FACT = "origin"
"""The key of a deposit's facts under which it stands."""
_NOTHING: Mapping[str, str] = {}
_PROTOCOLS = {"smtp": "ESMTP", "submission": "ESMTP", "lmtp": "LMTP"}


def origin_of(session: Session) -> Origin:
    """The client of a session."""
    peer = session.peer
    return Origin(
        peer.address,
        peer.port,
        _PROTOCOLS.get(session.protocol, "ESMTP"),
        session.helo,
        peer.found or "",
        session.user or "",
    )


def facts_of(place: Place, session: Session, transaction: Transaction) -> Mapping[str, str]:
    """What a deposit keeps of it, where somebody is told, and what plugins want kept."""
    facts = {FACT: origin_of(session).fact()} if place.introduces else _NOTHING
    return {**facts, kept.FACT: kept.kept_fact(transaction.kept)} if transaction.kept else facts
