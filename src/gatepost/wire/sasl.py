"""SASL mechanisms, the server's side, as values: responses in, challenges and outcomes out; POP3 and SMTP carry them.

Strategy: `start` and then `respond` return what comes next. A mechanism knows no users: PLAIN and LOGIN end in
`Credentials` somebody else verifies, CRAM-MD5 (RFC 2195) in a `Proof`, which is held against the password somebody else
keeps; SCRAM-SHA-256 (RFC 5802, RFC 7677) asks for a user's keys by `NeedKeys` and is given them by `keys`. Entropy is
handed in. Nothing here raises on what a client sends; it ends in `Failure`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass

MAX_RESPONSE = 8192  # octets; far above any name and password
_MAX_NAME = 1024  # characters
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send this, decoded, to the client and pass its answer to `respond`."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password to verify. The mechanism is through; success is the verifier's to say."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Proof:
    """A digest that only who knows the password could make. The mechanism is through; success is the verifier's."""

    user: str
    challenge: bytes
    digest: str

    def fits(self, password: str) -> bool:
        """Whether it was made with this password."""
        made = hmac.new(password.encode("utf-8", "surrogatepass"), self.challenge, "md5").hexdigest()  # rfc2195#2
        return hmac.compare_digest(made.encode(), self.digest.encode())


@dataclass(frozen=True, slots=True)
class NeedKeys:
    """Look this user up and call `keys`."""

    user: str


@dataclass(frozen=True, slots=True)
class Success:
    """The client has proved to be this user."""

    user: str


@dataclass(frozen=True, slots=True)
class Failure:
    """It hasn't. `reason` is for the log, never for the client."""

    reason: str


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What is kept of a password for SCRAM-SHA-256 (RFC 5802 §3). Who must not learn which users exist gives made-up
    keys, the same ones each time, for users there aren't."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


Outcome = Challenge | Credentials | Proof | NeedKeys | Success | Failure
MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5")
"""What can be offered, strongest first; CRAM-MD5 is last, since it works for some users only."""


class Exchange:
    """One authentication. Invariant: after an outcome other than Challenge and NeedKeys it answers only Failure."""

    __slots__ = ("_host", "_mechanism", "_next", "_nonce", "_scram", "_user")

    def __init__(self, mechanism: str, *, nonce: str, host: str = "localhost") -> None:
        """`nonce`: printable ASCII without commas, at least 18 octets of entropy, never used before (RFC 5802 §5.1);
        `host`: the server's name, which CRAM-MD5's challenge tells.
        """
        if mechanism not in MECHANISMS:
            raise ValueError(f"{mechanism} isn't one of {', '.join(MECHANISMS)}")
        if not (nonce.isascii() and nonce.isprintable() and nonce and not set(nonce) & {",", " "}):
            raise ValueError("a nonce is printable ASCII without commas and blanks")
        self._mechanism = mechanism
        self._nonce = nonce
        self._host = host
        self._user = ""
        self._scram: _Scram | None = None
        self._next: Callable[[bytes], Outcome] | None = None

    def start(self, initial: bytes | None) -> Outcome:
        """The first outcome; `initial` is the decoded initial response, None if the client gave none."""
        match self._mechanism:
            case "PLAIN":
                self._next, prompt = self._plain, b""
            case "LOGIN":
                self._next, prompt = self._login_user, b"Username:"
            case "CRAM-MD5":
                self._next, prompt = self._cram, self._cram_challenge()
                if initial is not None:  # rfc2195#2: the server speaks first
                    self._next = None
                    return Failure("CRAM-MD5 has no initial response")
            case _:
                self._next, prompt = self._scram_first, b""
        return Challenge(prompt) if initial is None else self.respond(initial)

    def respond(self, data: bytes) -> Outcome:
        """The outcome of the client's decoded response."""
        step, self._next = self._next, None
        if step is None:
            return Failure("a response out of turn")
        if len(data) > MAX_RESPONSE:
            return Failure("the response is too long")
        return step(data)

    def keys(self, keys: ScramKeys | None) -> Outcome:
        """Answer NeedKeys; None fails the exchange at once, which tells the client that the user doesn't exist."""
        if self._scram is None or self._scram.keys is not None:
            return Failure("keys out of turn")
        if keys is None:
            self._scram = None
            return Failure("no keys for this user")
        self._scram.keys = keys
        self._next = self._scram_final
        return Challenge(self._scram.server_first().encode("ascii"))

    def _plain(self, data: bytes) -> Outcome:
        """rfc4616#2: [authzid] NUL authcid NUL passwd"""
        parts = data.split(b"\0")
        if len(parts) != 3:
            return Failure("not three fields")
        acting_as, user, password = map(_text, parts)
        if acting_as is None or not user or not password:
            return Failure("a field is empty or not text")
        if acting_as not in {"", user}:
            return Failure("acting as somebody else isn't possible")
        return Credentials(user, password)

    def _login_user(self, data: bytes) -> Outcome:
        user = _text(data)
        if not user:
            return Failure("no user name")
        self._user, self._next = user, self._login_password
        return Challenge(b"Password:")

    def _login_password(self, data: bytes) -> Outcome:
        password = _text(data)
        return Credentials(self._user, password) if password else Failure("no password")

    def _cram_challenge(self) -> bytes:
        """rfc2195#2: the form of a Message-ID, never said before"""
        return f"<{self._nonce}@{self._host}>".encode("ascii", "replace")

    def _cram(self, data: bytes) -> Outcome:
        """rfc2195#2: user, a blank, and the digest in lower-case hexadecimal"""
        text = _text(data)
        user, _, digest = (text or "").rpartition(" ")
        if not user or not _DIGEST.fullmatch(digest):
            return Failure("this isn't a name and a digest")
        return Proof(user, self._cram_challenge(), digest)

    def _scram_first(self, data: bytes) -> Outcome:
        scram = _Scram.parse(data, self._nonce)
        if isinstance(scram, Failure):
            return scram
        self._scram = scram
        return NeedKeys(scram.user)

    def _scram_final(self, data: bytes) -> Outcome:
        assert self._scram is not None
        outcome = self._scram.verify(data)
        if isinstance(outcome, Challenge):
            self._next = self._scram_confirmed
        return outcome

    def _scram_confirmed(self, data: bytes) -> Outcome:
        """rfc4954#4: where success carries data, it goes in a challenge that gets an empty response."""
        assert self._scram is not None
        return Failure("an answer to the server's signature") if data else Success(self._scram.user)


@dataclass(slots=True)
class _Scram:
    """The messages of one SCRAM-SHA-256 exchange (RFC 5802 §5, §7)."""

    user: str
    header: str  # gs2-header, as the client wrote it
    client_first: str  # client-first-message-bare
    nonce: str  # the client's and ours
    keys: ScramKeys | None = None

    @classmethod
    def parse(cls, data: bytes, nonce: str) -> _Scram | Failure:
        """The client's first message: n,[a=authzid],n=user,r=nonce"""
        text = _text(data)
        fields = text.split(",") if text else []
        if len(fields) < 4:
            return Failure("the first message isn't well-formed")
        flag, acting_as, name, client_nonce, *_ = fields
        if flag not in {"n", "y"}:  # y: the client thinks we don't do channel binding, and is right
            return Failure("channel binding isn't offered")
        if not name.startswith("n=") or not client_nonce.startswith("r=") or len(client_nonce) < 3:
            return Failure("the first message isn't well-formed")
        user = _unescape(name[2:])
        if not user or not (client_nonce.isascii() and client_nonce.isprintable()):
            return Failure("the first message isn't well-formed")
        if acting_as and (not acting_as.startswith("a=") or _unescape(acting_as[2:]) != user):
            return Failure("acting as somebody else isn't possible")
        header = f"{flag},{acting_as},"
        return cls(user, header, ",".join(fields[2:]), client_nonce[2:] + nonce)

    def server_first(self) -> str:
        assert self.keys is not None
        return f"r={self.nonce},s={b64encode(self.keys.salt).decode()},i={self.keys.iterations}"

    def verify(self, data: bytes) -> Challenge | Failure:
        """The client's final message: c=gs2-header,r=nonce,p=proof"""
        assert self.keys is not None
        text = _text(data)
        bare, comma, proof_field = (text or "").rpartition(",p=")
        if not comma:
            return Failure("the final message isn't well-formed")
        expected = f"c={b64encode(self.header.encode()).decode()},r={self.nonce}"
        if not hmac.compare_digest(bare.encode(), expected.encode()):  # binding and nonce; no extension is known
            return Failure("the final message belongs to another exchange")
        try:
            proof = b64decode(proof_field, validate=True)
        except ValueError:
            return Failure("the proof isn't base64")
        message = f"{self.client_first},{self.server_first()},{bare}".encode()
        signature = hmac.digest(self.keys.stored_key, message, "sha256")
        if len(proof) != len(signature):
            return Failure("the proof has the wrong length")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self.keys.stored_key):
            return Failure("the proof is wrong")
        return Challenge(b"v=" + b64encode(hmac.digest(self.keys.server_key, message, "sha256")))


def _text(data: bytes) -> str | None:
    """UTF-8 text without NUL, or None (rfc4616#2, rfc5802#5.1)."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _unescape(name: str) -> str | None:
    """The saslname with =2C and =3D undone (rfc5802#5.1), or None if it holds another `=`."""
    if len(name) > _MAX_NAME or name.replace("=2C", "").replace("=3D", "").count("="):
        return None
    return name.replace("=2C", ",").replace("=3D", "=")
