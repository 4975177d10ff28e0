"""The same plugin in-process and in a process of its own: one story, told twice.

Every plugin here is run both ways through a whole session, and what the client hears, what is recorded and what would
be stored are compared. What may differ is time, and the wording of a failure.
"""

import re
import textwrap

import pytest

from gatepost.plugins.loaded import PluginError, Wish
from gatepost.plugins.python import load, load_isolated
from gatepost.testing.trying import try_plugin

MIXED = textwrap.dedent(
    """\
    From: Dave <dave@bobo.example>
    To: Ann <ann@example.org>
    Subject: one
     and two
    Subject: three
    X-Old: yes
    Message-ID: <1@bobo.example>
    MIME-Version: 1.0
    Content-Type: multipart/mixed; boundary=b

    --b
    Content-Type: text/plain; charset=utf-8

    Hello.
    .dot
    --b
    Content-Type: application/octet-stream; name="a.exe"
    Content-Transfer-Encoding: base64

    TVqQAAMAAAA=
    --b--
    """
)
LARGE = "From: a@b.example\r\nSubject: large\r\n\r\n" + ("x" * 70 + "\r\n") * 3000  # goes by file, written in a thread

PLUGINS = {
    "refuses": """
        @on("recipient", rule="rcpt to=ann@*")
        async def hook(event):
            return refuse(550, "5.1.6", "no longer works here")
    """,
    "refuses in a plain function": """
        @on("message")
        def hook(event):
            return tempfail("not now") if "three" in event.message.headers.all("Subject") else None
    """,
    "inline": """
        @on("sender", inline=True)
        def hook(event):
            event.note(size=event.parameters.get("SIZE"), null=not event.sender)
            return None
    """,
    "every fact": """
        @on("connect")
        @on("hello")
        @on("sender")
        @on("recipient")
        @on("data")
        @on("headers")
        @on("message")
        async def hook(event):
            s = event.session
            event.note(**{event.name: [
                s.listener, s.protocol, str(s.peer), s.peer.port, s.local, s.tls, s.helo, s.user,
                s.started.tzinfo is not None,
                event.server.hostname, event.reply.code, event.reply.status, event.reply.text.replace(s.id, "TOKEN"),
                getattr(event, "helo", None), getattr(event, "capabilities", None),
                str(getattr(event, "sender", "")), [str(r) for r in getattr(event, "recipients", ())],
                str(getattr(event, "recipient", "")), dict(event.properties), 0 < event.remaining_s <= 100,
                type(event).__module__, await s.peer.name() if s.tls else None,
            ]})
    """,
    "reads all of the message": """
        import hashlib
        @on("headers")
        @on("message")
        async def hook(event):
            m = event.message
            whole = b"".join([chunk async for chunk in m])
            with m.open() as stream:
                assert stream.read() == whole == (await m.path()).read_bytes() == m.blob.read()
            own = whole.partition(b"From:")[2]  # what comes before holds the time
            event.note(**{event.name: [hashlib.sha256(own).hexdigest(), m.size == len(whole), m.message_id,
                list(m.headers)[1:], [(p.type, p.filename, p.size, p.read(1000)) async for p in m.parts()]]})
    """,
    "edits headers": """
        @on("sender")
        async def early(event):
            event.add_header("X-Early", "kept until the content is there")
            event.delete_header("X-Old")
        @on("message", priority=100)
        async def first(event):
            h = event.message.headers
            h.add("X-Top", "very top", at=0)
            h["Subject"] = "grüße\\r\\nEvil: no"
            h["X-New"] = "new"
            event.note(now=[name for name, _ in h])
        @on("message", priority=200)
        async def second(event):
            h = event.message.headers
            event.note(then=[name for name, _ in h], subject=h.all("Subject"), early=h.get("X-Early"))
            del h["X-New"]
            h.add("X-Second", str(event.message.size), at=3)
    """,
    "edits parts": """
        @on("message")
        async def hook(event):
            async for part in event.message.parts():
                if part.filename and part.filename.endswith(".exe"):
                    part.replace(b"removed")
                    event.note(now=part.read(100))
    """,
    "replaces the body": """
        @on("message")
        async def hook(event):
            await event.message.replace(b"another\\nbody\\r\\n.\\r\\n")
            event.note(size=event.message.size - len(event.message.headers["Received"]))
    """,
    "replaces the body by much": """
        @on("message", priority=1)
        async def hook(event):
            await event.message.replace(b"0123456789abcdef\\r\\n" * 100_000)
        @on("message", priority=2)
        async def looks(event):
            event.note(body=len(event.message.open().read().partition(b"\\r\\n\\r\\n")[2]))
    """,
    "replaces the body by a file": """
        @on("message")
        async def hook(event):
            file = await event.message.path()
            file.write_bytes(file.read_bytes().partition(b"\\r\\n\\r\\n")[2].upper() * 30)
            await event.message.replace(file)
            file.write_bytes(b"too late")
    """,
    "recipients": """
        @on("recipient")
        async def one(event):
            if event.recipient.local == "info":
                event.recipients.remove(event.recipient)
                event.recipients.add("ann2@example.org")
        @on("message")
        async def hook(event):
            first = next(iter(event.recipients))
            event.recipients.replace(first, "x@example.org", '"y z"@example.org')
            event.note(now=[str(r) for r in event.recipients], n=len(event.recipients))
            event.change_sender("")
    """,
    "a verdict for each": """
        @on("message")
        async def hook(event):
            return {r: refuse("not you") if r.local == "ann" else quarantine("hm") for r in event.recipients}
    """,
    "a group of its own": """
        @on("message")
        async def hook(event):
            some = [r for r in event.recipients if r.local != "ann"]
            own = event.recipients.split(some)
            own.headers.add("X-Group", "others")
            await own.replace(b"for you\\r\\n" * 20_000)
            event.message.headers.add("X-All", "yes")
    """,
    "says and offers": """
        @on("hello")
        async def hello(event):
            event.capabilities.append("X-MINE 1")
            event.capabilities.remove("PIPELINING")
            event.say("pleased to meet you")
        @on("message")
        async def done(event):
            event.say("thank you")
            event.note(n=1, text="ü")
    """,
    "quarantines": """
        @on("sender")
        async def hook(event):
            return quarantine("looks odd")
    """,
    "discards": """
        @on("message")
        async def hook(event):
            return discard("nobody wants it")
    """,
    "takes": """
        @on("message")
        def hook(event):
            return take("mine")
    """,
    "hangs up": """
        @on("recipient")
        async def hook(event):
            return hangup("enough")
    """,
    "accepts": """
        @on("connect", priority=1)
        async def hook(event):
            return accept("session")
        @on("message", priority=2)
        async def silenced(event):
            return refuse("never said")
        @on("message", priority=3, always=True)
        async def heard(event):
            event.message.headers.add("X-Always", "yes")
    """,
    "speaks another verb": """
        from gatepost.hooks.verdicts import Respond
        from gatepost.model import Reply
        @on("command")
        async def hook(event):
            if event.verb == "MAIL":
                return Respond(Reply(250, "2.1.0", "as you like: " + event.argument))
    """,
    "has the last word": """
        from gatepost.hooks.verdicts import Respond
        @on("reply")
        async def hook(event):
            if event.reply.code == 250 and event.transaction:
                return Respond(event.reply.with_text("yes"))
    """,
    "remembers": """
        from gatepost import per_session, per_transaction
        class Count:
            def __init__(self):
                self.n = 0
        session, transaction = per_session(Count), per_transaction(Count)
        @on("recipient")
        @on("data")
        @on("message")
        async def hook(event):
            session(event).n += 1
            transaction(event).n += 2
            event.note(**{event.name: (session(event).n, transaction(event).n)})
    """,
    "has properties": """
        from dataclasses import dataclass, field
        @dataclass(frozen=True)
        class Limits:
            threshold: float = 5.0
            words: list[str] = field(default_factory=list)
        class Spam(Plugin[Limits]):
            async def open(self, server):
                self.host = server.hostname
            @on("message", timeout="5s")
            async def content(self, event):
                p = self.properties
                event.note(threshold=p.threshold, words=p.words, same=event.properties is p)
                event.note(name=self.name, host=self.host)
    """,
    "prepares": """
        from gatepost import prepare
        @on("recipient")
        async def hook(event):
            return await event.prepared
        @prepare(hook)
        async def look(event):
            return refuse("prepared for " + str(event.recipient))
    """,
    "raises": """
        @on("sender")
        async def hook(event):
            raise RuntimeError("boom")
    """,
    "raises after edits": """
        @on("message", on_failure="proceed")
        def hook(event):
            event.message.headers.add("X-Half", "done")
            raise KeyError("gone")
    """,
    "leaves": """
        import sys
        @on("recipient", on_failure="quarantine")
        async def hook(event):
            sys.exit(3)
    """,
    "answers nonsense": """
        @on("sender")
        async def hook(event):
            return 42
    """,
    "answers what isn't there": """
        @on("connect")
        async def hook(event):
            return take("what?")
    """,
    "judges each too early": """
        @on("recipient")
        async def hook(event):
            return {event.recipient: refuse("no")}
    """,
    "edits without a transaction": """
        @on("message", on_failure="refuse")
        async def hook(event):
            event.add_header("Bad name", "x")
            event.recipients.add("nobody")
    """,
}
HEAD = "from gatepost import Plugin, accept, discard, hangup, on, quarantine, refuse, take, tempfail\n"
MORE = {
    "has properties": {"properties": {"threshold": 7, "words": ["a", "ü"]}},
    "every fact": {"tls": True, "user": "ann", "sender": ""},
    "replaces the body by a file": {"message": LARGE},
    "reads all of the message": {"sender": "grün@bobo.example"},
}


def written(tmp_path, source):
    file = tmp_path / "plugin_under_test.py"
    file.write_text(HEAD + textwrap.dedent(source))
    return file


def told(story):
    """A story without what may differ: time, tokens, wording of failures."""

    def timeless(octets):
        if octets is None:
            return None
        octets = octets.replace(story.token.encode(), b"TOKEN")
        return re.sub(rb"\w{3}, \d\d \w{3} \d{4} [\d:]{8} [+-]\d{4}", b"DATE", octets)

    asked = [
        {key: value for key, value in facts.items() if key not in ("ms", "why")} | {"failed": "why" in facts}
        for facts in story.asked
    ]
    return {
        "replies": [(said, heard.replace(story.token, "TOKEN")) for said, heard in story.replies],
        "content": timeless(story.content),
        "recipients": story.recipients,
        "sender": story.sender,
        "held": story.held,
        "asked": asked,
        "failures": len(story.errors),
    }


async def both(tmp_path, source, *, properties=None, wishes=(), **session):
    file = written(tmp_path, source)
    session.setdefault("to", ["ann@example.org", "info@example.org", "bob@example.org"])
    session.setdefault("message", MIXED)
    here = await try_plugin(load(file, properties=properties, wishes=wishes), **session)
    there = await try_plugin(await load_isolated(file, properties=properties, wishes=wishes), **session)
    return told(here), told(there)


@pytest.mark.parametrize("name", PLUGINS)
async def test_the_story_is_the_same(tmp_path, name, files_in_rig):
    here, there = await both(tmp_path, PLUGINS[name], **MORE.get(name, {}))
    assert there == here


async def test_stories_are_not_empty(tmp_path, files_in_rig):
    """What is compared above is something: the stories of three plugins, by hand."""
    _, edited = await both(tmp_path, PLUGINS["edits headers"])
    assert b"X-Top: very top\r\nReceived:" in edited["content"]
    assert b"X-Early: kept" in edited["content"]
    assert b"X-Old" not in edited["content"]
    _, raised = await both(tmp_path, PLUGINS["raises"])
    assert raised["failures"] == 1
    assert ("MAIL FROM:<dave@bobo.example>", "451 4.3.0 a check couldn't be made, try again later (TOKEN)") in raised[
        "replies"
    ]
    _, much = await both(tmp_path, PLUGINS["replaces the body by much"])
    assert much["content"].endswith(b"0123456789abcdef\r\n")
    assert len(much["content"]) > 1_800_000


@pytest.fixture
def files_in_rig(tmp_path, monkeypatch):
    """In-process plugins need a file system for `path()`, which a server without one doesn't hand in."""
    from gatepost.content.view import Views
    from gatepost.store.blobs import FileBlob

    class Folder:
        def __init__(self):
            self.count = 0

        async def private_copy(self, blob):
            self.count += 1
            file = tmp_path / f"copy{self.count}"
            file.write_bytes(b"".join(blob.chunks()))
            return file

        async def adopt(self, file):
            return FileBlob(await self.private_copy(FileBlob(file, file.stat().st_size)), file.stat().st_size)

    made = Views.__init__
    monkeypatch.setattr(
        Views, "__init__", lambda self, blob, *, utf8, files: made(self, blob, utf8=utf8, files=Folder())
    )


@pytest.mark.parametrize(
    ("source", "given"),
    [
        ("this is no Python", {}),
        ("x = 1", {}),
        ("import sys; sys.exit(9)", {}),
        ("@on('connect', rule='rcpt to=*@example.org')\nasync def hook(event): ...", {}),
        ("@on('message', priority=24576)\nasync def hook(event): ...", {}),
        ("@on('connect', on_failure='quarantined')\nasync def hook(event): ...", {}),
        ("@on('dataend')\nasync def hook(event): ...", {}),
        ("@on('message')\nasync def hook(event): ...", {"wishes": [Wish(stages=("recipient",))]}),
        (
            "from dataclasses import dataclass\n@dataclass\nclass P:\n    limit: int = 1\n"
            "class X(Plugin[P]):\n    @on('message')\n    async def hook(self, event): ...",
            {"properties": {"limt": 2}},
        ),
    ],
)
async def test_what_cannot_be_used_is_refused_by_the_same_words(tmp_path, source, given):
    file = written(tmp_path, source)
    with pytest.raises(PluginError) as here:
        load(file, **given)
    with pytest.raises(PluginError) as there:
        await load_isolated(file, **given)
    assert str(there.value) == str(here.value)


async def test_settings_win_over_code_in_either_place(tmp_path):
    file = written(tmp_path, '@on("message", priority=7, timeout="3s", always=True)\ndef hook(event): ...')
    wishes = [
        Wish(),
        Wish(rule="rcpt to=*@example.org", priority=30000, on_failure="proceed", shadow=True, inline=True),
    ]
    here = load(file, wishes=wishes)
    there = await load_isolated(file, wishes=wishes)
    try:
        assert there.bindings == here.bindings
        assert there.name == here.name
        assert {binding.breaker for binding in there.bindings} == {there.bindings[0].breaker}
    finally:
        await there.close()


async def test_what_cannot_open_refuses_the_start_by_the_same_words(tmp_path):
    source = """
        class Shut(Plugin):
            async def open(self, server):
                raise OSError("the database is gone")
            @on("message")
            async def hook(self, event): ...
    """
    file = written(tmp_path, source)
    said = []
    for plugin in (load(file), await load_isolated(file)):
        with pytest.raises(PluginError) as refused:
            await plugin.open(type("S", (), {"hostname": "mx.test", "resolver": None})())
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert "the database is gone" in said[0]
