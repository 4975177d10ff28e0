"""The MIME structure of a body (RFC 2045, 2046): its leaves and where they stand, found in one bounded pass.

Strategy: content is fed in pieces; `bytes.find` looks for lines that begin with `--`, a dictionary says which open
multipart they belong to. There is no recursion, no copy of bodies and no object but for parts: a stack of boundaries
and the leaves found. Every count is limited; whoever breaks a limit, or writes what other readers may take
differently, sets `cut`, and a policy can decide what that means.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from gatepost.content import parameters
from gatepost.content.headers import Section, find_blank
from gatepost.content.values import unfold


@dataclass(frozen=True, slots=True)
class MimeLimits:
    """Bounds of a walk: parts in all (containers too), depth, octets of a boundary and of a part's header section,
    and lines that look like delimiters and aren't.
    """

    parts: int = 1000
    depth: int = 50
    boundary: int = 200  # rfc2046#5.1.1 allows 70
    header: int = 64 * 1024
    false_delimiters: int = 100_000


DEFAULT_LIMITS = MimeLimits()
_LONGEST_LINE = 1000  # a delimiter with its padding, rfc5322#2.1.1
_ENCODED = ("base64", "quoted-printable")


@dataclass(frozen=True)
class Leaf:
    """One leaf. Octets `start` to `stop` of the body are its encoded content; its own header begins at `head`.

    `is_message`: it is the whole body, and `header` is the message's. `boundaries` are those around it.
    """

    index: int
    header: Section
    head: int
    start: int
    stop: int
    type: str
    parameters: dict[str, str]
    encoding: str
    boundaries: tuple[bytes, ...]
    is_message: bool

    @cached_property
    def filename(self) -> str | None:
        """The file name of Content-Disposition, else of Content-Type; decoded, with directories cut off."""
        _, disposition = parameters.parse(_value(self.header, "content-disposition"))
        name = disposition.get("filename") or self.parameters.get("name")
        return None if name is None else parameters.base_name(name)


@dataclass(frozen=True, slots=True)
class Structure:
    """The leaves, depth first. `cut`: a limit was met or the structure is malformed: there may be more than shown."""

    leaves: tuple[Leaf, ...]
    cut: bool


class _Place(Enum):
    """What the octets at hand are."""

    HEADER = "a part's header section"
    BODY = "a leaf's content"
    BETWEEN = "preamble or epilogue"


@dataclass(frozen=True, slots=True)
class _Level:
    """An open container: its boundary, or None for a message within the message."""

    boundary: bytes | None
    is_digest: bool = False


@dataclass(frozen=True, slots=True)
class _Entity:
    """A part whose header section has been read and whose content is being read."""

    header: Section
    head: int
    start: int
    type: str
    parameters: dict[str, str]
    encoding: str


class Walk:
    """One pass over a body. Invariant: holds at most one part's header and one piece; time is linear in the body.

    `_held` is what is still needed of the octets read, `_base` the body's offset of its first, `_seen` the body's
    offset of the line end from which delimiters are still looked for.
    """

    def __init__(self, section: Section, limits: MimeLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._leaves: list[Leaf] = []
        self._levels: list[_Level] = []
        self._open: dict[bytes, int] = {}  # boundary → its level, the innermost where two are the same
        self._cut = self._stopped = False
        self._parts = self._false_delimiters = 0
        self._held = b"\n"  # the line end before the body, so that a delimiter may come first
        self._base = self._seen = -1
        self._head = -1
        self._size: int | None = None
        self._entity: _Entity
        self._place = _Place.BETWEEN
        self._enter(section, -1, 0)

    def feed(self, chunk: bytes) -> bool:
        """Take the next octets of the body; False when the rest needn't be read."""
        self._held += chunk
        while not self._stopped and (self._read_header() if self._place is _Place.HEADER else self._read_content()):
            pass
        return not self._stopped

    def end(self, size: int) -> Structure:
        """The structure of the body, which has `size` octets; the walk is over."""
        self._size = size
        self.feed(b"\n")  # ends the last line; no offset beyond `size` gets out
        while self._place is _Place.HEADER and not self._stopped:
            self._enter(Section(self._held[self._head - self._base : size - self._base]), self._head, size)
        if self._place is _Place.BODY:
            self._leaf(size)
        if any(level.boundary is not None for level in self._levels):
            self._cut = True  # rfc2046#5.1.1: a multipart ends with its close-delimiter
        return Structure(tuple(self._leaves), self._cut)

    def _read_content(self) -> bool:
        """To the next delimiter; False when more octets are needed."""
        found = self._delimiter(len(self._held))
        if found is None:
            self._forget()
            return False
        line, next_line, level, closes = found
        if self._place is _Place.BODY:
            before = line - 1 if line and self._held[line - 1 : line] == b"\r" else line  # the CRLF is the delimiter's
            self._leaf(self._base + before)
        self._cross(next_line, level, closes)
        return True

    def _read_header(self) -> bool:
        """To the end of a part's header section; False when more octets are needed."""
        first = self._head - self._base
        end = find_blank(self._held, first - 1)
        found = self._delimiter(len(self._held) if end < 0 else end)
        if found is not None:  # the part ended within its header
            line, next_line, level, closes = found
            stop = self._clip(self._base + line + 1)
            self._enter(Section(self._held[first : stop - self._base]), self._head, stop)
            if self._place is _Place.BODY:
                self._leaf(stop)
            self._cross(next_line, level, closes)
            return True
        if end < 0 and len(self._held) - first <= self._limits.header:
            self._forget()
            return False
        if end < 0 or end - first > self._limits.header:
            end, self._cut = first + self._limits.header, True
        stop = self._clip(self._base + end)
        self._enter(Section(self._held[first : stop - self._base]), self._head, stop)
        self._seen = max(self._seen, stop - 1)
        return True

    def _delimiter(self, stop: int) -> tuple[int, int, int, bool] | None:
        """The next delimiter line: (its line end before, its own line end, its level, whether it closes)."""
        held, at = self._held, max(0, self._seen - self._base)
        while (at := held.find(b"\n--", at, stop)) >= 0:
            end = held.find(b"\n", at + 1, at + _LONGEST_LINE)
            if end < 0 and len(held) - at < _LONGEST_LINE:
                break  # the line goes on in the next piece
            if end >= 0:
                boundary, closes = held[at + 3 : end].rstrip(b" \t\r"), False  # rfc2046#5.1.1 transport-padding
                if boundary not in self._open and boundary.endswith(b"--"):
                    boundary, closes = boundary[:-2], True
                if (level := self._open.get(boundary)) is not None:
                    return at, end, level, closes
            self._false_delimiters += 1
            if self._false_delimiters > self._limits.false_delimiters:
                self._cut = self._stopped = True
                return None
            at = end if end >= 0 else at + 1
        if stop == len(held):
            self._seen = self._base + (at if at >= 0 else max(0, stop - 2))
        return None

    def _forget(self) -> None:
        """Drop what was looked at, but for an octet before (it may be the CR of the line end) and an unread header."""
        keep = self._seen - self._base - 1
        if self._place is _Place.HEADER:
            keep = min(keep, self._head - self._base - 1)
        if keep > 0:
            self._held = self._held[keep:]
            self._base += keep

    def _cross(self, next_line: int, level: int, closes: bool) -> None:
        """Go over a delimiter of that level: what was open within it is over, and a part begins or the level ends."""
        if any(inner.boundary is not None for inner in self._levels[level + 1 :]):
            self._cut = True
        self._seen = self._base + next_line
        if closes:
            self._set_levels(self._levels[:level])
            self._place = _Place.BETWEEN
        else:
            self._set_levels(self._levels[: level + 1])
            self._place = _Place.HEADER
            self._head = self._clip(self._seen + 1)

    def _enter(self, header: Section, head: int, start: int) -> None:
        """A part's header section is known: see what its content is."""
        self._parts += 1
        if self._parts > self._limits.parts:
            self._cut = self._stopped = True
            self._place = _Place.BETWEEN
            return
        is_in_digest = bool(self._levels) and self._levels[-1].is_digest
        entity = _entity(header, head, start, "message/rfc822" if is_in_digest else "text/plain")
        if header.count("content-type") > 1 or header.count("content-transfer-encoding") > 1:
            self._cut = True  # readers differ in which one counts
        self._entity, self._place = entity, _Place.BODY
        if entity.type.startswith("multipart/"):
            boundary = entity.parameters.get("boundary", "").rstrip(" \t").encode("utf-8")
            if not 0 < len(boundary) <= self._limits.boundary or len(self._levels) >= self._limits.depth:
                self._cut = True
                return
            self._cut |= entity.encoding in _ENCODED  # rfc2045#6.4 forbids it
            self._set_levels([*self._levels, _Level(boundary, entity.type == "multipart/digest")])
            self._place = _Place.BETWEEN
        elif entity.type in ("message/rfc822", "message/global") and entity.encoding not in _ENCODED:
            if len(self._levels) >= self._limits.depth:
                self._cut = True
                return
            self._set_levels([*self._levels, _Level(None)])
            self._place, self._head = _Place.HEADER, start
        self._stopped = self._place is _Place.BODY and not self._open  # no delimiter can come

    def _leaf(self, stop: int) -> None:
        entity = self._entity
        self._leaves.append(
            Leaf(
                index=len(self._leaves),
                header=entity.header,
                head=entity.head,
                start=entity.start,
                stop=max(entity.start, self._clip(stop)),
                type=entity.type,
                parameters=entity.parameters,
                encoding=entity.encoding,
                boundaries=tuple(self._open),
                is_message=entity.head < 0,
            )
        )

    def _set_levels(self, levels: list[_Level]) -> None:
        self._levels = levels
        self._open = {level.boundary: depth for depth, level in enumerate(levels) if level.boundary is not None}

    def _clip(self, offset: int) -> int:
        return offset if self._size is None else min(offset, self._size)


def _entity(header: Section, head: int, start: int, default: str) -> _Entity:
    kind, found = parameters.parse(_value(header, "content-type"))
    encoding = _value(header, "content-transfer-encoding").partition("(")[0].strip().lower()
    return _Entity(header, head, start, kind if "/" in kind else default, found, encoding)


def _value(header: Section, name: str) -> str:
    values = header.raw_values(name)
    return unfold(values[0][: parameters.MAX_VALUE]) if values else ""
