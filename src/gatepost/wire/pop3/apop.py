"""APOP's digest: MD5 over the greeting's timestamp and the password (RFC 1939 §7)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import md5


@dataclass(frozen=True, slots=True)
class Apop:
    """What a client has sent after a greeting with this timestamp."""

    timestamp: str
    digest: str

    def fits(self, password: str) -> bool:
        """Whether it was made with this password."""
        return hmac.compare_digest(apop_digest(self.timestamp, password).encode(), self.digest.encode())


def apop_digest(timestamp: str, password: str) -> str:
    """The digest a client sends, in lower-case hexadecimal; `timestamp` with its angle brackets."""
    text = timestamp.encode("utf-8", "replace") + password.encode("utf-8", "surrogatepass")
    return md5(text, usedforsecurity=False).hexdigest()  # rfc1939#7
