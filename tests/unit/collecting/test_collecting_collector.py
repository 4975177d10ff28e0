"""One run after the other over a maildrop in memory: what is fetched, kept, deleted, told, and what a death costs."""

from dataclasses import replace
from itertools import pairwise

import pytest

from gatepost.collecting.collector import Collector
from gatepost.collecting.ports import RemoteError, TakenAs, Trouble
from gatepost.collecting.reports import Word
from unit.collecting.doubles import DAY, NOW, Cut, Home, Maildrop, Steps, account, message

ONE, TWO, THREE = message("one"), message("two"), message("three")

KINDS = [(True, True), (True, False), (False, True), (False, False)]


def drop(*contents: bytes, **facts) -> Maildrop:
    found = Maildrop(**facts)
    found.add(*contents)
    return found


async def run(home: Home, **facts):
    return await Collector(account(**facts), home.house()).run()


@pytest.mark.parametrize(("uidl", "top"), KINDS)
async def test_each_message_is_fetched_once_and_left_as_long_as_it_is_said(uidl, top):
    home = Home(drop(ONE, TWO, uidl=uidl, top=top))
    first = await run(home)
    assert home.contents == [ONE, TWO]
    assert (first.listed, first.taken, first.deleted, first.octets) == (2, 2, 0, len(ONE + TWO))
    home.maildrop.add(THREE)
    second = await run(home)
    assert home.contents == [ONE, TWO, THREE]
    assert (second.taken, second.left) == (1, 2)
    home.time += 7 * DAY
    third = await run(home)
    assert (third.taken, third.deleted) == (0, 3)
    assert home.maildrop.messages == []
    fourth = await run(home)
    assert (fourth.listed, fourth.deleted) == (0, 0)
    assert [name for name in await home.memos("collect/") if not name.endswith("/run")] == []


@pytest.mark.parametrize(("uidl", "top"), KINDS)
async def test_deleted_at_once_where_nothing_is_to_be_left(uidl, top):
    home = Home(drop(ONE, TWO, uidl=uidl, top=top))
    report = await run(home, keep_s=0.0)
    assert (report.taken, report.deleted) == (2, 2)
    assert home.maildrop.messages == []
    home.maildrop.add(THREE)
    assert (await run(home, keep_s=0.0)).taken == 1


async def test_for_ever_is_for_ever():
    home = Home(drop(ONE))
    await run(home, keep_s=None)
    home.time += 4000 * DAY
    report = await run(home, keep_s=None)
    assert (report.taken, report.deleted, report.left) == (0, 0, 1)


@pytest.mark.parametrize(("uidl", "top"), KINDS)
async def test_the_same_content_twice_is_two_messages(uidl, top):
    home = Home(drop(ONE, ONE, uidl=uidl, top=top))
    assert (await run(home)).taken == 2
    assert (await run(home)).taken == 0
    home.maildrop.add(ONE)
    assert (await run(home)).taken == 1
    assert (await run(home)).taken == 0


async def test_one_uidl_given_twice_is_two_messages():
    home = Home(Maildrop([("same", ONE), ("same", TWO)]))
    assert (await run(home)).taken == 2
    assert (await run(home)).taken == 0
    assert home.contents == [ONE, TWO]


async def test_a_uidl_that_is_used_again_is_a_new_message():
    home = Home(Maildrop([("1", ONE)]))
    await run(home, keep_s=0.0)
    home.maildrop.messages = [("1", message("another one"))]
    assert (await run(home, keep_s=0.0)).taken == 1
    assert home.maildrop.messages == []
    await run(home)
    home.maildrop.messages = [("1", TWO)]
    assert (await run(home)).taken == 1


async def test_a_server_that_deletes_nothing_gives_each_message_once_all_the_same():
    home = Home(drop(ONE, TWO, keeps_all=True))
    for _ in range(3):
        report = await run(home, keep_s=0.0)
        assert report.deleted == 2
    assert home.contents == [ONE, TWO]


@pytest.mark.parametrize("top", [True, False])
async def test_fields_that_a_server_changes_make_no_new_message(top):
    home = Home(drop(ONE, TWO, uidl=False, top=top))
    await run(home)
    home.maildrop.messages = [
        (uid, b"Status: RO\r\nX-UIDL: 17\r\n" + content) for uid, content in home.maildrop.messages
    ]
    for _ in range(2):
        assert (await run(home)).taken == 0
    assert home.contents == [ONE, TWO]


async def test_the_uidl_of_another_maildrop_means_nothing():
    home = Home(Maildrop([("1", ONE)]))
    await run(home)
    home.maildrop.messages = [("1", TWO)]
    other = replace(account(), login=replace(account().login, host="pop.example.com"))
    assert (await Collector(other, home.house()).run()).taken == 1


async def test_one_that_is_too_large_is_told_once_and_left():
    large = message("large" * 1000)
    for uidl, top in KINDS:
        home = Home(drop(ONE, large, TWO, uidl=uidl, top=top))
        for told in (1, 0, 0):
            report = await run(home, size_limit=2000, keep_s=0.0)
            assert report.too_large == told, (uidl, top)
        assert home.contents == [ONE, TWO]
        assert home.maildrop.contents == [large]
        assert large not in home.maildrop.retrieved
        assert (await run(home, size_limit=100_000, keep_s=0.0)).taken == 1
        assert home.maildrop.contents == []


async def test_a_listing_that_lies_is_found_out():
    large = message("large" * 1000)
    home = Home(drop(large, ONE, sizes={large: 5}))
    for told in (1, 0):
        assert (await run(home, size_limit=2000, keep_s=0.0)).too_large == told
    assert home.contents == [ONE]
    assert home.maildrop.contents == [large]


@pytest.mark.parametrize(("uidl", "top"), KINDS)
async def test_one_that_nobody_decides_about_doesnt_stop_the_others(uidl, top):
    home = Home(drop(ONE, TWO, THREE, uidl=uidl, top=top))
    home.later = {TWO}
    report = await run(home, keep_s=0.0)
    assert (report.taken, report.later, report.deleted) == (2, 1, 2)
    assert home.maildrop.contents == [TWO]
    home.later.clear()
    assert (await run(home, keep_s=0.0)).taken == 1
    assert home.contents == [ONE, THREE, TWO]


async def test_where_nothing_at_all_is_taken_the_rest_isnt_even_fetched():
    contents = [message(str(number)) for number in range(40)]
    home = Home(drop(*contents))
    home.later = set(contents)
    report = await run(home)
    assert report.later == 40
    assert len(home.maildrop.retrieved) == 10


async def test_one_that_the_server_wont_give_doesnt_stop_the_others():
    home = Home(drop(ONE, TWO, THREE, refused={TWO}))
    report = await run(home, keep_s=0.0)
    assert (report.taken, report.failed, report.deleted) == (2, 1, 2)
    assert home.maildrop.contents == [TWO]


@pytest.mark.parametrize(("uidl", "top"), KINDS)
async def test_a_run_fetches_no_more_than_so_many(uidl, top):
    contents = [message(str(number)) for number in range(7)]
    home = Home(drop(*contents, uidl=uidl, top=top))
    reports = [await run(home, most=3) for _ in range(4)]
    assert [one.taken for one in reports] == [3, 3, 1, 0]
    assert [one.more for one in reports] == [True, True, False, False]
    assert home.contents == contents


@pytest.mark.parametrize(("uidl", "top"), KINDS)
async def test_a_connection_that_breaks_costs_nothing(uidl, top):
    home = Home(drop(ONE, TWO, THREE, uidl=uidl, top=top, lost_after=2))
    report = await run(home, keep_s=0.0)
    assert (report.trouble, report.taken, report.deleted) == (Trouble.LOST, 2, 0)
    assert home.maildrop.contents == [ONE, TWO, THREE]
    home.maildrop.lost_after = -1
    report = await run(home, keep_s=0.0)
    assert (report.trouble, report.taken, report.deleted) == (None, 1, 3)
    assert home.contents == [ONE, TWO, THREE]


async def test_trouble_at_the_door_is_in_the_report():
    home = Home(drop(ONE, trouble=RemoteError("the password is wrong", Trouble.LOGIN)))
    report = await run(home)
    assert (report.trouble, report.text, str(report)) == (
        Trouble.LOGIN,
        "the password is wrong",
        "the password is wrong",
    )


async def test_what_is_told_on_the_way():
    home = Home(drop(ONE, message("large" * 1000), TWO))
    told = []
    home.fate = TakenAs.HELD
    await Collector(account(size_limit=2000), home.house(), told.append).run()
    words = [one.word for one in told]
    assert words == [
        Word.LISTED, Word.TOO_LARGE, Word.FETCHING, Word.TAKEN, Word.FETCHING, Word.TAKEN, Word.ENDED,
    ]  # fmt: skip
    assert [(one.done, one.total) for one in told if one.word is Word.TAKEN] == [(1, 2), (2, 2)]
    assert told[-1].text == "2 held, 1 too large"


async def test_whom_it_was_from_and_for_and_who_brought_it():
    text = message(
        "x",
        top="Return-Path: <carl@example.com>\r\nX-Envelope-To: bob@example.org\r\n"
        "Received: from mail.example.com (mail.example.com [192.88.99.5])\r\n\tby mx.example.net with ESMTPS; now\r\n",
    )
    home = Home(drop(text))
    await run(home)
    (one,) = home.taken
    assert (one.sender.address, [str(to) for to in one.recipients]) == ("carl@example.com", ["ann@example.org"])
    assert (str(one.peer), one.helo, one.received_at) == ("192.88.99.5", "mail.example.com", NOW)
    assert (one.account, one.on_refusal) == ("isp", "quarantine")


async def _until_it_lives(uidl: bool, top: bool, keep_s: float, die_at: int) -> tuple[Home, int, list[str]]:
    """A run that dies at one step, then runs that don't; with how many steps the first took."""
    steps = Steps(die_at)
    home = Home(drop(ONE, TWO, ONE, THREE, uidl=uidl, top=top, steps=steps))
    facts = {"keep_s": keep_s}
    await _or_dead(home, facts)
    home.time += DAY  # something is old enough by now, where it is left for a while
    await _or_dead(home, facts)
    home.maildrop.add(message("four"))
    count = steps.count
    for _ in range(3):
        home.time += DAY
        await run(home, **facts)
    return home, count, steps.names


async def _or_dead(home: Home, facts) -> None:
    try:
        await run(home, **facts)
    except Cut:
        return


@pytest.mark.parametrize(("uidl", "top"), KINDS)
@pytest.mark.parametrize("keep_s", [0.0, DAY])
async def test_killed_at_every_step_nothing_is_lost_and_nothing_doubled(uidl, top, keep_s):
    _, count, names = await _until_it_lives(uidl, top, keep_s, 0)
    assert {"list", "retrieve", "take", "taken", "delete", "quit", "quit answered"} <= set(names)
    for die_at in range(1, count + 1):
        home, *_ = await _until_it_lives(uidl, top, keep_s, die_at)
        assert sorted(home.contents) == sorted([ONE, TWO, ONE, THREE, message("four")]), names[die_at - 1]
        assert home.maildrop.contents == [], names[die_at - 1]


async def test_a_uidl_that_is_used_again_after_a_while_is_a_new_message_too():
    home = Home(Maildrop([("1", ONE)]))
    await run(home, keep_s=DAY)
    home.time += DAY
    assert (await run(home, keep_s=DAY)).deleted == 1
    home.maildrop.messages = [("1", message("another one"))]
    assert (await run(home, keep_s=DAY)).taken == 1


async def test_what_is_deleted_at_once_is_noted_with_the_message():
    home = Home(drop(ONE, TWO))
    await run(home, keep_s=0.0)
    assert "note" not in home.maildrop.steps.names


@pytest.mark.parametrize("top", [True, False])
async def test_what_couldnt_be_read_this_time_is_still_known(top):
    home = Home(drop(ONE, TWO, uidl=False, top=top))
    await run(home)
    changed = [b"Status: RO\r\n" + content for content in (ONE, TWO)]
    home.maildrop.messages = [("x", content) for content in changed]
    home.maildrop.refused = {changed[0]}
    assert (await run(home)).failed == 1
    home.maildrop.refused = set()
    assert (await run(home)).taken == 0


@pytest.mark.parametrize(("uidl", "top"), KINDS)
async def test_one_that_is_refused_for_now_for_ever_is_tried_ever_more_seldom_and_then_held(uidl, top):
    home = Home(drop(TWO, uidl=uidl, top=top))
    home.later = {TWO}
    tries: list[float] = []
    while not home.taken and len(tries) < 100:
        before = home.asked
        report = await run(home)
        if home.asked > before:
            tries.append(home.time - NOW)
        assert report.later + report.taken == 1
        home.time += 300
    assert tries[:5] == [0, 300, 600, 1200, 2400]
    assert 5 * DAY <= tries[-1] < 5 * DAY + 4 * 3600 + 600
    assert max(after - one for one, after in pairwise(tries)) <= 4 * 3600 + 300
    assert [one.is_last for one in home.taken] == [True]
    assert (await run(home)).left == 1


async def test_one_that_is_refused_for_now_may_wait_for_ever():
    home = Home(drop(ONE))
    home.later = {ONE}
    for _ in range(3):
        assert (await run(home, expire_s=None)).later == 1
        home.time += 400 * DAY


@pytest.mark.parametrize(("uidl", "top"), KINDS)
async def test_those_that_are_refused_for_now_keep_nobody_from_being_fetched(uidl, top):
    stuck = [message(f"stuck {number}") for number in range(30)]
    home = Home(drop(*stuck, uidl=uidl, top=top))
    home.later = set(stuck)
    home.maildrop.add(ONE)
    for _ in range(4 if uidl or top else 40):  # where only contents tell, those in front are fetched first
        await run(home)
        home.time += 300
    assert home.contents == [ONE]


async def test_no_room_says_nothing_about_a_message():
    home = Home(drop(ONE, TWO))
    home.room = 0
    report = await run(home)
    assert (report.trouble, report.text, report.later) == (Trouble.TEMPORARY, "it can't be stored here: no room", 0)
    assert await home.memos("collect/") == {}
    assert home.maildrop.retrieved == [ONE]


@pytest.mark.parametrize("keep_s", [0.0, DAY])
async def test_a_uidl_that_is_used_again_for_one_of_the_same_size_is_a_new_message(keep_s):
    assert len(ONE) == len(TWO)
    home = Home(Maildrop([("1", ONE)]))
    await run(home, keep_s=keep_s)
    home.time += DAY
    await run(home, keep_s=keep_s)
    home.maildrop.messages = [("1", TWO)]
    assert (await run(home, keep_s=keep_s)).taken == 1
    assert home.contents == [ONE, TWO]


async def test_a_server_that_deletes_nothing_is_looked_at_once_more_and_believed():
    home = Home(drop(ONE, keeps_all=True))
    for _ in range(5):
        await run(home, keep_s=0.0)
    assert home.maildrop.retrieved == [ONE, ONE]
    assert home.contents == [ONE]


async def test_many_headers_that_change_at_once_make_no_new_messages():
    contents = [message(str(number)) for number in range(12)]
    home = Home(drop(*contents, uidl=False))
    await run(home)
    home.maildrop.messages = [(uid, b"Status: RO\r\n" + content) for uid, content in home.maildrop.messages]
    home.maildrop.refused = {home.maildrop.contents[0]}
    for _ in range(3):
        await run(home, most=4)
    home.maildrop.refused = set()
    for _ in range(4):
        assert (await run(home, most=4)).taken == 0
    assert home.contents == contents


@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("after", KINDS)
async def test_a_server_that_learns_or_forgets_a_command_gives_each_message_once(before, after):
    home = Home(drop(ONE, TWO, ONE))
    for uidl, top in (before, after, before, after):
        home.maildrop.uidl, home.maildrop.top = uidl, top
        for _ in range(2):
            await run(home)
    assert home.contents == [ONE, TWO, ONE]
    home.time += 8 * DAY
    await run(home)
    await run(home)
    assert home.maildrop.contents == []
    assert [name for name in await home.memos("collect/") if not name.endswith("/run")] == []


async def test_what_was_wrong_with_single_messages_is_in_the_report():
    contents = [message(str(number)) for number in range(13)]
    home = Home(drop(message("large" * 1000), *contents, refused=set(contents)))
    report = await run(home, size_limit=2000)
    assert (report.too_large, report.failed, len(report.told)) == (1, 13, 10)
    assert report.told[0].startswith("message 1 has 10079 octets")
    assert report.told[1] == "message 2: the server won't give it: no such message"
    assert type(report).read(report.as_json()) == report


async def test_one_that_was_marked_goes_though_the_limit_is_lower_now():
    home = Home(drop(ONE, keeps_all=True))
    await run(home, keep_s=0.0)
    home.maildrop.keeps_all = False
    report = await run(home, keep_s=0.0, size_limit=len(ONE) - 1)
    assert (report.too_large, report.deleted) == (0, 1)
    assert home.maildrop.messages == []


async def test_whoever_was_looked_at_once_more_is_new_again_by_his_size():
    home = Home(Maildrop([("1", ONE)], keeps_all=True))
    for _ in range(3):
        await run(home, keep_s=0.0)
    home.maildrop.messages = [("1", message("another one"))]
    assert (await run(home, keep_s=0.0)).taken == 1


async def test_one_that_was_to_go_stays_where_the_account_keeps_longer_now():
    home = Home(drop(ONE, keeps_all=True))
    await run(home, keep_s=0.0)
    home.maildrop.keeps_all = False
    assert (await run(home, keep_s=DAY)).deleted == 0
    home.time += DAY
    assert (await run(home, keep_s=DAY)).deleted == 1


async def test_trouble_is_told_once_in_the_log(caplog):
    caplog.set_level("INFO")
    home = Home(drop(ONE, TWO, lost_after=1))
    await run(home)
    assert [text for text in caplog.messages if "broke off" in text] == ["isp: the connection broke off"]


async def test_a_few_that_are_refused_for_now_between_others_stop_nothing():
    contents = [message(f"number {number}") for number in range(40)]
    home = Home(drop(*contents))
    home.later = {one for at, one in enumerate(contents) if at % 5}
    assert (await run(home)).taken == 8


async def test_a_name_that_was_given_up_is_nobodys():
    home = Home(drop(ONE, uidl=False))
    await run(home)
    home.maildrop.messages = [("1", b"X-Mozilla-Keys: x\r\n" + ONE)]
    assert (await run(home)).taken == 0
    home.maildrop.add(ONE)
    assert (await run(home)).taken == 1
    assert home.contents == [ONE, ONE]
