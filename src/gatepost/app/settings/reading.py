"""Reads the settings as written: files with their includes, the environment, the call; one tree, with origins.

Strategy: every source becomes a plain tree; trees are laid over each other (tables merge, lists of tables of included
files follow one another, a key that two files set is an error), while `Origins` notes where each value came from.
Nothing here knows which keys there are.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatepost.app.settings.origins import (
    InCall,
    InEnvironment,
    InFile,
    Origin,
    Origins,
    SourceFile,
    Written,
    line_finding,
)
from gatepost.app.settings.places import spots
from gatepost.app.settings.problems import Finding, KeyPath, Problem

PREFIX = "GATEPOST__"
_INCLUDE_MEND = "name the file in the first file's include"
_TABLE = re.compile(r"\((?:'[^']*',? ?)+\)")  # as tomllib shows the name of one
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class Reading:
    """What has been read so far: values in `tree`, places in `origins`, errors in `findings` and `problems`."""

    def __init__(self, base: Mapping[str, Any], folder: Path) -> None:
        """`base` are values that count as defaults; `folder` is what relative paths from elsewhere begin at."""
        self.tree: dict[str, Any] = copied(base)
        self.origins = Origins()
        self.findings: list[Finding] = []
        self.problems: list[Problem] = []
        self._folder = folder

    def add_file(self, path: Path) -> None:
        """The file and what it includes, the included ones in the order of the patterns, then of their names."""
        main = self._read(path)
        if main is None:
            return
        file, values = main
        self.origins.whole = InFile(file, ())
        patterns = values.get("include", [])
        self._merge(self.tree, values, file, (), ())
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            return  # the type is told with all others
        for at, pattern in enumerate(patterns):
            matches = sorted(path.parent.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
            if not matches and not any(sign in pattern for sign in "*?["):
                self.problems.append(
                    Problem(
                        ("include", at), f'there is no file "{pattern}"', mend="name a file that exists, or remove it"
                    )
                )
            for included in matches:
                if part := self._read(included):
                    if part[1].pop("include", None) is not None:
                        place = InFile(part[0], ("include",))
                        problem = Problem(
                            ("include",), "only the first file may include others", mend=_INCLUDE_MEND, at_key=True
                        )
                        self.findings.append(place.find(problem, exact=True))
                    self._merge(self.tree, part[1], part[0], (), ())

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """`GATEPOST__LIMITS__MESSAGE_SIZE=25MiB`; a number is a place in a list, `[…]` and `{…}` are TOML."""
        for variable in sorted(name for name in environ if name.startswith(PREFIX)):
            text = environ[variable]
            path: KeyPath = tuple(
                int(step) if step.isdecimal() else step for step in variable.removeprefix(PREFIX).lower().split("__")
            )
            origin = InEnvironment(variable, text)
            value: Any = Written.of(text, self._folder, loose=True)
            if text[:1] + text[-1:] in {"[]", "{}"}:  # [::1]:25 is an address
                try:
                    value = tomllib.loads(f"value = {text}")["value"]
                except tomllib.TOMLDecodeError:
                    self.findings.append(
                        origin.find(
                            Problem(path, "the value isn't TOML", mend=f'{variable}=\'["one", "two"]\''), exact=True
                        )
                    )
                    continue
            if not self._put(path, value, origin):
                mend = f"{PREFIX}LIMITS__MESSAGE_SIZE=25MiB, {PREFIX}LISTEN__0__ADDRESS=127.0.0.1:2525"
                self.findings.append(origin.find(Problem(path, "the name leads to no key", mend=mend), exact=True))

    def add_call(self, values: Mapping[str, Any]) -> None:
        """Values by name; tables are merged, everything else replaces what a file says."""
        self._override(self.tree, values, ())

    def _read(self, path: Path) -> tuple[SourceFile, dict[str, Any]] | None:
        shown = str(path)
        try:
            text = path.read_text("utf-8-sig").replace("\r\n", "\n")
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            self.findings.append(
                Finding(shown, f"the settings file can't be read: {words}", mend="give another file with -c FILE")
            )
            return None
        except UnicodeDecodeError as error:
            self.findings.append(Finding(shown, f"octet {error.start} isn't UTF-8", mend="save the file as UTF-8"))
            return None
        return self.parsed(shown, path.parent, text)

    def parsed(self, shown: str, folder: Path, text: str) -> tuple[SourceFile, dict[str, Any]] | None:
        """A file's text taken apart; None if it isn't TOML, which is told."""
        try:
            values = tomllib.loads(text)
            return SourceFile(shown, folder, text, spots(text)), values
        except tomllib.TOMLDecodeError as error:
            self.findings.append(_syntax_finding(SourceFile(shown, folder, text, {}), str(error)))
        except RecursionError:
            self.findings.append(Finding(shown, "lists or tables are nested too deep"))
        return None

    def _merge(
        self, into: dict[str, Any], values: Mapping[str, Any], file: SourceFile, path: KeyPath, own: KeyPath
    ) -> None:
        """Lay a file's table over another; `path` is its place in the tree, `own` in the file."""
        for key, value in values.items():
            here, there = (*path, key), (*own, key)
            known = into.get(key)
            if here not in self.origins.places:
                self.origins.places[here] = InFile(file, there)
                into[key] = self._place(value, InFile(file, there), here)
            elif isinstance(known, dict) and isinstance(value, Mapping):
                self._merge(known, value, file, here, there)
            elif isinstance(known, list) and isinstance(value, list) and value and isinstance(value[0], Mapping):
                for at, item in enumerate(value):
                    known.append(self._place(item, InFile(file, (*there, at)), (*here, len(known))))
            else:
                earlier = self.origins.places[here]
                problem = Problem(here, f"{key} is set twice, here and at {earlier}", mend="remove one", at_key=True)
                self.findings.append(InFile(file, there).find(problem, exact=True))

    def _place(self, value: Any, origin: Origin, path: KeyPath) -> Any:
        """A copy of the value whose texts know their folder, with every part's origin noted."""
        self.origins.places[path] = origin
        if isinstance(value, Mapping):
            return {key: self._place(item, _inside(origin, key), (*path, key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._place(item, _inside(origin, at), (*path, at)) for at, item in enumerate(value)]
        if isinstance(value, str) and not isinstance(value, Written):
            return Written.of(value, origin.file.folder if isinstance(origin, InFile) else self._folder)
        return value

    def _put(self, path: KeyPath, value: Any, origin: Origin) -> bool:
        """Set one value deep in the tree; False if the path leads nowhere."""
        node: Any = self.tree
        for at, step in enumerate(path):
            last = at == len(path) - 1
            if isinstance(node, dict) and isinstance(step, str):
                if not last:
                    node = node.setdefault(step, [] if isinstance(path[at + 1], int) else {})
            elif isinstance(node, list) and isinstance(step, int) and step <= len(node):
                if step == len(node):
                    node.append({})
                if not last:
                    node = node[step]
            else:
                return False
            if last:
                self._forget(path)
                node[step] = self._place(value, origin, path)
            else:
                self.origins.places.setdefault(path[: at + 1], origin)
        return True

    def _override(self, into: dict[str, Any], values: Mapping[str, Any], path: KeyPath) -> None:
        for key, value in values.items():
            here = (*path, key)
            known = into.get(key)
            if isinstance(known, dict) and isinstance(value, Mapping):
                self._override(known, value, here)
            else:
                self._forget(here)
                into[key] = self._place(value, InCall(), here)

    def _forget(self, path: KeyPath) -> None:
        """What stood below a key that is replaced has no place any more."""
        for known in [known for known in self.origins.places if known[: len(path)] == path]:
            del self.origins.places[known]


def _inside(origin: Origin, step: str | int) -> Origin:
    return InFile(origin.file, (*origin.path, step)) if isinstance(origin, InFile) else origin


def copied(value: Any) -> Any:
    """The same values in new tables and lists."""
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list | tuple) else value


def _syntax_finding(file: SourceFile, message: str) -> Finding:
    place = _PLACE.search(message)
    words = message[: place.start()] if place else message
    words = _TABLE.sub(lambda table: "[" + ".".join(re.findall(r"'([^']*)'", table[0])) + "]", words)
    if place and place.group(1):
        line, column = int(place.group(1)), int(place.group(2))
    else:
        line = file.text.rstrip("\n").count("\n") + 1
        column = len(file.text.rstrip("\n").rpartition("\n")[2]) + 1
    return line_finding(
        file, line, column, f"this isn't TOML: {words[:1].lower()}{words[1:]}", _syntax_mend(words, place)
    )


def _syntax_mend(words: str, place: re.Match[str] | None) -> str:
    """What to do about the commonest slips; tomllib's words name the place, seldom the cause."""
    if place and not place.group(1):
        return "close every quote and bracket"
    if "Invalid value" in words or "Expected newline" in words:
        return 'texts stand in quotes: key = "value"'
    if "'='" in words:
        return 'write key = "value", and [section] on a line of its own'
    if "overwrite" in words or "twice" in words or "mutate" in words:
        return "remove one of the two"
    return "close every quote and bracket on its line"
