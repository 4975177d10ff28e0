"""Makes a Wine prefix of links to another one, with a drive C: of its own laid over it.

Run as a file by the user whose prefix it is, since Wine runs in none that is somebody else's: `python -I -S drive.py
PREFIX SHARED [DRIVE]`.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path

OWN = ("system.reg", "user.reg", "userdef.reg", ".update-timestamp")
"""What every prefix has for itself."""
_DEEPEST = 24  # folders within folders of a drive that is laid over another


def begin(shared: Path, prefix: Path) -> None:
    """A prefix without a drive, if there is none yet. OSError."""
    if (prefix / OWN[0]).is_file():
        return
    shutil.rmtree(prefix, ignore_errors=True)
    prefix.mkdir(mode=0o750)
    (prefix / "dosdevices").mkdir()
    (prefix / "dosdevices/c:").symlink_to("../drive_c")
    (prefix / "dosdevices/z:").symlink_to("/")
    for name in reversed(OWN):  # the first of them last: it says that all are there
        shutil.copy2(shared / name, prefix / name)


def lay(base: Path, over: Path | None, target: Path, depth: int = 0) -> None:
    """Make `target` show what is in `base` and `over`, by links; folders in both are made anew and hold both. Where a
    name is in both, as Windows compares names, `over` wins; what is in `target` already, and no link, stays."""
    target.mkdir(exist_ok=True)
    below, above = _names(base), {} if over is None else _names(over)
    for key in below.keys() | above.keys():
        lower, upper = below.get(key), above.get(key)
        place = target / (lower or upper or target).name
        if lower and upper and lower.is_dir() and upper.is_dir() and depth < _DEEPEST:
            if place.is_symlink():
                place.unlink()
            lay(lower, upper, place, depth + 1)
        elif (wanted := upper or lower) is not None:
            _link(place, wanted)


def _link(place: Path, wanted: Path) -> None:
    if place.is_symlink():
        if place.readlink() == wanted:
            return
        place.unlink()
    with suppress(FileExistsError):
        place.symlink_to(wanted)


def _names(folder: Path) -> dict[str, Path]:
    return {entry.name.casefold(): entry for entry in sorted(folder.iterdir(), reverse=True)}


if __name__ == "__main__":
    _prefix, _shared, *_over = map(Path, sys.argv[1:])
    begin(_shared, _prefix)
    lay(_shared / "drive_c", _over[0] if _over else None, _prefix / "drive_c")
