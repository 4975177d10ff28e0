"""The retry schedule: monotone, bounded, and it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.delivery.schedule import JITTER, Schedule

SCHEDULES = st.tuples(st.floats(1, 1e5), st.floats(1, 1e6), st.floats(60, 1e7)).map(
    lambda s: Schedule(min(s[0], s[1]), max(s[0], s[1]), s[2])
)
CHANCE = st.floats(0, 1)
ATTEMPT = st.integers(0, 10**9)
AGE = st.floats(0, 1e8)


@given(SCHEDULES, ATTEMPT, ATTEMPT, AGE, CHANCE)
def test_later_attempts_wait_no_less(schedule: Schedule, one: int, other: int, age: float, chance: float) -> None:
    waits = [schedule.wait_s(attempt, age, chance) for attempt in sorted((one, other))]
    if waits[0] is None or waits[1] is None:
        assert waits[0] is waits[1]
    else:
        assert waits[0] <= waits[1]


@given(SCHEDULES, ATTEMPT, AGE, CHANCE)
def test_a_wait_is_bounded_and_ends_with_the_time(schedule: Schedule, attempt: int, age: float, chance: float) -> None:
    wait = schedule.wait_s(attempt, age, chance)
    if age >= schedule.expire_s:
        assert wait is None
    else:
        assert wait is not None
        assert 0 < wait <= schedule.longest_s
        assert age + wait <= schedule.expire_s * (1 + 1e-12)
        assert wait >= min(schedule.first_s * (1 - JITTER) * (1 - 1e-12), schedule.expire_s - age)


@given(SCHEDULES, CHANCE)
def test_every_schedule_ends(schedule: Schedule, chance: float) -> None:
    """With a last attempt at the very end, and no more attempts than the time has room for."""
    age, attempt = 0.0, 1
    most = schedule.expire_s / (schedule.first_s * (1 - JITTER)) + 2
    if most > 5000:
        return
    while (wait := schedule.wait_s(attempt, age, chance)) is not None:
        age += wait
        attempt += 1
        assert attempt <= most + 1
    assert age >= schedule.expire_s


def test_the_default_goes_from_five_minutes_to_four_hours_in_five_days() -> None:
    schedule = Schedule()
    waits = [schedule.wait_s(attempt, 0, 0) for attempt in range(1, 9)]
    assert waits == [300, 600, 1200, 2400, 4800, 9600, 14400, 14400]
    assert schedule.wait_s(1, 0, 1) == 240
    assert schedule.wait_s(40, 5 * 86400 - 10, 0) == 10
    assert schedule.wait_s(41, 5 * 86400, 0) is None


@pytest.mark.parametrize("settings", [(0, 1, 1), (2, 1, 1), (1, 1, 0), (-1, 1, 1)])
def test_schedules_that_make_no_sense(settings: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="a schedule"):
        Schedule(*settings)
