"""From files, environment and call to Settings: read, validate, check; every error of the three steps in one report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gatepost.app.settings.bindings_rows import add_rows
from gatepost.app.settings.checks import HOUSE_CHECKS
from gatepost.app.settings.problems import KeyPath, Problem, SettingsError
from gatepost.app.settings.reading import Reading, copied
from gatepost.app.settings.root import LOOPBACK, Settings, without_file
from gatepost.app.settings.wording import problems_of

Check = Callable[[Settings], Iterable[Problem]]
"""A check over finished settings. It names keys; the loader finds where they were written."""


def load(
    path: str | PathLike[str] | None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    checks: Sequence[Check] = (),
    rows: str | None = None,
) -> Settings:
    """The settings of a file (None: the defaults without one), under the environment's and the caller's values.

    The caller's win over the environment's, those over the file's. Behind their plugins stand those of the registry of
    bindings in the data folder; `rows` stands for its text. Raises SettingsError with all that is wrong.
    """
    file = Path(path) if path is not None else None
    reading = Reading(without_file() if file is None else {"listen": [{"address": LOOPBACK}]}, Path())
    if file is not None:
        reading.add_file(file)
        if reading.findings and not reading.origins.places:  # the file itself can't be read
            raise SettingsError(reading.findings)
        if "data" not in reading.tree:
            reading.tree["data"] = file.parent / "gatepost-data"
    reading.add_environment(environ)
    reading.add_call(overrides or {})
    add_rows(reading, rows)
    settings, problems, rest = _validated(reading.tree, {"environ": environ})
    problems += reading.problems
    settings._origins = reading.origins
    settings._file = file
    for check in (*HOUSE_CHECKS, *checks):
        problems += [replace(problem, path=rest.as_written(problem.path)) for problem in check(settings)]
    if reading.findings or problems:
        misspelt = {problem.meant for problem in problems}
        told = (problem for problem in problems if not (problem.at_key and problem.path in misspelt))
        found = [*reading.findings, *(reading.origins.find(problem, reading.tree) for problem in told)]
        raise SettingsError(sorted(dict.fromkeys(found), key=lambda one: (one.where.partition(":")[0], one.line)))
    return settings


class _Rest:
    """What is left of a tree after what is wrong was cut out, and where it stood before."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.tree = copied(tree)
        self._places = {key: [*range(len(value))] for key, value in self.tree.items() if isinstance(value, list)}

    def as_written(self, path: KeyPath) -> KeyPath:
        """The same path in the tree that it was made of."""
        match path:
            case (str(key), int(at), *further) if at < len(self._places.get(key, ())):
                return (key, self._places[key][at], *further)
            case _:
                return path

    def cut(self, paths: Iterable[KeyPath]) -> bool:
        """Remove these keys; where a key is missing, or is the element of a list, the table around it. False if there
        was nothing to remove.
        """
        is_less = False
        tables: set[tuple[str, int]] = set()
        for path in paths:
            match path:
                case _ if _cut(self.tree, path):
                    is_less = True
                case (str(key), int(at), *_) if at < len(self._places.get(key, ())):
                    tables.add((key, at))
                case _:
                    is_less |= self.tree.pop(str(path[0]), None) is not None
        for key, at in sorted(tables, reverse=True):
            if key in self.tree:
                del self.tree[key][at], self._places[key][at]
                is_less = True
        return is_less


def _validated(tree: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[Settings, list[Problem], _Rest]:
    """The settings, what is wrong with them, and what they were made of.

    What is wrong is cut out and the rest validated again, so that the checks over the whole find something to look at
    and their problems stand in the same report. What is missing only because it was cut out isn't told.
    """
    problems: list[Problem] = []
    rest = _Rest(tree)
    while True:
        try:
            return Settings.model_validate(rest.tree, context=context), problems, rest
        except ValidationError as error:
            known = {problem.path for problem in problems}
            found = problems_of(error.errors(include_url=False), Settings, rest.tree)
            for problem in found:
                path = rest.as_written(problem.path)
                if path not in known:
                    problems.append(replace(problem, path=path, meant=rest.as_written(problem.meant)))
            if not rest.cut([problem.path for problem in found]):
                raise  # nothing that somebody wrote is wrong any more, so a default of ours must be


def _cut(tree: Any, path: KeyPath) -> bool:
    """Remove a key from a tree; False if there is no such key, or it is an element of a list."""
    for step in path[:-1]:
        try:
            tree = tree[step]
        except (LookupError, TypeError):
            return False
    return isinstance(tree, dict) and tree.pop(path[-1], None) is not None
