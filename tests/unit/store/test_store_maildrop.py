"""Maildirs: exactly once, whole or not at all, and never outside their folder."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator

import pytest

from gatepost.model import NULL_PATH, Bytes, Path, Recipient, Ticket, token_at
from gatepost.store.blobs import FileBlob
from gatepost.store.files import RealFiles
from gatepost.store.maildrop import Maildrop, safe_name

ANN, BOB = (Recipient(Path.parse(f"{name}@example.org")) for name in ("ann", "bob"))
TICKET = Ticket(token_at(1_790_000_000_123, 0, 7), 1)
CONTENT = Bytes(b"Subject: x\r\n\r\nhello\r\n.\r\n")


class Counting(RealFiles):
    """Counts syncs of folders, and may fail."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.failing: str | None = None

    def sync_dir(self, path):
        self._maybe("sync_dir")
        self.synced.append(path.name)
        super().sync_dir(path)

    def rename(self, source, target):
        self._maybe("rename")
        super().rename(source, target)

    def create(self, path):
        self._maybe("create")
        file = super().create(path)
        if self.failing in ("write", "sync"):
            setattr(file, self.failing, self._fail)
        return file

    def _maybe(self, step: str) -> None:
        if self.failing == step:
            self._fail()

    def _fail(self, *_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def files() -> Counting:
    return Counting()


@pytest.fixture
async def maildrop(tmp_path, files) -> AsyncIterator[Maildrop]:
    made = Maildrop(tmp_path, files, hostname="mx.example.org")
    yield made
    await made.close()


def found(maildrop: Maildrop, user: str = "ann@example.org", folder: str = "new") -> list:
    return sorted((maildrop.mailbox(user) / folder).glob("*"))


async def test_a_message_comes_to_rest_with_lf_and_its_sizes_in_its_name(maildrop):
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT, sender=Path.parse("eve@example.net"))
    [path] = found(maildrop)
    assert path.read_bytes() == b"Return-Path: <eve@example.net>\nSubject: x\n\nhello\n.\n"
    assert path.name == f"1790000000.{TICKET}R{path.name.split('R')[-1][:12]}.mx.example.org,S=51,W=56"
    assert path.stat().st_size == 51
    assert found(maildrop, folder="tmp") == []
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_null_sender_and_delivered_to(maildrop):
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT, sender=NULL_PATH, delivered_to="info@example.org")
    [path] = found(maildrop)
    assert path.read_bytes().startswith(b"Return-Path: <>\nDelivered-To: info@example.org\nSubject: x\n")


@pytest.mark.parametrize("look", [True, False])
async def test_a_second_delivery_of_the_same_is_none(maildrop, look):
    for _ in range(3):
        await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT, look=look)
    assert len(found(maildrop)) == 1


async def test_a_reader_who_moved_the_message_has_it_already(maildrop):
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT)
    [path] = found(maildrop)
    path.rename(path.parent.parent / "cur" / f"{path.name}:2,S")
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT)
    assert found(maildrop) == []


async def test_other_recipients_and_other_tickets_are_other_messages(maildrop):
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT)
    await maildrop.deliver("ann@example.org", TICKET, BOB, CONTENT)
    await maildrop.deliver("ann@example.org", Ticket(TICKET.token, 2), ANN, CONTENT)
    await maildrop.deliver("ann@example.org", Ticket(TICKET.token, 11), ANN, CONTENT)
    assert len(found(maildrop)) == 4


@pytest.mark.parametrize("size", range(65534, 65540))
async def test_line_ends_are_mended_across_pieces(maildrop, tmp_path, size):
    data = b"x" * (size - 4) + b"\r\n\r\r\n" + b"y" * 70_000 + b"\r"
    (tmp_path / "content").write_bytes(data)
    await maildrop.deliver("ann@example.org", TICKET, ANN, FileBlob(tmp_path / "content", len(data)))
    [path] = found(maildrop)
    written = path.read_bytes()
    assert written == data.replace(b"\r\n", b"\n")
    assert path.name.endswith(f",S={len(written)},W={len(written) + 2}")


async def test_an_empty_message_is_a_message(maildrop):
    await maildrop.deliver("ann@example.org", TICKET, ANN, Bytes(b""))
    assert [path.read_bytes() for path in found(maildrop)] == [b""]


async def test_what_a_dead_process_left_in_tmp_is_written_anew(maildrop):
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT)
    [path] = found(maildrop)
    left = path.parent.parent / "tmp" / path.name.partition(",")[0]
    path.rename(left)
    left.write_bytes(b"half")
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT)
    assert [path.read_bytes() for path in found(maildrop)] == [b"Subject: x\n\nhello\n.\n"]
    assert found(maildrop, folder="tmp") == []


@pytest.mark.parametrize("step", ["create", "write", "sync", "rename", "sync_dir"])
async def test_R15_a_failing_disk_is_heard_and_a_retry_delivers_once(maildrop, files, step):
    await maildrop.deliver("ann@example.org", Ticket(TICKET.token, 9), ANN, CONTENT)
    files.failing = step
    with pytest.raises(OSError, match="error"):
        await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT)
    assert found(maildrop, folder="tmp") == []
    files.failing = None
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT)
    assert len(found(maildrop)) == 2


async def test_content_that_is_gone_is_no_reason_to_make_folders(maildrop, tmp_path):
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT)
    with pytest.raises(FileNotFoundError):
        await maildrop.deliver("ann@example.org", TICKET, BOB, FileBlob(tmp_path / "gone", 5))
    assert found(maildrop, folder="tmp") == []


async def test_deliveries_into_one_folder_share_its_syncs(maildrop, files):
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT)
    files.synced.clear()
    many = [Ticket(TICKET.token, number) for number in range(2, 202)]
    await asyncio.gather(*(maildrop.deliver("ann@example.org", t, ANN, CONTENT, look=False) for t in many))
    assert len(found(maildrop)) == 201
    assert 1 <= files.synced.count("new") < 200


async def test_a_folder_beside_the_inbox(maildrop):
    await maildrop.deliver("ann@example.org", TICKET, ANN, CONTENT, folder="../Junk.Deep")
    [path] = (maildrop.mailbox("ann@example.org")).glob(".*/new/*")
    assert path.parent.parent.name == ".%2e%2e%2fJunk%2eDeep"


HOSTILE = [
    "../../etc/passwd",
    "..",
    ".",
    "-rf",
    ".hidden",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a b",
    "%2e%2e",
    "|sh",
    "ä",
    "a" * 300,
    "a" * 300 + "b",
    "~root",
    "",
    "con:",
    "\udcff",
    "%",
    "%~",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_I10_no_name_leads_out_of_the_folder(name):
    safe = safe_name(name)
    assert safe and len(safe) <= 120
    assert safe[0] not in ".-"
    assert not set(safe) & set("/\\\0\n ,:|~%") - {"%", "~"}


def test_I10_different_names_stay_different():
    assert len({safe_name(name) for name in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("user", ["../..@../..", "ann@..", "@", "@example.org", "ann", "a@b@c"])
def test_I10_a_mailbox_is_below_the_root(maildrop, tmp_path, user):
    mailbox = maildrop.mailbox(user)
    assert mailbox.resolve().is_relative_to(tmp_path.resolve())
    assert mailbox != tmp_path


def test_mailboxes_of_one_user_are_one(maildrop):
    assert maildrop.mailbox("Ann@Example.ORG") == maildrop.mailbox("ann@example.org")
    assert maildrop.mailbox("ann@example.org") != maildrop.mailbox("ann@example.net")
