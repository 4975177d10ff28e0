"""A Maildir as a maildrop: names of all kinds, readers who move things, damage, and the lock."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from threading import Event

import pytest

from gatepost.store import mailbox_content, mailbox_folder, mailbox_scan
from gatepost.store.files import RealFiles
from gatepost.store.mailbox import LOCK_NAME, MaildirMailboxes
from gatepost.store.mailbox_cache import CACHE_NAME
from gatepost.store.mailbox_cached import Cached
from gatepost.store.mailboxes import Entry, MailboxError, MailboxInUse, MailboxSession, MessageGone

OWN = "1790000000.T-1R0.mx,S=6,W=7"


class Reads:
    """Counts the messages whose sizes are found out by reading."""

    def __init__(self, monkeypatch) -> None:
        self.count = 0
        self.stop_at: Callable[[], None] = lambda: None
        really = mailbox_folder.size_with_crlf

        def counted(descriptor: int) -> int:
            self.count += 1
            self.stop_at()
            return really(descriptor)

        monkeypatch.setattr(mailbox_folder, "size_with_crlf", counted)


@pytest.fixture
def reads(monkeypatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def box(tmp_path) -> Path:
    for folder in ("new", "cur", "tmp"):
        (tmp_path / "ann" / folder).mkdir(parents=True)
    return tmp_path / "ann"


@pytest.fixture
def damages() -> list[str]:
    return []


@pytest.fixture(params=[True, False], ids=["in memory", "in threads"])
async def mailboxes(tmp_path, damages, request) -> AsyncIterator[MaildirMailboxes]:
    cached = Cached.of_system() if request.param else None
    made = MaildirMailboxes(lambda user: tmp_path / user, RealFiles(), on_damage=damages.append, cached=cached)
    yield made
    await made.close()


async def snapshot(mailboxes) -> list[Entry]:
    session = await mailboxes.open("ann")
    await session.close()
    return list(session.messages)


async def read(session: MailboxSession, entry: Entry) -> bytes:
    content = await session.open_content(entry)
    try:
        return b"".join([piece async for piece in aiter_of(content)])
    finally:
        content.close()


async def aiter_of(content) -> AsyncIterator[bytes]:
    while piece := await content.read():
        yield piece


def put(path: Path, content: bytes = b"a\nb\n\nc\n") -> Path:
    path.write_bytes(content)
    return path


async def test_names_that_say_their_sizes_are_believed_unread(box, mailboxes, reads):
    put(box / "new" / OWN, b"")
    put(box / "cur" / "1790000001.x,S=3,W=99:2,S", b"")
    assert [entry.size for entry in await snapshot(mailboxes)] == [7, 99]
    assert reads.count == 0
    assert not (box / CACHE_NAME).exists()


async def test_foreign_messages_are_read_once(box, mailboxes, reads):
    put(box / "new" / "1790000000.a")
    put(box / "cur" / "1790000001.b:2,S", b"a\r\nb\n\r\nc")
    assert [entry.size for entry in await snapshot(mailboxes)] == [11, 9]
    assert reads.count == 2
    (box / "new" / "1790000000.a").rename(box / "cur" / "1790000000.a:2,RS")
    assert [entry.size for entry in await snapshot(mailboxes)] == [11, 9]
    assert reads.count == 2
    put(box / "new" / "1790000002.c", b"\n")
    assert [entry.size for entry in await snapshot(mailboxes)] == [11, 9, 2]
    assert reads.count == 3


@pytest.mark.parametrize(
    "wrong",
    [b"", b"gatepost sizes 1\n", b"x" * 1000, None],
    ids=["empty", "cut", "foreign", "one octet other"],
)
async def test_a_cache_that_is_wrong_is_made_anew(box, mailboxes, reads, wrong):
    put(box / "new" / "1790000000.a")
    before = await snapshot(mailboxes)
    right = (box / CACHE_NAME).read_bytes()
    size = right.index(b"1790000000.a") + len("1790000000.a") + 1
    assert right[size] == 11
    (box / CACHE_NAME).write_bytes(right[:size] + b"\x0a" + right[size + 1 :] if wrong is None else wrong)
    assert await snapshot(mailboxes) == before
    assert reads.count == 2
    assert (box / CACHE_NAME).read_bytes() == right


@pytest.mark.parametrize("what", ["folder", "link", "fifo"])
async def test_something_else_in_the_place_of_the_cache_breaks_no_login(box, mailboxes, reads, what, tmp_path, damages):
    put(box / "new" / "1790000000.a")
    if what == "folder":
        (box / CACHE_NAME).mkdir()
    elif what == "fifo":
        os.mkfifo(box / CACHE_NAME)
    else:
        (box / CACHE_NAME).symlink_to(put(tmp_path / "secret", b"secret"))
    for _ in range(2):
        assert [entry.size for entry in await snapshot(mailboxes)] == [11]
    if what == "link":
        assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (reads.count, len(damages)) == ((2, 1) if what == "folder" else (1, 0))


async def test_what_is_gone_leaves_the_cache(box, mailboxes, reads, monkeypatch):
    for number in range(20):
        put(box / "new" / f"179000000{number}.a")
    await snapshot(mailboxes)
    size = (box / CACHE_NAME).stat().st_size
    for path in list((box / "new").iterdir())[:15]:
        path.unlink()
    put(box / "new" / "1790000099.b")
    await snapshot(mailboxes)
    assert (box / CACHE_NAME).stat().st_size < size / 2


async def test_a_disk_that_takes_no_cache_breaks_no_login(box, tmp_path, damages):
    class Full(RealFiles):
        def create(self, path):
            raise OSError(errno.ENOSPC, "injected")

    put(box / "new" / "1790000000.a")
    mailboxes = MaildirMailboxes(lambda user: tmp_path / user, Full(), on_damage=damages.append)
    for _ in range(3):
        assert [entry.size for entry in await snapshot(mailboxes)] == [11]
    assert damages == ["mailbox of ann: sizes can't be kept: [Errno 28] injected"]
    await mailboxes.close()


async def test_a_size_that_was_said_wrong_is_right_the_next_time(box, mailboxes, reads):
    put(box / "new" / "1790000000.a,S=7,W=5")
    session = await mailboxes.open("ann")
    assert session.messages[0].size == 5
    half = await session.open_content(session.messages[0])
    half.close()
    await read(session, session.messages[0])
    await session.close()
    [entry] = await snapshot(mailboxes)
    assert (entry.size, reads.count) == (11, 0)
    assert entry.uid == session.messages[0].uid


async def test_the_order_is_of_delivery_then_of_names(box, mailboxes):
    names = [
        "999999999.z",
        "1790000000.M5P1.h",
        "1790000000.M40P1.h",
        "1790000000.M300P1.h",
        "1790000001.a",
        "1790000001.b",
    ]
    for number, name in enumerate(reversed(names)):
        put(box / ("new" if number % 2 else "cur") / name)
    foreign = put(box / "new" / "mail.eml")
    os.utime(foreign, (1_790_000_000.5, 1_790_000_000.5))
    expected = [*names[:4], "mail.eml", *names[4:]]
    assert [entry.name for entry in await snapshot(mailboxes)] == expected
    os.utime(foreign, (5, 5))  # a copy or a backup touched it
    assert [entry.name for entry in await snapshot(mailboxes)] == expected


async def test_O4_unique_ids_stay_when_readers_move_messages(box, mailboxes):
    path = put(box / "new" / OWN)
    [before] = await snapshot(mailboxes)
    for flags in ("", "S", "FRS"):
        path = path.rename(box / "cur" / f"{OWN}:2,{flags}")
        assert [entry.uid for entry in await snapshot(mailboxes)] == [before.uid]


async def test_O4_two_files_of_one_base_name_are_two_messages(box, mailboxes):
    put(box / "cur" / f"{OWN}:2,S", b"one\n")
    [alone] = await snapshot(mailboxes)
    second = put(box / "new" / OWN, b"two\n")
    both = await snapshot(mailboxes)
    uids = {entry.uid for entry in both}
    assert len(both) == 2 and len(uids) == 2 and alone.uid not in uids
    second = second.rename(box / "cur" / f"{OWN}:2,")
    assert {entry.uid for entry in await snapshot(mailboxes)} == uids
    session = await mailboxes.open("ann")
    contents = {await read(session, entry): entry for entry in session.messages}
    assert contents.keys() == {b"one\r\n", b"two\r\n"}
    assert await session.delete([contents[b"one\r\n"]]) == []
    await session.close()
    assert second.read_bytes() == b"two\n"
    # what is left doesn't take over an id that a client may know as the other's
    assert [entry.uid for entry in await snapshot(mailboxes)] == [contents[b"two\r\n"].uid]


async def test_one_file_with_two_names_is_one_message_and_goes_with_both(box, mailboxes):
    one = put(box / "new" / OWN)
    [alone] = await snapshot(mailboxes)
    (box / "cur" / f"{OWN}:2,S").hardlink_to(one)
    session = await mailboxes.open("ann")
    assert [entry.uid for entry in session.messages] == [alone.uid]
    assert await session.delete(session.messages) == []
    await session.close()
    assert [*box.glob("[nc]*/*")] == []


async def test_O4_digests_that_meet_are_told_apart(box, tmp_path):
    mailboxes = MaildirMailboxes(lambda user: tmp_path / user, RealFiles(), digest=lambda data: str(len(data) % 3))
    for number in range(3):
        put(box / "new" / f"{number}.a,W=1")
    before = await snapshot(mailboxes)
    assert len({entry.uid for entry in before}) == 3
    for number in range(3):
        (box / "new" / f"{number}.a,W=1").rename(box / "cur" / f"{number}.a,W=1:2,S")
    assert [entry.uid for entry in await snapshot(mailboxes)] == [entry.uid for entry in before]
    await mailboxes.close()


async def test_a_message_is_found_where_a_reader_moved_it(box, mailboxes):
    path = put(box / "new" / OWN)
    put(box / "new" / "1790000001.b,W=1", b"\n")
    session = await mailboxes.open("ann")
    path.rename(box / "cur" / f"{OWN}:2,S")
    assert await read(session, session.messages[0]) == b"a\r\nb\r\n\r\nc\r\n"
    (box / "cur" / f"{OWN}:2,S").rename(box / "cur" / f"{OWN}:2,RS")
    assert await session.delete(session.messages) == []
    await session.close()
    assert [*box.glob("[nc]*/*")] == []


async def test_a_message_that_is_gone_is_told_and_counts_as_removed(box, mailboxes):
    path = put(box / "new" / OWN)
    session = await mailboxes.open("ann")
    path.unlink()
    with pytest.raises(MessageGone):
        await session.open_content(session.messages[0])
    assert await session.delete(session.messages) == []
    await session.close()


async def test_a_reader_who_moves_a_message_while_it_is_removed_doesnt_save_it(box, tmp_path):
    class Racing(RealFiles):
        moves = 0

        def unlink(self, path):
            if path.name.startswith(OWN) and self.moves < 3:
                self.moves += 1
                path.rename(box / "cur" / f"{OWN}:2,{'S' * self.moves}")
            super().unlink(path)

    put(box / "new" / OWN)
    mailboxes = MaildirMailboxes(lambda user: tmp_path / user, Racing())
    session = await mailboxes.open("ann")
    assert await session.delete(session.messages) == []
    await session.close()
    await mailboxes.close()
    assert [*box.glob("[nc]*/*")] == []


async def test_what_came_meanwhile_under_the_same_name_stays(box, mailboxes):
    put(box / "cur" / f"{OWN}:2,S", b"one\n")
    session = await mailboxes.open("ann")
    put(box / "new" / OWN, b"two\n")
    assert await session.delete(session.messages) == []
    await session.close()
    assert [path.read_bytes() for path in box.glob("[nc]*/*")] == [b"two\n"]


async def test_of_two_that_it_might_be_neither_is_removed(box, mailboxes):
    path = put(box / "new" / OWN, b"one\n")
    session = await mailboxes.open("ann")
    path.rename(box / "cur" / f"{OWN}:2,S")
    put(box / "new" / f"{OWN}:2,", b"two\n")
    with pytest.raises(MessageGone):
        await session.open_content(session.messages[0])
    await session.delete(session.messages)
    await session.close()
    assert {path.read_bytes() for path in box.glob("[nc]*/*")} == {b"one\n", b"two\n"}


async def test_a_disk_that_fails_at_the_first_read_leaves_no_descriptor(box, mailboxes, monkeypatch):
    put(box / "new" / OWN)
    session = await mailboxes.open("ann")
    before = os.listdir("/proc/self/fd")

    def broken(_) -> bytes:
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(mailbox_content.Lines, "next", broken)
        patch.setattr(mailbox_content.Lines, "next_cached", lambda *_: None)  # as a disk that fails says nothing
        for _ in range(3):
            with pytest.raises(MailboxError, match="injected"):
                await session.open_content(session.messages[0])
    assert len(os.listdir("/proc/self/fd")) == len(before)
    await session.close()


@pytest.mark.parametrize("step", ["unlink", "sync_dir"])
async def test_R15_what_couldnt_be_removed_comes_back(box, tmp_path, step, damages):
    class Failing(RealFiles):
        def unlink(self, path):
            if step == "unlink" and path.name.startswith("1790000001"):
                raise OSError(errno.EIO, "injected")
            super().unlink(path)

        def sync_dir(self, path):
            if step == "sync_dir" and path.name == "new":
                raise OSError(errno.EIO, "injected")
            super().sync_dir(path)

    for number in range(3):
        put(box / "new" / f"179000000{number}.a,W=1")
    mailboxes = MaildirMailboxes(lambda user: tmp_path / user, Failing(), on_damage=damages.append)
    session = await mailboxes.open("ann")
    left = await session.delete(session.messages)
    assert [entry.number for entry in left] == ([2] if step == "unlink" else [1, 2, 3])
    assert len(damages) == 1 and "injected" in damages[0]
    await session.close()
    assert len(await snapshot(mailboxes)) == (1 if step == "unlink" else 0)
    await mailboxes.close()


async def test_removals_are_synced_once_a_folder(box, tmp_path):
    synced = []

    class Counting(RealFiles):
        def sync_dir(self, path):
            synced.append(path.name)
            super().sync_dir(path)

    for number in range(40):
        put(box / ("new" if number % 2 else "cur") / f"{number}.a,W=1")
    mailboxes = MaildirMailboxes(lambda user: tmp_path / user, Counting())
    session = await mailboxes.open("ann")
    await session.delete(session.messages)
    await session.close()
    await mailboxes.close()
    assert sorted(synced) == ["cur", "new"]


async def test_damaged_things_break_no_login(box, mailboxes, tmp_path, damages, monkeypatch):
    put(box / "new" / OWN)
    put(box / "new" / ".hidden")
    put(Path(os.fsdecode(os.fsencode(box / "new") + b"/1790000001.\xff\xfe\n")), b"\n")
    (box / "new" / "1790000002.folder").mkdir()
    (box / "new" / "1790000003.link").symlink_to(put(tmp_path / "secret", b"secret"))
    (box / "cur" / "1790000004.nowhere:2,").symlink_to(tmp_path / "nothing")
    os.mkfifo(box / "cur" / "1790000005.fifo:2,S")
    put(box / "cur" / "1790000006.unreadable:2,S")
    really = mailbox_scan.open_at

    def opened(folder, name):
        if "unreadable" in str(name):
            raise OSError(errno.EACCES, "injected")
        return really(folder, name)

    monkeypatch.setattr(mailbox_scan, "open_at", opened)
    session = await mailboxes.open("ann")
    assert [(entry.name, entry.size) for entry in session.messages] == [
        ("1790000000.T-1R0.mx,S=6,W=7", 7),
        ("1790000001.???", 2),
    ]
    assert await read(session, session.messages[1]) == b"\r\n"
    assert await session.delete(session.messages) == []
    await session.close()
    assert len(list(box.glob("[nc]*/*"))) == 6
    assert len(damages) == 3 and all(text.isprintable() for text in damages)
    await snapshot(mailboxes)
    assert len(damages) == 3  # each once


@pytest.mark.parametrize("what", ["link", "fifo", "folder", "unreadable"])
async def test_what_became_something_else_isnt_read(box, mailboxes, tmp_path, what, monkeypatch):
    path = put(box / "new" / OWN)
    session = await mailboxes.open("ann")
    path.unlink()
    if what == "link":
        path.symlink_to(put(tmp_path / "secret", b"secret"))
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        put(path)

        def refused(folder, name):
            raise OSError(errno.EACCES, "injected")

        monkeypatch.setattr(mailbox_scan, "open_at", refused)
        monkeypatch.setattr(Cached, "open", lambda *_: None)  # as openat2 would be refused
    with pytest.raises(MailboxError):
        await session.open_content(session.messages[0])
    await session.close()


@pytest.mark.parametrize("folder", ["new", "cur"])
async def test_a_folder_that_is_a_link_isnt_followed(box, mailboxes, tmp_path, damages, folder):
    (box / folder).rename(tmp_path / "elsewhere")
    put(tmp_path / "elsewhere" / OWN)
    (box / folder).symlink_to(tmp_path / "elsewhere")
    assert await snapshot(mailboxes) == []
    assert len(damages) == 1


async def test_a_folder_that_cant_be_read_is_no_empty_mailbox(box, mailboxes, monkeypatch):
    """A client that keeps mail on the server would forget what it has, and fetch everything again."""
    put(box / "new" / OWN)

    def broken(_):
        raise OSError(errno.EIO, "injected")

    with monkeypatch.context() as patch:
        patch.setattr(mailbox_scan, "_names", broken)
        with pytest.raises(MailboxError, match="injected"):
            await mailboxes.open("ann")
    assert len(await snapshot(mailboxes)) == 1  # and its lock is free


async def test_names_that_change_while_they_are_read_are_read_again(box, mailboxes, monkeypatch):
    path = put(box / "cur" / f"{OWN}:2,")
    os.utime(box / "cur", (5, 5))
    really = mailbox_scan._names
    looks = []

    def racing(descriptor):
        names = really(descriptor)
        if os.fstat(descriptor).st_ino == (box / "cur").stat().st_ino:
            looks.append(names)
            if len(looks) == 1:
                path.rename(box / "cur" / f"{OWN}:2,S")
                return [], 0  # the one name had gone, and the other wasn't there yet
        return names

    monkeypatch.setattr(mailbox_scan, "_names", racing)
    assert len(await snapshot(mailboxes)) == 1
    assert len(looks) == 2


async def test_a_lock_that_is_a_link_makes_nothing_where_it_leads(box, mailboxes, tmp_path):
    (box / LOCK_NAME).symlink_to(tmp_path / "made")
    await snapshot(mailboxes)
    assert not (tmp_path / "made").exists()


HOLDER = """
import asyncio, sys
from pathlib import Path
from gatepost.store.files import RealFiles
from gatepost.store.mailbox import MaildirMailboxes

async def hold():
    session = await MaildirMailboxes(lambda user: Path(sys.argv[1]), RealFiles()).open("ann")
    print(len(session.messages), flush=True)
    await asyncio.sleep(600)

asyncio.run(hold())
"""


async def test_O3_a_dead_processs_lock_is_no_lock(box, mailboxes):
    put(box / "new" / OWN)
    with subprocess.Popen([sys.executable, "-c", HOLDER, box], stdout=subprocess.PIPE) as holder:
        try:
            assert await asyncio.to_thread(holder.stdout.readline) == b"1\n"
            with pytest.raises(MailboxInUse):
                await mailboxes.open("ann")
        finally:
            holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert len(await snapshot(mailboxes)) == 1
    assert (box / LOCK_NAME).exists()


async def test_a_login_that_is_given_up_gives_the_mailbox_back_and_keeps_what_it_found(box, mailboxes, reads):
    for number in range(50):
        put(box / "new" / f"{number}.a")
    go, begun = Event(), Event()

    def stop() -> None:
        if reads.count == 20:
            begun.set()
            go.wait(10)

    reads.stop_at = stop
    opening = asyncio.create_task(mailboxes.open("ann"))
    await asyncio.to_thread(begun.wait, 10)
    opening.cancel()
    await asyncio.wait({opening})
    with pytest.raises(MailboxInUse):
        await mailboxes.open("ann")
    go.set()
    async with asyncio.timeout(30):
        while (lock := RealFiles().lock(box / LOCK_NAME)) is None:
            await asyncio.sleep(0.001)
    lock.release()
    assert reads.count == 20
    assert len(await snapshot(mailboxes)) == 50
    assert reads.count == 50  # none twice


async def test_a_login_given_up_at_its_very_end_gives_the_mailbox_back(box, mailboxes, monkeypatch):
    put(box / "new" / OWN)
    go, begun = Event(), Event()
    really = mailbox_folder.Folder.look

    def slowly(folder) -> None:
        really(folder)
        begun.set()
        go.wait(10)

    with monkeypatch.context() as patch:
        patch.setattr(mailbox_folder.Folder, "look", slowly)
        opening = asyncio.create_task(mailboxes.open("ann"))
        await asyncio.to_thread(begun.wait, 10)
        opening.cancel()
        await asyncio.wait({opening})
        go.set()
    async with asyncio.timeout(30):
        while True:
            try:
                assert len(await snapshot(mailboxes)) == 1
                break
            except MailboxInUse:
                await asyncio.sleep(0.001)


async def test_a_session_closed_while_it_removes_holds_its_lock_until_it_is_done(box, tmp_path):
    go, begun = Event(), Event()
    done = []

    class Held:
        def __init__(self, lock) -> None:
            self.lock = lock

        def release(self) -> None:
            done.append("released")
            self.lock.release()

    class Slow(RealFiles):
        def lock(self, path):
            return Held(super().lock(path))

        def unlink(self, path):
            if path.name.startswith(OWN):
                begun.set()
                go.wait(10)
                done.append("removed")
            super().unlink(path)

    put(box / "new" / OWN)
    mailboxes = MaildirMailboxes(lambda user: tmp_path / user, Slow())
    session = await mailboxes.open("ann")
    removal = asyncio.create_task(session.delete(session.messages))
    await asyncio.to_thread(begun.wait, 10)
    removal.cancel()
    await asyncio.wait({removal})
    closing = asyncio.create_task(session.close())
    others = [await mailboxes.open(user) for user in ("bob", "eve", "joe")]  # the pool has come past the closing
    assert done == []
    go.set()
    await closing
    assert done == ["removed", "released"]
    for other in others:
        await other.close()
    assert await snapshot(mailboxes) == []
    await mailboxes.close()


async def test_many_sessions_leave_no_descriptors(box, mailboxes):
    for number in range(5):
        put(box / "new" / f"{number}.a", b"x" * 100_000)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        session = await mailboxes.open("ann")
        content = await session.open_content(session.messages[0])
        await content.read()
        content.close()
        await read(session, session.messages[1])
        await session.close()
    assert len(os.listdir("/proc/self/fd")) == before
