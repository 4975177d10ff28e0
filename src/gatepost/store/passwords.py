"""Passwords: kept as argon2id hashes with SCRAM keys beside them, checked without ever becoming a way to stop a server.

Secrets that other programs have made (`secret_schemes`) are checked as they are.

A check costs tens of milliseconds and megabytes on purpose, so two threads do it, a bounded number of questions waits,
and a right answer is remembered for a short while under a key that dies with the process. An unknown user costs the
same check against a secret that stands in.
"""

from __future__ import annotations

import asyncio
import hmac
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b

import argon2

_THREADS = 2
_WAITING = 64  # checks at a time; more are turned away
_REMEMBERED = 1024
_REMEMBERED_S = 60.0
_ITERATIONS = 15_000  # rfc7677#4 asks for 4096 and more; clients pay this at every login
_SCHEME = "SCRAM-SHA-256"
_BRACED = f"{{{_SCHEME}}}"  # as Dovecot begins such a secret


class UsersBusy(Exception):
    """Too many passwords are being checked; the client may try again (454)."""


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server keeps for SCRAM-SHA-256 (rfc5802#3); written `SCRAM-SHA-256$iterations:salt$stored:server`."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes

    @classmethod
    def parse(cls, text: str) -> ScramKeys:
        """Keys as they are written; raises ValueError."""
        try:
            scheme, drawn, keys = text.split("$")
            iterations, salt = drawn.split(":")
            stored, server = keys.split(":")
            made = cls(
                b64decode(salt, validate=True),
                int(iterations),
                b64decode(stored, validate=True),
                b64decode(server, validate=True),
            )
        except ValueError as error:
            raise ValueError(f"SCRAM keys are written {_SCHEME}$iterations:salt$stored:server") from error
        if scheme != _SCHEME or made.iterations < 1 or {len(made.stored_key), len(made.server_key)} != {32}:
            raise ValueError(f"these aren't keys of {_SCHEME}")
        return made

    def __str__(self) -> str:
        salt, stored, server = (b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key))
        return f"{_SCHEME}${self.iterations}:{salt}${stored}:{server}"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is kept of a password."""

    hash: str
    scram: str
    plain: str | None = None
    """The password itself, where it was asked for to keep it."""


class Passwords:
    """Makes and checks secrets. Invariant: at most `_WAITING` checks are asked for at a time, two of them computed."""

    def __init__(
        self,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        *,
        hasher: argon2.PasswordHasher | None = None,
        iterations: int = _ITERATIONS,
    ) -> None:
        """`clock` gives seconds, `entropy` random octets; `hasher` sets the cost (19 MiB, two passes)."""
        self._clock = clock
        self._entropy = entropy
        self._hasher = hasher or argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._iterations = iterations
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="passwords")
        self._waiting = 0
        self._key = entropy(32)
        self._right: dict[bytes, float] = {}
        self._nobody: str | None = None

    async def make(self, password: str, *, keep_plain: bool = False) -> Secrets:
        """The secrets of a new password. Raises ValueError if it is empty or SASLprep forbids it.

        `keep_plain`: the password itself is one of them, which CRAM-MD5 and APOP need.
        """
        if not password:
            raise ValueError("an empty password protects nothing")
        made = await asyncio.get_running_loop().run_in_executor(self._pool, self._make, password)
        return replace(made, plain=password) if keep_plain else made

    async def check(self, hash: str | None, password: str, *, stand_in: str | None = None) -> bool:
        """Whether a secret is this password's. None, for who has none, takes as long as a wrong password against
        `stand_in`, or without one against an argon2id hash of ours. Raises UsersBusy.
        """
        mark = blake2b(f"{hash}\0{password}".encode("utf-8", "surrogatepass"), key=self._key, digest_size=32).digest()
        now = self._clock()
        if self._right.get(mark, 0.0) > now:
            return True
        if self._waiting >= _WAITING:
            raise UsersBusy("too many passwords are being checked")
        self._waiting += 1
        job = asyncio.get_running_loop().run_in_executor(self._pool, self._check, hash, password, stand_in)
        job.add_done_callback(self._ended)
        is_right = await asyncio.shield(job)
        if is_right:
            self._remember(mark, now + _REMEMBERED_S)
        return is_right

    async def close(self) -> None:
        """Wait for checks under way."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    def made_up_keys(self, secret: bytes, name: str, *, like: str | None = None) -> ScramKeys:
        """Keys for a user who doesn't exist: the same at each asking, and no password fits them. `like` is a secret
        that most users have one of the kind of: by what keys ask of a client nobody is told apart.
        """
        iterations = self._iterations
        if like is not None and like.upper().startswith(_BRACED):
            iterations = int(like[len(_BRACED) :].partition(",")[0])
        drawn = hmac.digest(secret, name.encode("utf-8", "surrogatepass"), "sha512")
        return ScramKeys(drawn[:16], iterations, drawn[:32], drawn[32:])

    def _ended(self, _: object) -> None:
        self._waiting -= 1

    def _remember(self, mark: bytes, until: float) -> None:
        if len(self._right) >= _REMEMBERED:
            del self._right[next(iter(self._right))]
        self._right[mark] = until

    def _make(self, password: str) -> Secrets:
        import scramp  # type: ignore[import-untyped]  # noqa: PLC0415  it has no types; only making keys needs it

        try:
            salt, stored, server, iterations = scramp.ScramMechanism(_SCHEME).make_auth_info(
                password, iteration_count=self._iterations, salt=self._entropy(16)
            )
        except scramp.ScramException as error:
            raise ValueError(f"this can't be a password: {error}") from error
        return Secrets(self._hasher.hash(_prepared(password)), str(ScramKeys(salt, iterations, stored, server)))

    def _check(self, hash: str | None, password: str, stand_in: str | None) -> bool:
        if self._nobody is None:
            self._nobody = self._hasher.hash(self._entropy(16))
        fits = self._fits(hash or stand_in or self._nobody, _prepared(password))
        return fits and bool(hash)

    def _fits(self, secret: str, password: bytes) -> bool:
        if not secret.startswith("$argon2"):
            from gatepost.store.secret_schemes import SecretError, parse  # noqa: PLC0415  only who has such secrets

            try:
                return parse(secret).fits(password)
            except SecretError:
                return False
        try:
            return self._hasher.verify(secret, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


def _prepared(password: str) -> bytes:
    """The octets that are hashed: one for each way of writing the same letters (rfc8265#4.2)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
