"""What a mailbox holds, counted from names, and not more often than need be. The clocks are in the test's hand."""

import asyncio
import errno
import os

import pytest

from gatepost.store import quota as module
from gatepost.store.quota import Limit, Quota, Usage

NOW_NS = 1_790_000_000_000_000_000


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


class Counting:
    """Counts the folders that are read."""

    def __init__(self, monkeypatch) -> None:
        self.folders: list[str] = []
        really = module.scan_folder

        def scan(folder, tell):
            self.folders.append(folder.name)
            return really(folder, tell)

        monkeypatch.setattr(module, "scan_folder", scan)


@pytest.fixture
def scans(monkeypatch) -> Counting:
    return Counting(monkeypatch)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits() -> dict[str, Limit]:
    return {}


@pytest.fixture
async def quota(tmp_path, clock, limits):
    made = Quota(lambda user: tmp_path / user, limits.get, monotonic=clock, now_ns=lambda: NOW_NS)
    yield made
    await made.close()


@pytest.fixture
def box(tmp_path):
    for folder in ("new", "cur", "tmp", ".Junk/new", ".Junk/cur"):
        (tmp_path / "ann" / folder).mkdir(parents=True)
        age(tmp_path / "ann" / folder)
    return tmp_path / "ann"


def age(folder, seconds: int = 100) -> None:
    """The folder's names last changed some time ago."""
    os.utime(folder, ns=(NOW_NS - seconds * 10**9,) * 2)


def put(folder, name: str, content: bytes = b"", seconds: int = 50) -> None:
    (folder / name).write_bytes(content)
    age(folder, seconds)


async def test_names_are_added_up_in_the_inbox_and_beside_it(box, quota):
    put(box / "new", "1.a,S=10,W=12")
    put(box / "cur", "2.b,S=20,W=30:2,S")
    put(box / "cur", "3.c,W=40:2,S")
    put(box / "cur", "4.foreign:2,S", b"x" * 50)
    put(box / ".Junk" / "new", "5.d,S=1000,W=1001")
    put(box / "tmp", "6.e,S=9999")
    (box / "cur" / "7.folder,S=5").mkdir()
    (box / "cur" / "8.link,S=5").symlink_to(box / "new" / "1.a,S=10,W=12")
    assert await quota.usage("ann") == Usage(1120, 5)


async def test_nobodys_mailbox_is_empty(quota, limits):
    assert await quota.usage("bob") == Usage(0, 0)
    limits["bob"] = Limit(octets=10)
    assert await quota.room("bob", 10)


@pytest.mark.parametrize(
    "limit, size, has_room",
    [
        (None, 10**12, True),
        (Limit(), 10**12, True),
        (Limit(octets=100), 70, True),
        (Limit(octets=100), 71, False),
        (Limit(octets=100), 101, False),
        (Limit(messages=3), 0, True),
        (Limit(messages=2), 0, False),
        (Limit(octets=100, messages=2), 1, False),
        (Limit(octets=0), 0, False),
    ],
)
async def test_there_is_room_up_to_the_limit(box, quota, limits, limit, size, has_room):
    put(box / "new", "1.a,S=10,W=12")
    put(box / "cur", "2.b,S=20,W=30:2,S")
    limits["ann"] = limit
    assert await quota.room("ann", size) is has_room


async def test_who_has_no_limit_costs_no_look(box, quota, limits, scans):
    assert await quota.room("ann", 5)
    limits["ann"] = Limit(octets=4)
    assert not await quota.room("ann", 5)  # it never will fit
    assert scans.folders == []


async def test_a_count_is_good_for_a_while(box, quota, clock, scans):
    assert await quota.usage("ann") == Usage(0, 0)
    put(box / "new", "1.a,S=10,W=12")
    clock.s += 0.9
    assert await quota.usage("ann") == Usage(0, 0)
    assert len(scans.folders) == 4
    clock.s += 0.2
    assert await quota.usage("ann") == Usage(10, 1)


async def test_only_folders_that_changed_are_counted_again(box, quota, clock, scans):
    await quota.usage("ann")
    scans.folders.clear()
    put(box / "new", "1.a,S=10,W=12", seconds=40)
    clock.s += 2
    assert await quota.usage("ann") == Usage(10, 1)
    assert scans.folders == ["new"]
    clock.s += 2
    assert await quota.usage("ann") == Usage(10, 1)
    assert scans.folders == ["new"]


async def test_a_folder_that_changed_just_now_may_change_again_within_the_same_tick(box, quota, clock):
    put(box / "new", "1.a,S=10,W=12", seconds=0)
    assert await quota.usage("ann") == Usage(10, 1)
    put(box / "new", "2.b,S=10,W=12", seconds=0)  # the folder's time is what it was
    clock.s += 2
    assert await quota.usage("ann") == Usage(20, 2)


async def test_a_slow_count_is_good_for_longer(box, quota, clock, monkeypatch):
    really = module.scan_folder

    def slowly(folder, tell):
        clock.s += 1  # 4 s in all
        return really(folder, tell)

    monkeypatch.setattr(module, "scan_folder", slowly)
    await quota.usage("ann")
    put(box / "new", "1.a,S=10,W=12")
    clock.s += 79
    assert await quota.usage("ann") == Usage(0, 0)
    clock.s += 2
    assert await quota.usage("ann") == Usage(10, 1)


async def test_who_asks_at_the_same_time_shares_a_count(box, quota, scans):
    for folder in box.glob("**/[nc]*"):
        age(folder, 0)  # too new to be believed the next time
    assert await asyncio.gather(*(quota.usage("ann") for _ in range(50))) == [Usage(0, 0)] * 50
    assert len(scans.folders) == 4


async def test_a_mailbox_that_cant_be_counted_has_room(box, quota, limits, monkeypatch):
    def broken(folder, tell):
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(module, "scan_folder", broken)
    limits["ann"] = Limit(octets=10)
    assert await quota.room("ann", 10)
    with pytest.raises(OSError, match="injected"):
        await quota.usage("ann")


async def test_few_counts_are_kept(tmp_path, quota, monkeypatch):
    monkeypatch.setattr(module, "_MAILBOXES", 3)
    for user in "abcdef":
        await quota.usage(user)
    assert [path.name for path in quota._mailboxes] == ["d", "e", "f"]
