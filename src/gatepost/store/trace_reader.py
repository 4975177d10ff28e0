"""Reading the trace, with a server or without one.

A token says when its session began, so only segments that end later are looked at, and of the sealed ones only those
whose filter knows the token. The segment being written is read like any other: its last frame may be half there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as File

import msgspec

from gatepost.model import token_time
from gatepost.store.bloom import Bloom
from gatepost.store.files import FileSystem
from gatepost.store.trace import INDEX, SEGMENT, Entry, SegmentIndex, read_frames

_LOOK_ALIKES = str.maketrans("ILO", "110")
_SLACK_MS = 60_000  # entries are written a moment after their time, and clocks are set
_decoder = msgspec.msgpack.Decoder(SegmentIndex)


@dataclass(frozen=True, slots=True)
class _Segment:
    """One file, its times in ms; `index` is None while it is open, or where its index can't be read."""

    path: File
    start_ms: int
    index: SegmentIndex | None

    def may_have(self, token: str) -> bool:
        return self.index is None or Bloom(self.index.bits).may_have(token)

    def reaches(self, since_ms: float) -> bool:
        return self.index is None or self.index.last_ms >= since_ms


class TraceReader:
    """All shards' traces below a folder. Holds nothing open."""

    def __init__(self, folder: File, files: FileSystem) -> None:
        self._folder = folder
        self._files = files

    def find(self, token: str) -> list[Entry]:
        """Everything about one session, oldest first. Raises TokenError if it isn't a token."""
        since_ms, _ = token_time(token)
        token = _as_written(token)
        found = [
            entry
            for segment in self._segments()
            if segment.reaches(since_ms - _SLACK_MS) and segment.may_have(token)
            for entry in self._entries(segment, token)
            if entry[1] == token
        ]
        return sorted(found, key=_time)

    def search(
        self,
        *,
        since: float = 0.0,
        until: float = float("inf"),
        match: Callable[[Entry], bool] = lambda _: True,
        limit: int = 1000,
    ) -> list[Entry]:
        """The newest `limit` entries between two times (s, Unix time) that match, oldest first."""
        found: list[Entry] = []
        since_ms, until_ms = since * 1000, until * 1000
        for segment in self._segments():
            if segment.reaches(since_ms) and segment.start_ms - _SLACK_MS <= until_ms:
                found += (e for e in self._entries(segment) if since_ms <= e[0] <= until_ms and match(e))
                if len(found) > 2 * limit:
                    found = _newest(found, limit)
        return _newest(found, limit)

    def _segments(self) -> Iterator[_Segment]:
        for shard in self._files.list_dir(self._folder):
            folder = self._folder / shard
            for name in self._files.list_dir(folder):
                start = name.removesuffix(SEGMENT)
                if name.endswith(SEGMENT) and start.isdecimal():
                    yield _Segment(folder / name, int(start), self._index(folder / f"{start}{INDEX}"))

    def _index(self, path: File) -> SegmentIndex | None:
        try:
            with self._files.open(path) as stream:
                return _decoder.decode(stream.read())
        except (OSError, msgspec.MsgspecError):
            return None

    def _entries(self, segment: _Segment, token: str = "") -> list[Entry]:
        try:
            return read_frames(self._files, segment.path, token)
        except FileNotFoundError:  # its time was over while we looked
            return []


def _newest(entries: list[Entry], limit: int) -> list[Entry]:
    return sorted(entries, key=_time)[-limit:] if limit > 0 else []


def _time(entry: Entry) -> int:
    return entry[0]


def _as_written(token: str) -> str:
    """A token in the one spelling that is recorded: upper-case, look-alikes mended, a hyphen in the middle."""
    digits = token.upper().translate(_LOOK_ALIKES).replace("-", "")
    return f"{digits[:6]}-{digits[6:]}"
