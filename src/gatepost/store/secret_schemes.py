"""Secrets as other programs keep them: crypt(3) texts (`$6$…`) and Dovecot's (`{SSHA512}…`), checked and told apart.

Each kind of secret is one row of a table: the form it has, what it costs, and how a password is held against it. What a
row doesn't know is refused when it is loaded, by name, so that nobody finds out at a login.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import argon2

from gatepost.store.libcrypt import libcrypt
from gatepost.store.md5_crypt import md5_crypt

MAX_ROUNDS = 5_000_000
"""Rounds of a hash that a check may cost; with more a login would hold its thread for seconds."""
_MAX_BCRYPT = 16  # log2
_MAX_ARGON2_KIB = 2**20
_BCRYPT_OCTETS = 72  # of the password; no bcrypt looks at more
_B64 = "[./0-9A-Za-z]"
_BRACED = re.compile(r"\{([A-Za-z0-9-]+)(?:\.(b64|base64|hex))?\}(.*)", re.IGNORECASE | re.DOTALL)
_GIVE_ANOTHER = "give the user another one: doveadm pw -s ARGON2ID, or gatepost user add"


class SecretError(ValueError):
    """A secret that can't be checked here. The text says why, never the secret; `mend` what to do."""

    def __init__(self, what: str, mend: str = _GIVE_ANOTHER) -> None:
        super().__init__(what)
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that can be checked. `cost`: two secrets with the same one take the same time."""

    scheme: str
    cost: str
    fits: Callable[[bytes], bool]
    """Whether a password, as octets, is the right one; slow on purpose for most schemes, so not for an event loop."""
    plain: str | None = None
    """The password itself, where it is kept in the clear."""
    scram: str | None = None
    """The SCRAM-SHA-256 keys, where they are the secret, as `ScramKeys` writes them."""


def parse(text: str) -> Secret:
    """A secret as it is written in a file. Raises SecretError."""
    braced = _BRACED.fullmatch(text)
    if braced is None:
        return _crypt(text)
    name, encoding, data = braced[1].upper(), (braced[2] or "").lower(), braced[3]
    if name in _CRYPTS:
        crypted = _crypt(_decoded(name, data, encoding).decode("utf-8", "replace") if encoding else data)
        if _CRYPTS[name] and not data.startswith(_CRYPTS[name]):
            raise SecretError(f"this is no {{{name}}} secret: it doesn't begin with {_CRYPTS[name][-1]}")
        return crypted
    if name in ("PLAIN", "CLEARTEXT", "CLEAR"):
        try:
            return _plain(_decoded(name, data, encoding).decode() if encoding else data)
        except UnicodeDecodeError:
            raise SecretError(f"the {{{name}}} password isn't UTF-8") from None
    if name in _DIGESTS:
        return _digested(name, _decoded(name, data, encoding or "b64"))
    if name == "SCRAM-SHA-256":
        return _scram(data)
    if name == "PBKDF2":
        return _pbkdf2(data)
    why = "too weak" if name in _WEAK else "unknown"
    raise SecretError(f"secrets of the scheme {{{name}}} can't be checked here: it is {why}")


def _crypt(text: str) -> Secret:
    """A text that begins with `$id$`."""
    if not text.startswith("$"):
        if not text:
            raise SecretError("an empty password protects nothing", "leave the line out, or give the user a password")
        mend = 'begin it with its scheme, such as "{PLAIN}" before a password in the clear; ' + _GIVE_ANOTHER
        raise SecretError("this is neither a hash that begins with $ nor a secret with a {SCHEME}", mend)
    for prefixes, make in _BY_PREFIX.items():
        if text.startswith(prefixes):
            return make(text)
    known = text[1:].partition("$")[0]
    raise SecretError(f"secrets of the scheme ${known[:12]}$ can't be checked here: it is unknown")


# ── the schemes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _argon2(text: str) -> Secret:
    try:
        facts = argon2.extract_parameters(text)
    except argon2.exceptions.InvalidHashError:
        raise SecretError("this argon2 hash isn't well-formed") from None
    if facts.memory_cost > _MAX_ARGON2_KIB or facts.time_cost * facts.memory_cost > 16 * _MAX_ARGON2_KIB:
        raise SecretError("a check of this argon2 hash would cost too much")
    hasher = argon2.PasswordHasher()

    def fits(password: bytes) -> bool:
        try:
            return hasher.verify(text, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    return Secret(text[1:].partition("$")[0].upper(), text.rpartition("$")[0].rpartition("$")[0], fits)


def _bcrypt(text: str) -> Secret:
    formed = re.fullmatch(rf"\$2[aby]\$(\d\d)\${_B64}{{53}}", text)
    if formed is None or int(formed[1]) < 4:
        raise SecretError("this bcrypt hash isn't well-formed")
    if int(formed[1]) > _MAX_BCRYPT:
        raise SecretError(f"a check of this bcrypt hash would cost too much: at most {_MAX_BCRYPT}, not {formed[1]}")
    import bcrypt  # noqa: PLC0415  only who has such users loads it

    kept = text.encode()

    def fits(password: bytes) -> bool:
        asked, is_whole = _c_string(password)
        return bcrypt.checkpw(asked[:_BCRYPT_OCTETS], kept) and is_whole

    return Secret("BLF-CRYPT", f"bcrypt {formed[1]}", fits)


_SHA_CRYPT = re.compile(rf"\$(?:5|6)\$(?:rounds=(\d{{1,9}})\$)?[^$:\s]{{0,16}}\$(?:{_B64}{{43}}|{_B64}{{86}})")
_YESCRYPT = re.compile(rf"\$(?:y|gy)\$({_B64}+)\${_B64}*\${_B64}{{43}}")


def _system(text: str) -> Secret:
    is_yescrypt = text[1] in "yg"
    name = "yescrypt" if is_yescrypt else f"SHA{256 if text[1] == '5' else 512}-CRYPT"
    formed = (_YESCRYPT if is_yescrypt else _SHA_CRYPT).fullmatch(text)
    if formed is None:
        raise SecretError(f"this {name} hash isn't well-formed")
    if not is_yescrypt and int(formed[1] or 0) > MAX_ROUNDS:
        raise SecretError(f"a check of this {name} hash would cost too much: at most {MAX_ROUNDS} rounds")
    library = libcrypt()
    if library is None:
        mend = "install the system's libcrypt (in Debian: apt install libcrypt1), or " + _GIVE_ANOTHER
        raise SecretError(f"{name} needs the library libcrypt, which this system lacks", mend)
    kept = text.encode()
    if is_yescrypt and not _knows_yescrypt():
        raise SecretError(f"the libcrypt of this system doesn't know {name}")

    def fits(password: bytes) -> bool:
        asked, is_whole = _c_string(password)
        made = library.crypt(asked, kept)
        return made is not None and hmac.compare_digest(made, kept) and is_whole

    return Secret(name, f"{name} {formed[1] or ''}", fits)


def _knows_yescrypt() -> bool:
    global _yescrypt
    if _yescrypt is None:
        library = libcrypt()
        _yescrypt = library is not None and library.knows("$y$j75$saltsalt$")
    return _yescrypt


_yescrypt: bool | None = None


def _md5_crypt(text: str) -> Secret:
    formed = re.fullmatch(rf"(\$(?:apr1|1)\$)([^$:\s]{{0,8}})\$({_B64}{{22}})", text)
    if formed is None:
        raise SecretError("this MD5-crypt hash isn't well-formed")
    magic, salt, kept = formed[1], formed[2], formed[3]

    def fits(password: bytes) -> bool:
        asked, is_whole = _c_string(password)
        return hmac.compare_digest(md5_crypt(asked, magic, salt), kept) and is_whole

    return Secret("MD5-CRYPT", "MD5-CRYPT", fits)


def _plain(kept: str) -> Secret:
    if not kept:
        raise SecretError("an empty password protects nothing", "leave the line out, or give the user a password")
    octets = kept.encode()
    return Secret("PLAIN", "PLAIN", lambda password: hmac.compare_digest(password, octets), plain=kept)


def _digested(name: str, data: bytes) -> Secret:
    algorithm, is_salted = _DIGESTS[name]
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    if len(data) < size or (len(data) > size) != is_salted:
        raise SecretError(f"this {{{name}}} secret hasn't the length of one")
    kept, salt = data[:size], data[size:]

    def fits(password: bytes) -> bool:
        made = hashlib.new(algorithm, password + salt, usedforsecurity=False).digest()
        return hmac.compare_digest(made, kept)

    return Secret(name, name, fits)


def _scram(data: str) -> Secret:
    """Dovecot's: iterations,salt,stored key,server key; all but the first in base64."""
    try:
        count, *parts = data.split(",")
        iterations = int(count)
        salt, stored, server = (b64decode(part, validate=True) for part in parts)
    except ValueError:
        raise SecretError("this {SCRAM-SHA-256} secret isn't iterations,salt,stored-key,server-key") from None
    if not 1 <= iterations <= MAX_ROUNDS or {len(stored), len(server)} != {32}:
        raise SecretError("this {SCRAM-SHA-256} secret hasn't the sizes of one")

    def fits(password: bytes) -> bool:
        asked, is_whole = _c_string(password)  # HMAC fills its key with NULs, so one at the end makes no difference
        salted = hashlib.pbkdf2_hmac("sha256", asked, salt, iterations)  # rfc5802#3
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored) and is_whole

    written = (b64encode(part).decode() for part in (salt, stored, server))
    keys = "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *written)
    return Secret("SCRAM-SHA-256", f"SCRAM-SHA-256 {iterations}", fits, scram=keys)


def _pbkdf2(data: str) -> Secret:
    """Dovecot's: $1$salt$rounds$digest, the digest in hexadecimal, of HMAC-SHA-1."""
    formed = re.fullmatch(r"\$1\$([^$]*)\$(\d{1,9})\$([0-9a-f]{40})", data)
    if formed is None or not 1 <= int(formed[2]) <= MAX_ROUNDS:
        raise SecretError("this {PBKDF2} secret isn't $1$salt$rounds$digest")
    salt, rounds, kept = formed[1].encode(), int(formed[2]), bytes.fromhex(formed[3])

    def fits(password: bytes) -> bool:
        asked, is_whole = _c_string(password)
        return hmac.compare_digest(hashlib.pbkdf2_hmac("sha1", asked, salt, rounds), kept) and is_whole

    return Secret("PBKDF2", f"PBKDF2 {rounds}", fits)


def _decoded(name: str, data: str, encoding: str) -> bytes:
    try:
        return bytes.fromhex(data) if encoding == "hex" else b64decode(data, validate=True)
    except (ValueError, NoBase64):
        raise SecretError(f"this {{{name}}} secret isn't {'hexadecimal' if encoding == 'hex' else 'base64'}") from None


def _c_string(password: bytes) -> tuple[bytes, bool]:
    """What a C program would take for the password, and whether that is all of it: what follows a NUL is no less part
    of it, so one that has a NUL fits nothing."""
    text, nul, _ = password.partition(b"\0")
    return text, not nul


_BY_PREFIX: Mapping[tuple[str, ...], Callable[[str], Secret]] = {
    ("$argon2id$", "$argon2i$"): _argon2,
    ("$2a$", "$2b$", "$2y$"): _bcrypt,
    ("$5$", "$6$", "$y$", "$gy$"): _system,
    ("$apr1$", "$1$"): _md5_crypt,
}
_CRYPTS: Mapping[str, tuple[str, ...]] = {
    "CRYPT": (),
    "ARGON2ID": ("$argon2id$",),
    "ARGON2I": ("$argon2i$",),
    "BLF-CRYPT": ("$2a$", "$2b$", "$2y$"),
    "SHA256-CRYPT": ("$5$",),
    "SHA512-CRYPT": ("$6$",),
    "MD5-CRYPT": ("$1$",),
    "MD5": ("$1$",),
}
_DIGESTS: Mapping[str, tuple[str, bool]] = {  # algorithm, and whether a salt follows the digest
    "SHA": ("sha1", False),
    "SHA1": ("sha1", False),
    "SHA256": ("sha256", False),
    "SHA512": ("sha512", False),
    "SSHA": ("sha1", True),
    "SSHA256": ("sha256", True),
    "SSHA512": ("sha512", True),
}
_WEAK = frozenset(
    {"CRAM-MD5", "DES-CRYPT", "DIGEST-MD5", "HMAC-MD5", "LANMAN", "LDAP-MD5", "NTLM", "PLAIN-MD4", "PLAIN-MD5"}
    | {"PLAIN-TRUNC", "SCRAM-SHA-1", "SMD5"}
)
