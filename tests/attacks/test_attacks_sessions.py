"""Attacks on a whole session: F8 (talking before the banner) and R6 (buying time octet by octet)."""

import asyncio

import pytest

from gatepost.app.settings.root import Settings
from gatepost.hooks.api import on
from gatepost.plugins.python import load
from gatepost.testing.rig import Rig


async def begun(rig, *lines):
    client = rig.connect()
    await client.reply()
    for line in ("EHLO client.example", *lines):
        await client.command(line)
    return client


async def turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_F8_who_talks_before_the_banner_is_turned_away():
    async with Rig() as rig:
        client = rig.connect()
        client.send(b"EHLO x.example\r\nMAIL FROM:<a@b.example>\r\n")
        assert (await client.reply()).startswith("554")
        assert await client.reply() == ""


async def test_F8_who_talks_while_a_plugin_thinks_about_the_connection_is_turned_away():
    asked, may_answer = asyncio.Event(), asyncio.Event()

    @on("connect")
    async def thinks(event):
        asked.set()
        await may_answer.wait()

    async with Rig([load(thinks)]) as rig:
        client = rig.connect()
        await asked.wait()
        client.send(b"EHLO x.example\r\n")
        may_answer.set()
        assert (await client.reply()).startswith("554")
        assert await client.reply() == ""


async def drip(client, *pieces):
    """The session's deadline after each piece; a turn of the clock lies between them."""
    deadlines = []
    for piece in pieces:
        client.send(piece)
        await turns()
        deadlines.append(client.line.deadline)
        await asyncio.sleep(0.002)
    return deadlines


@pytest.mark.parametrize(
    ("before", "first", "more"),
    [
        ((), b"NOOP", b"x"),
        ((), b"NOOP " + b"x" * 20000, b"x"),
        ((), b"BDAT 100000\r\nx", b"x"),
        (("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "BDAT 0"), b"BD", b"A"),
    ],
    ids=["command", "endless line", "refused chunk", "between chunks"],
)
async def test_R6_pieces_buy_no_time(before, first, more):
    async with Rig() as rig:
        client = await begun(rig, *before)
        start, *later = await drip(client, first, more, more)
        assert later == [start, start]


async def test_R6_content_that_is_refused_buys_no_time():
    settings = Settings.in_memory(hostname="mx.test", limits={"message_size": "16KiB", "header_size": "16KiB"})
    async with Rig(settings=settings) as rig:
        client = await begun(rig, "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA")
        start, *later = await drip(client, b"\r\n" * 9000, b"x", b"x")
        assert later == [start, start]


async def test_R6_whole_commands_and_content_have_time_anew():
    async with Rig() as rig:
        client = await begun(rig)
        first, second = await drip(client, b"NOOP\r\n", b"NOOP\r\n")
        assert second > first
        client = await begun(rig, "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA")
        first, second = await drip(client, b"Subject: x\r\n\r\nhello ", b"hello ")
        assert second > first
