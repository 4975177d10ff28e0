"""What everything that lists do needs from the house around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatepost.model import Ticket
from gatepost.store.lists import ListStore


@dataclass(frozen=True, slots=True)
class Context:
    """`now` gives Unix time in seconds, `new_ticket` the ticket of a message that a list writes; `size_limit` is the
    server's own, in octets.
    """

    store: ListStore
    hostname: str
    now: Callable[[], float]
    new_ticket: Callable[[], Ticket]
    size_limit: int
