"""Mail by MX, from a question to a name server on loopback to scripted servers at addresses of loopback."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trustme
from aiosmtpd.controller import UnthreadedController
from aiosmtpd.handlers import Mailbox

from gatepost.delivery import Contexts, Destinations, Dialer, Maildir, Mx, Route, Routes, Security, Timeouts
from gatepost.delivery.attempt import Answered, Letter
from gatepost.model import Bytes, Path, Recipient
from gatepost.net.certificates import client_context
from gatepost.net.mx import Exchangers
from gatepost.wire.smtp.client_events import Phase
from unit.delivery.delivery_peer import DROP, HANG, TLS, Peer, Script, polite
from unit.delivery.test_delivery_runner import House, running
from unit.net.name_server import SERVFAIL, NameServer, Zone, name_server

CONTENT = Bytes(b"Subject: x\r\n\r\nhello\r\n")
ONE, TWO, THREE = "127.0.0.11", "127.0.0.12", "127.0.0.13"
ZONE: Zone = {
    "one.isp.example": {"A": [ONE]},
    "two.isp.example": {"A": [TWO]},
    "three.isp.example": {"A": [THREE]},
    "d.example": {"MX": ["10 one.isp.example.", "20 two.isp.example.", "30 three.isp.example."]},
    "e.example": {"MX": ["5 one.isp.example."]},
    "null.example": {"MX": ["0 ."]},
    "broken.example": {"MX": SERVFAIL},
    "down.example": {"MX": ["10 nobody.isp.example."]},
    "nobody.isp.example": {"A": ["127.0.0.99"]},
}


class Town:
    """Servers at different addresses on one port, and destinations that find them."""

    def __init__(self, port: int, peers: dict[str, Peer], names: NameServer) -> None:
        self.port, self.peers, self.names = port, peers, names
        self.destinations: Destinations

    async def deliver(self, *recipients: str, **how: object) -> list[Answered]:
        [domain] = {recipient.rpartition("@")[2] for recipient in recipients}
        mx = Mx(domain, self.port, allow_private=True, **how)  # type: ignore[arg-type]
        people = tuple(Recipient(Path.parse(recipient)) for recipient in recipients)
        return await self.destinations.deliver(mx, Letter(Path.parse("a@b.example"), people, CONTENT))


@asynccontextmanager
async def town(
    scripts: dict[str, Script],
    zone: Zone | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    contexts: Contexts | None = None,
    **how: object,
) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        peers: dict[str, Peer] = {}
        port = 0
        for address, script in scripts.items():
            peers[address] = await stack.enter_async_context(Peer(script, tls=tls, at=address, port=port))
            port = peers[address].port
        resolver, names = await stack.enter_async_context(name_server({**ZONE, **(zone or {})}))
        made = Town(port, peers, names)
        timeouts = Timeouts(connect=2, greeting=0.5, command=0.5, data=0.5, block=0.5, end=0.5)
        made.destinations = Destinations(
            Dialer("me.example", timeouts=timeouts, contexts=contexts),
            exchangers=Exchangers(resolver, chance=lambda: 0.999, names=["me.example"]),
            **how,  # type: ignore[arg-type]
        )
        try:
            yield made
        finally:
            await made.destinations.close()


def short(answers: list[Answered]) -> list[str]:
    return [f"{answer.outcome.reply.code} {answer.outcome.phase.value} {answer.host}" for answer in answers]


async def test_the_best_server_takes_it_and_recipients_share_a_transaction():
    async with town({ONE: polite(), TWO: polite()}) as here:
        answers = await here.deliver("ann@d.example", "bob@d.example")
        assert short(answers) == [f"250 end of data one.isp.example[{ONE}]:{here.port}"] * 2
        assert here.peers[ONE].heard[0][1:5] == [
            "MAIL FROM:<a@b.example>",
            "RCPT TO:<ann@d.example>",
            "RCPT TO:<bob@d.example>",
            "DATA",
        ]
        assert here.peers[TWO].heard == []


UNWELCOMING = [
    [("(connected)", "421 4.3.2 too busy")],
    [("(connected)", "451 4.7.1 greylisted")],
    [("(connected)", "554 5.7.1 not you")],
    [("(connected)", HANG)],
    [("(connected)", DROP)],
    polite(("EHLO me", "421 4.3.2 not now"), ("HELO me", "421 4.3.2 not now")),
    polite(("EHLO me", DROP)),
]


@pytest.mark.parametrize("script", UNWELCOMING, ids=["421", "451", "554", "silent", "drop", "ehlo 421", "ehlo drop"])
async def test_the_next_server_where_the_best_does_not_get_as_far_as_mail(script):
    async with town({ONE: script, TWO: polite()}) as here:
        assert short(await here.deliver("x@d.example")) == [f"250 end of data two.isp.example[{TWO}]:{here.port}"]


async def test_the_next_address_and_the_next_server_where_nobody_listens():
    zone = {"d.example": {"MX": ["10 many.isp.example.", "20 two.isp.example."]}}
    zone["many.isp.example"] = {"A": ["127.0.0.98", "127.0.0.99"], "AAAA": ["::1"]}
    async with town({TWO: polite()}, zone) as here:
        assert short(await here.deliver("x@d.example")) == [f"250 end of data two.isp.example[{TWO}]:{here.port}"]


async def test_greylisted_by_one_and_taken_by_the_next_but_a_third_is_not_asked():
    later = polite(("RCPT", "450 4.7.1 greylisted"), ("RCPT", "450 4.7.1 greylisted"))
    async with town({ONE: later, TWO: polite()}) as here:
        assert short(await here.deliver("x@d.example")) == [f"250 end of data two.isp.example[{TWO}]:{here.port}"]
    async with town({ONE: later, TWO: later, THREE: polite()}) as here:
        assert short(await here.deliver("x@d.example")) == [f"450 recipient two.isp.example[{TWO}]:{here.port}"]
        assert here.peers[THREE].heard == []


async def test_what_a_server_said_is_not_forgotten_because_the_next_is_silent():
    later = polite(("RCPT", "450 4.7.1 greylisted"))
    async with town({ONE: later}) as here:
        assert short(await here.deliver("x@d.example")) == [f"450 recipient one.isp.example[{ONE}]:{here.port}"]


async def test_a_refusal_for_good_is_one_and_a_lost_end_is_no_reason_for_a_second_copy():
    async with town({ONE: polite(("RCPT", "550 5.1.1 who?")), TWO: polite()}) as here:
        assert short(await here.deliver("x@d.example")) == [f"550 recipient one.isp.example[{ONE}]:{here.port}"]
    async with town({ONE: polite((".", DROP)), TWO: polite()}) as here:
        assert short(await here.deliver("x@d.example")) == [f"451 end of data one.isp.example[{ONE}]:{here.port}"]
        assert here.peers[TWO].heard == []


async def test_attempts_are_bounded():
    zone = {"many.example": {"MX": [f"{n} h{n}.example." for n in range(16)]}}
    zone |= {f"h{n}.example": {"A": [f"127.0.1.{n + 1}"]} for n in range(16)}
    async with town({"127.0.1.16": polite()}, zone) as here:
        [answer] = await here.deliver("x@many.example")
        assert answer.outcome.phase is Phase.CONNECT
        assert str(answer.host) == f"h9.example[127.0.1.10]:{here.port}"


@pytest.mark.parametrize(
    ("domain", "told"),
    [
        ("null.example", "556 5.1.10"),  # D1
        ("absent.example", "550 5.1.2"),  # D6
        ("broken.example", "451 4.4.3"),  # D6
        ("me.example", "554 5.4.6"),
    ],
)
async def test_D1_D6_what_the_dns_says_is_the_recipients_answer(domain, told):
    async with town({ONE: polite()}, {"me.example": {"A": [ONE]}}) as here:
        [answer] = await here.deliver(f"x@{domain}")
        assert str(answer.outcome.reply).startswith(told)
        assert (answer.outcome.is_ours, answer.host) == (True, None)
        assert here.peers[ONE].heard == []


async def test_D1_no_server_inside_is_called_unless_that_is_allowed():
    async with town({ONE: polite()}) as here:
        letter = Letter(Path.parse("a@b.example"), (Recipient(Path.parse(f"x@[{ONE}]")),), CONTENT)
        for domain in ("d.example", f"[{ONE}]"):
            [answer] = await here.destinations.deliver(Mx(domain, here.port), letter)
            assert str(answer.outcome.reply).startswith("550 5.4.4")
        assert here.peers[ONE].heard == []
        assert short(await here.deliver(f"x@[{ONE}]")) == [f"250 end of data {ONE}:{here.port}"]


async def test_domains_at_one_server_share_its_session_and_its_line():
    async with town({ONE: polite()}, concurrency=1) as here:
        domains = ["d.example", "e.example"] * 3
        answers = await asyncio.gather(*(here.deliver(f"x@{domain}") for domain in domains))
        assert {one for each in answers for one in short(each)} == {
            f"250 end of data one.isp.example[{ONE}]:{here.port}"
        }
        assert len(here.peers[ONE].heard) == 1


async def test_who_stood_in_line_for_a_silent_server_goes_on_to_the_next():
    async with town({ONE: [("(connected)", HANG)], TWO: polite()}, concurrency=1) as here:
        answers = await asyncio.gather(*(here.deliver("x@d.example") for _ in range(5)))
        assert {one for each in answers for one in short(each)} == {
            f"250 end of data two.isp.example[{TWO}]:{here.port}"
        }
        assert len(here.peers[ONE].heard) == 1


async def test_destinations_are_forgotten_with_their_last_session():
    async with town({ONE: polite()}, kept_s=0.01) as here:
        await here.deliver("x@d.example")
        await here.deliver("x@down.example")
        await here.peers[ONE].until(lambda: "QUIT" in here.peers[ONE].heard[0])
        assert not here.destinations._known


async def test_opportunistic_tls_to_the_name_of_the_server():
    ca = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("one.isp.example").configure_cert(server)
    trusting = client_context(verify=True)
    ca.configure_trust(trusting)
    offering = polite(("STARTTLS", TLS), offers="PIPELINING,STARTTLS")
    contexts = Contexts(client_context(verify=False), trusting)
    async with town({ONE: offering, TWO: offering}, tls=server, contexts=contexts) as here:
        for security in (Security.STARTTLS, Security.REQUIRED):
            assert short(await here.deliver("x@d.example", tls=security)) == [
                f"250 end of data one.isp.example[{ONE}]:{here.port}"
            ]
        assert here.peers[ONE].under_tls == [True, True]
    async with town({ONE: polite()}, contexts=contexts) as here:  # not offered
        assert short(await here.deliver("x@e.example")) == [f"250 end of data one.isp.example[{ONE}]:{here.port}"]
        assert short(await here.deliver("x@e.example", tls=Security.REQUIRED)) == [
            f"451 tls one.isp.example[{ONE}]:{here.port}"
        ]


# ── routes, and the runner around it ───────────────────────────────────────────────────────────────────────────────


def test_D7_a_route_by_mx_leads_to_the_recipients_own_domain():
    routes = Routes([Route(("*@here.example",), Maildir()), Route(("*",), Mx(port=2525))])
    for written in ("x@bücher.example", "x@xn--bcher-kva.example", "x@XN--BCHER-KVA.EXAMPLE"):
        found = routes.find(Path.parse(written))
        assert found is not None
        assert found.action == Mx("xn--bcher-kva.example", 2525)
    here = routes.find(Path.parse("x@here.example"))
    assert here is not None
    assert here.action == Maildir()


async def test_one_message_to_many_domains_into_aiosmtpd(tmp_path):
    mailbox = Mailbox(f"{tmp_path}/mail")
    controller = UnthreadedController(mailbox, hostname=ONE, port=0, loop=asyncio.get_running_loop())
    server = await controller._create_server()
    port = server.sockets[0].getsockname()[1]
    try:
        async with name_server(ZONE) as (resolver, _):
            exchangers = Exchangers(resolver, chance=lambda: 0.0)
            house = House(destinations=Destinations(Dialer("me.example"), exchangers=exchangers))
            async with running(house):
                house.route("*", Mx(port=port, allow_private=True))
                to = ["ann@d.example", "bob@d.example", "eve@e.example", "x@null.example", "y@broken.example"]
                await house.accept(*to)
                assert await house.hears(5) == [
                    "bounced x@null.example 556 sender",
                    "deferred y@broken.example 451 1300",
                    *(f"delivered {one} 250" for one in to[:3]),
                ]
                at = f"one.isp.example[{ONE}]:{port}"
                assert house.told.hosts == {**dict.fromkeys(to[:3], at), "x@null.example": "", "y@broken.example": ""}
    finally:
        server.close()
        await server.wait_closed()
    assert sorted(message["X-RcptTo"] for message in mailbox.mailbox) == [
        "ann@d.example, bob@d.example",
        "eve@e.example",
    ]
