"""Actions are given plain data by whoever may connect: what is of another kind is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from gatepost.admin.desk import Desk
from gatepost.admin.queue import ActionError
from gatepost.admin.telling import Entry
from unit.admin.test_admin_destinations import Office


class Nothing:
    """A trace without a session; `asked` is what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def find(self, token: str) -> Iterable[Entry]:
        return []

    def sessions(
        self, *, since_ms: int, until_ms: int, fits: Callable[[list[Entry]], bool], limit: int
    ) -> Iterable[list[Entry]]:
        self.asked.append((since_ms, until_ms, limit))
        return []


@pytest.mark.parametrize(
    ("action", "key", "value", "text"),
    [
        ("queue.list", "limit", "many", "limit is a number from 0 on, not 'many'"),
        ("queue.list", "limit", -1, "limit is a number from 0 on, not -1"),
        ("queue.list", "limit", 1.5, "limit is a number from 0 on, not 1.5"),
        ("queue.list", "limit", True, "limit is a number from 0 on, not True"),
        ("queue.list", "limit", 10**30, "limit is a number from 0 on, not 1000000000000000000000000000000"),
        ("queue.list", "held", "yes", "held is true or false, not 'yes'"),
        ("queue.list", "after", 7, "after is text, not 7"),
        ("queue.list", "to", ["a@y.example"], "to is text, not ['a@y.example']"),
        ("queue.list", "from", {}, "from is text, not {}"),
        ("queue.list", "destination", 1, "destination is text, not 1"),
        ("queue.destinations", "limit", "x" * 100, f"limit is a number from 0 on, not '{'x' * 59}"),
        ("queue.show", "id", 5, "id is text, not 5"),
        ("queue.hold", "reason", [], "reason is text, not []"),
        ("queue.suspend", "destination", None, "which destination? give a domain or a server"),
        ("explain", "token", 5, "token is text, not 5"),
        ("trace", "limit", "x", "limit is a number from 0 on, not 'x'"),
        ("trace", "since_ms", "now", "since_ms is a number, not 'now'"),
        ("trace", "until_ms", [], "until_ms is a number, not []"),
        ("trace", "heard", 550, "heard is text, not 550"),
    ],
)
async def test_what_is_of_another_kind_is_a_usage_error(action: str, key: str, value: object, text: str) -> None:
    desk = Desk(Office().queue, Nothing())
    with pytest.raises(ActionError) as caught:
        await desk.do(action, {"id": "06HK3M-9Q7TZA-1", key: value})
    assert (str(caught.value), caught.value.code) == (text, 64)


async def test_nothing_given_is_as_usual() -> None:
    office, records = Office(), Nothing()
    await office.fill("a@one.example")
    desk = Desk(office.queue, records)
    nothing: dict[str, Any] = dict.fromkeys(("held", "after", "limit", "to", "from", "destination"))
    assert [len((await desk.do("queue.list", given))["entries"]) for given in ({}, nothing, {"limit": 0})] == [1, 1, 0]
    assert await desk.do("trace", {"since_ms": -5, "limit": None}) == []
    assert records.asked == [(-5, 1 << 62, 50)]
