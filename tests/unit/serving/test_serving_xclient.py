"""XCLIENT and XFORWARD from trusted peers: the session begins anew, as if the named client had connected. Attack I6."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from gatepost.hooks.api import on, per_session, refuse
from gatepost.serving.house import Gate, OpenTo
from gatepost.serving.limits import SessionLimits
from gatepost.serving.place import Trust
from gatepost.testing.line import Client
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import content, envelope, greet, plugins

FRONT = "192.0.2.1"
TRUST = Trust((ip_network("192.0.2.0/28"),), (ip_network("192.0.2.0/28"),))


async def front(rig: Rig, ip: str = FRONT, **words: Any) -> Client:
    client = rig.connect(ip, place=replace(rig.place, trust=TRUST), **words)
    await greet(client)
    return client


async def test_the_named_client_takes_the_place_of_the_one_before() -> None:
    async with Rig(dns={"203.0.113.9": "dns.example"}) as rig:
        client = await front(rig)
        session = rig.last_session
        said = await client.command(
            "XCLIENT NAME=spike.example ADDR=203.0.113.9 PORT=4711 PROTO=ESMTP HELO=spike LOGIN=ann+40b.example "
            "DESTADDR=198.51.100.1 DESTPORT=587"
        )
        assert said.startswith("220 mx.test ESMTP")
        assert (str(session.peer), session.peer.port) == ("203.0.113.9", 4711)
        assert session.peer.via == ip_address(FRONT)
        assert await session.peer.name() == "spike.example"
        assert session.user == "ann@b.example"
        assert session.local == ("198.51.100.1", 587)
        assert session.helo == ""
        said = await client.command("EHLO front.example")
        assert "greets 203.0.113.9" in said
        assert session.helo == "spike"
        await envelope(client, "c@d.example")
        assert (await content(client)).startswith("250")
        [entry] = await rig.spool.entries()
        assert entry.authenticated == "ann@b.example"
        assert b"from spike ([203.0.113.9])" in b"".join(entry.content.chunks())
        first, facts = rig.records.kinds("session")
        assert first["peer"] == FRONT
        assert rig.records.kinds("end") == [{"how": "xclient"}]
        assert entry.ticket.token == session.id != rig.records.entries[0][0]
        assert facts == {
            "peer": "203.0.113.9", "port": 4711, "listener": "smtp", "via": FRONT, "user": "ann@b.example",
        }  # fmt: skip


async def test_of_another_client_nothing_is_kept_of_the_one_before() -> None:
    async with Rig() as rig:
        client = await front(rig)
        session = rig.last_session
        await client.command("XCLIENT NAME=a.example ADDR=203.0.113.9 PORT=1 HELO=a LOGIN=ann DESTPORT=587")
        await client.command("EHLO x")
        assert (await client.command("XCLIENT ADDR=IPV6:2001:db8::1")).startswith("220")
        assert (str(session.peer), session.peer.port, session.user) == ("2001:db8::1", 0, None)
        assert session.local == ("192.0.2.25", 25)
        assert await session.peer.name() is None
        await client.command("EHLO y.example")
        assert session.helo == "y.example"


async def test_attributes_may_come_in_several_commands() -> None:
    async with Rig() as rig:
        client = await front(rig)
        session = rig.last_session
        await client.command("XCLIENT ADDR=203.0.113.9 LOGIN=ann")
        await client.command("EHLO x")
        await client.command("XCLIENT NAME=a.example PORT=7 HELO=[UNAVAILABLE]")
        assert (str(session.peer), session.peer.port, session.user) == ("203.0.113.9", 7, "ann")
        assert await session.peer.name() == "a.example"


async def test_what_is_unavailable_is_unknown() -> None:
    async with Rig(dns={FRONT: "front.example"}) as rig:
        client = await front(rig)
        session = rig.last_session
        said = await client.command("XCLIENT NAME=[TEMPUNAVAIL] ADDR=[UNAVAILABLE] LOGIN=[unavailable]")
        assert said.startswith("220")
        assert (str(session.peer), session.user) == (FRONT, None)
        assert await session.peer.name() is None


async def test_the_connect_stage_is_asked_about_the_named_client() -> None:
    asked = []

    @on("connect")
    async def gate(event: Any) -> Any:
        asked.append(str(event.session.peer))
        return refuse("not you") if str(event.session.peer) == "203.0.113.9" else None

    async with Rig(plugins(gate)) as rig:
        client = await front(rig)
        assert (await client.command("XCLIENT ADDR=203.0.113.8")).startswith("220")
        await client.command("EHLO x")
        assert (await client.command("XCLIENT ADDR=203.0.113.9")).startswith("554")
        assert (await client.command("EHLO x")).startswith("503")
        assert asked == [FRONT, "203.0.113.8", "203.0.113.9"]


async def test_objects_of_plugins_are_another_clients() -> None:
    closed = []

    class Karma:
        def __init__(self) -> None:
            self.points = 0

        def close(self) -> None:
            closed.append(self.points)

    karma = per_session(Karma)

    @on("hello")
    async def count(event: Any) -> None:
        karma(event).points += 1

    async with Rig(plugins(count)) as rig:
        client = await front(rig)
        await client.command("EHLO again")
        await client.command("XCLIENT ADDR=203.0.113.8")
        await client.command("EHLO x")
        await client.command("QUIT")
        client.line.lose()
        await rig.settled()
        assert closed == [2, 1]


@pytest.mark.parametrize("command", ["XCLIENT ADDR=203.0.113.9 LOGIN=ann", "XFORWARD ADDR=203.0.113.9"])
async def test_attack_i6_from_an_untrusted_peer(command: str) -> None:
    async with Rig() as rig:
        client = await front(rig, "192.0.2.99")
        assert "XCLIENT" not in await client.command("EHLO x")
        assert (await client.command(command)).startswith("550 5.7.1")
        await envelope(client)
        assert (await client.command(command)).startswith("503")
        assert (str(rig.last_session.peer), rig.last_session.user) == ("192.0.2.99", None)


async def test_attack_i6_nobody_lends_trust_to_those_it_names() -> None:
    """A named client's own address never counts for trust, and the front's always does."""
    async with Rig() as rig:
        client = await front(rig)
        await client.command("XCLIENT ADDR=203.0.113.9")
        assert "XCLIENT" in await client.command("EHLO x")
        other = await front(rig, "192.0.2.99")
        assert (await other.command("XCLIENT ADDR=192.0.2.1")).startswith("550")


@pytest.mark.parametrize(
    "attributes",
    [
        "NAME=a+0D+0AEHLO ADDR=203.0.113.9",
        "NAME=a+00",
        "HELO=a+20b",
        "LOGIN=ann+0A",
        "LOGIN=+C2+85",
        "LOGIN=+FF",
        "ADDR=203.0.113.999",
        "ADDR=IPV6:203.0.113.9",
        "ADDR=IPV6:fe80::1+25eth0",
        "PORT=0",
        "PORT=65536",
        "PORT=+32+35+0A",
        "ADDR=203.0.113.9 ADDR=203.0.113.8",
        "ADDR=",
        "ADDR",
        "=x",
        "NAME=a..b",
        "NAME=" + "a" * 256,
        "PROTO=HTTP",
        "COLOUR=red",
        "",
        "NAME=+0",
        "NAME=+GG",
        "NAME=caf\u00e9",
    ],
)
async def test_attack_i6_what_isnt_well_formed_changes_nothing(attributes: str) -> None:
    async with Rig() as rig:
        client = await front(rig)
        assert (await client.command(f"XCLIENT {attributes}"))[:3] in ("501", "500")
        assert (str(rig.last_session.peer), rig.last_session.user) == (FRONT, None)
        assert (await client.command("MAIL FROM:<a@b.example>")).startswith("250")


async def test_attack_f8_what_is_sent_before_the_new_greeting_ends_the_session() -> None:
    async with Rig() as rig:
        client = await front(rig)
        client.send(b"XCLIENT ADDR=203.0.113.9\r\nEHLO x\r\nMAIL FROM:<a@b.example>\r\n")
        assert (await client.reply()).startswith("554")
        assert await client.reply() == ""


async def test_a_login_counts_as_authenticated() -> None:
    async with Rig(gates=(Gate("*", OpenTo.AUTHENTICATED),)) as rig:
        client = await front(rig)
        assert (await envelope(client, "c@d.example"))[1].startswith("550")
        await client.command("RSET")
        await client.command("XCLIENT ADDR=203.0.113.9 LOGIN=ann")
        await client.command("EHLO x")
        assert (await envelope(client, "c@d.example"))[1].startswith("250")


async def test_limits_count_the_named_clients() -> None:
    async with Rig() as rig:
        counter = rig.place.counter
        counter.limits = SessionLimits(3, 1)
        first, second = await front(rig), await front(rig, "192.0.2.2")
        assert (await first.command("XCLIENT ADDR=203.0.113.9")).startswith("220")
        assert (await second.command("XCLIENT ADDR=203.0.113.9")).startswith("421")
        assert await second.reply() == ""
        third = await front(rig)
        assert counter.in_all == 2
        for client in (first, third):
            client.line.lose()
        await rig.settled()
        assert counter.in_all == 0
        assert not counter._by_peer


async def test_xforward_is_for_the_record() -> None:
    async with Rig() as rig:
        client = await front(rig)
        said = await client.command("XFORWARD NAME=spike.example ADDR=203.0.113.9 HELO=spike SOURCE=REMOTE")
        assert said.startswith("250")
        [facts] = rig.records.kinds("forwarded")
        assert facts == {"name": "spike.example", "addr": "203.0.113.9", "helo": "spike", "source": "REMOTE"}
        assert str(rig.last_session.peer) == FRONT
