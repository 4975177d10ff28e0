"""The commands: `gatepost …`, and `python -m gatepost …`, which is the same.

Strategy: the frame knows each command by name and module, and imports a module only when its command is used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import gatepost


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is a sysexits one: 0, 64 (usage), 75 (try again later), 78 (configuration) …"""
    arguments = sys.argv[1:] if arguments is None else arguments
    if [*arguments] == ["--version"]:  # asked by scripts, often: answered before click is imported
        sys.stdout.write(f"gatepost {gatepost.__version__}\n")
        return 0
    from gatepost.app.cli.frame import run

    return run(arguments)
