"""What holds for frames however they are cut, and for octets that are none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.wire import control, host
from gatepost.wire.frames import Decoder, FrameError, prefixed

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
FACTS = st.dictionaries(st.text(max_size=10), PLAIN, max_size=4)
ID = st.integers(0, 2**53 - 1)
TEXT = st.text(max_size=30)
ASKED = (
    st.builds(host.Ask, ID, TEXT, ID, TEXT, FACTS, st.floats(0, 1e6), st.none() | TEXT)
    | st.builds(host.Told, TEXT, TEXT, FACTS)
    | st.builds(host.SessionEnded, TEXT)
    | st.builds(host.Load, TEXT, TEXT, FACTS)
    | st.just(host.Stop())
)
ANSWERED = (
    st.builds(host.Answer, ID, FACTS, st.lists(FACTS, max_size=3), FACTS, st.booleans())
    | st.builds(host.Failed, ID, TEXT, TEXT)
    | st.builds(host.Log, st.sampled_from(["debug", "info", "warning", "error"]), TEXT)
    | st.builds(host.Loaded, TEXT, FACTS)
    | st.just(host.Ready())
)
REPLIES = (
    st.builds(control.Reply, ID, result=PLAIN)
    | st.builds(control.Reply, ID, error=st.builds(control.Failure, st.integers(1, 255), TEXT, TEXT))
    | st.builds(control.Progress, ID, FACTS)
)
HELLO = host.encode(host.Hello(host.VERSION, "python"))
CUTS = st.lists(st.integers(0, 100_000), max_size=10)
READERS: list[Callable[[], Decoder[object]]] = [
    host.frames_from_host,
    host.frames_to_host,
    control.read_requests,
    control.read_replies,
]


def feed(decoder: Decoder[object], data: bytes, places: list[int]) -> list[object]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [frame for a, b in pairwise(at) for frame in decoder.feed(data[a:b])]


@given(st.lists(ASKED, max_size=5), CUTS)
def test_questions_round_trip_however_cut(frames: list[host.ToHost], places: list[int]) -> None:
    assert feed(host.frames_to_host(), HELLO + b"".join(map(host.encode, frames)), places)[1:] == frames


@given(st.lists(ANSWERED, max_size=5), CUTS)
def test_answers_round_trip_however_cut(frames: list[host.FromHost], places: list[int]) -> None:
    assert feed(host.frames_from_host(), HELLO + b"".join(map(host.encode, frames)), places)[1:] == frames


@given(st.lists(REPLIES, max_size=5), CUTS)
def test_replies_round_trip_however_cut(frames: list[control.Reply | control.Progress], places: list[int]) -> None:
    assert feed(control.read_replies(), b"".join(map(control.encode, frames)), places) == frames


@pytest.mark.parametrize("make", READERS)
@given(data=st.binary(max_size=400) | st.binary(min_size=1, max_size=400).map(prefixed), places=CUTS)
def test_any_octets_are_frames_or_one_error_however_cut(
    make: Callable[[], Decoder[object]], data: bytes, places: list[int]
) -> None:
    whole = make().feed(data)
    assert feed(make(), data, places) == whole
    assert not any(isinstance(frame, FrameError) for frame in whole[:-1])
