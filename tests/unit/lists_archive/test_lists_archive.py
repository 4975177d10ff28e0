"""The archive: mbox files that other programs read, each post once, whatever happened before."""

import asyncio
import mailbox
import os

import pytest

from crash.recording import Recorder, RecordingFiles, write_down
from gatepost.lists.archive import Archive
from gatepost.model import NULL_PATH, Bytes, Path
from gatepost.model.blob import CHUNK
from gatepost.store.files import RealFiles

ANN = Path.parse("ann@example.net")
AT = 1_790_000_000.0  # in September 2026
OCTOBER = AT + 30 * 86_400
POST = b"From: Ann <ann@example.net>\r\nSubject: %d\r\n\r\nHello,\r\nFrom me\r\n>From you\r\n> From us\r\nFromage\r\n"


def read(path) -> list[tuple[str, bytes]]:
    """What another program finds: the line before each post, and the post with the quoting taken back."""
    box = mailbox.mbox(path, create=False)
    found = [(one.get_from(), bytes(one)) for one in box]
    box.close()
    return found


async def test_posts_are_an_mbox_a_month(tmp_path):
    archive = Archive(tmp_path, RealFiles())
    for number, at in ((1, AT), (2, AT), (3, OCTOBER)):
        await archive.keep("news", f"T-{number}", Bytes(POST % number), sender=ANN, at=at)
    september, october = read(tmp_path / "news/2026-09.mbox"), read(tmp_path / "news/2026-10.mbox")
    assert [line for line, _ in september] == ["ann@example.net Mon Sep 21 14:13:20 2026"] * 2
    assert [b"Subject: %d\n" % n in text for n, (_, text) in enumerate((*september, *october), 1)] == [True] * 3
    raw = (tmp_path / "news/2026-09.mbox").read_bytes()
    assert b"\r" not in raw
    assert b"\n>From me\n>>From you\n> From us\nFromage\n\n" in raw


async def test_a_post_is_kept_once_however_often_it_is_tried(tmp_path):
    for _ in range(2):  # another process, too
        archive = Archive(tmp_path, RealFiles())
        await asyncio.gather(*(archive.keep("news", "T-1", Bytes(POST % 1), sender=ANN, at=AT) for _ in range(3)))
    await archive.keep("dev", "T-1", Bytes(POST % 1), sender=ANN, at=AT)
    assert len(read(tmp_path / "news/2026-09.mbox")) == len(read(tmp_path / "dev/2026-09.mbox")) == 1


async def test_workers_wait_for_each_other(tmp_path):
    archives = [Archive(tmp_path, RealFiles()) for _ in range(3)]
    await asyncio.gather(
        *(
            archive.keep("news", f"T{at}-{n}", Bytes(POST % n), sender=ANN, at=AT)
            for at, archive in enumerate(archives)
            for n in range(5)
        )
    )
    assert len(read(tmp_path / "news/2026-09.mbox")) == 15


@pytest.mark.parametrize("sender", [NULL_PATH, Path("a b", "example.net"), Path("é", "example.net")])
async def test_the_first_line_is_one_whoever_sent_it(tmp_path, sender):
    await Archive(tmp_path, RealFiles()).keep("news", "T-1", Bytes(POST % 1), sender=sender, at=AT)
    [(line, _)] = read(tmp_path / "news/2026-09.mbox")
    assert line.split()[0] == "MAILER-DAEMON"


@pytest.mark.parametrize("shift", range(-8, 3))
async def test_lines_are_quoted_wherever_a_piece_ends(tmp_path, shift):
    head = b"Subject: x\r\n\r\n"
    content = head + b"x" * (CHUNK + shift - len(head) - 2) + b"\r\nFrom me\r\n>From" + b" y" * 50_000
    await Archive(tmp_path, RealFiles()).keep("news", "T-1", Bytes(content), sender=ANN, at=AT)
    raw = (tmp_path / "news/2026-09.mbox").read_bytes().partition(b"\n")[2]
    wanted = content.replace(b"\r\n", b"\n").replace(b"\n>From", b"\n>>From").replace(b"\nFrom", b"\n>From")
    assert raw == wanted + b"\n\n"


async def test_what_cant_be_written_is_told_and_done_the_next_time(tmp_path):
    recorder = Recorder(tmp_path)
    archive = Archive(tmp_path, RecordingFiles(recorder))
    await archive.keep("news", "T-1", Bytes(POST % 1), sender=ANN, at=AT)

    def fail(kind: str) -> None:
        if kind == "write":
            raise OSError(28, "no space left on device")

    recorder.fail = fail
    with pytest.raises(OSError, match="no space"):
        await archive.keep("news", "T-2", Bytes(POST % 2), sender=ANN, at=AT)
    recorder.fail = lambda kind: None
    await archive.keep("news", "T-2", Bytes(POST % 2), sender=ANN, at=AT)
    assert len(read(tmp_path / "news/2026-09.mbox")) == 2


async def test_what_another_program_has_added_is_set_aside_and_not_lost(tmp_path):
    archive = Archive(tmp_path, RealFiles())
    await archive.keep("news", "T-1", Bytes(POST % 1), sender=ANN, at=AT)
    with (tmp_path / "news/2026-09.mbox").open("ab") as file:
        file.write(b"From somebody\n")
    await archive.keep("news", "T-2", Bytes(POST % 2), sender=ANN, at=AT)
    assert len(read(tmp_path / "news/2026-09.mbox")) == 2
    assert (tmp_path / "news/2026-09.torn").read_bytes().endswith(b"From somebody\n")


async def test_an_index_that_ends_within_a_line_says_nothing_of_that_post(tmp_path):
    archive = Archive(tmp_path, RealFiles())
    for number in (1, 2):
        await archive.keep("news", f"T-{number}", Bytes(POST % number), sender=ANN, at=AT)
    index = tmp_path / "news/2026-09.index"
    index.write_bytes(index.read_bytes()[:-2])
    for number in (3, 2):
        await archive.keep("news", f"T-{number}", Bytes(POST % number), sender=ANN, at=AT)
    subjects = [text.split(b"Subject: ")[1][:1] for _, text in read(tmp_path / "news/2026-09.mbox")]
    assert subjects == [b"1", b"3", b"2"]


async def test_after_a_crash_at_every_step_each_post_is_there_once(tmp_path):
    root = tmp_path / "recorded"
    root.mkdir()
    recorder = Recorder(root)
    archive = Archive(root, RecordingFiles(recorder))
    content = {n: (POST % n) * (1 if n != 2 else 2000) for n in (1, 2, 3)}
    for number, octets in content.items():
        await archive.keep("news", f"T-{number}", Bytes(octets), sender=ANN, at=AT)
        recorder.mark(number)
    tried = 0
    for done, crash, left in recorder.crashes():
        folder = tmp_path / str(tried)
        folder.mkdir()
        write_down(left, folder)
        archive = Archive(folder, RealFiles())
        promised = {step[1] for step in recorder.log[:done] if step[0] == "mark"}
        where = f"after {done} of {len(recorder.log)} steps, {crash.value}"
        if promised:
            raw = (folder / "news/2026-09.mbox").read_bytes()
            assert all(b"Subject: %d\n" % n in raw for n in promised), where
        for number, octets in content.items():  # what wasn't settled is handled once more
            await archive.keep("news", f"T-{number}", Bytes(octets), sender=ANN, at=AT)
        box = folder / "news/2026-09.mbox"
        assert sorted(len(text) for _, text in read(box)) == sorted(
            len(text) for _, text in read(root / "news/2026-09.mbox")
        ), where
        assert os.path.getsize(box) == os.path.getsize(root / "news/2026-09.mbox"), where
        tried += 1
    assert tried > 30
