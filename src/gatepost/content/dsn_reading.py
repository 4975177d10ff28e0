"""Reading delivery status notifications (RFC 3464, RFC 6533): which recipients they name, and what became of these.

Strategy: a report is a `multipart/report` with a part of the status kind; anything else is none, whatever its words
say. Of the body only the beginning is walked, of the status part only the beginning is read, and the blocks in it are
counted: what a stranger wrote costs bounded time. Fields are read as header sections are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatepost.content import parameters
from gatepost.content.dsn import Action
from gatepost.content.headers import Section, read_section
from gatepost.content.mime import Leaf, MimeLimits, Walk
from gatepost.content.pieces import Rendered, Span
from gatepost.content.transfer import decode
from gatepost.content.values import unfold
from gatepost.model import Blob

MAX_WALKED = 1024 * 1024
"""Octets of a body within which the status part begins."""
MAX_STATUS = 64 * 1024
"""Octets of a status part that are read."""
MAX_RECIPIENTS = 100

_STATUS_KINDS = ("message/delivery-status", "message/global-delivery-status")
_LIMITS = MimeLimits(parts=20, depth=5, false_delimiters=1000)
_PIECE = 64 * 1024
_BLANK = re.compile(rb"\r?\n(?:[ \t]*+\r?\n)++")
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\d)", re.ASCII)
_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_ACTIONS = {action.value: action for action in Action}


@dataclass(frozen=True, slots=True)
class Told:
    """What a report says of one recipient. Addresses are as written, "" where none is; `status` is an enhanced status
    (RFC 3463), "" where none can be read; `text` what the remote server said, on one line.
    """

    final: str
    original: str
    action: Action
    status: str
    text: str = ""


def read_report(content: Blob) -> tuple[Told, ...] | None:
    """What a report says of its recipients, in order; None where the message is no delivery status notification.

    Blocks without a recipient or with an unknown action are passed over (rfc3464#2.3).
    """
    section = read_section(content)
    kinds = section.raw_values("content-type")
    if not kinds:
        return None
    kind, found = parameters.parse(unfold(kinds[0][: parameters.MAX_VALUE]))
    if kind != "multipart/report" or found.get("report-type", "delivery-status").lower() != "delivery-status":
        return None
    start = len(section.raw)
    body = Rendered([Span(content, start, min(MAX_WALKED, content.size - start))])
    leaf = _status_leaf(section, body)
    if leaf is None:
        return None
    octets = decode(body, leaf.start, leaf.stop, leaf.encoding, MAX_STATUS)
    # rfc3464#2.1: a block about the message comes first, then one for each recipient
    blocks = _BLANK.split(octets.lstrip(b"\r\n"), MAX_RECIPIENTS + 1)[: MAX_RECIPIENTS + 1]
    return tuple(told for block in blocks if (told := _told(Section(block))) is not None)


def _status_leaf(section: Section, body: Rendered) -> Leaf | None:
    walk = Walk(section, _LIMITS)
    for at in range(0, body.size, _PIECE):
        if not walk.feed(body.read(at, _PIECE)):
            break
    return next((leaf for leaf in walk.end(body.size).leaves if leaf.type in _STATUS_KINDS), None)


def _told(block: Section) -> Told | None:
    action = _ACTIONS.get(_field(block, "action").partition("(")[0].strip().lower())
    final, original = _address(_field(block, "final-recipient")), _address(_field(block, "original-recipient"))
    if action is None or not (final or original):
        return None
    status = _STATUS.search(_field(block, "status"))
    text = _field(block, "diagnostic-code").partition(";")[2].strip()
    return Told(final, original, action, "" if status is None else status[0], text[:500])


def _field(block: Section, name: str) -> str:
    values = block.raw_values(name)
    return unfold(values[0]) if values else ""


def _address(value: str) -> str:
    """rfc3464#2.3.1, rfc6533#3: a type, a semicolon, an address; some servers leave the type out or add brackets."""
    kind, semicolon, address = value.partition(";")
    if not semicolon:
        kind, address = "rfc822", kind
    if kind.strip().lower() not in ("rfc822", "utf-8"):
        return ""
    address = address.strip().removeprefix("<").removesuffix(">").strip()
    return _ESCAPED.sub(_character, address) if "\\x{" in address else address


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    return chr(number) if 0x20 <= number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else ""
