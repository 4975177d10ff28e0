"""The lists' database: what is kept, what is told, on disk and in memory."""

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.store.lists import ListError, ListOptions, ListStore, Taken, UnknownList, open_lists
from gatepost.store.lists_database import ListDatabase
from gatepost.store.lists_facts import Trouble, Unavailable, check_address, check_name, check_options


@pytest.fixture(params=["disk", "memory"])
async def lists(request, tmp_path):
    store = open_lists(tmp_path / "lists.db" if request.param == "disk" else None)
    await store.create("news", "News@Example.org")
    yield store
    await store.close()


async def test_a_list_is_found_by_its_name_and_by_its_address(lists: ListStore):
    [news] = await lists.all()
    assert news == await lists.find("news") == await lists.at("nEWS@example.ORG")
    assert (news.address, news.options) == ("News@example.org", ListOptions())
    assert await lists.find("other") is None


async def test_names_and_addresses_belong_to_one_list(lists: ListStore):
    with pytest.raises(Taken, match="gatepost list show news"):
        await lists.create("news", "other@example.org")
    with pytest.raises(Taken, match='the address of the list "news"'):
        await lists.create("other", "NEWS@example.org")
    assert [one.name for one in await lists.all()] == ["news"]


async def test_options_are_changed_and_read_again(lists: ListStore):
    options = ListOptions(
        description="Neues für alle",
        owners=("ann@example.org",),
        post="moderated",
        attachments=("image/*",),
        from_="rewrite",
    )
    await lists.change("news", options)
    found = await lists.find("news")
    assert found is not None and found.options == options
    with pytest.raises(UnknownList, match="gatepost list"):
        await lists.change("other", options)


async def test_a_member_is_on_a_list_once_however_the_address_is_written(lists: ListStore):
    ann = await lists.subscribe("news", "Ann@example.org", display="Ann\r\nBcc: x", now=7.0)
    assert (ann.address, ann.display, ann.since, ann.takes_mail(8)) == ("Ann@example.org", "Ann Bcc: x", 7.0, True)
    with pytest.raises(Taken, match="on the list already"):
        await lists.subscribe("news", "aNN@EXAMPLE.org", now=8.0)
    assert await lists.member("news", "ANN@example.org") == await lists.member_by_id(ann.id) == ann
    assert await lists.count("news") == 1
    assert await lists.unsubscribe("news", "ann@Example.org")
    assert not await lists.unsubscribe("news", "ann@Example.org")


async def test_an_id_is_never_given_to_somebody_else(lists: ListStore):
    ann = await lists.subscribe("news", "ann@example.org", now=1)
    await lists.unsubscribe("news", "ann@example.org")
    bob = await lists.subscribe("news", "bob@example.org", now=2)
    assert bob.id > ann.id and await lists.member_by_id(ann.id) is None


async def test_who_gets_mail_now(lists: ListStore):
    ann = await lists.subscribe("news", "ann@example.org", now=1)
    assert not replace(ann, mode="nomail").takes_mail(5)
    assert not replace(ann, stopped_at=4.0).takes_mail(5)
    away = replace(ann, vacation_until=10.0)
    assert [away.takes_mail(9), away.takes_mail(10)] == [False, True]


async def test_the_facts_of_a_member_are_written_down(lists: ListStore):
    ann = await lists.subscribe("news", "ann@example.org", now=1)
    changed = replace(
        ann,
        mode="nomail",
        display="A",
        moderated=True,
        score=2.5,
        bounced_at=3.0,
        probed_at=4.0,
        stopped_at=5.0,
        vacation_until=9.0,
    )
    assert await lists.change_member(changed)
    assert await lists.member_by_id(ann.id) == changed
    assert await lists.troubled() == [changed]
    await lists.unsubscribe("news", ann.address)
    assert not await lists.change_member(changed)


async def test_members_come_in_pages(lists: ListStore):
    people = [(f"m{n}@example.org", "") for n in range(25)]
    assert await lists.subscribe_all("news", [*people, ("M3@example.org", "again")], now=1) == 25
    seen, after = [], 0
    while page := await lists.members("news", after=after, limit=10):
        assert len(page) <= 10
        seen += [member.address for member in page]
        after = page[-1].id
    assert seen == [address for address, _ in people]
    assert await lists.unsubscribe_all("news", ["m1@example.org", "nobody@example.org", "m2@example.org"]) == [
        "m1@example.org", "m2@example.org",
    ]  # fmt: skip


async def test_many_members_are_all_added_or_none(lists: ListStore):
    with pytest.raises(ListError, match='"not one" is no address'):
        await lists.subscribe_all("news", [("ann@example.org", ""), ("not one", "")], now=1)
    with pytest.raises(UnknownList):
        await lists.subscribe_all("other", [("ann@example.org", "")], now=1)
    assert await lists.count("news") == 0


async def test_a_list_that_is_removed_takes_its_members_with_it(lists: ListStore):
    ann = await lists.subscribe("news", "ann@example.org", now=1)
    token = await lists.ask("news", "bob@example.org", "subscribe", 1, 100)
    assert await lists.remove("news") and not await lists.remove("news")
    assert await lists.member_by_id(ann.id) is None
    assert await lists.answer(token, 2) is None


async def test_a_token_confirms_once_and_in_time(lists: ListStore):
    token = await lists.ask("news", "Ann@example.org", "subscribe", 100, 50)
    late = await lists.ask("news", "ann@example.org", "subscribe", 100, 5)
    assert len(token) == 16 and token != late
    assert [one.token for one in await lists.waiting("news", 110)] == [token]
    assert await lists.answer(late, 106) is None
    found = await lists.answer(token.upper(), 106)
    assert found is not None and (found.list, found.address, found.action) == ("news", "Ann@example.org", "subscribe")
    assert await lists.answer(token, 106) is None
    assert await lists.asked_since("ANN@example.org", 50) == 2
    assert await lists.asked_since("ann@example.org", 101) == 0


async def test_the_first_decision_counts(lists: ListStore):
    first = await lists.decide("t1", True, "mod@example.org", 5)
    second = await lists.decide("t1", False, "other@example.org", 6)
    assert first == second and first.approved and first.by == "mod@example.org"
    assert await lists.decisions() == [first]
    await lists.carried_out("t1")
    assert await lists.decisions() == []
    assert await lists.decision("t1") == first and await lists.decision("t2") is None


async def test_what_is_closed_says_so(lists: ListStore):
    await lists.close()
    with pytest.raises(ListError, match="closed"):
        await lists.find("news")


async def test_two_processes_share_a_database(tmp_path: Path):
    here, there = open_lists(tmp_path / "lists.db"), open_lists(tmp_path / "lists.db")
    assert here.secret == there.secret and len(here.secret) == 32
    await here.create("news", "news@example.org")
    await asyncio.gather(
        *(
            store.subscribe("news", f"{n}-{at}@example.org", now=1)
            for at, store in enumerate((here, there))
            for n in range(10)
        )
    )
    assert await here.count("news") == await there.count("news") == 20
    assert (tmp_path / "lists.db").stat().st_mode & 0o777 == 0o600
    await here.close()
    await there.close()


def test_a_file_that_is_no_database_is_told(tmp_path: Path):
    (tmp_path / "lists.db").write_bytes(b"x" * 5000)
    with pytest.raises(Unavailable, match=r"lists\.db: it is damaged; stop the server") as raised:
        open_lists(tmp_path / "lists.db")
    assert raised.value.trouble is Trouble.DAMAGED


def test_why_the_database_cannot_answer_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gatepost.store.shared._BUSY_MS", 20)
    path = tmp_path / "lists.db"
    ListDatabase(path).close()
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    lists = ListDatabase(path)  # who only looks isn't kept from it
    assert lists.all() == []
    with pytest.raises(Unavailable, match="another process keeps it locked; try again") as raised:
        lists.create("news", "news@example.org", ListOptions())
    assert raised.value.trouble is Trouble.BUSY
    other.execute("ROLLBACK")
    for pragma, trouble in (("max_page_count=1", Trouble.FULL), ("query_only=1", Trouble.FORBIDDEN)):
        with closing(ListDatabase(path)) as lists:
            lists.create("news", "news@example.org", ListOptions())
            lists._connection.execute(f"PRAGMA {pragma}")
            with pytest.raises(Unavailable) as raised:
                lists.subscribe_all("news", ((f"m{n}@example.org", "x" * 100) for n in range(1000)), now=1)
            assert raised.value.trouble is trouble
            assert lists.count("news") == 0
            lists._connection.execute("PRAGMA query_only=0")
            lists.remove("news")
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unavailable) as raised:
        ListDatabase(tmp_path / "folder")
    assert raised.value.trouble is Trouble.FORBIDDEN


def test_a_database_with_a_damaged_page_is_told(tmp_path: Path):
    path = tmp_path / "lists.db"
    lists = ListDatabase(path)
    lists.create("news", "news@example.org", ListOptions())
    lists.subscribe_all("news", ((f"m{n}@example.org", "") for n in range(2000)), now=1)
    lists.close()
    octets = bytearray(path.read_bytes())
    octets[4096 * 12 :] = b"\xff" * (len(octets) - 4096 * 12)
    path.write_bytes(octets)
    with pytest.raises(Unavailable, match="damaged"), closing(ListDatabase(path)) as lists:
        lists.members("news")


def test_ten_thousand_members_are_added_in_one_step(tmp_path: Path):
    database = ListDatabase(tmp_path / "lists.db")
    database.create("news", "news@example.org", ListOptions())
    assert database.subscribe_all("news", ((f"m{n}@example.org", "") for n in range(10_000)), now=1) == 10_000
    assert database.count("news") == 10_000 and len(database.members("news", after=9_990)) == 10
    database.close()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "../x", "a/b", "A", "-a", "a-", "a b", "a\nb", "a\n", "ä", "x" * 65, "a\x00"]
)
def test_unsafe_names_are_refused(name: str):
    """I10."""
    with pytest.raises(ListError, match="can't be a list's name"):
        check_name(name)


@given(st.text(max_size=70))
def test_a_name_that_passes_stays_within_its_folder(name: str):
    try:
        check_name(name)
    except ListError:
        return
    inside = Path("/base") / name
    assert inside.parent == Path("/base") and inside.name == name and name.isascii() and name.isprintable()


@pytest.mark.parametrize(
    "address", ["", "news", "news+x@example.org", "x" * 27 + "@example.org", "ü@example.org", "a b@c.d"]
)
def test_addresses_that_a_list_cannot_have(address: str):
    with pytest.raises(ListError):
        check_address(address)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"post": "membres"}, 'post is open, members, moderated, announce, not "membres"'),
        ({"from_": "x"}, "from is as-is"),
        ({"attachments": "some"}, "MIME types"),
        ({"owners": ("ann",)}, "address"),
        ({"owners": ("a b@c",)}, '"a b@c" is no address'),
        ({"reply_to": "author"}, "address"),
        ({"max_size": -1}, "octets"),
        ({"max_size": 1 << 63}, "octets"),
        ({"bounce_limit": 0.0}, "more than 0"),
        ({"bounce_limit": float("nan")}, "more than 0"),
        ({"bounce_limit": float("inf")}, "at most 1000"),
        ({"bounce_days": 10**6}, "at most 1000"),
        ({"posters": ("ann",)}, 'posters: "ann" fits nothing'),
        ({"posters": ("\udcff@example.org",)}, "fits nothing"),
        ({"attachments": ("images",)}, "image/*"),
        ({"description": "x" * 201}, "at most 200 characters"),
        ({"unsubscribe_url": "http://x/{token}"}, "https address with {token}"),
        ({"unsubscribe_url": "https://x/"}, "https address with {token}"),
        ({"unsubscribe_url": "https://x/{token}>"}, "angle brackets"),
        ({"subject_prefix": "[a]\r\nBcc: x"}, "one line"),
    ],
)
def test_options_that_cannot_work(options, told):
    with pytest.raises(ListError) as error:
        check_options(replace(ListOptions(), **options))
    assert told in str(error.value)


def test_options_that_cannot_be_read_are_told_by_the_list(tmp_path: Path):
    file = tmp_path / "lists.db"
    database = ListDatabase(file)
    database.create("news", "news@example.org", ListOptions())
    other = apsw.Connection(str(file))
    other.execute("""UPDATE list SET options = '{"bounce_limit": null}'""")
    other.close()
    for ask in (lambda: database.find("news"), database.all):
        with pytest.raises(ListError, match='the options of the list "news" can\'t be read'):
            ask()
    database.close()


async def test_a_question_is_open_as_long_as_it_was_said_and_forgotten_a_day_later(lists: ListStore):
    first = await lists.ask("news", "ann@example.org", "subscribe", 0.0, 3 * 86_400.0)
    short = await lists.ask("news", "ann@example.org", "subscribe", 0.0, 10.0)
    later = 2 * 86_400.0
    await lists.ask("news", "bob@example.org", "subscribe", later, 10.0)
    assert await lists.asked_since("ann@example.org", -1.0) == 1  # the short one is forgotten
    assert await lists.answer(short, 5.0) is None
    assert await lists.answer(first, later) is not None


async def test_addresses_in_options_are_kept_as_messages_spell_them(lists: ListStore):
    options = ListOptions(
        owners=("Olga@Bücher.example",),
        moderators=("mo@bücher.example", "max@example.org"),
        posters=("*@*.bücher.example", "press*@Bücher.example", "*@example.org", "*"),
        reply_to="büro@bücher.example",
    )
    await lists.change("news", options)
    made = await lists.create("dev", "dev@example.org", options)
    for one in (await lists.find("news"), made, await lists.find("dev")):
        assert one is not None
        assert one.options == ListOptions(
            owners=("Olga@xn--bcher-kva.example",),
            moderators=("mo@xn--bcher-kva.example", "max@example.org"),
            posters=("*@*.xn--bcher-kva.example", "press*@xn--bcher-kva.example", "*@example.org", "*"),
            reply_to="büro@xn--bcher-kva.example",
        )
