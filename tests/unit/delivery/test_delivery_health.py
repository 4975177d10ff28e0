"""Hosts that fail are left alone, longer and longer; windows grow and shrink; rates and lines. The clock is in the
test's hand.
"""

from __future__ import annotations

import asyncio

import pytest

from gatepost.delivery.allowance import Allowance, Allowances, Rule, SenderRule
from gatepost.delivery.health import FULL_S, BackOff, Health
from gatepost.delivery.line import Line, Pace, Rate
from gatepost.delivery.suspension import Suspensions
from gatepost.model import Reply

WHY = Reply(451, "4.4.1", "connection refused")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock, lambda: 0.0, BackOff(60, 600))


def test_a_rest_doubles_to_a_bound_and_ends_with_success(health: Health, clock: Clock) -> None:
    rests = []
    for _ in range(6):
        assert health.rest_s("host") == 0
        rests.append(health.failed("host", WHY, began=clock.now))
        assert health.rest_s("host") == rests[-1]
        clock.now += rests[-1]
    assert rests == [60, 120, 240, 480, 600, 600]
    assert health.window("host", 20) == 1, "one goes first"
    health.succeeded("host", 20)
    assert health.window("host", 20) == 5
    assert health.failed("host", WHY, began=clock.now) == 60


def test_what_failed_together_is_one_failure(health: Health, clock: Clock) -> None:
    began = clock.now
    clock.now += 30
    for _ in range(5):
        health.failed("host", WHY, began=began)
    assert health.rest_s("host") == 60
    assert health.rest_s("another") == 0


def test_a_host_with_other_sessions_is_full_and_not_dead(health: Health, clock: Clock) -> None:
    for _ in range(500):
        health.succeeded("host", 20)
    assert health.window("host", 20) == 20
    assert health.failed("host", WHY, began=clock.now, others=7) == FULL_S
    assert (health.rest_s("host"), health.window("host", 20)) == (0, 7)


def test_an_operator_ends_rests(health: Health, clock: Clock) -> None:
    health.failed("one", WHY, began=clock.now)
    health.failed("two", WHY, began=clock.now)
    health.forgive(lambda key: key == "one")
    assert (health.rest_s("one"), health.rest_s("two")) == (0, 60)


def test_jitter_only_shortens(clock: Clock) -> None:
    assert BackOff(60, 600).rest_s(1, 1.0) == 48
    with pytest.raises(ValueError, match="longer"):
        BackOff(60, 10)


def test_a_rate_is_spread_evenly_and_the_rest_is_sent_away_at_the_pace() -> None:
    pace = Pace(Rate(60, 60.0), 0.0)
    waits = [pace.wait_s(0.0, 3.0) for _ in range(6)]
    assert waits == [(True, 0.0), (True, 1.0), (True, 2.0), (True, 3.0), (False, 4.0), (False, 5.0)]
    assert pace.wait_s(100.0, 3.0) == (True, 0.0)
    assert not pace.is_idle(100.5)
    assert pace.is_idle(101.0)


async def test_a_line_lets_in_as_many_as_there_are_places_now() -> None:
    places = 1
    line = Line(lambda: places)
    await line.enter()
    others = [asyncio.create_task(line.enter()) for _ in range(3)]
    await asyncio.sleep(0)
    assert (line.busy, len(line)) == (1, 3)
    others[0].cancel()
    await asyncio.gather(others[0], return_exceptions=True)
    places = 2
    line.leave()
    await asyncio.gather(*others[1:])
    assert (line.busy, len(line)) == (2, 0)


async def test_whoever_is_let_in_and_cancelled_at_once_gives_the_place_on() -> None:
    line = Line(lambda: 1)
    await line.enter()
    one, other = asyncio.create_task(line.enter()), asyncio.create_task(line.enter())
    await asyncio.sleep(0)
    line.leave()
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    await other
    assert line.busy == 1


def test_the_first_rule_that_fits_decides() -> None:
    slow, few = Allowance(concurrency=1), Allowance(concurrency=2, expire_s=60)
    allowances = Allowances(
        Allowance(),
        [Rule(("*.big.example", "10.0.0.5"), slow), Rule(("*.example",), few)],
        [SenderRule(("news@*",), 1)],
    )
    assert allowances.find("mx.big.example") is slow
    assert allowances.find("", "relay", "10.0.0.5") is slow
    assert allowances.find("other.example", "x") is few
    assert allowances.find("other.org") is allowances.default
    assert (allowances.weight_of("news@own.example"), allowances.weight_of("ann@own.example")) == (1, 2)
    assert allowances.has_expiry


def test_suspension_is_by_pattern() -> None:
    suspensions = Suspensions({"*.example": 1.0, "10.0.0.5:25": 2.0})
    assert suspensions.covers(("", "a.example")) == "*.example"
    assert suspensions.covers(("A.EXAMPLE",)) == "*.example"
    assert suspensions.covers(("example.org", "10.0.0.5:25")) == "10.0.0.5:25"
    assert suspensions.covers(("example.org", "10.0.0.5")) is None
    assert not Suspensions()
