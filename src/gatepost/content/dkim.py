"""DKIM signatures (RFC 6376, RFC 8463): the fields that say a domain stands for a message as it leaves.

Strategy: the body goes by in chunks into a hash (`BodyHash`); then each key signs the same header fields with its own
field at the end. Fields that mustn't be added on the way are named once more than they are there (oversigning,
rfc6376#8.15). There is no l=: nobody can append to what is signed (rfc6376#8.2).
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gatepost.content.dkim_canonical import BodyHash, Canonical, canonical_field
from gatepost.content.dkim_keys import PrivateKey
from gatepost.content.headers import Section, read_section
from gatepost.content.values import write_field
from gatepost.model import Blob

NAME = "DKIM-Signature"
OVERSIGNED = (
    "From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "In-Reply-To", "References",
    "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
)  # fmt: skip
"""What a reader sees or is led by: nobody may add one."""
SIGNED = (
    *OVERSIGNED, "Sender", "Content-ID", "Content-Description", "Content-Disposition", "Resent-Date", "Resent-From",
    "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Message-ID", "List-ID", "List-Help", "List-Unsubscribe",
    "List-Unsubscribe-Post", "List-Subscribe", "List-Post", "List-Owner", "List-Archive",
)  # fmt: skip
"""rfc6376#5.4.1, rfc8058#4. Lists and forwarders may add those that aren't oversigned."""
MOST_FIELDS = 500  # named in a signature; a message with more of them isn't signed
NEVER = frozenset(["return-path", "received", "dkim-signature"])  # rfc6376#5.4, #3.5
_NAMES = 50  # characters of h= before a blank, where it may be folded
_LETTERS = 66  # characters of b= before a blank


class Unsigned(Exception):
    """This message can't be signed; the text says why."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key with its name in the DNS: `selector._domainkey.domain`. The domain is in A-labels."""

    domain: str
    selector: str
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class Style:
    """What signatures of a domain are like. `signed` and `oversigned` are names of header fields; From is always both.
    `expires_s`: seconds until a signature ends, 0 for never.
    """

    header: Canonical = Canonical.RELAXED
    body: Canonical = Canonical.RELAXED
    signed: tuple[str, ...] = SIGNED
    oversigned: tuple[str, ...] = OVERSIGNED
    expires_s: int = 0


def sign(section: Section, body: bytes, keys: Sequence[SigningKey], style: Style, now: int) -> list[str]:
    """The values of the DKIM-Signature fields, one for each key, to be put on top of the message by `write_field`.

    `body` is the digest of the body (`BodyHash`), `now` Unix time in seconds. Raises Unsigned.
    """
    if section.count("from") != 1:  # rfc6376#5.4: From has to be signed; rfc5322#3.6: there is one
        raise Unsigned("it has no From" if not section.count("from") else "it has more than one From")
    names, fields = _signed(section, style)
    head = b"".join([canonical_field(field, style.header) for field in fields])
    return [_value(head, names, body, key, style, now) for key in keys]


def sign_blob(blob: Blob, keys: Sequence[SigningKey], style: Style, now: int) -> list[str]:
    """The same for a whole message, read in chunks. Raises Unsigned."""
    section = read_section(blob)
    body = BodyHash(style.body)
    for octets in after(blob.chunks(), len(section.raw)):
        body.feed(octets)
    return sign(section, body.digest(), keys, style, now)


def after(chunks: Iterable[bytes], skipped: int) -> Iterator[bytes]:
    """The chunks without their first `skipped` octets."""
    for chunk in chunks:
        if skipped < len(chunk):
            yield chunk[skipped:] if skipped else chunk
        skipped = max(0, skipped - len(chunk))


def _signed(section: Section, style: Style) -> tuple[list[str], list[bytes]]:
    """What h= names, and the fields meant: rfc6376#5.4.2, of several with one name the last first."""
    oversigned = {name.lower() for name in style.oversigned} | {"from"}
    wanted = {name.lower(): name for name in ("From", *style.signed, *style.oversigned)}
    names: list[str] = []
    fields: list[bytes] = []
    known = set(section.names)
    for lower, name in wanted.items():
        key = lower.encode("ascii", "replace")
        if key in known and lower not in NEVER:
            there = [one for one, named in zip(section.fields, section.names, strict=True) if named == key]
            fields += [_whole(field) for field in reversed(there)]
            names += [name] * len(there)
        if lower in oversigned:
            names.append(name)
        if len(names) > MOST_FIELDS:
            raise Unsigned(f"it has more than {MOST_FIELDS} fields to be signed")
    return names, fields


def _whole(field: bytes) -> bytes:
    return field if field.endswith(b"\r\n") else field.rstrip(b"\r\n") + b"\r\n"  # the content ended within it


def _value(head: bytes, names: list[str], body: bytes, key: SigningKey, style: Style, now: int) -> str:
    expires = f" x={now + style.expires_s};" if style.expires_s else ""
    # with a blank behind "b=" the field is folded before it in the same way with and without the signature
    unsigned = (
        f"v=1; a={key.key.algorithm.value}; c={style.header.value}/{style.body.value}; d={key.domain}; "
        f"s={key.selector}; q=dns/txt; t={now};{expires} h={_listed(names)}; bh={b64encode(body).decode()}; b="
    )
    own = canonical_field(write_field(NAME, unsigned), style.header).removesuffix(b"\r\n")  # rfc6376#3.7
    data = head + own
    signature = b64encode(key.key.sign(data, hashlib.sha256(data).digest())).decode()
    return " ".join([unsigned, *(signature[at : at + _LETTERS] for at in range(0, len(signature), _LETTERS))])


def _listed(names: Iterable[str]) -> str:
    """Names with colons between them, and a blank where the line may be folded."""
    out, width = "", 0
    for name in names:
        if not out:
            out, width = name, len(name)
        elif width + len(name) > _NAMES:
            out, width = f"{out}: {name}", len(name)
        else:
            out, width = f"{out}:{name}", width + len(name) + 1
    return out
