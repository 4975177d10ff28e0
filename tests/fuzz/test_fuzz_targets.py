"""The fuzz targets, for a moment each: their seeds, and what hypothesis makes of them."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import (
    fuzz_frames,
    fuzz_outgoing,
    fuzz_pop3,
    fuzz_pop3_client,
    fuzz_proxy,
    fuzz_proxy_ways,
    fuzz_published,
    fuzz_smtp_client,
    fuzz_smtp_machine,
)

TARGETS = [
    fuzz_smtp_machine,
    fuzz_smtp_client,
    fuzz_frames,
    fuzz_proxy,
    fuzz_proxy_ways,
    fuzz_published,
    fuzz_outgoing,
    fuzz_pop3,
    fuzz_pop3_client,
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__.rpartition(".")[2])
def test_seeds_and_their_beginnings(target: ModuleType) -> None:
    for seed in target.SEEDS:
        for end in {0, 1, len(seed) // 2, len(seed) - 1, len(seed)}:
            target.one_input(seed[:end])


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__.rpartition(".")[2])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_seeds_that_were_tampered_with(target: ModuleType, data: st.DataObject) -> None:
    octets = bytearray(data.draw(st.sampled_from(target.SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets)))
        octets[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    target.one_input(bytes(octets))
