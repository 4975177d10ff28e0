"""The examples that aren't Python: what their first comments say of building and loading them."""

from __future__ import annotations

import re
import shlex
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path

from programs import program

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PREFIXES = ROOT / ".wine" / "gatepost"
"""Kept for the next run: a Wine prefix takes a dozen seconds. Ignored by git."""
_COMMENT = re.compile(r"\A(?:#!.*\n)?(?:(?:/\*| \*|#)(?: .*)?\n)+")
_COMPILERS = ("cc", "x86_64-w64-mingw32-gcc")


def comment(file: Path) -> str:
    """The first comment, bare."""
    found = _COMMENT.match(file.read_text())
    assert found is not None, file
    lines = (re.sub(r"^(?:/\*| \*|#) ?", "", line) for line in found[0].splitlines() if not line.startswith("#!"))
    return textwrap.dedent("\n".join(lines))


def build_lines(file: Path) -> list[list[str]]:
    """The commands in a file's first comment that build it, each with its compiler found, and strict."""
    words = [shlex.split(line) for line in comment(file).splitlines() if line.strip().startswith(_COMPILERS)]
    assert all(line[0] in _COMPILERS for line in words)
    return words


def build(words: Sequence[str], folder: Path) -> None:
    """Run such a command in a folder; a warning is an error."""
    command = [program(words[0]), "-Wall", "-Wextra", "-Werror", *words[1:]]
    subprocess.run(command, cwd=folder, check=True, timeout=60)


def settings_of(file: Path) -> str:
    """The [[plugin]] table in a file's first comment."""
    lines = [line.strip() for line in comment(file).splitlines()]
    first = lines.index("[[plugin]]")
    return "\n".join(lines[first : lines.index("", first) if "" in lines[first:] else None])
