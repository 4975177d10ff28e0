"""`deliver = "mx"` from the settings to the wire: defaults, the postmaster's mail, loops, and what explain tells."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Mapping
from ipaddress import ip_address

import pytest

from gatepost import Server
from gatepost.app.gates import delivery_routes
from gatepost.app.ourselves import comes_back
from gatepost.app.settings import Settings
from gatepost.delivery import Maildir, Mx, Security
from gatepost.delivery.route import Calling
from gatepost.model import Path
from unit.delivery.delivery_peer import Peer, polite
from unit.net.name_server import Zone, name_server


def test_a_route_by_mx_is_for_authenticated_users_unless_it_says_otherwise() -> None:
    settings = Settings.in_memory(
        route=[
            {"match": "*@partner.example", "deliver": {"by": "mx", "tls": "required", "helo": "out.example.org"}},
            {"match": "*@backup.example", "deliver": "mx", "for": "anyone"},
            {"match": "*", "deliver": "mx"},
        ]
    )
    assert [route.for_whom for route in settings.route] == ["authenticated", "anyone", "authenticated"]
    assert [route.recipients for route in settings.route] == ["any"] * 3
    actions = [route.action for route in delivery_routes(settings).routes if isinstance(route.action, Mx)]
    assert actions == [Mx(tls=Security.REQUIRED, calling=Calling(helo="out.example.org")), Mx(), Mx()]


def test_the_postmasters_mail_is_never_looked_for_in_the_dns() -> None:
    settings = Settings.in_memory(
        hostname="mx.here.example",
        route=[{"match": "*@here.example", "deliver": "relay 127.0.0.1:1"}, {"match": "*", "deliver": "mx"}],
    )
    routes = delivery_routes(settings)
    for address in ("postmaster", "postmaster@mx.here.example"):
        found = routes.find(Path.parse(address, bare_postmaster=True))
        assert found is not None
        assert found.action == Maildir()
    elsewhere = routes.find(Path.parse("postmaster@elsewhere.example"))
    assert elsewhere is not None
    assert elsewhere.action == Mx("elsewhere.example")


@pytest.mark.parametrize(
    ("address", "port", "ours"),
    [
        ("127.0.0.1", 25, True),  # this machine's, and we listen at all of them
        ("::1", 25, True),
        ("192.0.2.7", 25, False),
        ("192.0.2.1", 2525, True),
        ("192.0.2.2", 2525, False),
        ("127.0.0.1", 2525, False),
    ],
)
def test_which_connections_come_back_to_us(address: str, port: int, ours: bool) -> None:
    assert comes_back(ip_address(address), port, [("0.0.0.0", 25), ("192.0.2.1", 2525)]) is ours


async def test_from_settings_to_the_wire() -> None:
    zone: Zone = {
        "d.example": {"MX": ["10 mx.isp.example."]},
        "mx.isp.example": {"A": ["127.0.0.21"]},
        "loop.example": {"MX": ["10 gate.isp.example.", "20 mx.isp.example."]},
        "gate.isp.example": {"A": ["127.0.0.1"]},
        "null.example": {"MX": ["0 ."]},
    }
    told: dict[str, str] = {}
    heard = asyncio.Event()

    def say(kind: str, facts: Mapping[str, object]) -> None:
        if kind != "session" and facts["to"] != "postmaster":
            told[str(facts["to"])] = f"{kind} {str(facts['reply'])[:10]}"
            heard.set()

    async with name_server(zone) as (_, names), Peer(polite(), at="127.0.0.21") as peer:
        mx = {"by": "mx", "port": peer.host.port, "allow_private": True}
        route = {"match": "*", "deliver": mx, "for": ["127.0.0.0/8"]}
        dns = {"servers": f"127.0.0.1:{names.port}"}
        server = Server(listen=f"127.0.0.1:{peer.host.port}", hostname="gate.example", route=[route], dns=dns)
        async with server:
            server._running.say = say
            to = ["ann@d.example", "bob@d.example", "x@loop.example", "y@null.example"]

            def send() -> str:
                with smtplib.SMTP(server.host, server.port, "client.example", timeout=10) as client:
                    client.ehlo()
                    client.mail("a@b.example")
                    for recipient in to:
                        client.rcpt(recipient)
                    return client.data("Subject: hello\r\n\r\nhello\r\n")[1].decode()

            ticket = (await asyncio.to_thread(send)).rpartition(" ")[2]
            while len(told) < len(to):
                heard.clear()
                await heard.wait()
            story = str(server.explain(ticket))
    assert told == {
        "ann@d.example": "delivered 250 2.0.0 ",
        "bob@d.example": "delivered 250 2.0.0 ",
        "x@loop.example": "bounced 554 5.4.6 ",
        "y@null.example": "bounced 556 5.1.10",
    }
    assert [line for line in peer.heard[0] if line.startswith("RCPT")] == [
        "RCPT TO:<ann@d.example>",
        "RCPT TO:<bob@d.example>",
    ]
    lines = [line.split(maxsplit=3) for line in story.splitlines()]
    assert {tuple(line[:2]): line[3] for line in lines if line[0] in ("delivered", "bounced")} == {
        ("delivered", "<ann@d.example>"): f"mx.isp.example[127.0.0.21]:{peer.port}  250 2.0.0 kept",
        ("delivered", "<bob@d.example>"): f"mx.isp.example[127.0.0.21]:{peer.port}  250 2.0.0 kept",
        ("bounced", "<x@loop.example>"): "554 5.4.6 mail for loop.example would come back here, its best mail server",
        ("bounced", "<y@null.example>"): "556 5.1.10 null.example takes no mail, its DNS says",
    }
