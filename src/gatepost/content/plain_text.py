"""The words of a message: its first plain text, decoded, as far as somebody wants to read.

Strategy: the MIME walk over the beginning of the body finds the first leaf that is plain text and no attachment; as
much of it is decoded as is asked for. What isn't text gives "", never an exception.
"""

from __future__ import annotations

from gatepost.content import parameters
from gatepost.content.headers import Section, read_section
from gatepost.content.mime import Leaf, MimeLimits, Walk
from gatepost.content.pieces import Rendered, Span
from gatepost.content.transfer import decode
from gatepost.content.values import decode_charset, unfold
from gatepost.model import Blob

_WALKED = 256 * 1024  # octets of the body within which the text begins
_LIMITS = MimeLimits(parts=50, depth=10, false_delimiters=1000)
_PIECE = 64 * 1024


def first_text(content: Blob, limit: int) -> str:
    """The beginning of a message's first plain text, of at most `limit` decoded octets; lines end with "\\n".

    "" where there is none within reach.
    """
    section = read_section(content)
    start = len(section.raw)
    body = Rendered([Span(content, start, max(0, min(_WALKED, content.size - start)))])
    walk = Walk(section, _LIMITS)
    for at in range(0, body.size, _PIECE):
        if not walk.feed(body.read(at, _PIECE)):
            break
    leaf = next((leaf for leaf in walk.end(body.size).leaves if _is_text(leaf)), None)
    if leaf is None:
        return ""
    octets = decode(body, leaf.start, leaf.stop, leaf.encoding, limit)
    return decode_charset(octets, leaf.parameters.get("charset", "utf-8")).replace("\r\n", "\n").replace("\r", "\n")


def _is_text(leaf: Leaf) -> bool:
    return leaf.type == "text/plain" and _disposition(leaf.header) != "attachment"


def _disposition(header: Section) -> str:
    values = header.raw_values("content-disposition")
    return parameters.parse(unfold(values[0][: parameters.MAX_VALUE]))[0] if values else ""
