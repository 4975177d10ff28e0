"""The ways out, from the settings to the wire: senders' own routes, addresses and names to call from, proxies, hosts
that are down, AUTH over TLS.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import pytest
import trustme

from gatepost import Server
from gatepost.app.gates import delivery_routes
from gatepost.app.ourselves import exchangers, resolver
from gatepost.app.settings import Settings, load
from gatepost.app.settings.display import show
from gatepost.delivery import Calling, Mx, Pool, Relay, Rotation
from gatepost.delivery.families import paired
from gatepost.delivery.route import Host, called
from gatepost.model import Path
from gatepost.net.resolver import StaticResolver
from gatepost.wire.socks import Proxy, Way
from unit.delivery.delivery_peer import TLS, Peer, polite
from unit.net.name_server import name_server
from unit.net.proxy_peer import ProxyPeer, running


def action(deliver: Mapping[str, Any] | str, **more: Any) -> Any:
    settings = Settings.in_memory(route=[{"match": "*@there.example", "deliver": deliver}], **more)
    found = delivery_routes(settings).find(Path.parse("ann@there.example"))
    assert found is not None
    return replace(found.action, domain="") if isinstance(found.action, Mx) else found.action


# ── settings to facts ──────────────────────────────────────────────────────────────────────────────────────────────


def test_one_way_of_calling_needs_no_pool():
    mx = action({"by": "mx", "source": ["192.0.2.1", "2001:db8::1"], "helo": "out.example"})
    assert mx.calling == Calling(("2001:db8::1", "192.0.2.1"), "out.example")
    assert mx.pool is None


def test_several_addresses_of_a_family_are_a_pool():
    relay = action({"by": "relay", "hosts": ["192.0.2.5"], "source": ["192.0.2.1", "2001:db8::1", "192.0.2.2"]})
    sources = [("2001:db8::1", "192.0.2.1"), ("2001:db8::1", "192.0.2.2")]
    assert relay.pool == Pool(tuple(Calling(source) for source in sources))


def test_a_pool_of_callers():
    mx = action(
        {
            "by": "mx",
            "rotation": "round-robin",
            "proxy": "http://192.0.2.9",
            "pool": [
                {"source": "192.0.2.1", "helo": "one.example"},
                {"source": "192.0.2.2", "helo": "two.example", "proxy": "direct"},
            ],
        }
    )
    proxy = Proxy(Way.HTTP, "192.0.2.9", 3128)
    one, two = Calling(("192.0.2.1",), "one.example", proxy), Calling(("192.0.2.2",), "two.example")
    assert mx.pool == Pool((one, two), Rotation.ROUND_ROBIN)


def test_the_proxy_of_all_and_of_one():
    everywhere = {"proxy": "socks5://ann:s%40sam@192.0.2.9"}
    proxy = Proxy(Way.SOCKS5, "192.0.2.9", 1080, "ann", "s@sam")
    assert action("mx", delivery=everywhere).calling.proxy == proxy
    assert action("relay 192.0.2.5", delivery=everywhere).calling.proxy == proxy
    assert action("lmtp 192.0.2.5", delivery=everywhere).calling.proxy is None
    assert action({"by": "mx", "proxy": "direct"}, delivery=everywhere).calling.proxy is None
    own = action({"by": "lmtp", "hosts": "192.0.2.5:24", "tls": "none", "proxy": "http://[::1]:8080"})
    assert own.calling.proxy == Proxy(Way.HTTP, "::1", 8080)


def test_a_proxys_password_comes_from_elsewhere_and_is_never_shown(tmp_path: File):
    file = tmp_path / "gatepost.toml"
    (tmp_path / "proxy").write_text("http://ann:sesame@192.0.2.9:8080\n")
    file.write_text(
        '[delivery]\nproxy = "@proxy"\n[[route]]\nmatch = "*@there.example"\n'
        'deliver = { by = "mx", proxy = "socks5://bob:open@192.0.2.8:1080" }\n'
    )
    settings = load(file, environ={})
    assert settings.delivery.proxy is not None
    assert settings.delivery.proxy.proxy == Proxy(Way.HTTP, "192.0.2.9", 8080, "ann", "sesame")
    shown = show(settings)
    assert 'proxy = "@proxy"' in shown
    assert 'proxy = "socks5://bob:…@192.0.2.8:1080"' in shown
    assert not any(word in shown + repr(settings) + settings.model_dump_json() for word in ("sesame", "open@"))


async def test_every_name_of_ours_is_known_as_ours():
    settings = Settings.in_memory(
        hostname="gate.example",
        route=[{"match": "*", "deliver": {"by": "mx", "pool": [{"helo": "one.example"}, {"helo": "two.example"}]}}],
    )
    zone = {"d.example": {"MX": ["10 two.example", "20 mx.example"]}, "two.example": "5.5.5.5", "mx.example": "5.5.5.6"}
    found = await exchangers(settings, StaticResolver(zone), list).find("d.example")
    assert str(found.reply).startswith("554 5.4.6")


def test_where_names_are_looked_up():
    made = resolver(
        Settings.in_memory(dns={"servers": ["127.0.0.1", "::1", "[::1]:5353"], "timeout": "1s", "cache": 5})
    )
    assert made._asking == ([("127.0.0.1", 53), ("::1", 53), ("::1", 5353)], 53, 1.0, 8.0, False)
    assert made._size == 5


# ── choosing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_sees_always_the_same_one_and_all_are_used():
    pool = Pool(tuple(Calling((f"192.0.2.{number}",)) for number in range(1, 5)))
    servers = [f"mx{number}.example" for number in range(400)]
    first = {server: pool.choose(server, 1) for server in servers}
    assert {server: pool.choose(server.upper(), 77) for server in servers} == first
    assert all(60 < count < 140 for count in Counter(first.values()).values())
    fewer = Pool(pool.callings[1:])
    moved = [server for server in servers if fewer.choose(server, 1) != first[server]]
    assert {first[server] for server in moved} == {pool.callings[0]}  # nobody else has to get used to another


def test_by_turns():
    hop = Relay((Host("mx.example"),), pool=Pool((Calling(helo="a"), Calling(helo="b")), Rotation.ROUND_ROBIN))
    assert [called(hop, hop.hosts[0], turn).calling.helo for turn in range(4)] == ["a", "b", "a", "b"]
    assert called(hop, hop.hosts[0], 0).pool is None


def test_a_servers_families_are_one_host():
    def hosts(*texts: str) -> tuple[Host, ...]:
        return tuple(Host(name, address=address) for name, _, address in (text.partition(" ") for text in texts))

    found = paired(hosts("a ::1", "a 5.5.5.1", "a ::2", "a ::3", "b ::4", "c 5.5.5.2", "c ::5"))
    assert [(host.name, host.address, host.also) for host in found] == [
        ("a", "::1", ("5.5.5.1",)),
        ("a", "::2", ()),
        ("a", "::3", ()),
        ("b", "::4", ()),
        ("c", "5.5.5.2", ("::5",)),
    ]


# ── on the wire ────────────────────────────────────────────────────────────────────────────────────────────────────


class Told:
    """What the server says became of mail, by recipient."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self._heard = asyncio.Event()

    def say(self, kind: str, facts: Mapping[str, object]) -> None:
        if kind != "session":
            self.of[str(facts["to"])] = f"{kind} {facts['reply']}"
            self._heard.set()

    async def about(self, *recipients: str) -> list[str]:
        while not set(recipients) <= set(self.of):
            self._heard.clear()
            await self._heard.wait()
        return [self.of[one] for one in recipients]


class Noting(Peer):
    """A next server that notes where it is called from."""

    def __init__(self, *scripts: Any) -> None:
        super().__init__(*scripts)
        self.callers: list[str] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.callers.append(writer.get_extra_info("peername")[0])
        super().accept(reader, writer)


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[tuple[Server, Told]]:
    told = Told()
    for route in settings["route"]:
        route.setdefault("for", ["127.0.0.0/8"])
        route.setdefault("recipients", "any")
    async with Server(listen="127.0.0.1:0", hostname="gate.example", **settings) as server:
        server._running.say = told.say
        yield server, told


async def post(server: Server, sender: str, *recipients: str) -> None:
    def send() -> None:
        with smtplib.SMTP(server.host, server.port, "client.example", timeout=10) as client:
            client.sendmail(sender, recipients, b"Subject: hello\r\n\r\nhello\r\n")

    await asyncio.to_thread(send)


async def test_senders_have_routes_of_their_own():
    async with Peer(polite()) as one, Peer(polite()) as two:
        ours = {"match": "*", "from": "*@ours.example", "deliver": f"relay {one.host}"}
        async with serving(route=[ours, {"match": "*", "deliver": f"relay {two.host}"}]) as (server, told):
            await post(server, "ann@ours.example", "x@there.example")
            await post(server, "bob@theirs.example", "y@there.example")
            await told.about("x@there.example", "y@there.example")
        assert [line for line in one.heard[0] if line.startswith("MAIL")] == ["MAIL FROM:<ann@ours.example>"]
        assert [line for line in two.heard[0] if line.startswith("MAIL")] == ["MAIL FROM:<bob@theirs.example>"]


async def test_whose_route_it_is_not_is_refused_where_there_is_no_other():
    route = {"match": "*", "from": "user:ann", "deliver": "relay 127.0.0.1:1"}
    async with serving(route=[route]) as (server, _):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            await post(server, "ann@ours.example", "x@there.example")
        assert refused.value.recipients["x@there.example"][0] == 550


async def test_where_from_and_by_which_name():
    async with Noting(polite()) as peer:
        pool = [{"source": f"127.0.0.{n}", "helo": f"out{n}.example"} for n in (41, 42)]
        relay = {"by": "relay", "hosts": [str(peer.host)], "pool": pool, "rotation": "round-robin"}
        route = [{"match": "*", "deliver": relay}]
        async with serving(route=route, delivery={"reuse": "0s"}) as (server, told):
            for number in range(4):
                await post(server, "a@b.example", f"x{number}@there.example")
                await told.about(f"x{number}@there.example")
        names = Counter(lines[0] for lines in peer.heard)
        assert names == {"EHLO out41.example": 2, "EHLO out42.example": 2}
        assert Counter(peer.callers) == {"127.0.0.41": 2, "127.0.0.42": 2}


@pytest.mark.parametrize("scheme", ["socks5", "http"])
async def test_through_a_proxy_by_mx_and_to_a_relay(scheme: str):
    zone = {"d.example": {"MX": ["10 mx.isp.example."]}, "mx.isp.example": {"A": ["127.0.0.21"]}}
    there = ProxyPeer({}, ("ann", "sesame"))
    async with (
        name_server(zone) as (_, names),
        Peer(polite(), at="127.0.0.21") as peer,
        running(there) as proxy,
    ):
        there.names["inner.example"] = ("127.0.0.21", peer.port)
        routes = [
            {"match": "*@i.example", "deliver": f"relay inner.example:{peer.port}"},
            {"match": "*", "deliver": {"by": "mx", "port": peer.port, "allow_private": True}},
        ]
        url = f"{scheme}://ann:sesame@127.0.0.1:{proxy.port}"
        dns = {"servers": f"127.0.0.1:{names.port}"}
        async with serving(route=routes, dns=dns, delivery={"proxy": url}) as (server, told):
            await post(server, "a@b.example", "x@d.example", "y@i.example")
            said = await told.about("x@d.example", "y@i.example")
        assert [one[:13] for one in said] == ["delivered 250"] * 2
        assert sorted(proxy.asked) == [("127.0.0.21", peer.port), ("inner.example", peer.port)]
        assert names.asked["inner.example", "A"] == 0  # nobody here looks it up


async def test_a_proxy_that_is_away_puts_mail_off():
    route = {"match": "*", "deliver": {"by": "relay", "hosts": ["192.0.2.5"], "proxy": "socks5://127.0.0.1:1"}}
    async with serving(route=[route]) as (server, told):
        await post(server, "a@b.example", "x@there.example")
        [said] = await told.about("x@there.example")
    assert said.startswith("deferred 451 4.4.1")
    assert "the proxy 127.0.0.1:1 can't be reached" in said


async def test_the_next_host_where_one_is_down_or_puts_off():
    puts_off = polite(("MAIL*", "421 4.3.2 not now"))
    async with Peer(puts_off) as busy, Peer(polite()) as good:
        hosts = ["127.0.0.1:1", str(busy.host), str(good.host)]
        async with serving(route=[{"match": "*", "deliver": {"by": "relay", "hosts": hosts}}]) as (server, told):
            await post(server, "a@b.example", "x@there.example")
            [said] = await told.about("x@there.example")
        assert said.startswith("delivered 250")
        assert len(busy.heard) == len(good.heard) == 1


async def test_auth_over_tls_and_a_name_that_must_fit(tmp_path: File, monkeypatch: pytest.MonkeyPatch):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    script = [("STARTTLS*", TLS), ("AUTH PLAIN *", "235 2.7.0 welcome")]
    offers = "PIPELINING,STARTTLS,AUTH PLAIN LOGIN"
    for names, begins in ((["localhost"], "delivered 250"), (["other.example"], "deferred 451 4.7.5")):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(tls)
        async with Peer(polite(*script, offers=offers), tls=tls) as peer:
            relay = {
                "by": "relay",
                "hosts": [f"localhost:{peer.port}"],
                "tls": "required",
                "user": "gate",
                "password": "sesame",
            }
            async with serving(route=[{"match": "*", "deliver": relay}]) as (server, told):
                await post(server, "a@b.example", "x@there.example")
                [said] = await told.about("x@there.example")
            assert said.startswith(begins)
            assert any("AUTH PLAIN AGdhdGUAc2VzYW1l" in lines for lines in peer.heard) is (names == ["localhost"])


async def test_a_report_has_a_story_too() -> None:
    routes = [{"match": "*@own.example", "deliver": "discard", "for": "anyone"}, {"match": "*", "deliver": "mx"}]
    async with serving(route=routes, dns={"servers": ["127.0.0.1:9"]}) as (server, told):
        await post(server, "ann@own.example", "x@[127.0.0.1]")
        await told.about("x@[127.0.0.1]", "ann@own.example")
        lines = server._running.stores.records.sessions(since_ms=0, until_ms=1 << 62, fits=lambda _: True, limit=9)
        stories = {token: str(server.explain(token)) for ((_, token, _, _), *_) in lines}
    [first] = [story for story in stories.values() if story.startswith("ACCEPTED")]
    [report] = [story for story in stories.values() if story.startswith("REPORT, ")]
    ticket = first[first.index("Its ticket: ") :].split()[2]
    assert "bounced    <x@[127.0.0.1]>" in first
    assert "  from   <>  local     to   <ann@own.example>" in report
    assert f"\n  about  {ticket}\n" in report
    assert "delivered  <ann@own.example>" in report
