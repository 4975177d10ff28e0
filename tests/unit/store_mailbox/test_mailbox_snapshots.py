"""Large mailboxes that haven't changed aren't read again; any change is seen at once."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatepost.store import mailbox_scan
from gatepost.store.files import RealFiles
from gatepost.store.mailbox import MaildirMailboxes
from gatepost.store.mailbox_cached import Cached
from gatepost.store.mailbox_snapshots import Snapshots
from gatepost.store.mailboxes import Entry

CACHED = Cached.of_system()
MANY = 120
LONG_AGO = 1_700_000_000
pytestmark = pytest.mark.skipif(CACHED is None, reason="only Linux tells whether a file system is local")


@pytest.fixture
def box(tmp_path) -> Path:
    for folder in ("new", "cur", "tmp"):
        (tmp_path / "ann" / folder).mkdir(parents=True)
    for number in range(MANY):
        put(tmp_path / "ann", f"{1_790_000_000 + number}.a,S=2,W=3")
    settle(tmp_path / "ann")
    return tmp_path / "ann"


def put(box: Path, name: str, folder: str = "new") -> None:
    (box / folder / name).write_bytes(b"x\n")


def settle(box: Path) -> None:
    """The folders have last changed long ago."""
    for folder in ("new", "cur"):
        os.utime(box / folder, (LONG_AGO, LONG_AGO))


@pytest.fixture
async def mailboxes(tmp_path) -> AsyncIterator[MaildirMailboxes]:
    made = MaildirMailboxes(lambda user: tmp_path / user, RealFiles(), cached=CACHED)
    yield made
    await made.close()


@pytest.fixture
def scans(monkeypatch) -> list[Path]:
    seen: list[Path] = []
    really = mailbox_scan.scan
    monkeypatch.setattr(mailbox_scan, "scan", lambda box, tell: seen.append(box) or really(box, tell))
    return seen


async def look(mailboxes) -> list[Entry]:
    session = await mailboxes.open("ann")
    await session.close()
    return list(session.messages)


async def test_an_unchanged_mailbox_is_read_once(box, mailboxes, scans):
    first = await look(mailboxes)
    assert len(first) == MANY
    assert await look(mailboxes) == first
    assert len(scans) == 1


@pytest.mark.parametrize("how", ["come", "gone", "moved", "deleted"])
async def test_a_change_is_seen(box, mailboxes, scans, how):
    first = await look(mailboxes)
    wanted = [entry.uid for entry in first]
    match how:
        case "come":
            put(box, "1780000000.b,S=2,W=3")
        case "gone":
            (box / first[0].key).unlink()
            wanted = wanted[1:]
        case "moved":  # O4: what another program has read keeps its unique id
            (box / first[0].key).rename(box / "cur" / f"{Path(first[0].key).name}:2,S")
        case "deleted":
            session = await mailboxes.open("ann")
            assert await session.delete(session.messages[:1]) == []
            await session.close()
            wanted = wanted[1:]
    then = [entry.uid for entry in await look(mailboxes)]
    assert then == wanted if how != "come" else set(wanted) < set(then)


async def test_what_changed_just_now_may_change_again_unnoticed(box, mailboxes, scans):
    put(box, "1780000000.b,S=2,W=3")
    await look(mailboxes)
    await look(mailboxes)
    assert len(scans) == 2


async def test_a_size_that_was_said_wrong_is_right_the_next_time(box, mailboxes):
    (box / "new" / "1790000000.a,S=2,W=3").write_bytes(b"four\n")
    session = await mailboxes.open("ann")
    content = await session.open_content(session.messages[0])
    assert await content.read() == b"four\r\n"
    await session.close()
    assert (await look(mailboxes))[0].size == 6
    settle(box)
    assert (await look(mailboxes))[0].size == 6


async def test_what_couldnt_be_looked_at_is_looked_for_again(box, mailboxes, monkeypatch):
    (box / "new" / "foreign").write_bytes(b"x\n")
    settle(box)
    really = mailbox_scan.open_at
    with monkeypatch.context() as patch:
        patch.setattr(mailbox_scan, "open_at", _broken)
        assert len(await look(mailboxes)) == MANY
    assert mailbox_scan.open_at is really
    assert len(await look(mailboxes)) == MANY + 1


def _broken(*_):
    raise OSError(5, "injected")


async def test_what_was_found_out_is_kept_with_the_first_look(box, mailboxes, scans):
    (box / "new" / "foreign").write_bytes(b"x\n")
    settle(box)
    first = await look(mailboxes)
    assert await look(mailboxes) == first
    assert len(scans) == 1


def test_few_snapshots_are_kept(tmp_path):
    kept = Snapshots(messages=300, now_ns=lambda: 10_000_000_000)
    entries = [Entry(number, str(number), 1, f"new/{number}") for number in range(150)]
    nowhere = kept.stamp(tmp_path)
    for name in "abc":
        kept.keep(tmp_path / name, nowhere, entries)
    assert [kept.find(tmp_path / name, nowhere) is not None for name in "abc"] == [False, True, True]
    kept.keep(tmp_path / "d", nowhere, entries[:10])
    assert kept.find(tmp_path / "d", nowhere) is None  # which is read as quickly
    just_now = ((1, 1, 9_000_000_000), *nowhere[1:])
    kept.keep(tmp_path / "b", just_now, entries)
    assert kept.find(tmp_path / "b", just_now) is None
    kept.forget(tmp_path / "c")
    assert kept._messages == 0
