"""A file system that remembers every step, so that a crash can be played at any of them.

`Recorder` keeps one log for the store's file system port (`RecordingFiles`) and for SQLite (`RecordingVFS`). `Disk`
replays a beginning of that log and writes down what a crash could leave: with everything written (a killed process),
with only what was synced (power loss), with names but not contents, or with a random choice of the unsynced writes.
"""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path as File

import apsw

from gatepost.store.files import RealFiles

Step = tuple


class Crash(Enum):
    """What the disk makes of what wasn't synced."""

    KILLED = "everything written is there"
    POWER = "only what was synced is there"
    NAMES = "names are there, their contents only as synced"
    TORN = "some of the writes that weren't synced are there"


@dataclass
class Inode:
    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""
    pending: list[Step] = field(default_factory=list)


class Disk:
    """What is on a disk after the first steps of a log: as the processes see it, and as it was synced."""

    def __init__(self) -> None:
        self.inodes: dict[int, Inode] = {}
        self.names: dict[str, int] = {}
        self.synced_names: dict[str, int] = {}

    def apply(self, step: Step) -> None:
        match step:
            case ("create", name, inode):
                self.inodes[inode] = Inode()
                self.names[name] = inode
            case ("write", inode, _, _):
                _change(self.inodes[inode].now, step)
                self.inodes[inode].pending.append(step)
            case ("truncate", inode, _):
                _change(self.inodes[inode].now, step)
                self.inodes[inode].pending.append(step)
            case ("sync", inode):
                self.inodes[inode].synced = bytes(self.inodes[inode].now)
                self.inodes[inode].pending.clear()
            case ("link", source, target):
                self.names[target] = self.names[source]
            case ("rename", source, target):
                self.names[target] = self.names.pop(source)
            case ("unlink", name):
                self.names.pop(name, None)
            case ("syncdir", folder):
                here = {n: i for n, i in self.names.items() if n.rpartition("/")[0] == folder}
                elsewhere = {n: i for n, i in self.synced_names.items() if n.rpartition("/")[0] != folder}
                self.synced_names = elsewhere | here
            case ("mark", _):
                pass
            case _:
                raise AssertionError(step)

    def after(self, crash: Crash, seed: int) -> dict[str, bytes]:
        """The files that a crash of this kind leaves."""
        names = self.synced_names if crash is Crash.POWER else self.names
        return {name: self._content(self.inodes[inode], crash, seed) for name, inode in names.items()}

    def _content(self, inode: Inode, crash: Crash, seed: int) -> bytes:
        if crash is Crash.KILLED:
            return bytes(inode.now)
        content = bytearray(inode.synced)
        if crash is Crash.TORN:
            chance = random.Random(seed)
            for step in inode.pending:
                match chance.randrange(3), step:
                    case 1, _:
                        _change(content, step)
                    case 2, ("write", number, offset, data):  # disks tear between sectors
                        _change(content, ("write", number, offset, data[: len(data) // 2 // 512 * 512]))
        return bytes(content)


def _change(content: bytearray, step: Step) -> None:
    match step:
        case ("write", _, offset, data):
            content.extend(b"\0" * (offset - len(content)))
            content[offset : offset + len(data)] = data
        case ("truncate", _, size):
            del content[size:]


class Recorder:
    """The log of one folder. `fail` may raise in place of a step, to inject errors."""

    def __init__(self, root: File) -> None:
        self.root = root
        self.log: list[Step] = []
        self.lock = threading.RLock()
        self.inodes: dict[str, int] = {}
        self.sizes: dict[int, int] = {}
        self.fail: Callable[[str], None] = lambda kind: None

    def name(self, path: File | str) -> str:
        return str(File(path).relative_to(self.root))

    def mark(self, what: object) -> None:
        with self.lock:
            self.log.append(("mark", what))

    def create(self, name: str) -> int:
        inode = self.inodes[name] = len(self.log)
        self.sizes[inode] = 0
        self.log.append(("create", name, inode))
        return inode

    def write(self, inode: int, offset: int, data: bytes) -> None:
        self.log.append(("write", inode, offset, data))
        self.sizes[inode] = max(self.sizes[inode], offset + len(data))

    def crashes(self, tears: int = 5) -> Iterator[tuple[int, Crash, dict[str, bytes]]]:
        """(steps done, kind, what is left) for every beginning of the log; equal ones with equal promises once.

        `tears` random choices are made for each torn disk.
        """
        kinds = [(crash, seed) for crash in Crash for seed in range(tears if crash is Crash.TORN else 1)]
        disk = Disk()
        seen: set[int] = set()
        promised = 0
        for done in range(len(self.log) + 1):
            if done:
                step = self.log[done - 1]
                disk.apply(step)
                promised += step[0] == "mark"
            for crash, seed in kinds:
                left = disk.after(crash, seed=done * tears + seed)
                state = hash((promised, tuple(sorted(left.items()))))
                if state not in seen:
                    seen.add(state)
                    yield done, crash, left


def write_down(left: dict[str, bytes], folder: File) -> None:
    """The files of a crashed disk, in a fresh folder."""
    for name, content in left.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class RecordingFiles(RealFiles):
    """The store's file system port, recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def create(self, path):
        return self._opened(path, lambda: RealFiles.create(self, path))

    def append(self, path):
        return self._opened(path, lambda: RealFiles.append(self, path))

    def _opened(self, path, open_it):
        with self.recorder.lock:
            self.recorder.fail("create")
            name = self.recorder.name(path)
            is_new = not path.exists()
            file = open_it()
            inode = self.recorder.create(name) if is_new else self.recorder.inodes[name]
            return _RecordingFile(self.recorder, file, inode)

    def sync_file(self, path):
        with self.recorder.lock:
            self.recorder.fail("sync")
            super().sync_file(path)
            self.recorder.log.append(("sync", self.recorder.inodes[self.recorder.name(path)]))

    def sync_dir(self, path):
        with self.recorder.lock:
            self.recorder.fail("syncdir")
            super().sync_dir(path)
            if path.is_relative_to(self.recorder.root):
                name = self.recorder.name(path)
                self.recorder.log.append(("syncdir", "" if name == "." else name))

    def rename(self, source, target):
        self._name("rename", source, target, super().rename)

    def link(self, source, target):
        self._name("link", source, target, super().link)

    def _name(self, kind, source, target, act):
        with self.recorder.lock:
            self.recorder.fail(kind)
            act(source, target)
            source, target = self.recorder.name(source), self.recorder.name(target)
            self.recorder.inodes[target] = self.recorder.inodes[source]
            self.recorder.log.append((kind, source, target))

    def unlink(self, path):
        with self.recorder.lock:
            existed = path.exists()
            super().unlink(path)
            if existed:
                self.recorder.log.append(("unlink", self.recorder.name(path)))

    def lock(self, path):
        with self.recorder.lock:
            if not path.exists():
                self.recorder.create(self.recorder.name(path))
            return super().lock(path)


class _RecordingFile:
    def __init__(self, recorder: Recorder, file, inode: int) -> None:
        self.recorder, self.file, self.inode = recorder, file, inode

    def write(self, data: bytes) -> None:
        with self.recorder.lock:
            self.recorder.fail("write")
            self.file.write(data)
            self.recorder.write(self.inode, self.recorder.sizes[self.inode], bytes(data))

    def sync(self) -> None:
        with self.recorder.lock:
            self.recorder.fail("sync")
            self.file.sync()
            self.recorder.log.append(("sync", self.inode))

    def close(self) -> None:
        self.file.close()


class RecordingVFS(apsw.VFS):
    """SQLite's file system, recorded. Unregister it by `close`."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        self.recorder = recorder
        self.name = name
        super().__init__(name, "")

    def xOpen(self, name, flags):
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        with self.recorder.lock:
            is_new = not File(path).exists()
            opened = _RecordingVFSFile(self.recorder, name, flags)
            short = self.recorder.name(path)
            opened.inode = self.recorder.create(short) if is_new else self.recorder.inodes[short]
            return opened

    def xDelete(self, filename, syncdir):
        with self.recorder.lock:
            super().xDelete(filename, syncdir)
            short = self.recorder.name(filename)
            self.recorder.log.append(("unlink", short))
            if syncdir:
                self.recorder.log.append(("syncdir", short.rpartition("/")[0]))

    def close(self) -> None:
        self.unregister()


class _RecordingVFSFile(apsw.VFSFile):
    inode: int

    def __init__(self, recorder: Recorder, name, flags) -> None:
        self.recorder = recorder
        super().__init__("", name, flags)

    def xWrite(self, data, offset):
        with self.recorder.lock:
            self._fail("write")
            super().xWrite(data, offset)
            self.recorder.write(self.inode, offset, bytes(data))

    def xTruncate(self, size):
        with self.recorder.lock:
            self._fail("truncate")
            super().xTruncate(size)
            self.recorder.log.append(("truncate", self.inode, size))

    def xSync(self, flags):
        with self.recorder.lock:
            self._fail("sync")
            super().xSync(flags)
            self.recorder.log.append(("sync", self.inode))

    def _fail(self, kind: str) -> None:
        try:
            self.recorder.fail(kind)
        except OSError as error:
            raise (apsw.FullError if error.errno == 28 else apsw.IOError)(str(error)) from error
