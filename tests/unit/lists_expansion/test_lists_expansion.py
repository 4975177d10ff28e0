"""From a post to copies for all members: everybody once, whatever is on what."""

from collections import Counter
from dataclasses import replace

import pytest

from gatepost.lists.expansion import TOGETHER, expand, member_in
from gatepost.model import Body, Envelope, Path, Recipient
from list_posts import NOW, World, addressed, entry


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.store.close()


async def test_every_member_who_takes_mail_has_a_copy_as_a_member(world):
    news = await world.make("news", "ann@example.net", "bob@example.net", "cas@example.net", "dan@example.net")
    bob = await world.store.member("news", "bob@example.net")
    cas = await world.store.member("news", "cas@example.net")
    await world.store.change_member(replace(bob, mode="nomail"))
    await world.store.change_member(replace(cas, vacation_until=NOW + 1))
    post = entry()
    [copies] = await expand(world.context, news, post)
    assert addressed([copies]) == [("news", "ann@example.net"), ("news", "dan@example.net")]
    assert copies.envelope.sender == Path.parse("news-bounces@example.org")
    assert copies.content is post.content
    assert copies.ticket != post.ticket
    assert copies.facts == {
        "asked": "submitted",
        "list-post": str(post.ticket),
        "list": "news",
        "list-had": "news",
    }
    ids = {name: member_in(route) for name, route in copies.routes.items()}
    dan = await world.store.member("news", "dan@example.net")
    assert ids["dan@example.net"] == dan.id


async def test_a_vacation_ends(world):
    news = await world.make("news", "cas@example.net")
    cas = await world.store.member("news", "cas@example.net")
    await world.store.change_member(replace(cas, vacation_until=NOW + 1))
    assert await expand(world.context, news, entry()) == ()
    world.now = NOW + 1
    assert addressed(await expand(world.context, news, entry())) == [("news", "cas@example.net")]


async def test_a_list_without_members_comes_to_nothing(world):
    assert await expand(world.context, await world.make("news"), entry()) == ()


async def test_lists_on_lists_reach_everybody_once_and_end(world):
    news = await world.make("news", "ann@example.net", "DEV@example.org", "ops@example.org", "news@example.org")
    await world.make("dev", "Ann@EXAMPLE.net", "bob@example.net", "ops@example.org", "news@example.org")
    await world.make("ops", "bob@example.net", "cas@example.net", "dev@example.org")
    made = await expand(world.context, news, entry())
    assert addressed(made) == [("news", "ann@example.net"), ("dev", "bob@example.net"), ("ops", "cas@example.net")]
    assert [one.facts.get("list-via") for one in made] == [None, "news@example.org", "news@example.org"]
    assert len({one.id for one in made}) == len(made)


async def test_a_list_on_a_list_that_has_the_post_itself_is_left_to_that(world):
    news = await world.make("news", "ann@example.net", "dev@example.org")
    dev = await world.make("dev", "ann@example.net", "bob@example.net")
    post = entry(to=("news@example.org", "Dev@example.org"))
    assert addressed(await expand(world.context, news, post)) == [("news", "ann@example.net")]
    assert [who for _, who in addressed(await expand(world.context, dev, post))] == [
        "ann@example.net",
        "bob@example.net",
    ]


async def test_a_list_whose_membership_takes_no_mail_gets_none(world):
    news = await world.make("news", "dev@example.org")
    await world.make("dev", "bob@example.net")
    await world.store.change_member(replace(await world.store.member("news", "dev@example.org"), mode="nomail"))
    assert await expand(world.context, news, entry()) == ()


async def test_who_hears_of_a_posts_way_hears_of_it_up_to_the_list(world):
    news = await world.make("news", "ann@example.net")
    envelope = Envelope(
        Path.parse("x@example.net"),
        (Recipient(Path.parse("news@example.org"), {"NOTIFY": "SUCCESS"}),),
        Body.EIGHT_BIT_MIME,
        True,
        {"RET": "FULL", "ENVID": "1", "REQUIRETLS": ""},
    )
    [copies] = await expand(world.context, news, entry(envelope=envelope, authenticated="x"))
    assert copies.envelope.parameters == {"REQUIRETLS": ""}
    assert [one.parameters for one in copies.envelope.recipients] == [{}]
    assert (copies.envelope.body, copies.envelope.smtputf8, copies.authenticated) == (Body.EIGHT_BIT_MIME, True, None)


async def test_texts_of_plugins_go_with_the_copies_as_they_are_now(world):
    news = await world.make("news", "ann@example.net")
    [copies] = await expand(world.context, news, entry(facts={"kept": "old"}, notes={"kept": "new"}))
    assert copies.facts["kept"] == "new"


@pytest.mark.parametrize("domains", [1, 3, 60, 2000])
async def test_entries_are_few_and_bounded_however_many_domains_there_are(world, domains):
    people = [f"m{n}@d{n % domains}.example.net" for n in range(2000)]
    news = await world.make("news", *people)
    post = entry()
    made = await expand(world.context, news, post)
    assert Counter(who for _, who in addressed(made)) == Counter(people)
    assert all(len(one.envelope.recipients) <= TOGETHER for one in made)
    assert len(made) <= 2 * len(people) / TOGETHER
    assert all(one.content is post.content for one in made)
    assert [one.part for one in made] == list(range(len(made)))


async def test_members_are_read_by_pages(world, monkeypatch):
    news = await world.make("news", *(f"m{n}@example.net" for n in range(2500)))
    pages: list[int] = []
    ask = world.store.members

    async def members(name, *, after=0, limit=None):
        page = await ask(name, after=after, limit=limit)
        pages.append(len(page))
        return page

    monkeypatch.setattr(world.store, "members", members)
    assert len(addressed(await expand(world.context, news, entry()))) == 2500
    assert pages == [1000, 1000, 500, 0]
