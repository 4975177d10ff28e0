"""Length-prefixed frames, whatever they hold: four octets of length, big-endian, then so many octets.

Strategy: octets gather in one bytearray until a frame is whole, and the length is checked before anything is kept for
it. What can't be a frame is a value, the last thing the stream gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

LIMIT = 1024 * 1024  # octets of one frame; content never travels in frames
PREFIX = 4


@dataclass(frozen=True, slots=True)
class FrameError:
    """The stream has broken the protocol; nothing after it is read. `text` says how, and quotes nothing of it."""

    text: str


F = TypeVar("F")


class Decoder(Generic[F]):
    """Frames out of a stream. Holds at most one unfinished frame of LIMIT octets; after a FrameError, nothing."""

    __slots__ = ("_buffer", "_decode", "_is_broken")

    def __init__(self, decode: Callable[[bytes], F | FrameError]) -> None:
        """`decode` makes a value of a frame's octets and raises nothing."""
        self._decode = decode
        self._buffer = bytearray()
        self._is_broken = False

    def feed(self, data: bytes | bytearray | memoryview) -> list[F | FrameError]:
        """The frames that these octets, cut anywhere, complete; a FrameError only as the last one. Never raises."""
        if self._is_broken:
            return []
        buffer = self._buffer
        if buffer:
            buffer += data
            data = buffer
        frames: list[F | FrameError] = []
        start, end = 0, len(data)
        while end - start >= PREFIX:
            first = start + PREFIX
            length = int.from_bytes(data[start:first], "big")
            if not 0 < length <= LIMIT:
                frame: F | FrameError = FrameError(f"a frame of {length} octets; between 1 and {LIMIT} are allowed")
            elif end - first < length:
                break
            else:
                start = first + length
                frame = self._decode(bytes(data[first:start]))
            frames.append(frame)
            if type(frame) is FrameError:
                self._is_broken = True
                buffer.clear()
                return frames
        if data is buffer:
            del buffer[:start]
        elif start < end:  # most often whole frames come, and nothing has to be kept
            buffer += data[start:]
        return frames

    def finish(self) -> FrameError | None:
        """The stream has ended; a FrameError if it ended within a frame."""
        return FrameError("the stream ended within a frame") if self._buffer else None


def prefixed(payload: bytes) -> bytes:
    """A frame for the wire. Raises ValueError for an empty payload and one over the limit."""
    if not 0 < len(payload) <= LIMIT:
        raise ValueError(f"a frame of {len(payload)} octets; between 1 and {LIMIT} are allowed")
    return len(payload).to_bytes(PREFIX, "big") + payload
