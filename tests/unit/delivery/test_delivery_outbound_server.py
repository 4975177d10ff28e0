"""The stages and notices of delivery in a whole server: Maildirs, nowhere, and next servers."""

from __future__ import annotations

import asyncio

import pytest

from gatepost import Server, fail, on
from unit.delivery.delivery_peer import Peer, polite

LATE = """
from gatepost import on

@on("submitted")
async def late(event):
    event.add_header("X-Late", "yes")
"""
HELLO = b"Subject: hi\r\n\r\nhello\r\n"


def relay(peer):
    return {"by": "relay", "hosts": [f"127.0.0.1:{peer.port}"], "tls": "none"}


class Ears:
    """A plugin that is told everything, and waits for it."""

    def __init__(self):
        self.heard = []
        self.news = asyncio.Event()

    @on("delivered")
    @on("deferred")
    @on("bounced")
    async def told(self, notice):
        self.heard.append((notice.name, str(notice.recipient), notice.reply and notice.reply.code, str(notice.ticket)))
        self.news.set()

    async def until(self, number):
        while len(self.heard) < number:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), 10)


@pytest.mark.parametrize(("deliver", "reply"), [("maildir", None), ("discard", None), ("relay", 250)])
async def test_a_delivery_is_told_wherever_it_goes(deliver, reply, tmp_path):
    ears = Ears()
    async with Peer(polite()) as peer:
        how = relay(peer) if deliver == "relay" else deliver
        everybody = {"match": "*", "for": "anyone"} if deliver == "maildir" else {"match": "*@there.example"}
        route = [{**everybody, "deliver": how, "recipients": "any"}]
        async with Server(listen=[], route=route, data=tmp_path, plugins=[ears]) as server:
            sent = await server.send(HELLO, "me@here.example", "bob@there.example")
            await ears.until(1)
    assert ears.heard == [("delivered", "bob@there.example", reply, sent.ticket)]


async def test_failures_for_now_and_for_good_are_told():
    ears = Ears()
    script = polite(("RCPT TO:<no@*", "550 5.1.1 nobody"), ("RCPT TO:<later@*", "450 4.2.1 busy"))
    async with Peer(script) as peer:
        route = [{"match": "*", "deliver": relay(peer)}]
        async with Server(listen=[], route=route, plugins=[ears]) as server:
            await server.send(HELLO, "me@here.example", ["no@there.example", "later@there.example"])
            await ears.until(2)
    told = {(name, recipient, code) for name, recipient, code, _ in ears.heard}
    assert told >= {("bounced", "no@there.example", 550), ("deferred", "later@there.example", 450)}


async def test_explain_tells_what_was_said_on_the_way_out():
    ears = Ears()

    @on("out-recipient")
    async def picky(event):
        event.note(mood="bad")
        return fail(451, "4.7.1", "not today")

    async with Peer(polite()) as peer:
        route = [{"match": "*", "deliver": relay(peer)}]
        async with Server(listen=[], route=route, plugins=[ears, picky]) as server:
            sent = await server.send(HELLO, "me@here.example", "bob@there.example")
            await ears.until(1)
            told = str(server.explain(sent.ticket))
    assert "out-recipient picky" in told
    assert "FAIL  451 4.7.1 not today; <bob@there.example>; mood=bad" in told
    assert ears.heard[0][:3] == ("deferred", "bob@there.example", 451)


async def test_plugins_are_asked_by_the_settings_in_effect(tmp_path):
    ears = Ears()
    plugin = tmp_path / "late.py"
    plugin.write_text(LATE)
    async with Peer(polite()) as peer:
        route = [{"match": "*", "deliver": relay(peer)}]
        table = [{"source": str(plugin), "timeout": "5s"}]
        async with Server(listen=[], route=route, plugin=table, plugins=[ears]) as server:
            await server.send(HELLO, "me@here.example", "bob@there.example")
            await ears.until(1)
    assert b"X-Late: yes\r\n" in peer.mail[0]


@pytest.mark.parametrize("size", [10, 300_000])
async def test_a_program_filters_after_the_250_where_settings_say_so(size, tmp_path):
    content = b"Subject: hi\r\n\r\n" + b"hello\r\n" * (size // 7 + 1)
    ears = Ears()
    async with Peer(polite()) as peer:
        route = [{"match": "*", "deliver": relay(peer)}]
        table = [{"source": "sed -e 's/hello/hallo/'", "dialect": "program", "stages": ["submitted"]}]
        async with Server(listen=[], route=route, plugin=table, plugins=[ears], data=tmp_path / "data") as server:
            await server.send(content, "me@here.example", "bob@there.example")
            await ears.until(1)
            asked_later = peer.mail[0]
    assert asked_later.count(b"hallo\r\n") == size // 7 + 1
    assert b"hello" not in asked_later


async def test_an_isolated_plugin_after_the_250_is_refused_at_load(tmp_path):
    plugin = tmp_path / "late.py"
    plugin.write_text(LATE)
    with pytest.raises(ValueError, match="isolated plugins aren't asked after the 250"):
        async with Server(listen=[], plugin=[{"source": str(plugin), "isolate": True}]):
            pass


async def test_a_crash_between_answer_and_settlement_asks_again_and_delivers_once(tmp_path):
    """What was changed is in the spool whole or not at all: a settlement that can't be written leaves the old entry."""
    seen = []
    ears = Ears()

    @on("submitted", inline=True)
    def twice(event):
        seen.append([str(one) for one in event.recipients])
        event.recipients.add("carl@there.example")

    async with Peer(polite()) as peer:
        route = [{"match": "*@there.example", "for": "anyone", "deliver": relay(peer), "recipients": "any"}]
        async with Server(listen=[], route=route, plugins=[twice], data=tmp_path / "data") as server:
            spool = server._worker.stores.spool
            tried = asyncio.Event()

            async def crashes(*_, **__):
                tried.set()
                await asyncio.Event().wait()

            spool.settle = crashes
            await server.send(HELLO, "me@there.example", "bob@there.example")
            await asyncio.wait_for(tried.wait(), 10)
        assert peer.mail == []
        async with Server(listen=[], route=route, plugins=[twice, ears], data=tmp_path / "data"):
            await ears.until(2)
    assert seen == [["bob@there.example"]] * 2
    assert len(peer.mail) == 1
    assert {recipient for _, recipient, *_ in ears.heard} == {"bob@there.example", "carl@there.example"}
