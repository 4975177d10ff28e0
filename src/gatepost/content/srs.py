"""The Sender Rewriting Scheme: a return path of ours for mail that is forwarded, from which bounces find back.

Strategy: as the paper has it (Meng Weng Wong, "Sender Rewriting Scheme", 2004). `SRS0=HASH=TT=domain=local@ours` holds
the whole sender, with a day of two characters and a short HMAC, so nothing is kept; only whoever has a secret makes one
that is read back. A sender that is an SRS0 of another forwarder becomes `SRS1=HASH=forwarder==…@ours`, which leads back
to that forwarder, however many there are. Hash and day have one case only, since some servers lower an address's.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from dataclasses import dataclass, field
from functools import cached_property

from gatepost.model import AddressError, Path
from gatepost.model.path import MAX_LOCAL, MAX_PATH, parse_domain

DAY_S = 86400
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_DAYS = len(_DIGITS) ** 2  # after which the days begin again
_HASH = 6  # characters of 5 bits
_SRS0 = re.compile(r"SRS0([=+-])([A-Z2-7/+]{2,})=([A-Z2-7]{2})=([^=]+)=(.+)", re.IGNORECASE | re.DOTALL)
_SRS1 = re.compile(r"SRS1[=+-]([A-Z2-7/+]{2,})=([^=]+)=([=+-].+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Srs:
    """Return paths at one domain. The first secret makes them, each is good for reading; so they can change in turn.

    `days` is how old a return path may be.
    """

    domain: str
    secrets: tuple[bytes, ...] = field(repr=False)
    days: int = 21

    def __post_init__(self) -> None:
        if not (self.secrets and all(self.secrets) and 0 < self.days < _DAYS - 1):
            raise ValueError(f"SRS needs a secret, and return paths of 1 to {_DAYS - 2} days")

    @cached_property
    def _domain(self) -> str:
        return self.domain.lower()

    def is_at_home(self, path: Path) -> bool:
        """Whether the path is a return path of ours, valid or not."""
        return path.domain == self._domain and path.local[:5].upper() in _PREFIXES

    def forward(self, sender: Path, now: float) -> Path | None:
        """The return path for a sender, `now` in Unix seconds; None where it would be longer than an address may be,
        and for the null sender.
        """
        if not sender:
            return None
        if (found := _SRS1.fullmatch(sender.local)) and _made("x", found[2]):
            return self._again(found[2], found[3])
        if _SRS0.fullmatch(sender.local):
            return self._again(sender.domain, sender.local[4:])
        rest = f"{_day(now)}={sender.domain}={sender.local}"
        return self._path(f"SRS0={self._hash(self.secrets[0], rest)}={rest}")

    def reverse(self, path: Path, now: float) -> Path | None:
        """The sender a return path of ours stands for; None if it isn't one, is forged, or is older than it may be."""
        if path.domain != self._domain:
            return None
        if found := _SRS1.fullmatch(path.local):
            given, domain, rest = found.groups()
            if not self._is_ours(given, f"{domain}={rest}"):
                return None
            return _made("SRS0" + rest, domain)
        found = _SRS0.fullmatch(path.local)
        if found is None:
            return None
        _, given, day, domain, local = found.groups()
        if not self._is_ours(given, f"{day}={domain}={local}") or _age(day, now) > self.days:
            return None
        return _made(local, domain)

    def _again(self, domain: str, rest: str) -> Path | None:
        return self._path(f"SRS1={self._hash(self.secrets[0], f'{domain}={rest}')}={domain}={rest}")

    def _path(self, local: str) -> Path | None:
        path = Path(local, self._domain, "")
        is_short = len(local.encode()) <= MAX_LOCAL and len(path.address.encode()) <= MAX_PATH
        return path if is_short else None

    def _is_ours(self, given: str, text: str) -> bool:
        given = given.upper()
        return any([hmac.compare_digest(self._hash(secret, text).encode(), given.encode()) for secret in self.secrets])

    @staticmethod
    def _hash(secret: bytes, text: str) -> str:
        return b32encode(hmac.digest(secret, text.lower().encode(), "sha256"))[:_HASH].decode("ascii")


_PREFIXES = frozenset(f"SRS{number}{separator}" for number in "01" for separator in "=+-")


def _day(now: float) -> str:
    day = int(now // DAY_S) % _DAYS
    return _DIGITS[day // 32] + _DIGITS[day % 32]


def _age(day: str, now: float) -> int:
    """Days since then; what lies ahead of us by a day at most is of today, since clocks differ."""
    first, second = (_DIGITS.index(digit) for digit in day.upper())
    age = (int(now // DAY_S) - (first * 32 + second)) % _DAYS
    return 0 if age == _DAYS - 1 else age


def _made(local: str, domain: str) -> Path | None:
    try:
        return Path(local, parse_domain(domain), "")
    except AddressError:
        return None
