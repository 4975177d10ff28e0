"""Sessions counted by several workers."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from gatepost.app.counting import Counts, SharedCounter
from gatepost.serving.limits import Admission, SessionLimits

ANN, BOB = ip_address("192.0.2.1"), ip_address("192.0.2.2")


@pytest.fixture
def counts() -> Iterator[Counts]:
    made = Counts.make(2)
    yield made
    made.close()


def counters(counts: Counts, in_all: int, per_peer: int) -> tuple[SharedCounter, SharedCounter]:
    limits = SessionLimits(in_all, per_peer)
    return SharedCounter(limits, counts, 0), SharedCounter(limits, counts, 1)


def test_the_limit_in_all_counts_every_worker(counts: Counts) -> None:
    first, second = counters(counts, 2, 0)
    assert first.enter(ANN) is Admission.GRANTED
    assert second.enter(BOB) is Admission.GRANTED
    assert first.enter(BOB) is second.enter(ANN) is Admission.FULL
    first.leave(ANN)
    assert second.enter(ANN) is Admission.GRANTED
    assert (first.in_all, second.in_all) == (0, 2)


def test_the_limit_per_peer_counts_every_worker(counts: Counts) -> None:
    first, second = counters(counts, 0, 2)
    assert first.enter(ANN) is second.enter(ANN) is Admission.GRANTED
    assert first.enter(ANN) is second.enter(ANN) is Admission.PEER_FULL
    assert first.enter(BOB) is Admission.GRANTED
    second.leave(ANN)
    assert first.enter(ANN) is Admission.GRANTED


def test_an_ipv6_peer_is_its_64(counts: Counts) -> None:
    first, second = counters(counts, 0, 1)
    assert first.enter(ip_address("2001:db8::1")) is Admission.GRANTED
    assert second.enter(ip_address("2001:db8::2")) is Admission.PEER_FULL
    assert second.enter(ip_address("2001:db8:0:1::2")) is Admission.GRANTED


def test_a_dead_worker_counts_no_more(counts: Counts) -> None:
    first, second = counters(counts, 3, 2)
    assert second.enter(ANN) is second.enter(ANN) is Admission.GRANTED
    assert first.enter(ANN) is Admission.PEER_FULL
    counts.clear(1)
    assert first.enter(ANN) is Admission.GRANTED
    assert [sum(row) for row in counts.rows] == [3, 0]


def test_R7_many_peers_are_not_taken_for_one_another(counts: Counts) -> None:
    first, second = counters(counts, 0, 3)
    peers = [ip_address(f"198.51.{number >> 8}.{number & 255}") for number in range(5000)]
    assert all((first, second)[at % 2].enter(peer) is Admission.GRANTED for at, peer in enumerate(peers))


def test_two_processes_see_one_table(counts: Counts) -> None:
    import os

    other = Counts(os.dup(counts.descriptor), 2)
    limits = SessionLimits(1, 0)
    assert SharedCounter(limits, counts, 0).enter(ANN) is Admission.GRANTED
    assert SharedCounter(limits, other, 1).enter(BOB) is Admission.FULL
    other.close()
