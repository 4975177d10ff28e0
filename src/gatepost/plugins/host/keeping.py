"""Content in a file of our own, and how long it is there."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

from gatepost.hooks.transaction import Transaction
from gatepost.model import Blob
from gatepost.store.blobs import FileBlob


@dataclass(frozen=True, slots=True)
class OwnFile(FileBlob):
    """A file that is removed by `close`, or else with the last who has this blob."""

    def close(self) -> None:
        """Remove it."""
        with suppress(OSError, AttributeError):
            os.unlink(self.path)  # noqa: PTH108  half the time of Path.unlink

    def __del__(self) -> None:
        self.close()


def keep(blob: Blob, transaction: Transaction | None) -> None:
    """From now on content in a file is there until the transaction is over; where it is over already, since it is a
    shadow's, as long as somebody has it."""
    if isinstance(blob, OwnFile) and transaction is not None:
        with suppress(LookupError):
            transaction.holder.get(blob, lambda: blob)


__all__ = ["OwnFile", "keep"]
