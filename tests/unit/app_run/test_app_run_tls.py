"""TLS to other servers from the settings to the wire: DANE, [[tls.policy]], our certificate, and TLS reports."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
import trustme

from gatepost import Server
from gatepost.delivery.tls_reports import DAY_S
from unit.delivery.delivery_peer import Peer
from unit.delivery.tls_town import UNDER_TLS, der, server_context, tlsa
from unit.net.name_server import name_server

MX, AT = "mx.isp.example", "127.0.0.22"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def serving(
    record: bytes, tls: ssl.SSLContext, settings: Mapping[str, Any]
) -> AsyncIterator[tuple[Server, Peer, asyncio.Queue[str]]]:
    """A server that sends to d.example by DANE, d.example's mail server, and what delivery says."""
    told: asyncio.Queue[str] = asyncio.Queue()

    def say(kind: str, facts: Mapping[str, object]) -> None:
        if kind != "session":
            told.put_nowait(f"{kind} {facts['to']} {facts['reply']}")

    async with Peer(UNDER_TLS, tls=tls, at=AT) as peer:
        zone: dict[str, Any] = {
            "d.example": {"MX": [f"10 {MX}."]},
            MX: {"A": [AT]},
            f"_{peer.port}._tcp.{MX}": {"TLSA": [tlsa(3, 1, 1, record)]},
            "_smtp._tls.d.example": {"TXT": ['"v=TLSRPTv1; rua=mailto:tls@d.example"']},
        }
        async with name_server(zone) as (_, names):
            names.secure = {"d.example", "isp.example"}
            way = {"by": "mx", "port": peer.port, "allow_private": True}
            route = [{"match": "*", "deliver": way, "for": ["127.0.0.0/8"]}]
            dns = {"servers": f"127.0.0.1:{names.port}"}
            server = Server(listen="127.0.0.1:0", hostname="gate.example", route=route, dns=dns, **settings)
            async with server:
                server._running.say = say
                yield server, peer, told


def _send(server: Server) -> None:
    with smtplib.SMTP(server.host, server.port, "client.example", timeout=10) as client:
        client.sendmail("a@b.example", ["ann@d.example"], "Subject: hello\r\n\r\nhello\r\n")


async def test_DANE_is_on_by_default_and_a_policy_may_say_otherwise(authority: trustme.CA) -> None:
    leaf = authority.issue_cert(MX)
    right, wrong = der(leaf.cert_chain_pems[0]), der(authority.cert_pem)
    for record, policies, words in (
        (right, [], "delivered ann@d.example 250"),
        (wrong, [], "deferred ann@d.example 451 4.7.5"),
        (wrong, [{"match": "*.isp.example", "tls": "starttls"}], "delivered ann@d.example 250"),
    ):
        async with serving(record, server_context(leaf), {"tls": {"policy": policies}}) as (server, peer, told):
            await asyncio.to_thread(_send, server)
            assert (await told.get()).startswith(words)
            assert peer.under_tls == [True]


async def test_our_certificate_is_shown_to_who_asks_for_it(authority: trustme.CA, tmp_path: Path) -> None:
    leaf = authority.issue_cert(MX)
    ours = authority.issue_cert("gate.example")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    ours.cert_chain_pems[0].write_to_path(str(chain))
    ours.private_key_pem.write_to_path(str(key))
    shown = {"chain": str(chain), "key": str(key)}
    asking = server_context(leaf)
    asking.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(asking)
    record = der(leaf.cert_chain_pems[0])
    for settings in ({"client": shown}, {"policy": [{"match": "d.example", "certificate": shown}]}):
        async with serving(record, asking, {"tls": settings}) as (server, _, told):
            await asyncio.to_thread(_send, server)
            assert (await told.get()).startswith("delivered ann@d.example 250")
    async with serving(record, asking, {}) as (server, _, told):
        await asyncio.to_thread(_send, server)
        assert (await told.get()).startswith("deferred ann@d.example 451")


async def test_a_report_goes_through_our_own_queue(authority: trustme.CA) -> None:
    leaf = authority.issue_cert(MX)
    settings = {"tls": {"reports": {"contact": "tls@gate.example", "organization": "Gate"}}}
    async with serving(der(leaf.cert_chain_pems[0]), server_context(leaf), settings) as (server, peer, told):
        await asyncio.to_thread(_send, server)
        assert (await told.get()).startswith("delivered ann@d.example 250")
        protecting = server._running.delivering.protecting
        assert protecting is not None
        assert protecting.reporter is not None
        await protecting.reporter.flush()
        assert await protecting.reporter.send_day(int(time.time()) // DAY_S) == 1
        assert (await told.get()).startswith("delivered tls@d.example 250")
        mail = message_from_bytes(peer.mail[1], policy=policy.default)
        assert mail["TLS-Report-Domain"] == "d.example"
        assert mail["From"] == "tls@gate.example"
