"""What the commands do to the rows of the registry; plain functions from rows to rows.

Names are found as smtpreg finds them: what begins with `{` is a GUID, anything else a display name, whose case counts;
of several rows with one name the first is meant. Contract: Bindings, smtpreg.vbs.
"""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from gatepost.app.bindings import Row, Value, named, new_id
from gatepost.app.bindings_events import Event, guid
from gatepost.app.settings.sink import split_source
from gatepost.hooks.bindings import DEFAULT_PRIORITY, MAX_PRIORITY
from gatepost.hooks.rules import RuleError, parse_rule

Bag = Literal["source", "sink"]


class Refused(ValueError):
    """It can't be done; the text says why, `mend` what to do."""

    def __init__(self, text: str, mend: str = "gatepost binding enum") -> None:
        super().__init__(text)
        self.mend = mend


class NoSuchRow(Refused):
    """No row has that name."""


def found(rows: Sequence[Row], instance: int, event: Event, name: str) -> Row:
    """The row that is meant. NoSuchRow, with what is near."""
    here = [row for row in rows if row.instance == instance and row.event == event]
    if name.startswith("{"):
        wanted = _guid(name)
        hits = [row for row in here if row.id == wanted]
        elsewhere = [row for row in rows if row.id == wanted]
    else:
        hits = [row for row in here if row.name == name]
        elsewhere = [row for row in rows if row.name == name]
    if hits:
        return hits[0]
    what = f'no binding "{name}" of {event.name} in instance {instance}'
    if elsewhere:
        other = elsewhere[0]
        raise NoSuchRow(what, f'"{name}" is bound to {other.event.name} of instance {other.instance}')
    if near := get_close_matches(name, [row.name for row in here if row.name], 1):
        raise NoSuchRow(what, f'did you mean "{near[0]}"? gatepost binding enum')
    raise NoSuchRow(what)


def added(
    rows: Sequence[Row], instance: int, event: Event, name: str, cls: str, rule: str = "", priority: int | None = None
) -> tuple[list[Row], Row]:
    """The rows with one more, and that one. A name in braces is its GUID; else it gets a new one."""
    own = _guid(name) if name.startswith("{") else new_id()
    if any(row.id == own for row in rows):
        raise Refused(f"there is a binding {own} already", f'gatepost binding remove {instance} {event.name} "{own}"')
    if not name or not cls:
        raise Refused(f"the {'class' if name else 'name'} is empty", "gatepost binding add --help")
    source: dict[str, Value] = {}
    if rule.strip():
        source["Rule"] = _rule(rule)
    if priority is not None:
        source["Priority"] = priority
    file, attribute = split_source(cls)
    if attribute:
        cls = f"{os.path.normpath(Path(file).absolute())}:{attribute}"
    row = Row(own, "" if name.startswith("{") else _text(name), instance, event, _text(cls), True, source)
    return [*rows, row], row


def removed(rows: Sequence[Row], row: Row) -> list[Row]:
    """Without the row."""
    return [one for one in rows if one is not row]


def switched(rows: Sequence[Row], row: Row, *, enabled: bool) -> tuple[list[Row], Row]:
    """The row enabled or disabled."""
    return _replaced(rows, row, replace(row, enabled=enabled))


def with_property(rows: Sequence[Row], row: Row, bag: Bag, name: str, value: str) -> tuple[list[Row], Row]:
    """The property set; one that is there is overwritten, whatever its case."""
    values: dict[str, Value] = dict(getattr(row, bag))
    if not name.strip():
        raise Refused("the property's name is empty", "gatepost binding setprop --help")
    kept: Value = _text(value)
    if bag == "source":
        match name.lower():
            case "rule":
                kept = _rule(value)
            case "priority":
                kept = _priority(value)
            case _:
                pass
    values[named(values, name) or _text(name)] = kept
    return _replaced(rows, row, _with(row, bag, values))


def without_property(rows: Sequence[Row], row: Row, bag: Bag, name: str) -> tuple[list[Row], Row]:
    """Without the property. Refused where it isn't there."""
    values: dict[str, Value] = dict(getattr(row, bag))
    own = named(values, name)
    if own is None:
        there = ", ".join(values) or "none"
        raise Refused(f'"{row.shown}" has no {bag} property "{name}"', f"it has: {there}")
    del values[own]
    return _replaced(rows, row, _with(row, bag, values))


def priority_of(row: Row) -> int:
    """Who is asked first: the property, or the default."""
    own = named(row.source, "priority")
    value = row.source[own] if own else DEFAULT_PRIORITY
    try:
        return int(value)
    except ValueError:
        return DEFAULT_PRIORITY


def rule_of(row: Row) -> str:
    """The rule as it was written; "" for every one."""
    own = named(row.source, "rule")
    return str(row.source[own]) if own else ""


def _replaced(rows: Sequence[Row], row: Row, by: Row) -> tuple[list[Row], Row]:
    return [by if one is row else one for one in rows], by


def _with(row: Row, bag: Bag, values: Mapping[str, Value]) -> Row:
    return replace(row, source=values) if bag == "source" else replace(row, sink=values)


def _rule(text: str) -> str:
    try:
        parse_rule(text)
    except RuleError as error:
        what, _, mend = str(error).partition("; ")
        pointed = "\n".join(f"  {line}" for line in error.pointed(text).split("\n"))
        raise Refused(f"the rule can't be read: {what}\n{pointed}", mend) from None
    return _text(text)


def _priority(text: str) -> int:
    if text.strip().isascii() and text.strip().isdigit() and int(text) <= MAX_PRIORITY:
        return int(text)
    raise Refused(f"priority can't be {text}", f"0, which is asked first, to {MAX_PRIORITY}")


def _guid(text: str) -> str:
    try:
        return guid(text)
    except ValueError as error:
        raise Refused(f'"{text}" is no GUID: {error}', "a name that begins with { is a GUID") from None


def _text(text: str) -> str:
    """A text that the file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused(f"{text!a} isn't UTF-8", "say it in UTF-8") from None
    return text
