"""The next server is told for whom a message is sent: XFORWARD before each, XCLIENT before each client's first."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.delivery import Relay
from gatepost.delivery.attempt import Letter
from gatepost.delivery.introducing import origin_in
from gatepost.model.origin import Origin
from gatepost.wire.smtp.client_events import Introduction, Phase
from unit.delivery.delivery_peer import DROP, Peer, polite
from unit.delivery.test_delivery_attempt import DELIVERED, deliver, letter

ANN = Origin(ip_address("203.0.113.9"), 4711, "ESMTP", "spike.example", "dns.example", "ann@b.example")
BOB = Origin(ip_address("2001:db8::1"), helo="b=b+c")
ALL = "PIPELINING,XCLIENT NAME ADDR PORT PROTO HELO LOGIN,XFORWARD NAME ADDR PORT PROTO HELO SOURCE"
AS_ANN = "XCLIENT NAME=dns.example ADDR=203.0.113.9 PORT=4711 PROTO=ESMTP HELO=spike.example LOGIN=ann@b.example"
AS_BOB = (
    "XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=[UNAVAILABLE] PROTO=ESMTP HELO=b+3Db+2Bc LOGIN=[UNAVAILABLE]"
)


def of(origin: Origin | None) -> Letter:
    return replace(letter(), origin=origin)


def hop(peer: Peer, by: Introduction) -> Relay:
    return Relay((peer.host,), introduce=by)


def said(peer: Peer) -> list[list[str]]:
    """What each connection heard but for what every message says."""
    return [[line for line in one if line.startswith(("XC", "XF", "EHLO", "MAIL"))] for one in peer.heard]


MAIL = "MAIL FROM:<a@b.example>"
EHLO = "EHLO me.example"
EHLO_ANN, EHLO_BOB = "EHLO spike.example", "EHLO b=b+c"


async def test_xforward_comes_before_each_message() -> None:
    async with Peer(polite(("XFORWARD*", "250 noted"), offers=ALL)) as peer:
        letters = of(ANN), of(ANN), of(None), of(BOB)
        assert await deliver(hop(peer, Introduction.XFORWARD), *letters) == [[DELIVERED]] * 4
        ann = "XFORWARD NAME=dns.example ADDR=203.0.113.9 PORT=4711 PROTO=ESMTP HELO=spike.example SOURCE=REMOTE"
        bob = (
            "XFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=[UNAVAILABLE] PROTO=ESMTP HELO=b+3Db+2Bc "
            "SOURCE=REMOTE"
        )
        assert said(peer) == [[EHLO, ann, MAIL, ann, MAIL, MAIL, bob, MAIL]]


async def test_only_what_the_server_wants_to_know_is_said() -> None:
    async with Peer(polite(("XFORWARD*", "250 noted"), offers="XFORWARD ADDR HELO")) as peer:
        assert await deliver(hop(peer, Introduction.XFORWARD), of(ANN)) == [[DELIVERED]]
        assert said(peer) == [[EHLO, "XFORWARD ADDR=203.0.113.9 HELO=spike.example", MAIL]]


@pytest.mark.parametrize("by", Introduction)
async def test_nothing_is_said_where_it_isnt_offered(by: Introduction) -> None:
    async with Peer(polite()) as peer:
        assert await deliver(hop(peer, by), of(ANN)) == [[DELIVERED]]
        assert said(peer) == [[EHLO, MAIL]]


async def test_a_refused_xforward_changes_nothing() -> None:
    async with Peer(polite(("XFORWARD*", "501 no"), offers=ALL)) as peer:
        assert await deliver(hop(peer, Introduction.XFORWARD), of(ANN)) == [[DELIVERED]]


async def test_a_session_that_was_introduced_by_xclient_is_that_clients() -> None:
    async with Peer(polite(("XCLIENT*", "220 hi"), offers=ALL)) as peer:
        letters = of(ANN), of(ANN), of(BOB)
        assert await deliver(hop(peer, Introduction.XCLIENT), *letters) == [[DELIVERED]] * 3
        assert said(peer) == [[EHLO, AS_ANN, EHLO_ANN, MAIL, MAIL], [EHLO, AS_BOB, EHLO_BOB, MAIL]]


async def test_mail_of_nobody_never_goes_as_a_client() -> None:
    async with Peer(polite(("XCLIENT*", "220 hi"), offers=ALL)) as peer:
        letters = of(ANN), of(None), of(None)
        assert await deliver(hop(peer, Introduction.XCLIENT), *letters) == [[DELIVERED]] * 3
        assert said(peer) == [[EHLO, AS_ANN, EHLO_ANN, MAIL], [EHLO, MAIL, MAIL]]


@pytest.mark.parametrize(
    ("answer", "code"), [("554 5.7.1 not this one", 554), ("421 too many", 451), ("501 5.5.4 what?", 451)]
)
async def test_a_refused_xclient_is_the_clients_refusal_and_ends_the_session(answer: str, code: int) -> None:
    async with Peer(polite(("XCLIENT*", answer), offers=ALL), polite(("XCLIENT*", "220 hi"), offers=ALL)) as peer:
        first, second = await deliver(hop(peer, Introduction.XCLIENT), of(ANN), of(BOB))
        assert first == [(code, Phase.INTRODUCTION)]
        assert second == [DELIVERED]
        assert said(peer) == [[EHLO, AS_ANN], [EHLO, AS_BOB, EHLO_BOB, MAIL]]


async def test_a_new_session_that_is_lost_then_is_a_reason_to_come_back() -> None:
    async with Peer(polite(("XCLIENT*", DROP), offers=ALL)) as peer:
        assert await deliver(hop(peer, Introduction.XCLIENT), of(ANN)) == [[(451, Phase.INTRODUCTION)]]


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)


@given(address=st.ip_addresses(), port=st.integers(0, 65535), helo=WORDS, name=WORDS, login=st.text(max_size=20))
def test_what_a_deposit_keeps_is_read_back(address: object, port: int, helo: str, name: str, login: str) -> None:
    origin = Origin(address, port, "LMTP", helo, name, login)  # type: ignore[arg-type]
    assert origin_in({"origin": origin.fact()}, login) == origin


@pytest.mark.parametrize("fact", ["", "x", "1.2.3.4 x ESMTP  ", "1.2.3.4 1 ESMTP a b c", "1.2.3.999 1 ESMTP a b"])
def test_what_isnt_an_origin_is_none(fact: str) -> None:
    assert origin_in({"origin": fact}, None) is None
    assert origin_in({}, None) is None
