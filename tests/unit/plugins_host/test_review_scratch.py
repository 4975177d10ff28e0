"""Files for children where disks are full and where memory hides what was changed."""

import asyncio
import gc
import mmap
import os
from errno import ENOSPC
from pathlib import Path

import pytest

from gatepost.hooks.records import RecordError
from gatepost.model import Bytes
from gatepost.plugins.host.scratch import Scratch, rewritten, take_print

LARGE = Bytes(b"0123456789\r\n" * 10_000)


class Ends(Bytes):
    """Content for which there is no room."""

    def chunks(self):
        yield self.read(0, 70_000)
        raise OSError(ENOSPC, "no space left")


@pytest.fixture(params=["/dev/shm", None])
async def scratch(request, tmp_path):
    made = Scratch(tmp_path, None if request.param is None else Path(request.param))
    yield made
    await made.remove()


async def test_of_content_that_found_no_room_nothing_is_left(scratch):
    with pytest.raises(OSError, match="no space"):
        await scratch.write(1, Ends(LARGE.read()))
    assert list(scratch.folder.iterdir()) == []


async def test_a_copy_that_found_no_room_is_no_copy(scratch, tmp_path, monkeypatch):
    path = await scratch.write(1, LARGE)
    print_ = take_print(path)
    os.truncate(path, 100_000)
    monkeypatch.setattr("gatepost.plugins.host.scratch.LARGEST", 90_000)
    with pytest.raises(RecordError):
        await rewritten(path, print_, None, lambda: tmp_path / "copy")
    monkeypatch.setattr("gatepost.plugins.host.scratch.LARGEST", 1 << 30)
    before = set(os.listdir("/proc/self/fd"))
    taken = await rewritten(path, print_, None, lambda: tmp_path / "copy")
    assert set(os.listdir("/proc/self/fd")) == before
    content = taken.read()
    del taken
    assert content == LARGE.read(0, 100_000)
    await asyncio.sleep(0)  # until then the loop has it
    gc.collect()
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("content", [Bytes(b"Subject: hello\r\n\r\n"), LARGE])
async def test_what_a_map_has_changed_is_seen(content, tmp_path):
    """Read first and written then, the file's time says nothing where files are in memory."""
    scratch = Scratch(Path("/dev/shm"), Path("/dev/shm"))
    try:
        path = await scratch.write(1, content, ".MAI")
        print_ = take_print(path)
        before = content if scratch.hides(path) else None
        assert await rewritten(path, print_, before, lambda: tmp_path / "copy") is None
        with open(path, "rb+") as file, mmap.mmap(file.fileno(), 0) as map_:
            assert map_[:3] == content.read(0, 3)
            map_[:3] = b"XXX"
        after = await rewritten(path, print_, before, lambda: tmp_path / "changed")
        assert after.read() == b"XXX" + content.read(3)
    finally:
        await scratch.remove()
