"""Bounce Address Tag Validation (draft-levine-smtp-batv-01): our own return paths are signed, so that a bounce to one
that isn't is known to answer mail we never sent.

`prvs=KDDDSSSSSS=local@domain`: K is the key's number (always 0 here), DDD the last day it is good for, modulo 1000, S
six hexadecimal digits of an HMAC-SHA1 over KDDD and the address. The address is hashed in lower case, since some
servers lower it.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field

from gatepost.model import Path
from gatepost.model.path import MAX_LOCAL, MAX_PATH

DAY_S = 86400
_SIGNED = re.compile(r"prvs=(0[0-9]{3})([0-9a-f]{6})=(.+)", re.IGNORECASE | re.DOTALL | re.ASCII)


@dataclass(frozen=True, slots=True)
class Batv:
    """Signed return paths. The first secret signs, each is good for checking. `days` is how long one is good for."""

    secrets: tuple[bytes, ...] = field(repr=False)
    days: int = 7

    def __post_init__(self) -> None:
        if not (self.secrets and all(self.secrets) and 0 < self.days < 1000):
            raise ValueError("BATV needs a secret, and signatures of 1 to 999 days")

    def sign(self, sender: Path, now: float) -> Path | None:
        """The signed return path, `now` in Unix seconds; None where it would be longer than an address may be, is
        signed already, or is the null sender.
        """
        if not sender or is_signed(sender):
            return None
        tag = f"0{(int(now // DAY_S) + self.days) % 1000:03}"
        local = f"prvs={tag}{_hash(self.secrets[0], tag, sender)}={sender.local}"
        path = Path(local, sender.domain, "")
        return path if len(local.encode()) <= MAX_LOCAL and len(path.address.encode()) <= MAX_PATH else None

    def check(self, path: Path, now: float) -> Path | None:
        """The address a signed one stands for; None if it isn't signed, is forged, or its time is over."""
        found = _SIGNED.fullmatch(path.local)
        if found is None:
            return None
        tag, given, local = found.groups()
        address = Path(local, path.domain, "")
        if (int(tag[1:]) - int(now // DAY_S)) % 1000 > self.days:
            return None
        given = given.lower()
        hashes = [_hash(secret, tag, address) for secret in self.secrets]
        return address if any([hmac.compare_digest(one, given) for one in hashes]) else None


def is_signed(path: Path) -> bool:
    """Whether the path looks like a signed one, valid or not."""
    return _SIGNED.fullmatch(path.local) is not None


def _hash(secret: bytes, tag: str, address: Path) -> str:
    return hmac.digest(secret, (tag + address.address.lower()).encode(), "sha1")[:3].hex()
