"""What `gatepost check` says of name servers, addresses to call from and proxies."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from typing import Any

import pytest

from gatepost.app.looking_at_routes import look_at_routes
from gatepost.app.settings import Settings
from unit.net.name_server import SERVFAIL, SILENT, name_server


def settings(*deliver: dict[str, Any] | str, **more: Any) -> Settings:
    routes = [{"match": f"*@r{at}.example", "deliver": one} for at, one in enumerate(deliver)]
    return Settings.in_memory(hostname="gate.example", route=routes, **more)


def test_nothing_to_see():
    assert list(look_at_routes(settings("maildir", "discard", "relay 192.0.2.5"))) == []


@pytest.mark.parametrize(
    ("zone", "state", "words"),
    [
        ({"gate.example": {"A": ["192.0.2.1"]}}, "ok", "gate.example is 192.0.2.1"),
        ({}, "warning", "gate.example, our name in EHLO, has no address; many servers refuse such mail"),
        ({"gate.example": {"A": SERVFAIL, "AAAA": SERVFAIL}}, "warning", "mail that goes by MX would wait"),
        ({"gate.example": {"A": SILENT, "AAAA": SILENT}}, "warning", "mail that goes by MX would wait"),
    ],
)
async def test_name_servers_are_asked_once(zone, state, words):
    async with name_server(zone) as (_, server):
        dns = {"servers": f"127.0.0.1:{server.port}", "timeout": "200ms", "deadline": "300ms"}
        made = settings("mx", "mx", dns=dns)
        [(what, how, text)] = await asyncio.to_thread(lambda: list(look_at_routes(made)))
        assert (what, how) == ("dns", state)
        assert text.startswith(f"127.0.0.1:{server.port}: ")
        assert words in text
        assert {name for name, _ in server.asked} == {"gate.example"}


def test_addresses_to_call_from():
    pool = [{"source": "127.0.0.9"}, {"source": "192.0.2.1"}]
    seen = list(look_at_routes(settings(*[{"by": "relay", "hosts": ["192.0.2.5"], "pool": pool}] * 2)))
    assert [one[:2] for one in seen] == [("source", "ok"), ("source", "failed")]
    assert seen[1][2] == (
        "192.0.2.1, to call from, isn't this machine's, so mail for *@r0.example; *@r1.example would wait in the "
        "queue; add it to an interface, or change source"
    )


def test_proxies():
    with closing(socket.create_server(("127.0.0.1", 0))) as there:
        port = there.getsockname()[1]
        relay = {"by": "relay", "hosts": ["192.0.2.5"]}
        proxies = [f"socks5://ann:sesame@127.0.0.1:{port}", "http://127.0.0.1:1", "http://proxy.example"]
        seen = list(look_at_routes(settings(*({**relay, "proxy": proxy} for proxy in proxies))))
    assert [one[1] for one in seen] == ["ok", "warning", "ok"]
    assert [one[2].partition(" ")[0] for one in seen] == [
        f"socks5://127.0.0.1:{port}:",
        "http://127.0.0.1:1:",
        "http://proxy.example:3128,",
    ]
