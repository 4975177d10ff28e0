"""The real file system behind the port, and drafts on a disk that fails or is slow."""

import asyncio
import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from gatepost.model import Bytes, Ticket
from gatepost.store.blobs import FileBlob
from gatepost.store.draft import MEMORY_LIMIT, FileDraft
from gatepost.store.errors import SpoolFailure, SpoolFull, spool_error
from gatepost.store.files import RealFiles

TICKET = Ticket("06HK3M-9Q7TZA", 1)


def test_a_file_is_made_once_and_only_for_its_owner(tmp_path):
    files = RealFiles()
    file = files.create(tmp_path / "x")
    file.write(b"one")
    file.sync()
    file.close()
    file.close()
    with pytest.raises(FileExistsError):
        files.create(tmp_path / "x")
    more = files.append(tmp_path / "x")
    more.write(b" more")
    more.close()
    assert (tmp_path / "x").read_bytes() == b"one more"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    assert files.size(tmp_path / "x") == 8


def test_folders_are_made_with_their_parents_and_twice_without_harm(tmp_path):
    files = RealFiles()
    files.make_dir(tmp_path / "a" / "b" / "c")
    files.make_dir(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert files.list_dir(tmp_path / "a") == ["b"]
    assert files.list_dir(tmp_path / "nowhere") == []
    assert files.free_space(tmp_path) > 0
    files.unlink(tmp_path / "nothing")


def test_a_lock_is_held_once(tmp_path):
    files = RealFiles()
    lock = files.lock(tmp_path / "lock")
    assert files.lock(tmp_path / "lock") is None
    lock.release()
    lock.release()
    again = files.lock(tmp_path / "lock")
    again.release()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, SpoolFull), (errno.EDQUOT, SpoolFull), (errno.EIO, SpoolFailure), (errno.EROFS, SpoolFailure)],
)
def test_R15_errors_have_a_word_for_the_sender(number, kind):
    assert type(spool_error(OSError(number, "x"))) is kind


def test_a_file_blob_ends_where_it_was_said_to_end(tmp_path):
    (tmp_path / "x").write_bytes(b"0123456789")
    blob = FileBlob(tmp_path / "x", 10)
    assert (blob.read(), blob.read(3), blob.read(3, 2), blob.read(99)) == (b"0123456789", b"3456789", b"34", b"")


class Slow(RealFiles):
    """Writes when it is let."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.error: OSError | None = None

    def create(self, path):
        asyncio.run_coroutine_threadsafe(self.gate.wait(), self.loop).result()
        if self.error:
            raise self.error
        return super().create(path)


async def test_R14_a_draft_holds_little_in_memory_and_makes_the_client_wait(tmp_path):
    files = Slow()
    with ThreadPoolExecutor(1) as pool:
        draft = FileDraft(TICKET, lambda: tmp_path / "x", files, pool)
        piece = b"x" * 8192
        for _ in range(4):
            draft.write(piece)
            await draft.ready()
        assert os.listdir(tmp_path) == []
        draft.write(piece)  # over the limit: on its way to the file
        for _ in range(MEMORY_LIMIT // 8192):
            await draft.ready()
            draft.write(piece)
        draft.write(piece)
        waiting = asyncio.ensure_future(draft.ready())
        await asyncio.sleep(0)
        assert not waiting.done()
        files.gate.set()
        await waiting
        blob = await draft.finish()
        assert blob == FileBlob(tmp_path / "x", 10 * 8192)
        assert await draft.complete() == blob
        draft.discard()
        await asyncio.get_running_loop().run_in_executor(pool, lambda: None)
        assert os.listdir(tmp_path) == []


async def test_a_draft_discarded_while_it_is_written_leaves_no_file(tmp_path):
    files = Slow()
    with ThreadPoolExecutor(1) as pool:
        draft = FileDraft(TICKET, lambda: tmp_path / "x", files, pool)
        draft.write(b"x" * 100_000)
        draft.discard()
        files.gate.set()
        while draft._file is not None or draft._job is not None:
            await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(pool, lambda: None)
        assert os.listdir(tmp_path) == []


async def test_R15_a_failed_draft_says_so_from_then_on(tmp_path):
    files = Slow()
    files.error = OSError(errno.ENOSPC, "full")
    files.gate.set()
    with ThreadPoolExecutor(1) as pool:
        draft = FileDraft(TICKET, lambda: tmp_path / "x", files, pool)
        draft.write(b"x" * 100_000)
        with pytest.raises(SpoolFull):
            await draft.finish()
        with pytest.raises(SpoolFull):
            await draft.complete()
        draft.discard()
        with pytest.raises(SpoolFailure):
            await draft.finish()


async def test_small_content_never_leaves_memory(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        draft = FileDraft(TICKET, lambda: tmp_path / "x", RealFiles(), pool)
        draft.write(b"a" * MEMORY_LIMIT)
        assert await draft.finish() == Bytes(b"a" * MEMORY_LIMIT)
        draft.discard()
    assert os.listdir(tmp_path) == []
