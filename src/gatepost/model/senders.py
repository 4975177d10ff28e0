"""Whose mail a route is for: patterns of senders and users, the same at reception and at delivery."""

from __future__ import annotations

from dataclasses import dataclass

from gatepost.model.path import Path

NULL = "<>"
_USER = "user:"


@dataclass(frozen=True, slots=True)
class Senders:
    """Patterns, of which any may fit: `*@example.org` for the sender's address (see Path.matches), `<>` for the null
    sender, `user:ann` or `user:*@example.org` for the user who has authenticated.
    """

    patterns: tuple[str, ...]

    def fit(self, sender: Path, user: str | None) -> bool:
        """Whether a sender, or the user that a session has authenticated as, is among them."""
        for pattern in self.patterns:
            if pattern.startswith(_USER):
                if user is not None and _named(user).matches(pattern[len(_USER) :]):
                    return True
            elif pattern == NULL:
                if not sender:
                    return True
            elif sender and (pattern == "*" or sender.matches(pattern)):
                return True
        return False


def _named(user: str) -> Path:
    """A user's name in the shape of a path; not every one is an address."""
    local, at, domain = user.rpartition("@")
    return Path(local, domain.lower()) if at else Path(user)
