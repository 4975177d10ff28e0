"""What the lists' gate takes from the session around a message: who has logged in, what checks have found, which client
asks, and what changes between RCPT and the end of data.
"""

import base64
import time

import pytest

from gatepost import on
from gatepost.app.gates import delivery_routes
from gatepost.app.list_gate import load_list_gate
from gatepost.app.settings.root import Settings
from gatepost.hooks import verdicts
from gatepost.lists import gate
from gatepost.plugins.python import load
from gatepost.serving.house import Gate, OpenTo
from gatepost.store.ledger import MemoryLedger
from gatepost.store.lists import ListOptions, open_lists
from gatepost.testing.rig import Rig

ROUTES = [{"match": "news@example.org", "deliver": "list news"}, {"match": "*@example.org", "deliver": "maildir"}]
POST = b"From: Ann <ann@example.org>\r\nSubject: hi\r\n\r\nhello\r\n"
LISTENER = {"address": "127.0.0.1:0", "auth": "on", "auth_without_tls": True}


@on("auth")
async def knows_everybody(event):
    return verdicts.Identity(event.user, event.user)


@on("message", priority=100)
async def dmarc(event):
    event.keep("dmarc", "fail: not by example.org")


@pytest.fixture
async def store():
    made = open_lists(None)
    await made.create("news", "news@example.org", ListOptions(moderators=("mo@example.org",)))
    await made.subscribe("news", "ann@example.org", now=1)
    yield made
    await made.close()


def rig_of(store, *hooks) -> Rig:
    settings = Settings.in_memory(hostname="mx.test", route=ROUTES, listen=[LISTENER])
    gates = [Gate(pattern, OpenTo.ANYONE) for route in delivery_routes(settings).routes for pattern in route.match]
    plugins = [load_list_gate(settings, store), *map(load, hooks)]
    return Rig(plugins, settings=settings, gates=gates, facts=MemoryLedger(time.time))


async def begin(rig: Rig, to: str, *, sender: str = "ann@example.org", user: str = "", ip: str = "192.0.2.1"):
    """A client, and what it has heard at RCPT."""
    client = rig.connect(ip)
    await client.reply()
    await client.command("EHLO client.example")
    if user:
        said = base64.b64encode(f"\0{user}\0secret".encode()).decode()
        assert (await client.command(f"AUTH PLAIN {said}")).startswith("235")
    await client.command(f"MAIL FROM:<{sender}>")
    return client, await client.command(f"RCPT TO:<{to}>")


async def post(rig: Rig, content: bytes = POST, **more: str) -> str:
    client, said = await begin(rig, "news@example.org", **more)
    assert said.startswith("250")
    await client.command("DATA")
    return await client.content(content)


async def test_what_a_check_of_from_has_found_counts(store):
    async with rig_of(store) as rig:
        assert (await post(rig)).startswith("250")
    async with rig_of(store, dmarc) as rig:
        assert (await post(rig)).startswith("550 5.7.1 only members may post")


async def test_a_moderator_who_has_logged_in_needs_no_approval(store):
    await store.change("news", ListOptions(post="moderated", moderators=("mo@example.org",)))
    content = POST.replace(b"ann@", b"mo@")
    async with rig_of(store, knows_everybody) as rig:
        for user in ("", "mo@example.org", "ann@example.org"):
            assert (await post(rig, content, user=user)).startswith("250")
        kept = [entry.facts["kept"] for entry in await rig.spool.entries()]
        assert ["moderate" in one for one in kept] == [True, False, True]


async def test_mail_to_other_addresses_is_no_post_and_not_judged(store):
    async with rig_of(store) as rig:
        client, said = await begin(rig, "news-request@example.org", sender="eve@y.example")
        assert said.startswith("250")
        await client.command("DATA")
        assert (await client.content(POST.replace(b"ann@", b"eve@"))).startswith("250")


async def test_a_list_that_is_gone_at_the_end_of_data_is_for_later(store):
    async with rig_of(store) as rig:
        client, said = await begin(rig, "news@example.org")
        assert said.startswith("250")
        await client.command("DATA")
        await store.remove("news")
        assert (await client.content(POST)).startswith("451")
        assert await rig.spool.entries() == []


@pytest.mark.parametrize(
    ("first", "near", "far"),
    [("192.0.2.1", "192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")],
)
async def test_requests_are_counted_by_client_whatever_sender_it_says(store, monkeypatch, first, near, far):
    monkeypatch.setattr(gate, "PER_PEER", 1)
    said = []
    async with rig_of(store) as rig:
        for number, ip in enumerate((first, near, far)):
            _, heard = await begin(rig, "news-subscribe@example.org", sender=f"u{number}@y.example", ip=ip)
            said.append(heard[:3])
    assert said == ["250", "450", "250"]
