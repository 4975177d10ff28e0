"""Hosts that speak the frames badly, and one that speaks them well without a line of ours."""

import asyncio
import logging
import os
import sys
import textwrap

import pytest

from gatepost.model import Bytes
from gatepost.plugins.host import (
    Backoff,
    Command,
    HookFailed,
    HostBusy,
    HostDown,
    HostHung,
    Limits,
    LoadRefused,
    Recipe,
    supervision,
)
from gatepost.plugins.host.questions import Question
from gatepost.plugins.host.supervision import Host
from gatepost.wire.host import Load, SessionEnded

SPEAKING = """
import os, sys, time, msgspec
sys.stdin = None
def say(*frame):
    data = msgspec.msgpack.encode(frame)
    raw(len(data).to_bytes(4, "big") + data)
def raw(data):
    while data: data = data[os.write(1, data):]
def exactly(n):
    data = b""
    while len(data) < n:
        piece = os.read(0, n - len(data))
        if not piece: os._exit(0)
        data += piece
    return data
def hear():
    return msgspec.msgpack.decode(exactly(int.from_bytes(exactly(4), "big")))
def begin():
    assert hear()[:2] == ["hello", 1]
    say("hello", 1, "test")
    assert hear()[0] == "load"
    say("loaded", "it", {"stages": ["recipient"]})
    assert hear()[:3] == ["told", "", "open"]
    say("ready")
def answer(ask, edits=()):
    say("answer", ask[1], {"say": "proceed"}, list(edits), {})
"""


@pytest.fixture
async def host(tmp_path):
    """Makes hosts of a script; ends them."""
    made = []

    def make(script, *, load_s=5.0, grace_s=0.2, backoff=None):
        command = Command((sys.executable, "-c", SPEAKING + textwrap.dedent(script)))
        recipe = Recipe(command, "test", Load("it", "it", {}), Limits(), tmp_path, load_s=load_s)
        log = logging.getLogger("gatepost.plugins.it")
        made.append(Host("it", recipe, log, backoff=backoff or Backoff(0.01, 0.5), grace_s=grace_s))
        return made[-1]

    yield make
    for one in made:
        await one.close(1.0)
    assert list(tmp_path.iterdir()) == []


def question(seconds=5.0, content=None, facts=None, session="S"):
    loop = asyncio.get_running_loop()
    blob = None if content is None else Bytes(content)
    return Question(session, 1, "recipient", lambda _: facts or {}, loop.time() + seconds, blob, loop.create_future())


async def ready(host):
    await host.load()
    await host.open({})
    return host


async def test_a_host_in_any_language(host, tmp_path):
    good = host(
        """
        begin()
        while (frame := hear())[0] != "stop":
            if frame[0] == "ask":
                text = open(frame[7]).read() if frame[7] else ""
                say("answer", frame[1], {"say": "refuse", "text": text}, [], {"facts": frame[5], "left": frame[6]})
        """
    )
    assert await good.load() == {"stages": ["recipient"]}
    await good.open({})
    for size in (10, 100_000):
        asked = question(content=b"x" * size, facts={"n": [1, "ü", b"\xff"]})
        answer = await good.ask(asked)
        assert answer.verdict == {"say": "refuse", "text": "x" * size}
        assert answer.notes["facts"] == {"n": [1, "ü", b"\xff"]}
        assert 4 < answer.notes["left"] <= 5
        good.forget(asked)
    assert [file for folder in tmp_path.iterdir() for file in folder.iterdir()] == []


async def test_questions_overlap_and_are_answered_in_any_order(host):
    backwards = await ready(
        host("begin()\nasked = [hear() for _ in range(50)]\nfor ask in reversed(asked): answer(ask)\nhear()")
    )
    order = []
    questions = [question() for _ in range(50)]

    async def ask(number):
        await backwards.ask(questions[number])
        order.append(number)

    await asyncio.gather(*(ask(number) for number in range(50)))
    assert order == list(reversed(range(50)))


BROKEN = {
    "P1 answers a question nobody asked": "answer([0, 999]); time.sleep(9)",
    "P1 greets again": 'say("hello", 1, "test"); time.sleep(9)',
    "P1 loads again": 'say("loaded", "it", {}); time.sleep(9)',
    "P1 says what only the house says": 'say("ask", 1, "S", 0, "connect", {}, 1.0); time.sleep(9)',
    "P2 a frame over the limit": "raw(b'\\x7f\\xff\\xff\\xff'); time.sleep(9)",
    "P2 a frame of nothing": "raw(bytes(4)); time.sleep(9)",
    "P2 no msgpack": "raw(b'\\0\\0\\0\\4\\xc1\\xc1\\xc1\\xc1'); time.sleep(9)",
    "P2 wrong types": 'say("answer", "one", [], {}, 0); time.sleep(9)',
    "P2 half a frame, then its end": "raw(b'\\0\\0\\1\\0abc'); os._exit(0)",
    "P3 closes the channel and stays": "os.close(0); os.close(1); time.sleep(9)",
    "ends well, but without an answer": "os._exit(0)",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_who_breaks_the_protocol_is_killed_and_asked_once_more(host, name, tmp_path, caplog):
    count = tmp_path.parent / f"{tmp_path.name}-count"
    broken = await ready(
        host(
            f"""
            begin()
            ask = hear()
            with open({str(count)!r}, "a") as file: file.write("x")
            assert ask[7] is None or open(ask[7]).read() == "content"
            if ask[7]: open(ask[7], "w").write("spoilt")
            {BROKEN[name]}
            """
        )
    )
    with pytest.raises(HostDown):
        await broken.ask(question(content=b"content"))
    assert count.read_text() == "xx"


async def test_P1_who_answers_twice_is_killed(host):
    twice = await ready(host("begin()\nask = hear(); answer(ask); answer(ask); time.sleep(9)"))
    first = twice.pid
    assert (await twice.ask(question())).verdict == {"say": "proceed"}
    assert (await twice.ask(question())).verdict == {"say": "proceed"}
    assert twice.pid != first


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("os._exit(7)", "exited with status 7"),
        ("print('cannot find the library', file=sys.stderr, flush=True); os._exit(1)", "cannot find the library"),
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("hear(); time.sleep(60)", "wasn't ready after 0.5 s"),
        ('hear(); say("hello", 2, "test"); time.sleep(60)', "version 2"),
        ('hear(); say("hello", 1, "milter"); hear()', "speaks the dialect 'milter'"),
        ('hear(); say("ready"); time.sleep(60)', "a frame before hello"),
        ('hear(); say("hello", 1, "test"); hear(); say("ready"); time.sleep(60)', "ready out of turn"),
        (
            'hear(); say("hello", 1, "test"); hear(); say("answer", 1, {}, [], {}); time.sleep(60)',
            "before it was ready",
        ),
        ("raw(b'SSH-2.0-OpenSSH'); time.sleep(60)", "broke the protocol"),
    ],
)
async def test_who_cannot_begin_is_down_with_the_reason(host, script, text):
    bad = host(script, load_s=0.5)
    with pytest.raises(HostDown) as down:
        await bad.load()
    assert text in str(down.value)
    assert bad.pid is None


async def test_who_refuses_to_load_says_why(host):
    bad = host('hear(); say("hello", 1, "test"); hear(); say("failed", 0, "PluginError", "no such thing"); hear()')
    with pytest.raises(LoadRefused, match="no such thing"):
        await bad.load()


async def test_no_such_program(tmp_path):
    recipe = Recipe(Command((str(tmp_path / "none"),)), "test", Load("it", "it", {}), Limits(), tmp_path)
    with pytest.raises(FileNotFoundError):
        await Host("it", recipe, logging.getLogger("gatepost.plugins.it")).load()
    assert list(tmp_path.iterdir()) == []


async def test_a_question_that_is_answered_too_late_costs_the_process_not_the_others(host):
    picky = await ready(
        host(
            """
            begin()
            while (frame := hear())[0] != "stop":
                if frame[5].get("hang"): continue
                if frame[5].get("wait"): kept = frame; continue
                answer(frame)
            """
        )
    )
    first = picky.pid
    hangs, patient = question(0.3, facts={"hang": True}), question(5.0, facts={"wait": True})
    waiting = asyncio.create_task(picky.ask(patient))
    with pytest.raises(HostHung):
        await picky.ask(hangs)
    assert (await picky.ask(question())).verdict == {"say": "proceed"}
    assert patient.asked == 2
    assert not waiting.done()
    assert picky.pid != first
    waiting.cancel()


async def test_the_innocent_are_asked_again_alone_and_the_guilty_fails(host):
    """Ten in flight when one kills the process: nobody knows which, so each is tried alone."""
    bomb = await ready(
        host(
            """
            begin()
            kept = []
            while (frame := hear())[0] != "stop":
                if frame[5].get("boom"): os._exit(9)
                if frame[5].get("first"): kept.append(frame); continue
                answer(frame)
            """
        )
    )
    alive = [question(facts={"n": n, "boom": n == 4}, content=b"x") for n in range(10)]
    results = await asyncio.gather(*(bomb.ask(one) for one in alive), return_exceptions=True)
    assert [isinstance(result, HostDown) for result in results] == [n == 4 for n in range(10)]
    assert all(one.asked <= 2 for one in alive)


async def test_abandoned_questions_are_not_asked_again(host, tmp_path):
    once = tmp_path.parent / f"{tmp_path.name}-asked"
    slow = await ready(
        host(
            f"""
            begin()
            while (frame := hear())[0] != "stop":
                with open({str(once)!r}, "a") as file: file.write(frame[2])
                if frame[2] == "B": os._exit(1)
            """
        )
    )
    gone = asyncio.create_task(slow.ask(question(session="A")))
    with pytest.raises(HostDown):
        await asyncio.gather(slow.ask(question(session="B")), cancelled_soon(gone))
    assert once.read_text() in ("ABB", "BB")


async def cancelled_soon(task):
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_who_does_not_read_is_bounded(host, monkeypatch):
    """What waits for it stays here as it is, and is refused beyond a number; nothing piles up in the channel."""
    monkeypatch.setattr(supervision, "WAITING", 40)
    monkeypatch.setattr(supervision, "CONTROL", 100)
    deaf = await ready(host("begin()\nif not os.path.exists('/nonexistent'): time.sleep(60)"))
    big = {"line": "x" * 500_000}
    tasks = [asyncio.create_task(deaf.ask(question(30.0, facts=big))) for _ in range(60)]
    done, waiting = await asyncio.wait(tasks, timeout=0.5)
    assert {type(task.exception()) for task in done} == {HostBusy}
    assert len(waiting) == 40
    assert deaf._life.channel._transport.get_write_buffer_size() < 2 * 1024 * 1024
    first = deaf.pid
    died = os.pidfd_open(first)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(died, gone.set)
    for number in range(200):
        deaf.tell(SessionEnded(str(number)))
    await gone.wait()
    asyncio.get_running_loop().remove_reader(died)
    os.close(died)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_cannot_be_sent_fails_alone(host):
    echo = await ready(host("begin()\nwhile (frame := hear())[0] != 'stop': answer(frame)"))
    with pytest.raises(ValueError, match="octets"):
        await echo.ask(question(facts={"line": "x" * 2_000_000}))
    with pytest.raises(TypeError):
        await echo.ask(question(facts={"line": object()}))
    assert (await echo.ask(question())).verdict == {"say": "proceed"}


async def test_a_failed_hook_is_no_death(host):
    fails = await ready(host("begin()\nwhile (frame := hear())[0] != 'stop': say('failed', frame[1], 'KeyError', 'x')"))
    for _ in range(3):
        with pytest.raises(HookFailed, match="KeyError: x"):
            await fails.ask(question())
    assert fails.pid is not None


async def test_while_it_is_down_nobody_waits_long(host, tmp_path):
    flag = tmp_path.parent / f"{tmp_path.name}-flag"
    short = await ready(
        host(
            f"""
            if os.path.exists({str(flag)!r}): os._exit(1)
            begin()
            hear()
            open({str(flag)!r}, "w")
            os._exit(1)
            """,
            backoff=Backoff(0.01, 100.0),
        )
    )
    with pytest.raises(HostDown):
        async with asyncio.timeout(10):
            await short.ask(question(60.0))
    with pytest.raises(HostDown, match="is down"):
        async with asyncio.timeout(0.1):
            await short.ask(question(60.0))


async def test_descriptors_and_group_of_the_child(host):
    """It has its own session and exactly its three descriptors; what it starts dies with it."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, False)
    told = await ready(
        host(
            """
            begin()
            ask = hear()
            pid = os.fork()
            if pid == 0: time.sleep(600)
            open_ones = [fd for fd in range(3, 256) if os.path.exists(f"/proc/self/fd/{fd}")]
            import resource
            say("answer", ask[1], {}, [], {"sid": os.getsid(0) == os.getpid(), "open": open_ones, "child": pid,
                "core": resource.getrlimit(resource.RLIMIT_CORE)[0], "files": resource.getrlimit(7)[0]})
            hear()
            os._exit(0)
            """
        )
    )
    answer = await told.ask(question())
    assert answer.notes["sid"] is True
    assert answer.notes["open"] == []
    assert answer.notes["core"] == 0
    assert answer.notes["files"] == 256
    grandchild = os.pidfd_open(answer.notes["child"])
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(grandchild, gone.set)
    await told.close(1.0)
    async with asyncio.timeout(5):
        await gone.wait()
    asyncio.get_running_loop().remove_reader(grandchild)
    for descriptor in (reading, writing, grandchild):
        os.close(descriptor)


def test_backoff_doubles_and_a_good_life_makes_up():
    backoff = Backoff(0.1, 30.0)
    waits = [backoff.after(0.5, 7) for _ in range(11)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30])
    assert backoff.after(100.0, 0) == 30  # long, but it never answered
    assert backoff.after(1.0, 1) == 0.1
    assert backoff.after(0.1, 1) == pytest.approx(0.2)
