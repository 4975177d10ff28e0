"""The lines a server says, read leniently where nothing hangs on it, and safe to show.

A line may end with LF alone, "+ok" may be in small letters, and blanks may be several. What isn't an answer at all is
None, and the end of the session: nothing after it could be told from content.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Sequence

from gatepost.wire.pop3.client_events import Capabilities
from gatepost.wire.pop3.replies import MAX_LINE, Reply

MAX_NUMBER = 2**31 - 1  # of a message
_ANSWER = re.compile(rb"(\+OK|-ERR)(?:[ \t]+(.*))?", re.IGNORECASE | re.DOTALL)
_CODE = re.compile(r"\[([A-Za-z0-9-]+(?:/[A-Za-z0-9-]+)*)\](?: +|$)")  # rfc2449#3
_TIMESTAMP = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")  # rfc1939#7: the form of a Message-ID
_SIZE = re.compile(rb"[ \t]*([0-9]{1,10})(?:[ \t]+([0-9]{1,18})(?=[ \t]|\Z))?(?:[ \t].*)?", re.DOTALL)
_NAME = re.compile(rb"[ \t]*([0-9]{1,10})(?:[ \t]+(.*))?", re.DOTALL)
_USABLE_NAME = re.compile(rb"[ -~]{1,255}")  # rfc1939#7 says 70 octets without blanks; there are others
_MAX_TAGS = 100


def without_end(line: bytes) -> bytes:
    """The line without its CRLF or LF."""
    return line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")


def parse(line: bytes) -> Reply | None:
    """An answer's line, without its end; None for what isn't one. A code is taken wherever it looks like one."""
    found = _ANSWER.fullmatch(line)
    if found is None:
        return None
    text, code = shown(found[2] or b""), ""
    if match := _CODE.match(text):
        code, text = match[1].upper(), text[match.end() :]
    return Reply(found[1].upper() == b"+OK", text, code)


def challenge(line: bytes) -> bytes | None:
    """What AUTH is asked, decoded; None for what isn't a challenge (rfc5034#4). "+" alone is an empty one."""
    if line[:1] != b"+" or line[1:2] not in (b"", b" "):
        return None
    try:
        return a2b_base64(line[1:].strip(b" "), strict_mode=True) if line[1:].strip(b" ") else b""
    except Base64Error:
        return None


def timestamp(reply: Reply) -> str:
    """What APOP's digest is made of; "" unless there is exactly one, of the form of a Message-ID.

    A server that may say anything else could learn a password from a few hundred digests (CVE-2007-1558).
    """
    found = _TIMESTAMP.findall(reply.text)
    return found[0] if len(found) == 1 and reply.text.count("<") == 1 else ""


def size_entry(line: bytes) -> tuple[int, int] | None:
    """A line of LIST: number and octets; 0 octets where there is no size that is one. None for no entry."""
    found = _SIZE.fullmatch(line)
    if found is None or not 0 < int(found[1]) <= MAX_NUMBER:
        return None
    return int(found[1]), int(found[2] or 0)


def name_entry(line: bytes) -> tuple[int, str | None] | None:
    """A line of UIDL: number and name; None instead of a name that can't be kept. None for no entry."""
    found = _NAME.fullmatch(line)
    if found is None or not 0 < int(found[1]) <= MAX_NUMBER:
        return None
    name = (found[2] or b"").strip(b" \t")
    return int(found[1]), name.decode("ascii") if _USABLE_NAME.fullmatch(name) else None


def capabilities(lines: Sequence[bytes]) -> Capabilities:
    """What CAPA's lines say (rfc2449#3)."""
    tags: dict[str, tuple[str, ...]] = {}
    for line in lines[:_MAX_TAGS]:
        tag, *arguments = shown(line).split(" ")
        if tag:
            tags[tag.upper()] = tuple(filter(None, arguments))
    return Capabilities(tags, True)


def shown(raw: bytes) -> str:
    """Text that can't break a line or steer a terminal wherever it is shown later."""
    text = raw[:MAX_LINE].decode("utf-8", "replace")
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " if letter == "\t" else "?" for letter in text)
    return text.strip(" ")
