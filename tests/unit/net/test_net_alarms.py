"""Alarms: what is near rings in time, what is far never late, what is cancelled never."""

import asyncio
import gc
import weakref

import pytest

from gatepost.net.alarms import NEAR_S, Alarms, alarms_of
from gatepost.net.errors import DeadlinePassed


class FakeLoop:
    """A loop whose time is set by hand."""

    def __init__(self):
        self.now = 1000.25
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, callback, *args):
        self.timers.append((when, callback, args))

    def advance(self, to):
        self.now = to
        due = [timer for timer in self.timers if timer[0] <= to]
        self.timers = [timer for timer in self.timers if timer[0] > to]
        for _, callback, args in sorted(due, key=lambda timer: timer[0]):
            callback(*args)


@pytest.fixture
def loop():
    return FakeLoop()


def test_what_is_near_has_a_timer_of_its_own(loop):
    rung = []
    Alarms().at(loop, loop.now + NEAR_S - 0.01, lambda: rung.append(loop.now))
    assert [when for when, *_ in loop.timers] == [loop.now + NEAR_S - 0.01]


def test_ten_thousand_alarms_of_one_second_have_one_timer_and_all_ring(loop):
    alarms, rung = Alarms(), []
    for number in range(10_000):
        alarms.at(loop, 1300.0 + number / 20_000, lambda number=number: rung.append(number))
    assert len(loop.timers) == 1
    loop.advance(1299.99)
    assert not rung
    loop.advance(1300.0)
    assert sorted(rung) == list(range(10_000))
    assert not loop.timers


def test_an_alarm_is_never_late_and_at_most_a_second_early(loop):
    alarms = Alarms()
    for when in (1005.26, 1300.0, 1300.999, 4600.5):
        rung = alarms.at(loop, when, lambda: None)
        assert when - 1 < rung.when() <= when


def test_a_cancelled_alarm_does_not_ring_and_cancelling_again_changes_nothing(loop):
    alarms, rung = Alarms(), []
    one = alarms.at(loop, 1300.0, lambda: rung.append("one"))
    alarms.at(loop, 1300.5, lambda: rung.append("two"))
    one.cancel()
    one.cancel()
    loop.advance(1301.0)
    assert rung == ["two"]
    one.cancel()


def test_an_alarm_may_cancel_another_of_its_second_or_set_a_new_one(loop):
    alarms, rung = Alarms(), []
    pair = {}
    pair["a"] = alarms.at(loop, 1300.0, lambda: (rung.append("a"), pair["b"].cancel()))
    pair["b"] = alarms.at(loop, 1300.0, lambda: (rung.append("b"), pair["a"].cancel()))
    loop.advance(1300.0)
    assert len(rung) == 1
    alarms.at(loop, 1300.0 + 2 * NEAR_S, lambda: rung.append("again"))
    loop.advance(1300.0 + 2 * NEAR_S)
    assert rung[1:] == ["again"]


async def test_a_loop_has_the_same_alarms_at_each_call_and_is_not_kept_by_them():
    assert alarms_of(asyncio.get_running_loop()) is alarms_of(asyncio.get_running_loop())
    other = asyncio.new_event_loop()
    alarms_of(other).at(other, other.time() + 1000, lambda: None)
    seen = weakref.ref(other)
    other.close()
    del other
    gc.collect()
    assert seen() is None


async def test_R6_a_deadline_far_ahead_ends_a_wait_at_its_time_and_not_before(connected, monkeypatch):
    monkeypatch.setattr("gatepost.net.alarms.NEAR_S", 1.0)
    async with connected() as (stream, _):
        loop = asyncio.get_running_loop()
        stream.deadline = deadline = loop.time() + 1.3
        with pytest.raises(DeadlinePassed):
            await stream.receive()
        assert -0.002 <= loop.time() - deadline < 0.5
