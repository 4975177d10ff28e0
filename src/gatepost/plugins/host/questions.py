"""What a host is asked, and how long it rests after a bad life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gatepost.model import Blob
from gatepost.plugins.host.life import Life
from gatepost.plugins.host.scratch import Print
from gatepost.wire.host import Answer

GOOD_LIFE_S = 1.0  # a life as long as this, with an answer in it, makes up for bad ones before it


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next life: doubles with every bad one."""

    first_s: float = 0.1
    most_s: float = 30.0
    _next_s: float = field(default=0.0, init=False)

    def after(self, lived_s: float, answered: int) -> float:
        """Seconds to wait after a life of `lived_s` seconds with so many answers."""
        if lived_s >= GOOD_LIFE_S and answered:
            self._next_s = 0.0
        wait, self._next_s = self._next_s or self.first_s, min(2 * (self._next_s or self.first_s), self.most_s)
        return wait


@dataclass(slots=True, eq=False)
class Question:
    """A question as it is asked of a host. `deadline` is on the loop's clock."""

    session: str
    transaction: int
    stage: str
    facts: Callable[[str | None], dict[str, Any]]
    """Made when it is asked, from the path of its content as the child knows it."""
    deadline: float
    content: Blob | None
    answer: asyncio.Future[Answer]
    suffix: str | None = None
    """What the name of its content's file ends with, for a plugin that may write into it; else None."""
    id: int = 0
    asked: int = 0
    """How often; at most twice."""
    file: str | None = None
    """Where its content is, as it was asked last."""
    print: Print | None = None
    """What that file looked like then, if the plugin may write into it."""
    life: Life | None = None
    """Where it is, or was last."""
