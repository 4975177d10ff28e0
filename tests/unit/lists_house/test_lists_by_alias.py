"""Members that are aliases of a list: the copy comes back to a list before it has a header section to be known by."""

from dataclasses import replace

import pytest

from gatepost.lists.handled import Handled
from gatepost.lists.house import ListHouse
from gatepost.model import Path, Recipient
from gatepost.model.kept import FACT, kept_fact
from gatepost.net.resolver import StaticResolver
from gatepost.store import Entry
from list_posts import World, addressed, at_rest, entry


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.store.close()


@pytest.fixture
def house(world):
    return ListHouse(world.context, lambda: StaticResolver({}))


async def take(house: ListHouse, post: Entry, name: str = "news"):
    return await house.take(name, post, post.envelope.recipients[0])


def by_alias(copies, *to: str) -> Entry:
    """What an alias makes of copies: the same for others."""
    recipients = tuple(Recipient(Path.parse(one)) for one in to)
    return at_rest(replace(copies, envelope=replace(copies.envelope, recipients=recipients), routes={}))


async def test_a_member_that_leads_back_to_its_list_brings_nobody_a_second_copy(world, house):
    await world.make("news", "ann@example.net", "team@example.org")  # an alias of news@
    allowed = {FACT: kept_fact({"list:news": "allowed"})}
    for facts in ({}, allowed):
        [copies] = (await take(house, entry(facts=facts))).deposits
        assert await take(house, by_alias(copies, "news@example.org")) == Handled()


async def test_lists_that_are_on_each_other_by_aliases_end_where_they_began(world, house):
    await world.make("news", "ann@example.net", "to-dev@example.org")
    await world.make("dev", "bob@example.net", "to-news@example.org")
    [first] = (await take(house, entry())).deposits
    [second] = (await take(house, by_alias(first, "dev@example.org"), "dev")).deposits
    assert addressed([second]) == [("dev", "bob@example.net"), ("dev", "to-news@example.org")]
    assert second.facts["list-via"] == "news@example.org"
    for name in ("news", "dev"):
        handled = await take(house, by_alias(second, f"{name}@example.org"), name)
        assert (handled.deposits, handled.refusal) == ((), None)


async def test_a_list_on_a_list_is_had_too(world, house):
    await world.make("news", "dev@example.org", "to-ops@example.org")
    await world.make("dev", "bob@example.net", "to-ops@example.org")
    await world.make("ops", "dev@example.org", "cas@example.net")
    both = (await take(house, entry())).deposits
    assert [one.facts["list-had"] for one in both] == ["dev news", "dev news"]
    [third] = (await take(house, by_alias(both[0], "ops@example.org"), "ops")).deposits
    assert addressed([third]) == [("ops", "cas@example.net")]


async def test_a_list_that_the_post_was_written_to_as_well_is_left_to_that(world, house):
    await world.make("news", "to-dev@example.org")
    await world.make("dev", "bob@example.net")
    post = entry(facts={FACT: kept_fact({"list:news": "allowed", "list:dev": "allowed"})})
    [copies] = (await take(house, post)).deposits
    assert (await take(house, by_alias(copies, "dev@example.org"), "dev")).deposits == ()


async def test_an_alias_of_another_list_asks_that_ones_rules(world, house):
    await world.make("news", "to-dev@example.org")
    await world.make("dev", "bob@example.net", post="members")
    [copies] = (await take(house, entry())).deposits
    refused = (await take(house, by_alias(copies, "dev@example.org"), "dev")).refusal
    assert refused is not None and refused.text.startswith("only members may post to dev@example.org")


@pytest.mark.parametrize("word", ["subscribe", "unsubscribe", "request", "bounces"])
async def test_a_copy_asks_a_list_for_nothing(world, house, word):
    await world.make("news", f"dev-{word}@example.org")
    await world.make("dev", "ann@example.net")
    [copies] = (await take(house, entry())).deposits
    handled = await take(house, at_rest(copies), "dev")
    assert (handled.deposits, handled.refusal) == ((), None)
