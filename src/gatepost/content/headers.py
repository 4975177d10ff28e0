"""The header section, split into fields: where it ends, what stands in it, and nothing changed by looking.

Strategy: the end is found with `bytes.find` while the content arrives; one possessive expression cuts the section into
fields in a single pass, so that time is linear whatever was sent. Octets are kept as they came: concatenating the
fields gives the section back. A line that isn't a field (no colon, an mbox `From ` line) is an entry without a name:
it stays where it is and nobody sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from gatepost.model import Blob

# rfc5322#2.2 field-name is printable US-ASCII without colon; #4.5 (obsolete) allows blanks before the colon
_FIELD = re.compile(rb"((?!\Z)(?:([!-9;-~]++)[ \t]*+:)?+[^\n]*+\n?+(?:[ \t][^\n]*+\n?+)*+)")
_MAILBOX_LINE = re.compile(rb">*From ")
_BREAKING = b" \t>F"  # what may begin a line that would break the field before it
_FIRST_READ = 16 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much header a message may have: octets with the empty line, and fields."""

    octets: int = 256 * 1024
    fields: int = 2000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The header section breaks a limit: `what` is "octets" or "fields"."""

    what: str
    limit: int

    def __str__(self) -> str:
        return f"the header section has more than {self.limit} {self.what}"


class Section:
    """A header section. Invariant: joining `fields` and `blank` gives `raw`, octet by octet.

    `blank` is the empty line that ends it, b"" where the content ended first, b"\\r" where it ended within it. Fields
    are cut on first use.
    """

    __slots__ = ("_fields", "_names", "blank", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.blank = b""
        self._fields: list[bytes] | None = None
        self._names: list[bytes] = []
        if raw.endswith(b"\n\r\n") or raw == b"\r\n":
            self.blank = b"\r\n"
        elif raw.endswith(b"\n\n") or raw == b"\n":
            self.blank = b"\n"
        elif raw.endswith(b"\n\r") or raw == b"\r":
            self.blank = b"\r"

    @property
    def fields(self) -> list[bytes]:
        """Every field with its line end, folded as it came. Not to be changed."""
        return self._split() if self._fields is None else self._fields

    @property
    def names(self) -> list[bytes]:
        """The fields' names in lower case, b"" for what isn't a field. Not to be changed."""
        if self._fields is None:
            self._split()
        return self._names

    def _split(self) -> list[bytes]:
        found = _FIELD.findall(self.raw, 0, len(self.raw) - len(self.blank))
        self._names = [name.lower() for _, name in found]
        self._fields = [field for field, _ in found]
        return self._fields

    def raw_values(self, name: str) -> list[bytes]:
        """The octets after the colon of every field of that name, with folds and without the last line end."""
        wanted = _lower(name)
        return [
            field.partition(b":")[2].rstrip(b"\r\n")
            for field, known in zip(self.fields, self.names, strict=True)
            if known == wanted
        ]

    def count(self, name: str) -> int:
        """How many fields have that name."""
        wanted = _lower(name)
        if self._fields is None and wanted not in self.raw.lower():  # most are asked for what isn't there
            return 0
        return self.names.count(wanted)


class HeaderScanner:
    """Finds the end of the header section in content that arrives in pieces.

    Invariant: holds at most `limits.octets` and one piece; answers once, then is done.
    """

    __slots__ = ("_held", "_limits")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._held = bytearray()
        self._limits = limits

    def feed(self, chunk: bytes) -> Section | TooLarge | None:
        """The section when `chunk` completes it, None while it doesn't. What follows in `chunk` is body."""
        held = self._held
        if not held and (end := _section_end(chunk, 0)) >= 0:  # as nearly always: nothing has to be held
            return self._judge(chunk[:end])
        searched = max(0, len(held) - 3)
        held += chunk
        end = _section_end(held, searched)
        if end < 0:
            return TooLarge("octets", self._limits.octets) if len(held) > self._limits.octets else None
        return self._judge(bytes(held[:end]))

    def end(self) -> Section | TooLarge:
        """The section of content that ended before an empty line came."""
        return self._judge(bytes(self._held))

    def _judge(self, raw: bytes) -> Section | TooLarge:
        if len(raw) > self._limits.octets:
            return TooLarge("octets", self._limits.octets)
        section = Section(raw)
        # more lines than fields are allowed is rare: only then the fields are counted
        if raw.count(b"\n") > self._limits.fields and len(section.fields) > self._limits.fields:
            return TooLarge("fields", self._limits.fields)
        return section


@lru_cache(maxsize=256)
def _lower(name: str) -> bytes:
    return name.lower().encode("ascii", "replace")


def read_section(blob: Blob) -> Section:
    """The header section of a whole message."""
    head, wanted = blob.read(0, _FIRST_READ), _FIRST_READ
    searched = 0
    while (end := _section_end(head, searched)) < 0 and len(head) == wanted:
        searched = max(0, len(head) - 3)
        head += blob.read(wanted, wanted)
        wanted *= 2
    return Section(head if end < 0 else head[:end])


def bridge(first: bytes) -> bytes:
    """What to put between our own fields at the top and content that begins with `first` (six octets or more).

    A first line that begins with a blank would continue our last field, and an mbox `From ` line would end the header
    section for many readers: the one becomes body, the other a field. b"" for everything else.
    """
    if first[:1] not in _BREAKING:
        return b""
    if first[:1] in (b" ", b"\t"):
        return b"\r\n"
    return b"X-Mailbox-Line: " if _MAILBOX_LINE.match(first) else b""


def find_blank(data: bytes | bytearray, start: int = 0) -> int:
    """The offset after the first empty line that follows a line end at or after `start`, or -1."""
    proper = data.find(b"\n\r\n", start)
    bare = data.find(b"\n\n", start, len(data) if proper < 0 else proper + 1)
    if bare >= 0:
        return bare + 2
    return proper + 3 if proper >= 0 else -1


def _section_end(data: bytes | bytearray, start: int) -> int:
    """The offset after the empty line, or -1. Nothing before `start` is looked at, but for the first line."""
    if data.startswith(b"\r\n"):
        return 2
    if data.startswith(b"\n"):
        return 1
    return find_blank(data, start)
