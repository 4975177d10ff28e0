"""`gatepost` with one process, which kills itself at a step of its own writing: `DIE_AT=17 mortal_server.py run`.

A step is a write, sync, rename, link, removal or new name in spool and Maildirs, in the store's files and in SQLite's.
Every other step is left undone; of a write only the first half is done, as a process leaves it that is killed in it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw

from gatepost.app import delivering, stores
from gatepost.app.cli import main
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles


class Death:
    """Comes at one step. Invariant: steps are counted one after the other, whichever thread does them."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._lock = threading.Lock()

    def may_come(self, what: str, path: object, last: Callable[[], object] | None = None) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                if last is not None:
                    last()
                os.write(2, f"died at {what} {path}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()


death = Death(int(os.environ["DIE_AT"]))


def counts(path: Path) -> bool:
    """The trace is written beside the way that mail goes."""
    return not {"trace", "private"} & set(path.parts)


class MortalFiles(RealFiles):
    """The operating system's files, as far as they get."""

    def create(self, path):
        return self._opened("create", path, super().create)

    def append(self, path):
        return self._opened("append", path, super().append)

    def _opened(self, what, path, open_it):
        if not counts(path):
            return open_it(path)
        death.may_come(what, path)
        return MortalFile(open_it(path), path)

    def sync_file(self, path):
        death.may_come("sync", path)
        super().sync_file(path)

    def sync_dir(self, path):
        if counts(path):
            death.may_come("sync_dir", path)
        super().sync_dir(path)

    def rename(self, source, target):
        if counts(source):
            death.may_come("rename", target)
        super().rename(source, target)

    def link(self, source, target):
        death.may_come("link", target)
        super().link(source, target)

    def unlink(self, path):
        if counts(path) and path.exists():
            death.may_come("unlink", path)
        super().unlink(path)


class MortalFile:
    def __init__(self, file, path: Path) -> None:
        self._file, self._path = file, path

    def write(self, data: bytes) -> None:
        death.may_come("write", self._path, lambda: self._file.write(data[: len(data) // 2]))
        self._file.write(data)

    def sync(self) -> None:
        death.may_come("sync", self._path)
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class MortalVFS(apsw.VFS):
    """SQLite's file system, as far as it gets."""

    name = "mortal"

    def __init__(self) -> None:
        super().__init__(self.name, "")

    def xOpen(self, name, flags):
        return MortalVFSFile(name, flags)


class MortalVFSFile(apsw.VFSFile):
    def __init__(self, name, flags) -> None:
        self._path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        super().__init__("", name, flags)

    def xWrite(self, data, offset):
        death.may_come("write", self._path, lambda: super(MortalVFSFile, self).xWrite(data[: len(data) // 2], offset))
        super().xWrite(data, offset)

    def xTruncate(self, size):
        death.may_come("truncate", self._path)
        super().xTruncate(size)

    def xSync(self, flags):
        death.may_come("sync", self._path)
        super().xSync(flags)


if __name__ == "__main__":
    vfs = MortalVFS()
    stores.RealFiles = delivering.RealFiles = MortalFiles
    stores.open_shard = delivering.open_shard = partial(open_shard, vfs=vfs.name)
    sys.argv[0] = "gatepost"
    sys.exit(main())
