"""What comes of mail to a list's addresses: judged once, archived, expanded; and what happens where a store fails."""

import pytest

from gatepost.lists.addressing import Purpose, address_for
from gatepost.lists.archive import Archive
from gatepost.lists.house import ListHouse
from gatepost.model.kept import FACT, kept_fact
from gatepost.net.resolver import StaticResolver
from gatepost.store.files import RealFiles
from list_posts import POST, World, addressed, at_rest, entry

STRANGER = POST.replace(b"ann@", b"eve@")


@pytest.fixture
async def world():
    made = World()
    yield made
    await made.store.close()


@pytest.fixture
def house(world, tmp_path):
    return ListHouse(world.context, lambda: StaticResolver({}), Archive(tmp_path, RealFiles()))


async def take(house, post, name="news"):
    return await house.take(name, post, post.envelope.recipients[0])


def judged(text: str):
    """A fact of what the gate has decided about a post to `news`."""
    return {FACT: kept_fact({"list:news": text})}


async def test_a_post_becomes_copies(world, house):
    await world.make("news", "ann@example.net", "bob@example.net", post="members")
    handled = await take(house, entry())
    assert handled.refusal is None
    assert addressed(handled.deposits) == [("news", "ann@example.net"), ("news", "bob@example.net")]


@pytest.mark.parametrize(
    ("name", "to"), [("gone", "gone@example.org"), ("news", "news-nothing@example.org"), ("news", "x@example.org")]
)
async def test_what_is_for_no_list_fails(world, house, name, to):
    await world.make("news")
    handled = await take(house, entry(to=(to,)), name)
    assert (handled.refusal.code, handled.refusal.status, handled.deposits) == (550, "5.1.1", ())


async def test_what_came_by_no_session_is_judged_here(world, house):
    await world.make("news", "ann@example.net", post="members")
    handled = await take(house, entry(STRANGER, authenticated="local"))
    assert handled.refusal.code == 550
    await world.make("held", "ann@example.net", post="members", strangers="hold", owners=("olga@example.org",))
    [held, notice] = (await take(house, entry(STRANGER, to=("held@example.org",)), "held")).deposits
    assert held.held == "list held: waits for a moderator"
    assert [who.address for who in notice.envelope.recipients] == ["olga@example.org"]


async def test_what_came_by_an_alias_is_held_where_it_would_have_been_refused(world, house):
    await world.make("news", "ann@example.net", post="members", owners=("olga@example.org",))
    forged = await take(house, entry(STRANGER))
    assert forged.refusal is None
    [held, notice] = forged.deposits
    assert held.held == "list news: waits for a moderator"
    assert b"and the author isn't one of them.\r\n" in notice.content.read(0, notice.content.size).replace(
        b"of\r\nthem", b"of them"
    )
    assert (await take(house, entry(STRANGER, sender=""))).refusal.code == 550  # no bounce comes of it


async def test_what_the_session_has_decided_isnt_judged_again(world, house):
    await world.make("news", "ann@example.net", post="members", owners=("olga@example.org",))
    assert addressed((await take(house, entry(STRANGER, facts=judged("allowed")))).deposits) == [
        ("news", "ann@example.net")
    ]
    [held, _] = (await take(house, entry(facts=judged("moderate: it is long")))).deposits
    assert held.held
    # what a plugin has kept since counts
    again = entry(facts=judged("moderate: it is long"), notes=judged("allowed"))
    assert len((await take(house, again)).deposits) == 1


async def test_what_was_held_and_goes_on_is_approved_for_that_list_only(world, house):
    await world.make("news", "ann@example.net", post="moderated", owners=("olga@example.org",))
    await world.make("dev", "ann@example.net", post="moderated", owners=("olga@example.org",))
    [held, _] = (await take(house, entry())).deposits
    assert addressed((await take(house, at_rest(held))).deposits) == [("news", "ann@example.net")]
    other = entry(to=("dev@example.org",), facts=held.facts)
    assert (await take(house, other, "dev")).deposits[0].held


async def test_other_addresses_are_requests(world, house):
    await world.make("news", owners=("olga@example.org",))
    [letter] = (await take(house, entry(to=("news-request@example.org",)))).deposits
    assert [who.address for who in letter.envelope.recipients] == ["ann@example.net"]


async def test_a_database_that_fails_puts_mail_off(world, house):
    await world.make("news", "ann@example.net")
    await world.store.close()
    handled = await take(house, entry())
    assert (handled.refusal.code, handled.deposits) == (451, ())


async def test_posts_are_archived_once_before_they_go_out(world, house, tmp_path):
    await world.make("news", "ann@example.net", archive=True)
    await world.make("dev", "ann@example.net")
    await take(house, entry())
    await take(house, entry())
    await take(house, entry(to=("dev@example.org",)), "dev")
    await take(house, entry(to=("news-request@example.org",)))
    [box] = tmp_path.glob("*/*.mbox")
    assert box.parent.name == "news"
    assert box.read_bytes().count(b"\nSubject: hello\n") == 1


async def test_a_post_waits_for_an_archive_that_cant_be_written(world, house, tmp_path):
    await world.make("news", "ann@example.net", archive=True)
    (tmp_path / "news").write_text("a file")
    handled = await take(house, entry())
    assert (handled.refusal.code, handled.deposits) == (451, ())
    (tmp_path / "news").unlink()
    assert len((await take(house, entry())).deposits) == 1


async def test_without_a_place_for_it_there_is_no_archive(world):
    await world.make("news", "ann@example.net", archive=True)
    house = ListHouse(world.context, lambda: StaticResolver({}))
    assert len((await take(house, entry())).deposits) == 1


async def test_decisions_are_told_until_they_are_carried_out(world, house):
    await world.make("news", "ann@example.net", post="moderated", owners=("olga@example.org",))
    [held, _] = (await take(house, entry())).deposits
    assert await house.decisions() == []
    await world.store.decide(str(held.ticket), False, "olga@example.org", world.now)
    assert await house.decisions() == [(str(held.ticket), False)]
    [told] = await house.refused(at_rest(held))  # ann is a member
    assert [who.address for who in told.envelope.recipients] == ["ann@example.net"]
    await house.carried_out(str(held.ticket))
    assert await house.decisions() == []


async def test_a_post_to_a_list_in_a_circle_ends(world, house):
    await world.make("news", "dev@example.org")
    await world.make("dev", "news@example.org", "ann@example.net")
    [copies] = (await take(house, entry())).deposits
    looks = await house.copies(at_rest(copies))
    _, blob = looks.of(copies.envelope.recipients)
    for name in ("news", "dev"):  # a member who forwards his copy to either list
        back = entry(blob.read(), to=(f"{name}@example.org",), number=2)
        assert (await take(house, back, name)).refusal.code == 554


async def test_every_address_of_a_list_is_taken_or_refused_and_nothing_raises(world, house):
    made = await world.make("news", "ann@example.net")
    for purpose in Purpose:
        for extension in ("", "1-abc", "x" * 40):
            recipient = address_for(made.address, purpose, extension).address
            handled = await take(house, entry(b"\r\n", to=(recipient,), sender=""))
            assert handled.refusal is None or handled.refusal.is_permanent


async def test_a_moderator_who_has_logged_in_needs_no_session_to_be_known(world, house):
    await world.make("news", "bob@example.net", post="moderated", moderators=("ann@example.net",))
    by_program = entry(authenticated="ann@example.net")
    assert addressed((await take(house, by_program)).deposits) == [("news", "bob@example.net")]
    assert (await take(house, entry())).deposits[0].held
