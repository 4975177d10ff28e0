"""Notices: whatever a plugin does when it is told something, the session doesn't notice."""

import asyncio
import threading

import pytest

from gatepost.app.settings.root import Settings
from gatepost.hooks.api import discard, on, per_session, per_transaction, quarantine, refuse
from gatepost.model import Reply
from gatepost.serving import keeping
from gatepost.serving.house import Gate, OpenTo
from gatepost.testing.rig import Rig
from unit.serving.serving_talk import envelope, greet, plugins, sent, turns

LMTP = [{"address": "127.0.0.1:0", "protocol": "lmtp"}]


def answers_nonsense(notice):
    return 5


def raises(notice):
    raise ValueError("a bug")


async def raises_later(notice):
    await asyncio.sleep(0)
    raise SystemExit("a bug")


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("told", [answers_nonsense, raises, raises_later])
async def test_a_bug_in_a_notice_reaches_nobody(told, inline, caplog):
    @on("queued", inline=inline)
    @on("disconnected", inline=inline)
    def hook(notice):
        return told(notice)

    async with Rig(plugins(hook)) as rig:
        client, said = await sent(rig, "c@d.example")
        assert said.startswith("250")
        assert (await client.command("QUIT")).startswith("221")
        await rig.settled()
        assert client.line.closed
        assert rig.records.kinds("end")[0]["how"] == "quit"
    assert len(caplog.records) == (0 if told is answers_nonsense else 2)


async def test_a_plain_notice_hook_has_a_thread_of_its_plugin():
    told = asyncio.Event()
    where = []
    loop = asyncio.get_running_loop()

    @on("queued")
    def hook(notice):
        where.append(threading.current_thread())
        loop.call_soon_threadsafe(told.set)

    async with Rig(plugins(hook)) as rig:
        await sent(rig, "c@d.example")
        await told.wait()
        assert where[0] is not threading.main_thread()


async def queued_of(rig, told, verb="EHLO"):
    client, _ = await sent(rig, "a@d.example", "b@d.example", "c@d.example", verb=verb)
    await turns()
    return client, [[str(one) for one in notice.recipients] for notice in told]


def telling(told):
    @on("queued")
    async def hook(notice):
        told.append(notice)

    return hook


@pytest.mark.parametrize("verdict", [refuse("no"), discard("x"), quarantine("x")])
async def test_queued_tells_of_whom_the_message_was_queued_for(verdict):
    told = []

    @on("message")
    async def judges(event):
        return {one: verdict for one in event.recipients if one.local != "b"}

    settings = Settings.in_memory(hostname="mx.test", listen=LMTP)
    async with Rig(plugins(judges, telling(told)), settings=settings) as rig:
        _, recipients = await queued_of(rig, told, "LHLO")
        assert recipients == [["b@d.example"]]


async def test_queued_isnt_told_where_everybody_refused():
    told = []

    @on("message")
    async def judges(event):
        return refuse("no")

    settings = Settings.in_memory(hostname="mx.test", listen=LMTP)
    async with Rig(plugins(judges, telling(told)), settings=settings) as rig:
        client, recipients = await queued_of(rig, told, "LHLO")
        client.send(b"QUIT\r\n")
        await rig.settled()
        assert recipients == []
        assert rig.records.kinds("end")[0]["messages"] == 0


async def test_queued_isnt_told_of_what_was_handed_over():
    told = []

    async def hand_over(*_):
        return Reply(250, "2.0.0", "ok")

    async with Rig(plugins(telling(told)), gates=[Gate("*", OpenTo.ANYONE, hand_over=hand_over)]) as rig:
        _, recipients = await queued_of(rig, told)
        assert recipients == []


# ── what plugins keep ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_hung_aclose_holds_up_nobody(monkeypatch, caplog):
    monkeypatch.setattr(keeping, "CLOSE_S", 0.05)

    class Hung:
        async def aclose(self):
            await asyncio.Event().wait()

    of_session, of_transaction = per_session(Hung), per_transaction(Hung)

    @on("sender")
    async def hook(event):
        of_session(event)
        of_transaction(event)

    async with Rig(plugins(hook)) as rig:
        client, said = await sent(rig, "c@d.example")
        assert said.startswith("250")
        client.send(b"QUIT\r\n")
        async with asyncio.timeout(2):
            await rig.settled()
        assert client.line.closed
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


async def test_every_object_is_closed_once_and_before_its_session_is_over():
    closed = []

    class Kept:
        def __init__(self, what):
            self.what = what

        async def aclose(self):
            await asyncio.sleep(0)
            closed.append(self.what)

    of_session = per_session(lambda: Kept("session"))
    of_transaction = per_transaction(lambda: Kept("transaction"))

    @on("sender")
    async def hook(event):
        assert of_session(event) is of_session(event)
        assert of_transaction(event) is of_transaction(event)

    async with Rig(plugins(hook)) as rig:
        client, _ = await sent(rig, "c@d.example")
        await envelope(client)
        await client.command("RSET")
        client.send(b"QUIT\r\n")
        await asyncio.gather(*rig._sessions)
        assert sorted(closed) == ["session", "transaction", "transaction"]


async def test_an_object_that_cant_be_closed_is_logged(caplog):
    class Broken:
        def close(self):
            raise ValueError("a bug")

    kept = per_transaction(Broken)

    @on("sender")
    async def hook(event):
        kept(event)

    async with Rig(plugins(hook)) as rig:
        client, said = await sent(rig, "c@d.example")
        assert said.startswith("250")
        await turns()
        assert "couldn't be closed" in caplog.text
        assert (await client.command("NOOP")).startswith("250")


async def test_nothing_is_begun_beside_for_sessions_that_keep_nothing():
    async with Rig() as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "c@d.example")
        await client.command("RSET")
        assert not rig.patience._beside
