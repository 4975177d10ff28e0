"""From files, environment and call to Settings: read, validate, check; every error of the three steps in one report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

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
) -> Settings:
    """The settings of a file (None: the defaults without one), under the environment's and the caller's values.

    The caller's win over the environment's, those over the file's. Raises SettingsError with all that is wrong.
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
    settings, problems = _validated(reading.tree, {"environ": environ})
    problems += reading.problems
    settings._origins = reading.origins
    settings._file = file
    for check in (*HOUSE_CHECKS, *checks):
        problems += check(settings)
    if reading.findings or problems:
        misspelt = {problem.meant for problem in problems}
        told = (problem for problem in problems if problem.path not in misspelt)
        found = [*reading.findings, *(reading.origins.find(problem, reading.tree) for problem in told)]
        raise SettingsError(sorted(dict.fromkeys(found), key=lambda one: (one.where.partition(":")[0], one.line)))
    return settings


def _validated(tree: Mapping[str, Any], context: Mapping[str, Any]) -> tuple[Settings, list[Problem]]:
    """The settings and what is wrong with them.

    What is wrong is cut out and the rest validated again, so that the checks over the whole find something to look at
    and their problems stand in the same report. What is missing only because it was cut out isn't told.
    """
    problems: list[Problem] = []
    rest = copied(tree)
    while True:
        try:
            return Settings.model_validate(rest, context=context), problems
        except ValidationError as error:
            known = {problem.path for problem in problems}
            removed = False
            for problem in problems_of(error.errors(include_url=False), Settings, tree):
                is_new = problem.path not in known
                if is_new:
                    problems.append(problem)
                removed |= (is_new and _cut(rest, problem.path)) or rest.pop(str(problem.path[0]), None) is not None
            if not removed:
                raise  # nothing that somebody wrote is wrong any more, so a default of ours must be


def _cut(tree: Any, path: KeyPath) -> bool:
    """Remove a key from a tree; False if there is no such key, or it is an element of a list."""
    for step in path[:-1]:
        try:
            tree = tree[step]
        except (LookupError, TypeError):
            return False
    return isinstance(tree, dict) and tree.pop(path[-1], None) is not None
