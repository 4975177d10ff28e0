"""The registry of bindings as part of the settings: each row becomes a plugin of the dialect sink, with its places.

So rows are checked, listed, loaded and reloaded as the tables of the settings are, and what is wrong with one is told
with its file and line. They stand behind the plugins of the settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from gatepost.app.settings.inferring import filled_in
from gatepost.app.settings.origins import InFile, SourceFile, Written
from gatepost.app.settings.problems import Finding, KeyPath, Problem
from gatepost.app.settings.reading import Reading
from gatepost.app.settings.units import parse_path

if TYPE_CHECKING:
    from gatepost.app.bindings import Row, Value
    from gatepost.app.classes import ComClass

ROWS = "bindings.toml"
CLASSES = "classes.toml"
_KEYS = {
    "rule": "rule", "priority": "priority", "timeout": "timeout", "onfailure": "on_failure", "shadow": "shadow",
    "always": "always", "secrets": "secrets",
}  # fmt: skip
"""Source properties that are keys of a plugin, without regard to case and underscores; others are only kept."""
_SINK_KEYS = {"ehlomatcheshelo": "ehlo_matches_helo", "threads": "threads"}
READ = ("Rule", "Priority", *(key for key in _KEYS.values() if key not in {"rule", "priority"}), *_SINK_KEYS.values())
"""The source properties that mean something here, as a person writes them."""


def add_rows(reading: Reading, text: str | None = None) -> None:
    """Append the plugins that the registry in the data folder comes to. `text` stands for the registry's file; None:
    read it.
    """
    folder = _data_folder(reading.tree)
    if folder is None or (text is None and not os.access(folder, os.X_OK)):  # nobody else's business
        return
    rows = _parsed(reading, folder / ROWS, text)
    if rows is None:
        return
    from gatepost.app.bindings import rows_in

    file, tree = rows
    found, problems = rows_in(tree)
    reading.findings += [InFile(file, problem.path).find(problem, exact=True) for problem in _placed(problems, file)]
    if found:
        _append(reading, file, tree, found, _classes(reading, folder))


def _data_folder(tree: Mapping[str, Any]) -> Path | None:
    """The data folder that a tree of settings says; None if there is none."""
    value = tree.get("data")
    if value is None:
        return None
    try:
        return parse_path(value)
    except PydanticCustomError:
        return None  # told with all others


def _parsed(reading: Reading, path: Path, text: str | None) -> tuple[SourceFile, dict[str, Any]] | None:
    shown = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    if text is None:
        try:
            text = path.read_text("utf-8-sig").replace("\r\n", "\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            reading.findings.append(Finding(shown, f"it can't be read: {words}", mend="give it to the server's user"))
            return None
        except UnicodeDecodeError as error:
            reading.findings.append(Finding(shown, f"octet {error.start} isn't UTF-8", mend="save the file as UTF-8"))
            return None
    return reading.parsed(shown, path.parent, text)


def _classes(reading: Reading, folder: Path) -> list[ComClass]:
    from gatepost.app.classes import classes_in

    parsed = _parsed(reading, folder / CLASSES, None)
    if parsed is None:
        return []
    found, problems = classes_in(parsed[1])
    reading.findings += [
        InFile(parsed[0], problem.path).find(problem, exact=True) for problem in _placed(problems, parsed[0])
    ]
    return found


def _placed(problems: list[Problem], file: SourceFile) -> Iterator[Problem]:
    """The problems at the nearest key around each that has a place in the file."""
    for problem in problems:
        path = problem.path
        while path and path not in file.spots:
            path = path[:-1]
        yield Problem(
            path, problem.what, problem.note, problem.mend, problem.see, path != problem.path or problem.at_key
        )


def _append(
    reading: Reading, file: SourceFile, tree: Mapping[str, Any], rows: Mapping[int, Row], classes: list[ComClass]
) -> None:
    from gatepost.app.classes import NoSuchClass, resolved

    plugins = reading.tree.get("plugin", [])
    if isinstance(plugins, str | Path | Mapping):
        plugins = [plugins]
    if not isinstance(plugins, list):
        return  # told with the other types
    plugins = reading.tree["plugin"] = [*plugins]
    names = {_name_of(plugin).lower() for plugin in plugins}
    for number, row in rows.items():
        at: KeyPath = ("binding", number)
        table: dict[str, Any] = {"name": _unique(row.shown, names), "dialect": "sink", "enabled": row.enabled}
        sink: dict[str, Any] = {"instance": row.instance}
        try:
            found = resolved(row.cls, classes, file.folder)
            table["source"] = found.source
            sink |= {"create": found.create} | ({"class": found.cls} if found.cls else {})
            if found.cls.startswith("{") and not Path(found.source).exists():
                disable = f'gatepost binding disable {row.instance} {row.event.name} "{row.name or row.id}"'
                mend = f"gatepost plugin register FILE, where it is now; or {disable}"
                raise NoSuchClass(f"{row.cls} was registered for {found.source}, which isn't there; {mend}")
        except NoSuchClass as error:
            table["source"] = row.cls
            if row.enabled:
                what, _, mend = str(error).partition("; ")
                problem = Problem((*at, "class"), what, mend=mend)
                reading.findings.append(InFile(file, problem.path).find(problem, exact=True))
                table["enabled"] = False
        table |= {"stages": [row.event.stage], "properties": dict(row.sink), "sink": sink}
        origins: dict[KeyPath, KeyPath] = {
            (): at, ("name",): (*at, "name"), ("source",): (*at, "class"), ("stages",): (*at, "event"),
            ("stages", 0): (*at, "event"), ("enabled",): (*at, "enabled"), ("sink",): (*at, "class"),
            ("sink", "class"): (*at, "class"), ("sink", "instance"): (*at, "instance"),
            ("properties",): (*at, "sink"),
        }  # fmt: skip
        origins |= {("properties", name): (*at, "sink", name) for name in row.sink}
        for name, value in row.source.items():
            plain = name.lower().replace("_", "")
            if key := _KEYS.get(plain):
                table[key] = _loose(value, file.folder)
                origins[(key,)] = (*at, "source", name)
            elif key := _SINK_KEYS.get(plain):
                sink[key] = _loose(value, file.folder)
                origins[("sink", key)] = (*at, "source", name)
        here: KeyPath = ("plugin", len(plugins))
        plugins.append(table)
        for path, own in origins.items():
            reading.origins.places[here + path] = InFile(file, own if own in file.spots else at)


def _loose(value: Value, folder: Path) -> object:
    """As commands write them, numbers and truth values are texts."""
    return Written.of(value, folder, loose=True) if isinstance(value, str) else value


def is_read(name: str) -> bool:
    """Whether a source property means something here."""
    plain = name.lower().replace("_", "")
    return plain in _KEYS or plain in _SINK_KEYS


def _name_of(plugin: object) -> str:
    """The name that a plugin of the settings has or will be given; "" where that can't be told."""
    value = {"source": plugin} if isinstance(plugin, str | Path) else plugin
    if not isinstance(value, Mapping):
        return ""
    if isinstance(value.get("name"), str):
        return str(value["name"])
    try:
        return str(filled_in(value).get("name", ""))
    except PydanticCustomError:
        return ""


def _unique(name: str, taken: set[str]) -> str:
    found, count = name, 1
    while found.lower() in taken:
        count += 1
        found = f"{name} ({count})"
    taken.add(found.lower())
    return found
