"""The C plugins of this folder, compiled."""

from __future__ import annotations

import subprocess
from pathlib import Path

from programs import program

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "examples"


def compiled(source: str | Path, output: Path, *defined: str) -> Path:
    """The library of this folder's `source`.c (or of that file) at `output`; `defined` as in "WHO=\"a\""."""
    file = source if isinstance(source, Path) else HERE / f"{source}.c"
    flags = ["-shared", "-fPIC", "-O1", "-w", *(f"-D{each}" for each in defined)]
    subprocess.run([program("cc"), *flags, str(file), "-o", str(output)], check=True)
    return output


def order(output: Path, who: str, has: int = 2) -> Path:
    """One of several plugins, called `who`; `has`: 1 for mail_func, 2 for rcpt_func, 4 for data_func."""
    return compiled("order", output, f'WHO="{who}"', f"HAS={has}")
