"""What is wrong with the settings, told all at once: where, the line itself, what, and how to mend it.

A `Problem` names a key; where that key was written is found by `Origins` (gatepost.app.settings.origins), so that
checks over finished settings needn't know of files. `Finding` is the two joined, and prints
itself as the user reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]
"""A key by its steps: `("plugin", 0, "stages", 1)`; a number counts the tables or values of a list from 0."""

IN_CALL = "in the call"
"""The place of what a program or the command line handed in."""

_REMARK_COLUMN = 39
_LONGEST_LINE = 100
_GUTTER = 9  # columns before the source line


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one key; the texts are single lines without the place."""

    path: KeyPath
    what: str
    note: str = ""
    """Said beside the source line: a fact that explains the error."""
    mend: str = ""
    """What to write instead, as it would stand in the file, or what to do."""
    see: str = ""
    """Said beside the mend: where more is to be found."""
    at_key: bool = False
    """Whether the place is the key itself and not its value."""
    offset: int = -1
    """Which character of the value, a text, is meant, counted from 0; -1: the whole."""
    meant: KeyPath = ()
    """For an unknown key: the one that it was probably meant to be, which then isn't missing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and its place. `where` is `file:line:column`, `environment`, or `in the call, plugin[0].source`; `line`
    is 0 without a file.
    """

    where: str
    what: str
    line: int = 0
    source: str = ""
    note: str = ""
    mend: str = ""
    see: str = ""
    caret: int = -1
    """Under which character of `source` a caret stands, counted from 0; -1: under none."""

    def __str__(self) -> str:
        number = str(self.line) if self.line else ""
        source = self.source if len(self.source) <= _LONGEST_LINE else self.source[: _LONGEST_LINE - 1] + "…"
        middle = f"{number:>6} | {source}" if source else ""
        mend = f"  mend:  {self.mend}" if self.mend else ""
        column = max(
            _REMARK_COLUMN, *(len(text) + 2 for text, aside in ((middle, self.note), (mend, self.see)) if aside), 0
        )
        pointer = " " * (_GUTTER + self.caret) + "^" if 0 <= self.caret < min(len(source), _LONGEST_LINE - 1) else ""
        remark = _beside(middle, self.note, column) if middle or not self.note else f"  {self.note}"
        rows = [f"{self.where}  {self.what}", remark, pointer, _beside(mend, self.see, column)]
        return "\n".join(row for row in rows if row)


class SettingsError(ValueError):
    """The settings can't be used. `findings` holds every reason; the text is the whole report for a terminal."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        rows = [str(finding) for finding in findings]
        if any(not finding.where.startswith(IN_CALL) for finding in findings):
            count = f"{len(findings)} error{'s' if len(findings) != 1 else ''}"
            rows.append(f"{count}. Nothing was started; a running server keeps its settings. (exit 78)")
        super().__init__("\n".join(rows))


def _beside(text: str, aside: str, column: int) -> str:
    return f"{text:<{column}}{aside}" if aside else text
