"""Control-socket frames, and garbage."""

from __future__ import annotations

import json

import pytest

from gatepost.wire.control import Failure, FrameError, Progress, Reply, Request, encode, read_replies, read_requests
from gatepost.wire.frames import LIMIT, prefixed


def test_requests_and_replies_travel() -> None:
    request = Request(1, "queue.list", {"held": True})
    assert read_requests().feed(encode(request) + encode(Request(2, "reload"))) == [request, Request(2, "reload")]
    replies = [
        Progress(1, {"done": 3}),
        Reply(1, result=[{"ticket": "x"}]),
        Reply(2, error=Failure(78, "no such plugin", "gatepost plugin list")),
    ]
    assert read_replies().feed(b"".join(map(encode, replies))) == replies
    assert [reply.ok for reply in replies if isinstance(reply, Reply)] == [True, False]


def test_a_frame_is_an_object_anybody_can_read() -> None:
    assert json.loads(encode(Reply(1, error=Failure(75, "later")))[4:]) == {
        "type": "reply",
        "id": 1,
        "error": {"code": 75, "message": "later", "mend": ""},
    }


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b"[]",
        b"null",
        b"\x00",
        b"\xff",
        b'{"type":"request","id":-1,"action":"x"}',
        b'{"type":"request","id":1e400,"action":"x"}',
        b'{"type":"request","id":1,"action":2}',
        b'{"type":"request","id":1,"action":"x","arguments":[]}',
        b'{"type":"request","id":1,"action":"x"} {"more":1}',
        b'{"type":"reply","id":1}',
        b'{"type":"request","id":1,"action":"x","arguments":{"a":' + b"[" * 200_000,
        b'{"type":"request","id":1,"action":"\xed\xa0\x80"}',
    ],
)
def test_I8_garbage_is_a_value_and_the_end(payload: bytes) -> None:
    reader = read_requests()
    frames = reader.feed(prefixed(payload) + encode(Request(1, "x")))
    assert [type(frame) for frame in frames] == [FrameError]
    assert reader.feed(encode(Request(1, "x"))) == []


def test_I8_a_text_protocol_on_the_control_socket() -> None:
    """Its first four letters are a length far over the limit."""
    [error] = read_requests().feed(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(error, FrameError)


def test_I8_newlines_in_values_stay_values() -> None:
    request = Request(1, "user.add", {"name": "a\r\nb\0"})
    assert read_requests().feed(encode(request)) == [request]


def test_too_large() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        encode(Reply(1, result="x" * LIMIT))
    with pytest.raises(ValueError, match="a frame of 0"):
        prefixed(b"")
