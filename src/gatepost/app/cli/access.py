"""What `run_as` may do with files, found out before a server gives root up; and commands that give it up themselves.

Strategy: a child becomes that user and tries, so that groups, access lists and closed folders count as they will.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gatepost.app.cli.outcome import Exit, Failure

if TYPE_CHECKING:
    from gatepost.app.settings import Settings

READ, WRITE, RUN = os.R_OK, os.R_OK | os.W_OK, os.R_OK | os.X_OK


def refused_to(run_as: str, wanted: Mapping[Path, int]) -> dict[Path, Path]:
    """Which of these files the user can't use in that way, and which file or folder above it is closed to him.

    For root only. PrivilegeError if there is no such user; a file that isn't there is refused to nobody.
    """
    from gatepost.app.privileges import Identity

    identity = Identity.of(run_as)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # nothing but this, and out: it is another user by now
        status = 1
        try:
            os.initgroups(identity.user, identity.gid)
            os.setgid(identity.gid)
            os.setuid(identity.uid)
            closed = {str(path): str(at) for path, mode in wanted.items() if (at := _closed(path, mode)) is not None}
            os.write(writing, json.dumps(closed).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return {Path(path): Path(at) for path, at in json.loads(told or b"{}").items()}


def _closed(path: Path, mode: int) -> Path | None:
    for folder in reversed(path.parents):
        if not os.access(folder, os.X_OK):
            return folder
    return path if os.path.lexists(path) and not os.access(path, mode) else None


def strangers_in(folder: Path, run_as: str) -> Iterable[Path]:
    """What in a data folder belongs to somebody else, at its two upper levels: there the server couldn't begin."""
    from gatepost.app.privileges import Identity

    uid = Identity.of(run_as).uid
    for path in (folder, *folder.glob("*"), *folder.glob("*/*")):
        if path.lstat().st_uid != uid:
            yield path


def as_the_server(settings: Settings) -> None:
    """Become `run_as` before files of the data folder are made or changed: what root makes there, the server couldn't
    open. Without root or `run_as` nothing changes.
    """
    if settings.run_as is None or os.geteuid() != 0:
        return
    from gatepost.app.privileges import PrivilegeError, drop

    try:
        drop(settings.run_as, settings.data)
    except (PrivilegeError, OSError) as error:
        raise Failure(str(error), Exit.CONFIGURATION, next_step="gatepost check") from None
