"""What comes back from a host: malformed answers are failures and nothing else. What a child may, and leaves behind."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from gatepost.hooks import stages
from gatepost.hooks.records import RecordError
from gatepost.hooks.session import ServerView, Session
from gatepost.hooks.transaction import Transaction
from gatepost.hooks.verdicts import Refuse
from gatepost.model import Bytes, Peer, Recipient, Reply, Ticket, Tls
from gatepost.model import Path as MailPath
from gatepost.plugins.host import Limits
from gatepost.plugins.host.confinement import MIB
from gatepost.plugins.host.facts import apply, fixed_session_facts, session_facts, stage_facts
from gatepost.plugins.host.scratch import Scratch, sweep
from gatepost.plugins.python import load_isolated
from gatepost.plugins.python.rebuilding import Kept, read_event, read_session
from gatepost.serving.patience import LoopPatience, SystemClock
from gatepost.testing.rig import Rig
from gatepost.wire.host import Answer, Ask

ANN = Recipient(MailPath.parse("Ann@Example.org"), {"NOTIFY": "NEVER"})
SERVER = ServerView("mx.test", SystemClock())


def session():
    return Session(
        "TOKEN", "mx", "smtp", Peer(ip_address("2001:db8::1"), 5), ("192.0.2.2", 25), datetime.now(UTC), LoopPatience(),
        tls=Tls("TLSv1.3", "X", "mx.test"), helo="c.example", user="ann",
    )  # fmt: skip


def event(stage, /, transaction=None, **fields):
    turn = stages.Turn({}, time.monotonic() + 30, time.monotonic)
    return stage(session(), SERVER, Reply(250, "2.1.5", "ok\nok"), turn, transaction, **fields)


EVENTS = [
    (stages.Connect, {}),
    (stages.Hello, {"helo": "ü.example", "capabilities": ["SIZE 5"]}),
    (stages.Auth, {"mechanism": "PLAIN", "user": "ann", "password": "secret"}),
    (stages.Auth, {"mechanism": "SCRAM-SHA-256", "user": "ann", "password": None}),
    (stages.Sender, {"parameters": {"SIZE": "5", "SMTPUTF8": ""}}),
    (stages.Recipient, {"recipient": ANN}),
    (stages.Data, {}),
    (stages.Headers, {"subjects": (ANN,)}),
    (stages.Message, {"subjects": (ANN, Recipient(MailPath.parse('"a b"@[192.0.2.1]')))}),
    (stages.Command, {"line": "XYZ ü", "blob": None}),
    (stages.Command, {"line": "", "blob": b"\xff\x00"}),
    (stages.Replying, {}),
]


@pytest.mark.parametrize(("stage", "fields"), EVENTS)
async def test_an_event_crosses_whole(stage, fields):
    transaction = Transaction(Ticket("0T2ZRR-Y50001", 1), MailPath.parse("Dave@bobo.example"), {"SIZE": "5"}, [ANN])
    ours = event(stage, transaction, **fields)
    facts = stage_facts(ours) | {"session": session_facts(ours.session, fixed_session_facts(ours.session))}
    facts["transaction"] = {
        "sender": "Dave@bobo.example",
        "parameters": {"SIZE": "5"},
        "recipients": [["Ann@Example.org", {"NOTIFY": "NEVER"}]],
        "kept": {},
    }
    facts = msgspec.msgpack.decode(msgspec.msgpack.encode(facts))
    kept = Kept(read_session("TOKEN", facts["session"], LoopPatience(), None))
    theirs = read_event(Ask(1, "TOKEN", 1, stage.name, facts, 30.0), kept, SERVER, ours.turn, Path())
    assert type(theirs) is stage
    for name in fields:
        assert getattr(theirs, name) == getattr(ours, name)
    assert theirs.reply == ours.reply
    for name in ("id", "listener", "protocol", "peer", "local", "started", "tls", "helo", "user"):
        assert getattr(theirs.session, name) == getattr(ours.session, name)
    assert theirs.transaction.sender == transaction.sender
    assert theirs.transaction.recipients == [ANN]
    assert theirs.transaction.recipients[0].parameters == {"NOTIFY": "NEVER"}


async def no_files(name):
    raise RecordError(f"no file {name}")


MALFORMED = [
    {"edits": [{}]},
    {"edits": [{"edit": "burn"}]},
    {"edits": [{"edit": "say", "text": 5}]},
    {"edits": [{"edit": "add-header", "name": "X", "value": 1, "at": None}]},
    {"edits": [{"edit": "replace-body", "file": "../../etc/passwd"}]},
    {"edits": [{"edit": "replace-part", "index": "1", "file": "1.1"}]},
    {"edits": [{"edit": "add-recipient", "recipient": ["no address", {}]}]},
    {"edits": [{"edit": "split", "recipients": [], "edits": [{"edit": "split", "recipients": [], "edits": []}]}]},
    {"edits": [{"edit": "split", "recipients": [], "edits": [{"edit": "change-sender", "sender": ""}]}]},
    {"edits": [{"edit": "capabilities", "lines": ["X"]}]},
    {"verdict": {}},
    {"verdict": {"say": "obey"}},
    {"verdict": {"say": "refuse", "reply": [200000, "", ""]}},
    {"verdict": {"say": "refuse", "reply": [550, "2.0.0", "x"]}},
    {"verdict": {"say": "accept", "scope": "everywhere"}},
    {"verdict": {"say": "each", "of": [["ann@example.org"]]}},
    {"verdict": {"say": "each", "of": [[["ann@example.org", {}], {"say": "each", "of": []}]]}},
]


@pytest.mark.parametrize("answer", MALFORMED)
async def test_P7_a_malformed_answer_is_a_failure(answer):
    asked = event(stages.Recipient, recipient=ANN)
    with pytest.raises(RecordError):
        await apply(asked, Answer(1, **({"verdict": {"say": "proceed"}, "edits": [], "notes": {}} | answer)), no_files)


async def test_notes_are_bounded():
    asked = event(stages.Recipient, recipient=ANN)
    notes = {f"{number} " + "k" * 1000: "v" for number in range(5000)}
    assert await apply(asked, Answer(1, {"say": "refuse", "text": "x"}, [], notes), no_files) == Refuse("x")
    assert len(asked.turn.notes) == 50
    assert max(map(len, asked.turn.notes)) == 100


async def test_an_answer_after_the_time_changes_nothing():
    asked = event(stages.Recipient, recipient=ANN)
    asked.turn.is_open = False
    with pytest.raises(stages.EventClosed):
        await apply(asked, Answer(1, {"say": "proceed"}, [{"edit": "say", "text": "x"}], {}), no_files)
    assert asked.turn.said is None


async def test_small_content_rests_in_memory_while_there_is_room(tmp_path):
    quick, slow = tmp_path / "quick", tmp_path / "slow"
    quick.mkdir()
    slow.mkdir()
    scratch = Scratch(slow, quick)
    first = Path(scratch.write_small(1, Bytes(b"one")))
    assert first.read_bytes() == b"one"
    assert quick in first.parents
    (first.parent / "2").mkdir()  # it can't be written there
    second = Path(scratch.write_small(2, Bytes(b"two")))
    assert second.read_bytes() == b"two"
    assert slow in second.parents
    scratch.forget(str(first))
    assert not first.exists()
    await scratch.remove()
    assert list(quick.iterdir()) == list(slow.iterdir()) == []


async def test_what_a_killed_house_left_is_swept(tmp_path):
    killed, living, young = Scratch(tmp_path), Scratch(tmp_path), Scratch(tmp_path)
    strange = tmp_path / "gatepost-scratch-link"
    strange.symlink_to(living.folder)
    (killed.folder / "1").write_text("content")
    for scratch in (killed, young):
        scratch._unlock()  # as the end of its process does
    for scratch in (killed, living):
        os.utime(scratch.folder, (0, 0))
    sweep(tmp_path)
    assert not killed.folder.exists()
    assert living.folder.exists()
    assert young.folder.exists()
    assert strange.is_symlink()
    for scratch in (living, young):
        await scratch.remove()


async def test_files_handed_back_are_plain_and_the_questions_own(tmp_path):
    scratch = Scratch(tmp_path)
    (scratch.folder / "7.good").write_bytes(b"body")
    (scratch.folder / "8.other").write_bytes(b"body")
    (scratch.folder / "7.folder").mkdir()
    (scratch.folder / "7.link").symlink_to("/etc/passwd")
    os.link(scratch.folder / "8.other", scratch.folder / "7.shared")
    os.mkfifo(scratch.folder / "7.pipe")
    taken = tmp_path / "taken"
    for name in (
        "8.other",
        "7.folder",
        "7.link",
        "7.shared",
        "7.pipe",
        "7.none",
        "7./../x",
        "../7.x",
        "7.\0",
        7,
        None,
        "",
    ):
        with pytest.raises(RecordError):
            await scratch.take(7, name, taken)
    assert not taken.exists()
    blob = await scratch.take(7, "7.good", taken)
    assert blob.read() == b"body"
    scratch.forget(
        None, [{"file": "8.other"}, {"edits": [{"file": "7.shared"}, 5]}, {"file": "../taken"}, {"file": "a\0"}]
    )
    assert sorted(path.name for path in scratch.folder.iterdir()) == ["7.folder", "7.link", "7.pipe"]
    await scratch.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


async def test_what_a_child_may(tmp_path):
    file = tmp_path / "looks.py"
    file.write_text(
        textwrap.dedent(
            """
            import os, resource, sys
            from gatepost import on
            @on("connect")
            async def hook(event):
                status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
                event.note(
                    privileges=status["NoNewPrivs"].strip(), oom=open("/proc/self/oom_score_adj").read().strip(),
                    memory=resource.getrlimit(resource.RLIMIT_AS)[1], core=resource.getrlimit(resource.RLIMIT_CORE)[1],
                    stdin=sys.stdin.read(), leader=os.getsid(0) == os.getpid(),
                    secret=os.environ.get("GATEPOST__X"), other=os.environ.get("OTHER_X"),
                )
                try:
                    await event.server.facts.get("space", "key")
                except RuntimeError as error:
                    event.note(facts=str(error))
            """
        )
    )
    os.environ |= {"GATEPOST__X": "secret", "OTHER_X": "known"}
    try:
        plugin = await load_isolated(file, limits=Limits(address_space=600 * MIB))
    finally:
        del os.environ["GATEPOST__X"], os.environ["OTHER_X"]
    async with Rig([plugin]) as rig:
        assert (await rig.connect().reply()).startswith("220")
        [facts] = rig.records.kinds("asked")
    notes = facts["notes"]
    assert notes["privileges"] == "1"
    assert notes["oom"] == "500"
    assert notes["memory"] == str(600 * MIB)
    assert notes["core"] == "0"
    assert notes["stdin"] == ""
    assert notes["leader"] == "True"
    assert notes["secret"] == "None"
    assert notes["other"] == "known"
    assert "isolated" in notes["facts"]


async def test_a_child_does_not_outlive_the_house(tmp_path):
    """The house is killed while the child stands still and can't notice anything; it goes with the house."""
    plugin = tmp_path / "hangs.py"
    plugin.write_text("from gatepost import on\n@on('connect')\nasync def hook(event): ...\n")
    house = tmp_path / "house.py"
    house.write_text(
        textwrap.dedent(
            f"""
            import asyncio, sys
            from gatepost.plugins.python import load_isolated
            async def main():
                plugin = await load_isolated({str(plugin)!r}, scratch=__import__("pathlib").Path({str(tmp_path)!r}))
                print(plugin.crew.hosts[0].pid, flush=True)
                await asyncio.sleep(600)
            asyncio.run(main())
            """
        )
    )
    running = await asyncio.create_subprocess_exec(sys.executable, str(house), stdout=asyncio.subprocess.PIPE)
    child = int(await running.stdout.readline())
    descriptor = os.pidfd_open(child)
    os.kill(child, signal.SIGSTOP)
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, gone.set)
    running.kill()
    await running.wait()
    running._transport.close()
    async with asyncio.timeout(5):
        await gone.wait()
    loop.remove_reader(descriptor)
    os.close(descriptor)


def children():
    """The processes that we have begun and not buried."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


async def test_nothing_is_left_after_many_lives(tmp_path):
    file = tmp_path / "dies.py"
    file.write_text("import os\nfrom gatepost import on\n@on('message')\nasync def hook(event): os._exit(1)\n")
    before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    others = children()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for _ in range(3):
        plugin = await load_isolated(file, scratch=scratch)
        async with Rig([plugin]) as rig:
            client = rig.connect()
            heard = [await client.reply()]
            for line in ("EHLO c", "MAIL FROM:<>", "RCPT TO:<a@b.example>", "DATA"):
                heard.append(await client.command(line))
            assert [reply[:3] for reply in heard] == ["220", "250", "250", "250", "354"]
            assert (await client.content(b"Subject: x\r\n\r\n")).startswith("451")
        assert list(scratch.iterdir()) == []
    threads_of_executor = 4
    assert len(os.listdir("/proc/self/fd")) <= before[0] + 1
    assert len(os.listdir("/proc/self/task")) <= before[1] + threads_of_executor
    assert children() <= others


def test_on_uvloop_too(tmp_path):
    uvloop = pytest.importorskip("uvloop")
    file = tmp_path / "mine.py"
    file.write_text(
        "import os\nfrom gatepost import on, refuse\n@on('connect')\nasync def hook(event):\n"
        "    print('said')\n    return refuse('no')\n"
    )

    async def main():
        plugin = await load_isolated(file, scratch=tmp_path)
        async with Rig([plugin]) as rig:
            return await rig.connect().reply()

    assert uvloop.run(main()).startswith("554")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] in ([], ["__pycache__"])
