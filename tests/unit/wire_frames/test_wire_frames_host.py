"""Plugin-host frames, and what a mad host sends."""

from __future__ import annotations

import msgspec
import pytest

from gatepost.wire.frames import LIMIT, prefixed
from gatepost.wire.host import (
    VERSION,
    Answer,
    Ask,
    Failed,
    FrameError,
    Hello,
    Load,
    Loaded,
    Log,
    Ready,
    SessionEnded,
    Stop,
    Told,
    encode,
    frames_from_host,
    frames_to_host,
)

HELLO = encode(Hello(VERSION, "python"))
TO_HOST = [
    Load("spam", "plugins/spam.py", {"threshold": 5.0}),
    Ask(1, "06HK3M-9Q7TZA", 2, "message", {"peer": "192.0.2.1", "recipients": ["a@b"]}, 4.5, "/tmp/x"),
    Ask(2, "06HK3M-9Q7TZA", 0, "connect", {}, 0.0),
    Told("06HK3M-9Q7TZA", "disconnected", {}),
    SessionEnded("06HK3M-9Q7TZA"),
    Stop(),
]
FROM_HOST = [
    Loaded("spam", {"stages": ["message"]}),
    Ready(),
    Answer(1, {"refuse": [550, "5.7.1", "no"]}, [{"add": ["X-Spam", "yes"]}], {"score": 7}, True),
    Failed(1, "ValueError", "bad"),
    Log("info", "hello"),
]


def msgpack(value: object) -> bytes:
    return prefixed(msgspec.msgpack.encode(value))


def test_every_frame_travels() -> None:
    assert frames_to_host().feed(HELLO + b"".join(map(encode, TO_HOST))) == [Hello(VERSION, "python"), *TO_HOST]
    assert frames_from_host().feed(HELLO + b"".join(map(encode, FROM_HOST))) == [Hello(VERSION, "python"), *FROM_HOST]


def test_a_frame_is_an_array_that_begins_with_its_name() -> None:
    assert msgspec.msgpack.decode(encode(Failed(7, "a", "b"))[4:]) == ["failed", 7, "a", "b"]


@pytest.mark.parametrize(
    "data",
    [
        msgpack(["nonsense", 1]),
        msgpack(["answer", -1, {}, [], {}]),
        msgpack(["answer", 2**63, {}, [], {}]),
        msgpack(["answer", 1, [], [], {}]),
        msgpack(["answer", 1, {1: 2}, [], {}]),
        msgpack(["answer", 1]),
        msgpack(["log", "shout", "x"]),
        msgpack({"answer": 1}),
        msgpack(None),
        prefixed(b"\xc1"),
        prefixed(b"\x92\xa3log"),
        prefixed(b"\x91" * 100_000),
        prefixed(b"\x93\xa3log\xa4info\xa2\xff\xfe"),
        encode(Stop()),
        encode(Hello(VERSION, "python")),
        (LIMIT + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x80\x00\x00\x01",
    ],
)
def test_P1_P2_what_isnt_a_frame_is_a_value_and_the_end(data: bytes) -> None:
    decoder = frames_from_host()
    assert decoder.feed(HELLO) == [Hello(VERSION, "python")]
    frames = decoder.feed(encode(Ready()) + data + encode(Ready()))
    assert frames[0] == Ready()
    assert isinstance(frames[1], FrameError)
    assert len(frames) == 2
    assert decoder.feed(encode(Ready())) == []


def test_hello_comes_first_and_in_our_version() -> None:
    for first in (encode(Ready()), encode(Hello(VERSION + 1, "python"))):
        assert [type(frame) for frame in frames_from_host().feed(first + HELLO)] == [FrameError]


def test_P3_the_stream_ends_within_a_frame() -> None:
    decoder = frames_from_host()
    decoder.feed(HELLO + encode(Log("info", "x"))[:-1])
    assert decoder.finish() is not None
    decoder.feed(b"x")
    assert decoder.finish() is None


def test_the_largest_frame_and_one_more() -> None:
    overhead = len(encode(Log("info", "x" * 70_000))) - 4 - 70_000
    largest = encode(Log("info", "x" * (LIMIT - overhead)))
    assert len(largest) == LIMIT + 4
    assert len(frames_from_host().feed(HELLO + largest)) == 2
    with pytest.raises(ValueError, match="a frame of"):
        encode(Log("info", "x" * (LIMIT - overhead + 1)))
