"""Everything a POP3 session needs of its surroundings, made by `app` per listener and generation."""

from __future__ import annotations

from dataclasses import dataclass

from gatepost.hooks.ports import Facts
from gatepost.serving.place import Ground
from gatepost.store.mailboxes import Mailboxes
from gatepost.wire.pop3.profile import Profile


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PopPlace(Ground):
    """One listener for POP3 in one generation."""

    hostname: str
    profile: Profile
    mailboxes: Mailboxes
    facts: Facts | None = None
    """The ledger, which remembers the latest logins where they must not follow too soon."""
    failure_delay_s: float = 0.0
    """How long the reply to a login that has failed waits; the second one of a session twice as long, and so on."""
    verbatim: bool = False
    """Whether refusals leave as plugins have said them."""
