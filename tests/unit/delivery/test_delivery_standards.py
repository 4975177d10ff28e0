"""Sentences of the standards that attempts keep to, found wanting once (RFC 7672, RFC 8689, RFC 9422, XFORWARD)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
import trustme

from gatepost.content.batv import Batv
from gatepost.content.srs import Srs
from gatepost.delivery import Mx, Relay, Security
from gatepost.delivery.protector import Protector
from gatepost.delivery.sts_policies import Found as PolicyHeld
from gatepost.model import NULL_PATH, Body, Bytes, Envelope, Path, Recipient, Reply, Ticket
from gatepost.model.origin import Origin
from gatepost.net.answers import Answers, Found, NotFound, TemporaryFailure
from gatepost.net.certificates import client_context
from gatepost.net.https import Https
from gatepost.net.mta_sts import Fetcher, FetchFailed, Mode, Policy
from gatepost.store import Deposit
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    AskAgain,
    Asks,
    Closed,
    CommandDue,
    EndSession,
    GiveUp,
    Go,
    Introduction,
    JumpTo,
    LeaveOut,
    Phase,
    SendOctets,
    Step,
    Transaction,
)
from unit.delivery.delivery_peer import Peer, polite
from unit.delivery.test_delivery_attempt import DELIVERED, deliver, letter
from unit.delivery.test_delivery_mta_sts import NAMES, web
from unit.delivery.test_delivery_runner import TOKEN, House, running
from unit.delivery.tls_town import MX1, MX2, ONE, place
from unit.net.name_server import SERVFAIL


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


class Published:
    """A domain's policy, without asking for it."""

    def __init__(self, mode: Mode, *hosts: str) -> None:
        self._found = PolicyHeld(Policy(mode, hosts, 86400))

    async def find(self, domain: str) -> PolicyHeld:
        return self._found

    async def close(self) -> None: ...


AT = f"_PORT._tcp.{MX1}"


@pytest.mark.parametrize(
    ("zone", "policy", "level", "code", "told"),
    [
        ({AT: {"TLSA": SERVFAIL}}, None, Security.PUBLISHED, "451", "tlsa {} dnssec-invalid"),
        ({}, None, Security.DANE_ONLY, "451", "no-policy-found {} dane-required"),
        ({AT: {"TLSA": ["1 1 1 " + "ab" * 32]}}, None, Security.DANE_ONLY, "451", "tlsa {} tlsa-invalid"),
        ({}, Published(Mode.ENFORCE, MX2), Security.PUBLISHED, "451", "sts {} validation-failure"),
        ({}, Published(Mode.TESTING, MX2), Security.PUBLISHED, "250", "sts {} validation-failure"),
    ],
)
async def test_what_keeps_a_host_from_being_called_is_in_reports_too(
    zone: Any, policy: Any, level: Security, code: str, told: str
) -> None:
    """rfc8460#4.3: failures of a policy count, whether or not a connection came of it; rfc8461#5: on trial too."""
    policies = None if policy is None else lambda resolver: policy
    async with place(zone, scripts={ONE: polite()}, policies=policies) as here:
        assert (await here.send(tls=level))[:3] == code
        assert here.told.words == [f"d.example {told.format(MX1)}"]


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


CLIENT = Origin(ip_address("203.0.113.9"), 4711, "ESMTP", "spike.example", "dns.example")


async def test_nobody_is_introduced_in_the_middle_of_a_transaction() -> None:
    """XFORWARD_README: not between MAIL and RSET or the dot; Postfix would answer 503, and not know the client."""
    script = polite(("RCPT", "550 5.1.1 who?"), ("XFORWARD*", "250 noted"), offers="XFORWARD ADDR")
    async with Peer(script) as peer:
        one = replace(letter(), origin=CLIENT)
        hop = Relay((peer.host,), introduce=Introduction.XFORWARD)
        assert await deliver(hop, one, one) == [[(550, Phase.RECIPIENT)], [DELIVERED]]
        verbs = [line.split()[0] for line in peer.heard[0]]
        assert verbs == ["EHLO", "XFORWARD", "MAIL", "RCPT", "RSET", "XFORWARD", "MAIL", "RCPT", "DATA", ".", "QUIT"]


FAILURE = Reply(451, "4.3.0", "no")
STEPS: list[Step] = [
    Go(), Go("NOOP"), LeaveOut(), AskAgain(), SendOctets(b"NOOP\r\n"), JumpTo(Phase.SENDER), JumpTo(Phase.QUIT),
    GiveUp(FAILURE), EndSession(FAILURE),
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=repr)
def test_whatever_is_said_of_that_RSET_the_session_goes_on_or_ends(step: Step) -> None:
    client = Client("me.example", asks=Asks(commands=frozenset({Phase.RESET})))
    client.receive(b"220 hi\r\n")
    heard = talk(client)
    client.send(Transaction(Path.parse("a@b.example"), (Recipient(Path.parse("x@y.example")),), 0))
    heard += talk(client)
    assert client.introduce({"ADDR": "203.0.113.9"})
    heard += talk(client, step)
    assert client.state.name in ("IDLE", "CLOSED")
    assert (heard[-1] == "XFORWARD") == client.is_idle
    assert heard[-1] in ("XFORWARD", "QUIT")


def talk(client: Client, step: Step | None = None) -> list[str]:
    """A server that refuses recipients; the verbs it hears. `step` answers the first question, Go the others."""
    heard: list[str] = []
    while True:
        event = client.next_event()
        if isinstance(event, CommandDue):
            client.go(step or Go())
            step = None
        lines = client.data_to_send().splitlines()
        for line in lines:
            verb = line.split()[0].decode()
            heard.append(verb)
            answers = {"EHLO": b"250-hi\r\n250 XFORWARD ADDR\r\n", "RCPT": b"550 no\r\n", "QUIT": b"221 bye\r\n"}
            client.receive(answers.get(verb, b"250 ok\r\n"))
        if isinstance(event, Closed) or (event is NEED_DATA and not lines):
            return heard


@pytest.mark.parametrize(
    "where", ["/other", "https://mta-sts.d.example:{port}/other", "https://127.0.0.1:{port}/other"]
)
async def test_a_redirect_of_a_policy_is_never_followed(where: str) -> None:
    """rfc8461#3.3; whoever is named there would be asked, and could be anybody inside."""
    authority = trustme.CA()
    async with web(authority.issue_cert("mta-sts.d.example", "127.0.0.1")) as here:
        place = where.format(port=here.port)
        here.answer = (
            f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()
        )
        context = client_context(verify=True)
        authority.configure_trust(context)
        https = Https(NAMES, lambda: context, port=here.port, allow_private=True, timeout_s=5)
        with pytest.raises(FetchFailed):
            await Fetcher(https).fetch("d.example")
        assert len(here.asked) == 1


def test_the_null_sender_has_no_return_path_of_ours() -> None:
    """rfc5321#4.5.5: a report stays one that nobody answers."""
    assert Srs("own.example", (b"a secret",)).forward(NULL_PATH, 1_795_500_000) is None
    assert Batv((b"a secret",)).sign(NULL_PATH, 1_795_500_000) is None
