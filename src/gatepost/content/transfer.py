"""Transfer encodings (RFC 2045 §6): a part's octets decoded piece by piece up to a limit, and encoded again.

Strategy: the C decoders of `binascii` over large pieces cut where they may be cut; junk between is skipped, as RFC 2045
asks of decoders. An unknown encoding is read as it stands. Encoding keeps the part's own way as long as the new content
can travel so, and falls back to base 64.
"""

from __future__ import annotations

from binascii import a2b_base64, a2b_qp, b2a_base64, b2a_qp
from collections.abc import Iterator, Sequence

from gatepost.content.pieces import crlf
from gatepost.model import Blob

_PIECE = 64 * 1024
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_JUNK = bytes(set(range(256)) - set(_ALPHABET))
_LINE_OCTETS = 57  # 76 characters of base 64, rfc2045#6.8
_MAX_LINE = 998  # rfc5322#2.1.1


def decode(blob: Blob, start: int, stop: int, encoding: str, limit: int) -> bytes:
    """Up to `limit` decoded octets of the octets from `start` to `stop`."""
    if limit <= 0:
        return b""
    match encoding:
        case "base64":
            decoded = _base64(_pieces(blob, start, stop))
        case "quoted-printable":
            decoded = _quoted_printable(_pieces(blob, start, stop))
        case _:
            return blob.read(start, min(limit, stop - start))
    out: list[bytes] = []
    left = limit
    for piece in decoded:
        out.append(piece[:left])
        left -= len(piece)
        if left <= 0:
            break
    return b"".join(out)


def encode(content: bytes, encoding: str, *, text: bool, outside: Sequence[bytes] = ()) -> tuple[bytes, str]:
    """The content's octets for the message, and the encoding they are in: `encoding` where it can hold the content.

    `text`: line ends may become CRLF. `outside`: boundaries around the part, which no line of it may look like.
    """
    if text:
        content = b"".join(crlf([content]))
    match encoding:
        case "base64":
            return _to_base64(content), "base64"
        case "quoted-printable":
            octets = _to_quoted_printable(content, text)
            if not _has_boundary(octets, outside):
                return octets, encoding
        case "" | "7bit" | "8bit" | "binary":
            if fits(content, ascii_only=encoding in ("", "7bit")) and not _has_boundary(content, outside):
                return content, encoding
    return _to_base64(content), "base64"


def _pieces(blob: Blob, start: int, stop: int) -> Iterator[bytes]:
    return (blob.read(at, min(_PIECE, stop - at)) for at in range(start, stop, _PIECE))


def _base64(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Ends at the first padding, as decoders do (rfc2045#6.8); a broken last quantum gives what it can."""
    held = b""
    for piece in pieces:
        held += piece.translate(None, _JUNK)
        padding = held.find(b"=")
        if padding >= 0:
            held = held[:padding]
            break
        whole = len(held) - len(held) % 4
        yield a2b_base64(held[:whole])
        held = held[whole:]
    if len(held) % 4 == 1:
        held = held[:-1]  # six bits are no octet
    yield a2b_base64(held + b"=" * (-len(held) % 4))


def _quoted_printable(pieces: Iterator[bytes]) -> Iterator[bytes]:
    held = b""
    for piece in pieces:
        held += piece
        cut = held.rfind(b"\n") + 1
        if not cut and len(held) > _PIECE:  # no line is that long: cut it before what might be an escape
            cut = len(held) - 3 + held[-3:].find(b"=") if b"=" in held[-3:] else len(held)
        if cut:
            yield a2b_qp(held[:cut])
            held = held[cut:]
    yield a2b_qp(held)


def _to_base64(content: bytes) -> bytes:
    lines = [b2a_base64(content[at : at + _LINE_OCTETS], newline=False) for at in range(0, len(content), _LINE_OCTETS)]
    return b"\r\n".join(lines)


def _to_quoted_printable(content: bytes, text: bool) -> bytes:
    """b2a_qp takes the line ends of the first line for the whole: CRLF in text, escaped in anything else."""
    octets = b2a_qp(content, istext=text)
    return octets if text and b"\r\n" in content else octets.replace(b"=\n", b"=\r\n")


def fits(content: bytes, *, ascii_only: bool) -> bool:
    """Whether the content can travel unencoded: whole line ends, no NUL, lines of 998 octets (rfc5321#4.5.3.1.6)."""
    if b"\0" in content or (ascii_only and not content.isascii()):
        return False
    pairs = content.count(b"\r\n")
    if content.count(b"\n") != pairs or content.count(b"\r") != pairs:
        return False
    return len(content) <= _MAX_LINE or max(map(len, content.split(b"\r\n"))) <= _MAX_LINE


def _has_boundary(octets: bytes, boundaries: Sequence[bytes]) -> bool:
    """Whether a line begins like a delimiter (rfc2046#5.1.1)."""
    return any(octets.startswith(b"--" + b) or b"\n--" + b in octets for b in boundaries)
