"""COM sinks from the house's side: a stand-in for the host says what a real one could, and worse; what is asked of it,
and what its answers change.
"""

import asyncio
import hashlib
import itertools
import os
import sys
import time
import tracemalloc
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from gatepost.hooks import stages
from gatepost.hooks.outbound import OutQuit
from gatepost.hooks.records import RecordError
from gatepost.hooks.session import OutgoingSession, ServerView, Session
from gatepost.hooks.transaction import Transaction
from gatepost.model import Bytes, Peer, Reply, Ticket
from gatepost.model import Path as MailPath
from gatepost.plugins.host import HookFailed, recipes
from gatepost.plugins.loaded import PluginError
from gatepost.plugins.sink.constants import EXPE_UNHANDLED, IMMPID_MP, IMMPID_RP, ServerProperty
from gatepost.plugins.sink.native import load_native
from gatepost.plugins.sink.native_answers import MOST_IN_BAG
from gatepost.plugins.sink.options import SinkOptions
from gatepost.plugins.sink.properties import dword, string
from gatepost.plugins.sink.states import (
    Call,
    InCallback,
    InCommand,
    Message,
    OutCommand,
    ServerResponse,
    Submission,
)
from gatepost.serving.patience import LoopPatience, SystemClock
from gatepost.store.blobs import FileBlob
from unit.plugins_binary.forging import DEFAULT, GLOBAL, forged_elf

X86_64 = 62
CLSID = "{ABCDEF11-2222-3333-4444-555555555555}"
STAND_IN = """
import os, sys, msgspec
sys.stdin = None
def say(*frame):
    data = msgspec.msgpack.encode(frame)
    data = len(data).to_bytes(4, "big") + data
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
assert hear() == ["hello", 1, "sink"] and sys.argv[1] == "sink"
say("hello", 1, "sink")
load = hear()
FACTS = {
    "class": "{ABCDEF11-2222-3333-4444-555555555555}",
    "interfaces": ["ISmtpInCommandSink", "IMailTransportSubmission"],
    "cacheable": True, "takes_properties": True,
}
def loaded(): say("loaded", load[1], FACTS)
def fail(text): say("failed", 0, "LoadError", text)
exec(os.environ.get("LOADED", "loaded()"))
assert hear()[:3] == ["told", "", "open"]
say("ready")
ended = []
while (frame := hear())[0] != "stop":
    if frame[0] == "ended": ended.append(frame[1])
    if frame[0] != "ask": continue
    _, id, session, number, stage, facts, left, path = frame
    def answer(context=None, /, **more): say("answer", id, {"hresult": 0, "context": context or {}} | more, [], {})
    exec(os.environ["ANSWER"])
"""


@pytest.fixture
def library(tmp_path):
    file = tmp_path / "shield.so"
    file.write_bytes(forged_elf(64, "<", [("DllGetClassObject", GLOBAL, DEFAULT, 1)], machine=X86_64))
    return file


@pytest.fixture
async def load(library, tmp_path, monkeypatch):
    """Called with what the stand-in runs at a question, and what `load_native` takes; closes the sinks."""
    host = tmp_path / "stand-in"
    host.write_text(f"#!{sys.executable}\n{STAND_IN}")
    host.chmod(0o755)
    monkeypatch.setattr(recipes, "host_path", lambda target: host)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    made = []

    async def loaded(answer="answer()", loads="loaded()", **more):
        more = {"env": {"ANSWER": answer, "LOADED": loads}, "scratch": scratch, "grace_s": 0.1} | more
        sink = await load_native(more.pop("source", library), **more)
        made.append(sink)
        await sink.open(ServerView("mx.test", SystemClock()))
        return sink

    yield loaded
    for sink in made:
        await sink.close()
    assert list(scratch.iterdir()) == []


def session(token="TOKEN", listener="mx"):
    peer = Peer(ip_address("192.0.2.1"), 5)
    return Session(token, listener, "smtp", peer, ("192.0.2.2", 25), datetime.now(UTC), LoopPatience())


def event(stage=stages.Command, of=None, seconds=10.0):
    turn = stages.Turn({}, time.monotonic() + seconds, time.monotonic)
    transaction = Transaction(Ticket("TOKEN", 1), MailPath.parse("dave@bobo.example"), {})
    return stage(of or session(), ServerView("mx.test", SystemClock()), Reply(250), turn, transaction)


def call(context, message=None, **bags):
    return Call(bags.get("server", {}), bags.get("session", {}), message, context, 1)


TWO = [{IMMPID_RP.ADDRESS_SMTP: string(name)} for name in ("ann@example.org", "bob@example.org")]


def message(content=None):
    return Message({IMMPID_MP.HELO_DOMAIN: string("c.example")}, [dict(one) for one in TWO], content)


# ── questions ──────────────────────────────────────────────────────────────────────────────────────────────────────


CONTEXTS = [
    (
        "OnSmtpInCommand",
        InCommand("EHLO ü", "EHLO", "250 native\r\n", "250 own\r\n", 4, 250, True),
        {
            "command": "EHLO ü".encode(), "keyword": b"EHLO", "native_response": b"250 native\r\n",
            "response": b"250 own\r\n", "command_status": 4, "smtp_status_code": 250, "protocol_error": True,
        },
    ),
    (
        "OnSmtpInCallback",
        InCallback(b"\xff\0blob", "334 go on\r\n", EXPE_UNHANDLED, 334),
        {"blob": b"\xff\0blob", "response": b"334 go on\r\n", "command_status": 0xFFFFFFFF, "smtp_status_code": 334},
    ),
    (
        "OnSmtpOutCommand",
        OutCommand("RCPT TO:<a@b>", "RCPT", "RCPT TO:<a@b>", 3),
        {
            "command": b"RCPT TO:<a@b>", "keyword": b"RCPT", "native_command": b"RCPT TO:<a@b>", "recipient_index": 3,
            "command_status": 0xFFFFFFFF,
        },
    ),
    (
        "OnSmtpServerResponse",
        ServerResponse("QUIT", "QUIT", "221 bye\r\n", 221, 0, True, 5),
        {
            "command": b"QUIT", "keyword": b"QUIT", "response": b"221 bye\r\n", "smtp_status_code": 221,
            "response_status": 0, "pipelined": True, "next_event_state": 5,
        },
    ),
    ("OnMessageSubmission", Submission(), {}),
]  # fmt: skip
AS_IT_WAS = "answer({}facts['context'], 'callback': False, 'blob': None{}) if facts['context'] else answer()".format(
    "{**", "}"
)


@pytest.mark.parametrize(("method", "context", "plain"), CONTEXTS)
async def test_what_a_question_says(method, context, plain, load, tmp_path):
    heard = tmp_path / "heard"
    sink = await load(f"open({str(heard)!r}, 'w').write(repr(frame)); {AS_IT_WAS}")
    bags = {"server": {ServerProperty.INSTANCE: dword(2)}, "session": {0x8000: b"kept"}}
    asked = call(context, message(Bytes(b"Subject: x\r\n\r\nbody\r\n")), **bags)
    asked.instance = 2
    assert await sink.call(method, event(), asked) == 0
    _, _, token, number, stage, facts, left, path = eval(heard.read_text())
    assert (token, number, stage) == ("TOKEN", 1, "command") and 5 < left <= 10
    assert facts == {
        "method": method,
        "instance": 2,
        "server": [[0, dword(2)]],
        "bag": [[0x8000, b"kept"]],
        "context": plain,
        "message": {
            "properties": [[0x100A, b"c.example\0"]],
            "recipients": [[[0x2009, b"ann@example.org\0"]], [[0x2009, b"bob@example.org\0"]]],
            "size": 20,
        },
    }
    assert (path or "").endswith(".eml") == (method == "OnMessageSubmission")  # the only ones that get the content


async def test_there_may_be_no_message(load):
    sink = await load("assert facts['message'] is None and path is None; answer()")
    assert await sink.call("OnMessageSubmission", event(), call(Submission())) == 0


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_field_of_a_command_can_be_changed(load):
    sink = await load(
        "answer({'native_response': b'250 n\\r\\n', 'response': '250 ü\\r\\n'.encode(), 'command_status': 0x80000,"
        " 'smtp_status_code': 550, 'protocol_error': True, 'callback': True}, hresult=1)"
    )
    context = InCommand("EHLO x", "EHLO")
    assert await sink.call("OnSmtpInCommand", event(), call(context)) == 1
    assert context == InCommand("EHLO x", "EHLO", "250 n\r\n", "250 ü\r\n", 0x80000, 550, True, True)


async def test_a_callback_that_another_sink_has_set_stays(load):
    sink = await load("answer({**facts['context'], 'callback': False})")
    context = InCommand("X", "X", callback="another")
    await sink.call("OnSmtpInCommand", event(), call(context))
    assert context.callback == "another"


async def test_every_field_of_a_callback_can_be_changed(load):
    sink = await load("answer({'response': b'250 done\\r\\n', 'command_status': 8, 'smtp_status_code': 250})")
    context = InCallback(b"line")
    await sink.call("OnSmtpInCallback", event(), call(context))
    assert context == InCallback(b"line", "250 done\r\n", 8, 250)


@pytest.mark.parametrize("blob", [None, b"\0\xff"])
async def test_every_field_of_a_command_on_its_way_out_can_be_changed(load, blob):
    sink = await load(f"answer({{'command': b'NOOP', 'command_status': 2, 'blob': {blob!r}}})")
    context = OutCommand("QUIT", "QUIT", "QUIT")
    await sink.call("OnSmtpOutCommand", event(OutQuit), call(context))
    assert context == OutCommand("NOOP", "QUIT", "QUIT", command_status=2, blob=blob)


async def test_every_field_of_a_response_can_be_changed(load):
    sink = await load("answer({'response_status': 0x20000, 'next_event_state': 5})")
    context = ServerResponse("RSET", "RSET", "250 ok\r\n", 250)
    await sink.call("OnSmtpServerResponse", event(), call(context))
    assert context == ServerResponse("RSET", "RSET", "250 ok\r\n", 250, 0x20000, False, 5)


async def test_of_bags_only_what_was_put_changes(load):
    """What others put meanwhile stays."""
    sink = await load("answer(server=[[0x9000, b'new']], bag=[[1, b'one'], [1, b'two']])")
    server, bag = {0: b"first", 0x9000: b"old"}, {2: b"other"}
    asked = call(Submission(), server=server, session=bag)
    waiting = asyncio.create_task(sink.call("OnMessageSubmission", event(), asked))
    await asyncio.sleep(0)
    server[0] = b"meanwhile"
    await waiting
    assert server == {0: b"meanwhile", 0x9000: b"new"} and bag == {2: b"other", 1: b"two"}


async def test_what_a_sink_does_to_a_message(load):
    sink = await load("""
open(path, "ab").write(b"more\\r\\n")
for n in (1, 2): open(f"{path}.fork{n}", "wb").write(b"own %d\\r\\n" % n)
beside = os.path.basename(path)
answer(message={
    "properties": [[0x1014, b"\\2\\0\\0\\0"], [0x8001, os.path.dirname(path).encode()]],
    "recipients": [[1, [[0x200D, b"\\x30\\x08\\0\\0"]]]],
    "list": [[[0x2009, b"carl@example.org\\0"]]],
    "size": 26,
    "forks": [{"recipients": [[[0x2009, b"dora@example.org\\0"]]], "file": f"{beside}.fork{n}"} for n in (1, 2)],
})""")
    passed = message(Bytes(b"Subject: x\r\n\r\nbody\r\n"))
    asking = event()
    assert await sink.call("OnMessageSubmission", asking, call(Submission(), passed)) == 0
    helo = {IMMPID_MP.HELO_DOMAIN: b"c.example\0"}
    folder = passed.properties.pop(0x8001).decode()
    assert os.listdir(folder) == []  # whatever was asked about is gone from there
    assert passed.properties == helo | {IMMPID_MP.MESSAGE_STATUS: dword(2)}
    assert passed.put == {0x1014, 0x8001}
    assert passed.recipients == [TWO[0], TWO[1] | {IMMPID_RP.RECIPIENT_FLAGS: dword(0x830)}]
    assert passed.put_for == {1: {0x200D}}
    assert passed.written_list == [{0x2009: b"carl@example.org\0"}]
    assert passed.rewritten.read() == b"Subject: x\r\n\r\nbody\r\nmore\r\n"
    assert [(fork.recipients, fork.content.read()) for fork in passed.forks] == [
        ([{0x2009: b"dora@example.org\0"}], b"own %d\r\n" % n) for n in (1, 2)
    ]
    assert passed.content.read() == b"Subject: x\r\n\r\nbody\r\n"


async def test_40_megabytes_go_and_come_back_without_being_in_memory(load, tmp_path):
    mebibyte = 1024 * 1024
    sink = await load(f"""
import shutil
shutil.copy(path, path + ".fork")
os.truncate(path, 39 * {mebibyte})
answer(message={{"size": 39 * {mebibyte}, "forks": [{{"recipients": [], "file": os.path.basename(path) + ".fork"}}]}})
""")
    file = tmp_path / "large"
    with file.open("wb") as stream:
        for n in range(40):
            stream.write(bytes([n]) * mebibyte)
    passed = message(FileBlob(file, 40 * mebibyte))
    asking = event()
    tracemalloc.start()
    try:
        await sink.call("OnMessageSubmission", asking, call(Submission(), passed))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * mebibyte
    digest = hashlib.sha256(file.read_bytes()).digest()
    assert hashlib.sha256(passed.forks[0].content.read()).digest() == digest
    assert passed.rewritten.read() == file.read_bytes()[: 39 * mebibyte]
    kept = [passed.rewritten.path, passed.forks[0].content.path]
    passed.rewritten = None
    passed.forks.clear()
    assert all(each.exists() for each in kept)  # the transaction has them
    await asking.transaction.holder.close()
    assert not any(each.exists() for each in kept)


async def test_a_failing_sink_has_changed_nothing(load):
    sink = await load("""
open(path, "w").write("new"); open(path + ".fork", "w").write("own")
answer(hresult=0x80004005, server=[[1, b"x"]], bag=[[1, b"x"]], message={
    "properties": [[0x1014, b"\\2\\0\\0\\0"]],
    "forks": [{"recipients": [], "file": os.path.basename(path) + ".fork"}],
})""")
    passed = message(Bytes(b"old"))
    asked = call(Submission(), passed)
    assert await sink.call("OnMessageSubmission", event(), asked) == 0x80004005
    assert asked == call(Submission(), message(Bytes(b"old")))


async def test_content_that_was_only_looked_at_is_not_rewritten(load):
    sink = await load("open(path).read(); answer(message={})")
    passed = message(Bytes(b"old"))
    await sink.call("OnMessageSubmission", event(), call(Submission(), passed))
    assert passed.rewritten is None and passed.put == set() and passed.written_list is None


IN_COMMAND = "answer({**facts['context'], 'callback': False, **%s})"
NONSENSE = [
    ("answer({})", "missing required field"),
    (IN_COMMAND % "{'command_status': -1}", "command_status"),
    (IN_COMMAND % "{'command_status': 1 << 32}", "command_status"),
    (IN_COMMAND % "{'response': 'text'}", "response"),
    (IN_COMMAND % "{'protocol_error': 1}", "protocol_error"),
    ("answer(facts['context'], hresult=-1)", "hresult"),
    ("answer(facts['context'], hresult='0')", "hresult"),
    ("answer(facts['context'], server={1: 2})", "server"),
    ("answer(facts['context'], bag=[[1]])", "bag"),
    ("answer(facts['context'], bag=[[-1, b'']])", "bag"),
    ("answer(facts['context'], message=[])", "message"),
    ("answer(facts['context'], message={'recipients': [[2, []]]})", "recipient 2 of 2"),
    ("answer(facts['context'], message={'list': [1]})", "list"),
    ("answer(facts['context'], message={'forks': [{'file': 'x'}]})", "forks"),
    ("say('answer', id, {}, [], {})", "missing required field"),
]


@pytest.mark.parametrize(("answer", "why"), NONSENSE)
async def test_what_is_no_answer_is_a_failure_and_changes_nothing(answer, why, load):
    sink = await load(answer)
    asked = call(InCommand("EHLO x", "EHLO"), message())
    with pytest.raises(HookFailed, match=f"^AnswerError: its host answered nonsense: .*{why}"):
        await sink.call("OnSmtpInCommand", event(), asked)
    assert asked == call(InCommand("EHLO x", "EHLO"), message())


async def test_a_message_where_there_was_none_is_nonsense(load):
    sink = await load("answer(message={}, bag=[[1, b'']])")
    asked = call(Submission())
    with pytest.raises(HookFailed, match="a message where there was none"):
        await sink.call("OnMessageSubmission", event(), asked)
    assert asked.session == {}


async def test_a_file_of_another_size_than_said_is_half_written(load):
    sink = await load("open(path, 'w').write('abc'); answer(message={'size': 4})")
    with pytest.raises(HookFailed, match="its file has 3 octets, and it says 4"):
        await sink.call("OnMessageSubmission", event(), call(Submission(), message(Bytes(b"x" * 9))))


@pytest.mark.parametrize("name", ["9999.eml.fork", "../x", "{id}.none", "{id}.link", "{id}.folder", 7])
async def test_forks_that_are_no_files_of_their_question(name, load, tmp_path):
    (tmp_path / "secret").write_text("secret")
    sink = await load(f"""
folder = os.path.dirname(path)
if not os.path.lexists(f"{{folder}}/{{id}}.link"): os.symlink({str(tmp_path / "secret")!r}, f"{{folder}}/{{id}}.link")
os.makedirs(f"{{folder}}/{{id}}.folder", exist_ok=True)
open(f"{{folder}}/9999.eml.fork", "w").close()
name = {name!r}
name = name.format(id=id) if isinstance(name, str) else name
answer(message={{"forks": [{{"recipients": [], "file": name}}]}})""")
    with pytest.raises((RecordError, HookFailed)):
        await sink.call("OnMessageSubmission", event(), call(Submission(), message(Bytes(b"x"))))
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.parametrize("whose", ["server", "bag"])
async def test_a_bag_does_not_grow_without_bounds(whose, load):
    sink = await load(f"answer({whose}=[[facts['context'].get('n', 1), b'x' * {MOST_IN_BAG - 8}]])")
    bag = {}
    key = "server" if whose == "server" else "session"
    await sink.call("OnMessageSubmission", event(), call(Submission(), **{key: bag}))
    await sink.call("OnMessageSubmission", event(), call(Submission(), **{key: bag}))  # the same once more
    bag[2] = b""
    with pytest.raises(HookFailed, match="take more than 64 KiB"):
        await sink.call("OnMessageSubmission", event(), call(Submission(), **{key: bag}))


async def test_who_never_answers_fails_at_its_deadline_and_others_are_asked_again(load):
    """The process is ended, since nobody can call back what runs in it."""
    sink = await load("facts['instance'] == 9 or answer()")
    pid = sink.crew.hosts[0].pid
    hanging = call(Submission())
    hanging.instance = 9
    with pytest.raises(Exception, match="didn't answer a question at command in time"):
        await sink.call("OnMessageSubmission", event(seconds=0.2), hanging)
    assert await sink.call("OnMessageSubmission", event(), call(Submission())) == 0
    assert sink.crew.hosts[0].pid != pid


# ── sessions ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_no_inbound_session_has_an_id_of_its_own(load):
    """One token is that of the inbound session, of what is asked after the 250, and of its ways out."""
    sink = await load("answer(bag=[[1, session.encode()], [2, ','.join(ended).encode()]])")
    inbound, submitted, again = session(), session(listener=""), session(listener="")
    peer = Peer(ip_address("192.0.2.9"), 25)
    outgoing = OutgoingSession("TOKEN", "", "smtp", peer, ("", 0), datetime.now(UTC), LoopPatience())

    async def heard(of):
        asked = call(Submission())
        await sink.call("OnMessageSubmission", event(of=of), asked)
        return asked.session[1].decode(), asked.session[2].decode()

    ids = [(await heard(each))[0] for each in (inbound, submitted, again, outgoing)]
    assert ids[0] == "TOKEN" and len(set(ids)) == 4
    assert [(await heard(each))[0] for each in (inbound, submitted, again, outgoing)] == ids
    await submitted.holder.close()
    assert await heard(inbound) == ("TOKEN", ids[1])
    await inbound.holder.close()
    assert await heard(again) == (ids[2], f"{ids[1]},TOKEN")


# ── loading ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_the_host_is_told(load, library, tmp_path):
    heard = tmp_path / "load"

    class Written(str):
        """As settings give a text, with the place where it stands."""

    properties = {"greeting": Written("hi"), "limit": -5, "strict": True, "share": 0.5}
    sink = await load(
        loads=f"open({str(heard)!r}, 'w').write(repr(load)); loaded()",
        options=SinkOptions(cls=CLSID.lower(), threads=3),
        properties=properties,
    )
    _, _, source, told = eval(heard.read_text())
    assert source == str(library)
    assert told == {
        "threads": 3, "folder": str(library.parent), "class": CLSID.upper(), "create": "factory", "register": False,
        "sink_properties": properties,
    }  # fmt: skip
    assert sink.methods == {"OnSmtpInCommand", "OnMessageSubmission"}
    assert (sink.clsid, sink.is_cacheable) == (CLSID, True)


LOADS = [
    ({"options": SinkOptions(cls="{1234}")}, "loaded()", r'class = "\{1234\}" is no class of a library; write "\{8-4'),
    ({"options": SinkOptions(cls="a b")}, "loaded()", r"or a ProgID"),
    ({"options": SinkOptions(threads=0)}, "loaded()", "threads is from 1 to 256"),
    ({"options": SinkOptions(create="com")}, "loaded()", r'create = "com" is for Windows libraries, and .* leave it'),
    ({"properties": {"list": [1]}}, "loaded()", 'property "list" is a list; a sink reads texts'),
    ({"properties": {"n": 1 << 31}}, "loaded()", 'property "n" = 2147483648 has more than 32 bits'),
    ({"properties": {"n": "a\0b"}}, "loaded()", 'property "n" has a NUL in it'),
    ({"properties": {"": 1}}, "loaded()", "a property's name is a text without NUL, not ''"),
    (
        {"properties": {"n": 1}},
        "FACTS['takes_properties'] = False; loaded()",
        "has no IPersistPropertyBag, so nobody would read its properties; leave them out",
    ),
    ({}, "FACTS['interfaces'] = ['IUnknown']; loaded()", r"no interface of an event sink; there are: ISmtpInCommandS"),
    ({}, "FACTS['interfaces'] = ['ISMTPOnArrival']; loaded()", r"no interface of an event sink"),
    ({}, "FACTS['class'] = 5; loaded()", r"its host answered nonsense: .* about its class"),
    ({}, "fail('0x80040111: the library has no such class')", r"can't be loaded: 0x80040111: the library has no such"),
    (
        {},
        "fail('no object could be made: HRESULT 0x80040154')",
        r"0x80040154; the class isn't .*: register = true does",
    ),
    ({}, "fail('a.dll exports no DllRegisterServer: no')", r'without create = "com" the class factory .* is used$'),
    ({}, "os._exit(3)", r"can't be loaded: .*exited with status 3"),
    ({"windows": recipes.Windows(registry=os.devnull)}, "loaded()", "windows = .* is for DLLs that run under Wine"),
]


@pytest.mark.parametrize(("how", "loads", "why"), LOADS)
async def test_what_cannot_be_loaded_says_why(how, loads, why, load, tmp_path):
    with pytest.raises(PluginError, match=rf'^plugin "shield".*{why}'):
        await load(loads=loads, **how)
    assert list((tmp_path / "scratch").iterdir()) == []


NUMBERS = itertools.count()


def forged(folder, *symbols, machine=X86_64, **more):
    file = folder / f"made{next(NUMBERS)}.so"
    file.write_bytes(forged_elf(64, "<", [(name, GLOBAL, DEFAULT, 1) for name in symbols], machine=machine, **more))
    return file


async def test_a_file_that_cannot_have_a_class(load, tmp_path):
    text = tmp_path / "text.so"
    text.write_text("no library")
    for source, why in {
        tmp_path / "none.so": "there is no file",
        text: "text.so is no library: it is neither an ELF nor a PE file",
        forged(tmp_path): r"has no function DllGetClassObject, .* it exports nothing$",
        forged(tmp_path, "Execute"): r'it exports Execute; it is one for dialect = "mailenable"$',
        forged(tmp_path, "DllGetClassObject", machine=40): r"is for arm, and this machine is x86-64",
    }.items():
        with pytest.raises(PluginError, match=why):
            await load(source=source)


async def test_a_process_that_cannot_begin_again_is_told_when_it_opens(load):
    """What the class says of itself is compared with what it said first."""
    with pytest.raises(PluginError, match=r"its processes can't begin: .*exited with status 5"):
        await load(loads="loaded(); hear(); os._exit(5)")
