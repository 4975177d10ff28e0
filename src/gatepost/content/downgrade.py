"""A message with 8-bit content for a server that takes seven bits only (RFC 6152 §3): the same message, re-encoded.

Strategy: one bounded walk says where headers and leaves stand; what is 7-bit already stays octet for octet, leaves that
aren't become quoted-printable or base 64, labels follow. The result is spans of the message with new pieces between
them. What signs or seals its octets isn't touched: where it would have to be, there is no downgrade.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from binascii import b2a_base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

from gatepost.content import parameters
from gatepost.content.addresses import parse_list
from gatepost.content.headers import Section, read_section
from gatepost.content.mime import DEFAULT_LIMITS, Leaf, MimeLimits, Walk
from gatepost.content.pieces import Rendered, Span, has_bare_line_end
from gatepost.content.transfer import decode, encode, fits
from gatepost.content.values import ADDRESS_FIELDS, MAX_LINE, unfold, write_field
from gatepost.model import Blob, Bytes
from gatepost.model.blob import CHUNK

IN_MEMORY = 2**20  # octets of leaves that are encoded at once; further ones while they are read, and in base 64
_LINE_IN, _LINE_OUT = 57, 78  # a line of base 64 with its CRLF, rfc2045#6.8
_SEALED = ("multipart/signed", "multipart/encrypted")  # rfc1847#2.1: nobody on the way changes what is within
_IDENTITIES = ("", "7bit", "8bit", "binary")
_HIGH = bytes(range(128)) + b"?" * 128
_STRUCTURED = frozenset(
    b"date message-id in-reply-to references received return-path mime-version content-transfer-encoding content-id "
    b"content-location content-language content-md5 dkim-signature domainkey-signature authentication-results "
    b"received-spf arc-seal arc-message-signature arc-authentication-results autocrypt auto-submitted list-id "
    b"list-unsubscribe list-post list-help list-archive list-owner list-subscribe resent-date resent-message-id "
    b"disposition-notification-to".split()
)
_WITH_PARAMETERS = (b"content-type", b"content-disposition")


class CantDowngrade(Exception):
    """The text says what can't be re-encoded."""


def downgrade(blob: Blob, limits: MimeLimits = DEFAULT_LIMITS) -> Blob | None:
    """The message in seven bits; the blob itself if it is so already. None where it can't be re-encoded: something
    signed or encrypted, a `message/…` other than message/rfc822, a structure beyond `limits` or malformed, a
    structured header field with 8-bit octets. Time and memory are bounded: see IN_MEMORY.
    """
    if all(chunk.isascii() for chunk in blob.chunks()):
        return blob
    section = read_section(blob)
    body = Rendered([Span(blob, len(section.raw), blob.size - len(section.raw))])
    walk = _Walk(section, limits)
    for chunk in body.chunks():
        if not walk.feed(chunk):
            break
    structure = walk.end(body.size)
    if structure.cut:
        return None
    try:
        return _Downgrade(body, walk.entities, structure.leaves).rendered()
    except CantDowngrade:
        return None


class _Entity(NamedTuple):
    """A part: its header section from `head` (-1: the message's own) to `start` of the body."""

    header: Section
    head: int
    start: int
    is_sealed: bool
    """It is within something signed or encrypted."""
    is_open: bool
    """It holds further parts."""
    type: str


class _Walk(Walk):
    """A walk that remembers the containers too."""

    def __init__(self, section: Section, limits: MimeLimits) -> None:
        self.entities: list[_Entity] = []
        self._seals: list[bool] = []
        super().__init__(section, limits)

    def _enter(self, header: Section, head: int, start: int) -> None:
        depth = len(self._levels)
        super()._enter(header, head, start)
        if self._stopped and self._cut:
            return
        sealed = any(self._seals[:depth])
        entity = self._entity
        is_open = len(self._levels) > depth
        if is_open:
            self._seals[depth:] = [entity.type in _SEALED]
        self.entities.append(_Entity(header, head, start, sealed, is_open, entity.type))


class _Downgrade:
    """One message's new octets. Invariant: `_out` is the new body up to `_at` of the old one."""

    def __init__(self, body: Rendered, entities: list[_Entity], leaves: tuple[Leaf, ...]) -> None:
        self._body = body
        self._entities = entities
        self._leaves = {leaf.head: leaf for leaf in leaves}
        self._out: list[Span] = []
        self._at = 0
        self._left = IN_MEMORY
        self._has_seals = any(entity.is_sealed for entity in entities)

    def rendered(self) -> Blob:
        """The whole message; CantDowngrade says why not."""
        for entity in self._entities:
            self._take(entity)
        self._between(self._body.size)
        return Rendered(self._out)

    def _take(self, entity: _Entity) -> None:
        leaf = None if entity.is_open else self._leaves.get(entity.head)
        if entity.head >= 0:
            self._between(entity.head)
            self._at = entity.start
        if entity.is_sealed:
            self._sealed(entity, leaf)
            return
        if entity.is_open and entity.type == "message/global":
            raise CantDowngrade("message/global has UTF-8 header fields")  # rfc6532#3.7
        encoding = _encoding(entity.header)
        content: Blob | None = None
        if leaf is not None and leaf.stop > leaf.start:
            content, encoding = self._leaf(leaf, encoding)
        elif encoding in ("8bit", "binary"):
            encoding = "7bit"  # rfc2045#6.4 a container's label follows what it holds
        extra = b"" if content is None or entity.head >= 0 else self._labels(entity.header)
        head = _header(entity.header, encoding, extra)
        self._put(head)
        if leaf is None:
            return
        if content is None:
            self._out += self._body.span(leaf.start, leaf.stop)
        else:
            self._out.append(Span(content, 0, content.size))
            if leaf.is_message and content.read(content.size - 2) != b"\r\n":
                self._put(b"\r\n" if encoding == "base64" else b"=\r\n")
        self._at = max(self._at, leaf.stop)

    def _sealed(self, entity: _Entity, leaf: Leaf | None) -> None:
        stop = entity.start if leaf is None else leaf.stop
        if not entity.header.raw.isascii() or not self._is_ascii(entity.start, stop):
            raise CantDowngrade("something signed or encrypted has 8-bit octets")
        self._out += self._body.span(entity.head, stop)
        self._at = stop

    def _leaf(self, leaf: Leaf, encoding: str) -> tuple[Blob | None, str]:
        """The leaf's new content, None if it stays, and the encoding it is in."""
        start, stop = leaf.start, leaf.stop
        is_ascii = self._is_ascii(start, stop)
        if is_ascii and encoding not in ("8bit", "binary"):
            return None, encoding
        if leaf.type.startswith("message/"):
            if is_ascii:
                return None, "7bit"
            raise CantDowngrade(f"{leaf.type} can't be encoded")  # rfc2046#5.2
        if encoding not in (*_IDENTITIES, "quoted-printable", "base64"):
            raise CantDowngrade(f"there are 8-bit octets in {encoding}")
        size = stop - start
        if size > self._left:
            if encoding in _IDENTITIES:
                return _Base64(self._body, start, size), "base64"
            raise CantDowngrade(f"much {encoding} with 8-bit octets")
        self._left -= size
        content = decode(self._body, start, stop, encoding, size)
        if is_ascii and fits(content, ascii_only=True):
            return None, "7bit"
        text = leaf.type.startswith("text/") and not has_bare_line_end([content])
        found = [encode(content, to, text=text, outside=leaf.boundaries) for to in ("quoted-printable", "base64")]
        octets, encoding = min(found, key=lambda one: len(one[0]))
        return Bytes(octets), encoding

    def _labels(self, header: Section) -> bytes:
        """What a message has to say about itself so that its transfer encoding counts."""
        extra = b"" if header.count("mime-version") else b"MIME-Version: 1.0\r\n"  # rfc2045#4
        if header.count("content-type"):
            return extra
        charset = b"utf-8" if self._is_utf8() else b"unknown-8bit"  # rfc1428#3
        return extra + b"Content-Type: text/plain; charset=" + charset + b"\r\n"

    def _is_utf8(self) -> bool:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            for chunk in self._body.chunks():
                decoder.decode(chunk)
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            return False
        return True

    def _between(self, stop: int) -> None:
        """Delimiters, preambles and epilogues: nobody reads these (rfc2046#5.1.1), 8-bit octets become "?"."""
        if stop <= self._at:
            return
        if self._is_ascii(self._at, stop):
            self._out += self._body.span(self._at, stop)
        elif self._has_seals or not all(b.isascii() for leaf in self._leaves.values() for b in leaf.boundaries):
            raise CantDowngrade("8-bit octets between the parts")
        else:
            between = _Unreadable(self._body, self._at, stop - self._at)
            self._out.append(Span(between, 0, between.size))
        self._at = stop

    def _is_ascii(self, start: int, stop: int) -> bool:
        return all(
            self._body.read(at, min(CHUNK, stop - at)).isascii() for at in range(start, stop, CHUNK)
        )  # in pieces: a leaf may be the whole message

    def _put(self, octets: bytes) -> None:
        self._out.append(Span(Bytes(octets), 0, len(octets)))


@dataclass(frozen=True, slots=True)
class _Lazy(ABC):
    """`length` octets of a blob from `start`, changed while they are read."""

    blob: Blob
    start: int
    length: int

    @property
    def size(self) -> int:
        """Octets in all."""
        return self.length

    @abstractmethod
    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Up to `length` octets from `offset`."""

    def chunks(self) -> Iterator[bytes]:
        """The whole content in pieces."""
        return (self.read(at, CHUNK) for at in range(0, self.size, CHUNK))

    def open(self) -> BinaryIO:
        """A stream of it."""
        return Rendered([Span(self, 0, self.size)]).open()


class _Unreadable(_Lazy):
    """ASCII as it is, everything else as "?"."""

    __slots__ = ()

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        left = max(0, self.length - offset)
        return self.blob.read(self.start + offset, left if length is None else min(left, length)).translate(_HIGH)


class _Base64(_Lazy):
    """Lines of 76 characters, CRLF between them; the line a reader asks for is encoded when it asks."""

    __slots__ = ()

    @property
    def size(self) -> int:
        whole, rest = divmod(self.length, _LINE_IN)
        return whole * _LINE_OUT + ((rest + 2) // 3 * 4 if rest else -2)

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        stop = self.size if length is None else min(self.size, offset + length)
        if offset >= stop:
            return b""
        first, last = offset // _LINE_OUT, -(-stop // _LINE_OUT)
        raw = self.blob.read(self.start + first * _LINE_IN, min(last * _LINE_IN, self.length) - first * _LINE_IN)
        lines = [b2a_base64(raw[at : at + _LINE_IN], newline=False) for at in range(0, len(raw), _LINE_IN)]
        octets = b"\r\n".join([*lines, b""])
        return octets[offset - first * _LINE_OUT : stop - first * _LINE_OUT]


def _encoding(header: Section) -> str:
    values = header.raw_values("content-transfer-encoding")
    return unfold(values[0][: parameters.MAX_VALUE]).partition("(")[0].strip().lower() if values else ""


def _header(header: Section, encoding: str, extra: bytes) -> bytes:
    """The header section with that transfer encoding, every field in ASCII."""
    if header.raw.isascii() and encoding == _encoding(header) and not extra:
        return header.raw
    if not encoding.isascii():
        raise CantDowngrade("8-bit octets in the field Content-Transfer-Encoding")
    label = f"Content-Transfer-Encoding: {encoding}\r\n".encode("ascii")
    out: list[bytes] = []
    is_labelled = encoding == _encoding(header)
    for octets, name in zip(header.fields, header.names, strict=True):
        field = octets
        if name == b"content-transfer-encoding" and not is_labelled:
            field, is_labelled = label, True
        elif not octets.isascii():
            field = _ascii_field(octets, name)
        out.append(field)
    if out and not out[-1].endswith(b"\n"):
        out[-1] += b"\r\n"
    out.append(extra)
    if not is_labelled:
        out.append(label)
    return b"".join(out) + (header.blank or b"\r\n")


def _ascii_field(octets: bytes, name: bytes) -> bytes:
    spelling = octets[: len(name)].decode("ascii")
    raw = octets.partition(b":")[2]
    if not name or name in _STRUCTURED:
        raise CantDowngrade(f"8-bit octets in the field {spelling or 'without a name'}")
    try:
        if name in _WITH_PARAMETERS:
            return _with_parameters(spelling, raw)
        value = unfold(raw)
        field = write_field(spelling, value)
    except ValueError as error:
        raise CantDowngrade(str(error)) from error
    if name.decode("ascii") in ADDRESS_FIELDS:
        before, after = parse_list(value), parse_list(unfold(field.partition(b":")[2]))
        addresses = [one.address for one in before.mailboxes]
        if not before.is_clean or addresses != [one.address for one in after.mailboxes]:
            raise CantDowngrade(f"an address in {spelling} isn't ASCII")  # a name may be encoded, an address can't
    return field


def _with_parameters(spelling: str, raw: bytes) -> bytes:
    """rfc2231#4: parameters that aren't ASCII say their charset."""
    if len(raw) > parameters.MAX_VALUE:
        raise CantDowngrade(f"{spelling} is very long")
    token, found = parameters.parse(unfold(raw))
    lines = [f"{spelling}: {token}"]
    for name, value in found.items():
        if value.isascii():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f' {name}="{escaped}"')
        else:
            lines.append(f" {name}*=utf-8''{quote(value, safe='')}")
    field = ";\r\n".join(lines) + "\r\n"
    if not field.isascii() or max(map(len, lines)) > MAX_LINE - 1:
        raise CantDowngrade(f"{spelling} can't be written in ASCII")
    return field.encode("ascii")
