"""The event sinks of examples/event_sinks.py, bound as the head of the file says, through the real reception."""

from pathlib import Path

import pytest

from gatepost.testing.rig import Rig
from unit.plugins_sink.sink_talk import sinks
from unit.serving.serving_talk import greet

EXAMPLE = Path(__file__).parents[2] / "examples" / "event_sinks.py"


async def bound(cls, rule, *, stage="command", priority=None, **properties):
    words = {"rule": rule, "stages": (stage,), "properties": properties}
    return await sinks((f"{EXAMPLE}:{cls}", words | ({} if priority is None else {"priority": priority})))


async def test_the_shield_drops_who_says_our_name():
    for name, heard in (
        ("mx.test", "421 That is my name"),
        ("Example.ORG", "421 That is my name"),
        ("x.example", "250"),
    ):
        async with Rig(await bound("Shield", "EHLO", names="example.org mx.example.org")) as rig:
            client = rig.connect()
            await client.reply()
            assert (await client.command(f"EHLO {name}")).startswith(heard)
            assert (await client.command("NOOP") == "") == heard.startswith("421")


async def test_a_denied_recipient_leaves_the_others():
    async with Rig(await bound("Denied", "RCPT", names="bob@example.org carol@example.org")) as rig:
        client = rig.connect()
        await greet(client)
        await client.command("MAIL FROM:<a@b.example>")
        assert (await client.command("RCPT TO:<ann@example.org>")).startswith("250")
        heard = await client.command("RCPT TO:<Bob@example.org>")
        assert heard == "550 5.7.1 <bob@example.org> takes no mail from outside"
        assert (await client.command("DATA")).startswith("354")
        assert (await client.content(b"Subject: x\r\n\r\nx\r\n")).startswith("250")
        (entry,) = await rig.spool.due(1e12, 10)
        assert [str(one) for one in entry.envelope.recipients] == ["ann@example.org"]


async def test_a_verb_of_our_own_is_offered_and_takes_its_lines():
    plugins = [
        *await bound("Vacation", "EHLO", priority=24600),
        *await bound("Vacation", "XVACATION"),
    ]
    async with Rig(plugins) as rig:
        client = rig.connect()
        assert (await greet(client)).split("\n")[-1] == "250 XVACATION"
        assert (await client.command("XVACATION ann")).startswith("354 your text")
        client.send(b"I am away.\r\nQUIT\r\n.\r\n")
        assert await client.reply() == "250 2.0.0 2 lines kept for ann"
        assert await client.command("NOOP") == "250 2.0.0 ok"


@pytest.mark.parametrize(("delay", "heard"), [(3600, "451 4.7.1 not yet"), (0, "250 2.1.5")])
async def test_who_is_new_is_deferred_by_the_sink_property(delay, heard):
    async with Rig(await bound("Greylist", "RCPT", delay=delay, answer="not yet")) as rig:
        client = rig.connect()
        await greet(client)
        await client.command("MAIL FROM:<a@b.example>")
        for _ in range(2):
            assert (await client.command("RCPT TO:<ann@example.org>")).startswith(heard)


async def test_old_addresses_are_rewritten_and_the_text_says_so():
    async with Rig(await bound("Renamed", "rcpt to=*@old.example", stage="message")) as rig:
        client = rig.connect()
        await greet(client)
        await client.command("MAIL FROM:<a@b.example>")
        await client.command("RCPT TO:<ann@old.example>")
        await client.command("DATA")
        assert (await client.content(b"Subject: x\r\n\r\nhello\r\n")).startswith("250")
        (entry,) = await rig.spool.due(1e12, 10)
        assert [str(one) for one in entry.envelope.recipients] == ["ann@example.org"]
        assert entry.content.read().endswith(
            b"Subject: x\r\n\r\n(You still have our old address. Please change it.)\r\n\r\nhello\r\n"
        )
