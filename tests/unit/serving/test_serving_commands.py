"""The Command and Reply stages: what a plugin may answer, and what it can't keep a client from."""

from dataclasses import replace

import pytest

from gatepost.admin.telling import explain
from gatepost.hooks import verdicts as v
from gatepost.hooks.api import hangup, on, refuse
from gatepost.model import Reply
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import content, envelope, greet, plugins

STAY = [
    refuse("stay"),
    v.Respond(Reply(550, "5.0.0", "stay")),
    v.Respond(Reply(250, "2.0.0", "done")),
    v.Converse(Reply(334, "", "why?")),
]


@pytest.mark.parametrize("answer", STAY, ids=lambda answer: type(answer).__name__)
async def test_quit_and_rset_are_obeyed_whatever_a_plugin_says(answer):
    @on("command")
    async def keeps(event):
        return answer if event.verb in ("QUIT", "RSET") else None

    async with Rig(plugins(keeps)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        assert (await client.command("RSET")).startswith("250 2.0.0 ok")
        assert (await client.command("RCPT TO:<c@d.example>")).startswith("503")
        assert (await client.command("quit")).startswith("221")


async def test_a_word_that_only_begins_like_quit_can_be_answered():
    @on("command")
    async def keeps(event):
        return refuse("stay") if event.verb.startswith("QUIT") else None

    async with Rig(plugins(keeps)) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command("QUITTER")).startswith("550")


async def test_who_has_answered_a_command_with_a_refusal_is_told_afterwards():
    @on("command")
    async def shields(event):
        return v.Respond(Reply(421, "", "That is my name"), closes=True) if event.line == "EHLO mx.test" else None

    async with Rig(plugins(shields)) as rig:
        client = rig.connect()
        await client.reply()
        assert await client.command("NOOP") == "250 2.0.0 ok"
        assert await client.command("EHLO mx.test") == "421 That is my name"
        [refused] = rig.records.kinds("refused")
        told = str(explain((0, *entry) for entry in rig.records.entries))
    assert refused["line"] == "EHLO mx.test"
    assert refused["reply"] == "421 That is my name"
    assert f"refused  line=EHLO mx.test  reply=421 That is my name  by={refused['by']}" in told
    assert told.count("respond") == 1
    assert "proceed" not in told, "what said nothing isn't worth telling"


async def test_a_conversation_goes_on_until_the_plugin_answers():
    heard = []

    @on("command", rule="xsay")
    async def listens(event):
        if event.blob is None:
            return v.Converse(Reply(334, "", "go on"), lines=3)
        heard.append(event.blob)
        return v.Respond(Reply(250, "2.0.0", "enough")) if event.blob == b"two\r\n" else None

    async with Rig(plugins(listens)) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command("XSAY")) == "334 go on"
        client.send(b"one\r\ntwo\r\nNOOP\r\n")
        assert await client.reply() == "250 2.0.0 enough"
        assert await client.reply() == "250 2.0.0 ok"
        assert heard == [b"one\r\n", b"two\r\n"]


async def test_a_conversation_that_ends_without_an_answer_is_answered_by_the_house():
    @on("command")
    async def listens(event):
        return v.Converse(Reply(334, "", "go on"), lines=2) if event.verb == "XSAY" else None

    async with Rig(plugins(listens)) as rig:
        client = rig.connect()
        await greet(client)
        await client.command("XSAY")
        client.send(b"one\r\ntwo\r\n")
        assert await client.reply() == "250 2.0.0 ok"


@pytest.mark.parametrize("limits", [{"lines": 0}, {"lines": -1}, {"octets": 0}, {"lines": "many"}])
async def test_a_conversation_with_impossible_limits_is_a_failure_of_its_plugin(limits):
    @on("command")
    async def listens(event):
        return v.Converse(Reply(334, "", "go on"), **limits) if event.verb == "XSAY" else None

    async with Rig(plugins(listens)) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command("XSAY")).startswith("451")
        assert (await client.command("NOOP")).startswith("250")


async def test_a_plugin_may_word_a_reply():
    @on("reply")
    async def words(event):
        if event.reply.code == 354:
            event.say("shoot")

    async with Rig(plugins(words)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        assert await client.command("DATA") == "354 shoot"
        assert (await client.content(b"Subject: x\r\n\r\n")).startswith("250")


async def test_hanging_up_instead_of_starting_tls_shakes_no_hands():
    @on("reply")
    async def ends(event):
        return hangup("bye") if "go ahead" in event.reply.text else None

    async with Rig(plugins(ends)) as rig:
        place = replace(rig.place, tls=lambda: None, profile=replace(rig.place.profile, starttls=True))
        client = rig.connect(place=place)
        await greet(client)
        assert (await client.command("STARTTLS")).startswith("421 4.7.0 bye")
        assert await client.reply() == ""
        assert client.line.tls is None


async def test_starttls_goes_on_where_a_plugin_looks_at_replies():
    @on("reply")
    async def looks(event): ...

    async with Rig(plugins(looks)) as rig:
        place = replace(rig.place, tls=lambda: None, profile=replace(rig.place.profile, starttls=True))
        client = rig.connect(place=place)
        await greet(client)
        assert (await client.command("STARTTLS")).startswith("220")
        assert (await client.command("EHLO again.example")).startswith("250")
        await envelope(client, "c@d.example")
        assert (await content(client)).startswith("250")


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        (refuse(550, "5.7.1", "no chunks"), "550 5.7.1 no chunks"),
        (v.Respond(Reply(450, "4.7.1", "not now")), "450 4.7.1 not now"),
        (v.Respond(Reply(250, "2.0.0", "thanks")), "250 2.0.0 thanks"),
    ],
)
async def test_the_octets_of_a_chunk_that_a_plugin_has_answered_are_no_commands(answer, heard):
    lines = []

    @on("command")
    async def answers(event):
        lines.append(event.line)
        return answer if event.verb == "BDAT" else None

    async with Rig(plugins(answers)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        client.send(b"bdat  25\r\nRSET\r\nMAIL FROM:<x@y.z>\r\nNOOP\r\n")
        assert (await client.reply()).startswith(heard)
        assert await client.reply() == "250 2.0.0 ok"
        assert lines[-2:] == ["bdat  25", "NOOP"]
        assert (await client.command("DATA")).startswith("503")


async def test_a_chunk_of_no_size_that_a_plugin_has_answered_ends_the_session():
    @on("command")
    async def answers(event):
        return refuse("no") if event.verb == "BDAT" else None

    async with Rig(plugins(answers)) as rig:
        client = rig.connect()
        await greet(client)
        client.send(b"BDAT many\r\nNOOP\r\n")
        assert (await client.reply()).startswith("550")
        assert await client.reply() == ""


async def test_an_answer_to_a_chunk_that_closes_is_said_first():
    @on("command")
    async def answers(event):
        return v.Respond(Reply(550, "5.7.1", "go"), closes=True) if event.verb == "BDAT" else None

    async with Rig(plugins(answers)) as rig:
        client = rig.connect()
        await greet(client)
        client.send(b"BDAT 100 LAST\r\nNOOP\r\n")
        assert await client.reply() == "550 5.7.1 go"
        assert await client.reply() == ""


async def test_a_plugins_own_yes_to_starttls_is_none():
    @on("command")
    async def answers(event):
        return v.Respond(Reply(220, "2.0.0", "go ahead")) if event.verb == "STARTTLS" else None

    async with Rig(plugins(answers)) as rig:
        client = rig.connect()
        await greet(client)
        assert await client.command("StartTLS") == "454 4.7.0 TLS isn't available now"
        assert await client.command("NOOP") == "250 2.0.0 ok"
