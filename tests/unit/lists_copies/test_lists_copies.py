"""How copies look at an attempt: a return path and a header section each, the stored body for all."""

from email import message_from_bytes, policy
from types import SimpleNamespace
from typing import cast

import dkim
import pytest

from gatepost.checks.dkim import Dkim, Signer, TimedKey
from gatepost.content.dkim import SigningKey, Style
from gatepost.content.dkim_keys import Algorithm, make_key
from gatepost.content.view import View
from gatepost.hooks.stages import OutMessage
from gatepost.lists.addressing import Purpose, bounced_member, purpose_of, unsubscribing_member
from gatepost.lists.copies import copies
from gatepost.lists.dmarc import is_strict
from gatepost.lists.expansion import expand
from gatepost.model import Bytes, Path
from gatepost.net.resolver import StaticResolver
from gatepost.store.blobs import FileBlob
from gatepost.store.lists import ListError
from list_posts import POST, World, at_rest, entry

BODY = POST.partition(b"\r\n\r\n")[2]
NOWHERE = StaticResolver({})
URL = "https://lists.example.org/u/{token}"


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.store.close()


async def expanded(world, name="news", content=POST, resolver=NOWHERE, **more):
    """The first entry of copies of a post, and how they look."""
    mailing_list = await world.store.find(name)
    made = await expand(world.context, mailing_list, entry(content, **more))
    copy = at_rest(made[0])
    looks = await copies(world.context, copy, resolver)
    assert looks is not None
    return copy, looks


def read(blob):
    return message_from_bytes(blob.read(), policy=policy.default)


async def test_every_member_has_a_return_path_and_a_link_of_his_own(world):
    mailing_list = await world.make("news", "ann@example.net", "bob@example.net", unsubscribe_url=URL)
    copy, looks = await expanded(world)
    assert looks.each
    for recipient in copy.envelope.recipients:
        sender, blob = looks.of([recipient])
        purpose, extension = purpose_of(mailing_list.address, sender)
        assert purpose is Purpose.BOUNCES
        assert len(sender.local) <= 64
        member = await world.store.member_by_id(bounced_member(mailing_list, extension, world.store.secret))
        assert member.address == recipient.address
        link = read(blob)["List-Unsubscribe"].partition(">")[0]
        token = link.rpartition("/")[2]
        assert unsubscribing_member(token, world.store.secret) == member.id
        assert blob.size == len(blob.read()) == sum(map(len, blob.chunks()))
        assert blob.read().endswith(b"\r\n\r\n" + BODY)


async def test_without_verp_and_links_one_copy_is_for_many(world):
    await world.make("news", "ann@example.net", "bob@example.net", verp=False)
    copy, looks = await expanded(world)
    assert not looks.each
    sender, blob = looks.of(copy.envelope.recipients)
    assert sender == Path.parse("news-bounces@example.org")
    assert read(blob)["List-Unsubscribe"] == "<mailto:news-unsubscribe@example.org>"


async def test_a_link_alone_wants_a_copy_each(world):
    await world.make("news", "ann@example.net", verp=False, unsubscribe_url=URL)
    copy, looks = await expanded(world)
    sender, blob = looks.of(copy.envelope.recipients)
    assert (looks.each, sender.local) == (True, "news-bounces")
    assert read(blob)["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


async def test_somebody_whom_a_plugin_added_gets_a_copy_that_is_nobodys(world):
    await world.make("news", "ann@example.net", unsubscribe_url=URL)
    _, looks = await expanded(world)
    other = entry(to=("eve@example.net",)).envelope.recipients
    sender, blob = looks.of(other)
    assert sender.local == "news-bounces"
    assert read(blob)["List-Unsubscribe-Post"] is None


async def test_the_longest_list_and_member_fit_into_a_return_path(world):
    await world.make("n" * 26, "ann@example.net")
    mailing_list = await world.store.find("n" * 26)
    _, looks = await expanded(world, "n" * 26)
    looks.members["ann@example.net"] = 10**12
    sender, _ = looks.of(entry(to=("ann@example.net",)).envelope.recipients)
    assert len(sender.local) <= 64
    assert Path.parse(sender.address) == sender
    assert purpose_of(mailing_list.address, sender)[0] is Purpose.BOUNCES


async def test_options_count_as_they_are_at_the_attempt(world):
    mailing_list = await world.make("news", "ann@example.net")
    copy, _ = await expanded(world)
    await world.store.change("news", type(mailing_list.options)(post="open", subject_prefix="[n]"))
    looks = await copies(world.context, copy, NOWHERE)
    assert read(looks.of(copy.envelope.recipients)[1])["Subject"] == "[n] hello"


async def test_copies_of_a_list_that_was_removed_go_out(world):
    await world.make("news", "ann@example.net")
    copy, _ = await expanded(world)
    await world.store.remove("news")
    looks = await copies(world.context, copy, NOWHERE)
    sender, blob = looks.of(copy.envelope.recipients)
    assert (looks.each, sender) == (False, Path.parse("news-bounces@example.org"))
    assert read(blob)["List-Id"] == "<news.example.org>"


async def test_nested_copies_say_the_way_they_came(world):
    await world.make("news", "dev@example.org")
    await world.make("dev", "bob@example.net")
    mailing_list = await world.store.find("news")
    [deposit] = await expand(world.context, mailing_list, entry())
    looks = await copies(world.context, at_rest(deposit), NOWHERE)
    sender, blob = looks.of(deposit.envelope.recipients)
    assert read(blob).get_all("X-Loop") == ["news@example.org", "dev@example.org"]
    assert sender.local.startswith("dev-bounces+")


async def test_other_mail_has_no_copies(world):
    assert await copies(world.context, entry(), NOWHERE) is None


async def test_the_body_stays_where_it_is(world, tmp_path):
    path = tmp_path / "body"
    path.write_bytes(POST + b"x" * 300_000)
    await world.make("news", "ann@example.net")
    _, looks = await expanded(world, content=FileBlob(path, path.stat().st_size))
    [span] = looks.body.spans
    assert span.blob == FileBlob(path, path.stat().st_size)


async def test_a_store_that_fails_is_heard(world):
    await world.make("news", "ann@example.net")
    copy, _ = await expanded(world)
    await world.store.close()
    with pytest.raises(ListError):
        await copies(world.context, copy, NOWHERE)


@pytest.mark.parametrize(
    ("zone", "is_rewritten"),
    [
        ({}, False),
        ({"_dmarc.example.net": {"TXT": ["v=DMARC1; p=none"]}}, False),
        ({"_dmarc.example.net": {"TXT": ["v=DMARC1; p=reject"]}}, True),
        ({"_dmarc.example.net": "SERVFAIL"}, True),
    ],
)
async def test_from_is_rewritten_where_its_domain_wants_proof(world, zone, is_rewritten):
    await world.make("news", "ann@example.net", from_="rewrite-if-dmarc")
    copy, looks = await expanded(world, resolver=StaticResolver(zone))
    shown = read(looks.of(copy.envelope.recipients)[1])["From"]
    assert shown == ("Ann Example via news <news@example.org>" if is_rewritten else "Ann Example <ann@example.net>")


@pytest.mark.parametrize(("policy", "is_rewritten"), [("as-is", False), ("rewrite", True)])
async def test_from_is_rewritten_always_or_never_where_the_list_says_so(world, policy, is_rewritten):
    await world.make("news", "ann@example.net", from_=policy)
    copy, looks = await expanded(
        world, resolver=StaticResolver({"_dmarc.example.net": {"TXT": ["v=DMARC1; p=reject"]}})
    )
    assert ("news@example.org" in read(looks.of(copy.envelope.recipients)[1])["From"]) is is_rewritten


@pytest.mark.parametrize(
    ("records", "strict"),
    [
        ({"a.b.example.net": "v=DMARC1;p=quarantine"}, True),
        ({"example.net": "v=DMARC1; p=reject"}, True),
        ({"example.net": "v=DMARC1; p=reject; sp=none"}, False),
        ({"example.net": "v=DMARC1; p=none; sp=quarantine"}, True),
        ({"b.example.net": "v=DMARC1; p=none", "example.net": "v=DMARC1; p=reject"}, False),
        ({"a.b.example.net": "v=DMARC1; p=none; sp=reject"}, False),
        ({"example.net": "v=spf1 -all"}, False),
        ({"net": "v=DMARC1; p=reject"}, False),
    ],
)
async def test_a_policy_is_the_domains_own_or_its_nearest_parents(records, strict):
    zone = {f"_dmarc.{name}": {"TXT": [text]} for name, text in records.items()}
    assert await is_strict("a.b.example.net", StaticResolver(zone)) is strict


async def test_two_records_are_none():
    zone = {"_dmarc.example.net": {"TXT": ["v=DMARC1; p=reject", "v=DMARC1; p=none"]}}
    assert not await is_strict("example.net", StaticResolver(zone))


async def test_a_long_name_makes_few_questions():
    asked = []

    class Counting(StaticResolver):
        async def txt(self, name):
            asked.append(name)
            return await super().txt(name)

    assert not await is_strict(".".join("abcdefghijklmnopqrstuvwxyz") + ".example.net", Counting({}))
    assert asked[-1] == "_dmarc.example.net"
    assert len(asked) < 10


async def test_a_copy_that_is_signed_as_it_leaves_verifies(world):
    await world.make("news", "ann@example.net", subject_prefix="[größe]", unsubscribe_url=URL)
    copy, looks = await expanded(world)
    sender, blob = looks.of(copy.envelope.recipients)
    key, _ = make_key(Algorithm.RSA, 1024)
    view = View(Bytes(blob.read()))
    event = SimpleNamespace(
        message=view,
        sender=sender,
        recipients=copy.envelope.recipients,
        server=SimpleNamespace(clock=SimpleNamespace(unix=lambda: (world.now, 0))),
        note=lambda **_: None,
        transaction=None,
        capabilities={"8BITMIME": ""},
    )
    signer = Signer("example.org", ("example.org",), (TimedKey(SigningKey("example.org", "s", key)),), Style())
    await Dkim([signer]).sign(cast(OutMessage, event))
    signed = view.blob.read()

    def dns(name, timeout=0):
        wanted = b"s._domainkey.example.org."
        return key.public_record().encode() if name == wanted else None

    assert dkim.verify(signed, minkey=1024, dnsfunc=dns)
    changed = signed.replace(b"<https://lists", b"<https://evil")
    assert changed != signed
    assert not dkim.verify(changed, minkey=1024, dnsfunc=dns)  # rfc8058#4: the link is covered


async def test_what_is_written_follows_the_way_the_copy_goes(world):
    await world.make("news", "ann@example.net", subject_prefix="[größe]")
    for utf8, written in ((True, "Subject: [größe] hello".encode()), (False, b"Subject: =?utf-8?")):
        envelope = entry().envelope
        post = entry(envelope=type(envelope)(envelope.sender, envelope.recipients, smtputf8=utf8))
        [deposit] = await expand(world.context, await world.store.find("news"), post)
        looks = await copies(world.context, at_rest(deposit), NOWHERE)
        assert written in looks.of(deposit.envelope.recipients)[1].read()


async def test_without_an_author_nobodys_policy_is_asked_for(world):
    await world.make("news", "ann@example.net", from_="rewrite-if-dmarc")

    class Silent(StaticResolver):
        async def txt(self, name):
            raise AssertionError(name)

    copy, looks = await expanded(world, content=b"Subject: x\r\n\r\n", resolver=Silent({}))
    assert read(looks.of(copy.envelope.recipients)[1])["From"] is None
