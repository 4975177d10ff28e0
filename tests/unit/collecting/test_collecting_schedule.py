"""When accounts are looked at: intervals, trouble, commands, reloads, restarts; never twice at once."""

import asyncio
import json
from dataclasses import replace

import pytest

from gatepost.collecting.collector import Collector
from gatepost.collecting.ledger import maildrop_digest
from gatepost.collecting.ports import RemoteError, Trouble
from gatepost.collecting.reports import Report
from gatepost.collecting.schedule import Collecting, pause_s
from gatepost.collecting.sweeping import UNUSED_S
from unit.collecting.doubles import NOW, Home, Maildrop, account, message

ONE = message("one")
WRONG = RemoteError("the password is wrong", Trouble.LOGIN)


def ended(**facts) -> Report:
    return Report("isp", NOW, NOW, **facts)


def test_after_a_good_run_the_interval_counts():
    assert pause_s(account(every_s=300.0), ended(), 0) == 300.0
    assert pause_s(account(every_s=300.0), ended(taken=5, more=True), 0) == 1.0
    assert pause_s(account(every_s=300.0), ended(taken=0, later=10, more=True), 0) == 300.0
    assert pause_s(account(every_s=0.0), ended(), 0) is None
    assert pause_s(account(enabled=False), ended(), 0) is None


@pytest.mark.parametrize(
    ("trouble", "waits"),
    [
        (Trouble.LOGIN, [900, 1800, 3600, 86400]),
        (Trouble.TEMPORARY, [300, 300, 300, 3600]),
        (Trouble.LOST, [300, 300, 300, 3600]),
    ],
)
def test_after_trouble_it_waits_longer_each_time(trouble, waits):
    told = ended(trouble=trouble)
    assert [pause_s(account(every_s=300.0), told, failures) for failures in (1, 2, 3, 30)] == waits
    assert pause_s(account(every_s=100_000.0), told, 1) == 100_000.0


class Running:
    """A Collecting over one maildrop, ended with the test."""

    def __init__(self, maildrop: Maildrop, **facts) -> None:
        self.home = Home(maildrop)
        self.account = account(**facts)
        self.collecting = Collecting(self.home.house())

    async def __aenter__(self) -> "Running":
        await self.collecting.begin([self.account])
        return self

    async def __aexit__(self, *_) -> None:
        await self.collecting.stop()

    @property
    def row(self) -> dict:
        (found,) = self.collecting.listed()
        return found

    async def until(self, fits) -> None:
        async with asyncio.timeout(10):
            while not fits(self.row):
                await asyncio.sleep(0)

    async def runs(self, count: int) -> None:
        await self.until(lambda row: row["totals"].get("runs", 0) >= count)


def drop(*contents: bytes, **facts) -> Maildrop:
    found = Maildrop(**facts)
    found.add(*contents)
    return found


async def test_each_is_looked_at_when_the_server_starts_and_then_by_its_interval():
    async with Running(drop(ONE)) as running:
        await running.runs(1)
        assert running.home.contents == [ONE]
        assert running.row["next_at"] == NOW + 300
        assert running.row["last"]["taken"] == 1


async def test_by_command_only_means_that():
    async with Running(drop(ONE), every_s=0.0) as running:
        assert (running.row["next_at"], running.home.maildrop.sessions) == (None, 0)
        report = await running.collecting.fetch("isp")
        assert report.taken == 1
        assert running.row["next_at"] is None


async def test_who_asks_while_it_runs_waits_for_that_run():
    async with Running(drop(ONE), every_s=0.0) as running:
        reports = await asyncio.gather(*(running.collecting.fetch("isp") for _ in range(5)))
        assert running.home.maildrop.sessions == 1
        assert len({id(one) for one in reports}) == 1
        with pytest.raises(KeyError):
            running.collecting.fetch("nobody")


async def test_a_wrong_password_waits_and_a_new_one_is_tried_at_once():
    async with Running(drop(ONE, trouble=WRONG)) as running:
        await running.runs(1)
        assert (running.row["failures"], running.row["next_at"]) == (1, NOW + 900)
        running.home.maildrop.trouble = None
        running.collecting.switch([replace(running.account, every_s=600.0)])
        await asyncio.sleep(0)
        assert running.home.contents == []
        running.collecting.switch([replace(running.account, login=replace(running.account.login, password="new"))])
        await running.runs(2)
        assert running.home.contents == [ONE]
        assert running.row["failures"] == 0


async def test_an_account_that_is_gone_is_looked_at_no_more():
    async with Running(drop(ONE)) as running:
        await running.runs(1)
        running.collecting.switch([])
        assert running.collecting.listed() == []


async def test_after_a_restart_it_is_known_how_it_went():
    async with Running(drop(ONE, trouble=WRONG)) as running:
        await running.runs(1)
    home = running.home
    home.time += 100
    again = Collecting(home.house())
    await again.begin([running.account])
    (row,) = again.listed()
    assert (row["last"]["trouble"], row["failures"]) == ("login", 1)
    assert row["next_at"] == home.time + 60
    await again.stop()


async def test_after_a_restart_that_was_no_trouble_the_interval_goes_on():
    async with Running(drop(ONE)) as running:
        await running.runs(1)
    running.home.time += 280
    again = Collecting(running.home.house())
    await again.begin([running.account])
    assert again.listed()[0]["next_at"] == NOW + 300
    await again.stop()


@pytest.mark.parametrize(
    "memo", [b"", b"[]", b"{}", b'{"failures": "x"}', b"\xff", json.dumps({"failures": 1}).encode()]
)
async def test_what_is_kept_and_cant_be_read_is_no_harm(memo):
    home = Home(drop(ONE))
    mine = f"collect/{maildrop_digest(account())}/run"
    await home.commit((), memos={mine: memo, "collect/gone/run": b"x", "collect/x": b"", "collect/y/unused": b"soon"})
    collecting = Collecting(home.house())
    await collecting.begin([account()])
    assert collecting.listed()[0]["last"] is None
    await collecting.stop()


async def test_a_fault_of_ours_is_told_and_ends_nothing(caplog):
    async with Running(drop(ONE), every_s=0.0) as running:
        running.home.maildrop.trouble = ZeroDivisionError("a bug")
        report = await running.collecting.fetch("isp")
        assert (report.trouble, report.text) == (Trouble.TEMPORARY, "a fault of ours: ZeroDivisionError")
        assert "a run has failed" in caplog.text
        running.home.maildrop.trouble = None
        assert (await running.collecting.fetch("isp")).taken == 1


async def test_stopping_ends_a_run_where_it_stands():
    home = Home(drop(ONE))
    there = asyncio.Event()

    async def connect(login, talk):
        there.set()
        await asyncio.Event().wait()

    collecting = Collecting(replace(home.house(), connect=connect))
    await collecting.begin([account()])
    task = collecting.fetch("isp")
    await there.wait()
    await collecting.stop()
    assert task.cancelled()


async def test_an_account_that_is_called_otherwise_goes_on_where_it_was():
    async with Running(drop(ONE)) as running:
        await running.runs(1)
        other = replace(running.account, name="other")
        running.collecting.switch([other])
        report = await running.collecting.fetch("other")
        assert (report.account, report.taken, report.left) == ("other", 0, 1)
    again = Collecting(running.home.house())
    await again.begin([replace(other, name="third")])
    (row,) = again.listed()
    assert (row["last"]["account"], row["last"]["left"]) == ("third", 1)
    await again.stop()


@pytest.mark.parametrize("again", ["other", "isp"])
async def test_two_runs_over_one_maildrop_are_never_at_once_whatever_a_reload_makes_of_it(again):
    home, here, on = Home(drop(ONE)), asyncio.Event(), asyncio.Event()
    there = most = 0

    async def connect(login, talk):
        nonlocal there, most
        there += 1
        most = max(most, there)
        here.set()
        await on.wait()
        there -= 1
        return await home.maildrop.connect(login, talk)

    collecting = Collecting(replace(home.house(), connect=connect))
    await collecting.begin([account(every_s=0.0)])
    first = collecting.fetch("isp")
    await here.wait()
    collecting.switch([])
    collecting.switch([account(every_s=0.0, name=again)])
    second = collecting.fetch(again)
    for _ in range(5):
        await asyncio.sleep(0)
    on.set()
    reports = await asyncio.gather(first, second)
    assert ([one.taken for one in reports], most) == ([1, 0], 1)
    assert collecting.listed()[0]["totals"]["runs"] >= 1
    await collecting.stop()


async def test_what_was_refused_for_now_is_tried_at_once_only_when_somebody_asks():
    async with Running(drop(ONE), every_s=600.0) as running:
        home = running.home
        home.later = {ONE}
        await running.runs(1)
        home.time += 1200
        assert (await running.collecting.fetch("isp")).later == 1  # from now on it waits as long again
        home.later = set()
        home.time += 610
        running.collecting.switch([running.account])  # which wakes it
        await running.runs(3)
        assert running.row["last"]["later"] == 1
        assert len(home.maildrop.retrieved) == 2
        assert (await running.collecting.fetch("isp")).taken == 1


async def test_what_is_kept_of_accounts_that_are_gone_goes_after_two_months():
    home = Home(drop(ONE))
    await Collector(account(), home.house()).run()
    mine = f"collect/{maildrop_digest(account())}/"
    other = replace(account(), name="other", login=replace(account().login, user="bob"), every_s=0.0)

    async def look() -> list[str]:
        collecting = Collecting(home.house())
        await collecting.begin([other])
        await asyncio.sleep(0.01)
        await collecting.stop()
        return sorted(await home.memos(mine))

    (taken, unused) = await look()
    assert taken.startswith(f"{mine}u/1/") and unused == f"{mine}unused"
    home.time += UNUSED_S - 1
    assert await look() == [taken, unused]
    back = Collecting(home.house())
    await back.begin([account(every_s=0.0)])
    await asyncio.sleep(0.01)
    await back.stop()
    assert sorted(await home.memos(mine)) == [taken]
    home.time += UNUSED_S
    assert await look() == [taken, unused]
    home.time += UNUSED_S
    assert await look() == []


async def test_a_reload_while_it_runs_decides_when_it_is_looked_at_next():
    home, here, on = Home(drop(ONE)), asyncio.Event(), asyncio.Event()

    async def connect(login, talk):
        here.set()
        await on.wait()
        return await home.maildrop.connect(login, talk)

    collecting = Collecting(replace(home.house(), connect=connect))
    await collecting.begin([account()])
    await here.wait()
    collecting.switch([account(every_s=0.0)])
    on.set()
    assert (await collecting.fetch("isp")).taken == 1
    assert collecting.listed()[0]["next_at"] is None
    await collecting.stop()
