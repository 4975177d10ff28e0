"""DKIM keys: private ones read from PEM, and the DNS records that publish their other halves (RFC 6376 §3.6, RFC 8463).

`cryptography` is imported where a key is read: whoever signs nothing doesn't wait for it.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

LEAST_BITS = 1024  # rfc8301#3.2: verifiers don't look at shorter ones
GOOD_BITS = 2048
MOST_BITS = 4096  # rfc8301#3.2: what verifiers have to be able to verify
STRING = 255  # octets of one string of a TXT record, rfc1035#3.3.14
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_SELECTOR = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*"
)
_MOST_PEM = 64 * 1024


class KeyProblem(ValueError):
    """A key that can't be used; the text says why and, after a semicolon, what to do."""


class Algorithm(Enum):
    """How is signed; the words of a signature's `a=`."""

    RSA = "rsa-sha256"
    ED25519 = "ed25519-sha256"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key. Nothing shows it."""

    algorithm: Algorithm
    bits: int
    _key: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    def sign(self, data: bytes, digest: bytes) -> bytes:
        """The signature of `data`; `digest` is its SHA-256, which Ed25519 signs (rfc8463#3)."""
        from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(digest, padding.PKCS1v15(), utils.Prehashed(SHA256()))
        return self._key.sign(digest)

    def public_record(self) -> str:
        """The TXT record that publishes the key: rfc6376#3.6.1, rfc8463#4."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

        public = self._key.public_key()
        if self.algorithm is Algorithm.ED25519:
            return "v=DKIM1; k=ed25519; p=" + b64encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return "v=DKIM1; k=rsa; p=" + b64encode(der).decode()


def load_key(pem: bytes, *, is_proven: bool = True) -> PrivateKey:
    """The private key of a PEM file: PKCS #8 or PKCS #1, RSA or Ed25519, any line ends. KeyProblem if there is none.

    `is_proven`: an RSA key's numbers are looked at too, which takes some 30 ms; whoever signs with it needs that.
    """
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    if len(pem) > _MOST_PEM:
        raise KeyProblem("it is too long for a key; name a PEM file with one private key")
    blocks = {one[1]: one[0] for one in _PEM.finditer(pem.removeprefix(b"\xef\xbb\xbf"))}
    found = next((block for name, block in blocks.items() if name.endswith(b"PRIVATE KEY")), None)
    if found is None:
        what = "it holds a public key" if any(b"PUBLIC KEY" in name for name in blocks) else "it holds no PEM key"
        raise KeyProblem(f"{what}; name the private key, or make one: gatepost dns key SELECTOR")
    if b"ENCRYPTED" in found:
        raise KeyProblem("the key has a passphrase; take it off: openssl pkey -in KEY -out NEW")
    try:
        key = load_pem_private_key(_lines(found), None, unsafe_skip_rsa_key_validation=not is_proven)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyProblem("its private key can't be read; make another: gatepost dns key SELECTOR") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return PrivateKey(Algorithm.ED25519, 256, key)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyProblem("DKIM knows RSA and Ed25519 keys only; make one: gatepost dns key SELECTOR")
    if key.key_size < LEAST_BITS:
        raise KeyProblem(
            f"an RSA key of {key.key_size} bits is too short, verifiers pass it over; take {GOOD_BITS} bits"
        )
    return PrivateKey(Algorithm.RSA, key.key_size, key)


def make_key(algorithm: Algorithm, bits: int = GOOD_BITS) -> tuple[PrivateKey, bytes]:
    """A new key and its PEM (PKCS #8). `bits` is for RSA, from 1024; KeyProblem for another size."""
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    made: RSAPrivateKey | Ed25519PrivateKey
    if algorithm is Algorithm.RSA:
        if not LEAST_BITS <= bits <= MOST_BITS:
            raise KeyProblem(f"an RSA key has {LEAST_BITS} to {MOST_BITS} bits; take {GOOD_BITS}")
        made = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    else:
        made, bits = ed25519.Ed25519PrivateKey.generate(), 256
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return PrivateKey(algorithm, bits, made), pem


def check_selector(selector: str) -> None:
    """KeyProblem unless it can be a selector: rfc6376#3.1, one or more labels of a name."""
    if not _SELECTOR.fullmatch(selector) or len(selector) > 180:
        raise KeyProblem(f'"{selector}" can\'t be a selector: letters, digits and hyphens; take s2026 or the like')


def public_part(record: str) -> tuple[str, bytes] | None:
    """Key type and public key of a DKIM record, for comparing two; None if it can't be read. A revoked key is b""."""
    tags = dict(part.partition("=")[::2] for part in "".join(record.split()).split(";"))
    if "p" not in tags or tags.get("v", "DKIM1") != "DKIM1":
        return None
    try:
        return tags.get("k", "rsa"), b64decode(tags["p"], validate=True)
    except ValueError:
        return None


def strings(record: str) -> list[str]:
    """The record cut into the strings a TXT record is made of."""
    return [record[at : at + STRING] for at in range(0, len(record), STRING)] or [""]


def _lines(block: bytes) -> bytes:
    """A PEM block with plain line ends, however its file was carried here."""
    return b"\n".join(line.strip() for line in block.splitlines()) + b"\n"
