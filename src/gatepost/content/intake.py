"""Edits the house makes when a message comes in: what was forged in our name goes, what an author left out comes.

Strategy: functions from headers to edits, so that they stand in the trace like any plugin's.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from gatepost.content.addresses import Mailbox, parse_list
from gatepost.content.headers import Section
from gatepost.content.values import read_value, unfold
from gatepost.model import AddHeader, DeleteHeader, HeaderEdit, Path

_AUTHSERV_ID = re.compile(r'[ \t]*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;/("]++))')
_MAX_LOOKED_AT = 4096


def forged_results(section: Section, hostname: str, also: Collection[str] = ()) -> list[DeleteHeader]:
    """The edits that remove Authentication-Results in our name (RFC 8601 §5), and every field named in `also`.

    To be applied in order: later occurrences go first, so that earlier ones keep their numbers.
    """
    edits = [DeleteHeader(name) for name in also if section.count(name)] if also else []
    if not section.count("authentication-results"):
        return edits
    ours = hostname.lower().rstrip(".")
    values = section.raw_values("authentication-results")
    forged = [occurrence for occurrence, raw in enumerate(values) if authserv_id(unfold(raw)) in (ours, "")]
    return edits + [DeleteHeader("Authentication-Results", occurrence) for occurrence in reversed(forged)]


def authserv_id(value: str) -> str:
    """Whose result an Authentication-Results value claims to be, lower-case; "" where none can be read."""
    value = value[:_MAX_LOOKED_AT]
    found = _AUTHSERV_ID.match(value, _comments_end(value))
    if found is None:
        return ""
    name = found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1])
    return name.lower().rstrip(".")


def _comments_end(value: str) -> int:
    """Where the comments at the start end, one in the other or not (RFC 5322 §3.2.2)."""
    depth, is_quoted = 0, False
    for at, character in enumerate(value):
        if is_quoted:
            is_quoted = False
        elif character == "(":
            depth += 1
        elif depth:
            depth -= character == ")"
            is_quoted = character == "\\"
        elif character not in " \t":
            return at
    return len(value)


def submission_edits(section: Section, *, date: str, message_id: str, sender: Path) -> list[HeaderEdit]:
    """What a submission server adds (RFC 6409 §8): a missing Date, Message-ID (without brackets) and From."""
    edits: list[HeaderEdit] = []
    if not section.count("from") and sender:
        edits.append(AddHeader("From", sender.address))
    if not section.count("date"):
        edits.append(AddHeader("Date", date))
    if not section.count("message-id"):
        edits.append(AddHeader("Message-ID", f"<{message_id}>"))
    return edits


def authors(section: Section) -> list[Mailbox]:
    """Every mailbox of every From field: more than one field is an attack or a mistake, and all of them count (D5)."""
    return [mailbox for raw in section.raw_values("from") for mailbox in parse_list(read_value(raw)).mailboxes]
