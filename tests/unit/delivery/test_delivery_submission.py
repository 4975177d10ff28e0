"""After the 250: what plugins at `submitted` and `expanded` see, decide and change, as the spool has it afterwards."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from gatepost import discard, on, quarantine, refuse, take, tempfail
from gatepost.delivery import Maildir
from gatepost.delivery.submission import ASKED, Submission
from gatepost.hooks import stages
from gatepost.hooks import verdicts as v
from gatepost.hooks.effects import EFFECTS, allowed_failures
from gatepost.model import Reply
from unit.delivery.delivery_plugins import Plugins
from unit.delivery.test_delivery_runner import House, running

STAGES = [stages.Submitted, stages.Expanded]
LATER = 300.0


def house_with(*hooks, **how):
    plugins = Plugins(*hooks)
    submission = Submission(lambda: plugins.dispatcher, patience=plugins.patience, recorder=plugins.records)
    house = House(submission=submission, **how)
    house.plugins = plugins
    house.route("*", Maildir())
    return house


async def kept(house, number, fits=lambda entry: True):
    """Wait until so many entries are in the spool, each as it should be, and none is in somebody's hands."""
    while True:
        found = await house.spool.entries()
        if len(found) == number and all(map(fits, found)) and not house.spool.counts().leased:
            return found
        await asyncio.sleep(0)


def is_held(entry):
    return entry.held is not None


def was_tried(entry):
    return entry.attempts > 0


async def gone(house):
    """Wait until the spool is empty; the copies in maildrops, by address."""
    await kept(house, 0)
    return {address: content for _, address, content in house.drop.copies}


# ── the matrix ─────────────────────────────────────────────────────────────────────────────────────────────────────

VERDICTS = {
    "proceed": v.PROCEED,
    "refuse": refuse(550, "5.7.9", "not this"),
    "refuse-text": refuse("not this"),
    "refuse-later": tempfail("not now"),
    "quarantine": quarantine("smells"),
    "discard": discard("stinks"),
    "take": take("mine"),
    "accept": v.Accept(v.Scope.STAGE),
    "fail": v.Fail("no"),
    "skip": v.Skip(),
    "hangup": v.Hangup(Reply(421)),
    "respond": v.Respond(Reply(250)),
}


@pytest.mark.parametrize(
    ("stage", "word"), list(itertools.product(STAGES, VERDICTS)), ids=lambda one: getattr(one, "name", one)
)
async def test_every_verdict_after_the_250(stage, word):
    times = itertools.count()

    @on(stage)
    async def hook(event):
        next(times)
        return VERDICTS[word]

    house = house_with(hook)
    async with running(house):
        await house.accept("b@c.example")
        in_table = (stage, type(VERDICTS[word])) in EFFECTS
        if word == "refuse-later" or not in_table:
            [entry] = await kept(house, 1, was_tried)
            assert entry.notes == {ASKED: ""}
            assert (entry.next_attempt, entry.held) == (house.now + LATER, None)
            assert len(house.plugins.records.errors) == (not in_table)
        elif word.startswith("refuse"):
            copies = await gone(house)
            assert copies.keys() == {"a@own.example"}, "the sender is told"
            assert b"not this" in copies["a@own.example"]
            assert house.told.words[0].startswith("bounced b@c.example 55")
        elif word == "quarantine":
            [entry] = await kept(house, 1, is_held)
            assert (entry.held, entry.facts[ASKED]) == ("smells", stage.name)
        else:
            copies = await gone(house)
            assert copies.keys() == ({"b@c.example"} if word == "proceed" else set())
        assert next(times) == 1


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
@pytest.mark.parametrize("failure", ["tempfail", "proceed", "refuse", "quarantine"])
async def test_every_failure_policy_after_the_250(stage, failure):
    if failure not in allowed_failures(stage):
        with pytest.raises(ValueError, match="can't be kept here"):
            Plugins(broken_at(stage, on_failure=failure))
        return
    house = house_with(broken_at(stage, on_failure=failure))
    async with running(house):
        await house.accept("b@c.example")
        match failure:
            case "proceed":
                assert (await gone(house)).keys() == {"b@c.example"}
            case "quarantine":
                [entry] = await kept(house, 1, is_held)
                assert entry.held == "broken failed"
            case _:
                assert (await house.hears(1)) == ["deferred b@c.example 451 1300"]


def broken_at(stage, **words):
    """A hook that fails, bound there."""

    @on(stage, **words)
    async def broken(event):
        raise ZeroDivisionError("a bug")

    return broken


# ── how often, and when not ────────────────────────────────────────────────────────────────────────────────────────


async def test_both_are_asked_once_in_order_and_not_again_at_the_next_attempt():
    seen = []

    @on("submitted")
    async def submitted(event):
        seen.append(event.name)

    @on("expanded")
    async def expanded(event):
        seen.append(event.name)

    house = house_with(submitted, expanded)
    house.drop.error = OSError("the disk is full")
    async with running(house):
        id = await house.accept("b@c.example")
        await house.hears(1)
        [entry] = await kept(house, 1)
        assert entry.notes == {ASKED: "expanded"}
        house.drop.error = None
        house.now += LATER
        await house.spool.retry(id)
        assert (await gone(house)).keys() == {"b@c.example"}
    assert seen == ["submitted", "expanded"]


async def test_a_failure_is_asked_again_and_what_was_passed_isnt():
    seen = []

    @on("submitted")
    async def submitted(event):
        seen.append(event.name)

    @on("expanded")
    async def expanded(event):
        seen.append(event.name)
        if seen.count("expanded") == 1:
            raise ConnectionError("the scanner is down")

    house = house_with(submitted, expanded)
    async with running(house):
        id = await house.accept("b@c.example")
        await house.hears(1)
        house.now += LATER
        await house.spool.retry(id)
        assert (await gone(house)).keys() == {"b@c.example"}
    assert seen == ["submitted", "expanded", "expanded"]


async def test_what_cant_be_asked_until_the_end_is_held_and_never_bounced():
    house = house_with(broken_at("submitted"))
    house.now = 1000.0
    async with running(house):
        id = await house.accept("b@c.example")
        await house.hears(1)
        house.now += 6 * 86400
        await house.spool.retry(id)
        [entry] = await kept(house, 1, is_held)
    assert entry.held == "submitted: plugins couldn't be asked until its time was over"
    assert house.told.words == ["deferred b@c.example 451 1300"]
    assert house.drop.copies == []


async def test_reports_of_our_own_are_not_asked_about():
    seen = []

    @on("submitted")
    async def submitted(event):
        seen.append(str(event.sender))
        return refuse("no")

    house = house_with(submitted)
    async with running(house):
        await house.accept("b@c.example")
        assert (await gone(house)).keys() == {"a@own.example"}
    assert seen == ["a@own.example"]


async def test_who_is_bound_after_the_first_attempt_is_not_asked():
    seen = []

    @on("submitted")
    async def submitted(event):
        seen.append(event)

    house = house_with()
    house.drop.error = OSError("the disk is full")
    async with running(house):
        id = await house.accept("b@c.example")
        await house.hears(1)
        house.plugins.bind(submitted)
        house.drop.error = None
        house.now += LATER
        await house.spool.retry(id)
        assert (await gone(house)).keys() == {"b@c.example"}
    assert seen == []


def test_nobody_bound_is_one_look_and_no_coroutine():
    plugins = Plugins()
    submission = Submission(lambda: plugins.dispatcher, patience=plugins.patience, recorder=plugins.records)
    entry = object()  # not even looked at
    assert submission.begin(entry) == ()


# ── edits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_headers_body_sender_and_recipients_are_changed_in_one_step():
    @on("submitted")
    async def change(event):
        event.add_header("X-Seen", "yes")
        await event.message.replace(b"other\r\n")
        event.change_sender("c@own.example")
        for recipient in event.recipients:
            event.recipients.replace(recipient, "d@c.example", "e@c.example")

    house = house_with(change)
    house.drop.gate = asyncio.Event()
    async with running(house):
        await house.accept("b@c.example")
        entries = await house.spool.entries()
        while not entries or ASKED not in entries[0].facts:
            await asyncio.sleep(0)
            entries = await house.spool.entries()
        [entry] = entries
        assert (str(entry.envelope.sender), entry.part) == ("c@own.example", 10_000)
        house.drop.gate.set()
        copies = await gone(house)
    assert copies.keys() == {"d@c.example", "e@c.example"}
    assert set(copies.values()) == {b"Subject: x\r\nX-Seen: yes\r\n\r\nother\r\n"}


async def test_a_verdict_for_each_and_content_of_their_own():
    @on("submitted")
    async def change(event):
        one, two, three, four = event.recipients
        event.recipients.split([one]).headers["Subject"] = "for one"
        return {two: quarantine("smells"), three: discard("stinks"), four: refuse("not you")}

    house = house_with(change)
    async with running(house):
        await house.accept("one@c.example", "two@c.example", "three@c.example", "four@c.example")
        await house.until(lambda: len(house.told.words) >= 3)
        [entry] = await kept(house, 1)
    copies = {address: content for _, address, content in house.drop.copies}
    assert copies["one@c.example"].startswith(b"Subject: for one")
    assert b"not you" in copies["a@own.example"]
    assert copies.keys() == {"one@c.example", "a@own.example"}
    [record] = await house.spool.records()
    assert (record[0], record[2:]) == ("discarded", ("a@own.example", "three@c.example", "change", "stinks"))
    assert (entry.held, [str(one) for one in entry.envelope.recipients]) == ("smells", ["two@c.example"])
    [facts] = house.plugins.records.kinds("changed")
    assert facts["each"] == {
        "two@c.example": ["held", "change"],
        "three@c.example": ["discarded", "change"],
        "four@c.example": ["refused", "change"],
    }


async def test_expanded_sees_what_submitted_has_changed_and_submitted_isnt_asked_about_it_again():
    seen = []

    @on("submitted")
    async def submitted(event):
        seen.append(event.name)
        event.add_header("X-Seen", "yes")

    @on("expanded")
    async def expanded(event):
        seen.append((event.name, event.message.headers["X-Seen"]))

    house = house_with(submitted, expanded)
    async with running(house):
        await house.accept("b@c.example")
        assert (await gone(house)).keys() == {"b@c.example"}
    assert seen == ["submitted", ("expanded", "yes")]


async def test_no_plugin_grants_relaying_after_the_250_either():
    @on("submitted")
    async def add(event):
        event.recipients.add("x@closed.example")

    house = house_with(add)
    async with running(house):
        await house.accept("b@c.example")
        assert await house.hears(1) == ["deferred b@c.example 451 1300"]
    assert "its route isn't open" in str(house.plugins.records.errors[0][2])


async def test_a_refusal_nobody_may_be_told_of_is_held_and_released_it_is_delivered():
    times = itertools.count()

    @on("submitted")
    async def never(event):
        next(times)
        return refuse("not this")

    house = house_with(never)
    async with running(house):
        id = await house.accept("b@c.example", sender="stranger@far.example")
        [entry] = await kept(house, 1, is_held)
        assert entry.id == id
        assert "not this" in entry.held
        await house.spool.release(id)
        copies = await gone(house)
    assert "b@c.example" in copies
    assert next(times) == 1


async def test_everybody_taken_out_leaves_nothing():
    @on("expanded")
    async def nobody(event):
        for recipient in event.recipients:
            event.recipients.remove(recipient)

    house = house_with(nobody)
    async with running(house):
        await house.accept("b@c.example")
        assert await gone(house) == {}
    assert house.told.words == []


async def test_a_reload_between_two_stages_is_heeded():
    house = house_with()

    @on("submitted")
    async def last(event):
        house.plugins.bind()

    house.plugins.bind(last, broken_at("expanded"))
    async with running(house):
        await house.accept("b@c.example")
        assert (await gone(house)).keys() == {"b@c.example"}
