"""The core test: every stage × every verdict, asked of a real session, heard on the wire, probed afterwards.

The table in `hooks.effects` says which pairs there are. A pair in it has to do what this test expects of it; a pair
that isn't has to be treated as a failed hook, once for each `on_failure`.
"""

import itertools

import pytest

from gatepost.hooks import stages
from gatepost.hooks import verdicts as v
from gatepost.hooks.api import on
from gatepost.hooks.effects import EFFECTS, allowed_failures
from gatepost.model import Reply
from gatepost.plugins.loaded import Wish
from gatepost.plugins.python import load
from gatepost.testing.rig import Rig

MESSAGE = b"From: a@b.example\r\nSubject: matrix\r\n\r\nhello\r\n"
VERDICTS = {
    "proceed": v.Proceed(),
    "accept": v.Accept(v.Scope.STAGE),
    "refuse": v.Refuse(Reply(550, "5.7.1", "not this")),
    "refuse-text": v.Refuse("not this"),
    "refuse-later": v.Refuse(Reply(450, "4.7.1", "not now")),
    "quarantine": v.Quarantine("smells"),
    "discard": v.Discard("stinks"),
    "take": v.Take("mine"),
    "hangup": v.Hangup(Reply(421, "4.7.0", "go away")),
    "respond": v.Respond(Reply(250, "2.0.0", "done by plugin")),
    "converse": v.Converse(Reply(334, "", "tell me"), lines=1),
    "identity": v.Identity("ann"),
    "credentials": v.Credentials({}),
    "deny": v.Deny("no"),
    "send": v.Send("NOOP"),
    "skip": v.Skip(),
    "blob": v.Blob(b"NOOP\r\n"),
    "repeat": v.Repeat(),
    "jump": v.Jump(v.Target.DATA),
    "fail": v.Fail(Reply(550, "5.7.1", "not there")),
    "end-session": v.EndSession("enough"),
}
OTHERS = {stages.Auth, stages.Command, stages.Replying} | stages.AFTERWARDS | stages.OUTBOUND | stages.POP
STAGES = [stage for stage in stages.STAGES.values() if stage not in OTHERS]
COMMANDS = [
    (stages.Connect, None),
    (stages.Hello, "EHLO client.example"),
    (stages.Sender, "MAIL FROM:<a@b.example>"),
    (stages.Recipient, "RCPT TO:<c@d.example>"),
    (stages.Data, "DATA"),
]


def plugin_answering(stage, verdict, **wish):
    asked = []

    @on(stage)
    async def hook(event):
        asked.append(event)
        return verdict

    return load(hook, wishes=[Wish(**wish)] if wish else ()), asked


async def heard(rig):
    """What a client hears in a whole session that doesn't stop at refusals, command by command."""
    client = rig.connect()
    said = {"connect": await client.reply()}
    for name, line in (
        ("hello", "EHLO client.example"),
        ("sender", "MAIL FROM:<a@b.example>"),
        ("recipient", "RCPT TO:<c@d.example>"),
        ("data", "DATA"),
    ):
        said[name] = await client.command(line)
    if said["data"].startswith("354"):
        said["message"] = await client.content(MESSAGE)
    said["noop"] = await client.command("NOOP")
    said["quit"] = await client.command("QUIT")
    return said


def code(reply):
    return reply.rpartition("\n")[2][:3]


PASSED = {"connect": "220", "hello": "250", "sender": "250", "recipient": "250", "data": "354", "message": "250"}
# what is heard of the stage's own command, where a verdict doesn't pass
OWN = {
    ("connect", "refuse"): "554", ("connect", "refuse-text"): "554", ("connect", "refuse-later"): "421",
    ("headers", "refuse"): "550", ("headers", "refuse-text"): "554", ("headers", "refuse-later"): "450",
    ("hello", "refuse-text"): "550", ("sender", "refuse-text"): "550", ("recipient", "refuse-text"): "550",
    ("data", "refuse-text"): "554", ("message", "refuse-text"): "554",
}  # fmt: skip
AFTER = {
    # stage: what the commands after a refusal hear
    "connect": {"hello": "503", "sender": "503", "recipient": "503", "data": "503", "noop": "503", "quit": "221"},
    "hello": {"sender": "503", "recipient": "503", "data": "503", "noop": "250", "quit": "221"},
    "sender": {"recipient": "503", "data": "503", "noop": "250", "quit": "221"},
    "recipient": {"data": "554", "noop": "250", "quit": "221"},
    "data": {"noop": "250", "quit": "221"},
    "headers": {"noop": "250", "quit": "221"},
    "message": {"noop": "250", "quit": "221"},
}
IN_QUEUE = {"proceed": "queued", "accept": "queued", "quarantine": "held"}


@pytest.mark.parametrize(
    ("stage", "word"), list(itertools.product(STAGES, VERDICTS)), ids=lambda x: getattr(x, "name", x)
)
async def test_every_verdict_at_every_stage(stage, word):
    verdict = VERDICTS[word]
    plugin, asked = plugin_answering(stage, verdict)
    async with Rig([plugin]) as rig:
        said = await heard(rig)
        counts = rig.spool.counts()
        records = await rig.spool.records()
        assert len(asked) == 1
        effect = EFFECTS.get((stage, type(verdict)))
        own = "message" if stage is stages.Headers else stage.name
        if effect is None:
            expect_tempfailed(stage, said, counts)
            assert len(rig.records.errors) == 1
            return
        assert not rig.records.errors
        if word.startswith("refuse"):
            assert code(said[own]) == OWN.get((stage.name, word), str(verdict.reply)[:3])
            assert "not " in said[own]
            rest = {} if word == "refuse-later" and stage is stages.Connect else AFTER[stage.name]
            assert {name: code(said[name]) for name in rest} == rest
            assert (counts.queued, counts.held) == (0, 0)
        elif word == "hangup":
            assert code(said[own]) == "421"
            assert said["noop"] == "" and said["quit"] == ""
            assert (counts.queued, counts.held) == (0, 0)
        else:
            assert {name: code(said[name]) for name in PASSED} == PASSED
            assert code(said["noop"]) == "250" and code(said["quit"]) == "221"
            kept = IN_QUEUE.get(word)
            assert (counts.queued, counts.held) == (int(kept == "queued"), int(kept == "held"))
            assert len(records) == int(word == "discard")


def expect_tempfailed(stage, said, counts):
    """An answer that isn't one, under the default on_failure."""
    own = "message" if stage is stages.Headers else stage.name
    assert code(said[own]) == ("421" if stage is stages.Connect else "451")
    assert (counts.queued, counts.held) == (0, 0)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
@pytest.mark.parametrize("failure", ["tempfail", "proceed", "refuse", "quarantine"])
async def test_every_failure_policy_at_every_stage(stage, failure):
    assert failure in allowed_failures(stage)
    asked = []

    @on(stage, on_failure=failure)
    async def hook(event):
        asked.append(1)
        raise ZeroDivisionError("a bug")

    async with Rig([load(hook)]) as rig:
        said = await heard(rig)
        counts = rig.spool.counts()
        assert asked == [1]
        assert [type(error) for _, _, error in rig.records.errors] == [ZeroDivisionError]
        own = "message" if stage is stages.Headers else stage.name
        assert not any("ZeroDivision" in reply or "a bug" in reply for reply in said.values())
        match failure:
            case "tempfail":
                expect_tempfailed(stage, said, counts)
            case "proceed":
                assert (counts.queued, counts.held) == (1, 0)
            case "refuse":
                assert code(said[own]) in ("550", "554")
                assert (counts.queued, counts.held) == (0, 0)
            case "quarantine":
                assert code(said["message"]) == "250"
                assert (counts.queued, counts.held) == (0, 1)


@pytest.mark.parametrize("word", VERDICTS)
async def test_every_verdict_at_command(word):
    verdict = VERDICTS[word]
    lines = []

    @on("command")
    async def hook(event):
        if event.blob is not None:
            return v.Respond(Reply(250, "2.0.0", f"heard {event.blob.decode().strip()}"))
        lines.append(event.line)
        return verdict if event.verb == "NOOP" else None

    async with Rig([load(hook)]) as rig:
        client = rig.connect()
        await client.reply()
        assert code(await client.command("EHLO x.example")) == "250"
        said = await client.command("NOOP")
        if (stages.Command, type(verdict)) not in EFFECTS:
            assert code(said) == "451"
        elif word == "converse":
            assert code(said) == "334"
            assert await client.command("some words") == "250 2.0.0 heard some words"
        else:
            expected = {
                "proceed": "250",
                "respond": "250",
                "refuse": "550",
                "refuse-text": "550",
                "refuse-later": "450",
            }
            assert code(said) == expected.get(word, "421")
            if word == "respond":
                assert "done by plugin" in said
        if word != "hangup":
            assert code(await client.command("QUIT")) == "221"
        assert lines[:2] == ["EHLO x.example", "NOOP"]


@pytest.mark.parametrize("word", VERDICTS)
async def test_every_verdict_at_reply(word):
    verdict = VERDICTS[word]

    @on("reply")
    async def hook(event):
        return verdict if event.reply.code == 250 and event.reply.status == "2.0.0" else None

    async with Rig([load(hook)]) as rig:
        client = rig.connect()
        assert code(await client.reply()) == "220"
        said = await client.command("NOOP")
        if (stages.Replying, type(verdict)) not in EFFECTS:
            assert (code(said), len(rig.records.errors)) == ("250", 1)  # a failed hook leaves the reply as it was
        elif word == "hangup":
            assert code(said) == "421"
        else:
            assert code(said) == "250"
            assert ("done by plugin" in said) == (word == "respond")


def test_the_table_names_only_stages_and_verdicts_there_are():
    assert {stage for stage, _ in EFFECTS} == set(stages.STAGES.values())
    assert {type(verdict) for verdict in VERDICTS.values()} == {kind for _, kind in EFFECTS}
