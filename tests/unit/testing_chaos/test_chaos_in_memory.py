"""What is found in a server in memory beyond its dialogues: errors of its own, messages that aren't there, plugins."""

import asyncio

import pytest

from gatepost.hooks.api import Plugin, discard, hangup, on, refuse
from gatepost.hooks.verdicts import Respond
from gatepost.model import Reply
from gatepost.plugins.python import load
from gatepost.serving.reception import Reception
from gatepost.testing.chaos import Expected, Finding, Knobs, expected_with, run_with

KNOBS = Knobs(tls=False)


async def found(*plugins, sessions=40, **more) -> tuple[list[Finding], str]:
    loaded = [load(plugin) for plugin in plugins]
    report = await run_with(loaded, sessions=sessions, knobs=KNOBS, **{"patience_s": 5, **more})
    return report.findings, str(report)


@on("message")
async def loses(event):
    return discard("nobody will know")


async def test_messages_that_were_taken_and_are_not_there():
    assert (await found(loses))[0] == [], "that is what a plugin may do"
    findings, said = await found(loses, expected=Expected(accepts=True))
    assert findings[0].kind == "server"
    assert "messages were taken, and 0 are stored" in said


async def test_an_error_of_the_servers_own(monkeypatch):
    async def broken(self, event):
        raise RuntimeError("broken")

    monkeypatch.setitem(Reception._serve.__globals__["_HANDLERS"], _noop_event(), broken)
    findings, said = await found()
    assert "server: the session ended by an error of the server's own" in said
    assert {finding.kind for finding in findings} == {"server"}


def _noop_event():
    from gatepost.wire.smtp import events

    return events.Noop


async def test_a_session_that_never_ends(monkeypatch):
    async def stuck(self, ending):
        await asyncio.Event().wait()

    monkeypatch.setattr(Reception, "_end", stuck)
    _, said = await found(sessions=2, patience_s=0.05, plain_every=0)
    assert "wasn't over 0.05 s after its connection had ended" in said or "wasn't closed" in said


async def test_a_plugin_that_hangs_in_one_place():
    @on("recipient", timeout="50ms")
    async def hangs(event):
        if event.recipient.local == "sales":
            await asyncio.Event().wait()

    findings, said = await found(hangs)
    assert '× plugin: plugin "hangs" at recipient: failed: its time was over' in said
    assert all("sales@example.org" in finding.dialogue for finding in findings)


async def test_a_plugin_that_cannot_close():
    class Stays(Plugin):
        @on("connect")
        async def nothing(self, event):
            pass

        async def close(self):
            raise RuntimeError("no")

    _, said = await found(Stays, sessions=1)
    assert "plugin: closing: " in said


async def test_a_plain_session_hears_something_else_later():
    class Tired(Plugin):
        asked = 0

        @on("connect")
        async def count(self, event):
            self.asked += 1
            return hangup("enough") if self.asked > 20 else None

    findings, said = await found(Tired, sessions=60, plain_every=10)
    assert "a plain session hears 421, before it heard 220 250 250 250 354 250 221" in said
    assert findings[0].seed == -1


@pytest.mark.parametrize(("stage", "by_the_book"), [("command", False), ("reply", False), ("sender", True)])
async def test_what_is_expected_depends_on_where_plugins_are_asked(stage, by_the_book):
    async def nothing(event):
        pass

    assert expected_with([load(on(stage)(nothing))], Knobs(verbs=("xadr",))) == Expected(
        by_the_book=by_the_book, accepts=False, verbs=frozenset({b"XADR"})
    )
    assert expected_with([]).accepts


async def test_a_plugin_that_says_what_only_the_house_can():
    """A 354 of a plugin's own: the content would be taken for commands."""

    @on("command")
    async def wrong(event):
        return Respond(Reply(354, "", "go on")) if event.line == "DATA" else None

    findings, said = await found(wrong)
    assert {finding.kind for finding in findings} == {"plugin"}, said
    assert 'plugin "wrong" at command: failed: ' in said


async def test_refusals_are_no_findings():
    @on("sender")
    @on("recipient")
    @on("message")
    async def never(event):
        return refuse("no")

    assert (await found(never))[0] == []
