"""MTA-STS (RFC 8461): what a domain's record and policy say, and fetching the policy over HTTPS.

Nothing is believed that is too long, too late, of another type or from another place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gatepost.net.https import Https, HttpsFailed, TooLong

MAX_AGE_S = 31_557_600  # rfc8461#3.2
_MAX_HOSTS = 256
_PATH = "/.well-known/mta-sts.txt"
_ID = re.compile(r"[A-Za-z0-9]{1,32}")  # rfc8461#3.1
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\.?")


class Mode(Enum):
    """What a policy asks for (RFC 8461 §5)."""

    ENFORCE = "enforce"
    TESTING = "testing"
    NONE = "none"


class PolicyInvalid(ValueError):
    """What was fetched is no policy."""


class FetchFailed(OSError):
    """The policy can't be fetched now."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A domain's policy. `hosts` are names in lower case, `*.example.org` for one label; `max_age` in seconds."""

    mode: Mode
    hosts: tuple[str, ...]
    max_age: int

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Reads a policy file (RFC 8461 §3.2): the first of each key counts. Raises PolicyInvalid."""
        known: dict[str, str] = {}
        hosts: list[str] = []
        for line in text.splitlines():
            if not line.strip():
                continue
            key, colon, value = line.partition(":")
            if not colon:
                raise PolicyInvalid("a line of the policy is no key with a value")
            key, value = key.strip(), value.strip()
            if key == "mx":
                hosts.append(value.lower().removesuffix("."))
            known.setdefault(key, value)
        if known.get("version") != "STSv1":
            raise PolicyInvalid("the policy has another version than STSv1")
        try:
            mode = Mode(known.get("mode", ""))
        except ValueError:
            raise PolicyInvalid("the policy's mode is none of enforce, testing, none") from None
        age = known.get("max_age", "")
        if not (age.isascii() and age.isdecimal() and len(age) <= 10):
            raise PolicyInvalid("the policy's max_age is no number")
        if len(hosts) > _MAX_HOSTS or not all(_HOST.fullmatch(host) for host in hosts):
            raise PolicyInvalid("the policy's mx is no host name")
        if not hosts and mode is not Mode.NONE:
            raise PolicyInvalid("the policy names no mx")
        return cls(mode, tuple(dict.fromkeys(hosts)), min(int(age), MAX_AGE_S))

    def admits(self, host: str) -> bool:
        """Whether a mail server of this name is one of the policy's (rfc8461#4.1)."""
        name = host.lower().removesuffix(".")
        above = "*." + name.partition(".")[2]
        return any(one in (name, above) for one in self.hosts)

    @property
    def lines(self) -> tuple[str, ...]:
        """The policy as reports quote it (RFC 8460 §4.4)."""
        hosts = (f"mx: {host}" for host in self.hosts)
        return ("version: STSv1", f"mode: {self.mode.value}", *hosts, f"max_age: {self.max_age}")


def policy_id(records: Sequence[str]) -> str | None:
    """The id in the TXT records at `_mta-sts`; None where there is no policy (rfc8461#3.1)."""
    ours = [record for record in records if re.match(r"v=STSv1[ \t]*(;|$)", record)]
    if len(ours) != 1:
        return None
    for field in ours[0].split(";")[1:]:
        key, _, value = field.strip().partition("=")
        if key.strip() == "id":
            return value.strip() if _ID.fullmatch(value.strip()) else None
    return None


class Fetcher:
    """Fetches policies."""

    def __init__(self, https: Https) -> None:
        self._https = https

    async def fetch(self, domain: str) -> Policy:
        """The policy of a domain (A-labels). Raises FetchFailed, PolicyInvalid, NotFound, TemporaryFailure."""
        name = f"mta-sts.{domain}"
        try:
            answered = await self._https.ask("GET", name, _PATH)
        except HttpsFailed as error:
            raise FetchFailed(str(error)) from error
        except TooLong as error:
            raise PolicyInvalid(str(error)) from error
        if answered.status != 200:  # rfc8461#3.3: redirects MUST NOT be followed
            raise FetchFailed(f"{name} has answered {answered.status} instead of a policy")
        if answered.media_type != "text/plain":  # rfc8461#3.2
            raise PolicyInvalid(f"{name} has sent {answered.media_type or 'something untyped'} instead of text/plain")
        try:
            return Policy.parse(answered.body.decode("utf-8"))
        except UnicodeDecodeError:
            raise PolicyInvalid("the policy isn't UTF-8") from None
