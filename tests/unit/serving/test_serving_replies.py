"""The Reply stage: which reply may become which, who sees whose, and what ends the session; texts kept with mail."""

import pytest

from gatepost.app.settings.root import Settings
from gatepost.hooks import verdicts as v
from gatepost.hooks.api import on
from gatepost.model import Reply
from gatepost.model.kept import FACT, MOST, read_kept
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import content, envelope, greet, plugins

NO = Reply(550, "5.7.1", "no")
LATER = Reply(450, "4.7.1", "later")
YES = Reply(250, "2.0.0", "yes")


@pytest.mark.parametrize(
    ("command", "said", "heard"),
    [
        ("NOOP", NO, "550 5.7.1 no"),
        ("XFOO", YES, "250 2.0.0 yes"),
        ("XFOO", LATER, "450 4.7.1 later"),
        ("VRFY ann", NO, "550 5.7.1 no"),
        ("MAIL FROM:<a@b.example>", NO, "550 5.7.1 no"),
        ("MAIL FROM:<a@b.example>", YES, "250 2.0.0 yes"),
        ("RCPT TO:<early@b.example>", YES, "503 5.5.1 yes"),
        ("RCPT TO:<early@b.example>", LATER, "450 4.7.1 later"),
        ("RSET", NO, "250 2.0.0 no"),
        ("NOOP", Reply(354, "", "go"), "250 2.0.0 go"),
    ],
)
async def test_a_reply_becomes_another_one_only_where_that_is_true(command, said, heard):
    @on("reply")
    async def changes(event):
        return v.Respond(said) if event.line == command else None

    async with Rig(plugins(changes)) as rig:
        client = rig.connect()
        await greet(client)
        assert await client.command(command) == heard


def refusing(*lines):
    @on("reply")
    async def refuses(event):
        return v.Respond(NO) if event.line in lines else None

    return plugins(refuses)


async def test_a_sender_that_is_refused_in_the_reply_has_begun_nothing():
    async with Rig(refusing("MAIL FROM:<a@b.example>")) as rig:
        client = rig.connect()
        await greet(client)
        assert await client.command("MAIL FROM:<a@b.example>") == "550 5.7.1 no"
        assert (await client.command("RCPT TO:<c@d.example>")).startswith("503")
        assert (await client.command("MAIL FROM:<b@b.example>")).startswith("250")
        assert (await client.command("RCPT TO:<c@d.example>")).startswith("250")


async def test_a_recipient_that_is_refused_in_the_reply_gets_nothing():
    async with Rig(refusing("RCPT TO:<no@d.example>")) as rig:
        client = rig.connect()
        await greet(client)
        said = await envelope(client, "yes@d.example", "no@d.example", "also@d.example")
        assert [one[:3] for one in said] == ["250", "250", "550", "250"]
        await content(client)
        entry = await stored(rig)
        assert [str(one) for one in entry.envelope.recipients] == ["yes@d.example", "also@d.example"]


async def test_where_the_only_recipient_is_refused_in_the_reply_there_is_no_data():
    async with Rig(refusing("RCPT TO:<no@d.example>")) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "no@d.example")
        assert (await client.command("DATA")).startswith("5")
        assert (await client.command("RCPT TO:<yes@d.example>")).startswith("250")


async def test_data_that_is_refused_in_the_reply_takes_no_content():
    async with Rig(refusing("DATA")) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        assert await client.command("DATA") == "550 5.7.1 no"
        assert await client.command("NOOP") == "250 2.0.0 ok"
        assert await envelope(client, "c@d.example") == ["250 2.1.0 sender ok", "250 2.1.5 recipient ok"]


async def test_every_recipient_over_lmtp_may_be_refused_in_the_reply_and_is_then_not_answered_again():
    settings = Settings.in_memory(
        hostname="mx.test", listen=[{"name": "l", "address": "127.0.0.1:0", "protocol": "lmtp"}]
    )
    async with Rig(refusing("RCPT TO:<no@d.example>"), settings=settings) as rig:
        client = rig.connect()
        await greet(client, "LHLO")
        await envelope(client, "yes@d.example", "no@d.example")
        assert (await content(client)).startswith("250")
        client.send(b"NOOP\r\n")
        assert await client.reply() == "250 2.0.0 ok"


async def test_each_binding_sees_the_reply_of_the_one_before():
    seen = []

    @on("reply", priority=100)
    async def first(event):
        seen.append((event.number, event.line, event.reply.text))
        return v.Respond(event.reply.with_text("one")) if event.verb == "NOOP" else None

    @on("reply", priority=200)
    async def second(event):
        return v.Respond(Reply(251, "", f"{event.reply.text} and two")) if event.verb == "NOOP" else None

    async with Rig(plugins(first, second)) as rig:
        client = rig.connect()
        await greet(client)
        assert await client.command("NOOP") == "251 2.1.5 one and two"
        assert [(number, line) for number, line, _ in seen] == [(0, ""), (1, "EHLO client.example"), (2, "NOOP")]


async def test_what_ends_the_data_is_answered_under_its_own_name():
    lines = []

    @on("reply")
    async def looks(event):
        lines.append((event.number, event.line))

    async with Rig(plugins(looks)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        await content(client)
        assert lines[-2:] == [(4, "DATA"), (4, ".")]


async def test_a_reply_hides_the_password_of_its_line():
    lines = []

    @on("reply")
    async def looks(event):
        lines.append(event.line)

    async with Rig(plugins(looks)) as rig:
        client = rig.connect()
        await greet(client)
        await client.command("AUTH PLAIN AGEAYgBj")
        assert lines[-1] == "AUTH PLAIN ***"


@pytest.mark.parametrize("stage", ["command", "reply"])
async def test_a_response_that_closes_says_its_own_code_first(stage):
    @on(stage)
    async def drops(event):
        return v.Respond(NO, closes=True) if event.verb == "NOOP" else None

    async with Rig(plugins(drops)) as rig:
        client = rig.connect()
        await greet(client)
        client.send(b"NOOP\r\nNOOP\r\n")
        assert await client.reply() == "550 5.7.1 no"
        assert await client.reply() == ""


async def test_a_later_binding_may_change_the_words_and_not_the_end():
    @on("reply", priority=1)
    async def drops(event):
        return v.Respond(NO, closes=True) if event.verb == "NOOP" else None

    @on("reply", priority=2)
    async def words(event):
        return v.Respond(event.reply.with_text("never")) if event.verb == "NOOP" else None

    async with Rig(plugins(drops, words)) as rig:
        client = rig.connect()
        await greet(client)
        assert await client.command("NOOP") == "550 5.7.1 never"
        assert await client.reply() == ""


@pytest.mark.parametrize("stage", ["command", "reply"])
async def test_what_counts_as_an_error_ends_the_session_after_too_many(stage):
    @on(stage)
    async def blames(event):
        return v.Respond(NO, counts=True) if event.verb == "NOOP" else None

    async with Rig(plugins(blames)) as rig:
        allowed = rig.settings.limits.errors
        client = rig.connect()
        await greet(client)
        said = [await client.command("NOOP") for _ in range(allowed + 1)]
        assert said[:-1] == ["550 5.7.1 no"] * allowed
        assert said[-1].startswith("421 4.7.0 too many errors")
        assert await client.reply() == ""


async def test_a_command_may_not_be_answered_with_an_invitation_that_nobody_takes():
    @on("command")
    async def invites(event):
        return v.Respond(Reply(354, "", "send it")) if event.verb == "DATA" else None

    async with Rig(plugins(invites)) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command("DATA")).startswith("451 4.3.0")
        assert "Converse" in str(rig.records.errors[0][2])


# ── what is kept with a message ────────────────────────────────────────────────────────────────────────────────────


async def test_a_text_is_kept_with_the_message_and_seen_by_later_stages():
    seen = []

    @on("sender")
    async def keeps(event):
        event.keep("score", "5")
        seen.append(dict(event.kept))

    @on("message")
    async def looks(event):
        event.keep("ruling", "fine; \N{SNOWMAN}")
        seen.append(dict(event.kept))

    async with Rig(plugins(keeps, looks)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        await content(client)
        entry = await stored(rig)
        assert read_kept(entry.facts[FACT]) == {"score": "5", "ruling": "fine; \N{SNOWMAN}"}
        assert seen == [{"score": "5"}, {"score": "5", "ruling": "fine; \N{SNOWMAN}"}]


async def test_what_a_refused_recipient_was_to_keep_isnt_kept():
    @on("recipient")
    async def keeps(event):
        event.keep("last", str(event.recipient))
        return v.Refuse("no") if event.recipient.matches("bad@*") else None

    async with Rig(plugins(keeps)) as rig:
        client = rig.connect()
        await greet(client)
        await client.command("MAIL FROM:<a@b.example>")
        await client.command("RCPT TO:<c@d.example>")
        await client.command("RCPT TO:<bad@d.example>")
        await client.command("DATA")
        await client.content(b"Subject: x\r\n\r\nx\r\n")
        entry = await stored(rig)
        assert read_kept(entry.facts[FACT]) == {"last": "c@d.example"}


async def test_more_than_is_kept_is_the_plugins_failure():
    @on("sender")
    async def keeps(event):
        event.keep("all", "x" * MOST)

    async with Rig(plugins(keeps)) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command("MAIL FROM:<a@b.example>")).startswith("451 4.3.0")


@pytest.mark.parametrize("fact", [None, "", "{", "[]", "3"])
def test_a_damaged_fact_keeps_nothing(fact):
    assert read_kept(fact) == {}


async def stored(rig):
    """The only entry that the spool has."""
    (entry,) = await rig.spool.due(1e12, 10)
    return entry
