"""Fuzz target: any octets as frames, of plugin hosts in both directions and of the control socket in both.

The first octets choose the reader, whether a Hello has gone before, and the cuts.
"""

from __future__ import annotations

from fuzz.hunting import hunt, pieces
from gatepost.wire import control, host
from gatepost.wire.frames import LIMIT, PREFIX, Decoder, FrameError, prefixed

CUTS = 4
TOP = 1 + CUTS
READERS = (host.frames_from_host, host.frames_to_host, control.read_requests, control.read_replies)
ENCODERS = (host.encode, host.encode, control.encode, control.encode)
HELLO = host.encode(host.Hello(host.VERSION, "python"))
SEEDS = tuple(
    bytes([reader]) + b"\x05\x30\x02\x09" + stream
    for reader, stream in (
        (0, HELLO + host.encode(host.Ready()) + host.encode(host.Answer(1, {"proceed": {}}, [{"add": "x"}], {"n": 1}))),
        (4, host.encode(host.Failed(2**63 - 1, "ValueError", "no")) + host.encode(host.Log("info", "x" * 300))),
        (5, host.encode(host.Ask(1, "S", 2, "message", {"size": 9}, 5.0, "/x")) + host.encode(host.Stop())),
        (2, control.encode(control.Request(1, "queue.list", {"held": True}))),
        (3, control.encode(control.Progress(1, {"line": "x"})) + control.encode(control.Reply(1, [1, None, "x"]))),
        (3, prefixed(b'{"type":"reply","id":1,"error":{"code":75,"message":"no"}}') + b"\xff\xff\xff\xff"),
        (2, prefixed(b"[" * 5000)),
        (0, HELLO + prefixed(b"\x91" * 5000)),
    )
)


def feed(decoder: Decoder[object], parts: list[bytes]) -> list[object]:
    return [frame for part in parts for frame in decoder.feed(part)]


def one_input(data: bytes) -> None:
    """Frames, then at most one error, the same however cut; what was read is written and read again the same."""
    if len(data) < TOP:
        return
    reader = data[0] % 4
    stream = (HELLO if data[0] & 4 and reader < 2 else b"") + data[TOP:]
    whole = feed(READERS[reader](), [stream])
    assert repr(feed(READERS[reader](), pieces(stream, data[1:TOP]))) == repr(whole)  # a number may be NaN
    assert not any(isinstance(frame, FrameError) for frame in whole[:-1])
    again = READERS[reader]()
    for frame in whole:
        if not isinstance(frame, FrameError):
            octets = ENCODERS[reader](frame)
            assert len(octets) <= LIMIT + PREFIX
            assert repr(again.feed(octets)) == repr([frame])


if __name__ == "__main__":
    hunt(one_input, SEEDS)
