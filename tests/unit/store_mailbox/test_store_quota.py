"""What a mailbox holds, counted from names, and not more often than need be. The clocks are in the test's hand."""

import asyncio
import errno
import os

import pytest

from gatepost.store import quota as module
from gatepost.store.quota import Limit, Quota, Usage, quota_in

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
async def quota(tmp_path, clock):
    made = Quota(lambda user: tmp_path / user, monotonic=clock, now_ns=lambda: NOW_NS)
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


async def test_nobodys_mailbox_is_empty(quota):
    assert await quota.usage("bob") == Usage(0, 0)
    assert await quota.room("bob", Limit(octets=10), 10)


@pytest.mark.parametrize(
    "limit, size, has_room",
    [
        (Limit(), 10**12, True),
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
async def test_there_is_room_up_to_the_limit(box, quota, limit, size, has_room):
    put(box / "new", "1.a,S=10,W=12")
    put(box / "cur", "2.b,S=20,W=30:2,S")
    assert await quota.room("ann", limit, size) is has_room


async def test_who_has_no_limit_costs_no_look(box, quota, scans):
    assert await quota.room("ann", Limit(), 5)
    assert not await quota.room("ann", Limit(octets=4), 5)  # it never will fit
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


async def test_room_that_was_made_counts_at_once(box, quota, clock, scans):
    put(box / "new", "1.a,S=80,W=82")
    put(box / "new", "2.b,S=15,W=16")
    assert await quota.room("ann", Limit(octets=100), 5)
    assert not await quota.room("ann", Limit(octets=100), 6)
    (box / "new" / "2.b,S=15,W=16").unlink()  # by whatever program
    assert await quota.room("ann", Limit(octets=100), 20)
    counts = len(scans.folders)
    assert await quota.room("ann", Limit(octets=100), 20)
    assert len(scans.folders) == counts  # a yes is good for a while


@pytest.mark.parametrize(
    ("extra", "limit"),
    [
        ({}, None),
        ({"userdb_quota_rule": "*:storage=1G"}, Limit(octets=1 << 30)),
        ({"quota_rule": "*:storage=512:messages=10"}, Limit(octets=512 * 1024, messages=10)),
        ({"userdb_quota_rule": "*:bytes=70"}, Limit(octets=70)),
        ({"userdb_quota_rule": "*:storage=0"}, Limit()),
        ({"userdb_quota_rule": "*:ignore"}, Limit()),
        ({"userdb_quota_storage_size": "5M"}, Limit(octets=5 << 20)),
        ({"quota": "70", "uid": "5"}, Limit(octets=70)),
    ],
)
def test_a_quota_as_dovecot_writes_it(extra, limit):
    assert quota_in(extra) == limit


@pytest.mark.parametrize("rule", ["Trash:storage=+10%", "*:storage=10%", "*", "*:messages=-1", "*:storage=big"])
def test_a_quota_that_cant_be_kept_is_refused(rule):
    with pytest.raises(ValueError, match="quota_rule"):
        quota_in({"quota_rule": rule})


async def test_a_mailbox_that_cant_be_counted_has_room(box, quota, monkeypatch):
    def broken(folder, tell):
        raise OSError(errno.EIO, "injected")

    monkeypatch.setattr(module, "scan_folder", broken)
    assert await quota.room("ann", Limit(octets=10), 10)
    with pytest.raises(OSError, match="injected"):
        await quota.usage("ann")


async def test_two_workers_see_each_others_mail(box, quota, clock, tmp_path):
    other = Quota(lambda user: tmp_path / user, monotonic=clock, now_ns=lambda: NOW_NS)
    assert await quota.room("ann", Limit(octets=100), 60) and await other.room("ann", Limit(octets=100), 60)
    put(box / "new", "1.a,S=60,W=60")  # by one of them
    clock.s += 1.5
    assert not await other.room("ann", Limit(octets=100), 60)
    assert not await quota.room("ann", Limit(octets=100), 60)
    await other.close()


async def test_few_counts_are_kept(tmp_path, quota, monkeypatch):
    monkeypatch.setattr(module, "_MAILBOXES", 3)
    for user in "abcdef":
        await quota.usage(user)
    assert [path.name for path in quota._mailboxes] == ["d", "e", "f"]
