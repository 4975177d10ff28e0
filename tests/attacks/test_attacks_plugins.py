"""Attacks by plugins, P1 to P8, each on whole sessions: what their processes say that they shouldn't.

The dialects are the real ones; instead of the native host runs a script that speaks its frames, and says what no
plugin's host should. More of these stand with the rooms: P1 to P3 in plugins_host/test_host_protocol.py and
wire_frames, P5 in plugins_host/test_host_zoo.py, P7 in content/test_content_view.py, P2 and P8 in test_hooks_laws.py.
"""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import textwrap
import time

import pytest

from gatepost.plugins.host import Backoff, HostDown, recipes, voice
from gatepost.plugins.indimail import load_indimail
from gatepost.plugins.indimail import loading as indimail_loading
from gatepost.plugins.loaded import Wish
from gatepost.plugins.mailenable import load_mailenable
from gatepost.plugins.program import load_program
from gatepost.plugins.program.running import ProgramFailed
from gatepost.plugins.python import load, load_isolated
from gatepost.testing.rig import Rig
from programs import program

pytestmark = pytest.mark.needs("cc")
CONTENT = b"From: a@b.example\r\nSubject: one\r\nX-Old: yes\r\n\r\n" + b"a line of text\r\n" * 50
FAILED = "451 4.3.0 a check couldn't be made, try again later"
SENDER_OK, RECIPIENT_OK, ACCEPTED = "250 2.1.0 sender ok", "250 2.1.5 recipient ok", "250 2.0.0 accepted"
TOKEN = re.compile(r"(?: \([0-9A-Z]{6}-[0-9A-Z]{6}\)|, [0-9A-Z]{6}-[0-9A-Z]{6}-\d+)$")

SPEAKING = """#!{python} -IS
import sys
sys.path[:0] = {path!r}
import os, re, time, msgspec
DIALECT = {dialect!r}
def raw(data):
    while data: data = data[os.write(1, data):]
def say(*frame):
    data = msgspec.msgpack.encode(frame)
    raw(len(data).to_bytes(4, "big") + data)
def exactly(n):
    data = b""
    while len(data) < n:
        piece = os.read(0, n - len(data))
        if not piece: os._exit(0)
        data += piece
    return data
def hear(*names):
    while True:
        frame = msgspec.msgpack.decode(exactly(int.from_bytes(exactly(4), "big")))
        if frame[0] == "stop": os._exit(0)
        if frame[0] in names: return frame
def question():
    return hear("ask")
def answer(ask, returned=None, text=None):
    if DIALECT == "mailenable":
        verdict = {{"returned": 1 if returned is None else returned, "response": text or b""}}
    else:
        verdict = {{"returned": returned or 0, "mesg": text, "which": 0 if returned else -1}}
    say("answer", ask[1], verdict, [], {{}})
hear("hello")
say("hello", 1, DIALECT)
load = hear("load")
say("loaded", load[1], {{}} if DIALECT == "mailenable" else {{"plugins": [[load[2], True, True, True]]}})
hear("told")
say("ready")
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """What both loaders take for a plugin; it is never called."""
    folder = tmp_path_factory.mktemp("attacks")
    (folder / "it.c").write_text(
        "long Execute(char *c, char *r) { return 1; }\nvoid *plugin_init(void) { return 0; }\n"
    )
    subprocess.run([program("cc"), "-shared", "-fPIC", "it.c", "-o", "it.so"], cwd=folder, check=True)
    return folder / "it.so"


@pytest.fixture(params=["mailenable", "indimail"])
def dialect(request):
    return request.param


@pytest.fixture
def hosted(library, tmp_path, monkeypatch):
    """Called with a dialect and a script: the dialect's plugin, whose host is that script."""

    async def make(dialect, script, **more):
        file = tmp_path / f"host-{dialect}"
        head = SPEAKING.format(python=sys.executable, path=sys.path, dialect=dialect)
        file.write_text(head + textwrap.dedent(script))
        file.chmod(0o755)
        for module in (recipes, indimail_loading):
            monkeypatch.setattr(module, "host_path", lambda target: file)
        loader = load_mailenable if dialect == "mailenable" else load_indimail
        more = {"processes": 1, "backoff": Backoff(0.02, 0.5), "grace_s": 0.2, "scratch": tmp_path, **more}
        more.setdefault("wishes", [Wish(stages=("recipient",), rule="rcpt to=bad@*")])
        return await loader(library, **more)

    return make


async def begun(rig):
    client = rig.connect()
    await client.reply()
    await client.command("EHLO client.example")
    return client


async def mail(client, to="ann@example.org", content=CONTENT):
    """What is heard to MAIL, RCPT, DATA and the content, as far as it comes; the transaction is over then."""
    heard = []
    for line in ("MAIL FROM:<a@b.example>", f"RCPT TO:<{to}>", "DATA"):
        heard.append(told(await client.command(line)))
        if heard[-1][0] not in "23":
            assert (await client.command("RSET")).startswith("250")
            return heard
    return [*heard, told(await client.content(content))]


def told(reply):
    return TOKEN.sub("", reply)


async def stored(rig):
    return [entry.content.read() for entry in await rig.spool.entries()]


async def fails_alone(plugin, why="broke the protocol"):
    """Whoever needs the plugin is asked to come again; others' sessions, and this one's next mail, are as ever."""
    async with Rig([plugin]) as rig:
        bad, good = await begun(rig), await begun(rig)
        hurt, well = await asyncio.gather(mail(bad, "bad@example.org"), mail(good))
        assert hurt == [SENDER_OK, FAILED]
        assert well[-1] == ACCEPTED
        assert (await mail(bad))[-1] == ACCEPTED
        assert len(await stored(rig)) == 2
        [(_, _, error)] = rig.records.errors
        assert why in str(error)


# ── P1, P2, P3 ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "script",
    [
        "ask = question(); answer([0, ask[1] + 1000]); time.sleep(60)",
        "ask = question(); answer([0, 0]); time.sleep(60)",
        "ask = question(); say('answer', -1, {}, [], {}); time.sleep(60)",
        "ask = question(); say('answer', 2**63, {}, [], {}); time.sleep(60)",
        "ask = question(); say('answer', ask[2], {}, [], {}); time.sleep(60)",
        "ask = question(); say('failed', ask[1] + 1000, 'E', 'x'); time.sleep(60)",
        "ask = question(); say('ready'); time.sleep(60)",
    ],
)
async def test_P1_a_reply_for_a_question_that_nobody_asked(hosted, dialect, script):
    await fails_alone(await hosted(dialect, script))


@pytest.mark.parametrize(
    "octets",
    [b"\x00\x10\x00\x01", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", bytes(4), b"\0\0\0\4\xc1\xc1\xc1\xc1"],
    ids=["one octet too long", "2 GiB", "negative", "nothing", "no msgpack"],
)
async def test_P2_a_frame_that_is_none(hosted, dialect, octets):
    await fails_alone(await hosted(dialect, f"question(); raw({octets!r}); time.sleep(60)"))


@pytest.mark.parametrize("octets", [b"\0", b"\0\0\1\0", b"\0\0\1\0abc"])
async def test_P2_half_a_frame_and_then_the_end(hosted, dialect, octets):
    await fails_alone(await hosted(dialect, f"question(); raw({octets!r}); os._exit(9)"), "exited with status 9")


@pytest.fixture
def half(hosted, tmp_path):
    """Plugins that end while they replace the message: by their file, by an edit, by their output."""

    async def make(way, wish):
        if way == "mailenable":
            script = "ask = question(); os.truncate(ask[7], 60); os._exit(0)"
            return await hosted(way, script, wishes=[wish])
        if way == "python":
            file = tmp_path / "half.py"
            file.write_text(
                "import os\nfrom gatepost import on\n\n@on('message')\nasync def hook(event):\n"
                "    await event.message.replace(b'half of it\\r\\n' * 9000)\n    os._exit(9)\n"
            )
            return await load_isolated(file, wishes=[wish], backoff=Backoff(0.02, 0.5), scratch=tmp_path)
        file = tmp_path / "half.sh"
        file.write_text("#!/bin/sh\nhead -c 60\nkill -KILL $$\n")
        file.chmod(0o755)
        return await load_program(str(file), wishes=[wish], scratch=tmp_path)

    return make


@pytest.mark.parametrize("on_failure", ["tempfail", "proceed"])
@pytest.mark.parametrize("way", ["mailenable", "python", "program"])
async def test_P3_the_end_in_the_middle_of_replacing_a_body(half, way, on_failure):
    async with Rig([await half(way, Wish(stages=("message",), on_failure=on_failure))]) as rig:
        heard = await mail(await begun(rig))
        assert heard[-1] == (ACCEPTED if on_failure == "proceed" else FAILED)
        assert [content.endswith(CONTENT) for content in await stored(rig)] == [True] * (on_failure == "proceed")
        [(_, _, error)] = rig.records.errors
        assert type(error) is (ProgramFailed if way == "program" else HostDown)


# ── P4, P8: what is no reply, and what is no refusal ───────────────────────────────────────────────────────────────

CODES = (
    b"", b"5", b"55", b"5x0 no", b"550", b"550-", b"5500 no", b"-550 no", b"+50 no", b"0550 no", b" 550 5.7.1 no",
    b"550 5.7", b"550 5.7.1", b"550 4.7.1 no", b"550 2.0.0 no", b"550 5.7.1000 no", b"600 no", b"999 no", b"000 no",
    b"099 no", b"550\tno", b"550 no\0yes", b"550 \xff\xfe\x80", "٥٥٠ no".encode(), "５５０ no".encode(),
    b"550 \x1b[31m\x07", b"%s%s%n%n%s", b"550 %s%n", b"550 " + b"x" * 9000, b"x" * 100_000, b"\r\n", b"\r\n\r\n550 no",
    b"550 no\r\n250 2.0.0 yes", b"550-no\r\n550", b"550-no\r\n551 no", b"550 no\r\n.\r\nQUIT\r\n", b"550 no\rRSET\r",
)  # fmt: skip
ONE_REPLY = re.compile(
    r"(?:(([45])\d\d)-\2\.\d{1,3}\.\d{1,3} [^\x00-\x1f\x7f]*\n)*[45]\d\d [45]\.\d{1,3}\.\d{1,3} [^\x00-\x1f\x7f]+"
)
NUMBERED = """
texts = {texts!r}
while True:
    ask = question()
    shown = ask[5].get("rcpt") or ask[5]["configuration"].rpartition(b"<recipient>")[2]
    number = int(re.search(rb"v([0-9]+)@", shown)[1])
    answer(ask, {returned}, texts[number])
"""


async def numbered(plugin, count):
    """The reply to each numbered recipient, and the session's own to what follows it."""
    async with Rig([plugin]) as rig:
        client = await begun(rig)
        for number in range(count):
            assert told(await client.command("MAIL FROM:<a@b.example>")) == SENDER_OK
            heard = await client.command(f"RCPT TO:<v{number}@example.org>")
            assert (await client.command("RSET")).startswith("250 2.0.0")
            yield number, heard
        assert (await client.command("QUIT")).startswith("221")
        assert await client.reply() == ""


async def test_P4_what_is_no_reply_code_is_one_on_the_wire(hosted, dialect):
    script = NUMBERED.format(texts=CODES, returned=0 if dialect == "mailenable" else 1)
    plugin = await hosted(dialect, script, wishes=[Wish(stages=("recipient",))])
    async for number, heard in numbered(plugin, len(CODES)):
        assert ONE_REPLY.fullmatch(heard), (CODES[number], heard)
        assert all(line[0] == line[4] for line in heard.split("\n")), (CODES[number], heard)
        assert all(len(line.encode()) <= 510 for line in heard.split("\n")), CODES[number]


async def test_P4_a_success_keeps_the_houses_code(hosted):
    plugin = await hosted("mailenable", NUMBERED.format(texts=CODES, returned=1), wishes=[Wish(stages=("recipient",))])
    async for number, heard in numbered(plugin, len(CODES)):
        text = CODES[number].lstrip()
        contradicts = re.match(rb"[45]\d\d(?:[ \t\r\n-]|$)", text.partition(b"\0")[0]) is not None
        if contradicts:
            assert told(heard) == FAILED, CODES[number]
        else:
            assert re.fullmatch(r"250 2\.1\.5 [^\x00-\x1f\x7f]+", heard), (CODES[number], heard)


MEANT = {
    "mailenable": {
        b"250 2.1.5 fine": "550 5.7.1 rejected by plugin",
        b"354 go on": "550 5.7.1 rejected by plugin",
        b"999 garbage": "550 5.7.1 rejected by plugin",
        b"451 4.7.1 later": "451 4.7.1 later",
    },
    "indimail": {
        b"250 2.1.5 fine": "550 5.7.1 2.1.5 fine",
        b"354 go on": "550 5.7.1 go on",
        b"999 garbage": "550 5.7.1 999 garbage",
        b"451 4.7.1 later": "451 4.7.1 later",
    },
}


async def test_P8_a_refusal_is_never_said_as_a_success(hosted, dialect):
    texts = tuple(MEANT[dialect])
    script = NUMBERED.format(texts=texts, returned=0 if dialect == "mailenable" else 1)
    plugin = await hosted(dialect, script, wishes=[Wish(stages=("recipient",))])
    heard = {texts[number]: told(reply) async for number, reply in numbered(plugin, len(texts))}
    assert heard == MEANT[dialect]


async def test_P8_421_closes_and_nothing_is_stored(hosted, dialect):
    returned = 0 if dialect == "mailenable" else 1
    plugin = await hosted(dialect, f"while True: answer(question(), {returned}, b'421 4.7.0 bye')")
    async with Rig([plugin]) as rig:
        client = await begun(rig)
        await client.command("MAIL FROM:<a@b.example>")
        client.send(b"RCPT TO:<bad@example.org>\r\nRCPT TO:<ann@example.org>\r\nDATA\r\n")
        assert told(await client.reply()) == "421 4.7.0 bye"
        assert await client.reply() == ""
        assert await stored(rig) == []


# ── P5 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_P5_a_flood_of_log_lines_is_rationed_and_harms_nobody(hosted, dialect, caplog):
    caplog.set_level(logging.DEBUG)
    script = """
        ask = question()
        for number in range(20000):
            say("log", "warning", f"line {number} \\x1b[31m \\r\\n forged " + "x" * 500)
        os.write(2, b"on standard error too\\n" * 50000)
        answer(ask)
        while True: answer(question())
    """
    plugin = await hosted(dialect, script)
    began = time.monotonic()
    async with Rig([plugin]) as rig:
        bad, good = await begun(rig), await begun(rig)
        heard = await asyncio.gather(mail(bad, "bad@example.org"), *(mail(good) for _ in range(1)))
        assert [one[-1] for one in heard] == [ACCEPTED, ACCEPTED]
    allowed = voice.BURST + voice.PER_SECOND * (time.monotonic() - began) + 20
    lines = [record.getMessage() for record in caplog.records if record.name == f"gatepost.plugins.{plugin.name}"]
    assert voice.BURST <= len(lines) <= allowed
    assert all(line.isprintable() and len(line) <= voice.LONGEST + 10 for line in lines)


# ── P6 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

SLOW = """
    while True:
        ask = question()
        open({asked!r}, "a").write("x")
        while not os.path.exists({go!r}): time.sleep(0.005)
        answer(ask)
"""


@pytest.fixture
def slow(hosted, tmp_path):
    """A plugin that is asked at `stage` and thinks until `go`; when it is asked, `asked` is there."""
    asked, go = tmp_path / "asked", tmp_path / "go"

    async def make(dialect, stage):
        script = SLOW.format(asked=str(asked), go=str(go))
        return await hosted(dialect, script, wishes=[Wish(stages=(stage,))])

    async def is_asked():
        while not asked.exists():
            await asyncio.sleep(0.005)

    make.go, make.is_asked = go, is_asked
    return make


async def test_P6_a_client_cannot_run_ahead_of_a_slow_plugin(slow, dialect):
    async with Rig([await slow(dialect, "recipient")]) as rig:
        client = await begun(rig)
        client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<ann@example.org>\r\nNOOP\r\nRSET\r\nVRFY x\r\nQUIT\r\n")
        await slow.is_asked()
        waiting = asyncio.create_task(replies(client))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert told(await mail_without(rig)) == SENDER_OK  # another session goes on meanwhile
        slow.go.touch()
        first, second, *others = await waiting
        assert [told(first), told(second)] == [SENDER_OK, RECIPIENT_OK]
        assert [reply[:3] for reply in others] == ["250", "250", "252", "221"]


async def replies(client):
    """All of them, until the session closes."""
    heard = []
    while reply := await client.reply():
        heard.append(reply)
    return heard


async def mail_without(rig):
    client = await begun(rig)
    return await client.command("MAIL FROM:<a@b.example>")


async def test_P6_who_goes_while_a_plugin_thinks_has_sent_nothing(slow, dialect):
    async with Rig([await slow(dialect, "message")]) as rig:
        client = await begun(rig)
        for line in ("MAIL FROM:<a@b.example>", "RCPT TO:<ann@example.org>", "DATA"):
            await client.command(line)
        client.send(CONTENT + b".\r\n")
        await slow.is_asked()
        client.line.lose()
        await rig.settled()
        slow.go.touch()  # an answer for nobody
        assert (await mail(await begun(rig)))[-1] == ACCEPTED
        assert len(await stored(rig)) == 1


# ── P7 ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

EDITS = {
    "indices out of reach": 'for at in (10**9, -10**9, 0, -1, 2**62): h.add("X-At", str(at), at=at)',
    "an existing name in another case": 'h.add("SUBJECT", "two"); h.add("x-old", "three", at=0)',
    "adding, then deleting, then adding": 'h.add("X-New", "1"); event.delete_header("X-New"); h.add("X-New", "2")',
    "deleting twice": 'event.delete_header("X-Old"); event.delete_header("x-OLD"); event.delete_header("X-None")',
    "headers after the body": 'await event.message.replace(b"other\\r\\n"); h.add("X-After", "1", at=0)',
    "the body after headers, twice": (
        'h.add("X-A", "1"); await event.message.replace(b"one\\r\\n"); await event.message.replace(b"two\\r\\n")'
    ),
}


@pytest.mark.parametrize("name", EDITS)
async def test_P7_modifications_in_any_order_mean_the_same_in_a_process_of_its_own(tmp_path, name):
    file = tmp_path / "edits_in_any_order.py"
    head = "from gatepost import on\n\n@on('message')\nasync def hook(event):\n    h = event.message.headers\n"
    file.write_text(f"{head}    {EDITS[name]}\n")
    contents = []
    for plugin in (load(file), await load_isolated(file, scratch=tmp_path)):
        async with Rig([plugin]) as rig:
            assert (await mail(await begun(rig)))[-1] == ACCEPTED
            assert rig.records.errors == []
            [content] = await stored(rig)
        head, _, body = content.partition(b"\r\n\r\n")
        assert all(re.match(rb"[!-9;-~]+:|[ \t]", line) for line in head.split(b"\r\n"))
        assert (body == CONTENT.partition(b"\r\n\r\n")[2]) == ("body" not in name)
        contents.append(re.sub(rb"Received: (?:.*\r\n)(?:[ \t].*\r\n)*", b"", content))
    assert contents[0] == contents[1] != CONTENT
