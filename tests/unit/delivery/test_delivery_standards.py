"""Sentences of the standards that whole attempts keep to, found wanting once (RFC 7672, RFC 8689, RFC 9422)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from gatepost.delivery import Mx, Relay, Security
from gatepost.delivery.protector import Protector
from gatepost.model import Body, Bytes, Envelope, Path, Recipient, Ticket
from gatepost.net.answers import Answers, Found, NotFound, TemporaryFailure
from gatepost.store import Deposit
from unit.delivery.delivery_peer import Peer, polite
from unit.delivery.test_delivery_attempt import DELIVERED, deliver, letter
from unit.delivery.test_delivery_runner import TOKEN, House, running
from unit.delivery.tls_town import place


class Names(Answers):
    """A signed domain with one mail server, some of whose records nobody can find now."""

    def __init__(self, *lost: str) -> None:
        self._lost = lost

    async def find(self, name: str, kind: str) -> Found:
        if kind in self._lost:
            raise TemporaryFailure("SERVFAIL")
        records = {"MX": "10 mx.d.example", "A": "192.0.2.7"}
        if kind not in records:
            raise NotFound(f"{name} has no {kind}")
        return Found((records[kind],), is_secure=True, name=name)


@pytest.mark.parametrize("lost", [["MX"], ["A", "AAAA"], ["TLSA"]])
@pytest.mark.parametrize("level", [Security.PUBLISHED, Security.DANE, Security.DANE_ONLY])
async def test_what_cant_be_looked_up_now_is_never_taken_for_unpublished(lost: list[str], level: Security) -> None:
    """rfc7672#2.1: an error is no answer; whoever drops answers would switch DANE off. The records were there when the
    host was planned, and have run out of the cache since.
    """
    mx, planned = Mx("d.example", 25, level), [("mx.d.example", IPv4Address("192.0.2.7"))]
    hosts = await Protector(Names(*lost)).by_mx(mx, planned, Bytes(b""), requiretls=False)
    assert isinstance(hosts, tuple)
    assert hosts[0].protection is not None
    assert "can't be told now" in hosts[0].protection.refusal


async def test_one_family_of_addresses_that_answers_is_enough() -> None:
    mx, planned = Mx("d.example", 25, Security.PUBLISHED), [("mx.d.example", IPv4Address("192.0.2.7"))]
    hosts = await Protector(Names("AAAA")).by_mx(mx, planned, Bytes(b""), requiretls=False)
    assert isinstance(hosts, tuple)
    assert hosts[0].protection is not None
    assert not hosts[0].protection.refusal


async def test_REQUIRETLS_that_nothing_can_ever_meet_is_told_at_the_first_attempt() -> None:
    """rfc8689#4.2.1: the sender hears of it by a report, with 5.7.30."""
    async with place({}, secure=()) as here, running(House(destinations=here.destinations)) as house:
        house.route("*@d.example", Mx("d.example", here.port, Security.PUBLISHED, allow_private=True))
        people = (Recipient(Path.parse("ann@d.example")),)
        envelope = Envelope(Path.parse("a@own.example"), people, Body.SEVEN_BIT, False, {"REQUIRETLS": ""})
        await house.spool.commit([Deposit(Ticket(TOKEN, 7), envelope, Bytes(b"Subject: x\r\n\r\n"), house.now)])
        assert (await house.hears(1))[0] == "bounced ann@d.example 550 sender"


@pytest.mark.parametrize("limit", [1, 2])
async def test_U1_limits_rcptdomainmax_divides_the_recipients(limit: int) -> None:
    """rfc9422#4: no transaction has recipients of more domains than the server takes at once."""
    addresses = ["a@one.example", "b@two.example", "c@ONE.example", "d@three.example", "e@two.example"]
    async with Peer(polite(offers=f"PIPELINING,LIMITS RCPTDOMAINMAX={limit}")) as peer:
        assert await deliver(Relay((peer.host,)), letter(*addresses)) == [[DELIVERED] * 5]
        assert peer.heard[0].count("DATA") == (3 if limit == 1 else 2)
        domains: set[str] = set()
        for line in peer.heard[0]:
            if line.startswith("MAIL"):
                domains = set()
            if line.startswith("RCPT"):
                domains.add(line.partition("@")[2].lower())
                assert len(domains) <= limit
