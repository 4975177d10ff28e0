"""Writes docs/settings.md from the models: `python -m gatepost.app.settings.document > docs/settings.md`.

A test compares the file with what this makes, so the page can't grow stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gatepost.app.settings.display import header, kind_of, toml
from gatepost.app.settings.problems import KeyPath
from gatepost.app.settings.root import Settings
from gatepost.app.settings.units import Filled
from gatepost.app.settings.wording import model_in

_OPENING = """\
# Settings

<!-- Written by `python -m gatepost.app.settings.document`; change the models in gatepost/app/settings instead. -->

One TOML file, given with `gatepost -c FILE`; without it `./gatepost.toml`, then `/etc/gatepost/gatepost.toml`. Without
any file Gatepost listens on loopback only (127.0.0.1:2525) and puts every recipient's mail into Maildirs under
`./gatepost-data`.

`gatepost check` tells everything that is wrong, each with file, line and a mend. `gatepost config show` tells every
value and where it came from, `gatepost config schema` is the JSON Schema for editors.

- **Durations**: `"500ms"`, `"5s"`, `"2m"`, `"1h"`, `"5d"`, or a number of seconds.
- **Sizes**: `"25MiB"` (1024s), `"10MB"` (1000s), or a number of octets.
- **Paths** are relative to the file that says them.
- **Secrets** may be `"@file"` (its first line) or `"env:NAME"`. `config show`, errors and logs never show them.
- **Environment**: `GATEPOST__LIMITS__MESSAGE_SIZE=25MiB`, `GATEPOST__LISTEN__0__ADDRESS=0.0.0.0:25`. It wins over the
  file; lists are separated by commas or written as in TOML.
- **Includes**: `include = ["conf.d/*.toml"]` reads further files, in the order of their names. Tables add to each
  other, `[[…]]` tables follow one another, and a key that is set twice is an error.
"""


def document() -> str:
    """The whole page."""
    return "\n".join([_OPENING, *_section(Settings, ())]) + "\n"


def _section(model: type[BaseModel], path: KeyPath) -> Iterator[str]:
    """One model's table of keys, then those of the models in it."""
    inner: list[tuple[KeyPath, type[BaseModel], FieldInfo]] = []
    rows: list[str] = []
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        section = model_in(field.annotation)
        if section:
            inner.append(((*here, 0) if get_origin(field.annotation) is tuple else here, section, field))
        if not section or field.is_required():
            rows.append(_row(here, field))
    if rows:
        yield "| key | default | unit or values | what it is |\n|---|---|---|---|"
        yield from rows
        yield ""
    for here, section, field in inner:
        yield f"## `{header(here)}`\n"
        yield f"{field.description}\n" if not field.is_required() else "The long form of `deliver`.\n"
        yield from _section(section, here)


def _row(path: KeyPath, field: FieldInfo) -> str:
    cells = [f"`{path[-1]}`", _default(field), _values(field), field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    filled = next((found.by for found in field.metadata if isinstance(found, Filled)), "")
    if filled:
        return filled
    if field.is_required():
        return "required"
    return "" if field.default is None else f"`{toml(field.default, kind_of(field))}`"


def _values(field: FieldInfo) -> str:
    """The unit with its bounds, or the words there are."""
    if kind := kind_of(field):
        limits = {name: getattr(found, name) for found in field.metadata for name, _ in _BOUNDS if hasattr(found, name)}
        shown = (f"{sign} {kind.show(limits[name])}" for name, sign in _BOUNDS if name in limits)
        return ", ".join([kind.unit, *shown])
    words = [word for word in _literals(field.annotation) if isinstance(word, str)]
    return " · ".join(f"`{word}`" for word in words) or "table"


_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"))


def _literals(annotation: object) -> tuple[object, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(word for inner in get_args(annotation) for word in _literals(inner))


if __name__ == "__main__":
    sys.stdout.write(document())
