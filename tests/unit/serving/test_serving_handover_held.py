"""What a plugin quarantines on a route that hands over is held here: it is nobody else's, and 250 was said."""

from gatepost.hooks.api import on, quarantine
from gatepost.model import Reply
from gatepost.plugins.python import load
from gatepost.serving.house import Gate, OpenTo
from gatepost.testing.rig import Rig


async def test_quarantined_mail_of_a_handing_over_route_is_held():
    given = []

    async def hand_over(session, transaction, envelope, content):
        given.append(envelope)
        return Reply(250, "2.0.0", "the next server has it")

    @on("message")
    async def doubtful(event):
        return quarantine("doubtful")

    async with Rig([load(doubtful)], gates=[Gate("*", OpenTo.ANYONE, hand_over=hand_over)]) as rig:
        client = rig.connect()
        await client.reply()
        for line in ("EHLO x.example", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"):
            await client.command(line)
        assert (await client.content(b"Subject: x\r\n\r\nhello\r\n")).startswith("250 ")
        assert given == []
        assert rig.spool.counts().held == 1


async def test_no_room_is_said_at_mail():
    room = {"octets": 1000}
    async with Rig() as rig:
        rig.place.house._has_room = lambda octets: octets <= room["octets"]
        client = rig.connect()
        await client.reply()
        await client.command("EHLO x.example")
        assert (await client.command("MAIL FROM:<a@b.example> SIZE=5000")).startswith("452 4.3.1 no room for mail now")
        assert (await client.command("MAIL FROM:<a@b.example> SIZE=500")).startswith("250")


def test_a_gate_reads_patterns_as_paths_do():
    from gatepost.model import Path, Recipient

    addresses = ["ann@example.org", "Ann@example.org", "info@sub.example.org", "postmaster", '"a@b"@example.org']
    for pattern in [
        "*",
        "*@example.org",
        "ann@*",
        "*@*.example.org",
        "info*",
        "postmaster@",
        "ANN@EXAMPLE.org",
        "a*@*",
    ]:
        gate = Gate(pattern)
        for address in addresses:
            recipient = Recipient(Path.parse(address, bare_postmaster=True))
            assert gate.takes(recipient) == (pattern == "*" or recipient.matches(pattern)), (pattern, address)
