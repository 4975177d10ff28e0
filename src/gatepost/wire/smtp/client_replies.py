"""Replies cut out of what a server sends, bounded whatever it sends.

Strategy: lines are found with `bytes.find`; a line too long to keep is cut and the rest of it dropped without being
stored, and a reply with too many lines, or a line that never ends, is malformed. Line ends are taken leniently (LF with
or without CR), everything else strictly: a reply that can't be understood is a value, and the connection's end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatepost.model import Reply

MAX_LINE = 2048  # octets of a reply line that are kept; rfc5321#4.5.3.1.5 asks for 512
MAX_LINES = 256  # lines of one reply
MAX_LENGTH = 1024 * 1024  # octets of one line, most of them dropped, before the server is taken to be mad

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)  # rfc5321#4.2.1; a bare code is a reply too
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")  # rfc2034#4


@dataclass(frozen=True, slots=True)
class Malformed:
    """What came isn't a reply; `text` says how, without quoting more than a few printable characters of it."""

    text: str


class ReplyReader:
    """The replies of one connection. At most one line and one reply's kept lines are held; after Malformed, nothing."""

    __slots__ = ("_buffer", "_code", "_dropped", "_lines", "_malformed")

    def __init__(self) -> None:
        self._buffer = b""
        self._dropped = 0  # octets of the present line that are gone already
        self._code = b""
        self._lines: list[str] = []
        self._malformed: Malformed | None = None

    def feed(self, data: bytes) -> None:
        """Octets as they came, cut anywhere."""
        if self._malformed is None:
            self._buffer = self._buffer + data if self._buffer else data

    @property
    def has_input(self) -> bool:
        """Whether octets, or lines of an unfinished reply, are waiting."""
        return bool(self._buffer or self._lines or self._dropped)

    def next_reply(self) -> Reply | Malformed | None:
        """The next whole reply; None when more octets are needed."""
        while self._malformed is None:
            end = self._buffer.find(b"\n")
            if end < 0:
                return self._keep_bounded()
            if self._dropped + end > MAX_LENGTH:
                return self._fail("a reply line without an end")
            line = self._buffer[: end - 1 if self._buffer[end - 1 : end] == b"\r" else end]
            self._buffer = self._buffer[end + 1 :]
            self._dropped = 0
            reply = self._take(line[:MAX_LINE])
            if reply is not None:
                return reply
        return self._malformed

    def _keep_bounded(self) -> Malformed | None:
        excess = len(self._buffer) - MAX_LINE - 1
        if excess > 0:
            if self._dropped + len(self._buffer) > MAX_LENGTH:
                return self._fail("a reply line without an end")
            self._dropped += excess
            # the last octet stays: it may be the CR of the line's end
            self._buffer = self._buffer[:MAX_LINE] + self._buffer[-1:]
        return None

    def _take(self, line: bytes) -> Reply | Malformed | None:
        match = _LINE.fullmatch(line)
        if match is None:
            return self._fail(f"not a reply: {_printable(line[:40])!r}")
        code, more, text = match.groups(b"")
        if self._lines and code != self._code:
            return self._fail(f"a reply with codes {self._code.decode()} and {code.decode()}")  # rfc5321#4.2.1
        self._lines.append(_printable(text))
        if more == b"-":
            self._code = code
            return self._fail(f"a reply of more than {MAX_LINES} lines") if len(self._lines) >= MAX_LINES else None
        lines, self._lines = self._lines, []
        return _reply(int(code), lines)

    def _fail(self, text: str) -> Malformed:
        self._malformed = Malformed(text)
        self._buffer, self._lines, self._dropped = b"", [], 0
        return self._malformed


def _reply(code: int, lines: list[str]) -> Reply:
    """The enhanced status is taken from the first line, and from each line that repeats it."""
    match = _STATUS.match(lines[0])
    if match is None or match[1][0] != str(code)[0]:
        return Reply(code, "", "\n".join(lines))
    status = match[1]
    return Reply(code, status, "\n".join(line.removeprefix(status).removeprefix(" ") for line in lines))


def _printable(raw: bytes) -> str:
    """Text that can't break a line or steer a terminal wherever it is shown later."""
    text = raw.decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in text)
