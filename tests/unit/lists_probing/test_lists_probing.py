"""Probes: sent once, and what comes of those that come back and of those that don't."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gatepost.lists import probing
from gatepost.lists.house import ListHouse
from gatepost.lists.probing import EVERY_S, Probing, wait_s
from gatepost.net.answers import Resolving
from list_desk import DAY, NOON, Desk, letter_of, words

ANN = "ann@example.net"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    opened = await Desk.open()
    yield opened
    await opened.store.close()


async def _stop(desk: Desk, address: str) -> None:
    member = await desk.store.subscribe("news", address, now=NOON)
    await desk.store.change_member(replace(member, score=5.0, bounced_at=NOON, stopped_at=NOON))


async def test_a_stopped_member_is_probed_once_and_goes_on_when_nothing_comes_back(desk: Desk) -> None:
    await _stop(desk, ANN)
    await desk.store.subscribe("news", "bob@example.net", now=NOON)
    clock = Probing(desk.context)
    [probe] = map(letter_of, await clock.tick(NOON))
    assert probe["X-Envelope-To"] == ANN
    assert probe["X-Envelope-From"].startswith("news-probe+")
    assert probe["Auto-Submitted"] == "auto-generated"
    assert "whether the address takes mail again" in words(probe)
    for hour in range(1, 7 * 24):
        assert await clock.tick(NOON + hour * 3600.0) == []
    member = await desk.store.member("news", ANN)
    assert member is not None
    assert not member.takes_mail(NOON)
    assert await clock.tick(NOON + 7 * DAY) == []
    member = await desk.store.member("news", ANN)
    assert member is not None
    assert member.takes_mail(NOON)
    assert (member.score, member.bounced_at, member.probed_at) == (0.0, None, None)


async def test_the_probes_own_return_path_takes_the_member_off(desk: Desk) -> None:
    await _stop(desk, ANN)
    [probe] = map(letter_of, await Probing(desk.context).tick(NOON))
    desk.now += 5 * DAY
    await desk.bounce(probe["X-Envelope-From"], ANN, "4.4.7")
    assert await desk.store.member("news", ANN) is None
    assert await desk.store.troubled() == []


async def test_the_house_of_lists_sends_them(desk: Desk) -> None:
    def unasked() -> Resolving:
        raise AssertionError("probes ask no name server")

    await _stop(desk, ANN)
    [probe] = await ListHouse(desk.context, unasked).tick(NOON)
    assert letter_of(probe)["X-Envelope-To"] == ANN


async def test_an_answer_to_a_probe_is_no_bounce(desk: Desk) -> None:
    await _stop(desk, ANN)
    [probe] = map(letter_of, await Probing(desk.context).tick(NOON))
    assert await desk.get(probe["X-Envelope-From"], text="It works!\r\n") == []
    assert await desk.store.member("news", ANN) is not None


async def test_probes_leave_in_portions(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST", 2)
    for number in range(5):
        await _stop(desk, f"u{number}@example.net")
    clock = Probing(desk.context)
    assert [len(await clock.tick(NOON + turn)) for turn in range(4)] == [2, 2, 1, 0]


async def test_it_is_looked_once_a_minute_even_if_the_clock_is_set_back(desk: Desk) -> None:
    clock = Probing(desk.context)
    assert await clock.tick(NOON) == []
    await _stop(desk, ANN)
    assert await clock.tick(NOON + EVERY_S - 1) == []
    assert len(await clock.tick(NOON - DAY)) == 1


async def test_a_probe_has_longer_than_servers_try() -> None:
    short, long = await Desk.open(bounce_days=1), await Desk.open(bounce_days=30)
    assert (wait_s(short.list), wait_s(long.list)) == (7 * DAY, 30 * DAY)
    for desk in (short, long):
        await desk.store.close()
