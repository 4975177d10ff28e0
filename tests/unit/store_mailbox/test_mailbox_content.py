"""From a file to the wire: every line end CRLF, whatever the file has and wherever it is cut."""

import asyncio
import errno
import os
import re
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.store import mailbox_content
from gatepost.store.mailbox_cached import Cached
from gatepost.store.mailbox_content import FileContent, Lines, size_with_crlf
from gatepost.store.mailboxes import MailboxError

CACHED = Cached.of_system()
TEXTS = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b".", b"\0", b"bcd"]), max_size=60).map(b"".join)


def wanted(data: bytes) -> bytes:
    return re.sub(rb"\r?\n", b"\r\n", data)


def opened(path) -> int:
    return os.open(path, os.O_RDONLY)


def content_of(lines, pool, on_end) -> FileContent:
    return FileContent(lines, pool, on_end, lines.next())


@given(data=TEXTS, cut=st.integers(1, 9))
def test_any_octets_cut_anywhere(tmp_path_factory, data, cut):
    path = tmp_path_factory.getbasetemp() / "law"
    path.write_bytes(data)
    patch = pytest.MonkeyPatch()
    patch.setattr(mailbox_content, "CHUNK", cut)
    patch.setattr(mailbox_content, "_SIZING", cut)
    try:
        lines, quick = Lines(opened(path)), Lines(opened(path))
        pieces = list(iter(lines.next, b""))
        assert lines.is_over and lines.next() == b""
        lines.close()
        if CACHED is not None:  # a file just written is in memory
            assert list(iter(lambda: quick.next_cached(CACHED), b"")) == pieces
            assert quick.is_over and quick.sent == lines.sent
        quick.close()
        descriptor = opened(path)
        assert size_with_crlf(descriptor) == len(wanted(data)) == lines.sent
        os.close(descriptor)
    finally:
        patch.undo()
    assert b"".join(pieces) == wanted(data)
    assert all(len(piece) <= 2 * cut for piece in pieces)
    assert not any(a.endswith(b"\r") and b.startswith(b"\n") for a, b in pairwise(pieces))


def test_what_is_appended_meanwhile_is_not_seen(tmp_path):
    path = tmp_path / "growing"
    path.write_bytes(b"x" * 100_000)
    lines = Lines(opened(path))
    assert len(lines.next()) == 65_536
    with path.open("ab") as file:
        file.write(b"y" * 100_000)
    rest = b"".join(iter(lines.next, b""))
    assert rest == b"x" * (100_000 - 65_536)
    lines.close()


def test_a_file_that_was_cut_short_ends(tmp_path):
    path = tmp_path / "shrinking"
    path.write_bytes(b"x" * 200_000)
    lines = Lines(opened(path))
    lines.next()
    os.truncate(path, 70_000)
    assert len(b"".join(iter(lines.next, b""))) == 70_000 - 65_536
    lines.close()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as made:
        yield made


async def test_a_small_message_holds_no_descriptor(tmp_path, pool):
    (tmp_path / "small").write_bytes(b"x\n")
    descriptor = opened(tmp_path / "small")
    content = content_of(Lines(descriptor), pool, lambda _: None)
    with pytest.raises(OSError):
        os.fstat(descriptor)
    assert await content.read() == b"x\r\n"
    content.close()


async def test_reading_that_is_given_up_closes_the_file_after_the_thread_is_done_with_it(tmp_path, pool):
    (tmp_path / "large").write_bytes(b"x" * 300_000)
    descriptor = opened(tmp_path / "large")
    lines = Lines(descriptor)
    content = content_of(lines, pool, lambda _: None)
    await content.read()
    go, begun = Event(), Event()
    really = lines.next

    def slowly() -> bytes:
        begun.set()
        go.wait(10)
        return really()

    lines.next = slowly
    reading = asyncio.create_task(content.read())
    while not begun.is_set():
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})
    content.close()
    os.fstat(descriptor)  # still open: the thread reads it
    go.set()
    pool.shutdown()
    with pytest.raises(OSError):
        os.fstat(descriptor)
    assert await content.read() == b""


async def test_a_disk_that_fails_halfway_is_heard(tmp_path, pool):
    (tmp_path / "large").write_bytes(b"x" * 300_000)
    lines = Lines(opened(tmp_path / "large"))
    ended = []
    content = content_of(lines, pool, ended.append)
    await content.read()

    def broken() -> bytes:
        raise OSError(errno.EIO, "injected")

    lines.next = broken
    with pytest.raises(MailboxError, match="injected"):
        await content.read()
    content.close()
    assert ended == []


async def test_how_much_a_message_was_is_said_once_at_its_end(tmp_path, pool):
    (tmp_path / "large").write_bytes(b"x\n" * 100_000)
    ended = []
    content = content_of(Lines(opened(tmp_path / "large")), pool, ended.append)
    while not content.is_over:
        assert await content.read()
    assert await content.read() == b""
    assert ended == [300_000]


@pytest.mark.skipif(CACHED is None, reason="only Linux tells what is in memory")
async def test_what_isnt_in_memory_is_read_in_the_pool(tmp_path, pool, monkeypatch):
    (tmp_path / "large").write_bytes(b"x\n" * 100_000)
    lines = Lines(opened(tmp_path / "large"))
    content = FileContent(lines, pool, lambda _: None, lines.next(), CACHED)
    waited = []
    monkeypatch.setattr(os, "preadv", lambda *_: waited.append(1) or _again())
    pieces = [piece async for piece in _pieces(content)]
    assert b"".join(pieces) == b"x\r\n" * 100_000
    assert len(waited) == len(pieces) - 1


def _again() -> int:
    raise BlockingIOError(errno.EAGAIN, "injected")


async def _pieces(content):
    while piece := await content.read():
        yield piece
