"""DANE for SMTP (RFC 7672, RFC 7671): what TLSA records say, and whether a certificate is the one they mean.

Pure: records and certificates in, answers out. Chains aren't judged here. A record that names an authority by its hash
only says which certificate of those a server shows is to be trusted; OpenSSL then judges the chain with that one as the
only authority.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

DANE_TA = 2  # rfc7218#2.1: the record is an authority's, and names count
DANE_EE = 3  # the record is the server's own certificate's, and nothing else counts
_WHOLE, _SPKI = 0, 1  # rfc6698#2.1.2: what of the certificate
_EXACT, _SHA256, _SHA512 = 0, 1, 2  # rfc6698#2.1.3
_MAX_DATA = 16 * 1024  # octets of a certificate in a record


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record (RFC 6698 §2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @classmethod
    def parse(cls, text: str) -> Tlsa | None:
        """A record as it is written, `3 1 1 ab12…`; None for what isn't one."""
        fields = text.split(maxsplit=3)
        try:
            usage, selector, matching = map(int, fields[:3])
            return cls(usage, selector, matching, bytes.fromhex("".join(fields[3:])))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"

    @property
    def is_usable(self) -> bool:
        """Whether it can be of use for SMTP: the usages that ask a public authority can't (rfc7672#3.1.3)."""
        if self.usage not in (DANE_TA, DANE_EE) or self.selector not in (_WHOLE, _SPKI):
            return False
        match self.matching:
            case 0:
                content = self.data if self.selector == _SPKI else _spki(self.data)
                return content is not None and _is_sequence(content) and len(self.data) <= _MAX_DATA
            case 1:
                return len(self.data) == hashlib.sha256().digest_size  # attack D2
            case 2:
                return len(self.data) == hashlib.sha512().digest_size
            case _:
                return False

    def matches(self, certificate: bytes) -> bool:
        """Whether it is about this certificate (DER)."""
        selected = certificate if self.selector == _WHOLE else _spki(certificate)
        if selected is None:
            return False
        return self.data == _HASHES[self.matching](selected)


def _same(content: bytes) -> bytes:
    return content


_HASHES: dict[int, Callable[[bytes], bytes]] = {
    _EXACT: _same,
    _SHA256: lambda content: hashlib.sha256(content).digest(),
    _SHA512: lambda content: hashlib.sha512(content).digest(),
}


def usable(records: Iterable[Tlsa]) -> tuple[Tlsa, ...]:
    """Those that count: where both hashes are published for the same thing, only the stronger (rfc7671#9)."""
    known = [record for record in dict.fromkeys(records) if record.is_usable]
    strong = {(record.usage, record.selector) for record in known if record.matching == _SHA512}
    return tuple(
        record for record in known if record.matching != _SHA256 or (record.usage, record.selector) not in strong
    )


def of_usage(records: Sequence[Tlsa], usage: int) -> tuple[Tlsa, ...]:
    """The records of one usage."""
    return tuple(record for record in records if record.usage == usage)


def find_anchors(records: Sequence[Tlsa], shown: Iterable[bytes]) -> tuple[bytes, ...]:
    """The certificates (DER) that DANE-TA records mean: those they hold whole, and those among the shown ones.

    Who publishes a hash has to show the certificate (rfc7672#3.1.2).
    """
    authorities = of_usage(records, DANE_TA)
    whole = [one.data for one in authorities if (one.selector, one.matching) == (_WHOLE, _EXACT)]
    meant = [certificate for certificate in shown if any(record.matches(certificate) for record in authorities)]
    return tuple(dict.fromkeys([*whole, *meant]))


def names_match(certified: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether a certificate's DNS names have one of the wanted ones; a wanted `.example.org` is any name below it.

    A wildcard stands for the first label only, whole (rfc6125#6.4.3).
    """
    asked = [name.lower().removesuffix(".") for name in wanted]
    for name in certified:
        one = name.lower().removesuffix(".")
        for each in asked:
            if one == each or (each.startswith(".") and one.removeprefix("*").endswith(each) and one != each):
                return True
            if one.startswith("*.") and not each.startswith(".") and each.partition(".")[2] == one[2:]:
                return True
    return False


# ── DER, as far as it takes to find the public key as it is written ────────────────────────────────────────────────

_SEQUENCE = 0x30
_VERSION = 0xA0
_BEFORE_SPKI = 5  # serialNumber, signature, issuer, validity, subject (rfc5280#4.1)


def _spki(certificate: bytes) -> bytes | None:
    """The SubjectPublicKeyInfo of a certificate, its very octets; None for what isn't a certificate.

    Libraries give the key written anew, which may be other octets.
    """
    try:
        at, _ = _inside(certificate, 0)  # Certificate
        at, end = _inside(certificate, at)  # TBSCertificate
        if certificate[at] == _VERSION:
            at = _behind(certificate, at)
        for _ in range(_BEFORE_SPKI):
            at = _behind(certificate, at)
        after = _behind(certificate, at)
    except (IndexError, ValueError):
        return None
    if certificate[at] != _SEQUENCE or after > end:
        return None
    return certificate[at:after]


def _is_sequence(content: bytes) -> bool:
    try:
        return content[0] == _SEQUENCE and _behind(content, 0) == len(content)
    except (IndexError, ValueError):
        return False


def _inside(octets: bytes, at: int) -> tuple[int, int]:
    """Where the content of the sequence at `at` begins and ends. IndexError, ValueError where there is none."""
    if octets[at] != _SEQUENCE:
        raise ValueError("no sequence")
    return _begin(octets, at), _behind(octets, at)


def _begin(octets: bytes, at: int) -> int:
    return at + 2 + (octets[at + 1] & 0x7F if octets[at + 1] & 0x80 else 0)


def _behind(octets: bytes, at: int) -> int:
    begin = _begin(octets, at)
    length = octets[at + 1]
    if length & 0x80:
        length = int.from_bytes(octets[at + 2 : begin], "big")
    end = begin + length
    if end > len(octets) or begin > at + 6:
        raise ValueError("cut short")
    return end
