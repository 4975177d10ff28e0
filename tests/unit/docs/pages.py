"""The pages of the documentation, cut into what tests can hold against the real thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "gatepost"
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
BRING = ROOT / "docs" / "bring-your-plugin.md"
"""Has libraries to be built, so a test of its own holds it."""
WALKS = sorted((ROOT / "docs" / "walks").glob("*.md"))
_FENCE = re.compile(r"^```(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{6}-[0-9A-HJKMNP-TV-Z]{6}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d, after [\d.]+ s")
_DATE = re.compile(r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}")
_TOOK = re.compile(r"\b[\d.]+ ms\b")


@dataclass(frozen=True)
class Block:
    """One fenced block: its kind (the first word behind the fence) and its text."""

    page: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, kind: str) -> Iterator[Block]:
    """A page's blocks of one kind, in order."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        if match["kind"] == kind:
            yield Block(page, text.count("\n", 0, match.start()) + 1, kind, match["text"])


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def normalised(text: str) -> str:
    """Without what differs from run to run: tokens, times, and how wide a column is."""
    for pattern, word in ((_TOKEN, "TOKEN"), (_TIME, "TIME"), (_DATE, "DATE"), (_TOOK, "MS")):
        text = pattern.sub(word, text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def shows(printed: str, shown: str) -> bool:
    """Whether what is shown was printed, in that order; `…` stands for what is left out. `printed` is normalised."""
    at = 0
    for part in (part.strip() for part in normalised(shown).split("…")):
        found = printed.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True
