"""OnSmtpInboundCommand: chains, responses, statuses, conversations, rules; through the real reception."""

import asyncio
import threading

import pytest

from gatepost.hooks.api import on
from gatepost.plugins.python import load
from gatepost.plugins.sink import constants as c
from gatepost.testing.rig import Rig
from unit.plugins_sink.sink_talk import SinkOptions, in_command, sinks, talk
from unit.serving.serving_talk import content, envelope, greet


def saying(text, hresult=c.S_FALSE, *, status=None, code=None, verb="XFOO", error=None):
    def answer(context):
        if context.query_command_keyword().upper() != verb:
            return None
        if text is not None:
            context.set_response(text)
        if status is not None:
            context.set_command_status(status)
        if code is not None:
            context.set_smtp_status_code(code)
        if error is not None:
            context.set_protocol_error_flag(error)
        return hresult

    return in_command(answer)


@pytest.mark.parametrize(
    ("text", "status", "code", "heard"),
    [
        ("250 here\r\n", None, None, "250 2.0.0 here"),
        ("here", None, None, "250 2.0.0 here"),
        ("here\0", None, 550, "550 5.7.1 here"),
        ("here", c.EXPE_TRANSIENT_FAILURE, None, "451 4.3.0 here"),
        ("here", c.EXPE_COMPLETE_FAILURE, None, "554 5.7.1 here"),
        ("550 5.7.1 denied\r\n", c.EXPE_COMPLETE_FAILURE, 550, "550 5.7.1 denied"),
        ("550 denied", c.EXPE_TRANSIENT_FAILURE, 451, "550 5.7.1 denied"),
        ("250-one\r\n250 two\r\n", None, None, "250-2.0.0 one\n250 2.0.0 two"),
        ("one\ntwo\n", None, 220, "220-2.0.0 one\n220 2.0.0 two"),
        ("999 odd", None, None, "250 2.0.0 999 odd"),
        (None, None, None, "250 2.0.0 ok"),
        (None, c.EXPE_COMPLETE_FAILURE, None, "554 5.7.1 refused"),
        ("250 a\rb\x00c\x1b[31m", None, None, "250-2.0.0 a\n250 2.0.0 b c [31m"),
    ],
)
@pytest.mark.parametrize("hresult", [c.S_FALSE, c.EXPE_S_CONSUMED])
async def test_what_a_consuming_sink_says_is_the_reply(text, status, code, heard, hresult):
    (said,) = await talk(await sinks(saying(text, hresult, status=status, code=code)), "XFOO bar")
    assert said == heard


async def test_an_ok_leaves_the_command_to_the_house_and_its_words_to_the_sink():
    mail, rcpt = await talk(
        await sinks(saying("250 2.1.0 glad\r\n", c.S_OK, verb="MAIL")),
        "MAIL FROM:<a@b.example>",
        "RCPT TO:<c@d.example>",
    )
    assert (mail, rcpt) == ("250 2.1.0 glad", "250 2.1.5 recipient ok")


@pytest.mark.parametrize("flag", [c.EXPE_COMPLETE_FAILURE, c.EXPE_TRANSIENT_FAILURE])
async def test_a_failed_status_keeps_the_house_out_even_after_an_ok_and_later_sinks_are_asked(flag):
    asked = []
    later = in_command(lambda context: asked.append((context.query_command(), context.query_response())))
    mail, rcpt = await talk(
        await sinks(saying("no", c.S_OK, status=flag, verb="MAIL"), later),
        "MAIL FROM:<a@b.example>",
        "RCPT TO:<c@d.example>",
    )
    assert mail == ("554 5.7.1 no" if flag == c.EXPE_COMPLETE_FAILURE else "451 4.3.0 no")
    assert rcpt.startswith("503")
    assert ("MAIL FROM:<a@b.example>", "no") in asked


@pytest.mark.parametrize("hresult", [c.S_FALSE, c.EXPE_S_CONSUMED, 5])
async def test_another_success_ends_the_chain_before_the_house_and_behind_it(hresult):
    asked = []

    def noting(name):
        return in_command(lambda context: asked.append((name, context.query_command())))

    said = await talk(
        await sinks(saying("first", hresult, verb="NOOP"), noting("second"), (noting("late"), {"priority": 30000})),
        "NOOP",
    )
    assert said == ["250 2.0.0 first"]
    assert [one for one in asked if one[1] == "NOOP"] == []
    assert ("second", "EHLO client.example") in asked
    assert ("late", "EHLO client.example") in asked


async def test_priorities_order_sinks_and_the_house_stands_among_them():
    order = []

    def noting(name):
        return in_command(
            lambda context: (
                order.append((name, context.query_native_response()))
                if context.query_command_keyword() == "NOOP"
                else None
            )
        )

    house = "250 2.0.0 ok\r\n"
    await talk(
        await sinks(
            (noting("after"), {"priority": 24577}),
            (noting("last"), {"priority": 32767}),
            noting("usual"),
            (noting("first"), {"priority": 0}),
        ),
        "NOOP",
    )
    assert order == [("first", ""), ("usual", ""), ("after", house), ("last", house)]


async def test_a_sink_after_the_house_sees_its_response_and_that_of_the_sinks_before_it():
    seen = []

    def late(context):
        if context.query_command_keyword() == "NOOP":
            seen.append((context.query_response(), context.query_native_response(), context.query_command_status()))
            context.append_response("250 late\r\n")

    said = await talk(
        await sinks(saying("250-early\r\n", c.S_OK, verb="NOOP"), (in_command(late), {"priority": 30000})), "NOOP"
    )
    assert seen == [("250-early\r\n", "250 2.0.0 ok\r\n", c.EXPE_UNHANDLED)]
    assert said == ["250-2.0.0 early\n250 2.0.0 late"]


@pytest.mark.parametrize("priority", [24575, 30000])
async def test_a_capability_is_added_to_the_native_response(priority):
    def adds(context):
        if context.query_command_keyword() == "EHLO":
            context.append_native_response("250-XVERB\r\n250 XOTHER a b\r\n")

    async with Rig(await sinks((in_command(adds), {"priority": priority}))) as rig:
        client = rig.connect()
        heard = (await greet(client)).split("\n")
        assert heard[0].startswith("250-mx.test")
        assert "250-PIPELINING" in heard
        assert heard[-2:] == ["250-XVERB", "250 XOTHER a b"]


async def test_a_late_sink_refuses_a_recipient_that_the_house_has_taken():
    def denies(context):
        if "TO:<no@" in context.query_command():
            context.set_response("550 5.7.1 not this one")

    async with Rig(await sinks((in_command(denies), {"priority": 30000}))) as rig:
        client = rig.connect()
        await greet(client)
        said = await envelope(client, "yes@d.example", "no@d.example")
        assert said[1:] == ["250 2.1.5 recipient ok", "550 5.7.1 not this one"]
        assert (await content(client)).startswith("250")
        (entry,) = await rig.spool.due(1e12, 10)
        assert [str(one) for one in entry.envelope.recipients] == ["yes@d.example"]


async def test_nobody_is_told_of_a_success_that_isnt_one():
    late = in_command(lambda context: context.set_response("250 sure"))
    (said,) = await talk(await sinks((late, {"priority": 30000})), "RCPT TO:<c@d.example>")
    assert said == "503 5.5.1 sure"


@pytest.mark.parametrize("priority", [24575, 30000])
async def test_a_dropped_session_ends_after_the_response(priority):
    drops = saying("550 go away", status=c.EXPE_DROP_SESSION, verb="NOOP")
    async with Rig(await sinks((drops, {"priority": priority}))) as rig:
        client = rig.connect()
        await greet(client)
        client.send(b"NOOP\r\nNOOP\r\n")
        assert await client.reply() == "550 5.7.1 go away"
        assert await client.reply() == ""


async def test_shields_up_drops_with_a_response_that_has_no_code():
    def shield(context):
        if context.query_command_keyword() == "EHLO":
            context.set_response("We don't talk to you\0")
            context.set_command_status(c.EXPE_DROP_SESSION)
            return c.EXPE_S_CONSUMED
        return c.S_OK

    async with Rig(await sinks(in_command(shield))) as rig:
        client = rig.connect()
        await client.reply()
        assert await client.command("EHLO evil.example") == "421 We don't talk to you"
        assert await client.reply() == ""


@pytest.mark.parametrize(("hresult", "priority"), [(c.S_FALSE, 24575), (c.S_OK, 24575), (c.S_OK, 30000)])
async def test_protocol_errors_add_up(hresult, priority):
    blames = saying("250 hm" if hresult else None, hresult, verb="NOOP", error=True)
    async with Rig(await sinks((blames, {"priority": priority}))) as rig:
        client = rig.connect()
        await greet(client)
        said = [await client.command("NOOP") for _ in range(rig.settings.limits.errors + 1)]
        assert said[-2].startswith("250")
        assert said[-1].startswith("421 4.7.0 too many errors")


@pytest.mark.parametrize(
    ("policy", "heard"), [(None, "451 4.3.0"), ("proceed", "250 2.0.0 ok"), ("refuse", "550 5.7.1")]
)
@pytest.mark.parametrize("failing", ["hresult", "exception", "nonsense"])
async def test_a_failing_sink_goes_by_on_failure(policy, heard, failing):
    def fails(context):
        if context.query_command_keyword() != "NOOP":
            return c.S_OK
        if failing == "hresult":
            return c.E_FAIL
        return 1 / 0 if failing == "exception" else "yes"

    (said,) = await talk(await sinks((in_command(fails), {"on_failure": policy})), "NOOP")
    assert said.startswith(heard)


async def test_a_signed_hresult_is_the_same_failure():
    (said,) = await talk(await sinks(saying("x", c.E_FAIL - 2**32, verb="NOOP")), "NOOP")
    assert said.startswith("451")


# ── rules ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        ("", ["EHLO client.example", "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "XFOO"]),
        ("ehlo", ["EHLO client.example"]),
        ("EHLO=*.Example", ["EHLO client.example"]),
        ("helo", []),
        ("mail from=*@b.example", ["MAIL FROM:<a@b.example>"]),
        ("mail from=*@other.example", []),
        ("rcpt to=c*; xfoo", ["RCPT TO:<c@d.example>", "XFOO"]),
        ("RCPT", ["RCPT TO:<c@d.example>"]),
    ],
)
@pytest.mark.parametrize("priority", [24575, 30000])
async def test_a_rule_says_which_commands(rule, asked, priority):
    seen = []
    noting = in_command(lambda context: seen.append(context.query_command()))
    await talk(
        await sinks((noting, {"rule": rule, "priority": priority})),
        "MAIL FROM:<a@b.example>",
        "RCPT TO:<c@d.example>",
        "XFOO",
    )
    assert seen == asked


@pytest.mark.parametrize("matches", [False, True])
async def test_ehlo_is_helo_only_where_the_settings_say_so(matches):
    seen = []
    noting = in_command(lambda context: seen.append(context.query_command()))
    options = SinkOptions(ehlo_matches_helo=matches)
    async with Rig(await sinks((noting, {"rule": "ehlo=*", "options": options}))) as rig:
        client = rig.connect()
        await greet(client, "HELO")
        assert seen == (["HELO client.example"] if matches else [])


# ── conversations ──────────────────────────────────────────────────────────────────────────────────────────────────


class Talker:
    """XTALK: asks for a name, then takes a body of lines up to a dot."""

    heard: list[bytes] = []  # noqa: RUF012  of the test

    def OnSmtpInCommand(self, server, session, message, context):
        if context.query_command_keyword() != "XTALK":
            return c.S_OK
        context.set_response("334 who?\r\n")
        context.set_command_status(c.EXPE_BLOB_READY)
        context.set_callback(self)
        self.lines = 0
        return c.S_FALSE

    def OnSmtpInCallback(self, server, session, message, context):
        blob = context.query_blob()
        self.heard.append(blob)
        if self.lines == 0:
            self.lines = 1
            context.set_response("354 tell\r\n")
            context.set_command_status(c.EXPE_BLOB_READY)
        elif blob == b".\r\n":
            context.set_response("250 thanks")
            context.set_command_status(c.EXPE_BLOB_DONE)
        else:
            context.set_command_status(c.EXPE_BLOB_READY)


async def test_the_lines_that_follow_are_the_callbacks():
    Talker.heard = []
    async with Rig(await sinks(Talker)) as rig:
        client = rig.connect()
        await greet(client)
        assert await client.command("XTALK") == "334 who?"
        assert await client.command("ann") == "354 tell"
        client.send(b"one\r\nQUIT\r\n.\r\nNOOP\r\n")
        assert await client.reply() == "250 2.0.0 thanks"
        assert await client.reply() == "250 2.0.0 ok"
        assert Talker.heard == [b"ann\r\n", b"one\r\n", b"QUIT\r\n", b".\r\n"]


@pytest.mark.parametrize("then", [c.EXPE_DROP_SESSION, c.EXPE_COMPLETE_FAILURE, c.EXPE_UNHANDLED])
async def test_a_conversation_ends_with_any_other_status(then):
    class Ends(Talker):
        def OnSmtpInCallback(self, server, session, message, context):
            context.set_command_status(then)

    async with Rig(await sinks(Ends)) as rig:
        client = rig.connect()
        await greet(client)
        await client.command("XTALK")
        said = await client.command("ann")
        assert said[:3] == {c.EXPE_DROP_SESSION: "421", c.EXPE_COMPLETE_FAILURE: "554"}.get(then, "250")
        assert (await client.command("NOOP") == "") == (then == c.EXPE_DROP_SESSION)


@pytest.mark.parametrize("priority", [24575, 30000])
async def test_nobody_is_left_to_take_a_blob(priority):
    ready = saying("334 go", c.S_FALSE, status=c.EXPE_BLOB_READY)
    async with Rig(await sinks((ready, {"priority": priority}))) as rig:
        client = rig.connect()
        await greet(client)
        said = await client.command("XFOO")
        assert said.startswith("451" if priority < 24576 else "500")
        ((_, _, error),) = rig.records.errors
        assert ("without SetCallback" if priority < 24576 else "below 24576") in str(error)


# ── pending ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hresult", [c.S_OK, c.S_FALSE, c.E_FAIL])
async def test_a_pending_call_is_completed_from_another_thread(hresult):
    def pends(context):
        if context.query_command() != "NOOP":
            return None

        def finish():
            context.set_response("250 at last")
            context.notify_async_completion(hresult)

        threading.Thread(target=finish).start()
        return c.MAILTRANSPORT_S_PENDING

    (said,) = await talk(await sinks(in_command(pends)), "NOOP")
    assert said.startswith("451" if hresult == c.E_FAIL else "250 2.0.0 at last")


async def test_a_call_that_stays_pending_goes_by_its_deadline():
    contexts = []

    def pends(context):
        contexts.append(context)
        return c.MAILTRANSPORT_S_PENDING

    async with Rig(await sinks((in_command(pends), {"timeout": 0.05, "rule": "noop"}))) as rig:
        client = rig.connect()
        await greet(client)
        assert (await client.command("NOOP")).startswith("451 4.3.0")
        with pytest.raises(RuntimeError, match="over"):
            contexts[0].NotifyAsyncCompletion(c.S_OK)


async def test_a_method_may_be_async():
    class Asynchronous:
        async def OnSmtpInCommand(self, server, session, message, context):
            await asyncio.sleep(0)
            if context.query_command() == "NOOP":
                context.set_response("250 async")
                return c.S_FALSE
            return None

    assert await talk(await sinks(Asynchronous), "NOOP") == ["250 2.0.0 async"]


# ── beside others ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_where_another_plugin_has_answered_nothing_of_an_earlier_line_is_said():
    @on("command", priority=10)
    async def answers(event):
        from gatepost.hooks.verdicts import Respond
        from gatepost.model import Reply

        return Respond(Reply(250, "2.0.0", "plugin")) if event.verb == "HELP" else None

    early = saying("250 early", c.S_OK, verb="NOOP")
    said = await talk([load(answers), *await sinks(early)], "NOOP", "HELP", "NOOP")
    assert said == ["250 2.0.0 early", "250 2.0.0 plugin", "250 2.0.0 early"]


async def test_a_shadow_changes_nothing():
    shadow = saying("550 no", c.S_FALSE, verb="NOOP")
    assert await talk(await sinks((shadow, {"shadow": True})), "NOOP") == ["250 2.0.0 ok"]


async def test_a_shadow_leaves_no_trace_in_what_others_see():
    seen = []
    shadow = saying("550 no", c.S_OK, verb="NOOP")
    noting = in_command(lambda context: seen.append((context.query_command(), context.query_response())))
    await talk(await sinks((shadow, {"shadow": True, "inline": True}), noting), "NOOP")
    assert seen[-1] == ("NOOP", "")


async def test_the_trace_has_a_sink_once_for_each_command():
    async with Rig(await sinks(in_command(lambda context: None))) as rig:
        client = rig.connect()
        await greet(client)
        await client.command("NOOP")
        assert [(one["stage"], one["plugin"]) for one in rig.records.kinds("asked")] == [("command", "Sink")] * 2
