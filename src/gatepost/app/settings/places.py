"""Where each key and value of a TOML text stands.

tomllib reads the values and vouches for the syntax; this walks the same text once more only for the places, so it may
trust what it sees: regular expressions find the end of each token, and a stack of tables follows the headers.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass

from gatepost.app.settings.problems import KeyPath

_BLANKS = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r'[ \t]*("(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+)[ \t]*')
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:\'{0,2})|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_BARE = re.compile(r"[^,\]}#\r\n]+")


@dataclass(frozen=True, slots=True)
class Spot:
    """Offsets into the text: where the key begins, where its value begins and ends. A list's element has no own key."""

    key: int
    start: int
    end: int


def spots(text: str) -> dict[KeyPath, Spot]:
    """The place of every table, key and list element of a valid TOML text with `\\n` line ends."""
    return _Walk(text).found


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Both counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def line_at(text: str, line: int) -> str:
    """The text of a line counted from 1, without indentation and line end; empty beyond the last."""
    lines = text.split("\n")
    return lines[line - 1].strip() if 0 < line <= len(lines) else ""


class _Walk:
    """One walk over the text; `_at` never goes back."""

    def __init__(self, text: str) -> None:
        self.found: dict[KeyPath, Spot] = {}
        self._text = text
        self._at = 0
        self._tables: dict[KeyPath, int] = {}  # lists of tables, and how many each has had
        table: KeyPath = ()
        self._skip_blanks()
        while self._at < len(text):
            if text[self._at] == "[":
                table = self._header()
            else:
                self._assignment(table)
            self._skip_blanks()

    def _header(self) -> KeyPath:
        start = self._at
        double = self._text.startswith("[[", start)
        self._at += 2 if double else 1
        steps = self._steps()
        self._at += 2 if double else 1
        path: KeyPath = ()
        for step in steps[:-1]:
            path = self._last((*path, step))
        path = (*path, steps[-1])
        if double:
            count = self._tables[path] = self._tables.get(path, 0) + 1
            self.found.setdefault(path, Spot(start, start, self._at))
            path = (*path, count - 1)
        self.found[path] = Spot(start, start, self._at)
        return path

    def _last(self, path: KeyPath) -> KeyPath:
        """A header's steps lead into the newest table of a list."""
        return (*path, self._tables[path] - 1) if path in self._tables else path

    def _assignment(self, table: KeyPath) -> None:
        key = self._at
        steps = self._steps()
        self._at += 1  # the equals sign
        self._at = _skip(self._text, self._at)
        path = table
        for step in steps[:-1]:
            path = (*path, step)
            self.found.setdefault(path, Spot(key, key, self._at))
        self._value((*path, steps[-1]), key)

    def _value(self, path: KeyPath, key: int) -> None:
        start = self._at
        match self._text[start]:
            case "[":
                self._list(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                string = _STRING.match(self._text, start)
                self._at = string.end() if string else start + 1
            case _:
                bare = _BARE.match(self._text, start)
                self._at = start + len(bare.group().rstrip()) if bare else start + 1
        self.found[path] = Spot(key, start, self._at)

    def _list(self, path: KeyPath) -> None:
        self._at += 1
        count = 0
        self._skip_blanks()
        while self._text[self._at] != "]":
            self._value((*path, count), self._at)
            count += 1
            self._skip_separator()
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        self._skip_blanks()
        while self._text[self._at] != "}":
            self._assignment(path)
            self._skip_separator()
        self._at += 1

    def _skip_separator(self) -> None:
        self._skip_blanks()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip_blanks()

    def _steps(self) -> list[str]:
        steps: list[str] = []
        while token := _KEY.match(self._text, self._at):
            written = token.group(1)
            steps.append(tomllib.loads(f"k = {written}")["k"] if written[0] in "\"'" else written)
            self._at = token.end()
            if self._text[self._at] != ".":
                break
            self._at += 1
        return steps

    def _skip_blanks(self) -> None:
        self._at = _skip(self._text, self._at)


def _skip(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks else at
