"""The registry of bindings: which sink is bound to which event of which virtual server, and how; kept as a TOML text.

A row is what smtpreg's commands make and change. The registry is read and written whole: `rows_in` takes a parsed text
apart and says what is wrong with each row, `text_of` writes rows so that a person can read and change them.
Contract: Bindings.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from gatepost.app.bindings_events import Event, NoSuchEvent, event_named, guid
from gatepost.app.settings.problems import KeyPath, Problem

Value = str | int | float | bool
"""What a property holds."""
_KEYS = ("id", "name", "instance", "event", "class", "enabled", "source", "sink")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_OF_HAND_WRITTEN = uuid.UUID("6f5b4a0e-2f0b-5d0c-9a51-6e1f4b2f7c11")
_HEAD = """\
# The bindings of event sinks, kept by `gatepost binding`, one [[binding]] each. It may be changed by hand: the server
# reads it when it starts, and at `gatepost reload`. What stands in comments is lost when a command writes it.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One binding. `id` is a {GUID}; `source` and `sink` are its two bags, their names without regard to case."""

    id: str
    name: str
    instance: int
    event: Event
    cls: str
    """A {CLSID}, a ProgID, `package.module:Class` or `file.py:Class`."""
    enabled: bool = True
    source: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    """How it is asked: Rule, Priority; others are kept."""
    sink: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    """What the sink itself is given."""

    @property
    def shown(self) -> str:
        """How a person names it."""
        return self.name or self.id


def named(bag: Mapping[str, Value], name: str) -> str | None:
    """The spelling that a property has in a bag; None if it isn't there."""
    return next((key for key in bag if key.lower() == name.lower()), None)


def new_id() -> str:
    """A GUID that nothing has yet."""
    return "{" + str(uuid.uuid4()).upper() + "}"


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def rows_in(tree: Mapping[str, Any]) -> tuple[dict[int, Row], list[Problem]]:
    """The rows of a parsed text that can be used, by their place in it; and what is wrong with it."""
    problems: list[Problem] = []
    for key in tree:
        if key != "binding":
            problems.append(Problem((key,), f'there is no key "{key}"', mend="[[binding]]", at_key=True))
    tables = tree.get("binding", [])
    if not isinstance(tables, list):
        return {}, [*problems, Problem(("binding",), "binding isn't a list of tables", mend="[[binding]]", at_key=True)]
    rows: dict[int, Row] = {}
    ids: set[str] = set()
    for at, table in enumerate(tables):
        found: list[Problem] = []
        row = _row(table, at, found)
        if row is not None and row.id in ids:
            found.append(Problem(("binding", at, "id"), f"id {row.id} is taken by an earlier one", mend="remove it"))
        problems += found
        if row is not None and not found:
            ids.add(row.id)
            rows[at] = row
    return rows, problems


def _row(table: object, at: int, problems: list[Problem]) -> Row | None:
    path: KeyPath = ("binding", at)
    if not isinstance(table, Mapping):
        problems.append(Problem(path, "this isn't a table", mend="[[binding]]"))
        return None

    def wrong(key: str, what: str, mend: str, *, at_key: bool = False) -> None:
        problems.append(Problem((*path, key), what, mend=mend, at_key=at_key))

    for key in table:
        if key not in _KEYS:
            near = get_close_matches(str(key), _KEYS, 1)
            wrong(key, f'a binding has no key "{key}"', near[0] if near else ", ".join(_KEYS), at_key=True)
    texts = {key: table.get(key, "") for key in ("id", "name", "event", "class")}
    for key, value in texts.items():
        if not isinstance(value, str):
            wrong(key, f"{key} isn't a text", f'{key} = "{value}"')
            texts[key] = ""
        elif not value.isprintable():
            wrong(key, f"{key} has a character that can't be printed", "remove it")
    for key, mend in (("event", '"OnInboundCommand"'), ("class", '"Shield.Sink", or "sinks.py:Shield"')):
        if not table.get(key):
            wrong(key, f"{key} is missing", f"{key} = {mend}", at_key=True)
    event: Event | None = None
    if texts["event"]:
        try:
            event = event_named(texts["event"])
        except NoSuchEvent as error:
            what, _, mend = str(error).partition("; ")
            wrong("event", what, mend)
    instance = table.get("instance", 1)
    if not isinstance(instance, int) or isinstance(instance, bool) or instance < 1:
        wrong("instance", f"instance can't be {instance}", "a number from 1: the listeners in their order")
        instance = 1
    enabled = table.get("enabled", True)
    if not isinstance(enabled, bool):
        wrong("enabled", "enabled is true or false", "enabled = true")
    bags = {key: _bag(table.get(key, {}), (*path, key), problems) for key in ("source", "sink")}
    own = texts["id"]
    try:
        own = guid(own) if own else ""
    except ValueError as error:
        wrong("id", f'"{own}" is no GUID: {error}', f'id = "{new_id()}"')
    if not own and not texts["name"]:
        wrong("name", "name is missing", 'name = "EHLO shield"', at_key=True)
    if event is None:
        return None
    if not own:  # the same at each reading, until a command writes it down
        words = f"{at} {instance} {event.name} {texts['name']}"
        own = "{" + str(uuid.uuid5(_OF_HAND_WRITTEN, words)).upper() + "}"
    return Row(own, texts["name"], instance, event, texts["class"], enabled is True, bags["source"], bags["sink"])


def _bag(bag: object, path: KeyPath, problems: list[Problem]) -> dict[str, Value]:
    if not isinstance(bag, Mapping):
        problems.append(Problem(path, f"{path[-1]} isn't a table", mend=f"[binding.{path[-1]}]"))
        return {}
    kept: dict[str, Value] = {}
    for name, value in bag.items():
        if not isinstance(value, str | int | float):
            what = f"{name} holds neither a text nor a number, true or false"
            problems.append(Problem((*path, name), what, mend=f'{name} = "…"'))
        elif twice := named(kept, name):
            problems.append(Problem((*path, name), f"{name} is {twice} once more", mend="remove one", at_key=True))
        else:
            kept[name] = value
    return kept


# ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def text_of(rows: Iterable[Row]) -> str:
    """The whole text; `rows_in` reads the same rows in it."""
    return "\n".join([_HEAD, *map(_table, rows)])


def _table(row: Row) -> str:
    lines = [
        "[[binding]]",
        f"id = {literal(row.id)}",
        f"name = {literal(row.name)}",
        f"instance = {row.instance}",
        f"event = {literal(row.event.name)}",
        f"class = {literal(row.cls)}",
        f"enabled = {literal(row.enabled)}",
    ]
    for key, bag in (("source", row.source), ("sink", row.sink)):
        if bag:
            lines += ["", f"[binding.{key}]", *(f"{_key(name)} = {literal(value)}" for name, value in bag.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else literal(name)


def literal(value: Value) -> str:
    """As TOML writes it; a string with JSON's escapes, which are TOML's but for the delete character."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
