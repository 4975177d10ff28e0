"""Texts that plugins keep with a message: seen after the 250 and on the way out, also when the server was restarted."""

from __future__ import annotations

import pytest

from gatepost import on, quarantine, refuse, tempfail
from gatepost.delivery import Destinations, Dialer, Maildir, Relay, Security
from gatepost.delivery.outbound import asked
from gatepost.delivery.submission import ASKED
from gatepost.delivery.texts import facts_of, texts_of
from gatepost.model.kept import FACT, kept_fact
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles
from unit.delivery.delivery_peer import Peer, polite
from unit.delivery.test_delivery_runner import running
from unit.delivery.test_delivery_submission import LATER, gone, house_with, is_held, kept, was_tried

ARRIVED = {FACT: kept_fact({"score": "7", "colour": "grün"})}


def watching(seen):
    """Hooks that remember what is kept, at each stage that sees a message."""

    def hook_at(stage):
        async def hook(event):
            seen[event.name] = dict(event.kept if hasattr(event, "kept") else event.transaction.kept)

        hook.__name__ = f"at_{stage.replace('-', '_')}"
        return on(stage)(hook)

    return [hook_at(stage) for stage in ("submitted", "expanded", "out-message", "out-recipient", "out-data")]


@on("submitted", priority=1)
async def keeps(event):
    event.keep("score", "8")
    event.keep("by", "keeps")


def relaying(house, peer):
    """The house, with a next server and sessions in which plugins are asked."""
    destinations = Destinations(Dialer("me.example", outbound=lambda: asked(house.plugins.around)))
    house.runner._destinations = house.runner._carrier._destinations = destinations
    house.routes.clear()
    house.route("*", Relay((peer.host,), Security.NONE))
    return house


async def test_what_was_kept_before_the_250_is_seen_ever_after():
    seen = {}
    async with Peer(polite()) as peer:
        house = relaying(house_with(*watching(seen)), peer)
        async with running(house):
            await house.accept("b@c.example", facts=ARRIVED)
            await gone(house)
    texts = {"score": "7", "colour": "grün"}
    assert seen == dict.fromkeys(("submitted", "expanded", "out-message", "out-recipient", "out-data"), texts)


async def test_what_is_kept_after_the_250_goes_out_with_the_same_attempt():
    seen = {}
    async with Peer(polite()) as peer:
        house = relaying(house_with(keeps, *watching(seen)), peer)
        async with running(house):
            await house.accept("b@c.example", facts=ARRIVED)
            await house.hears(1)
            await gone(house)
    texts = {"score": "8", "colour": "grün", "by": "keeps"}
    assert seen == dict.fromkeys(("submitted", "expanded", "out-message", "out-recipient", "out-data"), texts)
    assert house.plugins.records.kinds("changed") == [], "the message itself is as it was"


async def test_another_message_has_texts_of_its_own():
    seen = []

    @on("out-message")
    async def looks(event):
        seen.append(dict(event.kept))

    async with Peer(polite()) as peer:
        house = relaying(house_with(looks), peer)
        async with running(house):
            await house.accept("b@c.example", facts={FACT: kept_fact({"score": "1"})})
            await gone(house)
            await house.accept("b@c.example")
            await gone(house)
    assert seen == [{"score": "1"}, {}]


async def restarted(house, folder, *hooks):
    """The same spool in another house, closed and opened in between."""
    again = house_with(*hooks, spool=await open_shard(folder, RealFiles(), lambda: house.now))
    again.now = house.now
    return again


async def test_after_an_attempt_that_failed_a_restart_finds_them(tmp_path):
    house = house_with(keeps, spool=await open_shard(tmp_path, RealFiles(), lambda: 1000.0))
    house.drop.error = OSError("the disk is full")
    async with running(house):
        await house.accept("b@c.example", facts=ARRIVED)
        await kept(house, 1, was_tried)
    again = await open_shard(tmp_path, RealFiles(), lambda: 1000.0)
    [entry] = await again.entries()
    assert texts_of(entry) == {"score": "8", "colour": "grün", "by": "keeps"}
    assert entry.notes[ASKED] == "expanded"
    await again.close()


async def test_what_one_stage_keeps_is_there_when_the_next_is_asked_after_a_restart(tmp_path):
    @on("expanded")
    async def not_now(event):
        event.keep("lost", "with its answer")
        return tempfail("not now")

    house = house_with(keeps, not_now, spool=await open_shard(tmp_path, RealFiles(), lambda: 1000.0))
    async with running(house):
        await house.accept("b@c.example", facts=ARRIVED)
        await kept(house, 1, was_tried)
    seen = {}
    again = await restarted(house, tmp_path, *watching(seen))
    again.now += LATER
    async with running(again):
        [entry] = await again.spool.entries()
        await again.spool.retry(entry.id)
        await gone(again)
    assert seen == {"expanded": {"score": "8", "colour": "grün", "by": "keeps"}}


@pytest.mark.parametrize("changes", [True, False])
async def test_entries_that_one_becomes_have_them(tmp_path, changes):
    """A changed message, one that is held, and one that nobody may be told about."""

    @on("submitted", priority=2)
    async def hold(event):
        if changes:
            event.add_header("X-Seen", "yes")
        return quarantine("smells")

    house = house_with(keeps, hold, spool=await open_shard(tmp_path, RealFiles(), lambda: 1000.0))
    async with running(house):
        await house.accept("b@c.example", facts=ARRIVED)
        await kept(house, 1, is_held)
    again = await open_shard(tmp_path, RealFiles(), lambda: 1000.0)
    [entry] = await again.entries()
    assert texts_of(entry) == {"score": "8", "colour": "grün", "by": "keeps"}
    await again.close()


async def test_who_is_held_in_the_old_entry_keeps_them_too():
    @on("submitted", priority=2)
    async def never(event):
        return refuse("not this")

    house = house_with(keeps, never)
    async with running(house):
        await house.accept("b@c.example", sender="stranger@far.example", facts=ARRIVED)
        [entry] = await kept(house, 1, is_held)
    assert texts_of(entry) == {"score": "8", "colour": "grün", "by": "keeps"}


async def test_a_copy_that_is_held_for_some_has_them():
    @on("submitted")
    async def changes(event):
        event.keep("score", "9")

    async with Peer(polite(("RCPT TO:<b", "550 5.1.1 who?"), ("RCPT TO:<d", "450 4.2.1 later"))) as peer:
        house = relaying(house_with(changes), peer)
        async with running(house):
            await house.accept("b@c.example", "d@c.example", sender="stranger@far.example", facts=ARRIVED)
            entries = await kept(house, 3, lambda entry: True)
            copies = [entry for entry in entries if "held-from" in entry.facts]
    [copy] = copies
    assert texts_of(copy) == {"score": "9", "colour": "grün"}
    assert FACT in facts_of(copy)


async def test_a_message_without_texts_has_none():
    house = house_with()
    house.routes.clear()
    house.route("*", Maildir())
    house.drop.error = OSError("the disk is full")
    async with running(house):
        await house.accept("b@c.example")
        [entry] = await kept(house, 1, was_tried)
    assert texts_of(entry) == {}
    assert facts_of(entry) is entry.facts
    assert FACT not in entry.notes
