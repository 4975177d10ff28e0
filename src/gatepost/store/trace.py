"""The trace: why everything was decided as it was, written without anybody waiting for it.

`record` puts a tuple into a ring; a thread empties the ring into append-only segments, one folder per shard:

    trace/<shard>/<ms of first entry>.seg   frames of length, checksum, MessagePack (time in ms, token, kind, facts)
    trace/<shard>/<ms of first entry>.idx   made when the segment is sealed: its last time and a Bloom filter of tokens

A full ring drops entries and says so. A segment is sealed by size and by age, kept by days and by size in all. A frame
torn by a crash ends its segment; nothing else depends on it. Reading is trace_reader's.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path as File
from struct import Struct
from typing import Any

import msgspec

from gatepost.store.bloom import Bloom
from gatepost.store.files import FileSystem, WritableFile

Entry = tuple[int, str, str, dict[str, Any]]
"""(Unix time in ms, token, kind, facts). Whoever records it doesn't change the facts afterwards."""

TEXT_LIMIT = 1024  # characters of a field
FRAME = Struct("<II")  # length and CRC-32 of what follows
SEGMENT, INDEX = ".seg", ".idx"
_ITEMS = 100  # of a list or table in a field
_DEPTH = 4
_PAUSE_S = 0.1  # the ring is emptied this often
_SESSIONS = 20_000  # whose entries are counted at a time
_HOUSE = "-"  # the token of what belongs to no session


@dataclass(frozen=True, slots=True)
class Keeping:
    """How much is kept. Sizes in octets, ages in seconds; both the days and the size in all limit a shard's folder."""

    ring: int = 20_000
    entries_per_session: int = 1000
    segment_size: int = 16 * 1024 * 1024
    segment_age_s: float = 3600.0
    days: float = 14.0
    total_size: int = 1024 * 1024 * 1024


class SegmentIndex(msgspec.Struct, array_like=True, frozen=True):
    """What a sealed segment holds: the time of its last entry (ms), and its tokens."""

    last_ms: int
    bits: bytes


class Trace:
    """One shard's trace. Invariant: `record` never waits and never fails; entries are written in the order given."""

    def __init__(
        self, folder: File, files: FileSystem, clock: Callable[[], float], keeping: Keeping | None = None
    ) -> None:
        """Begin to write in a folder, after sealing what a crash left open; raises OSError."""
        self._keeping = keeping or Keeping()
        self._ring: deque[Entry] = deque()
        self._room = self._keeping.ring
        self._dropped = 0  # counted by whoever records
        self._told = 0  # of those, how many the trace says were lost; counted by the thread
        self._wanted = threading.Event()
        self._written = threading.Condition()
        self._rounds = 0
        self._is_ending = False
        self._clock = clock
        self._scribe = _Scribe(folder, files, self._keeping)
        self._thread = threading.Thread(target=self._run, name=f"trace {folder.name}", daemon=True)
        self._thread.start()

    def record(self, entry: Entry) -> None:
        """Take an entry to be written soon; drop it if too many wait already."""
        if len(self._ring) < self._room:
            self._ring.append(entry)
        else:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until everything recorded so far can be read. Blocks: not for the loop."""
        with self._written:
            wanted = self._rounds + 2  # a round under way may have begun before the last entry
            while self._rounds < wanted and self._thread.is_alive():
                self._wanted.set()
                self._written.wait(_PAUSE_S)

    def close(self) -> None:
        """Write what is left, seal the segment and end the thread. Blocks; a second call does nothing."""
        self._is_ending = True
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            is_last = self._is_ending
            self._empty()
            with self._written:
                self._rounds += 1
                self._written.notify_all()
            if is_last:
                self._scribe.close()
                return
            self._wanted.wait(_PAUSE_S)
            self._wanted.clear()

    def _empty(self) -> None:
        entries = [self._ring.popleft() for _ in range(len(self._ring))]
        dropped = self._dropped
        now_ms = int(self._clock() * 1000)
        if dropped > self._told:
            entries.append((now_ms, _HOUSE, "lost", {"entries": dropped - self._told}))
        try:
            self._scribe.write(entries, now_ms)
            self._told = dropped
        except OSError:
            self._told -= len(entries) - (dropped > self._told)


class _Scribe:
    """Writes frames into segments, in the thread. Invariant: at most one segment is open, and it is the newest."""

    def __init__(self, folder: File, files: FileSystem, keeping: Keeping) -> None:
        self._folder = folder
        self._files = files
        self._keeping = keeping
        self._file: WritableFile | None = None
        self._started_ms = 0
        self._last_ms = 0
        self._size = 0
        self._tokens: set[str] = set()
        self._counts: OrderedDict[str, int] = OrderedDict()
        files.make_dir(folder)
        starts = _starts(files, folder, SEGMENT)
        self._started_ms = max(starts, default=0)
        for start in starts - _starts(files, folder, INDEX):
            self._seal_left_over(start)

    def write(self, entries: list[Entry], now_ms: int) -> None:
        """Append entries; seal and begin segments and remove old ones where it is time."""
        if self._file is not None and now_ms - self._started_ms >= self._keeping.segment_age_s * 1000:
            self._seal()
        kept = [bounded for entry in entries for bounded in self._bounded(entry)]
        if not kept:
            return
        frames: list[bytes] = []
        for entry in kept:
            payload = encode(entry)
            frames += (FRAME.pack(len(payload), zlib.crc32(payload)), payload)
        self._append(b"".join(frames), now_ms)
        self._tokens.update(entry[1] for entry in kept)
        self._last_ms = max(self._last_ms, *(entry[0] for entry in kept))
        if self._size >= self._keeping.segment_size:
            self._seal()

    def close(self) -> None:
        self._seal()

    def _append(self, data: bytes, now_ms: int) -> None:
        file = self._open(now_ms)
        try:
            file.write(data)
            self._size += len(data)
        except OSError:  # a frame may be torn here: what comes next needs a segment of its own
            self._file = None
            file.close()
            if not self._size:
                self._files.unlink(self._folder / f"{self._started_ms}{SEGMENT}")
            raise

    def _bounded(self, entry: Entry) -> list[Entry]:
        """The entry, or a last one that says "cut", or nothing: a session can't fill the trace."""
        token = entry[1]
        count = self._counts.pop(token, 0) + 1
        self._counts[token] = count
        if len(self._counts) > _SESSIONS:
            self._counts.popitem(last=False)
        limit = self._keeping.entries_per_session
        if token == _HOUSE or count <= limit:
            return [entry]
        return [(entry[0], token, "cut", {"after": limit})] if count == limit + 1 else []

    def _open(self, now_ms: int) -> WritableFile:
        if self._file is None:
            start = max(now_ms, self._started_ms + 1)  # names go up, whatever the clock does
            self._file = self._files.create(self._folder / f"{start}{SEGMENT}")
            self._started_ms, self._last_ms, self._size = start, start, 0
            self._tokens = set()
        return self._file

    def _seal(self) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        with suppress(OSError):  # without an index a segment is read whole, and the next start makes one
            try:
                file.sync()
            finally:
                file.close()
            self._write_index(self._started_ms, self._last_ms, self._tokens)
            self._remove_old()

    def _seal_left_over(self, start: int) -> None:
        tokens: set[str] = set()
        last_ms = start
        for time_ms, token, _, _ in read_frames(self._files, self._folder / f"{start}{SEGMENT}"):
            tokens.add(token)
            last_ms = max(last_ms, time_ms)
        self._write_index(start, last_ms, tokens)

    def _write_index(self, start: int, last_ms: int, tokens: set[str]) -> None:
        path = self._folder / f"{start}{INDEX}"
        fresh = path.with_suffix(".new")
        self._files.unlink(fresh)
        file = self._files.create(fresh)
        try:
            file.write(msgspec.msgpack.encode(SegmentIndex(last_ms, Bloom.of(tokens).bits)))
        finally:
            file.close()
        self._files.rename(fresh, path)

    def _remove_old(self) -> None:
        """By age, then by size in all; the oldest first."""
        oldest_ms = self._last_ms - self._keeping.days * 86_400_000 - self._keeping.segment_age_s * 1000
        starts = sorted(_starts(self._files, self._folder, SEGMENT))
        sizes = [self._files.size(self._folder / f"{start}{SEGMENT}") for start in starts]
        total = sum(sizes)
        for start, size in zip(starts, sizes, strict=True):
            if start > oldest_ms and total <= self._keeping.total_size:
                break
            for suffix in INDEX, SEGMENT:
                self._files.unlink(self._folder / f"{start}{suffix}")
            total -= size


def _text(value: object) -> str:
    """What an object says of itself; the trace outlives objects that can't."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  whatever a plugin noted may be broken in any way
        return f"<{type(value).__name__} that can't be shown: {type(error).__name__}>"


_encoder = msgspec.msgpack.Encoder(enc_hook=_text)


def encode(entry: Entry) -> bytes:
    """An entry as a frame's payload, its texts cut and its tables bounded where it is long enough to need that."""
    try:
        payload = _encoder.encode(entry)
        if len(payload) <= TEXT_LIMIT:
            return payload
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass
    time_ms, token, kind, facts = entry
    return _encoder.encode((time_ms, token, kind, _cut(facts, _DEPTH)))


def read_frames(files: FileSystem, path: File, token: str = "") -> list[Entry]:
    """The entries of a segment that mention a token, up to its end or to the first frame that isn't whole."""
    entries: list[Entry] = []
    needle = token.encode()
    with files.open(path) as stream:
        data = stream.read()
    if needle not in data:
        return entries
    at = 0
    while at + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, at)
        payload = data[at + FRAME.size : at + FRAME.size + length]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            break
        if needle in payload:
            time_ms, of, kind, facts = msgspec.msgpack.decode(payload)
            entries.append((time_ms, of, kind, facts))
        at += FRAME.size + length
    return entries


def _starts(files: FileSystem, folder: File, suffix: str) -> set[int]:
    """The times segments with such a file began (ms)."""
    names = (name.removesuffix(suffix) for name in files.list_dir(folder) if name.endswith(suffix))
    return {int(name) for name in names if name.isdecimal()}


def _cut(value: Any, depth: int) -> Any:
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if abs(value) < 1 << 63 else _cut(str(value), depth)
        case str():
            text = value.encode("utf-8", "backslashreplace").decode()
            return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
        case bytes():
            return value[:TEXT_LIMIT]
        case dict() if depth:
            return {_cut(_text(k), 0): _cut(v, depth - 1) for k, v in list(value.items())[:_ITEMS]}
        case list() | tuple() | set() | frozenset() if depth:
            return [_cut(item, depth - 1) for item in list(value)[:_ITEMS]]
        case _:
            return _cut(_text(value)[: TEXT_LIMIT + 1], depth)
