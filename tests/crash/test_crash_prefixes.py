"""The store after a crash at every one of its steps.

A scenario runs once against a recorded disk. Then, for every beginning of its log and every kind of crash, what such a
crash leaves is written into a fresh folder and opened by the real maker: what was promised must be whole, what wasn't
must be there whole or not at all, and the spool must work. Besides, each step fails once, or for good until mended.

Tried in one run: about 540 different states of the spool (205 steps, four kinds of crash, torn disks in five ways), 27
of a maildrop, and 4 times 39 injected errors. The numbers are printed (pytest -s) and have lower bounds here, so that
the suite can't become empty unnoticed.
"""

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crash.recording import Crash, Recorder, RecordingFiles, RecordingVFS, write_down
from gatepost.model import Bytes, Envelope, Path, Recipient, Ticket, token_at
from gatepost.store import database
from gatepost.store.embedded import open_shard
from gatepost.store.errors import SpoolError, SpoolFull
from gatepost.store.files import RealFiles
from gatepost.store.maildrop import Maildrop
from gatepost.store.spool import Deposit, Entry, Fate, RecipientOutcome, Spool

NOW = 1_790_000_000.0
ANN, BOB = (Recipient(Path.parse(f"{name}@example.org")) for name in ("ann", "bob"))
SMALL, LARGE = b"small content\r\n", b"large content\r\n" * 7000
GONE = None


def clock() -> float:
    return NOW


def ticket(number: int) -> Ticket:
    return Ticket("06HK3M-9Q7TZA", number)


def deposit(number: int, content: bytes = SMALL, part: int = 0) -> Deposit:
    return Deposit(ticket(number), Envelope(recipients=(ANN, BOB)), Bytes(content), NOW, part=part)


class Scenario:
    """Acts on a recorded spool, each marked when it begins and when its promise is made."""

    def __init__(self, recorder: Recorder, spool: Spool) -> None:
        self.recorder = recorder
        self.spool = spool

    async def commit(self, *deposits: Deposit) -> None:
        states: dict[str, object] = {d.id: (d.content.read(), 2, None) for d in deposits}
        memos = {f"memo {d.id}": b"seen" for d in deposits}
        with self.promising(states | memos):
            await self.spool.commit(deposits, memos=memos)

    async def commit_draft(self, number: int, content: bytes) -> None:
        draft = self.spool.draft(ticket(number))
        for at in range(0, len(content), 30_000):
            draft.write(content[at : at + 30_000])
            await draft.ready()
        with self.promising({str(ticket(number)): (content, 2, None)}):
            await self.spool.commit([Deposit(ticket(number), Envelope(recipients=(ANN, BOB)), draft, NOW)])
        draft.discard()

    async def deliver(self, number: int) -> None:
        with self.promising({str(ticket(number)): GONE}):
            await self.spool.settle(
                str(ticket(number)), [RecipientOutcome(r, Fate.DONE) for r in (ANN, BOB)], next_attempt=None
            )

    async def defer(self, number: int, content: bytes, notice: int) -> None:
        states = {str(ticket(number)): (content, 1, None), str(ticket(notice)): (b"notice", 2, None)}
        with self.promising(states):
            await self.spool.settle(
                str(ticket(number)),
                [RecipientOutcome(ANN, Fate.FAILED), RecipientOutcome(BOB, Fate.LATER)],
                next_attempt=NOW + 60,
                deposits=[deposit(notice, b"notice")],
            )

    async def hold(self, number: int, content: bytes) -> None:
        with self.promising({str(ticket(number)): (content, 2, "look")}):
            await self.spool.hold(str(ticket(number)), "look")

    @contextmanager
    def promising(self, states: dict[str, object]) -> Iterator[None]:
        self.recorder.mark(("begins", states))
        yield
        self.recorder.mark(("promised", states))


async def play(recorder: Recorder, vfs: str) -> None:
    """Small and large, alone and together, delivered, deferred with a notice, held; over two openings."""
    spool = await open_shard(recorder.root, RecordingFiles(recorder), clock, vfs=vfs)
    scenario = Scenario(recorder, spool)
    await scenario.commit(deposit(1))
    await asyncio.gather(
        scenario.commit(deposit(2)),
        scenario.commit(deposit(3), deposit(3, LARGE, part=1)),
        scenario.commit_draft(4, LARGE),
        scenario.commit_draft(5, LARGE[:50_000]),
    )
    await spool.due(NOW, 99)
    await asyncio.gather(scenario.deliver(1), scenario.defer(2, SMALL, notice=6), scenario.deliver(4))
    await scenario.hold(5, LARGE[:50_000])
    await spool.close()
    spool = await open_shard(recorder.root, RecordingFiles(recorder), clock, vfs=vfs)
    scenario = Scenario(recorder, spool)
    await scenario.commit(deposit(7))
    await spool.due(NOW, 99)
    await scenario.deliver(3)
    for number in range(8, 14):  # past the checkpoint, so that the WAL begins again
        await scenario.commit_draft(number, LARGE[: 20_000 + number])
    await scenario.deliver(7)
    await spool.close()


def allowed(marks: list[tuple[str, dict[str, object]]]) -> tuple[dict[str, list[object]], list[dict[str, object]]]:
    """Each entry's states that a crash may leave, and the acts under way, of which all or nothing is there."""
    promised: dict[str, object] = {}
    under_way: list[dict[str, object]] = []
    for kind, states in marks:
        if kind == "begins":
            under_way.append(states)
        else:
            under_way = [other for other in under_way if other is not states]
            promised |= states
    ids = promised.keys() | {id for states in under_way for id in states}
    may_be = {id: [promised.get(id, GONE), *(states[id] for states in under_way if id in states)] for id in ids}
    return may_be, under_way


async def look(folder) -> dict[str, object]:
    """What the real maker finds in a folder; the spool must then work, with nothing lying about."""
    damages: list[str] = []
    spool = await open_shard(folder, RealFiles(), clock, on_damage=damages.append)
    found = {e.id: (e.content.read(), len(e.envelope.recipients), e.held) for e in await spool.entries(limit=999)}
    memos = await spool.memos("memo ")
    assert damages == []
    assert os.listdir(folder / "incoming") == []
    assert set(os.listdir(folder / "bodies")) == {id for id, (content, _, _) in found.items() if len(content) > 65536}
    await spool.commit([deposit(99)])
    assert (await spool.show(str(ticket(99)))).content.read() == SMALL
    await spool.close()
    return found | memos


@pytest.fixture
def recorder(tmp_path, monkeypatch) -> Iterator[Recorder]:
    monkeypatch.setattr(database, "_WAL_PAGES", 12)
    root = tmp_path / "recorded"
    root.mkdir()
    yield Recorder(root)


async def test_every_prefix_of_the_spool_keeps_what_was_promised(recorder, tmp_path):
    vfs = RecordingVFS(recorder, "recording-prefixes")
    await play(recorder, vfs.name)
    vfs.close()
    tried = 0
    for done, crash, left in recorder.crashes():
        folder = tmp_path / str(tried)
        folder.mkdir()
        write_down(left, folder)
        marks = [step[1] for step in recorder.log[:done] if step[0] == "mark"]
        may_be, under_way = allowed(marks)
        found = await look(folder)
        where = f"after {done} of {len(recorder.log)} steps, {crash.value}"
        for id in may_be.keys() | found.keys():
            assert found.get(id, GONE) in may_be.get(id, [GONE]), f"{id} {where}"
        for states in under_way:
            parts = {found.get(id, GONE) == state for id, state in states.items()}
            assert len(parts) == 1, f"half of {list(states)} {where}"
        tried += 1
    print(f"\nspool: {tried} different states out of {len(recorder.log)} steps and {len(Crash)} kinds of crash")
    assert tried > 400


class Fault:
    """Fails at one step of the disk, and from then on until it is mended."""

    def __init__(self, at: int, number: int, *, lasting: bool) -> None:
        self.left = at
        self.number = number
        self.lasting = lasting
        self.has_struck = False
        self.is_mended = False

    def __call__(self, kind: str) -> None:
        self.left -= 1
        if self.left < 0 and not self.is_mended and (self.lasting or not self.has_struck):
            self.has_struck = True
            raise OSError(self.number, f"injected at a {kind}")


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
async def test_R15_disk_errors_at_every_step_are_heard_and_leave_nothing_half_written(tmp_path, number, lasting):
    """R15: each write, sync, rename and link of a run fails once, or for good until the disk is mended."""
    tried = 0
    while True:
        root = tmp_path / str(tried)
        root.mkdir()
        recorder = Recorder(root)
        vfs = RecordingVFS(recorder, f"faulty-{number}-{lasting}-{tried}")
        fault = recorder.fail = Fault(tried, number, lasting=lasting)
        kept, unsure = await under_fault(recorder, vfs.name, fault)
        vfs.close()
        found = await look(root)
        for id in kept.keys() | found.keys():
            assert found.get(id, GONE) in (kept.get(id, GONE), unsure.get(id, kept.get(id, GONE))), (id, tried)
        if not fault.has_struck:
            break
        tried += 1
    print(f"\n{errno.errorcode[number]}, {'lasting' if lasting else 'once'}: injected at {tried} steps")
    assert tried > 30


async def under_fault(recorder: Recorder, vfs: str, fault: Fault) -> tuple[dict[str, object], dict[str, object]]:
    """Acts while the disk fails, then some more when it is mended: what must be there, and what else may be."""
    kept: dict[str, object] = {}
    unsure: dict[str, object] = {}
    try:
        spool = await open_shard(recorder.root, RecordingFiles(recorder), clock, vfs=vfs)
    except SpoolError:
        fault.is_mended = True
        spool = await open_shard(recorder.root, RecordingFiles(recorder), clock, vfs=vfs)

    async def commit(number: int, content: bytes) -> None:
        draft = spool.draft(ticket(number))
        try:
            for at in range(0, len(content), 30_000):
                draft.write(content[at : at + 30_000])
                await draft.ready()
            memo = {f"memo {ticket(number)}": b"seen"}
            await spool.commit([Deposit(ticket(number), Envelope(recipients=(ANN, BOB)), draft, NOW)], memos=memo)
            kept[str(ticket(number))] = (content, 2, None)
            kept.update(memo)
        except SpoolError as error:
            assert isinstance(error, SpoolFull) or fault.number != errno.ENOSPC or "opened again" in str(error)
        finally:
            draft.discard()

    await asyncio.gather(*(commit(number, content) for number, content in enumerate([SMALL, LARGE, SMALL * 900], 1)))
    for entry in await entries_due(spool, fault):
        outcomes = [RecipientOutcome(r, Fate.DONE) for r in entry.envelope.recipients]
        try:
            await spool.settle(entry.id, outcomes, next_attempt=None)
            del kept[entry.id]
        except SpoolError:
            unsure[entry.id] = GONE
        break
    await commit(4, SMALL)
    fault.is_mended = True
    await commit(5, LARGE)
    await commit(6, SMALL)
    assert {str(ticket(5)), str(ticket(6))} <= kept.keys(), "a mended disk must be usable again"
    here = {e.id for e in await spool.entries()} | (await spool.memos("")).keys()
    assert here - unsure.keys() == kept.keys() - unsure.keys()
    await spool.close()
    return kept, unsure


async def entries_due(spool: Spool, fault: Fault) -> list[Entry]:
    try:
        return await spool.due(NOW, 99)
    except SpoolError:
        assert fault.has_struck
        return []


async def drop(recorder: Recorder) -> None:
    """Three deliveries into one mailbox, the last two together, each marked when it is promised."""
    maildrop = Maildrop(recorder.root, RecordingFiles(recorder))

    async def deliver(number: int) -> None:
        await maildrop.deliver("ann@example.org", mail_ticket(number), ANN, Bytes(mail(number)))
        recorder.mark(number)

    await deliver(1)
    await asyncio.gather(deliver(2), deliver(3))
    await maildrop.close()


def mail_ticket(number: int) -> Ticket:
    return Ticket(token_at(int(NOW * 1000), 0, 0), number)


def mail(number: int) -> bytes:
    return b"mail %d\n" % number * 5000 * number


async def test_every_prefix_of_a_delivery_leads_to_exactly_one_whole_message(recorder, tmp_path):
    await drop(recorder)
    tried = 0
    for done, crash, left in recorder.crashes():
        folder = tmp_path / str(tried)
        folder.mkdir()
        write_down(left, folder)
        new = folder / "example.org" / "ann" / "new"
        promised = [step[1] for step in recorder.log[:done] if step[0] == "mark"]
        there = sorted(path.read_bytes() for path in new.glob("*"))
        where = f"after {done} of {len(recorder.log)} steps, {crash.value}"
        assert all(mail(number) in there for number in promised), where
        assert all(content in map(mail, (1, 2, 3)) for content in there), f"half a message {where}"
        maildrop = Maildrop(folder, RealFiles())  # whoever isn't sure delivers again, and a reader may have been there
        for path in new.glob("*"):
            cur = new.parent / "cur"
            cur.mkdir(exist_ok=True)
            if path.read_bytes() == mail(2):
                path.rename(cur / f"{path.name}:2,S")
        for number in (1, 2, 3):
            await maildrop.deliver("ann@example.org", mail_ticket(number), ANN, Bytes(mail(number)))
        await maildrop.close()
        everything = sorted(path.read_bytes() for path in new.parent.glob("[nc][eu][wr]/*"))
        assert everything == sorted(map(mail, (1, 2, 3))), where
        tried += 1
    print(f"\nmaildrop: {tried} different states out of {len(recorder.log)} steps and {len(Crash)} kinds of crash")
    assert tried > 20
