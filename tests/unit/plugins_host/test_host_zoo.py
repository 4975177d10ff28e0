"""Plugins that do the worst, in processes of their own, while twenty sessions are served.

Each animal misbehaves for some recipients and answers the others. Whatever it does: the plugin beside it answers as
ever, the animal's own innocent questions are answered too, and only the guilty ones fail.
"""

import asyncio
import logging
import os
import textwrap
from dataclasses import replace

import pytest

from gatepost.plugins.host import Backoff, Limits, supervision
from gatepost.plugins.host.confinement import MIB
from gatepost.plugins.python import load_isolated
from gatepost.testing.rig import Rig

ANIMALS = {
    "raises": "raise RuntimeError('boom')",
    "sys.exit": "import sys; sys.exit(1)",
    "os._exit": "os._exit(3)",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "kills itself": "os.killpg(0, 9)",
    "closes everything": "os.closerange(0, 256)",
    "writes into everything": "[os.write(fd, b'\\xff' * 64) for fd in range(3, 256) if writable(fd)]",
    "endless loop": "while True: pass",
    "endless loop that catches all": "endless()",
    "blocks": "time.sleep(3600)",
    "ignores its cancellation": "await deaf()",
    "eats memory": "hoard = [b'x' * (1 << 20) for _ in range(1 << 14)]",
    "answers nonsense": "return 42",
    "answers too much": "event.note(**{str(n): 'x' * 200 for n in range(10_000)})",
    "forks": "forked(); raise OSError('forked')",
    "forks and comes back twice": "return await asyncio.sleep(0) if os.fork() == 0 else 42",
    "recursion": "(f := lambda: f())()",
}
IT_ALL = """
    import asyncio, os, sys, time
    from gatepost import on, refuse

    def endless():
        while True:
            try:
                while True: pass
            except BaseException: pass

    async def deaf():
        while True:
            try: await asyncio.sleep(3600)
            except asyncio.CancelledError: pass

    def forked():
        pid = os.fork()
        if pid == 0:
            while True: time.sleep(3600)

    def writable(fd):
        try: return os.fstat(fd) and True
        except OSError: return False

    @on("recipient", timeout="3s")
    async def animal(event):
        if event.recipient.local == "bad":
            BEHAVE
        if event.recipient.local == "no":
            return refuse("not by the animal")
        event.note(animal=str(event.recipient))
"""
ALONE = (
    "endless loop",
    "endless loop that catches all",
    "blocks",
    "eats memory",
)  # each takes time from the others of its process
DIES = ("os._exit", "segfault", "kills itself", "closes everything", "writes into everything")
"""Whose processes end at once, eight times in a row: on a busy machine their beginning anew takes seconds."""
INNOCENT = """
    from gatepost import on, per_session, refuse
    seen = per_session(list)

    @on("recipient", priority=1)
    async def innocent(event):
        seen(event).append(event.recipient.local)
        event.note(seen=" ".join(seen(event)), pid=__import__("os").getpid())
        if event.recipient.local == "never":
            return refuse("not by the innocent")
"""


@pytest.fixture
def plugin(tmp_path):
    """Loads a source in processes of its own, in a hurry."""

    async def loaded(name, source, **more):
        file = tmp_path / f"{name}.py"
        file.write_text(textwrap.dedent(source))
        more = {"backoff": Backoff(0.01, 1.0), "grace_s": 0.2, "scratch": tmp_path} | more
        return await load_isolated(file, **more)

    return loaded


def ended(pid):
    """Done when the process has ended."""
    loop, descriptor, done = asyncio.get_running_loop(), os.pidfd_open(pid), asyncio.Event()

    def has():
        loop.remove_reader(descriptor)
        os.close(descriptor)
        done.set()

    loop.add_reader(descriptor, has)
    return done


async def talk(rig, bad):
    client = rig.connect()
    heard = [await client.reply(), await client.command("EHLO c.example"), await client.command("MAIL FROM:<>")]
    for local in ("fine", "bad" if bad else "fine2", "no", "never"):
        heard.append((await client.command(f"RCPT TO:<{local}@example.org>"))[:3])
    assert (await client.command("QUIT"))[:3] == "221"
    client.line.end_of_file()
    return heard[3:]


@pytest.mark.parametrize("name", ANIMALS)
async def test_only_the_guilty_fail(plugin, name, caplog):
    caplog.set_level(logging.CRITICAL)
    source = IT_ALL.replace("BEHAVE", ANIMALS[name])
    if name in DIES:
        source = source.replace('timeout="3s"', 'timeout="20s"')
    animal = await plugin("animal", source, limits=Limits(address_space=512 * MIB))
    innocent = await plugin("innocent", INNOCENT)
    guilty = 1 if name in ALONE else 4
    async with Rig([animal, innocent]) as rig:
        async with asyncio.timeout(50):
            stories = await asyncio.gather(*(talk(rig, bad=number < guilty) for number in range(20)))
        for number, heard in enumerate(stories):
            assert heard == ["250", "451" if number < guilty else "250", "550", "550"], f"session {number}"
        await rig.settled()
        notes = [facts["notes"] for facts in rig.records.kinds("asked") if facts["plugin"] == "innocent"]
        assert len(notes) == 80
        assert {note["seen"] for note in notes} == {
            "fine", "fine bad", "fine bad no", "fine bad no never", "fine fine2", "fine fine2 no", "fine fine2 no never"
        }  # fmt: skip
        assert {note["pid"] for note in notes} == {str(innocent.crew.hosts[0].pid)}
        failed = [error for plugin, _, error in rig.records.errors]
        assert len(failed) == guilty


async def revived(host, first):
    """Another process answers now. How long that takes is the machine's, not the question's."""
    while host.pid in (None, first):
        await asyncio.sleep(0.02)


async def test_a_plain_function_that_hangs_costs_its_process_and_nobody_elses_answer(plugin, caplog):
    source = IT_ALL.replace("async def animal", "def animal").replace("BEHAVE", "time.sleep(3600)")
    animal = await plugin("animal", source.replace('timeout="3s"', 'timeout="2s"'))
    async with Rig([animal]) as rig:
        first = animal.crew.hosts[0].pid
        killed = ended(first)
        stories = await asyncio.gather(*(talk(rig, bad=number < 2) for number in range(8)))
        assert [heard[1] for heard in stories] == ["451"] * 2 + ["250"] * 6
        assert [heard[2:] for heard in stories] == [["550", "250"]] * 8
        await killed.wait()
        await revived(animal.crew.hosts[0], first)
        assert await talk(rig, bad=False) == ["250", "250", "550", "250"]
    assert "didn't answer a question at recipient in time" in caplog.text


async def test_a_process_that_stands_still_is_killed_when_its_question_is_overdue(plugin, caplog):
    """Who is asked in the same process meanwhile waits with it; who is asked afterwards is answered."""
    animal = await plugin("animal", IT_ALL.replace("BEHAVE", "os.kill(os.getpid(), 19)").replace('"3s"', '"2s"'))
    innocent = await plugin("innocent", INNOCENT)
    async with Rig([innocent, animal]) as rig:
        first = animal.crew.hosts[0].pid
        killed = ended(first)
        assert (await talk(rig, bad=True))[:2] == ["250", "451"]
        await killed.wait()
        await revived(animal.crew.hosts[0], first)
        stories = await asyncio.gather(*(talk(rig, bad=False) for _ in range(5)))
        assert stories == [["250", "250", "550", "550"]] * 5


async def test_P5_a_flood_of_lines_is_bounded_and_harms_nobody(plugin, caplog):
    caplog.set_level(logging.INFO)
    noisy = await plugin(
        "noisy",
        """
        import logging, sys
        from gatepost import on
        print("x" * 5000, "at load")
        print("bad\\x1b[31m \\x00 bytes \\u2028", file=sys.stderr)
        @on("recipient")
        async def hook(event):
            for _ in range(1000):
                print("out " + "o" * 500)
                print("err " + "e" * 500, file=sys.stderr)
                logging.getLogger("mine").warning("log")
            sys.stdout.write("y" * 1_000_000)
        """,
    )
    innocent = await plugin("innocent", INNOCENT)
    async with Rig([noisy, innocent]) as rig:
        stories = await asyncio.gather(*(talk(rig, bad=False) for _ in range(4)))
        assert stories == [["250", "250", "250", "550"]] * 4
    lines = [record.getMessage() for record in caplog.records if record.name == "gatepost.plugins.noisy"]
    assert len(lines) < 400
    assert max(len(line) for line in lines) <= 1000
    assert all(line.isprintable() for line in lines)
    assert any("lines of it were left out" in line for line in lines)
    assert r"bad\x1b[31m \x00 bytes \u2028" in lines


async def test_a_process_that_has_died_leaves_nothing_and_the_next_one_knows_nothing(plugin, tmp_path):
    crash = 'if event.recipient.local == "bad": __import__("os")._exit(1)\n        seen(event)'
    crasher = await plugin("crasher", INNOCENT.replace("seen(event)", crash, 1))
    async with Rig([crasher]) as rig:
        assert await talk(rig, bad=True) == ["250", "451", "250", "550"]
        notes = [facts["notes"]["seen"] for facts in rig.records.kinds("asked") if "notes" in facts]
        assert notes == ["fine", "no", "no never"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


async def test_a_busy_plugin_says_so_at_once(plugin, monkeypatch):
    monkeypatch.setattr(supervision, "WAITING", 3)
    slow = await plugin("slow", IT_ALL.replace("BEHAVE", "await asyncio.sleep(0.5)"))
    async with Rig([slow]) as rig:
        clients = [rig.connect() for _ in range(5)]
        for client in clients:
            heard = [await client.reply(), await client.command("EHLO c.example"), await client.command("MAIL FROM:<>")]
            assert [reply[:3] for reply in heard] == ["220", "250", "250"]
        heard = await asyncio.gather(*(client.command("RCPT TO:<bad@example.org>") for client in clients))
        assert sorted(reply[:3] for reply in heard) == ["250", "250", "250", "451", "451"]
        assert {type(error).__name__ for _, _, error in rig.records.errors} == {"HostBusy"}


async def test_sessions_keep_to_one_of_several_processes(plugin):
    several = await plugin("several", INNOCENT, processes=3)
    async with Rig([several]) as rig:
        await asyncio.gather(*(talk(rig, bad=False) for _ in range(12)))
        notes = [facts["notes"] for facts in rig.records.kinds("asked")]
        assert len({note["pid"] for note in notes}) == 3
        assert {note["seen"] for note in notes} == {"fine", "fine fine2", "fine fine2 no", "fine fine2 no never"}
        await rig.settled()
        assert [host.sessions for host in several.crew.hosts] == [0, 0, 0]


async def test_what_was_kept_is_closed_once_when_its_time_is_over(plugin, tmp_path):
    told = tmp_path / "told"
    keeping = await plugin(
        "keeping",
        f"""
        from gatepost import Plugin, on, per_session, per_transaction
        def tell(text):
            with open({str(told)!r}, "a") as file: file.write(text + "\\n")
        class Thing:
            def __init__(self): tell(f"begin {{self.name}}")
        class S(Thing):
            name = "session"
            def close(self): tell("end session")
        class T(Thing):
            name = "transaction"
            async def aclose(self): tell("end transaction")
        session, transaction = per_session(S), per_transaction(T)
        class Keeping(Plugin):
            async def open(self, server): tell("open")
            async def close(self): tell("close")
            @on("recipient")
            async def hook(self, event):
                session(event), transaction(event)
            @on("disconnected")
            async def gone(self, notice): tell(f"gone {{notice.clean}} {{notice.session.helo}}")
            @on("queued")
            def queued(self, notice): tell(f"queued {{notice.size}} {{notice.recipients[0]}} {{notice.sender}}")
        """,
    )
    async with Rig([keeping]) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO c.example")
        for _ in range(2):
            await client.command("MAIL FROM:<a@b.example>")
            await client.command("RCPT TO:<ann@example.org>")
            await client.command("RSET")
        await client.command("MAIL FROM:<a@b.example>")
        await client.command("RCPT TO:<ann@example.org>")
        await client.command("DATA")
        assert (await client.content(b"Subject: x\r\n\r\ny\r\n")).startswith("250")
        await client.command("QUIT")
        await rig.settled()
        assert await talk(rig, bad=False) == ["250"] * 4  # asked after all that was told of the first session
        lines = told.read_text().splitlines()
        assert lines.index("end session") < lines.index("begin session", lines.index("begin session") + 1)
    lines = told.read_text().splitlines()
    assert lines[0] == "open"
    assert lines[-1] == "close"
    assert lines.count("begin session") == lines.count("end session") == 2
    assert lines.count("begin transaction") == lines.count("end transaction") == 4
    assert sorted(lines[-3:-1]) == ["end session", "gone True c.example"]
    assert [line.split()[2:] for line in lines if line.startswith("queued")] == [["ann@example.org", "a@b.example"]]


async def test_what_cannot_be_closed_is_told(plugin):
    shut = await plugin(
        "shut",
        """
        from gatepost import Plugin, on
        class Shut(Plugin):
            async def close(self): raise OSError("stuck")
            @on("recipient")
            async def hook(self, event): ...
        """,
    )
    rig = Rig([shut])
    await rig.open()
    [error] = await rig.close()
    assert "OSError: stuck" in str(error.exceptions[0])


async def test_a_plugin_that_changed_meanwhile_is_not_taken_for_the_old_one(plugin, tmp_path, caplog):
    crasher = await plugin("crasher", IT_ALL.replace("BEHAVE", "os._exit(1)"), backoff=Backoff(0.01, 0.02))
    file = tmp_path / "crasher.py"
    async with Rig([crasher]) as rig:
        good = file.read_text()
        file.write_text(good.replace('@on("recipient", timeout="3s")', '@on("message")'))
        client = rig.connect()
        await client.reply()
        await client.command("EHLO c.example")
        await client.command("MAIL FROM:<>")
        assert (await client.command("RCPT TO:<bad@example.org>")).startswith("451")
        assert "isn't what it was" in caplog.text
        file.write_text(good)
        assert (await client.command("RCPT TO:<fine@example.org>")).startswith("250")


async def test_a_process_that_uses_more_memory_than_it_may_is_ended_where_its_address_space_has_no_limit(
    plugin, caplog, monkeypatch
):
    hoard = "hoard = b'x' * (256 << 20); await asyncio.sleep(3600)"
    animal = await plugin(
        "animal", IT_ALL.replace("BEHAVE", hoard).replace('"3s"', '"30s"'), limits=Limits(address_space=None)
    )
    host = animal.crew.hosts[0]
    monkeypatch.setattr(host, "_recipe", replace(host._recipe, resident=160 * MIB))
    await host._life.end()
    host._life = None
    async with Rig([animal]) as rig:
        first = host.pid
        assert await talk(rig, bad=True) == ["250", "451", "550", "250"]
        assert await talk(rig, bad=False) == ["250", "250", "550", "250"]
        assert host.pid != first
    assert "MiB of memory, of 160 it may" in caplog.text


async def test_what_a_life_needs_is_there_before_each_of_them(plugin, caplog, monkeypatch):
    animal = await plugin("animal", IT_ALL.replace("BEHAVE", "os._exit(3)"))
    host, made = animal.crew.hosts[0], []

    async def ready():
        made.append(host.pid)
        if len(made) == 2:
            raise OSError("not yet")

    monkeypatch.setattr(host, "_recipe", replace(host._recipe, ready=ready))
    async with Rig([animal]) as rig:
        assert (await talk(rig, bad=True))[1] == "451"
        assert await talk(rig, bad=False) == ["250", "250", "550", "250"]
    assert made == [None] * 3
    assert "it couldn't start: not yet" in caplog.text
