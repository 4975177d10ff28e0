"""A mailbox after a crash at every step of POP3 sessions.

Three sessions run once against a recorded disk, with deliveries between them: the first finds out the sizes of foreign
messages, the second removes some, the third begins with a size that was said wrong. Then, for every beginning of the
log and every kind of crash, what such a crash leaves is opened by the real maker: the login must work, every message
that nobody removed must be there with its unique id, its size and its whole content, and what was removed and promised
must be gone. Besides, each step fails once, or for good.

Tried in one run: about 80 different states, and twice 11 injected errors. The numbers are printed (pytest -s) and have
lower bounds here, so that the suite can't become empty unnoticed.
"""

import errno
from pathlib import Path as File

import pytest

from crash.recording import Crash, Recorder, RecordingFiles, write_down
from gatepost.model import Bytes, Path, Recipient, Ticket, token_at
from gatepost.store.files import RealFiles
from gatepost.store.mailbox import MaildirMailboxes
from gatepost.store.mailbox_cache import CACHE_NAME
from gatepost.store.mailboxes import MailboxError, MailboxSession
from gatepost.store.maildrop import Maildrop

NOW = 1_790_000_000_000
ANN = Recipient(Path.parse("ann@example.org"))
BOX = "example.org/ann"
FOREIGN = {f"17900000{number}0.foreign": b"foreign %d\n" % number * 2000 * number for number in (1, 2, 3)}
WRONG = "1790000050.wrong,S=8,W=99"
Message = tuple[str, int, bytes]  # unique id, size, content


def mail(number: int) -> bytes:
    return b"mail %d\r\n" % number * 5000 * number


async def deliver(root: File, files: RealFiles, *numbers: int) -> None:
    maildrop = Maildrop(root, files)
    for number in numbers:
        ticket = Ticket(token_at(NOW + number, 0, 0), number)
        await maildrop.deliver("ann@example.org", ticket, ANN, Bytes(mail(number)))
    await maildrop.close()


def put(root: File, files: RealFiles, folder: str, name: str, content: bytes) -> None:
    """What another program delivers, durably."""
    path = root / BOX / folder / name
    files.make_dir(path.parent)
    file = files.create(path)
    file.write(content)
    file.sync()
    file.close()
    files.sync_dir(path.parent)


def maker(root: File, files: RealFiles) -> MaildirMailboxes:
    return MaildirMailboxes(lambda _: root / BOX, files)


async def read_all(session: MailboxSession) -> dict[str, Message]:
    """Everything in a session, by name."""
    found = {}
    for entry in session.messages:
        content = await session.open_content(entry)
        pieces = []
        while piece := await content.read():
            pieces.append(piece)
        found[entry.name] = (entry.uid, entry.size, b"".join(pieces))
    return found


async def play(recorder: Recorder) -> None:
    """Sessions and deliveries, each marked: what is there from now on, and what may be gone or is."""
    files = RecordingFiles(recorder)
    mailboxes = maker(recorder.root, files)

    for name, content in FOREIGN.items():
        put(recorder.root, files, "cur", f"{name}:2,S", content)
    await deliver(recorder.root, files, 1, 2)
    session = await mailboxes.open("ann")
    recorder.mark(("there", await read_all(session)))
    await session.close()
    await deliver(recorder.root, files, 3)
    put(recorder.root, files, "new", WRONG, b"a\nb\nc\nd\n")

    session = await mailboxes.open("ann")
    messages = await read_all(session)
    recorder.mark(("there", messages))
    chosen = [entry for entry in session.messages if entry.number % 2]
    recorder.mark(("removing", [entry.name for entry in chosen]))
    assert await session.delete(chosen) == []
    recorder.mark(("gone", [entry.name for entry in chosen]))
    await session.close()

    await deliver(recorder.root, files, 4)
    session = await mailboxes.open("ann")
    recorder.mark(("there", await read_all(session)))
    recorder.mark(("removing", [entry.name for entry in session.messages]))
    assert await session.delete(session.messages) == []
    recorder.mark(("gone", [entry.name for entry in session.messages]))
    await session.close()
    await mailboxes.close()


def expected(marks: list) -> tuple[dict[str, Message], set[str], set[str]]:
    """What must be there, what may be, and what must not."""
    there: dict[str, Message] = {}
    maybe: set[str] = set()
    gone: set[str] = set()
    for kind, what in marks:
        match kind:
            case "there":
                there |= what
            case "removing":
                maybe |= set(what)
            case "gone":
                gone |= set(what)
    return {name: message for name, message in there.items() if name not in gone}, maybe - gone, gone


async def test_every_prefix_of_sessions_loses_nothing_and_keeps_its_ids(tmp_path):
    root = tmp_path / "recorded"
    root.mkdir()
    recorder = Recorder(root)
    await play(recorder)
    ids = {}
    for kind, what in (step[1] for step in recorder.log if step[0] == "mark"):
        if kind == "there":
            ids |= {name: message[0] for name, message in what.items()}
    assert len(ids) == 8
    tried = halves = caches = 0
    for done, crash, left in recorder.crashes():
        folder = tmp_path / str(tried)
        folder.mkdir()
        write_down(left, folder)
        where = f"after {done} of {len(recorder.log)} steps, {crash.value}"
        there, maybe, gone = expected([step[1] for step in recorder.log[:done] if step[0] == "mark"])
        mailboxes = maker(folder, RealFiles())
        session = await mailboxes.open("ann")
        found = await read_all(session)
        await session.close()
        await mailboxes.close()
        assert not gone & found.keys(), where
        assert there.keys() - maybe <= found.keys(), where
        for name, (uid, size, content) in found.items():
            assert uid == ids[name], where
            if name in there:
                assert content == there[name][2], where
                assert size == len(content) or name == WRONG, where
        halves += bool(maybe & found.keys()) and not maybe <= found.keys()
        caches += f"{BOX}/{CACHE_NAME}" in left
        tried += 1
    print(f"\nmailbox: {tried} different states out of {len(recorder.log)} steps and {len(Crash)} kinds of crash")
    assert tried > 60
    assert halves > 3  # crashes in the midst of a removal
    assert caches > 20


class Fault:
    """Fails at one step of the disk, or from then on."""

    def __init__(self, at: int, *, lasting: bool) -> None:
        self.left = at
        self.lasting = lasting
        self.has_struck = False

    def __call__(self, kind: str) -> None:
        self.left -= 1
        if self.left < 0 and (self.lasting or not self.has_struck):
            self.has_struck = True
            raise OSError(errno.EIO, f"injected at a {kind}")


class FaultyFiles(RecordingFiles):
    """Removing and locking fail too."""

    def unlink(self, path):
        self.recorder.fail("unlink")
        super().unlink(path)

    def lock(self, path):
        self.recorder.fail("lock")
        return super().lock(path)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
async def test_R15_disk_errors_at_every_step_lose_nothing_that_wasnt_to_go(tmp_path, lasting):
    """R15: each step of a session fails once, or for good: the login works or says so, and what stays is told."""
    tried = 0
    while True:
        root = tmp_path / str(tried)
        root.mkdir()
        for name, content in FOREIGN.items():
            put(root, RealFiles(), "cur", f"{name}:2,S", content)
        await deliver(root, RealFiles(), 1, 2)
        recorder = Recorder(root)
        fault = recorder.fail = Fault(tried, lasting=lasting)
        mailboxes = maker(root, FaultyFiles(recorder))
        kept = {name: content.replace(b"\n", b"\r\n") for name, content in FOREIGN.items()}
        chosen: list[str] = []
        left: list[str] = []
        try:
            session = await mailboxes.open("ann")
        except MailboxError as error:
            assert "injected" in str(error)
        else:
            assert len(session.messages) == 5
            chosen = [entry.name for entry in session.messages[1:4]]
            left = [entry.name for entry in await session.delete(session.messages[1:4])]
            assert not left or fault.has_struck
            kept = {name: content for name, content in kept.items() if name not in chosen}
            await session.close()
        await mailboxes.close()
        again = maker(root, RealFiles())
        session = await again.open("ann")  # the lock was let go of, whatever happened
        found = {name: content for name, (_, _, content) in (await read_all(session)).items()}
        await session.close()
        await again.close()
        assert kept.items() <= found.items()
        assert mail(1) in found.values() or mail(2) in found.values()
        assert found.keys() & set(chosen) <= set(left), "what wasn't removed is told"
        if not fault.has_struck:
            assert len(found) == 2
            break
        tried += 1
    print(f"\n{'lasting' if lasting else 'once'}: injected at {tried} steps")
    assert tried > 10
