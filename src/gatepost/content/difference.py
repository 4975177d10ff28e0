"""What a rewritten message has that the one before hadn't, in words for a person: header fields, and the body's size.

Strategy: fields are compared as they stand; what both have in the same number isn't told, whatever its place.
"""

from __future__ import annotations

from collections import Counter

from gatepost.content.headers import Section, read_section
from gatepost.content.values import read_value
from gatepost.model import Blob

MOST = 20  # changes told
LONGEST = 160  # characters of one


def changed(before: Blob, after: Blob) -> tuple[str, ...] | None:
    """What is different, as `differences` says it; None if not an octet is. Reads both."""
    if before.size == after.size and _same(before, 0, after, 0):
        return None
    return differences(before, after)


def differences(before: Blob, after: Blob) -> tuple[str, ...]:
    """Lines such as `+ X-Spam: yes`, `- Subject: hello`, `body 1204 → 1310 octets`; () if nothing differs."""
    old, new = read_section(before), read_section(after)
    had, has = Counter(_fields(old)), Counter(_fields(new))
    told = [f"- {_words(field)}" for field in (had - has).elements()]
    told += [f"+ {_words(field)}" for field in (has - had).elements()]
    if len(told) > MOST:
        told[MOST:] = [f"and {len(told) - MOST} fields more"]
    old_size, new_size = before.size - len(old.raw), after.size - len(new.raw)
    if old_size != new_size:
        told.append(f"body {old_size} → {new_size} octets")
    elif not _same(before, len(old.raw), after, len(new.raw)):
        told.append(f"body changed, {new_size} octets")
    return tuple(told)


def _fields(section: Section) -> list[bytes]:
    return [octets.rstrip(b"\r\n") for octets, name in zip(section.fields, section.names, strict=True) if name]


def _words(field: bytes) -> str:
    name, _, value = field.partition(b":")
    return f"{name.decode('ascii', 'replace').strip()}: {read_value(value)}"[:LONGEST]


def _same(one: Blob, at_one: int, other: Blob, at_other: int) -> bool:
    """Whether the octets from there on are the same; so many are left in both."""
    step = 256 * 1024
    while piece := one.read(at_one, step):
        if other.read(at_other, len(piece)) != piece:
            return False
        at_one += len(piece)
        at_other += len(piece)
    return True
