"""Who has content of his own keeps what makes it so when a later plugin rewrites the message."""

from gatepost import on
from gatepost.model import Bytes, ReplaceMessage
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import MESSAGE, envelope, greet, plugins


@on("message", priority=1)
async def splitting(event):
    [ann] = [one for one in event.recipients if one.local == "ann"]
    event.recipients.split([ann]).headers["X-For"] = "ann"


@on("message", priority=2)
async def rewriting(event):
    event.message.edit(ReplaceMessage(Bytes(b"Subject: new\r\n\r\nnew\r\n")))


async def test_a_split_outlives_a_rewriting():
    async with Rig(plugins(splitting, rewriting)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "ann@y.example", "bob@y.example")
        await client.command("DATA")
        assert (await client.content(MESSAGE)).startswith("250")
        stored = {
            recipient.local: entry.content.read()
            for entry in await rig.spool.entries()
            for recipient in entry.envelope.recipients
        }
    assert stored["bob"] == b"Subject: new\r\n\r\nnew\r\n"
    assert stored["ann"] == b"Subject: new\r\nX-For: ann\r\n\r\nnew\r\n"
