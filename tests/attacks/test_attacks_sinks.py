"""Attacks by event sinks, on whole sessions: what they say, what they do to a message, what they take in the house's
place. The same by a class in Python and by a COM class; see attacks.md, I1, P8, S1, S4, S5.
"""

from __future__ import annotations

import asyncio
import pathlib
import re
import resource
import subprocess

import pytest

from gatepost.hooks import stages
from gatepost.hooks.transaction import Transaction
from gatepost.model import AddRecipient, Path, Recipient, RemoveRecipient, Split, Ticket
from gatepost.plugins.host import Backoff
from gatepost.plugins.loaded import Wish
from gatepost.plugins.sink import (
    EXPE_BLOB_DONE,
    EXPE_BLOB_READY,
    EXPE_COMPLETE_FAILURE,
    EXPE_DROP_SESSION,
    EXPE_REPEAT_COMMAND,
    EXPE_TRANSIENT_FAILURE,
    EXPE_UNHANDLED,
    S_FALSE,
    S_OK,
    load_sink,
)
from gatepost.plugins.sink.constants import IMMPID_MP
from gatepost.serving.house import Gate, OpenTo
from gatepost.testing.rig import Rig
from programs import program
from unit.delivery.delivery_plugins import ANN, letter
from unit.plugins_sink.sink_outbound_rig import sent, sink

HERE = pathlib.Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
OURS = (Gate("*@example.org", OpenTo.ANYONE),)
MANY = 100_000
GIGABYTE = 1 << 30
MIB = 1 << 20
FAILED = "451 4.3.0 a check couldn't be made, try again later"
LINE = re.compile(rb"[2-5][0-9][0-9][ -][\x20-\x7e]*\r\n")


class Attack:
    """In Python. What it says to RCPT TO:<say@…> is `says`: HRESULT, status, code, response."""

    says: tuple[int, int, int, bytes] = (S_OK, EXPE_UNHANDLED, 0, b"")

    def IsCacheable(self):
        return S_OK

    def OnSmtpInCommand(self, server, session, message, context):
        line = context.QueryCommand()
        if line.startswith("RCPT TO:<say@"):
            hresult, status, code, response = self.says
            context.SetResponse(response)
            if status != EXPE_UNHANDLED:
                context.SetCommandStatus(status)
            if code:
                context.SetSmtpStatusCode(code)
            return hresult
        if line == "XENDLESS":
            context.SetResponse("354 tell me")
            context.SetCallback(self)
            context.SetCommandStatus(EXPE_BLOB_READY)
            return S_FALSE
        return S_OK

    def OnSmtpInCallback(self, server, session, message, context):
        context.SetCommandStatus(EXPE_BLOB_READY)

    def OnMessageSubmission(self, message, notify, context):
        match message.ReadContent(0, 2000).partition(b"X-Do: ")[2].partition(b"\r\n")[0]:
            case b"write far away":
                message.WriteContent(1 << 40, b"x" * 200)
            case b"grow":
                message.SetContentSize(1 << 40)
            case b"many recipients":
                self.write_list(message, [f"list-{number}@example.org" for number in range(MANY)])
            case b"nobody":
                self.write_list(message, [])
            case b"CRLF in a recipient":
                self.write_list(message, ["list-0@example.org", "eve@example.org>\r\nRCPT TO:<mallory@example.org"])
            case b"CRLF in the sender":
                message.PutStringA(IMMPID_MP.SENDER_ADDRESS_SMTP, "a@b.example>\r\nDATA\r\nx")
            case b"a gigabyte":
                message.PutProperty(0x8000, bytes(GIGABYTE))
        return S_OK

    @staticmethod
    def write_list(message, addresses):
        new = message.recipients.AllocNewList()
        for address in addresses:
            new.AddPrimary(address)
        message.recipients.WriteList(new)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    output = tmp_path_factory.mktemp("attacking") / "attacking_sink.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
    subprocess.run([program("cc"), *flags, str(HERE / "attacking_sink.c"), "-o", str(output)], check=True)
    return output


@pytest.fixture(params=["python", pytest.param("com", marks=pytest.mark.needs("cc"))])
def attacker(request, tmp_path):
    """Called with what is said, and words for the loader: a sink of this kind."""

    async def make(says=Attack.says, **words):
        if request.param == "python":
            return await load_sink(type("Attacking", (Attack,), {"says": says}), **words)
        hresult, status, code, response = says
        said = tmp_path / "said"
        said.write_bytes(b"%d %d %d\n" % (hresult, status, code) + response)
        more = {"env": {"GATEPOST_ATTACK": str(said)}, "backoff": Backoff(0.02, 0.5), "grace_s": 0.2}
        return await load_sink(request.getfixturevalue("library"), scratch=tmp_path, **more, **words)

    make.kind = request.param
    return make


async def begun(rig):
    client = rig.connect()
    await client.reply()
    await client.command("EHLO client.example")
    return client


async def talk(rig, octets):
    """Everything that is heard to these octets, and the end of them."""
    client = await begun(rig)
    client.send(octets)
    client.line.end_of_file()
    replies = []
    while reply := await client.reply():
        replies.append(reply)
    await rig.settled()
    return replies


async def stored(rig):
    """The recipients and the content of every message that was accepted."""
    entries = await rig.spool.entries(limit=1000)
    return [(sorted(map(str, one.envelope.recipients)), one.content.read()) for one in entries]


# ── what is said: I1, P8 ───────────────────────────────────────────────────────────────────────────────────────────

SAID = {
    "CRLF": b"550 no\r\n250 and yes\r\n354 go",
    "bare CR and LF": b"550 no\r250 yes\n250 yes",
    "NUL": b"550 no\0\r\n250 yes\0",
    "escapes": b"550 \x1b[2Jno\x07\x08\x7f",
    "8 bit": "550 nein, für Sie nicht \u2028 250 ok".encode(),
    "no UTF-8": b"550 \xff\xfe\xc0\x80 no",
    "2xx for a refusal": b"250 2.1.5 with pleasure",
    "3xx for a refusal": b"354 go on",
    "421": b"421 4.7.0 closing",
    "garbage codes": b"999 x\r\n000 y\r\n1 z\r\n55 0\r\n+550 -250",
    "a code alone": b"550",
    "other codes": b"550-no\r\n250 yes\r\n451-later",
    "64 KiB": b"550 " + b"x" * (64 * 1024 - 4),
    "more than 64 KiB": b"550 " + b"x" * 100_000,
    "10,000 lines": b"".join(b"550-l%d\r\n" % number for number in range(7_000)) + b"550 end",
    "empty lines": b"\r\n" * 3_000,
    "nothing": b"",
}
WAYS = {
    "refused": (S_FALSE, EXPE_COMPLETE_FAILURE, 0),
    "put off": (S_FALSE, EXPE_TRANSIENT_FAILURE, 0),
    "failed, and passed on": (S_OK, EXPE_COMPLETE_FAILURE, 0),
    "a code that is none": (S_FALSE, EXPE_COMPLETE_FAILURE, 0xFFFFFFFF),
    "consumed": (S_FALSE, EXPE_UNHANDLED, 0),
}


@pytest.mark.parametrize("priority", [24575, 30000], ids=["before", "after"])
@pytest.mark.parametrize("said", SAID)
async def test_whatever_a_sink_says_is_one_reply(attacker, said, priority):
    """Of bounded length, in ASCII or as UTF-8, and the next command hears its own; only the house takes recipients."""
    for way, (hresult, status, code) in WAYS.items():
        wishes = [Wish(stages=("command",), rule="rcpt", priority=priority)]
        async with Rig([await attacker((hresult, status, code, SAID[said]), wishes=wishes)], gates=OURS) as rig:
            client = await begun(rig)
            await client.command("MAIL FROM:<a@b.example>")
            for line, begins in (("RCPT TO:<say@elsewhere.example>", "2345"), ("NOOP", "2"), ("DATA", "5")):
                client.send(line.encode() + b"\r\n")
                heard = await one_reply(client)
                assert heard[:1].decode() in begins, (way, line, heard[:200])
                if b"421" in heard[:3]:
                    break
            assert await stored(rig) == []


async def one_reply(client):
    """The octets of a whole reply, each line checked; nothing may come behind it."""
    heard = b""
    while not re.search(rb"(?:\A|\n)[0-9]{3} [^\n]*\n\Z", heard):
        more = await client.line.heard()
        assert more, heard[:200]
        heard += more
    lines = heard.splitlines(keepends=True)
    assert len(lines) <= 30
    for line in lines:
        line.decode()
        assert len(line) <= 512
        assert LINE.fullmatch(re.sub(rb"[\x80-\xff]", b"?", line)), line
        assert line[:3] == heard[:3]
    assert b" " not in {line[3:4] for line in lines[:-1]}
    return heard


# ── what is done to a message ──────────────────────────────────────────────────────────────────────────────────────

KEEPS = {"python": FAILED, "com": "250 2.0.0 accepted"}
"""In Python what can't be done is an exception; the C author doesn't look at the HRESULT."""
DONE = {
    "write far away": KEEPS,
    "grow": KEEPS,
    "many recipients": {"python": FAILED, "com": "250 2.0.0 accepted"},
    "nobody": None,
    "CRLF in a recipient": {"python": FAILED, "com": FAILED},
    "CRLF in the sender": {"python": FAILED, "com": FAILED},
    "a gigabyte": KEEPS,
}


@pytest.mark.parametrize("word", DONE)
async def test_whatever_a_sink_does_to_a_message(attacker, word, tmp_path):
    """It fails, or is kept as it was; neither this process nor its files grow, and the next message passes."""
    content = f"From: a@b.example\r\nX-Do: {word}\r\n\r\n{'a line of text' * 4}\r\n".encode()
    async with Rig([await attacker(wishes=[Wish(stages=("message",))])], gates=OURS) as rig:
        client = await begun(rig)
        before = resident()
        reply = await mail(client, content)
        grown = resident() - before
        found = await stored(rig)
        other = await mail(client, content.replace(b"X-Do", b"X-No"))
        assert other.startswith("250 2.0.0 accepted")
        assert len(await stored(rig)) == len(found) + 1
    if attacker.kind == "com":
        assert grown < 100 * MIB  # in Python the gigabyte is the sink's own
    if word == "nobody":
        assert found == []
        assert reply[0] in "245"
    else:
        wanted = DONE[word][attacker.kind]
        assert reply.startswith(wanted)
        if reply[0] == "2":
            [(recipients, kept)] = found
            assert kept.endswith(content)
            assert recipients == ["ann@example.org"] or len(recipients) == 10_000
        else:
            assert found == []


async def mail(client, content):
    for line in ("MAIL FROM:<a@b.example>", "RCPT TO:<ann@example.org>", "DATA"):
        assert (await client.command(line))[0] in "23"
    return await client.content(content)


def resident():
    """The most octets that this process has ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ── lines that are taken ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_callback_that_never_ends(attacker):
    """It is given so many lines and no more, others are served meanwhile, and the session goes on."""
    wishes = [Wish(stages=("command",), rule="xendless", timeout="20s")]
    async with Rig([await attacker(wishes=wishes)]) as rig:
        client, other = await begun(rig), await begun(rig)
        assert await client.command("XENDLESS") == "354 tell me"
        client.send(b"more\r\n" * 10_001)
        answers = asyncio.ensure_future(client.reply())
        for _ in range(5):
            assert (await other.command("NOOP")).startswith("250")
        heard = await answers
        assert heard[0] in "245"
        while not heard.startswith("221"):
            client.send(b"QUIT\r\n")
            heard = await client.reply()
            assert heard


class Taking:
    """Takes what follows the command `verb` up to a dot, and says that it is done."""

    verb = ""

    def __init__(self):
        self.taken = []

    def OnSmtpInCommand(self, server, session, message, context):
        if context.QueryCommandKeyword().upper() != self.verb:
            return S_OK
        context.SetResponse("354 tell me")
        context.SetCallback(self)
        context.SetCommandStatus(EXPE_BLOB_READY)
        return S_FALSE

    def OnSmtpInCallback(self, server, session, message, context):
        blob = context.QueryBlob()
        self.heard.append(blob)
        context.SetCommandStatus(EXPE_BLOB_READY)
        if blob == b".\r\n":
            context.SetResponse("250 done")
            context.SetCommandStatus(EXPE_BLOB_DONE)


HIDDEN = b"Subject: x\r\n\r\nRSET\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nhidden\r\n.\r\n"
BEGUN = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<ann@example.org>\r\n"
LINES = {
    "DATA": BEGUN + b"DATA\r\n" + HIDDEN,
    "BDAT": BEGUN + b"BDAT %d LAST\r\n" % len(HIDDEN) + HIDDEN,
    "AUTH": b"AUTH PLAIN\r\n" + HIDDEN,
    "STARTTLS": b"STARTTLS\r\n" + HIDDEN,
    "QUIT": b"QUIT\r\n" + HIDDEN,
}


@pytest.mark.parametrize("verb", LINES)
async def test_what_follows_a_command_that_a_sink_has_taken(verb):
    """Is the sink's, up to the line where it is done; none of it is a command, and none of it is mail."""
    heard = []
    taking = await load_sink(type("Takes", (Taking,), {"verb": verb, "heard": heard}))
    async with Rig([taking], gates=OURS) as rig:
        replies = await talk(rig, LINES[verb] + b"NOOP\r\nQUIT\r\n")
        assert await stored(rig) == []
    if verb == "QUIT":  # which nothing takes the place of
        assert heard == []
        assert [reply[:3] for reply in replies] == ["221"]
        return
    assert b"".join(heard) == HIDDEN
    before = ["250"] * LINES[verb].count(b"\r\n", 0, LINES[verb].find(verb.encode()))
    assert [reply[:3] for reply in replies] == [*before, "354", "250", "250", "221"]


# ── the house's part is nobody else's: S1, S4, S5 ──────────────────────────────────────────────────────────────────

SESSIONS = {
    "HELO": b"HELO x.example\r\n",
    "EHLO": b"EHLO x.example\r\n",
    "MAIL": b"MAIL FROM:<a@b.example>\r\n",
    "RCPT": b"MAIL FROM:<a@b.example>\r\nRCPT TO:<eve@elsewhere.example>\r\n",
    "RSET": BEGUN + b"RSET\r\n",
    "AUTH": b"AUTH PLAIN AGFubgBwYXNz\r\n",
    "STARTTLS": b"STARTTLS\r\n",
    "VRFY": b"VRFY eve@elsewhere.example\r\n",
    "XANY": b"XANY\r\n",
}
AFTER = b"RCPT TO:<eve@elsewhere.example>\r\nDATA\r\nNOOP\r\nQUIT\r\n"
"""What is tried then: an open relay would say 354."""


def saying(verb, text, hresult, status=EXPE_UNHANDLED):
    def OnSmtpInCommand(self, server, session, message, context):
        if context.QueryCommandKeyword().upper() != verb:
            return S_OK
        context.SetResponse(text)
        context.SetCommandStatus(status)
        return hresult

    return type("Says", (), {"OnSmtpInCommand": OnSmtpInCommand, "IsCacheable": lambda self: S_OK})


@pytest.mark.parametrize("priority", [24575, 30000], ids=["before", "after"])
@pytest.mark.parametrize("verb", SESSIONS)
async def test_a_250_of_a_sink_grants_nothing(verb, priority):
    """To a stranger's recipient, to MAIL, to AUTH, to EHLO …: the house knows what has happened."""
    for hresult in (S_FALSE, S_OK):
        says = await load_sink(saying(verb, "250 sure\r\n", hresult), wishes=[Wish(priority=priority)])
        async with Rig([says], gates=OURS) as rig:
            replies = await talk(rig, SESSIONS[verb] + AFTER)
            assert "354" not in {reply[:3] for reply in replies}
            assert not any(reply.startswith("235") for reply in replies)
            assert await stored(rig) == []


@pytest.mark.parametrize("priority", [24575, 30000], ids=["before", "after"])
@pytest.mark.parametrize("hresult", [S_FALSE, S_OK])
async def test_a_stranger_beside_a_recipient_of_ours(hresult, priority):
    """Both hear 250 or not; the mail is for who was really taken."""
    says = await load_sink(
        saying("RCPT", "250 sure\r\n", hresult), wishes=[Wish(rule="rcpt to=eve@*", priority=priority)]
    )
    async with Rig([says], gates=OURS) as rig:
        content = b"Subject: x\r\n\r\nhello\r\n.\r\n"
        stranger = b"RCPT TO:<eve@elsewhere.example>\r\n"
        replies = await talk(rig, BEGUN + stranger + b"DATA\r\n")
        assert replies[-1].startswith(("354", "503"))
        client = await begun(rig)
        for line in (b"MAIL FROM:<a@b.example>", stranger[:-2], b"RCPT TO:<ann@example.org>", b"DATA"):
            heard = await client.command(line.decode())
        assert heard.startswith("354")
        assert (await client.content(content[:-3])).startswith("250")
        [(recipients, _)] = await stored(rig)
        assert recipients == ["ann@example.org"]


REFUSED = {
    "EHLO": ("EHLO x.example",),
    "MAIL": ("EHLO x.example", "MAIL FROM:<bob@b.example>"),
    "RCPT": ("EHLO x.example", "MAIL FROM:<a@b.example>", "RCPT TO:<bob@example.org>"),
    "DATA": ("EHLO x.example", "MAIL FROM:<a@b.example>", "RCPT TO:<ann@example.org>", "DATA"),
}


@pytest.mark.parametrize("status", [EXPE_COMPLETE_FAILURE, EXPE_TRANSIENT_FAILURE])
@pytest.mark.parametrize("priority", [24575, 30000], ids=["before", "after"])
@pytest.mark.parametrize("verb", REFUSED)
async def test_who_was_refused_by_a_sink_is_refused(verb, priority, status):
    """The rest of his lines goes nowhere, and the next message is judged anew (S4)."""
    refuses = saying(verb, "", S_FALSE, status)
    when = {"EHLO": "ehlo", "MAIL": "mail from=bob@*", "RCPT": "rcpt to=bob@*", "DATA": "data"}[verb]
    async with Rig([await load_sink(refuses, wishes=[Wish(priority=priority, rule=when)])], gates=OURS) as rig:
        client = rig.connect()
        await client.reply()
        heard = [await client.command(line) for line in REFUSED[verb]]
        assert [reply[0] for reply in heard[:-1]] == ["2"] * (len(heard) - 1)
        assert heard[-1][0] == ("5" if status == EXPE_COMPLETE_FAILURE else "4")
        if verb != "DATA":
            assert (await client.command("DATA")).startswith(("503", "554"))
            await client.command("RSET")
            await client.command("HELO x.example")
            assert (await mail(client, b"Subject: x\r\n\r\nhello\r\n")).startswith("250")
        assert len(await stored(rig)) == (verb != "DATA")


@pytest.mark.parametrize("hresult", [S_OK, S_FALSE])
@pytest.mark.parametrize("priority", [24575, 30000], ids=["before", "after"])
async def test_a_sink_that_drops_the_session_takes_nothing_with_it(priority, hresult):
    drops = saying("RCPT", "", hresult, EXPE_DROP_SESSION)
    wishes = [Wish(priority=priority, rule="rcpt to=bob@*")]
    async with Rig([await load_sink(drops, wishes=wishes)], gates=OURS) as rig:
        replies = await talk(rig, BEGUN + b"RCPT TO:<bob@example.org>\r\nDATA\r\nNOOP\r\n")
        assert len(replies) == 3
        assert await stored(rig) == []


@pytest.mark.parametrize("line", ["EHLO x.example", "NOOP", "MAIL FROM:<a@b.example>", "DATA"])
async def test_a_sink_after_the_house_drops_the_session_at_any_command(line):
    """And says so: nobody is told 250 who is sent away with a 421."""
    drops = saying(line.partition(" ")[0], "421 go away", S_FALSE, EXPE_DROP_SESSION)
    rule = line.partition(" ")[0]
    async with Rig([await load_sink(drops, wishes=[Wish(priority=30000, rule=rule)])], gates=OURS) as rig:
        client = rig.connect()
        await client.reply()
        if not line.startswith("EHLO"):
            await client.command("HELO x.example")
        if line == "DATA":
            await client.command("MAIL FROM:<a@b.example>")
            await client.command("RCPT TO:<ann@example.org>")
        assert (await client.command(line)).startswith("421")
        assert await client.command("NOOP") == ""
        assert await stored(rig) == []


async def test_a_250_to_the_last_chunk_is_said_by_the_house_alone():
    """The octets have gone nowhere, so a sink that stands for the house there can't say that they are kept."""
    for text in ("250 kept\r\n", ""):
        async with Rig([await load_sink(saying("BDAT", text, S_FALSE))], gates=OURS) as rig:
            replies = await talk(rig, LINES["BDAT"] + b"QUIT\r\n")
            assert [reply[:3] for reply in replies] == ["250", "250", "451", "221"]
            assert await stored(rig) == []


# ── the way out ────────────────────────────────────────────────────────────────────────────────────────────────────

TWO_LINES = (
    "RCPT TO:<ann@d.example>\r\nRCPT TO:<eve@d.example>",
    "RCPT TO:<ann@d.example>\nDATA",
    "RCPT TO:<ann@d.example>\rDATA",
    "RCPT TO:<ann@d.example>\0DATA",
    "\r\n",
    "RCPT TO:<ann@d.example> " + "x" * 70_000,
)


@pytest.mark.parametrize("status", [EXPE_UNHANDLED, EXPE_REPEAT_COMMAND])
@pytest.mark.parametrize("hresult", [S_OK, S_FALSE])
@pytest.mark.parametrize("line", TWO_LINES, ids=range(len(TWO_LINES)))
async def test_a_command_on_its_way_out_is_one_line(line, hresult, status):
    """The next server hears nothing of it; the message stays, to be tried again."""

    def two_lines(context, call):
        context.command = line
        context.command_status = status
        return hresult

    found = await sent(sink(stages.OutRecipient, two_lines), what=letter(ANN))
    assert not any("eve@" in one or len(one) > 1000 for one in found.lines)
    assert found.lines.count("DATA") <= 1
    assert found.codes != [250] or "RCPT TO:<ann@d.example>" in found.lines


# ── many ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Counting(Recipient):
    """Counts how often it is compared."""

    compared = 0

    def __eq__(self, other):
        Counting.compared += 1
        return super().__eq__(other)

    __hash__ = Recipient.__hash__


def test_a_list_of_thousands_is_no_work_for_its_square():
    """As a sink's WriteList makes it: everybody compared with everybody would keep the whole worker waiting."""
    Counting.compared = 0
    before = [Counting(Path.parse(f"old-{number}@example.org")) for number in range(2_000)]
    after = [Counting(Path.parse(f"new-{number}@example.org")) for number in range(2_000)]
    transaction = Transaction(Ticket("0T4Q00-000001", 1), Path.parse("a@b.example"), {}, list(before))
    transaction.apply([*map(RemoveRecipient, before), *map(AddRecipient, after), *map(AddRecipient, after)])
    transaction.apply([Split(tuple(after[:1000]), ())])
    assert transaction.recipients == after
    assert [len(group) for group, _ in transaction.groups()] == [1_000, 1_000]
    assert Counting.compared < 50_000
