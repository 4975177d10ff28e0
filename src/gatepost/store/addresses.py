"""Where an address leads: to one user, to other addresses, or to nobody.

Who has the very address comes first. Then the local part is cut at a separator (`ann+shop@` leads to `ann@`), then the
same is tried in the domain that this one is an alias of, and what nobody has goes to whom the settings name for its
domain. Cutting never leaves a domain, and only a domain's alias leads to another one. Pure: how a user is found by the
very address is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gatepost.model import AddressError, Path

POSTMASTER = "postmaster"
_NEVER_CAUGHT = frozenset({POSTMASTER, "abuse"})  # who writes to these is to reach who is meant, or to hear a no
User = TypeVar("User")


@dataclass(frozen=True, slots=True)
class Rules:
    """What settings say about addresses. Domains are lower-case A-labels; keys of `aliases` as `store.users.folded`
    writes addresses, with "postmaster" for that of every domain.
    """

    domains: frozenset[str] = frozenset()
    """Whose addresses lead to anybody; empty: every domain's."""
    domain_aliases: Mapping[str, str] = field(default_factory=dict)
    plus: str = ""
    """The separators."""
    catch_all: Mapping[str, Path] = field(default_factory=dict)
    aliases: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    lent: frozenset[str] = frozenset()
    """The aliases that each of several whose mail they are may send as."""


@dataclass(frozen=True, slots=True)
class Forward:
    """An alias: `alias` is the key it was found by, `targets` whose mail it is as the settings say it."""

    alias: str
    targets: tuple[Path, ...]


class Addresses(Generic[User]):
    """Rules over users. Invariant: an address leads to at most one user, or to one alias, and always to the same."""

    def __init__(self, rules: Rules, find: Callable[[str], User | None], folded: Callable[[str], str]) -> None:
        """`find` gives the user who has the very address, which `folded` has written."""
        self.rules = rules
        self._find = find
        self._folded = folded

    def lead(self, address: Path) -> User | Forward | None:
        """Where mail for the address goes: an alias before the user who has the same address."""
        return self._lead(address, aliases=self.rules.aliases)

    def user(self, address: Path) -> User | None:
        """The user whose mailbox it is, aliases apart: what an alias keeps for the user of the same address."""
        found = self._lead(address, aliases={})
        return None if isinstance(found, Forward) else found

    def own(self, address: Path) -> User | None:
        """The same without what is only caught: whose very own the address is."""
        return self._had(self._candidates(address), {})[0] if self._is_ours(address) else None

    def targets(self, address: Path) -> tuple[Path, ...] | None:
        """Whose mail an alias's is in the end, each once; None if the address is no alias."""
        first = self.lead(address)
        return self._ends(first) if isinstance(first, Forward) else None

    def lent(self, address: Path) -> tuple[Path, ...]:
        """Who may send as an alias: the only one whose mail it is, or each of several where the rules say so.

        That of every domain's postmaster is nobody's where the rules don't say which domains are ours, and what is only
        caught is nobody's either.
        """
        if not address.domain or not self._is_ours(address):
            return ()
        _, forward = self._had(self._candidates(address), self.rules.aliases)
        if forward is None and self.rules.domains:
            forward = self._postmaster(address, self.rules.aliases)
        ends = () if forward is None else self._ends(forward)
        return ends if forward is not None and (len(ends) == 1 or forward.alias in self.rules.lent) else ()

    def circle(self, alias: str) -> tuple[str, ...]:
        """The aliases by which an alias leads back to itself, itself at both ends; () if it doesn't.

        An alias whose target is its own address isn't meant: that is the mailbox of the user who has it.
        """
        return self._circle(alias, alias, (alias,), set())

    def _ends(self, forward: Forward) -> tuple[Path, ...]:
        found: dict[str, Path] = {}
        self._gather(forward, [], set(), found)
        return tuple(found.values())

    def _gather(self, forward: Forward, above: list[str], done: set[str], found: dict[str, Path]) -> None:
        above = [*above, forward.alias]
        done.add(forward.alias)
        for target in forward.targets:
            further = self.lead(target)
            if not isinstance(further, Forward) or further.alias in above:  # its own address, or a circle's
                found.setdefault(self._folded(target.address), target)
            elif further.alias not in done:
                self._gather(further, above, done, found)

    def _circle(self, begin: str, alias: str, way: tuple[str, ...], done: set[str]) -> tuple[str, ...]:
        for target in self.rules.aliases[alias]:
            further = self.lead(target)
            if not isinstance(further, Forward) or further.alias == alias or further.alias in done:
                continue
            if further.alias == begin:
                return (*way, begin)
            done.add(further.alias)
            if circle := self._circle(begin, further.alias, (*way, further.alias), done):
                return circle
        return ()

    def _lead(self, address: Path, aliases: Mapping[str, tuple[Path, ...]]) -> User | Forward | None:
        if not self._is_ours(address):
            return None
        had, forward = self._had(self._candidates(address), aliases)
        if had is not None or forward is not None:
            return forward or had
        if (forward := self._postmaster(address, aliases)) is not None:
            return forward
        rules = self.rules
        if rules.catch_all and self._may_be_caught(address.local.lower()):
            for domain in self._domains(address.domain):
                if (caught := rules.catch_all.get(domain)) is not None:
                    had, forward = self._had(self._candidates(caught), aliases)
                    return forward or had
        return None

    def _postmaster(self, address: Path, aliases: Mapping[str, tuple[Path, ...]]) -> Forward | None:
        """The alias of every domain's postmaster."""
        is_his = address.local.lower() == POSTMASTER and POSTMASTER in aliases
        return Forward(POSTMASTER, aliases[POSTMASTER]) if is_his else None

    def _had(
        self, candidates: Iterator[str], aliases: Mapping[str, tuple[Path, ...]]
    ) -> tuple[User | None, Forward | None]:
        """Who has the first of the addresses that somebody has."""
        for address in candidates:
            if aliases and (targets := aliases.get(address)) is not None:
                return None, Forward(address, targets)
            if (user := self._find(address)) is not None:
                return user, None
        return None, None

    def _is_ours(self, address: Path) -> bool:
        domains = self.rules.domains
        return not domains or not address.domain or any(one in domains for one in self._domains(address.domain))

    def _candidates(self, address: Path) -> Iterator[str]:
        """The very address, then those it may stand for, as they are compared."""
        yield self._folded(address.address)
        locals_ = (address.local, *self._bases(address.local))
        for number, domain in enumerate(self._domains(address.domain)):
            for local in locals_ if number else locals_[1:]:
                yield self._folded(Path(local, domain).address)

    def _domains(self, domain: str) -> tuple[str, ...]:
        other = self.rules.domain_aliases.get(domain)
        return (domain,) if other is None else (domain, other)

    def _bases(self, local: str) -> tuple[str, ...]:
        """The local part before each separator in it, the longest first; one a separator, so that nobody has us look
        up many.
        """
        places = {place for separator in self.rules.plus if (place := local.find(separator)) > 0}
        return tuple(local[:place] for place in sorted(places, reverse=True))

    def _may_be_caught(self, local: str) -> bool:
        return not any(one in _NEVER_CAUGHT for one in (local, *self._bases(local)))


def parsed(address: str) -> Path | None:
    """The path of a text; None if it is none."""
    try:
        return Path.parse(address, bare_postmaster=True)
    except AddressError:
        return None
