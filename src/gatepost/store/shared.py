"""Opening a database that several processes share, at the same moment perhaps."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path as File

import apsw

_BUSY_MS = 10_000
_PAUSE_S = 0.01


def open_shared(path: File, pragmas: Sequence[str], schema: str) -> apsw.Connection:
    """A connection in WAL mode, its schema made if need be. Raises apsw.Error; BusyError after ten seconds.

    Whoever comes first switches the new database to WAL; SQLite tells the others "busy" at once, without waiting, since
    it can't know who would have to give way. So they ask again.
    """
    before = os.umask(0o177)  # for its owner only, and the files that SQLite puts beside it
    try:
        connection = apsw.Connection(str(path))
    finally:
        os.umask(before)
    try:
        path.chmod(0o600)
        connection.set_busy_timeout(_BUSY_MS)
        until = time.monotonic() + _BUSY_MS / 1000
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL").fetchall()
                break
            except apsw.BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(schema)
    except BaseException:
        connection.close(True)
        raise
    return connection
