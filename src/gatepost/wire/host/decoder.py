"""Frames to octets and back, either direction.

Strategy: each side decodes only what the other side may say, into types that msgspec checks; whatever doesn't fit is a
FrameError value, which its reader treats as a failure of the plugin. Hello must come first, once, in our version.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from gatepost.wire.frames import Decoder, FrameError, prefixed
from gatepost.wire.host.frames import VERSION, Frame, FromHost, Hello, ToHost


def encode(frame: Frame) -> bytes:
    """The frame for the wire. Raises ValueError over the limit, TypeError for facts that aren't plain data."""
    return prefixed(_encoder.encode(frame))


def frames_from_host() -> Decoder[FromHost]:
    """What the house reads with."""
    return Decoder(_Dialogue(_from_host).decode)


def frames_to_host() -> Decoder[ToHost]:
    """What a plugin host reads with."""
    return Decoder(_Dialogue(_to_host).decode)


F = TypeVar("F")
_encoder = msgspec.msgpack.Encoder()
_from_host: msgspec.msgpack.Decoder[FromHost] = msgspec.msgpack.Decoder(FromHost)
_to_host: msgspec.msgpack.Decoder[ToHost] = msgspec.msgpack.Decoder(ToHost)


class _Dialogue(Generic[F]):
    """One direction: a Hello in our version first, and only there."""

    __slots__ = ("_decode", "_has_greeted")

    def __init__(self, msgpack: msgspec.msgpack.Decoder[F]) -> None:
        self._decode = msgpack.decode
        self._has_greeted = False

    def decode(self, payload: bytes) -> F | FrameError:
        try:
            frame = self._decode(payload)
        except (msgspec.MsgspecError, RecursionError, ValueError, TypeError) as error:
            return FrameError(f"not a frame of this dialogue: {type(error).__name__}")
        if not isinstance(frame, Hello):
            return frame if self._has_greeted else FrameError("a frame before hello")
        if self._has_greeted:
            return FrameError("a second hello")
        if frame.version != VERSION:
            return FrameError(f"version {frame.version} of the dialogue; {VERSION} is spoken here")
        self._has_greeted = True
        return frame
