"""Replies as octets: the only place where a reply of ours becomes bytes, and the last guard against broken ones.

Strategy: the common reply (one printable ASCII line that fits) is one format and one encode; that costs less than a
cache look-up would, so there is no cache. Everything else goes line by line through a filter after which no line can
carry CR, LF, NUL or another control character, non-ASCII only where the client asked for SMTPUTF8, and no line is
longer than 510 octets.
"""

from __future__ import annotations

from gatepost.model import Reply

MAX_LINE = 510  # octets without CRLF, rfc5321#4.5.3.1.5

_HEAD = 16  # octets that hold any code and status with their blanks

# What a missing enhanced status becomes, by code (rfc3463); the class's "x.0.0" otherwise.
_STATUS = {
    221: "2.0.0",
    235: "2.7.0",
    251: "2.1.5",
    252: "2.1.5",
    421: "4.3.2",
    450: "4.2.0",
    451: "4.3.0",
    452: "4.3.1",
    454: "4.7.0",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    530: "5.7.0",
    534: "5.7.9",
    535: "5.7.8",
    538: "5.7.11",
    550: "5.7.1",
    551: "5.1.6",
    552: "5.3.4",
    553: "5.1.3",
    554: "5.7.1",
    555: "5.5.4",
}


def complete(reply: Reply, positive: str = "2.0.0") -> Reply:
    """The reply with an enhanced status; `positive` is the one a 2xx gets. A 3xx has none (rfc2034#4)."""
    if reply.status or 300 <= reply.code < 400:
        return reply
    if reply.code < 300:
        return Reply(reply.code, _STATUS.get(reply.code, positive), reply.text)
    return Reply(reply.code, _STATUS.get(reply.code) or f"{reply.code // 100}.0.0", reply.text)


def encode(reply: Reply, *, smtputf8: bool = False) -> bytes:
    """The reply with its CRLFs. Whatever its text holds, every line is a well-formed line of this reply."""
    text = reply.text
    if text.isascii() and text.isprintable() and len(text) <= MAX_LINE - _HEAD:
        between = " " if reply.status and text else ""
        return f"{reply.code} {reply.status}{between}{text}\r\n".encode("ascii")  # an empty 334 keeps its blank
    *lines, last = text.replace("\r\n", "\n").split("\n")
    status = f"{reply.status} " if reply.status else ""
    head, end = f"{reply.code}-{status}", f"{reply.code} {status}"  # rfc5321#4.2.1
    return b"".join((*(_line(head, line, smtputf8) for line in lines), _line(end, last, smtputf8)))


def _line(head: str, text: str, smtputf8: bool) -> bytes:
    """One line with its CRLF, safe and at most MAX_LINE octets; a cut never divides a character."""
    safe = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    octets = (head + safe).encode("utf-8" if smtputf8 else "ascii", "replace")
    if len(octets) > MAX_LINE:
        octets = octets[:MAX_LINE].decode("utf-8", "ignore").encode("utf-8")
    return octets + b"\r\n"
