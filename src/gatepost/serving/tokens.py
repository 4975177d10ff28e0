"""Makes tokens: one per session, unique in its shard."""

from __future__ import annotations

from collections.abc import Callable

from gatepost.model import token_at


class Tokens:
    """Tokens of one shard. Two are alike only if 16,384 sessions begin within one millisecond."""

    def __init__(self, shard: int, time_s: Callable[[], float]) -> None:
        self._shard = shard
        self._time_s = time_s
        self._count = 0

    def next(self) -> str:
        """A new token, for a session that begins now."""
        self._count += 1
        return token_at(int(self._time_s() * 1000), self._shard, self._count)
