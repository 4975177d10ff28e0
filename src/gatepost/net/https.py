"""HTTPS requests to names that strangers choose: policies are fetched so, reports are posted so.

The names are found by our own resolver, addresses that aren't on the Internet are never called, the certificate must be
of the name, redirects aren't followed, and nothing is read that is too long or too late.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gatepost.net.answers import Resolving
from gatepost.net.mx_rules import interleaved, may_be_called

PORT = 443
MAX_OCTETS = 64 * 1024
TIMEOUT_S = 30.0
_TRIES = 2  # addresses
_PIECE = 8192


class HttpsFailed(OSError):
    """There was no answer, or none that may be read."""


class TooLong(ValueError):
    """The answer is longer than anybody needs."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer: its status, its media type in lower case without parameters, and its body."""

    status: int
    media_type: str
    body: bytes


class Https:
    """Makes requests. Holds how: whom it trusts, and where it may call."""

    def __init__(
        self,
        resolver: Resolving,
        context: Callable[[], ssl.SSLContext | None],
        *,
        port: int = PORT,
        allow_private: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`context` gives the TLS context, which must check names; it is asked for at the first request. `port` is the
        one that is called where a request doesn't say it.
        """
        self._resolver = resolver
        self._context = context
        self._port = port
        self._allow_private = allow_private
        self._timeout_s = timeout_s

    async def ask(
        self,
        method: str,
        name: str,
        path: str,
        *,
        port: int | None = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """One request. Raises HttpsFailed, TooLong, and the resolver's NotFound and TemporaryFailure."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(method, name, path, port or self._port, content, headers or {})
        except TimeoutError:
            raise HttpsFailed(f"{name} hasn't answered within {self._timeout_s:g} s") from None

    async def _ask(
        self, method: str, name: str, path: str, port: int, content: bytes, headers: Mapping[str, str]
    ) -> Answered:
        # takes longer to import than a whole program may need to start
        from httpx2 import AsyncClient, HTTPError, InvalidURL  # noqa: PLC0415

        found = await self._resolver.addresses(name)
        allowed = [one for one in found if may_be_called(one, allow_private=self._allow_private)]
        if not allowed:
            raise HttpsFailed(f"{name} has only addresses that are never called")
        try:
            context = self._context()
        except (OSError, ValueError) as error:
            raise HttpsFailed(f"our certificate can't be shown: {error}") from error
        if context is None:
            raise HttpsFailed("no TLS is configured here")
        failure = ""
        extensions = {"sni_hostname": name}
        said = {"Host": name if port == self._port else f"{name}:{port}", "Accept-Encoding": "identity", **headers}
        async with AsyncClient(verify=context, timeout=self._timeout_s, trust_env=False) as client:
            for address in interleaved(allowed)[:_TRIES]:
                host = f"[{address}]" if address.version == 6 else str(address)
                url = f"https://{host}:{port}{path}"
                try:
                    async with client.stream(
                        method, url, headers=said, content=content or None, extensions=extensions
                    ) as response:
                        body = bytearray()
                        async for piece in response.aiter_raw(_PIECE):
                            body += piece
                            if len(body) > MAX_OCTETS:
                                raise TooLong(f"{name} has sent more than {MAX_OCTETS} octets")
                        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                        return Answered(response.status_code, kind, bytes(body))
                except TooLong:
                    raise
                except (HTTPError, InvalidURL, OSError, ValueError) as error:  # ValueError: a name nobody can have
                    failure = f"{type(error).__name__}: {error}"
        raise HttpsFailed(f"{name} hasn't answered: {failure}")
