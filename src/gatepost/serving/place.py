"""Everything a session needs of its surroundings, joined in one value: made by `app` per listener and generation.

A session keeps the place it began with until it ends, so a reload changes nothing under a session's feet.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from inspect import isawaitable
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Protocol

from gatepost.content.headers import Limits as HeaderLimits
from gatepost.content.view import Files
from gatepost.hooks.dispatcher import Dispatcher
from gatepost.hooks.notices import Notice
from gatepost.hooks.ports import Clock, Recorder
from gatepost.model import Address
from gatepost.serving.failed_logins import FailedLogins
from gatepost.serving.house import GateHouse
from gatepost.serving.limits import SessionCounter
from gatepost.serving.patience import LoopPatience
from gatepost.serving.proxied import ProxyDoor
from gatepost.serving.repeats import Repeats
from gatepost.serving.tokens import Tokens
from gatepost.store.spool import Spool
from gatepost.wire.smtp.profile import Profile

log = logging.getLogger("gatepost.plugins")


class Disagreement(Enum):
    """What to do when one message is wanted for one recipient and refused for another, and the client can hear only one
    reply."""

    ONE_POLICY = "one-policy"
    """A RCPT whose plugins differ from the first's gets 452, so that each sender hears its own answer."""
    HOLD_OTHERS = "hold-others"
    """250; for the recipients who refuse, the message is held."""
    STRICTEST = "strictest"
    """The refusal, for everybody."""


class Refusals(Enum):
    """What becomes of mail that is refused for good at end-of-data."""

    SAID = "said"
    """The client hears it, and has the message still."""
    HELD = "held"
    """Nobody is there to hear it, since it was brought from elsewhere: it is held."""
    DISCARDED = "discarded"
    """The same, and it is thrown away."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. A command's time is for the whole line, not for each octet of it (attack R6)."""

    command: float = 300.0  # rfc5321#4.5.3.2.7
    content_piece: float = 180.0  # rfc5321#4.5.3.2.5
    content: float = 1800.0
    handshake: float = 30.0
    flush: float = 300.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What the house does where the standards leave a choice."""

    recipients_disagree: Disagreement = Disagreement.ONE_POLICY
    verbatim: bool = False
    header_limits: HeaderLimits = field(default_factory=HeaderLimits)
    max_hops: int = 100  # rfc5321#6.3
    stripped_headers: tuple[str, ...] = ()
    """Header fields that mean something only inside, deleted when they come from outside."""
    refusals: Refusals = Refusals.SAID
    keyword: str | None = None
    """What our Received fields say it came by, where that isn't what the session speaks."""
    complete_headers: bool = False
    """Add a missing Date and Message-ID (submission)."""  # rfc6409#8


@dataclass(frozen=True, slots=True)
class Trust:
    """Which peers of a listener may say for whom they speak: by XCLIENT, whose word is as good as a connection, and by
    XFORWARD, which is for the record.
    """

    xclient: tuple[IPv4Network | IPv6Network, ...] = ()
    xforward: tuple[IPv4Network | IPv6Network, ...] = ()

    def profile(self, usual: Profile, peer: Address) -> Profile:
        """What this peer is offered. A few of them are made, and shared by all sessions."""
        return _trusting(
            usual,
            any(peer in network for network in self.xclient),
            any(peer in network for network in self.xforward),
        )


@lru_cache(maxsize=64)
def _trusting(usual: Profile, xclient: bool, xforward: bool) -> Profile:
    return replace(usual, xclient=xclient, xforward=xforward) if xclient or xforward else usual


class Users(Protocol):
    """Who may authenticate here."""

    async def verify(self, name: str, password: str) -> str | None:
        """The user's canonical name; None for a wrong name or password, after the same time."""

    async def scram_keys(self, name: str) -> Any:
        """The user's SCRAM-SHA-256 keys; None if there are none."""

    async def named(self, login: str) -> str | None:
        """The user's canonical name, whatever name of his was used for the login; None if there is no such user."""

    async def prove(self, name: str, fits: Callable[[str], bool]) -> str | None:
        """The user's canonical name, if `fits` says so of a password that is kept in the clear."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ground:
    """One listener in one generation, as far as it is the same whatever is spoken there."""

    listener: str
    dispatcher: Dispatcher
    tokens: Tokens
    clock: Clock
    patience: LoopPatience
    recorder: Recorder
    counter: SessionCounter
    timeouts: Timeouts = field(default_factory=Timeouts)
    users: Users | None = None
    door: ProxyDoor | None = None
    """None where no proxy is in front."""
    tls: Callable[[], ssl.SSLContext] | None = None
    lookup: Callable[[Address], Coroutine[Any, Any, str | None]] | None = None
    nonce: Callable[[], str] | None = None
    """Entropy for SCRAM, CRAM-MD5 and APOP."""
    failed_logins: FailedLogins | None = None
    """None where they aren't counted."""
    notices: Mapping[type[Notice], Sequence[Callable[[Any], Any]]] = field(default_factory=dict)

    def tell(self, notice: Notice) -> None:
        """Tell whoever is bound to it; nobody waits, and nothing that they do comes back here."""
        tell(self.notices, self.patience, notice)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Place(Ground):
    """One listener for mail in one generation."""

    profile: Profile
    house: GateHouse
    spool: Spool
    policy: Policy = field(default_factory=Policy)
    trust: Trust | None = None
    """None where nobody may speak for others."""
    introduces: bool = False
    """Whether some next server is told who the client is."""
    repeats: Repeats | None = None
    files: Files | None = None


def tell(
    notices: Mapping[type[Notice], Sequence[Callable[[Any], Any]]], patience: LoopPatience, notice: Notice
) -> None:
    """Tell whoever is bound to a notice, beside."""
    for hook in notices.get(type(notice), ()):
        patience.spawn(_told(hook, notice))


async def _told(hook: Callable[[Any], Any], notice: Notice) -> None:
    try:
        work = hook(notice)
        if isawaitable(work):
            await work
    except (Exception, SystemExit):
        log.exception("a plugin failed when it was told %s", notice.name)


def names(recipients: Iterable[object]) -> list[str]:
    """Addresses as texts, for the trace; not more of them than it would keep."""
    return [str(recipient) for recipient, _ in zip(recipients, range(100), strict=False)]
