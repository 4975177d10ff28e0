"""Plugins in Python: found, checked and bound (`loading`); plain functions run in threads of their own (`threads`); or
all of it in a child process (`isolated`, `child`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatepost.plugins.python.loading import InProcess, load

if TYPE_CHECKING:
    from gatepost.plugins.python.isolated import Isolated, load_isolated

__all__ = ["InProcess", "Isolated", "load", "load_isolated"]


def __getattr__(name: str) -> object:
    """What isolation needs is imported when it is used: most servers run without, and a child has no use for it."""
    if name in ("Isolated", "load_isolated"):
        from gatepost.plugins.python import isolated  # noqa: PLC0415

        found: object = getattr(isolated, name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
