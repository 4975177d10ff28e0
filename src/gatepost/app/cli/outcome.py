"""How a command ends: the exit codes of sysexits.h, and failures that say what to do next."""

from __future__ import annotations

from enum import IntEnum
from typing import IO, Any

import click


class Exit(IntEnum):
    """Why a command ended, for scripts. The values are those of BSD's sysexits.h."""

    OK = 0
    USAGE = 64
    DATA = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    SOFTWARE = 70
    CANT_CREATE = 73
    TEMPORARY = 75
    NO_PERMISSION = 77
    CONFIGURATION = 78
    INTERRUPTED = 130


class Failure(click.ClickException):
    """A command can't do what it was asked; the text says why, `next_step` what to do, `code` the exit code."""

    def __init__(self, text: str, code: Exit, *, next_step: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.next_step = next_step

    def show(self, file: IO[Any] | None = None) -> None:
        """On standard error."""
        click.echo(f"gatepost: {self.message}", file=file, err=file is None)
        if self.next_step:
            click.echo(f"  next:  {self.next_step}", file=file, err=file is None)
