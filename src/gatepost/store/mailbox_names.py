"""What the name of a file in a Maildir says.

`1790000000.M12P34.host,S=51,W=56:2,S` is seconds, a unique rest, octets in the file, octets with CRLF, and flags behind
the colon. Everything before the colon is the base name; it stays when a reader moves the file from `new` to `cur` or
changes its flags.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from hashlib import blake2b

_TIME = re.compile(r"([0-9]{1,11})\.(?:M([0-9]{1,6})(?![0-9]))?")
_SENT = re.compile(r",W=([0-9]{1,15})(?![0-9])")
_STORED = re.compile(r",S=([0-9]{1,15})(?![0-9])")
Digest = Callable[[bytes], str]


def base_of(name: str) -> str:
    """The part of a name that never changes."""
    return name.partition(":")[0]


def sent_size(base: str) -> int | None:
    """Octets as they are sent, with CRLF (`W=`); None if the name doesn't say."""
    found = _SENT.search(base)
    return int(found[1]) if found else None


def stored_size(base: str) -> int | None:
    """Octets in the file (`S=`); None if the name doesn't say."""
    found = _STORED.search(base)
    return int(found[1]) if found else None


def delivered_at(base: str) -> int | None:
    """When the message was delivered (µs, Unix time); None if the name doesn't say."""
    found = _TIME.match(base)
    return int(found[1]) * 1_000_000 + int(found[2] or 0) if found else None


def uid_of(data: bytes) -> str:
    """32 hexadecimal digits for a base name, or for a base name with more."""
    return blake2b(data, digest_size=16).hexdigest()


def octets_of(name: str) -> bytes:
    """A name as the file system has it, whatever it holds."""
    return os.fsencode(name)
