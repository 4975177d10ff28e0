"""Finding a domain's mail servers, against a name server on loopback: RFC 5321 §5, null MX, traps, failures."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from gatepost.model import Address
from gatepost.net.mx import Exchangers, Nowhere, is_here
from gatepost.net.mx_rules import MAX_HOSTS
from unit.net.name_server import REFUSED, SERVFAIL, SILENT, Zone, name_server

HOSTS: Zone = {
    "mx1.isp.net": {"A": ["5.5.5.1"], "AAAA": ["2a00::1"]},
    "mx2.isp.net": {"A": ["5.5.5.3"]},
    "mx3.isp.net": {"A": ["5.5.5.4"]},
    "six.isp.net": {"AAAA": ["2a00::6"]},
    "alias.isp.net": {"CNAME": ["other.isp.net."]},
    "other.isp.net": {"CNAME": ["mx2.isp.net."]},
    "broken.isp.net": {"A": SERVFAIL, "AAAA": SERVFAIL},
    "halfbroken.isp.net": {"A": ["5.5.5.5"], "AAAA": SERVFAIL},
    "silent.isp.net": {"A": SILENT, "AAAA": SILENT},
    "us.isp.net": {"A": ["5.9.9.9"]},
}


def last() -> float:
    """A chance that shuffles nothing."""
    return 0.999999


async def find(
    domain: str,
    records: Zone | None = None,
    *,
    names: tuple[str, ...] = (),
    own: tuple[str, ...] = (),
    chance: Callable[[], float] = last,
    allow_private: bool = False,
) -> list[str] | str:
    """ "host: addresses" in order, or the reply."""
    ours = [ip_address(one) for one in own]

    def is_own(address: Address, port: int) -> bool:
        return address in ours and port == 25

    async with name_server({**HOSTS, **(records or {})}) as (resolver, _):
        exchangers = Exchangers(resolver, chance=chance, names=names, is_own=is_own)
        found = await exchangers.find(domain, allow_private=allow_private)
        if isinstance(found, Nowhere):
            return str(found.reply)
        return [f"{target.host}: {' '.join(map(str, target.addresses))}" for target in found]


def mx(*records: str, domain: str = "d.example") -> Zone:
    return {domain: {"MX": list(records)}}


# ── RFC 5321 §5.1 ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_best_first_and_both_families_by_turns():
    assert await find("d.example", mx("20 mx2.isp.net.", "10 MX1.isp.net.")) == [
        "mx1.isp.net: 2a00::1 5.5.5.1",
        "mx2.isp.net: 5.5.5.3",
    ]


async def test_equals_are_shuffled_by_chance_and_never_across_preferences():
    records = mx("10 mx2.isp.net.", "10 mx3.isp.net.", "20 six.isp.net.")
    straight = ["mx2.isp.net: 5.5.5.3", "mx3.isp.net: 5.5.5.4", "six.isp.net: 2a00::6"]
    assert await find("d.example", records) == straight
    assert await find("d.example", records, chance=lambda: 0.0) == [straight[1], straight[0], straight[2]]


async def test_without_mx_the_domain_itself():
    assert await find("bare.example", {"bare.example": {"A": ["5.6.7.8"]}}) == ["bare.example: 5.6.7.8"]
    assert await find("alias.isp.net") == ["alias.isp.net: 5.5.5.3"]  # an alias of the domain is followed


async def test_the_mx_of_an_alias_is_followed():
    zone = {"www.d.example": {"CNAME": ["d.example."]}, **mx("10 mx2.isp.net.")}
    assert await find("www.d.example", zone) == ["mx2.isp.net: 5.5.5.3"]


async def test_never_the_domain_itself_where_it_has_an_mx_that_is_no_use():
    zone = {"d.example": {"MX": ["10 nobody.isp.net."], "A": ["5.6.7.8"]}}
    assert await find("d.example", zone) == "550 5.1.2 d.example doesn't exist, or has no mail server"


async def test_a_server_that_has_no_address_is_left_out():
    assert await find("d.example", mx("10 nobody.isp.net.", "20 mx2.isp.net.")) == ["mx2.isp.net: 5.5.5.3"]


async def test_address_literals():
    assert await find("[5.5.5.1]") == ["5.5.5.1: 5.5.5.1"]
    assert await find("[IPv6:2a00::1]") == ["2a00::1: 2a00::1"]
    assert (
        await find("[5.5.5.1")
        == "550 5.1.2 no mail can be sent to this domain: the address literal has no closing bracket"
    )
    assert await find("") == "550 5.1.2 no mail can be sent to this domain: the domain isn't a valid name"


# ── loops ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_we_and_whoever_is_no_better_are_left_out():
    records = mx("10 mx2.isp.net.", "20 us.isp.net.", "20 mx3.isp.net.", "30 six.isp.net.")
    assert await find("d.example", records, names=("US.isp.net",)) == ["mx2.isp.net: 5.5.5.3"]
    assert await find("d.example", records, own=("5.9.9.9",)) == ["mx2.isp.net: 5.5.5.3"]


@pytest.mark.parametrize("how", [{"names": ("us.isp.net.",)}, {"own": ("5.9.9.9",)}], ids=["name", "address"])
async def test_where_we_are_the_best_it_is_a_loop(how):
    told = "554 5.4.6 mail for {} would come back here, its best mail server"
    assert await find("d.example", mx("10 us.isp.net.", "20 mx2.isp.net."), **how) == told.format("d.example")
    assert await find("us.isp.net", **how) == told.format("us.isp.net")  # the implicit MX


async def test_we_are_known_behind_an_alias_and_as_a_literal():
    zone = {"backup.d.example": {"CNAME": ["us.isp.net."]}, **mx("10 backup.d.example.", "10 mx2.isp.net.")}
    assert str(await find("d.example", zone, own=("5.9.9.9",))).startswith("554 5.4.6")
    assert str(await find("[5.9.9.9]", own=("5.9.9.9",))).startswith("554 5.4.6")
    assert str(await find("[IPv6:::ffff:5.9.9.9]", own=("5.9.9.9",))).startswith("554 5.4.6")


async def test_we_are_known_in_the_clothes_of_ipv6():
    zone: Zone = {"dressed.example": {"AAAA": ["::ffff:5.9.9.9"]}, **mx("10 dressed.example.")}
    assert str(await find("d.example", zone, own=("5.9.9.9",))).startswith("554 5.4.6")
    assert await find("d.example", zone) == ["dressed.example: 5.9.9.9"]


async def test_servers_behind_a_translator_are_reached():
    zone: Zone = {"far.example": {"AAAA": ["64:ff9b::5.5.5.1"]}, **mx("10 far.example.")}
    assert await find("d.example", zone) == ["far.example: 64:ff9b::505:501"]


async def test_a_loop_is_not_certain_while_a_better_server_cannot_be_looked_up():
    records = mx("10 broken.isp.net.", "20 us.isp.net.")
    assert str(await find("d.example", records, own=("5.9.9.9",))).startswith("451 4.4.3")


# ── D1: traps ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_D1_null_mx():
    assert await find("d.example", {"d.example": {"MX": ["0 ."], "A": ["5.6.7.8"]}}) == (
        "556 5.1.10 d.example takes no mail, its DNS says"
    )
    assert str(await find("d.example", mx("10 ."))).startswith("556 5.1.10")
    assert await find("d.example", mx("0 .", "10 mx2.isp.net.")) == ["mx2.isp.net: 5.5.5.3"]


INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.5",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.5",
    "64:ff9b::10.0.0.5",
    "64:ff9b:1::5",
    "2002:7f00:1::",
    "fe80::1",
    "fec0::1",
    "fd00::1",
    "ff02::1",
    "2001:db8::1",
]


@pytest.mark.parametrize("address", INSIDE)
async def test_D1_mx_to_localhost_and_private_addresses(address):
    kind = "AAAA" if ":" in address else "A"
    zone = {"trap.example": {kind: [address]}, **mx("10 trap.example.")}
    told = "550 5.4.4 the mail servers of {} have only addresses that no mail is sent to"
    assert await find("d.example", zone) == told.format("d.example")
    assert await find("trap.example", zone) == told.format("trap.example")  # the implicit MX
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    assert await find(literal) == told.format(literal)
    zone["trap.example"] = {"A": ["5.5.5.9"], **({} if kind == "A" else {kind: [address]})}
    assert await find("d.example", zone) == ["trap.example: 5.5.5.9"]


async def test_D1_mx_named_localhost():
    zone = {"localhost": {"A": ["127.0.0.1"], "AAAA": ["::1"]}, **mx("10 localhost.", "20 mx2.isp.net.")}
    assert await find("d.example", zone) == ["mx2.isp.net: 5.5.5.3"]


async def test_D1_an_address_in_the_place_of_a_name_is_no_address():
    assert str(await find("d.example", mx("10 5.5.5.1."))).startswith("550 5.1.2")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"])
async def test_D1_what_is_nobody_s_address_is_called_by_no_setting(address):
    kind = "AAAA" if ":" in address else "A"
    zone = {"trap.example": {kind: [address]}, **mx("10 trap.example.")}
    assert str(await find("d.example", zone, allow_private=True)).startswith("550 5.4.4")


async def test_D1_private_addresses_where_they_are_allowed():
    zone = {"inner.example": {"A": ["10.0.0.5"], "AAAA": ["::1"]}, **mx("10 inner.example.")}
    assert await find("d.example", zone, allow_private=True) == ["inner.example: ::1 10.0.0.5"]


async def test_D1_an_mx_that_is_an_alias_is_tolerated():
    assert await find("d.example", mx("10 alias.isp.net.")) == ["alias.isp.net: 5.5.5.3"]


async def test_D1_aliases_in_a_circle_are_temporary():
    zone = {"a.example": {"CNAME": ["b.example."]}, "b.example": {"CNAME": ["a.example."]}}
    assert str(await find("a.example", zone)).startswith("451 4.4.3")


async def test_D1_a_chain_of_aliases_is_followed_and_where_it_ends_is_judged():
    chain: Zone = {f"a{number}.example": {"CNAME": [f"a{number + 1}.example."]} for number in range(8)}
    assert await find("d.example", {**chain, "a8.example": {"A": ["5.6.7.8"]}, **mx("10 a0.example.")}) == [
        "a0.example: 5.6.7.8"
    ]
    inside = await find("d.example", {**chain, "a8.example": {"A": ["10.0.0.5"]}, **mx("10 a0.example.")})
    assert str(inside).startswith("550 5.4.4")
    assert str(await find("d.example", {**chain, **mx("10 a0.example.")})).startswith("550 5.1.2")


async def test_D1_aliases_in_a_circle_behind_an_mx_leave_the_next_one():
    zone = {"a.example": {"CNAME": ["b.example."]}, "b.example": {"CNAME": ["a.example."]}}
    assert await find("d.example", {**zone, **mx("10 a.example.", "20 mx2.isp.net.")}) == ["mx2.isp.net: 5.5.5.3"]
    assert str(await find("d.example", {**zone, **mx("10 a.example.")})).startswith("451 4.4.3")


@pytest.mark.parametrize("literal", ["[IPv6:fe80::1%eth0]", "[IPv6:2a00::1%25eth0]", "[fe80::1]", "[IPv6:5.5.5.1]"])
async def test_D1_literals_with_a_zone_or_in_disguise_are_none(literal):
    assert str(await find(literal)).startswith("550 5.1.2")


async def test_D1_ipv6_texts_in_the_place_of_a_name():
    assert str(await find("d.example", mx("10 2a00::1."))).startswith("550 5.1.2")
    assert str(await find("d.example", mx("10 [5.5.5.1]."))).startswith("550 5.1.2")


async def test_D1_a_hundred_mx_are_bounded():
    names = [f"mx{number:02}.many.example" for number in range(100)]
    hosts = {name: {"A": [f"5.6.0.{number}"]} for number, name in enumerate(names)}
    zone = {**hosts, **mx(*(f"{number // 10} {name}." for number, name in enumerate(names)))}
    async with name_server(zone) as (resolver, server):
        found = await Exchangers(resolver, chance=last).find("d.example")
        assert server.over_tcp == 1  # too much for a datagram
        assert not isinstance(found, Nowhere)
        assert [target.host for target in found] == names[:MAX_HOSTS]
        assert sum(count for (_, kind), count in server.asked.items() if kind == "A") == MAX_HOSTS
        ours = await Exchangers(resolver, chance=last, names=[names[25]]).find("d.example")
        assert not isinstance(ours, Nowhere)
        assert {target.host for target in ours} <= set(names[:20])


# ── D3, D6, D7 ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "rdata",
    [b"", b"\x00", b"\x00\x0a", b"\x00\x0a\x03mx1", b"\x00\x0a\x03mx1\x03isp\x03net", b"\x00\x0a\x3f", b"\x00\x0a\xc0"],
    ids=["nothing", "half a preference", "no name", "a label", "no root", "a label too long", "half a pointer"],
)
async def test_D3_mx_rdata_short_by_some_octets_is_temporary(rdata):
    assert str(await find("d.example", {"d.example": {"MX": rdata, "A": ["5.6.7.8"]}})).startswith("451 4.4.3")


async def test_D3_mx_rdata_longer_than_its_name_is_temporary():
    rdata = b"\x00\x0a\x03mx1\x03isp\x03net\x00junk"
    assert str(await find("d.example", {"d.example": {"MX": rdata}})).startswith("451 4.4.3")


@pytest.mark.parametrize("failure", [SERVFAIL, REFUSED, SILENT])
async def test_D6_a_failure_at_the_domain_is_temporary_and_no_reason_for_the_implicit_mx(failure):
    told = await find("d.example", {"d.example": {"MX": failure, "A": ["5.6.7.8"]}})
    assert str(told).startswith("451 4.4.3 the mail servers of d.example can't be found now: ")


async def test_D6_no_such_domain_and_no_data_are_permanent():
    told = "550 5.1.2 {} doesn't exist, or has no mail server"
    assert await find("absent.example") == told.format("absent.example")
    assert await find("txt.example", {"txt.example": {"TXT": ['"x"']}}) == told.format("txt.example")


@pytest.mark.parametrize("host", ["broken.isp.net", "silent.isp.net"])
async def test_D6_a_failure_at_a_server_counts_only_where_no_other_is_left(host):
    assert await find("d.example", mx(f"10 {host}.", "20 mx2.isp.net.")) == ["mx2.isp.net: 5.5.5.3"]
    assert str(await find("d.example", mx(f"10 {host}."))).startswith("451 4.4.3")
    assert str(await find("d.example", mx(f"10 {host}.", "20 nobody.isp.net."))).startswith("451 4.4.3")
    assert await find("d.example", mx("10 halfbroken.isp.net.")) == ["halfbroken.isp.net: 5.5.5.5"]


async def test_D6_answers_are_kept_as_long_as_they_say_and_failures_are_not_kept_for_good():
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    zone = {**HOSTS, **mx("10 mx2.isp.net."), **mx("10 nobody.isp.net.", domain="none.example")}
    async with name_server(zone, clock=clock) as (resolver, server):
        exchangers = Exchangers(resolver, chance=last)
        for _ in range(3):
            assert not isinstance(await exchangers.find("d.example"), Nowhere)
            assert isinstance(await exchangers.find("none.example"), Nowhere)
        assert set(server.asked.values()) == {1}
        clock.now = 61
        await exchangers.find("d.example")
        await exchangers.find("none.example")
        assert set(server.asked.values()) == {2}


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),  # not fass.example, which is somebody else's
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
    ],
)
async def test_D7_u_labels_and_a_labels_are_one_domain(written, asked):
    zone = {asked: {"MX": ["10 xn--mx-xka.isp.net."]}, "xn--mx-xka.isp.net": {"A": ["5.5.5.7"]}}
    assert await find(written, zone) == ["xn--mx-xka.isp.net: 5.5.5.7"]


async def test_D7_we_are_known_by_either_spelling():
    zone = mx("10 xn--mx-gka.isp.net.")
    for name in ("mxö.isp.net", "xn--mx-gka.isp.net", "XN--MX-GKA.isp.net."):
        assert str(await find("d.example", zone, names=(name,))).startswith("554 5.4.6")
        implicit: Zone = {"xn--mx-gka.isp.net": {"A": ["5.5.5.9"]}}
        assert str(await find("MXÖ.isp.net", implicit, names=(name,))).startswith("554 5.4.6")


async def test_D7_labels_that_are_none_are_permanent():
    assert str(await find("xn--\u00fc.example")).startswith("550 5.1.2")
    assert str(await find("\u200b.example")).startswith("550 5.1.2")


# ── ourselves ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_addresses_of_this_machine():
    assert is_here(IPv4Address("127.0.0.1"))
    assert not is_here(IPv4Address("192.0.2.1"))
    assert not is_here(IPv6Address("2001:db8::1"))
