"""Where a setting was written: in a file, in the environment or in the call; and how each place shows itself.

`Written` is a text that remembers the folder its relative paths begin at. `Origins` maps key paths to places and turns
problems into findings: the nearest place known, the source line without secrets, and the name of the table it is in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gatepost.app.settings.places import Spot, line_and_column, line_at
from gatepost.app.settings.problems import IN_CALL, Finding, KeyPath, Problem
from gatepost.app.settings.secrecy import HIDDEN, is_secret, may_be_secret, refers_elsewhere

_NAMING_KEYS = {
    "listen": ("name", "address"),
    "plugin": ("name", "source"),
    "user": ("name",),
    "route": ("match",),
    "certificate": ("chain",),
}


class Written(str):
    """A text from a file or variable. `folder` is what its relative paths begin at; `loose` says that it comes from the
    environment, where numbers and truth values are texts too."""

    folder: Path
    loose: bool

    @classmethod
    def of(cls, text: str, folder: Path, *, loose: bool = False) -> Written:
        written = cls(text)
        written.folder = folder
        written.loose = loose
        return written


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that was read. `shown` is its name as the user would write it, `spots` has the places of its keys."""

    shown: str
    folder: Path
    text: str
    spots: Mapping[KeyPath, Spot]

    def line_without_secrets(self, line: int) -> str:
        """The source line, with every secret that touches it replaced by an ellipsis."""
        begin = 0
        for _ in range(line - 1):
            begin = self.text.index("\n", begin) + 1
        end = self.text.find("\n", begin)
        end = len(self.text) if end < 0 else end
        shown, at = "", begin
        for path, spot in sorted(self.spots.items(), key=lambda item: item[1].start):
            if spot.end <= at or spot.start >= end or not may_be_secret(path):
                continue
            if refers_elsewhere(self.text[spot.start : spot.end].strip("\"'")):
                continue
            shown += self.text[at : max(spot.start, at)] + HIDDEN
            at = min(spot.end, end)
        return (shown + self.text[at:end]).strip()


@dataclass(frozen=True, slots=True)
class InFile:
    """A key of a file, by the file's own path of it."""

    file: SourceFile
    path: KeyPath

    def __str__(self) -> str:
        spot = self.file.spots.get(self.path)
        return f"{self.file.shown}:{line_and_column(self.file.text, spot.key)[0]}" if spot else self.file.shown

    def find(self, problem: Problem, *, exact: bool) -> Finding:
        """`exact` says whether the place is the problem's own key, and not only the table around it."""
        where, line, source = self.file.shown, 0, ""
        if spot := self.file.spots.get(self.path):
            offset = spot.start if exact and not problem.at_key else spot.key
            line, column = line_and_column(self.file.text, offset)
            where, source = f"{where}:{line}:{column}", self.file.line_without_secrets(line)
            caret = self._caret(problem, spot, line, source) if exact else -1
            return Finding(where, problem.what, line, source, problem.note, problem.mend, problem.see, caret)
        return Finding(where, problem.what, line, source, problem.note, problem.mend, problem.see)

    def _caret(self, problem: Problem, spot: Spot, line: int, source: str) -> int:
        """Where in the line shown the character stands that is meant; -1 if it can't be told, as with escapes."""
        value = self.file.text[spot.start : spot.end]
        whole = self.file.text.split("\n")[line - 1]
        if problem.offset < 0 or "\\" in value or value[:3] in {'"""', "'''"} or whole.strip() != source:
            return -1
        column = line_and_column(self.file.text, spot.start)[1] + problem.offset  # behind the quote
        return column - (len(whole) - len(whole.lstrip()))


@dataclass(frozen=True, slots=True)
class InEnvironment:
    """A variable of the environment, and its value unless that is a secret."""

    variable: str
    value: str

    def __str__(self) -> str:
        return self.variable

    def find(self, problem: Problem, *, exact: bool) -> Finding:
        value = self.value if exact and not may_be_secret(problem.path) else HIDDEN
        source = f"{self.variable}={value}"
        caret = len(self.variable) + 1 + problem.offset if problem.offset >= 0 and value == self.value else -1
        return Finding("environment", problem.what, 0, source, problem.note, problem.mend, problem.see, caret)


@dataclass(frozen=True, slots=True)
class InCall:
    """A value that a program or the command line handed in."""

    def __str__(self) -> str:
        return IN_CALL

    def find(self, problem: Problem, *, exact: bool) -> Finding:
        where = f"{self}, {_subscripted(problem.path)}" if exact else str(self)
        mend = f"{problem.meant[-1]} = …" if problem.meant else problem.mend  # no [[table]] in a call
        note = problem.note or (f"at its character {problem.offset + 1}" if problem.offset >= 0 else "")
        return Finding(where, problem.what, 0, "", note, mend, problem.see)


Origin = InFile | InEnvironment | InCall


@dataclass(slots=True)
class Origins:
    """Places by key path; what isn't in it is a default. `whole` stands for what has no place of its own."""

    whole: Origin = field(default_factory=InCall)
    places: dict[KeyPath, Origin] = field(default_factory=dict)

    def of(self, path: KeyPath) -> Origin | None:
        """Where the value at `path` was written, itself or as part of a short form; None for a default."""
        for length in range(len(path), 0, -1):
            if origin := self.places.get(path[:length]):
                is_table = any(len(known) > length and known[:length] == path[:length] for known in self.places)
                return None if is_table and length < len(path) else origin
        return None

    def find(self, problem: Problem, tree: Mapping[str, Any]) -> Finding:
        """The finding: the problem at its key's place, or at that of the nearest table around it."""
        named = replace(problem, what=_table_named(problem.path, tree) + problem.what)
        for length in range(len(problem.path), 0, -1):
            if origin := self.places.get(problem.path[:length]):
                whole = not isinstance(_value_at(problem.path[:length], tree), Mapping | list)  # a short form
                return origin.find(named, exact=whole or length == len(problem.path))
        return Finding(_whole_name(self.whole), named.what, note=problem.note, mend=problem.mend, see=problem.see)


def line_finding(file: SourceFile, line: int, column: int, what: str, mend: str) -> Finding:
    """A finding about a text that isn't TOML, where no key has a place; a line that may hold a secret isn't shown."""
    source = line_at(file.text, line)
    if any(is_secret(("properties", word)) for word in source.replace("=", " ").split()):
        source = ""
    return Finding(f"{file.shown}:{line}:{column}", what, line, source, mend=mend)


def _value_at(path: KeyPath, tree: Any) -> Any:
    for step in path:
        try:
            tree = tree[step]
        except (LookupError, TypeError):
            return None
    return tree


def _whole_name(whole: Origin) -> str:
    return whole.file.shown if isinstance(whole, InFile) else str(whole)


def _table_named(path: KeyPath, tree: Mapping[str, Any]) -> str:
    """The innermost table around a key: `plugin "spamfilter": `, `limits: `; nothing for a key of the file itself."""
    node: Any = tree
    name = ""
    for at, step in enumerate(path):
        try:
            node = node[step]
        except (LookupError, TypeError):
            break
        if not isinstance(node, Mapping):
            continue
        if isinstance(step, int) and (keys := _NAMING_KEYS.get(str(path[at - 1]))):
            own = next((name for key in keys if (name := _first(node.get(key)))), "")
            name = f'{path[at - 1]} "{own}"' if own else f"{path[at - 1]} no. {step + 1}"
        elif at == 0 and len(path) > 1:
            name = str(step)
    return f"{name}: " if name else ""


def _subscripted(path: KeyPath) -> str:
    """`plugin[0].source`"""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _first(value: object) -> str:
    """The text, or the first of a list of them."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""
