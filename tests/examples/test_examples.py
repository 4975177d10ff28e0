"""Every example runs: what its first lines promise is what happens."""

from pathlib import Path

import pytest

from gatepost.checks.header import Header
from gatepost.plugins.python import load
from gatepost.testing import try_plugin
from gatepost.testing.rig import Rig

EXAMPLES = Path(__file__).parents[2] / "examples"
SPAM = "From: a@b.example\nSubject: win\nContent-Type: text/plain\n\nYou have won the LOTTERY.\n"


async def test_keywords_refuses_at_end_of_data():
    story = await try_plugin(EXAMPLES / "keywords.py", message=SPAM)
    assert story.refused(554)
    assert story.reply.startswith("554 5.7.1 this looks like spam (")
    assert story.notes == {"keyword": "lottery"}
    assert (await try_plugin(EXAMPLES / "keywords.py")).accepted()


async def test_keywords_takes_its_words_from_the_settings():
    story = await try_plugin(EXAMPLES / "keywords.py", message=SPAM, properties={"words": ["viagra"]})
    assert story.accepted()


async def test_allowlist_silences_later_plugins_for_partners_only():
    allow, keywords = load(EXAMPLES / "allowlist.py"), load(EXAMPLES / "keywords.py")
    for sender, expected in (("boss@partner.example", "250"), ("boss@other.example", "554")):
        async with Rig([allow, keywords]) as rig:
            client = rig.connect()
            await client.reply()
            await client.command("EHLO x.example")
            await client.command(f"MAIL FROM:<{sender}>")
            await client.command("RCPT TO:<ann@example.org>")
            await client.command("DATA")
            assert (await client.content(SPAM.replace("\n", "\r\n").encode())).startswith(expected)


async def test_tag_then_refuse():
    loud = "From: a@b.example\nSubject: BUY NOW\n\nhello\n"
    story = await try_plugin(EXAMPLES / "tag.py", message=loud)
    assert b"X-Spam-Flag: YES\r\nX-Spam-Reason: SUBJECT_ALL_CAPS\r\n" in story.content
    async with Rig([load(EXAMPLES / "tag.py"), load(Header)]) as rig:
        client = rig.connect()
        await client.reply()
        for line in ("EHLO x.example", "MAIL FROM:<a@b.example>", "RCPT TO:<ann@example.org>", "DATA"):
            await client.command(line)
        assert (await client.content(loud.replace("\n", "\r\n").encode())).startswith("554 5.7.1 refused as spam (")


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("ann@old.example", ["ann@example.org"]),
        ("sales@example.org", ["ann@example.org", "bob@example.org"]),
        ("carol@example.org", ["carol@example.org"]),
    ],
)
async def test_rewrite(to, expected):
    story = await try_plugin(EXAMPLES / "rewrite.py", to=to)
    assert story.recipients == expected
