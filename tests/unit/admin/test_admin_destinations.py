"""Destinations as an operator sees them: rows, suspension that outlives the server, several workers' rows as one."""

from __future__ import annotations

import pytest

from gatepost.admin.desk import Desk
from gatepost.admin.destinations import DestinationsDesk, merged, suspended_since
from gatepost.admin.queue import ActionError, Queue
from gatepost.delivery import Destinations, Dialer, Host, Maildir, Relay, Route, Routes
from gatepost.delivery.ways import Ways
from gatepost.model import Bytes, Envelope, Path, Recipient, Reply, Ticket
from gatepost.store.ledger import MemoryLedger
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Deposit, Fate, RecipientOutcome

NOW = 1_790_000_000.0


class Office:
    """A desk over a queue with something in it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.spool = memory_spool(lambda: NOW)
        self.ledger = MemoryLedger(lambda: NOW)
        self.destinations = Destinations(Dialer("me.example"), clock=lambda: self.now, chance=lambda: 0.0)
        routes = Routes(
            [Route(("*@own.example",), Maildir()), Route(("*",), Relay((Host("relay.example"), Host("10.0.0.5", 26))))]
        )
        ways = Ways(lambda: routes, self.destinations)
        self.desk = DestinationsDesk([self.spool], self.ledger, lambda: NOW, self.destinations, ways)
        self.queue = Queue([self.spool], lambda token, kind, facts: None, self.desk)
        self.actions = Desk(self.queue, records=None)  # type: ignore[arg-type]

    async def fill(self, *addresses: str) -> None:
        for number, address in enumerate(addresses, 1):
            envelope = Envelope(Path.parse("ann@own.example"), (Recipient(Path.parse(address)),))
            await self.spool.commit([Deposit(Ticket("06HK3M-9Q7TZA", number), envelope, Bytes(b"x\r\n\r\n"), NOW)])

    async def defer(self) -> None:
        for entry in await self.spool.due(NOW, 99):
            [recipient] = entry.envelope.recipients
            outcome = RecipientOutcome(recipient, Fate.LATER, "450 later")
            await self.spool.settle(entry.id, [outcome], next_attempt=NOW + 60)


@pytest.fixture
def office() -> Office:
    return Office()


async def test_a_row_for_each_next_server(office: Office) -> None:
    await office.fill("a@one.example", "b@two.example", "c@own.example")
    office.destinations.health.failed("relay.example:25", Reply(451, "4.4.1", "refused"), began=100.0)
    rows = await office.actions.do("queue.destinations", {})
    assert [(row["destination"], row["domains"], row["queued"]) for row in rows] == [
        ("relay.example:25, 10.0.0.5:26", 2, 2),
        ("maildrops", 1, 1),
    ]
    assert rows[0]["last_failure"] == "451 4.4.1 refused"
    assert rows[0]["rests_until"] == NOW + 60
    assert (rows[1]["failures"], rows[1]["suspended"]) == (0, None)


async def test_suspended_by_domain_or_server_and_for_good(office: Office) -> None:
    await office.fill("a@one.example", "b@two.example")
    await office.actions.do("queue.suspend", {"destination": "@One.Example."})
    rows = {row["destination"]: row for row in await office.desk.listed()}
    assert rows["one.example"]["suspended"] == NOW
    assert rows["relay.example:25, 10.0.0.5:26"]["suspended"] is None
    assert office.destinations.suspensions.covers(("one.example",)) == "one.example"
    assert await suspended_since(office.ledger) == {"one.example": NOW}
    await office.actions.do("queue.suspend", {"destination": "10.0.0.5"})
    rows = {row["destination"]: row for row in await office.desk.listed()}
    assert rows["relay.example:25, 10.0.0.5:26"]["suspended"] == NOW
    offline = DestinationsDesk([office.spool], office.ledger, lambda: NOW)
    assert await offline.resume(["one.example", "three.example"]) == {"one.example": 1, "three.example": -1}
    assert await suspended_since(office.ledger) == {"10.0.0.5": NOW}


async def test_retry_makes_a_destinations_mail_due_and_ends_its_rest(office: Office) -> None:
    await office.fill("a@one.example", "b@two.example", "c@own.example")
    await office.defer()
    office.destinations.health.failed("relay.example:25", Reply(451, "4.4.1", "refused"), began=100.0)
    assert office.spool.next_due() == NOW + 60
    assert await office.actions.do("queue.retry-destination", {"destination": "relay.example"}) == 2
    assert office.destinations.health.rest_s("relay.example:25") == 0
    assert {entry.id[-1] for entry in await office.spool.due(NOW, 9)} == {"1", "2"}
    with pytest.raises(ActionError, match="which destination"):
        await office.actions.do("queue.retry-destination", {"destination": "a b"})
    with pytest.raises(ActionError, match="is an address, and a destination is") as caught:
        await office.actions.do("queue.suspend", {"destination": "ann@one.example"})
    assert caught.value.mend == "say one.example"


async def test_a_message_that_is_no_more_has_a_story(office: Office) -> None:
    for id, mend in (
        ("06HK3M-9Q7TZA-9", "gatepost explain 06HK3M-9Q7TZA-9, if it has left"),
        ("9", "gatepost queue list"),
    ):
        with pytest.raises(ActionError, match=f"there is no {id} in the queue") as caught:
            await office.actions.do("queue.show", {"id": id})
        assert caught.value.mend.startswith(mend)


async def test_retry_of_a_message_and_flush_call_servers_that_rest(office: Office) -> None:
    await office.fill("a@one.example", "b@own.example")
    await office.defer()
    for action, arguments in (("queue.retry", {"id": "06HK3M-9Q7TZA-1"}), ("queue.flush", {})):
        office.destinations.health.failed("relay.example:25", Reply(451, "4.4.1", "refused"), began=office.now)
        assert office.destinations.health.rest_s("relay.example:25") > 0
        await office.actions.do(action, arguments)
        assert office.destinations.health.rest_s("relay.example:25") == 0
        office.now += 4000


async def test_a_list_for_some(office: Office) -> None:
    await office.fill("a@one.example", "b@two.example", "c@own.example")

    async def ids(**which: str) -> list[str]:
        found = await office.actions.do("queue.list", which)
        return [entry["id"][-1] for entry in found["entries"]]

    assert await ids(to="@one.example") == ["1"]
    assert await ids(to="b@*") == ["2"]
    assert await ids(to="example") == ["1", "2", "3"]
    assert await ids(destination="relay.example") == ["1", "2"]
    assert await ids(destination="maildrops", to="c@") == ["3"]
    assert await ids(**{"from": "ann@own"}) == ["1", "2", "3"]
    assert await ids(**{"from": "bob"}) == []


async def test_rows_of_workers_become_one(office: Office) -> None:
    await office.fill("a@one.example")
    one = await office.desk.listed()
    [row] = merged([one, one, []])
    assert (row["queued"], row["domains"]) == (2, 1)
