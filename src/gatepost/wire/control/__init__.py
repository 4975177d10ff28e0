"""Control-socket frames: what the command line and the pages ask of a running server."""

from gatepost.wire.control.frames import Failure, Progress, Reply, Request, encode, read_replies, read_requests
from gatepost.wire.frames import Decoder, FrameError

__all__ = [
    "Decoder",
    "Failure",
    "FrameError",
    "Progress",
    "Reply",
    "Request",
    "encode",
    "read_replies",
    "read_requests",
]
