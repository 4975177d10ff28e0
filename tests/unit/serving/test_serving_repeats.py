"""No second copy for a client that vanished before it could hear our 250, and never a lost mail for anybody."""

import pytest

from gatepost.app.settings.root import Settings
from gatepost.hooks.api import on, tempfail
from gatepost.serving.repeats import REFRESH_S, Repeats
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import MESSAGE, Memory, content, envelope, greet, plugins, sent, vanish

LMTP = [{"address": "127.0.0.1:0", "protocol": "lmtp"}]


async def test_the_same_message_again_is_answered_with_the_old_ticket_however_often_the_answer_is_lost():
    async with Rig(repeats=Repeats(Memory())) as rig:
        tickets = []
        for _ in range(3):
            client, said = await sent(rig, "c@d.example")
            tickets.append(said.rpartition(" ")[2])
            await vanish(rig, client)
        assert len(set(tickets)) == 1
        assert rig.spool.counts().queued == 1


async def test_who_has_heard_the_250_may_send_the_same_again():
    async with Rig(repeats=Repeats(Memory())) as rig:
        for _ in range(2):
            client, _ = await sent(rig, "c@d.example")
            await client.command("NOOP")
            await vanish(rig, client)
        assert rig.spool.counts().queued == 2


async def test_what_plugins_change_doesnt_make_it_another_message():
    @on("message")
    async def adds(event):
        event.recipients.add("z@d.example")
        event.change_sender("other@b.example")

    async with Rig(plugins(adds), repeats=Repeats(Memory())) as rig:
        for _ in range(2):
            client, _ = await sent(rig, "c@d.example")
            await vanish(rig, client)
        assert rig.spool.counts().queued == 1


async def test_lmtp_a_refused_recipient_is_refused_again():
    @on("message")
    async def later(event):
        return {one: tempfail("later") for one in event.recipients if one.local == "b"}

    settings = Settings.in_memory(hostname="mx.test", listen=LMTP)
    memory = Memory()
    async with Rig(plugins(later), settings=settings, repeats=Repeats(memory)) as rig:
        for _ in range(2):
            client, first = await sent(rig, "a@d.example", "b@d.example", verb="LHLO")
            assert (first[:3], (await client.reply())[:3]) == ("250", "451")
            await vanish(rig, client)
        assert memory.facts == {}


async def test_prdr_a_refused_recipient_is_refused_again():
    @on("message")
    async def later(event):
        return {one: tempfail("later") for one in event.recipients if one.local == "b"}

    async with Rig(plugins(later), repeats=Repeats(Memory())) as rig:
        for _ in range(2):
            client, _ = await sent(rig, "a@d.example", "b@d.example", parameters=" PRDR")
            said = [await client.reply() for _ in range(3)]
            assert [one[:3] for one in said] == ["250", "451", "250"]
            await vanish(rig, client)


async def test_a_server_that_goes_down_arms_as_well():
    memory = Memory()
    rig = Rig(repeats=Repeats(memory))
    await rig.open()
    await sent(rig, "c@d.example")
    await rig.close()
    assert rig.records.kinds("end")[0]["how"] == "shutdown"
    assert len(rig.records.kinds("unheard")) == 1 and len(memory.facts) == 2


class Broken(Memory):
    def __init__(self, what):
        super().__init__()
        self.what = what
        self.facts = {"any": "x"}

    async def put(self, *facts):
        if self.what == "put":
            raise OSError
        await super().put(*facts)

    async def take_once(self, *facts):
        if self.what == "take_once":
            raise OSError
        return await super().take_once(*facts)

    async def get(self, *facts):
        if self.what == "get":
            raise OSError
        return await super().get(*facts)


@pytest.mark.parametrize("what", ["put", "get", "take_once"])
async def test_a_ledger_that_fails_costs_no_mail(what):
    async with Rig(repeats=Repeats(Broken(what))) as rig:
        client, said = await sent(rig, "c@d.example")
        assert said.startswith("250")
        await vanish(rig, client)
        assert client.line.closed
        assert rig.records.kinds("end")[0]["how"] == "lost"
        assert rig.spool.counts().queued == 1


async def test_a_client_that_comes_straight_from_another_worker_is_known():
    memory, now = Memory(), [100.0]
    here = Repeats(memory, lambda: now[0])
    assert not await here.may_fire(began=99.0)
    now[0] += REFRESH_S / 4
    await memory.put("repeat", "any", "ticket", 1.0)
    assert not await here.may_fire(began=99.0)  # who was here all the time can't have come from there
    assert await here.may_fire(began=now[0])


async def test_one_look_serves_every_session_that_was_there():
    looks = []

    class Counting(Memory):
        async def get(self, space, key):
            looks.append(key)
            return await super().get(space, key)

    async with Rig(repeats=Repeats(Counting())) as rig:
        client, _ = await sent(rig, "c@d.example")
        for _ in range(3):
            await envelope(client, "c@d.example")
            await content(client, MESSAGE)
        assert looks == ["any"]


async def test_greeting_counts_as_nothing():
    async with Rig(repeats=Repeats(Memory())) as rig:
        client = rig.connect()
        await greet(client)
        await vanish(rig, client)
        assert not rig.records.kinds("unheard")
