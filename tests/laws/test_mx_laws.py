"""Laws of the order in which a domain's mail servers are tried (RFC 5321 §5.1), for every set of records."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from gatepost.net.answers import Exchange
from gatepost.net.mx_rules import (
    MAX_TRIES,
    Target,
    before_ours,
    in_order,
    interleaved,
    is_null,
    may_be_called,
    plan,
)

HOST = st.sampled_from(["", *(f"mx{number}.example" for number in range(8))])
RECORDS = st.lists(st.builds(Exchange, st.integers(0, 5), HOST), max_size=20)
CHANCE = st.randoms(use_true_random=False).map(lambda chosen: chosen.random)
V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**32 - 1).map(lambda four: 0xFFFF << 32 | four),
).map(IPv6Address)
ADDRESSES = st.lists(st.one_of(V4, V6), max_size=12)


@given(RECORDS, CHANCE)
def test_better_ones_come_first_and_each_host_comes_once(records, chance):
    ordered = in_order(records, chance)
    preferences = [record.preference for record in ordered]
    assert preferences == sorted(preferences)
    best = {host: min(r.preference for r in records if r.host == host) for host in {r.host for r in records} - {""}}
    assert {record.host: record.preference for record in ordered} == best
    assert len(ordered) == len(best)


def test_equals_are_first_equally_often():
    chance = random.Random(7).random
    records = [Exchange(10, name) for name in "abcd"] + [Exchange(20, "z")]
    firsts = Counter(in_order(records, chance)[0].host for _ in range(4000))
    assert set(firsts) == set("abcd")
    assert all(850 < count < 1150 for count in firsts.values())


@given(RECORDS, CHANCE, st.sets(HOST))
def test_nobody_who_is_not_better_than_us_is_left(records, chance, ours):
    ordered = in_order(records, chance)
    left = before_ours(ordered, lambda record: record.host in ours)
    our_best = min((record.preference for record in ordered if record.host in ours), default=None)
    assert left == [record for record in ordered if our_best is None or record.preference < our_best]
    assert not ours & {record.host for record in left}


@given(RECORDS)
def test_a_null_mx_stands_alone(records):
    assert is_null(records) == ([record.host for record in records] == [""])


@given(ADDRESSES)
def test_families_take_turns_and_keep_their_order(addresses):
    mixed = interleaved(addresses)
    undressed = [*dict.fromkeys(getattr(one, "ipv4_mapped", None) or one for one in addresses)]
    assert Counter(mixed) == Counter(undressed)
    for version in (4, 6):
        assert [one for one in mixed if one.version == version] == [one for one in undressed if one.version == version]
    pairs = min(Counter(one.version for one in mixed).get(version, 0) for version in (4, 6))
    assert [one.version for one in mixed[: 2 * pairs]] == [6, 4] * pairs


@given(st.lists(st.lists(V4, min_size=1, max_size=12, unique=True), max_size=16))
def test_a_plan_is_bounded_and_leaves_room_for_the_next_host(each):
    targets = [Target(f"mx{number}", tuple(addresses)) for number, addresses in enumerate(each)]
    planned = plan(targets)
    assert len(planned) <= MAX_TRIES
    hosts = [host for host, _ in planned]
    assert [*dict.fromkeys(hosts)] == [target.host for target in targets[: len(set(hosts))]]
    assert len(set(hosts)) >= min(len(targets), MAX_TRIES // 2)
    for target in targets:
        called = tuple(address for host, address in planned if host == target.host)
        assert called == target.addresses[: len(called)]


INSIDE = [
    IPv4Network(text)
    for text in [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ]
]


@given(st.sampled_from(INSIDE), st.integers(0, 2**28 - 1))
def test_D1_no_address_inside_is_called_in_any_clothes(network, number):
    four = int(network.network_address) + number % network.num_addresses
    clothes = [0xFFFF << 32 | four, 0x64FF9B << 96 | four, 0x2002 << 112 | four << 80]
    assert not may_be_called(IPv4Address(four))
    assert not any(may_be_called(IPv6Address(one)) for one in clothes)


@given(V4)
def test_v4_addresses_keep_their_verdict_in_v6_clothes(address):
    for allow in (False, True):
        dressed = IPv6Address(0xFFFF << 32 | int(address))
        assert may_be_called(dressed, allow_private=allow) == may_be_called(address, allow_private=allow)
