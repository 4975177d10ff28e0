"""An event sink as a COM class, in a shared object and in a DLL, through the whole reception: what the client hears,
and what is stored. `story.c` does at a command what the command says, and at a message what its first recipient says.
"""

import asyncio
import logging
import os
import re
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from gatepost.delivery import Maildir
from gatepost.delivery.submission import Submission
from gatepost.hooks.session import ServerView
from gatepost.plugins.host import Backoff
from gatepost.plugins.host.native import host_path
from gatepost.plugins.host.wine import find_prefix, find_wine
from gatepost.plugins.loaded import PluginError, Wish
from gatepost.plugins.sink.loading import load_sink
from gatepost.plugins.sink.options import SinkOptions
from gatepost.serving.patience import SystemClock
from gatepost.store.embedded import open_shard
from gatepost.store.files import RealFiles
from gatepost.testing.rig import Rig
from programs import program
from unit.delivery.delivery_peer import Peer, polite
from unit.delivery.delivery_plugins import ANN, BOB, letter, send
from unit.delivery.test_delivery_runner import House, running
from unit.plugins_sink.sink_outbound_rig import Sinks

HERE = Path(__file__).parent
NATIVE = HERE.parents[2] / "native"
PREFIXES = HERE.parents[2] / ".wine" / "gatepost"
"""Kept for the next run: a prefix takes a dozen seconds. Ignored by git."""
BUILDS = {
    "so": ["cc", "-fPIC", "-pthread"],
    "dll": ["x86_64-w64-mingw32-gcc", "-static-libgcc"],
}
LIBRARIES = {"so": [], "dll": ["-luuid", "-loleaut32"]}
ON_WINE = pytest.param("dll", marks=pytest.mark.needs("x86_64-w64-mingw32-gcc", "wine64"))
KINDS = ["so", ON_WINE]
pytestmark = [pytest.mark.needs("cc"), pytest.mark.timeout(240)]  # a first prefix takes its time
CONTENT = "Subject: hello\r\n\r\nHello Ann.\r\n"
TOKEN = re.compile(r"(?: \([0-9A-Z]{6}-[0-9A-Z]{6}\)|, [0-9A-Z]{6}-[0-9A-Z]{6}-\d+)$", re.MULTILINE)
FAILED = "451 4.3.0 a check couldn't be made, try again later"
CLSID = "{5E1D0003-6A7E-4057-9A7E-905700000003}"
PROG_ID = "Gatepost.Story.1"
COMMAND, MESSAGE = Wish(stages=("command",), timeout="20s"), Wish(stages=("message",), timeout="60s")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Called with a kind: the library of story.c, built once, without a warning."""
    folder = tmp_path_factory.mktemp("story")

    def compile(kind):
        output = folder / f"story.{kind}"
        if not output.exists():
            compiler, *flags = BUILDS[kind]
            command = [program(compiler), *flags, "-shared", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
            command += [str(HERE / "story.c"), "-o", str(output), *LIBRARIES[kind]]
            subprocess.run(command, check=True, timeout=60)
        return output

    return compile


@pytest.fixture(scope="module")
def warm():
    """Called before a DLL is loaded: lets Wine run as long as the tests do, so that not each of them starts it."""
    with ExitStack() as stack:
        made = []

        async def begin():
            if not made:
                wine = await find_wine(64)
                command = [str(wine.loader), str(host_path("win64")), "sink"]
                environment = wine.environment(await find_prefix(wine, folder=PREFIXES))
                null = subprocess.DEVNULL
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=null, stderr=null, env=environment)
                made.append(stack.enter_context(process))  # which leaves when its standard input ends

        yield begin


@pytest.fixture
async def story(compiled, warm, tmp_path_factory):
    """Called with a kind and what `load_sink` takes: the sink. Nothing of its files is left."""

    scratch = tmp_path_factory.mktemp("scratch")

    async def loaded(kind, **more):
        if kind == "dll":
            await warm()
        more = {"backoff": Backoff(0.05, 1.0), "grace_s": 0.2, "scratch": scratch, "prefixes": PREFIXES} | more
        return await load_sink(compiled(kind), **more)

    yield loaded
    assert not list(scratch.iterdir())


def told(reply):
    """A reply without the token or ticket at its end."""
    return TOKEN.sub("", reply)


def ended(pid):
    """Done when the process has ended."""
    loop = asyncio.get_running_loop()
    descriptor, done = os.pidfd_open(pid), loop.create_future()

    def has():
        loop.remove_reader(descriptor)
        os.close(descriptor)
        done.set_result(None)

    loop.add_reader(descriptor, has)
    return done


async def begun(rig):
    client = rig.connect()
    await client.reply()
    await client.command("EHLO story.example")
    return client


async def say(client, *lines):
    return [told(await client.command(line)) for line in lines]


async def deliver(client, *recipients, sender="dave@bobo.example", content=CONTENT):
    """What is heard at end-of-data, or at the first line that is refused."""
    for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}@example.org>" for one in recipients), "DATA"):
        if (reply := await client.command(line))[0] in "45":
            return told(reply)
    return told(await client.content(content.encode()))


async def stored(rig):
    """Who gets which content."""
    entries = [(entry.envelope.recipients, entry.content.read()) for entry in await rig.spool.entries()]
    return {str(one.path): content for people, content in entries for one in people}


def fields(rig_stored, name):
    """The header fields that a sink has written."""
    return re.findall(rb"^X-[A-Za-z]+: \w+", rig_stored[name], re.MULTILINE)


# ── commands ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_commands(kind, story):
    async with Rig([await story(kind, wishes=[COMMAND], properties={"greeting": "well met"})]) as rig:
        client = await begun(rig)
        assert await say(client, "XFIELDS some words") == [
            "250 2.0.0 [XFIELDS some words] [XFIELDS] 19 ffffffff 0 0 [story.example] well met"
        ]
        assert await say(client, "XREFUSE", "NOOP") == ["550 5.7.1 refused", "250 2.0.0 ok"]
        assert await say(client, "XSTORE", "a line", "another", "end", "NOOP") == [
            "354 tell me, then say end", "354 more", "354 more", "250 2.0.0 heard a line another", "250 2.0.0 ok",
        ]  # fmt: skip
        assert await say(client, "XLATER", "XLATER") == ["252 2.0.0 later"] * 2
        assert await say(client, "XFAIL", "NOOP") == [FAILED, "250 2.0.0 ok"]
        assert await say(client, "XDROP") == ["421 4.3.2 good bye"]
        assert await client.reply() == ""


async def test_bags_of_session_and_server(kind, story):
    """A session's counts its own, the server's all of them; they outlive the process, since the house has them too."""
    plugin = await story(kind, wishes=[COMMAND])
    async with Rig([plugin]) as rig:
        one, other = await begun(rig), await begun(rig)
        assert await say(one, "XCOUNT", "XCOUNT") == ["250 2.0.0 1 of 1", "250 2.0.0 2 of 2"]
        assert await say(other, "XCOUNT") == ["250 2.0.0 1 of 3"]
        assert await say(one, "XCRASH") == [FAILED]
        assert await say(one, "XCOUNT") == ["250 2.0.0 3 of 4"]


async def test_two_sinks_share_the_bags(story):
    """In processes of their own: what one has put, the other finds."""
    plugins = [await story("so", name=name, wishes=[COMMAND]) for name in ("first", "second")]
    async with Rig(plugins) as rig:
        client = await begun(rig)
        assert await say(client, "XVISIT", "XCOUNT") == ["500 5.5.2 there is no such command", "250 2.0.0 3 of 3"]


async def test_several_processes_have_the_same_server(story):
    plugin = await story("so", processes=2, wishes=[COMMAND])
    async with Rig([plugin]) as rig:
        clients = [await begun(rig) for _ in range(2)]
        assert [host.sessions for host in plugin.sink.crew.hosts] == [1, 1]
        heard = [(await say(client, "XCOUNT"))[0] for client in clients * 2]
    assert heard == ["250 2.0.0 1 of 1", "250 2.0.0 1 of 2", "250 2.0.0 2 of 3", "250 2.0.0 2 of 4"]


async def test_who_never_completes_fails_at_its_deadline(kind, story, caplog):
    caplog.set_level(logging.WARNING)
    plugin = await story(kind, wishes=[Wish(stages=("command",), timeout="1s")])
    async with Rig([plugin]) as rig:
        client = await begun(rig)
        killed = ended(plugin.sink.crew.hosts[0].pid)
        assert await say(client, "XNEVER") == [FAILED]
        await killed
        assert await say(client, "XLATER") == ["252 2.0.0 later"]
    assert "didn't answer a question at command in time" in caplog.text


async def test_a_crash_fails_alone(kind, story, caplog):
    """The others' questions are asked again."""
    caplog.set_level(logging.CRITICAL)
    async with Rig([await story(kind, wishes=[Wish(stages=("command",), timeout="60s")])]) as rig:
        clients = [await begun(rig) for _ in range(8)]
        heard = await asyncio.gather(*(say(each, "XLATER" if n else "XCRASH") for n, each in enumerate(clients)))
    assert heard == [[FAILED]] + [["252 2.0.0 later"]] * 7
    assert "for the second time with this question" in str(rig.records.errors[0][2])
    assert len(rig.records.errors) == 1


async def test_what_a_sink_keeps_without_need_is_reported(story, caplog):
    caplog.set_level(logging.WARNING)
    plugin = await story("so", wishes=[COMMAND])
    async with Rig([plugin]) as rig:
        client = await begun(rig)
        assert await say(client, "XLEAK") == ["250 2.0.0 leaked"]
        await client.command("QUIT")
    assert "reference" in caplog.text


# ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_messages(kind, story):
    async with Rig([await story(kind, wishes=[MESSAGE])]) as rig:
        client = await begun(rig)
        assert await deliver(client, "ann") == "250 2.0.0 accepted"
        assert await deliver(client, "content") == "250 2.0.0 accepted"
        assert await deliver(client, "carl", sender="later@bobo.example") == "250 2.0.0 accepted"
        assert await deliver(client, "discard") == "250 2.0.0 accepted"
        assert await deliver(client, "list", "dora") == "250 2.0.0 accepted"
        assert await deliver(client, "fork", "bob") == "250 2.0.0 accepted"
        assert await deliver(client, "refuse") == "550 5.7.1 not this one"
        assert await deliver(client, "fail") == FAILED
        found = await stored(rig)
    wrote = {name: fields(found, name) for name in found}
    assert wrote == {
        "ann@example.org": [], "content@example.org": [b"X-Story: told"], "carl@example.org": [b"X-Story: later"],
        "zoe@example.org": [], "fork@example.org": [], "bob@example.org": [b"X-Fork: yes"],
    }  # fmt: skip
    assert all(content.endswith(b"\r\n\r\nHello Ann.\r\n") for content in found.values())


async def test_40_megabytes_are_read_and_written_in_pieces(story):
    """The process of the sink may use less memory than that."""
    plugin = await story("so", wishes=[MESSAGE])
    async with Rig([plugin]) as rig:
        client = await begun(rig)
        large = CONTENT + ("x" * 998 + "\r\n") * 40_000
        assert await deliver(client, "large", content=large) == "250 2.0.0 accepted"
        status = Path(f"/proc/{plugin.sink.crew.hosts[0].pid}/status").read_text()
        (entry,) = await rig.spool.entries()
        assert entry.content.read(entry.content.size - 10) == b"x" * 6 + b"\r\n\r\n"
    assert int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) < 20_000


async def test_after_the_250(kind, story, tmp_path):
    """Before recipients are expanded, and after; the content that a sink has written is delivered."""
    async with Rig(spool=await open_shard(tmp_path, RealFiles(), time.time)) as rig:
        assert await deliver(await begun(rig), "ann") == "250 2.0.0 accepted"
    plugin = await story(kind, wishes=[Wish(stages=("submitted", "expanded"), timeout="30s")])
    await plugin.open(ServerView("mx.test", SystemClock()))
    plugins = Sinks(plugin.bindings)
    submission = Submission(lambda: plugins.dispatcher, patience=plugins.patience, recorder=plugins.records)
    house = House(await open_shard(tmp_path, RealFiles(), time.time), submission=submission)
    house.now = time.time() + 1
    house.route("*", Maildir())
    try:
        async with running(house):
            while not house.drop.copies and not plugins.records.errors:
                await asyncio.sleep(0.001)
    finally:
        await plugin.close()
        await house.spool.close()
    ((_, address, content),) = house.drop.copies
    assert address == "ann@example.org" and content.startswith(b"X-After: yes\r\nX-Before: yes\r\n")


async def test_on_the_way_out(kind, story):
    plugin = await story(kind, wishes=[Wish(stages=("out-command", "out-reply"), timeout="30s")])
    await plugin.open(ServerView("mx.test", SystemClock()))
    try:
        async with Peer(polite(("RCPT TO:<number1*", "250 2.1.5 unwelcome"))) as peer:
            found = await send(Sinks(plugin.bindings), peer, letter(ANN, BOB))
    finally:
        await plugin.close()
    unwelcome = [
        "EHLO me.example",
        "MAIL FROM:<a@b.example>",
        "RCPT TO:<number0@d.example>",
        "RCPT TO:<number1@d.example>",
    ]
    assert found.lines == [*unwelcome, "RSET", *unwelcome[1:3], "DATA", ".", "QUIT after 10 replies"]
    assert [code // 100 for code in found.codes] == [2, 5]


# ── loading ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cls", [CLSID, CLSID.lower(), PROG_ID])
async def test_a_class_by_its_name(cls, story):
    async with Rig([await story("so", wishes=[COMMAND], options=SinkOptions(cls=cls))]) as rig:
        assert await say(await begun(rig), "XLATER") == ["252 2.0.0 later"]


@pytest.mark.parametrize("kind", [ON_WINE])
@pytest.mark.parametrize("cls", [CLSID, PROG_ID])
async def test_a_class_that_windows_finds_in_its_registry(kind, cls, story):
    """After regsvr32, by CoCreateInstance."""
    options = SinkOptions(cls=cls, create="com")
    async with Rig([await story(kind, wishes=[COMMAND], options=options)]) as rig:
        assert await say(await begun(rig), "XLATER", "XCOUNT") == ["252 2.0.0 later", "250 2.0.0 1 of 1"]


@pytest.mark.parametrize("cls", ["{00000000-0000-0000-0000-000000000001}", "No.Such"])
async def test_a_class_that_the_library_has_not(cls, story):
    with pytest.raises(PluginError, match="can't be loaded"):
        await story("so", options=SinkOptions(cls=cls))
