"""What an account is: which maildrop elsewhere, whom its mail is for, and how long it is left there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from gatepost.collecting.ports import Login, OnRefusal
from gatepost.model import Path
from gatepost.model.path import glob_matches

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class MultiDrop:
    """A maildrop that has the mail of several people, each named in a header field that the other server writes.

    `prefix` is what that server puts before the address; `domains` are patterns of the domains that count, () for all.
    """

    header: str
    prefix: str = ""
    domains: tuple[str, ...] = ()

    def counts(self, path: Path) -> bool:
        """Whether an address of this domain is one of ours."""
        return not self.domains or any(glob_matches(pattern, path.domain) for pattern in self.domains)


@dataclass(frozen=True, slots=True)
class Believed:
    """Whose Received fields are believed, beside those that the other server wrote itself: by address, or by name."""

    networks: tuple[Network, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """One maildrop on another server. Times in seconds.

    `every_s` 0: only when it is asked for. `keep_s`: how long a message is left there after it was fetched; 0 is no
    longer than until it is durable here, None is for ever. At most `most` messages are fetched in one run, and one
    message goes to at most `most_recipients`. One that is refused for now is tried again for `expire_s`, then held;
    None: for ever.
    """

    name: str
    login: Login
    to: Path
    every_s: float = 300.0
    envelope: MultiDrop | None = None
    keep_s: float | None = 7 * 86400.0
    size_limit: int = 50 * 2**20
    believed: Believed = Believed()
    on_refusal: OnRefusal = "quarantine"
    most: int = 1000
    most_recipients: int = 100
    expire_s: float | None = 5 * 86400.0
    enabled: bool = True

    @property
    def maildrop(self) -> tuple[str, str]:
        """What makes it the same maildrop, whatever the account is called: server and user."""
        return self.login.host.lower(), self.login.user


Clock = Callable[[], float]
"""Unix time in seconds."""
