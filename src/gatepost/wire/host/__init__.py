"""Plugin-host frames: the dialogue between the house and a process that runs plugins for it."""

from gatepost.wire.frames import Decoder, FrameError
from gatepost.wire.host.decoder import encode, frames_from_host, frames_to_host
from gatepost.wire.host.frames import (
    VERSION,
    Answer,
    Ask,
    Failed,
    Frame,
    FromHost,
    Hello,
    Load,
    Loaded,
    Log,
    Ready,
    SessionEnded,
    Stop,
    ToHost,
    Told,
)

__all__ = [
    "VERSION",
    "Answer",
    "Ask",
    "Decoder",
    "Failed",
    "Frame",
    "FrameError",
    "FromHost",
    "Hello",
    "Load",
    "Loaded",
    "Log",
    "Ready",
    "SessionEnded",
    "Stop",
    "ToHost",
    "Told",
    "encode",
    "frames_from_host",
    "frames_to_host",
]
