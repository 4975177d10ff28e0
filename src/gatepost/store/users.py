"""Users: who has a maildrop and may authenticate, from the settings and from a database, behind one port."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

from gatepost.model import AddressError, Path, glob_matches
from gatepost.model.path import parse_domain
from gatepost.store.addresses import Addresses, Forward, Rules, parsed
from gatepost.store.passwords import Passwords, ScramKeys
from gatepost.store.stand_ins import StandIn, StandIns


class UsersFileError(Exception):
    """A file of users can't be read or understood."""


@dataclass(frozen=True, slots=True)
class User:
    """One user. `name` is the address and the login name; without a password nobody can log in as this user.

    `password` is a secret of any scheme that is known, `scram` is kept as ScramKeys writes it, `plain` is the password
    itself where somebody has asked for that; `send_as` may hold patterns. `extra` is what else a file says of the user,
    by name.
    """

    name: str
    password: str | None = None
    scram: str | None = None
    aliases: tuple[str, ...] = ()
    send_as: tuple[str, ...] = ()
    plain: str | None = field(default=None, repr=False)
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
    quota: int | None = None
    """Octets; 0 is without end, None what holds for everybody."""


class Users(Protocol):
    """What sessions and delivery ask about users. Names are compared without regard to case."""

    @property
    def can_scram(self) -> bool:
        """Whether every user who has a password has SCRAM keys, so that the mechanism may be offered."""

    @property
    def can_prove(self) -> bool:
        """Whether any user's password is kept in the clear, so that CRAM-MD5 and APOP can work."""

    async def verify(self, name: str, password: str) -> str | None:
        """The user's name as it is kept, or None, after the same time for a wrong name as for a wrong password.

        Raises UsersBusy.
        """

    async def scram_keys(self, name: str) -> ScramKeys | None:
        """A user's SCRAM keys; made-up ones for who is unknown or has none, so that nobody is told apart."""

    async def named(self, login: str) -> str | None:
        """The user's name as it is kept, for a login name, which may be an alias; None if there is none."""

    async def prove(self, name: str, fits: Callable[[str], bool]) -> str | None:
        """The user's name as it is kept, if a proof fits the password, which has to be kept in the clear; `fits` is
        asked once, whoever it is.
        """

    async def exists(self, address: Path | str) -> bool:
        """Whether mail for an address goes anywhere: to a user, or by an alias to others."""

    async def mailbox(self, address: Path | str) -> str | None:
        """The name of the user whose mailbox an address leads to, aliases for others apart."""

    def may_send_as(self, name: str, address: str) -> bool:
        """Whether a user may send from an address: the name, an alias, what leads to him alone, or what is allowed."""

    def list(self) -> Sequence[User]:
        """Every user, by name."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Offers:
    """Which logins are possible, as far as that is the users' to say."""

    scram: bool = True
    """Every user who has a password has SCRAM keys."""
    proof: bool = False
    """Some user's password is kept in the clear, which CRAM-MD5 and APOP need."""

    @classmethod
    def of(cls, users: Iterable[User]) -> Offers:
        """What these users make possible."""
        scram, proof = True, False
        for user in users:
            scram = scram and bool(user.scram or not user.password)
            proof = proof or user.plain is not None
        return cls(scram, proof)


class Source(Protocol):
    """Where users are kept."""

    def find(self, address: str) -> User | None:
        """The user with this name or alias, as `folded` writes it."""

    def all(self) -> Iterable[User]: ...

    @property
    def secret(self) -> bytes:
        """What made-up SCRAM keys are derived from: the same until the users change, and known to nobody else."""

    @property
    def stand_in(self) -> StandIn:
        """The kind of secret that most of these users have."""

    @property
    def offers(self) -> Offers:
        """What these users make possible; cheap to ask."""

    async def look_again(self) -> None:
        """Take in at once what has changed, without stopping the event loop for it."""

    def close(self) -> None: ...


class StaticUsers:
    """The users that stand in the settings. Invariant: no address belongs to two of them."""

    def __init__(self, users: Iterable[User]) -> None:
        """Raises ValueError if an address is given twice, or SCRAM keys aren't any."""
        self._users = tuple(users)
        self._by_address: dict[str, User] = {}
        stand_ins = StandIns()
        for user in self._users:
            stand_ins.count(user.password)
            if user.scram is not None:
                ScramKeys.parse(user.scram)
            for address in (user.name, *user.aliases):
                if self._by_address.setdefault(folded(address), user) is not user:
                    raise ValueError(f"{address} belongs to two users")
        self.stand_in = stand_ins.usual()
        self.offers = Offers.of(self._users)
        self.secret = blake2b(repr(self._users).encode("utf-8", "surrogatepass")).digest()

    def find(self, address: str) -> User | None:
        return self._by_address.get(address)

    def all(self) -> Iterable[User]:
        return self._users

    async def look_again(self) -> None:
        """Nothing changes."""

    def close(self) -> None:
        """Nothing is open."""


class Accounts:
    """The users of several sources; an earlier one wins."""

    def __init__(self, sources: Sequence[Source], passwords: Passwords, rules: Rules | None = None) -> None:
        self._sources = tuple(sources)
        self._passwords = passwords
        self.addresses: Addresses[User] = Addresses(rules or Rules(), self._having, folded)
        """Where addresses lead; the rules may change while it runs."""

    @property
    def offers(self) -> Offers:
        """What all of them together make possible."""
        each = [source.offers for source in self._sources]
        return Offers(all(one.scram for one in each), any(one.proof for one in each))

    async def look_again(self) -> None:
        """Take in what has changed in their files."""
        for source in self._sources:
            await source.look_again()

    @property
    def can_scram(self) -> bool:
        return self.offers.scram

    async def verify(self, name: str, password: str) -> str | None:
        user = self._find(name)
        kept = None if user is None else user.password
        stand_in = None if kept is not None else self._stand_in()
        is_right = await self._passwords.check(kept, password, stand_in=stand_in)
        return user.name if user is not None and is_right else None

    @property
    def can_prove(self) -> bool:
        return self.offers.proof

    async def prove(self, name: str, fits: Callable[[str], bool]) -> str | None:
        user = self._find(name)
        kept = None if user is None else user.plain
        is_right = fits("nobody has this password" if kept is None else kept)
        return user.name if user is not None and kept is not None and is_right else None

    async def scram_keys(self, name: str) -> ScramKeys | None:
        user = self._find(name)
        if user is None or user.scram is None:
            secret = blake2b(b"".join(source.secret for source in self._sources)).digest()
            return self._passwords.made_up_keys(secret, folded(name), like=self._stand_in())
        return ScramKeys.parse(user.scram)

    async def named(self, login: str) -> str | None:
        user = self._find(login)
        return None if user is None else user.name

    def follow(self, rules: Rules) -> None:
        """These rules hold from now on."""
        self.addresses = Addresses(rules, self._having, folded)

    def lead(self, address: Path) -> User | Forward | None:
        """Where mail for an address goes: to a user, on to others, or to nobody."""
        return self.addresses.lead(address)

    async def targets(self, address: Path) -> Sequence[Path] | None:
        """Whose mail an alias's is in the end; None if the address is none."""
        return self.addresses.targets(address)

    async def person(self, address: Path) -> str:
        """What two addresses have in common whose mail comes to rest in one mailbox; nothing else has it."""
        user = self.addresses.user(address)
        return folded(address.address) if user is None else folded(user.name)

    async def exists(self, address: Path | str) -> bool:
        path = address if isinstance(address, Path) else parsed(address)
        return path is not None and self.addresses.lead(path) is not None

    async def mailbox(self, address: Path | str) -> str | None:
        path = address if isinstance(address, Path) else parsed(address)
        user = None if path is None else self.addresses.user(path)
        return None if user is None else user.name

    def may_send_as(self, name: str, address: str) -> bool:
        user = self._find(name)
        if user is None:
            return False
        wanted = folded(address)
        return (
            any(folded(own) == wanted for own in (user.name, *user.aliases))
            or any(glob_matches(folded(pattern), wanted) for pattern in user.send_as)
            or self._shares(user, address)
        )

    def list(self) -> Sequence[User]:
        known: dict[str, User] = {}
        for source in self._sources:
            for user in source.all():
                known.setdefault(folded(user.name), user)
        return sorted(known.values(), key=lambda user: user.name)

    async def close(self) -> None:
        await self._passwords.close()
        for source in self._sources:
            source.close()

    def _stand_in(self) -> str | None:
        """What an unknown user's password is held against: what most users have."""
        return max((source.stand_in for source in self._sources), key=lambda one: one.users, default=StandIn()).secret

    def _shares(self, user: User, address: str) -> bool:
        """Whether the address is the user's by a rule (`ann+shop@`), or an alias's that he may send as."""
        path = parsed(address)
        if path is None:
            return False
        theirs = (path, *self.addresses.lent(path))
        return any(owner is not None and owner.name == user.name for owner in map(self.addresses.own, theirs))

    def _find(self, address: str) -> User | None:
        return self._having(folded(address))

    def _having(self, address: str) -> User | None:
        """The user with this very name or alias, as `folded` writes it."""
        for source in self._sources:
            if (user := source.find(address)) is not None:
                return user
        return None


def folded(address: str) -> str:
    """An address, or a pattern of some, as it is compared, and always text that can be written down.

    A domain is compared by its A-labels, in which addresses arrive (rfc5890#2.3.2.1).
    """
    if address.isascii():
        return address.lower()
    local, at, domain = unicodedata.normalize("NFC", address).lower().rpartition("@")
    if at and not domain.isascii():
        any_below = "*." if domain.startswith("*.") else ""
        with suppress(AddressError):  # a pattern, or no domain
            domain = any_below + parse_domain(domain.removeprefix("*."))
    return f"{local}{at}{domain}".encode("utf-8", "backslashreplace").decode()
