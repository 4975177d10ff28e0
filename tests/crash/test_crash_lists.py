"""A post on its way to a list's members, after a crash at every step of its expansion.

Two posts, one that rests in the database and one in a file, are taken by a list with an archive and expanded, against a
recorded disk. Then, for every beginning of the log and every kind of crash, what such a crash leaves is opened by the
real makers and delivery goes on: every member must have each post that was promised exactly once, and the archive too.

Besides, a real server is killed at steps spread over the way of a post from its reception to the members' Maildirs.

Tried in one run: about 70 different states, and 4 kills.
"""

from __future__ import annotations

import mailbox
import re
import signal
import sys
from collections import Counter
from pathlib import Path as File

import pytest

from crash.load import drain
from crash.recording import Recorder, RecordingFiles, RecordingVFS, write_down
from gatepost.lists.archive import Archive
from gatepost.lists.house import ListHouse
from gatepost.model import Bytes, Envelope, Path, Recipient, Ticket
from gatepost.net.resolver import StaticResolver
from gatepost.store import database
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles
from gatepost.store.spool import Deposit, Fate, RecipientOutcome, Spool
from house.server_process import ServerProcess, gatepost, mail_in
from list_posts import NOW, POST, World

MORTAL = str(File(__file__).with_name("mortal_server.py"))
NEWS = Recipient(Path.parse("news@example.org"))
PEOPLE = [f"m{n}@d{n % 3}.example.net" for n in range(130)]
NESTED = [f"n{n}@example.net" for n in range(70)]
CONTENT = {"1": POST.replace(b"hello", b"post 1"), "2": POST.replace(b"hello", b"post 2") + b"x" * 70 * 1024 + b"\r\n"}


def clock() -> float:
    return NOW


async def go_on(spool: Spool, house: ListHouse) -> Counter[tuple[str, str]]:
    """Expand what waits for it, and note who gets what of the copies; until nothing is left."""
    had: Counter[tuple[str, str]] = Counter()
    while entries := await spool.due(NOW, 10):
        for entry in entries:
            people = entry.envelope.recipients
            deposits: tuple[Deposit, ...] = ()
            if "list" in entry.facts:
                [subject] = re.findall(rb"Subject: post (\d)\r\n", entry.content.read(0, 1000))
                had.update((subject.decode(), one.address) for one in people)
            else:
                handled = await house.take("news", entry, people[0])
                assert handled.refusal is None
                deposits = handled.deposits
            done = [RecipientOutcome(one, Fate.DONE) for one in people]
            await spool.settle(entry.id, done, next_attempt=None, deposits=deposits)
    return had


async def expand_all(spool: Spool, house: ListHouse) -> None:
    """Expand the posts, and deliver nothing."""
    for entry in await spool.due(NOW, 10):
        people = entry.envelope.recipients
        handled = await house.take("news", entry, people[0])
        done = [RecipientOutcome(one, Fate.DONE) for one in people]
        await spool.settle(entry.id, done, next_attempt=None, deposits=handled.deposits)


@pytest.fixture
async def world():
    made = World()
    await made.make("news", *PEOPLE, "dev@example.org", archive=True)
    await made.make("dev", *NESTED, PEOPLE[0], "news@example.org")
    yield made
    await made.store.close()


async def test_whatever_step_it_ends_at_everybody_has_a_post_once(tmp_path, world, monkeypatch):
    monkeypatch.setattr(database, "_WAL_PAGES", 12)
    recorder = Recorder(tmp_path / "recorded")
    recorder.root.mkdir()
    vfs = RecordingVFS(recorder, "recording-lists")
    files = RecordingFiles(recorder)
    house = ListHouse(world.context, lambda: StaticResolver({}), Archive(recorder.root / "lists", files))
    spool = await open_shard(recorder.root / "shard", files, clock, vfs=vfs.name)
    sender = Path.parse("ann@example.net")
    for name, content in CONTENT.items():
        envelope = Envelope(sender, (NEWS,))
        await spool.commit([Deposit(Ticket("06HK3M-9Q7TZA", int(name)), envelope, Bytes(content), NOW)])
    recorder.mark("promised")
    await expand_all(spool, house)
    recorder.mark("expanded")
    await spool.close()
    vfs.close()

    wanted = Counter((name, who) for name in CONTENT for who in (*PEOPLE, *NESTED))
    first = recorder.log.index(("mark", "promised"))
    tried = 0
    for done, crash, left in recorder.crashes(tears=2):
        if done <= first:
            continue
        folder = tmp_path / str(tried)
        write_down(left, folder)
        damages: list[str] = []
        spool = await open_shard(folder / "shard", RealFiles(), clock, on_damage=damages.append)
        house = ListHouse(world.context, lambda: StaticResolver({}), Archive(folder / "lists", RealFiles()))
        where = f"after {done} of {len(recorder.log)} steps, {crash.value}"
        assert await go_on(spool, house) == wanted, where
        assert damages == [], where
        await spool.close()
        assert [*(folder / "shard" / "bodies").iterdir()] == [], where
        box = mailbox.mbox(folder / "lists/news/2026-09.mbox", create=False)
        assert sorted(str(one["Subject"]) for one in box) == ["post 1", "post 2"], where
        box.close()
        tried += 1
    print(f"\nlists: {tried} different states out of {len(recorder.log) - first} steps")
    assert tried > 60


SETTINGS = """
hostname = "mx.example.org"
data = "data"
workers = 1
[delivery]
first = "1s"
max = "1s"
[[listen]]
address = "127.0.0.1:0"
[[route]]
match = "news@example.org"
deliver = "list news"
[[route]]
match = "*@example.org"
deliver = "maildir"
"""
KILLED_AT = (12, 40, 90, 160)  # steps of what it writes, counted from its start
READERS = [f"reader{n}@example.org" for n in range(60)]


def test_a_server_killed_on_the_way_leaves_nobody_out_and_doubles_nobody(tmp_path):
    users = "".join(f'[[user]]\nname = "{one}"\n' for one in READERS)
    (tmp_path / "gatepost.toml").write_text(SETTINGS + users)
    assert gatepost(tmp_path, "list", "create", "news", "news@example.org", "post=open", "archive=true").returncode == 0
    (tmp_path / "people").write_text("\n".join(READERS))
    subscribed = gatepost(tmp_path, "list", "subscribe", "news", "--file", "people")
    assert subscribed.returncode == 0, subscribed.stderr
    promised: set[str] = set()
    for number, at in enumerate(KILLED_AT):
        server = ServerProcess(tmp_path, command=[sys.executable, MORTAL, "run"], env={"DIE_AT": str(at)})
        try:
            server.__enter__()
        except AssertionError:
            assert server.process.returncode == -signal.SIGKILL, server.log
            continue
        client = server.connect()
        try:
            client.begin_message("news@example.org")
            client.send(POST.replace(b"hello", b"post %d" % number) + b".\r\n")
            if client.reply().startswith("250"):
                promised.add(f"post {number}")
        except (AssertionError, OSError):
            pass  # it died meanwhile
        assert server.process.wait(30) == -signal.SIGKILL
        server.__exit__()
    with ServerProcess(tmp_path, "run") as server:
        drain(tmp_path)
        assert server.stop() == 0
    had = Counter(
        (path.parent.parent.name, re.findall(rb"^Subject: (.*)$", path.read_bytes(), re.MULTILINE)[0].decode())
        for path in mail_in(tmp_path / "data")
    )
    assert set(had.values()) == {1}
    for subject in {subject for _, subject in had} | promised:
        assert sum(had[one.partition("@")[0], subject] for one in READERS) == len(READERS), subject
    assert promised
    [box] = (tmp_path / "data/lists/news").glob("*.mbox")
    kept = Counter(re.findall(rb"^Subject: (.*)$", box.read_bytes(), re.MULTILINE))
    assert set(kept.values()) == {1}
    assert {one.decode() for one in kept} == {subject for _, subject in had}
    died_at = Counter(re.findall(r"^died at (\w+) ", server.log, re.MULTILINE))
    assert died_at.total() == len(KILLED_AT)
    print(f"\nlists: {len(promised)} posts promised, {dict(died_at)}")
