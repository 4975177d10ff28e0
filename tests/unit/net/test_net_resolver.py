"""The resolver against a name server of our own over UDP, and the one that answers from a dictionary."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from gatepost.net.resolver import (
    Exchange,
    NotFound,
    Resolver,
    ResolverError,
    Resolving,
    StaticResolver,
    TemporaryFailure,
)
from unit.net.name_server import name_server

ZONE = {
    ("mx.example.org.", "A"): ["192.0.2.1"],
    ("mx.example.org.", "AAAA"): ["2001:db8::1"],
    ("four.example.org.", "A"): ["192.0.2.4"],
    ("alias.example.org.", "CNAME"): ["four.example.org."],
    ("example.org.", "MX"): ["20 Backup.example.org.", "10 mx.example.org."],
    ("example.org.", "TXT"): ['"v=spf1 " "mx -all"', '"other"'],
    ("null.example.org.", "MX"): ["0 ."],
    ("1.2.0.192.in-addr.arpa.", "PTR"): ["liar.example.", "MX.example.org."],
    ("4.2.0.192.in-addr.arpa.", "PTR"): ["mx.example.org."],
    ("5.2.0.192.in-addr.arpa.", "PTR"): ["broken.example."],
}
SOA = "ns.example.org. admin.example.org. 1 2 3 4 300"


class Server(asyncio.DatagramProtocol):
    """A name server with one zone; `broken.example` fails, `silent.example` gets no answer. Notes the questions."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        query = dns.message.from_wire(data)
        name, kind = query.question[0].name.to_text().lower(), dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked.append((name, kind))
        if name != "silent.example.":
            self.transport.sendto(self._answer(query, name, kind).to_wire(), address)

    def _answer(self, query: dns.message.Message, name: str, kind: str) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if name == "broken.example.":
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer
        if alias := ZONE.get((name, "CNAME")):
            answer.answer.append(dns.rrset.from_text(name, 50, "IN", "CNAME", *alias))
            name = alias[0]
        if records := ZONE.get((name, kind)):
            answer.answer.append(dns.rrset.from_text(name, 100, "IN", kind, *records))
        else:
            if not any(owner == name for owner, _ in ZONE):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            answer.authority.append(dns.rrset.from_text("example.org.", 200, "IN", "SOA", SOA))
        return answer


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def serving() -> Callable[..., Any]:
    """`async with serving() as (resolver, server, clock)`."""

    @asynccontextmanager
    async def made(**options: Any):
        clock = Clock()
        transport, server = await asyncio.get_running_loop().create_datagram_endpoint(Server, ("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        settings = {"nameservers": ["127.0.0.1"], "port": port, "timeout_s": 0.2, "lifetime_s": 0.5, **options}
        resolver = Resolver(clock=clock, **settings)
        try:
            yield resolver, server, clock
        finally:
            await resolver.close()
            transport.close()

    return made


async def test_addresses_of_both_families(serving):
    async with serving() as (resolver, _, _):
        assert set(await resolver.addresses("MX.example.org.")) == {ip_address("192.0.2.1"), ip_address("2001:db8::1")}
        assert await resolver.addresses("four.example.org") == (ip_address("192.0.2.4"),)


async def test_mx_best_first_and_null_mx(serving):
    async with serving() as (resolver, _, _):
        assert await resolver.mx("example.org") == (Exchange(10, "mx.example.org"), Exchange(20, "backup.example.org"))
        assert await resolver.mx("null.example.org") == (Exchange(0, ""),)


async def test_txt_strings_are_joined(serving):
    async with serving() as (resolver, _, _):
        assert set(await resolver.txt("example.org")) == {"v=spf1 mx -all", "other"}


async def test_reverse_is_confirmed_forward(serving):
    async with serving() as (resolver, _, _):
        assert await resolver.reverse(ip_address("192.0.2.1")) == "mx.example.org"
        assert await resolver.reverse(ip_address("192.0.2.4")) is None  # its name points elsewhere
        assert await resolver.reverse(ip_address("192.0.2.9")) is None
        with pytest.raises(TemporaryFailure):
            await resolver.reverse(ip_address("192.0.2.5"))


@pytest.mark.parametrize(
    "name", ["absent.example.org", "a..b", "a" * 64 + ".example", "x" * 300, ".".join(["abcdefgh"] * 40)]
)
async def test_D6_no_such_name_is_permanent(serving, name):
    async with serving() as (resolver, _, _):
        with pytest.raises(NotFound):
            await resolver.addresses(name)


async def test_D6_a_name_without_such_records_is_permanent(serving):
    async with serving() as (resolver, _, _):
        with pytest.raises(NotFound, match="no TXT record"):
            await resolver.txt("mx.example.org")


@pytest.mark.parametrize("name", ["broken.example", "silent.example"])
async def test_D6_servfail_and_silence_are_temporary(serving, name):
    async with serving() as (resolver, _, _):
        with pytest.raises(TemporaryFailure, match=name):
            await resolver.mx(name)


async def test_answers_are_kept_for_their_time(serving):
    async with serving() as (resolver, server, clock):
        for now, asked in ((0, 1), (99, 1), (101, 2)):
            clock.now = now
            await resolver.mx("example.org")
            assert len(server.asked) == asked


async def test_an_alias_shortens_the_time(serving):
    async with serving() as (resolver, server, clock):
        for now, asked in ((0, 2), (49, 2), (51, 3)):  # the alias has 50 s; that it has no AAAA holds for 200
            clock.now = now
            assert await resolver.addresses("alias.example.org") == (ip_address("192.0.2.4"),)
            assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("name", "keep"), [("absent.example.org", 200), ("mx.example.org", 200), ("broken.example", 5)]
)
async def test_that_there_is_none_is_kept_too(serving, name, keep):
    async with serving(timeout_s=1.0) as (resolver, server, clock):
        counts = []
        for now in (0, keep - 1, keep + 1):
            clock.now = now
            with pytest.raises(ResolverError):
                await resolver.txt(name)
            counts.append(len(server.asked))
        assert counts[0] == counts[1] < counts[2]


async def test_the_same_question_is_in_flight_once(serving):
    async with serving() as (resolver, server, _):
        answers = await asyncio.gather(*(resolver.mx("example.org") for _ in range(50)))
        assert len(set(answers)) == 1
        assert len(server.asked) == 1


async def test_who_gives_up_does_not_take_the_answer_from_others(serving):
    async with serving() as (resolver, server, _):
        first, second = (asyncio.ensure_future(resolver.mx("example.org")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert len(await second) == 2
        assert first.cancelled()
        assert len(server.asked) == 1


async def test_the_cache_is_bounded(serving):
    async with serving(size=3) as (resolver, server, _):
        for number in (1, 2, 3, 1, 4, 1, 2):  # 4 throws out 2, which is the one not used for longest
            with pytest.raises(NotFound):
                await resolver.txt(f"n{number}.example.org")
        assert [name[:2] for name, _ in server.asked] == ["n1", "n2", "n3", "n4", "n2"]
        assert len(resolver._known) == 3


async def test_an_answer_that_says_it_holds_for_no_time_serves_this_moment():
    async with name_server({"a.example": {"A": ["192.0.2.1"]}}) as (resolver, server):
        server.ttl = 0
        for _ in range(3):
            await resolver.addresses("a.example")
        assert server.asked["a.example", "A"] == 1


async def test_an_answer_of_any_size_is_given_and_only_small_ones_are_kept():
    zone = {"large.example": {"TXT": [f'"{number:03}{"x" * 250}"' for number in range(100)]}}
    async with name_server(zone) as (resolver, server):
        for _ in range(2):
            assert len(await resolver.txt("large.example")) == 100
        assert server.asked["large.example", "TXT"] == 4  # by UDP and TCP each time
        assert not resolver._known


async def test_the_next_name_server_where_one_does_not_answer():
    async with name_server({"a.example": {"A": ["192.0.2.1"]}}) as (_, server):
        servers = [("127.0.0.99", 1), ("127.0.0.1", server.port)]
        resolver = Resolver(nameservers=servers, timeout_s=0.2, lifetime_s=5)
        assert await resolver.addresses("a.example") == (ip_address("192.0.2.1"),)
        await resolver.close()


async def test_nothing_is_kept_where_nothing_may_be():
    async with name_server({"a.example": {"A": ["192.0.2.1"]}}, size=0) as (resolver, server):
        for _ in range(2):
            await resolver.addresses("a.example")
        assert server.asked["a.example", "A"] == 2


async def test_closing_answers_who_waits(serving):
    async with serving(lifetime_s=30, timeout_s=30) as (resolver, server, _):
        waiting = asyncio.ensure_future(resolver.mx("silent.example"))
        while not server.asked:
            await asyncio.sleep(0)
        await resolver.close()
        with pytest.raises(TemporaryFailure, match="closing"):
            await waiting


def test_the_library_is_loaded_by_the_first_question_only():
    code = "import sys, gatepost.net.resolver as names; names.Resolver(); assert 'dns' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_static_answers():
    resolver: Resolving = StaticResolver(
        {
            "mx.example.org": ["192.0.2.1", "2001:db8::1"],
            "Example.org.": {"MX": ["20 b.example.org", "10 mx.example.org."], "TXT": "v=spf1 -all", "A": "192.0.2.7"},
            "192.0.2.1": "mx.example.org",
            "192.0.2.2": {"PTR": ["mx.example.org"]},
            "slow.example": "SERVFAIL",
            "half.example": {"A": "192.0.2.3", "MX": "SERVFAIL"},
        }
    )
    assert await resolver.addresses("MX.example.org") == (ip_address("192.0.2.1"), ip_address("2001:db8::1"))
    assert await resolver.mx("example.org") == (Exchange(10, "mx.example.org"), Exchange(20, "b.example.org"))
    assert await resolver.txt("example.org") == ("v=spf1 -all",)
    assert await resolver.reverse(ip_address("192.0.2.1")) == "mx.example.org"
    assert await resolver.reverse(ip_address("192.0.2.2")) is None
    assert await resolver.addresses("half.example") == (ip_address("192.0.2.3"),)
    failing: list[tuple[Callable[[str], Awaitable[object]], str, type[ResolverError]]] = [
        (resolver.addresses, "slow.example", TemporaryFailure),
        (resolver.mx, "half.example", TemporaryFailure),
        (resolver.txt, "half.example", NotFound),
        (resolver.addresses, "absent.example", NotFound),
    ]
    for question, name, error in failing:
        with pytest.raises(error, match=name):
            await question(name)
