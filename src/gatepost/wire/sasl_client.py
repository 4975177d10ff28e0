"""SASL mechanisms, the client's side, as values: challenges in, responses out; POP3 and SMTP carry them.

Strategy: an `Exchange` is one authentication. Its `initial` is what can be said with the AUTH command, or in answer to
an empty challenge where that command has no room for it; `respond` answers every other challenge, and `is_satisfied`
says whether the server's "success" may be believed: SCRAM-SHA-256 (RFC 5802, RFC 7677) makes the server prove that it
knows the password too. Entropy is handed in, and what a server asks for is bounded: the length of a challenge, the
number of them, the rounds of a hash. A server that can't be answered is a `Failure`, a value.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from stringprep import in_table_b1, in_table_c12

MAX_CHALLENGE = 8192  # octets, decoded
MAX_CHALLENGES = 8  # of one exchange; no mechanism here needs more than three
MIN_ITERATIONS = 4096  # rfc7677#4; with fewer whoever hears the exchange finds the password sooner
MAX_ITERATIONS = 1_000_000  # about a third of a second

MECHANISMS = ("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2")
"""What can be said."""
CLEAR = frozenset({"PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"})
"""Which of them hand the secret over as it is: not without TLS, unless somebody wants it so."""
BEARER = frozenset({"OAUTHBEARER", "XOAUTH2"})
"""Which of them take an access token instead of a password."""


@dataclass(frozen=True, slots=True)
class Failure:
    """There is no answer to this challenge: the exchange is to be cancelled. `reason` is for the log."""

    reason: str


@dataclass(frozen=True, slots=True)
class Secret:
    """Who logs in. `word` is the password, or the access token where the mechanism takes one; `host` and `port` are
    those of the server, which OAUTHBEARER names (RFC 7628 §3.1)."""

    user: str
    word: str = field(repr=False)
    host: str = ""
    port: int = 0


Response = bytes | Failure
_Step = Callable[[bytes], Response]


class Exchange:
    """One authentication. Invariant: at most MAX_CHALLENGES answers, and after a Failure nothing but Failures."""

    __slots__ = ("_count", "_scram", "_secret", "_step", "initial", "is_satisfied", "mechanism")

    def __init__(self, mechanism: str, secret: Secret, *, nonce: str) -> None:
        """`nonce`: printable ASCII without commas, at least 18 octets of entropy, never used before (RFC 5802 §5.1).

        Raises ValueError for a mechanism that isn't one of MECHANISMS, and for a name or word that can't be said.
        """
        for text in (secret.user, secret.word):
            if not text or set(text) & {"\0", "\r", "\n", "\x01"}:
                raise ValueError("a name or password is not empty and holds no NUL, CR, LF or ^A")
        self.mechanism = mechanism
        self.is_satisfied = True
        """Whether all that the mechanism demands of the server has been shown."""
        self.initial: bytes | None = None
        """The initial response, decoded; None where the server speaks first."""
        self._secret = secret
        self._count = 0
        self._scram: _Scram | None = None
        self._step: _Step = _nothing_more
        match mechanism:
            case "PLAIN":
                self.initial = f"\0{secret.user}\0{secret.word}".encode()  # rfc4616#2
            case "LOGIN":
                self._step = self._login_user
            case "CRAM-MD5":
                self._step = self._cram
            case "SCRAM-SHA-256":
                self._scram = _Scram(secret, nonce)
                self.initial = self._scram.first()
                self.is_satisfied = False
                self._step = self._scram_final
            case "XOAUTH2":
                self.initial = f"user={secret.user}\1auth=Bearer {secret.word}\1\1".encode()
                self._step = _hear_why(b"")
            case "OAUTHBEARER":
                self.initial = _bearer(secret)
                self._step = _hear_why(b"\1")
            case _:
                raise ValueError(f"{mechanism} isn't one of {', '.join(MECHANISMS)}")

    def respond(self, challenge: bytes) -> Response:
        """The answer to a decoded challenge. SCRAM's takes as long as the hash that is asked for: up to 0.3 s."""
        self._count += 1
        step, self._step = self._step, _nothing_more
        if self._count > MAX_CHALLENGES:
            return Failure("the server goes on asking")
        if len(challenge) > MAX_CHALLENGE:
            return Failure("the challenge is too long")
        return step(challenge)

    # LOGIN asks in its own words, and CRAM-MD5 once

    def _login_user(self, _: bytes) -> Response:
        self._step = self._login_word
        return self._secret.user.encode()

    def _login_word(self, _: bytes) -> Response:
        return self._secret.word.encode()

    def _cram(self, challenge: bytes) -> Response:
        """rfc2195#2; a challenge has the shape of a Message-ID, and any other may be chosen to break MD5."""
        if not challenge.startswith(b"<") or not challenge.endswith(b">") or not challenge.isascii():
            return Failure("the challenge isn't a timestamp")
        digest = hmac.new(self._secret.word.encode(), challenge, hashlib.md5).hexdigest()
        return f"{self._secret.user} {digest}".encode()

    def _scram_final(self, challenge: bytes) -> Response:
        assert self._scram is not None
        response = self._scram.final(challenge)
        if not isinstance(response, Failure):
            self._step = self._scram_verified
        return response

    def _scram_verified(self, challenge: bytes) -> Response:
        assert self._scram is not None
        if not hmac.compare_digest(challenge, self._scram.expected):
            return Failure("the server doesn't know the password")
        self.is_satisfied = True
        return b""


class _Scram:
    """The messages of one SCRAM-SHA-256 exchange without channel binding (RFC 5802 §5, §7)."""

    __slots__ = ("_bare", "_nonce", "_word", "expected")

    def __init__(self, secret: Secret, nonce: str) -> None:
        if not (nonce.isascii() and nonce.isprintable() and nonce and not set(nonce) & {",", " "}):
            raise ValueError("a nonce is printable ASCII without commas and blanks")
        name = _prepared(secret.user).replace("=", "=3D").replace(",", "=2C")  # rfc5802#5.1
        self._nonce = nonce
        self._bare = f"n={name},r={nonce}"
        self._word = _prepared(secret.word)
        self.expected = b""

    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()  # rfc5802#7: no channel binding

    def final(self, challenge: bytes) -> Response:
        """The proof that is asked for by r=nonce,s=salt,i=iterations."""
        try:
            text = challenge.decode("utf-8")
        except UnicodeDecodeError:
            return Failure("the server's first message isn't text")
        fields = text.split(",")
        if len(fields) < 3 or [field[:2] for field in fields[:3]] != ["r=", "s=", "i="]:
            return Failure("the server's first message isn't well-formed")  # m= would be an extension that is a must
        nonce, written, count = (field[2:] for field in fields[:3])
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            return Failure("the server's first message belongs to another exchange")
        try:
            salt = b64decode(written, validate=True)
        except ValueError:
            return Failure("the salt isn't base64")
        if not salt or not (count.isascii() and count.isdigit() and len(count) <= 10):
            return Failure("the server's first message isn't well-formed")
        if not MIN_ITERATIONS <= int(count) <= MAX_ITERATIONS:
            return Failure(f"{int(count)} rounds are asked for; {MIN_ITERATIONS} to {MAX_ITERATIONS} are possible")
        return self._proof(text, nonce, salt, int(count))

    def _proof(self, server_first: str, nonce: str, salt: bytes, iterations: int) -> bytes:
        salted = hashlib.pbkdf2_hmac("sha256", self._word.encode(), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored_key = hashlib.sha256(client_key).digest()
        bare = f"c=biws,r={nonce}"  # biws: n,, in base64
        message = f"{self._bare},{server_first},{bare}".encode()
        signature = hmac.digest(stored_key, message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.expected = b"v=" + b64encode(hmac.digest(server_key, message, "sha256"))
        return f"{bare},p={b64encode(proof).decode()}".encode()


def _bearer(secret: Secret) -> bytes:
    """rfc7628#3.1"""
    name = secret.user.replace("=", "=3D").replace(",", "=2C")
    place = f"host={secret.host}\1port={secret.port}\1" if secret.host else ""
    return f"n,a={name},\1{place}auth=Bearer {secret.word}\1\1".encode()


def _hear_why(answer: bytes) -> _Step:
    """A challenge is the server's reason to refuse the token; answered, it says so by its reply (rfc7628#3.2.3)."""

    def step(_: bytes) -> Response:
        return answer

    return step


def _nothing_more(_: bytes) -> Response:
    return Failure("the server asks for more than there is to say")


def _prepared(text: str) -> str:
    """SASLprep (rfc4013) as far as it changes something; what it forbids the server will refuse."""
    if text.isascii():
        return text
    kept = "".join(" " if in_table_c12(letter) else letter for letter in text if not in_table_b1(letter))
    return unicodedata.normalize("NFKC", kept)
