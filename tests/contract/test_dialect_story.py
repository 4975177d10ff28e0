"""The same plugin in every dialect: one story, told by each of them through the real reception.

STORY says what the plugin is shown, what the sender then hears, and what is delivered. CANNOT is the table of what a
dialect has no stage or no means for; there the plugin tries all the same where it can, and the mail passes as it was.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gatepost.plugins.host import Backoff
from gatepost.plugins.indimail import load_indimail
from gatepost.plugins.loaded import PluginError, Wish
from gatepost.plugins.mailenable import load_mailenable
from gatepost.plugins.program import ProgramOptions, load_program
from gatepost.plugins.python import load, load_isolated
from gatepost.plugins.sink import load_sink
from gatepost.plugins.sink.options import SinkOptions
from gatepost.testing.rig import Rig
from programs import program

pytestmark = pytest.mark.timeout(240)  # a first Wine prefix takes its time
HERE = Path(__file__).parent / "dialects"
HOME = Path(__file__).parents[2]
PREFIXES = HOME / ".wine" / "gatepost"
COMPILER = {"so": "cc", "dll": "x86_64-w64-mingw32-gcc"}
QUICK = Backoff(0.02, 0.5)

SENDER_OK, RECIPIENT_OK = "250 2.1.0 sender ok", "250 2.1.5 recipient ok"
GO_ON, ACCEPTED = "354 send the message, end with a line that is a single dot", "250 2.0.0 accepted"
OKS = (SENDER_OK, RECIPIENT_OK, GO_ON, ACCEPTED)
NOT_THIS, NOT_THAT = "550 5.7.1 not this one", "554 5.7.1 not with that word"
LATER, LEAVE = "451 4.7.1 come later", "421 4.7.0 going away"


@dataclass(frozen=True)
class Act:
    """One message past the plugin: the words it reacts to, and what comes of it."""

    stage: str
    """Where the plugin does something."""
    word: str
    heard: str | None = None
    """The reply at that stage; None: as if nobody had said anything."""
    tagged: bool = False
    """Whether the delivered message has the plugin's header field."""

    def __str__(self) -> str:
        return f"{self.word} at {self.stage}"

    @property
    def lines(self) -> tuple[str, str]:
        sender = self.word if self.stage == "sender" else "dave"
        to = {"recipient": self.word, "data": f"data-{self.word}"}.get(self.stage, "ann")
        return f"MAIL FROM:<{sender}@bobo.example>", f"RCPT TO:<{to}@example.org>"

    @property
    def content(self) -> bytes:
        word = self.word if self.stage == "message" else "nothing"
        return (
            f"From: dave@bobo.example\r\nTo: ann@example.org\r\nSubject: {self}\r\nX-Do: {word}\r\n\r\n"
            "Hello Ann.\r\n\r\n..two dots\r\nlast line\r\n"
        ).encode()


STAGES = ("sender", "recipient", "data", "message")
PASS = Act("message", "pass")
STORY = (
    PASS,
    *(Act(stage, "no", NOT_THIS) for stage in ("sender", "recipient")),
    *(Act(stage, "no", NOT_THAT) for stage in ("data", "message")),
    *(Act(stage, "later", LATER) for stage in STAGES),
    *(Act(stage, "leave", LEAVE) for stage in STAGES),
    Act("sender", "own", "250 2.1.0 glad to have it"),
    Act("recipient", "own", "250 2.1.5 glad to have it"),
    Act("message", "own", "250 2.0.0 glad to have it"),
    Act("message", "tag", tagged=True),
)
FAILURES = (*(Act(stage, word) for stage in STAGES for word in ("crash", "hang")), Act("message", "half"))

ASKED_AT: dict[str, dict[str, str]] = {"sink": dict.fromkeys(STAGES[:3], "command")}
"""Where a dialect is really asked about a stage, if it isn't at the stage itself."""

NO_STAGE: dict[str, dict[str, str]] = {
    "indimail": {"data": "the interface has nothing that is called at DATA"},
    "filter": dict.fromkeys(STAGES[:3], "a program is run for a whole message"),
    "scan": dict.fromkeys(STAGES[:3], "a program is run for a whole message"),
}
"""The stages that a dialect hasn't got: settings that name one are refused at load."""

CANNOT: dict[tuple[str, ...], str] = {
    ("indimail", "own"): "mesg is read only where the function refuses",
    ("indimail", "tag"): "data_func judges; what it writes into its copy of the message is thrown away",
    ("filter", "own"): "an exit code of 0 has no text",
    ("filter", "leave"): "no exit code closes the connection",
    ("scan", "own"): "an exit code has no text; the settings' text is for refusals",
    ("scan", "leave"): "no exit code closes the connection",
    ("scan", "later"): "an exit code is a hit, an error, or nothing; a hit refuses for ever",
    ("sink", "own", "message"): "a transport event has no response",
    ("sink", "leave", "message"): "a transport event has no command status",
}
"""What a dialect has the stage for, but no means; with a stage: there only. The mail passes as if the plugin had said
nothing.
"""


# ── how each dialect's plugin is loaded ────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Called with a kind ("so", "dll"), macros and a source: it, compiled once."""
    folder = tmp_path_factory.mktemp("story")

    def compiled(kind, *defined, source="story"):
        output = folder / f"{source}{''.join(defined)}.{kind}"
        if not output.exists():
            flags = ["-shared", "-O1", "-w", f"-I{HOME / 'native'}", *(f"-D{each}" for each in defined)]
            flags += ["-fPIC"] if kind == "so" else []
            libraries = [] if kind == "so" else ["-luuid", "-ladvapi32"]
            command = [program(COMPILER[kind]), *flags, str(HERE / f"{source}.c"), "-o", str(output), *libraries]
            subprocess.run(command, check=True)
        return output

    return compiled


async def in_process(library, tmp_path, wishes):
    return load(HERE / "story_plugin.py", wishes=wishes)


async def isolated(library, tmp_path, wishes):
    file = tmp_path / "story_isolated.py"
    source = (HERE / "story_plugin.py").read_text()
    file.write_text(source.replace('raise RuntimeError("crashed")', "__import__('os').abort()"))
    return await load_isolated(file, wishes=wishes, backoff=QUICK, grace_s=0.2, scratch=tmp_path)


def mailenable(kind):
    async def loaded(library, tmp_path, wishes):
        return await load_mailenable(
            library(kind), wishes=wishes, processes=1, backoff=QUICK, grace_s=0.2, scratch=tmp_path, prefixes=PREFIXES
        )

    return loaded


async def indimail(library, tmp_path, wishes):
    return await load_indimail(library("so", "INDIMAIL"), wishes=wishes, backoff=QUICK, grace_s=0.2, scratch=tmp_path)


async def filtering(library, tmp_path, wishes):
    return await load_program(str(HERE / "filter.sh"), wishes=wishes, scratch=tmp_path)


async def scanning(library, tmp_path, wishes):
    return await load_program(
        f"{HERE / 'scan.sh'} {{EMAILFILESPEC}}",
        wishes=wishes,
        scratch=tmp_path,
        options=ProgramOptions(mode="scan", hit="1", text="not with that word"),
    )


async def tagging(library, tmp_path, wishes):
    """A scanner whose hits are tagged, instead of refused."""
    return await load_program(
        f"{HERE / 'scan.sh'} {{EMAILFILESPEC}}",
        wishes=wishes,
        scratch=tmp_path,
        options=ProgramOptions(mode="scan", hit="2", action="tag", header="X-Story: told"),
    )


async def sink(library, tmp_path, wishes):
    return await load_sink(f"{HERE / 'story_sink.py'}:Story", wishes=[sinking(wish) for wish in wishes])


def com(kind, **options):
    async def loaded(library, tmp_path, wishes):
        return await load_sink(
            library(kind, source="story_sink"),
            wishes=[sinking(wish) for wish in wishes],
            options=SinkOptions(**options),
            backoff=QUICK,
            grace_s=0.2,
            scratch=tmp_path,
            prefixes=PREFIXES,
        )

    return loaded


def sinking(wish):
    """The wish with the events of a sink instead of stages, all of one priority."""
    return replace(wish, stages=tuple(dict.fromkeys(ASKED_AT["sink"].get(stage, stage) for stage in wish.stages)))


LOADERS: dict[str, Callable] = {
    "python": in_process,
    "python, isolated": isolated,
    "mailenable": mailenable("so"),
    "mailenable, Wine": mailenable("dll"),
    "indimail": indimail,
    "filter": filtering,
    "scan": scanning,
    "sink": sink,
    "sink, COM": com("so"),
    "sink, COM, Wine": com("dll"),
}
NEEDS = {
    "mailenable": ("cc",),
    "mailenable, Wine": (COMPILER["dll"], "wine64"),
    "indimail": ("cc",),
    "sink, COM": ("cc",),
    "sink, COM, Wine": (COMPILER["dll"], "wine64"),
}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(*NEEDS.get(name, ()))) for name in LOADERS])
def dialect(request):
    return request.param


# ── telling it ─────────────────────────────────────────────────────────────────────────────────────────────────────

TOKEN = re.compile(r"(?: \([0-9A-Z]{6}-[0-9A-Z]{6}\)|, [0-9A-Z]{6}-[0-9A-Z]{6}-\d+)$")
OURS = re.compile(rb"\AReceived: (?:.*\r\n)(?:[ \t].*\r\n)*")


@dataclass(frozen=True)
class Told:
    """What became of one act."""

    heard: tuple[str, ...]
    """To MAIL, RCPT, DATA and the content, as far as it came."""
    verdicts: tuple[tuple[str, str, bool], ...]
    """Of the plugin at each stage where it didn't just let pass: stage, what it said, whether that was a failure."""
    delivered: bytes | None
    """Without our own Received field."""


async def tell(rig, act: Act, ip: str) -> Told:
    before, known = len(rig.records.entries), {entry.ticket for entry in await rig.spool.entries()}
    client = rig.connect(ip)
    await client.reply()
    await client.command("EHLO client.example")
    heard = []
    for line in (*act.lines, "DATA"):
        heard.append(await client.command(line))
        if heard[-1][0] not in "23":
            break
    else:
        heard.append(await client.content(act.content))
    if heard[-1].startswith("421"):
        assert await client.reply() == ""
    else:
        assert (await client.command("QUIT")).startswith("221")
    await rig.settled()
    new = [entry for entry in await rig.spool.entries() if entry.ticket not in known]
    assert len(new) <= 1
    delivered = None
    if new:
        content = new[0].content.read()
        assert OURS.match(content)
        delivered = OURS.sub(b"", content)
    asked = [facts for _, kind, facts in rig.records.entries[before:] if kind == "asked" and facts["plugin"] != "house"]
    said = [(facts["stage"], facts.get("verdict", {"say": "proceed"})["say"], "why" in facts) for facts in asked]
    return Told(
        tuple(TOKEN.sub("", reply) for reply in heard),
        tuple(one for one in said if one[1:] != ("proceed", False)),
        delivered,
    )


def expected(act: Act, *, can: bool = True, heard: str | None = None, verdict: str = "", failed: bool = False) -> Told:
    """`heard` and `verdict` say what a failure comes to; without `can` everything passes."""
    at = STAGES.index(act.stage)
    heard = heard or (act.heard if can else None)
    replies, verdicts = list(OKS), ()
    if heard is not None:
        replies[at] = heard
        if heard[0] not in "23":
            del replies[at + 1 :]
            verdict = verdict or ("hangup" if heard == LEAVE else "refuse")
    if verdict:
        verdicts = ((act.stage, verdict, failed),)
    content = act.content
    if act.tagged and can:
        content = content.replace(b"\r\n\r\n", b"\r\nX-Story: told\r\n\r\n", 1)
    return Told(tuple(replies), verdicts, content if len(replies) == 4 and replies[3][0] == "2" else None)


def as_asked(dialect: str, act: Act, told: Told) -> Told:
    """The same, recorded at the stage where the dialect is really asked, in the words that it has there."""
    at = ASKED_AT.get(named(dialect), {}).get(act.stage)
    if at is None:
        return told
    if act.word == "own":
        return replace(told, verdicts=(("reply", "respond", False),))
    verdicts = [(at, say if failed else "respond", failed) for _, say, failed in told.verdicts]
    return replace(told, verdicts=tuple(verdicts))


def able(dialect, act):
    """Whether the dialect can do what the act wants."""
    name = named(dialect)
    return has_stage(dialect, act) and (name, act.word) not in CANNOT and (name, act.word, act.stage) not in CANNOT


def named(dialect):
    return dialect.partition(",")[0]


def has_stage(dialect, act):
    return act.stage not in NO_STAGE.get(named(dialect), {})


async def test_the_same_story(dialect, library, tmp_path):
    plugin = await LOADERS[dialect](library, tmp_path, [Wish(timeout="30s")])
    async with Rig([plugin]) as rig:
        for act in STORY:
            if dialect == "scan" and act.tagged:
                continue  # below: a scanner does one thing with its hits
            told = as_asked(dialect, act, expected(act, can=able(dialect, act)))
            assert await tell(rig, act, "192.0.2.1") == told, str(act)
        assert rig.records.errors == []


async def test_the_same_story_by_a_scanner_that_tags(library, tmp_path):
    async with Rig([await tagging(library, tmp_path, [Wish(timeout="30s")])]) as rig:
        for act in (PASS, next(act for act in STORY if act.tagged), PASS):
            assert await tell(rig, act, "192.0.2.1") == expected(act)


@pytest.mark.needs(*NEEDS["sink, COM, Wine"])
async def test_a_class_that_the_registry_knows_tells_of_it_too(library, tmp_path):
    """DllRegisterServer, then CoCreateInstance by its ProgID; the act is the one that takes the longest way."""
    plugin = await com("dll", cls="Story.Sink", create="com")(library, tmp_path, [Wish(timeout="30s")])
    async with Rig([plugin]) as rig:
        act = next(act for act in STORY if act.tagged)
        assert await tell(rig, act, "192.0.2.1") == expected(act)


FAILED = {
    "tempfail": dict.fromkeys(STAGES, "451 4.3.0 a check couldn't be made, try again later"),
    "proceed": dict.fromkeys(STAGES),
    "refuse": {stage: f"{550 if stage in STAGES[:2] else 554} 5.7.1 a check couldn't be made" for stage in STAGES},
}
VERDICT = {"tempfail": "refuse", "proceed": "proceed", "refuse": "refuse"}
POLICIES = {"tempfail": "192.0.2.2", "proceed": "192.0.2.3", "refuse": "192.0.2.4"}
"""Where a client comes from says what a failure means to it; the address lacks its last digit."""


def from_whom(act, policy):
    """Who hangs is asked at that stage only, since only there it has little time."""
    return POLICIES[policy] + (f"{STAGES.index(act.stage) + 1}" if act.word == "hang" else "0")


def failing_wishes(dialect):
    for policy in POLICIES:
        yield Wish(when={"network": from_whom(PASS, policy)}, timeout="30s", on_failure=policy)
        for act in FAILURES:
            if act.word == "hang" and has_stage(dialect, act):
                network = {"network": from_whom(act, policy)}
                yield Wish(stages=(act.stage,), when=network, timeout="0.4s", on_failure=policy)


async def test_a_failure_comes_to_the_same(dialect, library, tmp_path, caplog):
    """Crash, hang and half a change; after each the next message is served as if nothing had been."""
    caplog.set_level("CRITICAL")
    plugin = await LOADERS[dialect](library, tmp_path, list(failing_wishes(dialect)))
    async with Rig([plugin]) as rig:
        for policy in POLICIES:
            for act in FAILURES:
                if not has_stage(dialect, act) or (policy != "tempfail" and act.stage in ("sender", "data")):
                    continue
                told = await tell(rig, act, from_whom(act, policy))
                assert told == as_asked(dialect, act, failure(act, policy)), f"{act}, on_failure = {policy}"
                assert await tell(rig, PASS, from_whom(PASS, policy)) == expected(PASS)
        assert {plugin for plugin, _, _ in rig.records.errors} == {plugin.name}


def failure(act, policy):
    """What `act` comes to where the plugin fails; of a change that it has half made nothing is left."""
    return expected(act, heard=FAILED[policy][act.stage], verdict=VERDICT[policy], failed=True)


async def test_a_stage_that_a_dialect_lacks_is_refused_by_name(dialect, library, tmp_path):
    missing = NO_STAGE.get(named(dialect), {})
    for stage in STAGES:
        if stage in missing:
            with pytest.raises(PluginError, match=f"has nothing for the stage {stage}; it has: "):
                await LOADERS[dialect](library, tmp_path, [Wish(stages=(stage,))])
        else:
            plugin = await LOADERS[dialect](library, tmp_path, [Wish(stages=(stage,))])
            await plugin.close()
            at = ASKED_AT.get(named(dialect), {}).get(stage, stage)
            assert at in {binding.stage.name for binding in plugin.bindings}


def test_the_tables_name_what_there_is():
    dialects = {named(name) for name in LOADERS}
    assert {dialect for dialect, *_ in CANNOT} | set(NO_STAGE) | set(ASKED_AT) <= dialects
    assert {word for _, word, *_ in CANNOT} <= {act.word for act in STORY}
