"""The registered COM classes: which library has which, kept as a TOML text; and what a binding's class is.

A class is registered by `gatepost plugin register`, as regsvr32 does; a binding names it by {CLSID} or ProgID. Classes
in Python are named where they are, and aren't registered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gatepost.app.bindings import literal
from gatepost.app.bindings_events import guid
from gatepost.app.settings.problems import Problem
from gatepost.app.settings.sink import split_source

_KEYS = ("id", "name", "description", "library", "create")
_SCRIPTS = ("cdo.ss_smtponarrivalsink", "cdo.smtp_onarrivalsink")
_HEAD = """\
# The COM classes that `gatepost plugin register` has found, and the libraries that have them.
"""


@dataclass(frozen=True, slots=True)
class ComClass:
    """A class of a library. `id`: {CLSID}; `name`: its ProgID, or ""."""

    id: str
    name: str
    library: str
    """The library's absolute path."""
    description: str = ""
    create: str = "factory"
    """factory or com: how the sink is made."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a binding's class comes to: a plugin's source, and its class there."""

    source: str
    cls: str
    create: str = "factory"


class NoSuchClass(LookupError):
    """The text says what to register."""


def classes_in(tree: Mapping[str, Any]) -> tuple[list[ComClass], list[Problem]]:
    """The classes of a parsed text, and what is wrong with it."""
    found: list[ComClass] = []
    problems: list[Problem] = []
    tables = tree.get("class", [])
    if not isinstance(tables, list) or any(key != "class" for key in tree):
        return [], [Problem((next(iter(tree)),), "only [[class]] tables stand here", mend="[[class]]", at_key=True)]
    for at, table in enumerate(tables):
        values = {key: table.get(key, "") for key in _KEYS} if isinstance(table, Mapping) else {}
        if not values or not set(table) <= set(_KEYS) or not all(isinstance(value, str) for value in values.values()):
            what = f"a class has the keys {', '.join(_KEYS)}, all of them texts"
            problems.append(Problem(("class", at), what, mend="gatepost plugin register LIBRARY writes it"))
            continue
        try:
            own = guid(values["id"])
        except ValueError as error:
            problems.append(Problem(("class", at, "id"), f'"{values["id"]}" is no CLSID: {error}', mend="remove it"))
            continue
        if values["create"] not in ("", "factory", "com") or not values["library"].startswith("/"):
            what = "library is an absolute path, and create is factory or com"
            problems.append(Problem(("class", at), what, mend="gatepost plugin register LIBRARY writes it"))
            continue
        create = values["create"] or "factory"
        found.append(ComClass(own, values["name"], values["library"], values["description"], create))
    return found, problems


def text_of(classes: Iterable[ComClass]) -> str:
    """The whole text; `classes_in` reads the same classes in it."""
    return "\n".join([_HEAD, *map(_table, classes)])


def _table(one: ComClass) -> str:
    lines = ["[[class]]", f"id = {literal(one.id)}", f"name = {literal(one.name)}"]
    if one.description:
        lines.append(f"description = {literal(one.description)}")
    return "\n".join([*lines, f"library = {literal(one.library)}", f"create = {literal(one.create)}", ""])


def resolved(cls: str, classes: Iterable[ComClass], folder: Path) -> Found:
    """What a binding's class comes to. NoSuchClass says what to do; `folder`: where relative files begin."""
    if not cls.startswith("{") and ":" in cls:
        source, name = split_source(cls)
        if name:
            return Found(str((folder / source).absolute()), name)
        return Found(cls, "")
    known = list(classes)
    if cls.startswith("{"):
        try:
            wanted = guid(cls)
        except ValueError as error:
            raise NoSuchClass(f'"{cls}" is no CLSID: {error}; write "{{GUID}}", a ProgID or file.py:Class') from None
        hits = [one for one in known if one.id == wanted]
    else:
        hits = [one for one in known if one.name and one.name.lower() == cls.lower()]
    if hits:
        return Found(hits[0].library, hits[0].id, hits[0].create)
    if cls.lower() in _SCRIPTS:
        raise NoSuchClass(f"{cls} runs scripts for Windows Script Host, which isn't here; write the sink in Python")
    names = [one.name for one in known if one.name]
    if cls.lower().endswith((".so", ".dll")):
        raise NoSuchClass(f"{cls} is a library, no class; gatepost plugin register {cls}, which says its classes")
    near = get_close_matches(cls, names, 1)
    hint = f'did you mean "{near[0]}"?' if near else "gatepost plugin register LIBRARY, or file.py:Class for Python"
    raise NoSuchClass(f'no class "{cls}" is registered; {hint}')
