"""MTA-STS (RFC 8461): what a domain's record and policy say, and fetching the policy over HTTPS.

The server of the policy is found by our own resolver and must have a trusted certificate of its name; nothing is
followed, and nothing of it is believed that is too long, too slow or in the wrong place.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from gatepost.model import Address
from gatepost.net.answers import Resolving
from gatepost.net.mx_rules import interleaved, may_be_called

MAX_OCTETS = 64 * 1024  # rfc8461#3.3
MAX_AGE_S = 31_557_600  # rfc8461#3.2
TIMEOUT_S = 30.0  # rfc8461#3.3 suggests a minute
_MAX_HOSTS = 256
_TRIES = 2  # addresses
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
    """Fetches policies. Holds how: whom it trusts, and where it calls."""

    def __init__(
        self,
        resolver: Resolving,
        context: Callable[[], ssl.SSLContext],
        *,
        port: int = 443,
        allow_private: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`context` gives the TLS context, which must check names; it is asked for at the first fetch."""
        self._resolver = resolver
        self._context = context
        self._port = port
        self._allow_private = allow_private
        self._timeout_s = timeout_s

    async def fetch(self, domain: str) -> Policy:
        """The policy of a domain (A-labels). Raises FetchFailed, PolicyInvalid, NotFound, TemporaryFailure."""
        name = f"mta-sts.{domain}"
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._resolver.addresses(name)
                allowed = [one for one in found if may_be_called(one, allow_private=self._allow_private)]
                if not allowed:
                    raise FetchFailed(f"{name} has only addresses that are never called")
                text = await self._get(name, interleaved(allowed)[:_TRIES])
        except TimeoutError:
            raise FetchFailed(f"{name} has sent no policy within {self._timeout_s:g} s") from None
        try:
            return Policy.parse(text.decode("utf-8"))
        except UnicodeDecodeError:
            raise PolicyInvalid("the policy isn't UTF-8") from None

    async def _get(self, name: str, addresses: Sequence[Address]) -> bytes:
        from httpx2 import AsyncClient, HTTPError  # noqa: PLC0415  takes longer to import than a whole program may need

        failure = ""
        async with AsyncClient(
            verify=self._context(), timeout=self._timeout_s, trust_env=False, follow_redirects=False
        ) as client:
            for address in addresses:
                try:
                    return await self._get_from(client, name, address)
                except HTTPError as error:
                    failure = f"{type(error).__name__}: {error}"
        raise FetchFailed(f"{name} has sent no policy: {failure}")

    async def _get_from(self, client: object, name: str, address: Address) -> bytes:
        from httpx2 import AsyncClient  # noqa: PLC0415

        assert isinstance(client, AsyncClient)
        host = f"[{address}]" if address.version == 6 else str(address)
        url = f"https://{host}:{self._port}{_PATH}"
        asked = client.stream(
            "GET", url, headers={"Host": name, "Accept-Encoding": "identity"}, extensions={"sni_hostname": name}
        )
        async with asked as response:
            if response.status_code != 200:  # rfc8461#3.3: redirects MUST NOT be followed
                raise FetchFailed(f"{name} has answered {response.status_code} instead of a policy")
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "text/plain":  # rfc8461#3.2
                raise PolicyInvalid(f"{name} has sent {kind or 'something untyped'} instead of text/plain")
            text = bytearray()
            async for piece in response.aiter_raw(8192):
                text += piece
                if len(text) > MAX_OCTETS:
                    raise PolicyInvalid(f"{name} has sent more than {MAX_OCTETS} octets")
        return bytes(text)
