"""OnSmtpInboundCommand: whose words are said when sinks and the house disagree, and what failures and shadows leave."""

import asyncio
import gc
import weakref

import pytest

from gatepost.plugins.sink import constants as c
from gatepost.plugins.sink.responses import reply_of
from gatepost.testing.rig import Rig
from unit.plugins_sink.sink_talk import in_command, sinks
from unit.serving.serving_talk import greet

HOUSE = "250 2.0.0 ok"
LATE = {"priority": 30000}


def at(verb, function):
    """A sink that does this to the context of one command."""
    return in_command(lambda context: function(context) if context.QueryCommandKeyword() == verb else None)


async def said(plugins, command="NOOP"):
    async with Rig(plugins) as rig:
        client = rig.connect()
        await greet(client)
        heard = await client.command(command)
        return heard, "closed" if await client.command("NOOP") == "" else "open"


def native(text, status=None, code=None):
    def change(context):
        context.SetNativeResponse(text)
        if status is not None:
            context.SetCommandStatus(status)
        if code is not None:
            context.SetSmtpStatusCode(code)

    return change


def status(flag):
    return lambda context: context.SetCommandStatus(flag)


@pytest.mark.parametrize(
    ("change", "heard", "then"),
    [
        (native("250 mine\r\n"), "250 2.0.0 mine", "open"),
        (native("550 5.7.1 mine\r\n", c.EXPE_COMPLETE_FAILURE), "550 5.7.1 mine", "open"),
        (native("250 mine\r\n", c.EXPE_COMPLETE_FAILURE), "554 5.7.1 refused", "open"),
        (native("mine", c.EXPE_TRANSIENT_FAILURE), "451 4.3.0 mine", "open"),
        (native("mine", c.EXPE_TRANSIENT_FAILURE, 452), "452 4.3.1 mine", "open"),
        (status(c.EXPE_COMPLETE_FAILURE), "554 5.7.1 refused", "open"),
        (status(c.EXPE_TRANSIENT_FAILURE), "451 4.3.0 try again later", "open"),
        (status(c.EXPE_DROP_SESSION), HOUSE, "closed"),
        (status(c.EXPE_DROP_SESSION | c.EXPE_COMPLETE_FAILURE), "421", "closed"),
        (status(c.EXPE_SUCCESS), HOUSE, "open"),
        (status(c.EXPE_PIPELINED | c.EXPE_REPEAT_COMMAND | c.EXPE_CHANGE_STATE), HOUSE, "open"),
        (status(c.EXPE_BLOB_DONE), HOUSE, "open"),
        (lambda context: context.SetSmtpStatusCode(252), "252 2.1.5 ok", "open"),
        (lambda context: context.SetSmtpStatusCode(99), HOUSE, "open"),
    ],
)
async def test_what_a_late_sink_leaves_is_said_in_the_place_of_the_native_response(change, heard, then):
    told = await said(await sinks((at("NOOP", change), LATE)))
    assert told[0].startswith(heard)
    assert told[1] == then


async def test_a_dropped_session_without_a_response_hears_421_from_a_sink_before_the_house():
    assert await said(await sinks(at("NOOP", status(c.EXPE_DROP_SESSION)))) == (
        "421 4.3.2 closing the connection",
        "closed",
    )


async def test_a_capability_is_no_success_for_a_command_that_a_later_sink_fails():
    adds = at("EHLO", lambda context: context.AppendNativeResponse("250-XVERB\r\n"))
    fails = at("EHLO", status(c.EXPE_COMPLETE_FAILURE))
    async with Rig(await sinks(adds, fails)) as rig:
        client = rig.connect()
        await client.reply()
        assert await client.command("EHLO client.example") == "554 refused"


@pytest.mark.parametrize("command", ["NOOP", "XFOO", "MAIL FROM:<a@b.example>"])
async def test_a_late_sink_that_drops_says_its_own_421(command):
    def drops(context):
        context.SetResponse("421 4.7.0 go away")
        context.SetCommandStatus(c.EXPE_DROP_SESSION)

    heard, then = await said(await sinks((at(command.split()[0], drops), LATE)), command)
    assert heard.startswith("421 4.7.0 go away")
    assert then == "closed"


async def test_a_response_before_the_house_and_a_drop_behind_it():
    early = at("NOOP", lambda context: context.SetResponse("250 early"))
    late = at("NOOP", status(c.EXPE_DROP_SESSION))
    assert await said(await sinks(early, (late, LATE))) == ("250 2.0.0 early", "closed")


async def test_set_to_nothing_the_native_response_counts_again():
    early = at("NOOP", lambda context: context.SetResponse("250 early"))
    later = at("NOOP", lambda context: context.SetResponse(""))
    assert await said(await sinks(early, later)) == (HOUSE, "open")


@pytest.mark.parametrize("how", [{"priority": 24000}, LATE])
async def test_what_a_failing_sink_said_is_forgotten_and_what_it_put_in_a_bag_stays(how):
    seen = []

    class Fails:
        def OnSmtpInCommand(self, server, session, message, context):
            if context.QueryCommand() == "NOOP":
                session.PutDWORD(0x9000, 7)
                context.SetResponse("550 no")
                context.SetProtocolErrorFlag(True)
                raise RuntimeError("boom")

    class Looks:
        def OnSmtpInCommand(self, server, session, message, context):
            if context.QueryCommand() == "NOOP":
                seen.append((session.GetDWORD(0x9000), context.QueryResponse(), context.QueryProtocolErrorFlag()))

    heard, _ = await said(await sinks((Fails, {"on_failure": "proceed", **how}), (Looks, {"priority": 31000})))
    assert heard == HOUSE
    assert seen == [(7, "", False)] * 2


async def test_a_shadow_has_bags_of_its_own_that_last():
    seen = []

    def counting(name):
        class Counts:
            def OnSmtpInCommand(self, server, session, message, context):
                for bag in (server, session):
                    bag.PutDWORD(0x9000, (bag.GetDWORD(0x9000) if 0x9000 in bag else 0) + 1)
                seen.append((name, server.GetDWORD(0x9000), session.GetDWORD(0x9000)))

        return Counts

    shadow = (counting("shadow"), {"shadow": True, "inline": True})
    async with Rig(await sinks(shadow, (counting("real"), {"inline": True}))) as rig:
        for _ in range(2):
            client = rig.connect()
            await greet(client)
            await client.command("NOOP")
            await rig.patience.idle()
    assert sorted(seen) == [
        (name, total, own) for name in ("real", "shadow") for total, own in ((1, 1), (2, 2), (3, 1), (4, 2))
    ]


@pytest.mark.parametrize("line", ["AUTH PLAIN", "AUTH LOGIN"])
async def test_what_follows_a_command_is_no_command(line):
    """A continuation of AUTH, and the content, aren't asked about."""
    seen = []
    noting = in_command(lambda context: seen.append(context.QueryCommand()))
    async with Rig(await sinks(noting, (noting, LATE))) as rig:
        client = rig.connect()
        await greet(client)
        for command in (line, "*", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"):
            await client.command(command)
        await client.content(b"Subject: x\r\n\r\nMAIL FROM:<content@is.none>\r\n")
    assert [one.partition(" ")[0] for one in seen if not one.startswith("*")] == [
        word for word in ("EHLO", "AUTH", "MAIL", "RCPT", "DATA") for _ in range(2)
    ]


async def test_a_result_may_come_before_the_method_has_returned_and_only_the_first_counts():
    def pends(context):
        context.SetResponse("250 done")
        context.NotifyAsyncCompletion(c.S_FALSE)
        context.NotifyAsyncCompletion(c.E_FAIL)
        return c.MAILTRANSPORT_S_PENDING

    assert await said(await sinks(at("NOOP", pends))) == ("250 2.0.0 done", "open")


async def test_many_sessions_pend_at_once_and_each_gets_its_own_result():
    waiting = []

    def pends(context):
        waiting.append(context)
        return c.MAILTRANSPORT_S_PENDING

    async with Rig(await sinks((at("XFOO", pends), {"inline": True}))) as rig:
        clients = [rig.connect() for _ in range(20)]
        for client in clients:
            await greet(client)
        for number, client in enumerate(clients):
            client.send(f"XFOO {number}\r\n".encode())
        while len(waiting) < 20:
            await asyncio.sleep(0)
        for context in reversed(waiting):
            context.SetResponse(f"250 {context.QueryCommand()}")
            context.NotifyAsyncCompletion(c.EXPE_S_CONSUMED)
        assert [await client.reply() for client in clients] == [f"250 2.0.0 XFOO {number}" for number in range(20)]


# ── who is asked, and what is left to the house ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hresult", [c.S_FALSE, c.EXPE_S_CONSUMED])
async def test_a_success_ends_the_chain_behind_the_house_too(hresult):
    asked = []
    first = at("NOOP", lambda context: hresult)
    second = at("NOOP", lambda context: asked.append(context.QueryCommand()))
    assert await said(await sinks((first, LATE), (second, {"priority": 30001}))) == (HOUSE, "open")
    assert asked == []


async def test_a_failed_data_is_never_the_houses():
    """For what can't be taken back it matters that the house hasn't been asked."""
    fails = at("DATA", status(c.EXPE_COMPLETE_FAILURE))
    async with Rig(await sinks(fails)) as rig:
        client = rig.connect()
        await greet(client)
        heard = [
            await client.command(line) for line in ("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA", "NOOP")
        ]
        assert [one[:3] for one in heard] == ["250", "250", "554", "250"]


class Taker:
    """After S_OK, and with the words of whoever is asked later, takes one line."""

    then = c.EXPE_BLOB_DONE

    def OnSmtpInCommand(self, server, session, message, context):
        if context.QueryCommandKeyword() == "XFOO":
            context.SetCallback(self)
            context.SetCommandStatus(c.EXPE_BLOB_READY)
            context.SetResponse("354 go")

    def OnSmtpInCallback(self, server, session, message, context):
        context.SetResponse(b"250 took " + context.QueryBlob())
        context.SetCommandStatus(self.then)


async def test_lines_are_taken_after_an_ok_too():
    async with Rig(await sinks(Taker)) as rig:
        client = rig.connect()
        await greet(client)
        assert [await client.command(line) for line in ("XFOO", "a line", "NOOP")] == [
            "354 go",
            "250 2.0.0 took a line",
            HOUSE,
        ]


async def test_a_dropped_session_takes_no_more_lines():
    class Drops(Taker):
        then = c.EXPE_BLOB_READY | c.EXPE_DROP_SESSION

    async with Rig(await sinks(Drops)) as rig:
        client = rig.connect()
        await greet(client)
        assert [await client.command(line) for line in ("XFOO", "a line", "NOOP")] == [
            "354 go",
            "250 2.0.0 took a line",
            "",
        ]


async def test_who_took_the_lines_is_let_go_at_the_end():
    made = []

    class Noted(Taker):
        def __init__(self):
            made.append(weakref.ref(self))

    async with Rig(await sinks(Noted)) as rig:
        client = rig.connect()
        await greet(client)
        for line in ("XFOO", "a line", "NOOP"):
            await client.command(line)
        gc.collect()
        assert [one() for one in made] == [None] * len(made)
        assert len(made) == 3


async def test_a_shadow_that_is_quicker_is_not_seen():
    shadow_is_done = asyncio.Event()
    seen = []

    class Shadow:
        async def OnSmtpInCommand(self, server, session, message, context):
            context.SetResponse("550 no")
            shadow_is_done.set()
            return c.S_FALSE

    class Waits:
        async def OnSmtpInCommand(self, server, session, message, context):
            await shadow_is_done.wait()
            seen.append(context.QueryResponse())

    looks = at("NOOP", lambda context: seen.append(context.QueryResponse()))
    plugins = await sinks(
        (Shadow, {"shadow": True, "priority": 10, "rule": "noop"}),
        (Waits, {"rule": "noop"}),
        looks,
    )
    heard, _ = await said(plugins)
    assert heard == HOUSE
    assert set(seen) == {""}


async def test_the_record_says_whose_words_are_said():
    silent = at("NOOP", lambda context: None)
    speaks = at("NOOP", lambda context: context.SetResponse("250 mine"))
    async with Rig(await sinks((silent, {"name": "silent"}), (speaks, {"name": "speaks"}))) as rig:
        client = rig.connect()
        await greet(client)
        assert await client.command("NOOP") == "250 2.0.0 mine"
        assert [one["plugin"] for one in rig.records.kinds("asked") if one["stage"] == "reply"] == ["speaks"]


@pytest.mark.parametrize(
    ("text", "code", "heard"),
    [
        ("250-one\r\n550 two\r\n", 0, ("250", "", "one\ntwo")),
        ("550 2.1.5 no\r\n", 0, ("550", "", "no")),
        ("550-5.7.1 one\r\n550 5.7.1 two", 0, ("550", "5.7.1", "one\ntwo")),
        ("550-5.7.1 one\r\n550 5.1.1 two", 0, ("550", "5.7.1", "one\n5.1.1 two")),
        ("220", 0, ("220", "", "ok")),
        ("5500 odd", 0, ("250", "", "5500 odd")),
        ("\r\n\r\n", 553, ("553", "", "refused")),
        ("later", 199, ("250", "", "later")),
        ("later", 600, ("250", "", "later")),
    ],
)
def test_the_first_code_of_a_text_is_the_replys(text, code, heard):
    reply = reply_of(text, code, 0)
    assert (str(reply.code), reply.status, reply.text) == heard
