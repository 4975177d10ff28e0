"""The lists inside SMTP: what a client hears at RCPT and at end-of-data, octet for octet through a whole session."""

import time
from typing import Any

import pytest

from gatepost.app.gates import delivery_routes
from gatepost.app.list_gate import listed, load_list_gate
from gatepost.app.settings.root import Settings
from gatepost.lists.addressing import Purpose, bounces_address, decision_address
from gatepost.lists.gate import PER_SENDER, judgement_of
from gatepost.lists.posting import Allowed, Moderate
from gatepost.model import Path
from gatepost.model.kept import read_kept
from gatepost.serving.house import Gate, OpenTo
from gatepost.store.ledger import MemoryLedger
from gatepost.store.lists import ListOptions, ListStore, open_lists
from gatepost.testing.rig import Rig

ROUTES = [
    {"match": "news@example.org", "deliver": "list news"},
    {"match": "dev@example.org", "deliver": "list dev"},
    {"match": "ghost@example.org", "deliver": "list ghost"},
    {"match": "*@example.org", "deliver": "maildir", "recipients": "any"},
]
POST = b"From: Ann <ann@example.org>\r\nSubject: hi\r\n\r\nhello\r\n"


def settings_with(routes: Any = ROUTES, **more: Any) -> Settings:
    return Settings.in_memory(hostname="mx.test", route=routes, **more)


class House:
    """A server with lists; `reply` is what a whole transaction heard last, `told` all of it."""

    def __init__(self, store: ListStore, settings: Settings) -> None:
        self.store = store
        made = [Gate(pattern, OpenTo.ANYONE) for route in delivery_routes(settings).routes for pattern in route.match]
        facts = MemoryLedger(time.time)
        self.rig = Rig([load_list_gate(settings, store)], settings=settings, gates=made, facts=facts)

    async def send(self, sender: str, *recipients: str, content: bytes = POST, mail: str = "") -> list[str]:
        """The replies to each RCPT, and to the content if it was let in."""
        client = self.rig.connect()
        heard = [await client.reply()]
        heard.append(await client.command("EHLO client.example"))
        heard.append(await client.command(f"MAIL FROM:<{sender}>{mail}"))
        assert all(reply.startswith("2") for reply in heard), heard
        told = [await client.command(f"RCPT TO:<{recipient}>") for recipient in recipients]
        if any(reply.startswith("250") for reply in told):
            assert (await client.command("DATA")).startswith("354")
            told.append(await client.content(content))
        assert (await client.command("QUIT")).startswith("221")
        await self.rig.settled()
        return told

    async def kept(self) -> list[dict[str, str]]:
        return [read_kept(entry.facts.get("kept")) for entry in await self.rig.spool.entries()]


@pytest.fixture
async def house():
    store = open_lists(None)
    await store.create("news", "news@example.org", ListOptions(owners=("boss@example.org",), max_size=100_000))
    await store.create("dev", "dev@example.org", ListOptions(post="moderated", subscribe="closed"))
    await store.subscribe("news", "ann@example.org", now=1)
    made = House(store, settings_with())
    async with made.rig:
        yield made
    await store.close()


async def test_a_members_post_is_taken_and_what_was_found_is_kept(house: House):
    told = await house.send("bounces@provider.example", "news@example.org")
    assert [reply[:3] for reply in told] == ["250", "250"]
    [kept] = await house.kept()
    assert kept == {"list:news": "allowed"}
    assert judgement_of(kept, "news") == Allowed() and judgement_of(kept, "dev") is None


async def test_a_forged_or_strange_post_is_refused_in_the_session_and_nothing_is_kept(house: House):
    """L3, and no backscatter: what isn't wanted never was ours."""
    forged = b'From: "ann@example.org" <mallory@evil.example>\r\nSender: ann@example.org\r\n\r\nbuy\r\n'
    told = await house.send("ann@example.org", "news@example.org", content=forged)
    assert told[0].startswith("250") and told[1].startswith("550 5.7.1 only members may post to news@example.org")
    assert await house.kept() == []


async def test_a_post_that_waits_for_a_moderator_is_taken_with_the_reason(house: House):
    told = await house.send("x@y.example", "dev@example.org")
    assert [reply[:3] for reply in told] == ["250", "250"]
    [kept] = await house.kept()
    assert judgement_of(kept, "dev") == Moderate("every post to this list is moderated")


async def test_a_list_that_meets_its_own_copy_refuses_it(house: House):
    """L1."""
    copy = b"List-Id: <news.example.org>\r\nX-Loop: news@example.org\r\n" + POST
    told = await house.send("other-bounces@example.com", "news@example.org", content=copy)
    assert told[1].startswith("554 5.4.6")
    assert (await house.send("news-bounces@example.org", "news@example.org"))[0].startswith("554 5.4.6")


@pytest.mark.parametrize(
    ("sender", "recipient", "heard"),
    [
        ("", "news@example.org", "550 5.7.1 news@example.org takes what people write, not reports"),
        ("", "news-bounces@example.org", "250"),
        ("x@y.example", "news-bounces@example.org", "250"),
        ("", "news-bounces+1-aaaaaaaaaa@example.org", "550 5.1.1"),
        ("", "news-subscribe@example.org", "550 5.7.1"),
        ("", "news-request@example.org", "550 5.7.1"),
        ("", "news-confirm+abcdefgh12345678@example.org", "550 5.7.1"),
        ("", "news-owner@example.org", "250"),
        ("x@y.example", "NEWS-Owner@example.org", "250"),
        ("x@y.example", "news-subscribe@example.org", "250"),
        ("x@y.example", "news-unsubscribe@example.org", "250"),
        ("x@y.example", "news-confirm+abcdefgh12345678@example.org", "250"),
        ("x@y.example", "news-confirm+short@example.org", "550 5.1.1"),
        ("", "news-probe+abcdefgh12345678@example.org", "250"),
        ("x@y.example", "news-approve+06HK3M-9Q7TZA-1-aaaaaaaaaa@example.org", "550 5.1.1"),
        ("x@y.example", "dev-subscribe@example.org", "550 5.7.1 nobody can subscribe to this list by mail"),
        ("x@y.example", "dev-unsubscribe@example.org", "250"),
        ("x@y.example", "ghost@example.org", "451 4.3.5"),
        ("x@y.example", "newsletter@example.org", "250"),
    ],
)
async def test_what_the_envelope_decides(house: House, sender: str, recipient: str, heard: str):
    [reply, *_] = await house.send(sender, recipient)
    assert reply.startswith(heard)


async def test_sub_addresses_that_the_list_signed_are_taken(house: House):
    news = await house.store.find("news")
    assert news is not None
    bounce = bounces_address(news, 1, house.store.secret)
    assert (await house.send("", str(bounce)))[0].startswith("250")
    approve = decision_address(news, Purpose.APPROVE, "06HK3M-9Q7TZA-1", house.store.secret)
    assert (await house.send("boss@example.org", str(approve)))[0].startswith("250")
    refuse = str(approve).replace("-approve", "-refuse")
    assert (await house.send("boss@example.org", refuse))[0].startswith("550 5.1.1")


async def test_what_the_client_announces_as_too_large_is_refused_before_it_is_sent(house: House):
    assert (await house.send("x@y.example", "news@example.org", mail=" SIZE=100001"))[0].startswith("552 5.2.3")
    large = POST + b"x" * 60 + b"\r\n" + (b"y" * 70 + b"\r\n") * 2000
    assert (await house.send("x@y.example", "news@example.org", content=large))[1].startswith("552 5.2.3")


async def test_requests_are_counted_by_sender(house: House):
    for _ in range(PER_SENDER):
        assert (await house.send("x@y.example", "news-subscribe@example.org"))[0].startswith("250")
    assert (await house.send("X@y.example", "news-request@example.org"))[0].startswith("450 4.7.1")
    assert (await house.send("z@y.example", "news-request@example.org"))[0].startswith("250")
    assert (await house.send("x@y.example", "news@example.org"))[0].startswith("250")


async def test_recipients_that_could_hear_different_answers_are_sent_separately(house: House):
    told = await house.send("ann@example.org", "news@example.org", "dev@example.org", "bob@example.org")
    assert [reply[:9] for reply in told] == ["250 2.1.5", "452 4.5.3", "452 4.5.3", "250 2.0.0"]


async def test_others_mail_is_not_looked_at(house: House):
    told = await house.send("", "bob@example.org", content=b"X-Loop: news@example.org\r\n\r\n")
    assert [reply[:3] for reply in told] == ["250", "250"]
    assert await house.kept() == [{}]


async def test_a_database_that_fails_is_for_later(house: House):
    await house.store.close()
    assert (await house.send("ann@example.org", "news@example.org"))[0].startswith("451")


async def test_recipients_refused_one_by_one_over_lmtp():
    store = open_lists(None)
    for name in ("news", "dev"):
        await store.create(name, f"{name}@example.org")
    await store.subscribe("news", "ann@example.org", now=1)
    settings = settings_with(listen=[{"name": "l", "address": "127.0.0.1:0", "protocol": "lmtp"}])
    house = House(store, settings)
    async with house.rig:
        client = house.rig.connect()
        assert (await client.reply()).startswith("220")
        await client.command("LHLO client.example")
        await client.command("MAIL FROM:<ann@example.org>")
        for recipient in ("news@example.org", "dev@example.org", "bob@example.org"):
            assert (await client.command(f"RCPT TO:<{recipient}>")).startswith("250")
        await client.command("DATA")
        replies = [await client.content(POST), await client.reply(), await client.reply()]
        assert [reply[:3] for reply in replies] == ["250", "550", "250"]
        recipients = [str(one) for entry in await house.rig.spool.entries() for one in entry.envelope.recipients]
        assert recipients == ["news@example.org", "bob@example.org"]
    await store.close()


def test_which_list_a_recipient_belongs_to():
    first = [{"match": "news@example.org", "deliver": "discard"}, *ROUTES]
    find, hidden = listed(settings_with()), listed(settings_with(first))
    for address, name in {
        "news@example.org": "news",
        "News-Bounces+1-abc@Example.org": "news",
        "news-owner@example.org": "news",
        "dev-confirm+x@example.org": "dev",
        "ann@example.org": None,
        "news@example.com": None,
        "news-owner-owner@example.org": None,
    }.items():
        assert find(Path.parse(address), Path(), None) == name, address
    assert hidden(Path.parse("news@example.org"), Path(), None) is None
    assert hidden(Path.parse("news-owner@example.org"), Path(), None) == "news"
    assert settings_with().has_lists and not settings_with(ROUTES[-1:]).has_lists
