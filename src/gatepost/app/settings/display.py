"""Shows settings: every value as the file would write it, secrets as dots, and where each one came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gatepost.app.settings.problems import KeyPath
from gatepost.app.settings.root import Settings
from gatepost.app.settings.secrecy import HIDDEN, is_secret
from gatepost.app.settings.units import Endpoint, Kind, Secret

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shown:
    """One value: its key path, its text in TOML (secrets hidden), and `file:line`, a variable, `call` or `default`."""

    path: KeyPath
    value: str
    source: str


def describe(settings: Settings) -> Iterator[Shown]:
    """Every value, in the order of docs/settings.md; keys that aren't set and have no default are left out."""
    yield from _described(settings, settings, ())


def show(settings: Settings) -> str:
    """The whole of the settings as a TOML text, each line with its origin as a comment."""
    rows: list[tuple[str, str]] = []
    table: KeyPath = ()
    for one in describe(settings):
        if one.path[:-1] != table:
            table = one.path[:-1]
            rows += [("", ""), (header(table), "")]
        rows.append((f"{one.path[-1]} = {one.value}", one.source))
    width = min(60, max((len(text) for text, source in rows if source), default=0))
    return "\n".join(f"{text:<{width}}  # {source}" if source else text for text, source in rows) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of a settings file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema(by_alias=True)}


def header(path: KeyPath) -> str:
    """`[limits]`, `[[listen]]`, `[route.deliver]`: the line above the keys of a table."""
    names = ".".join(step for step in path if isinstance(step, str))
    return f"[[{names}]]" if isinstance(path[-1], int) else f"[{names}]"


def kind_of(field: FieldInfo) -> Kind | None:
    """The kind of value that a field holds, optional or not."""
    for found in field.metadata:
        if isinstance(found, Kind):
            return found
    return _kind_in(field.annotation)


def _kind_in(annotation: Any) -> Kind | None:
    inner = get_args(annotation)
    for found in (*inner, *map(_kind_in, inner)):
        if isinstance(found, Kind):
            return found
    return None


def toml(value: object, kind: Kind | None = None) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case Secret():
            return f'"{value.source}"' if value.source else f'"{HIDDEN}"'
        case str() | Path() | Endpoint():
            return _quoted(str(value))
        case tuple() | list():
            return "[" + ", ".join(toml(item) for item in value) + "]"
        case Mapping():
            items = (
                f"{key if _BARE_KEY.fullmatch(key) else _quoted(key)} = {toml(item)}" for key, item in value.items()
            )
            return f"{{ {', '.join(items)} }}" if value else "{}"
        case int() | float():
            text = kind.show(value) if kind else f"{value:g}" if isinstance(value, float) else str(value)
            return text if text.isdecimal() else f'"{text}"' if kind else text
        case date() | time():
            return value.isoformat()
        case _:
            return _quoted(str(value))


def _quoted(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's, but for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _described(model: BaseModel, settings: Settings, path: KeyPath) -> Iterator[Shown]:
    """Plain values first, then the tables, as TOML wants it."""
    tables: list[tuple[KeyPath, BaseModel]] = []
    for name, field in type(model).model_fields.items():
        here = (*path, field.alias or name)
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            tables.append((here, value))
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            tables += [((*here, at), table) for at, table in enumerate(value)]
        elif value is not None and not (value == () and settings.origins.of(here) is None):
            yield Shown(here, _text(value, kind_of(field), here), str(settings.origins.of(here) or "default"))
    for here, table in tables:
        yield from _described(table, settings, here)


def _text(value: object, kind: Kind | None, path: KeyPath) -> str:
    if isinstance(value, Mapping):
        hidden = {key: HIDDEN if is_secret((*path, key)) else item for key, item in value.items()}
        return toml(hidden)
    return toml(value, kind)
