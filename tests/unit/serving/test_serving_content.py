"""From DATA to the reply at the end: failing disks, order of questions, hand-over, and the ticket."""

import asyncio

import pytest

from gatepost.hooks.api import hangup, on
from gatepost.model import Reply, Ticket
from gatepost.serving.house import Gate, OpenTo
from gatepost.serving.intake import Intake
from gatepost.store.errors import SpoolFailure, SpoolFull
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import MESSAGE, content, envelope, greet, plugins, sent


def failing(error):
    def draft(ticket):
        raise error("no")

    return draft


@pytest.mark.parametrize(("error", "code"), [(SpoolFull, "452"), (SpoolFailure, "451")])
@pytest.mark.parametrize("by", ["DATA", "BDAT"])
async def test_R15_a_spool_that_takes_no_content_is_a_temporary_refusal(error, code, by):
    async with Rig() as rig:
        real = rig.spool.draft
        rig.spool.draft = failing(error)
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        if by == "DATA":
            assert (await client.command("DATA")).startswith(code)
        else:
            client.send(b"BDAT %d LAST\r\n%b" % (len(MESSAGE), MESSAGE))
            assert (await client.reply()).startswith(code)
        rig.spool.draft = real
        await envelope(client, "c@d.example")
        assert (await content(client)).startswith("250")
        assert rig.spool.counts().queued == 1


@pytest.mark.parametrize("cut", [0, 10, len(MESSAGE)])
async def test_with_bdat_too_data_is_asked_before_the_headers(cut):
    order = []

    @on("data")
    async def data(event):
        order.append("data")

    @on("headers")
    async def headers(event):
        order.append(event.message.headers["Subject"])

    async with Rig(plugins(data, headers)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        client.send(b"BDAT %d\r\n%b" % (cut, MESSAGE[:cut]))
        assert (await client.reply()).startswith("250")
        client.send(b"BDAT %d LAST\r\n%b" % (len(MESSAGE) - cut, MESSAGE[cut:]))
        assert (await client.reply()).startswith("250")
        assert order == ["data", "x"]


async def test_a_data_refusal_at_bdat_spares_the_header_question():
    asked = []

    @on("data")
    async def data(event):
        return hangup("not today")

    @on("headers")
    async def headers(event):
        asked.append(event)

    async with Rig(plugins(data, headers)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        client.send(b"BDAT %d LAST\r\n%b" % (len(MESSAGE), MESSAGE))
        assert (await client.reply()).startswith("421")
        assert asked == []


async def test_hanging_up_at_the_headers_is_at_once():
    @on("headers")
    async def headers(event):
        return hangup("bye")

    async with Rig(plugins(headers)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        await client.command("DATA")
        client.send(MESSAGE)  # and no end
        async with asyncio.timeout(1):
            assert (await client.reply()).startswith("421 4.7.0 bye")
            assert await client.reply() == ""
        assert client.line.closed
        assert rig.records.kinds("message")[0]["reply"].startswith("421")


@pytest.mark.parametrize("message", [b"", b"\r\n", b"\r\na\r\n", b"a", b" x\r\n", b"X: y\r\n", b"\r\n\r\n"])
async def test_content_of_hardly_anything(message):
    seen = []

    @on("headers")
    async def headers(event):
        seen.append(event.message.headers.all("Received"))

    async with Rig(plugins(headers)) as rig:
        _, said = await sent(rig, "c@d.example", message=message)
        assert said.startswith("250")
        assert [len(received) for received in seen] == [1]
        assert (await rig.spool.entries())[0].content.read().startswith(b"Received: ")


async def test_the_header_section_of_hardly_anything_ends_at_its_empty_line():
    async with Rig() as rig:
        draft = rig.spool.draft(Ticket("0T315X-4E0001", 1))
        intake = Intake(draft, b"Received: x\r\n", rig.place.policy)
        assert intake.write(b"\r\na\r\n") is None
        assert intake.end().raw == b"\r\n"
        intake.swallow()


async def test_a_long_text_leaves_room_for_the_ticket():
    @on("message")
    async def talks(event):
        event.say("first\n" + "ä" * 600)

    async with Rig(plugins(talks)) as rig:
        _, said = await sent(rig, "c@d.example")
        assert said.endswith(f", {rig.last_session.id}-1")
        assert all(len(line.encode()) <= 510 for line in said.split("\n"))


# ── hand-over ──────────────────────────────────────────────────────────────────────────────────────────────────────


def taking(given):
    async def hand_over(session, transaction, envelope, blob):
        given.append(([str(one) for one in envelope.recipients], blob.read()))
        return Reply(250, "2.0.0", "the next server has it")

    return hand_over


@on("message")
async def splits(event):
    one = event.recipients.split([one for one in event.recipients if one.local == "a"])
    one.headers["X-Only-A"] = "1"


async def test_recipients_with_different_content_cant_be_handed_over_together():
    given = []
    async with Rig(plugins(splits), gates=[Gate("*", OpenTo.ANYONE, hand_over=taking(given))]) as rig:
        _, said = await sent(rig, "a@d.example", "b@d.example")
        assert said.startswith("451 4.5.3")
        assert given == [] and rig.spool.counts().queued == 0


async def test_recipients_who_all_have_the_same_content_of_their_own_are_handed_it():
    given = []
    async with Rig(plugins(splits), gates=[Gate("*", OpenTo.ANYONE, hand_over=taking(given))]) as rig:
        _, said = await sent(rig, "a@d.example")
        assert said == "250 2.0.0 the next server has it"
        [(recipients, message)] = given
        assert recipients == ["a@d.example"] and b"X-Only-A: 1\r\n" in message


async def test_two_patterns_of_one_route_are_one_server():
    given = []
    over = taking(given)
    gates = [Gate("*@d.example", OpenTo.ANYONE, hand_over=over), Gate("*@e.example", OpenTo.ANYONE, hand_over=over)]
    async with Rig(gates=gates) as rig:
        client = rig.connect()
        await greet(client)
        said = await envelope(client, "a@d.example", "b@e.example")
        assert [one[:3] for one in said] == ["250", "250", "250"]
        await content(client)
        assert [recipients for recipients, _ in given] == [["a@d.example", "b@e.example"]]


async def test_a_recipient_added_for_another_server_isnt_given_to_this_one():
    here, there = [], []
    gates = [
        Gate("*@d.example", OpenTo.ANYONE, hand_over=taking(here)),
        Gate("*@e.example", OpenTo.ANYONE, hand_over=taking(there)),
    ]

    @on("message")
    async def adds(event):
        event.recipients.add("b@e.example")

    async with Rig(plugins(adds), gates=gates) as rig:
        _, said = await sent(rig, "a@d.example")
        assert said.startswith("451 4.5.3")
        assert here == there == []


@pytest.mark.parametrize(("by", "code"), [("DATA", 354), ("BDAT", 250)])
async def test_the_reply_that_data_is_told_is_the_one_to_come(by, code):
    heard = []

    @on("data")
    async def hook(event):
        heard.append(event.reply.code)

    async with Rig(plugins(hook)) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "x@y.example")
        if by == "BDAT":
            client.send(b"BDAT %d LAST\r\n%b" % (len(MESSAGE), MESSAGE))
            assert (await client.reply()).startswith("250")
        else:
            assert (await client.command("DATA")).startswith("354")
        assert heard == [code]
