"""What is read in the loop is what needs no waiting: a regular file, in memory, on a local file system, no link."""

import errno
import os

import pytest

from gatepost.store.files import RealFiles
from gatepost.store.mailbox import MaildirMailboxes
from gatepost.store.mailbox_cached import Cached

CACHED = Cached.of_system()
pytestmark = pytest.mark.skipif(CACHED is None, reason="only Linux tells what is in memory")


@pytest.fixture
def cached():
    made = Cached.of_system()
    assert made is not None
    return made


@pytest.fixture
def box(tmp_path):
    (tmp_path / "ann" / "new").mkdir(parents=True)
    (tmp_path / "ann" / "new" / "1.a").write_bytes(b"one\n")
    return tmp_path / "ann"


def test_a_file_in_memory_is_read(box, cached):
    opened = cached.open(os.fsencode(box / "new" / "1.a"))
    if opened is None:
        assert not cached.is_able, "only a system that forbids openat2 says no here"
        return
    descriptor, size = opened
    assert size == 4
    assert cached.read(descriptor, 0, 3) == b"one"
    assert cached.read(descriptor, 3, 100) == b"\n"
    assert cached.read(descriptor, 4, 100) == b""
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("what", ["nothing", "link", "folder", "fifo", "behind a link"])
def test_other_things_are_left_to_who_may_wait(box, cached, tmp_path, what):
    path = box / "new" / "2.b"
    match what:
        case "link":
            path.symlink_to("1.a")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "behind a link":
            (tmp_path / "link").symlink_to(box)
            path = tmp_path / "link" / "new" / "1.a"
    before = len(os.listdir("/proc/self/fd"))
    assert cached.open(os.fsencode(path)) is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert (box / "new" / "1.a").read_bytes() == b"one\n"


def test_only_some_file_systems_are_asked(cached):
    assert not cached.is_local(b"/proc")  # which answers by itself, as others ask a machine elsewhere
    assert not cached.is_local(b"/nothing/there")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_system_that_has_or_allows_none_of_it_is_asked_once(cached, monkeypatch, number):
    asked = []
    monkeypatch.setattr(cached, "_syscall", lambda *_: asked.append(1) or -1)
    monkeypatch.setattr("ctypes.get_errno", lambda: number)
    assert cached.open(b"/etc/passwd") is None and cached.open(b"/etc/passwd") is None
    assert len(asked) == 1


async def test_a_mailbox_below_a_link_is_read_in_memory_too(box, cached, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    mailboxes = MaildirMailboxes(lambda user: tmp_path / "link" / user, RealFiles(), cached=cached)
    session = await mailboxes.open("ann")
    opened = []
    really = cached.open
    monkeypatch.setattr(cached, "open", lambda path: opened.append(really(path)) or opened[-1])
    content = await session.open_content(session.messages[0])
    assert await content.read() == b"one\r\n" and content.is_over
    assert opened and (opened[0] is not None or not cached.is_able)
    await session.close()
    await mailboxes.close()
