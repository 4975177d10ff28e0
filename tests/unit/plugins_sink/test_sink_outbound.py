"""OnSmtpOutCommand on its way: each event, each status, two sinks in order, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from gatepost.hooks import stages
from gatepost.hooks.bindings import Binding, OnFailure
from gatepost.hooks.verdicts import repeat, send_line
from gatepost.model import Body, Bytes
from gatepost.plugins.sink.asking import SinkFailed
from gatepost.plugins.sink.constants import (
    E_FAIL,
    EXPE_BLOB_READY,
    EXPE_COMPLETE_FAILURE,
    EXPE_DROP_SESSION,
    EXPE_PIPELINED,
    EXPE_REPEAT_COMMAND,
    EXPE_S_CONSUMED,
    EXPE_SUCCESS,
    EXPE_TRANSIENT_FAILURE,
    EXPE_UNHANDLED,
    IMMPID_RP,
    NO_RECIPIENT,
    S_FALSE,
)
from unit.delivery.delivery_peer import polite
from unit.delivery.delivery_plugins import ANN, BOB, letter
from unit.plugins_sink.sink_outbound_rig import sent, sink

EHLO, MAIL, RCPT = "EHLO me.example", "MAIL FROM:<a@b.example>", "RCPT TO:<ann@d.example>"
WHOLE = [EHLO, MAIL, RCPT, "DATA", ".", "QUIT"]
LINES = {
    stages.OutSession: [EHLO],
    stages.OutMessage: [MAIL],
    stages.OutRecipient: [RCPT, "RCPT TO:<bob@d.example>"],
    stages.OutData: ["DATA"],
    stages.OutQuit: ["QUIT"],
    stages.OutCommand: [EHLO, MAIL, RCPT, "RCPT TO:<bob@d.example>", "DATA", "QUIT"],
}
SCRIPT = polite(("X*", "250 2.0.0 fine"))


def asked_with(**changes):
    """A sink that leaves the context so, and what it saw of each command."""
    result = changes.pop("returns", 0)
    seen = []

    def say(context, call):
        seen.append((context.command, context.command_status, context.blob))
        for name, value in changes.items():
            setattr(context, name, value)
        return result

    say.seen = seen
    return say


@pytest.mark.parametrize("event", LINES, ids=lambda event: event.name)
async def test_each_event_is_asked_about_its_commands(event):
    seen = []

    def say(context, call):
        seen.append(context.command)
        assert context.native_command == context.command
        assert context.keyword == context.command.partition(" ")[0]
        assert (context.command_status, context.blob) == (EXPE_UNHANDLED, None)
        assert call.session is bags.setdefault("session", call.session)

    bags = {}
    found = await sent(sink(event, say), what=letter(ANN, BOB))
    assert seen == LINES[event]
    assert found.codes == [250, 250]


async def test_the_recipient_has_its_place_and_the_message_what_is_known():
    places, senders = [], []

    def say(context, call):
        places.append((context.keyword, context.recipient_index, len(call.message.recipients)))
        senders.append(call.message.properties.get(0x1002))

    await sent(sink(stages.OutCommand, say), what=letter(ANN, BOB))
    none = NO_RECIPIENT
    assert places[:3] == [("EHLO", none, 0), ("MAIL", none, 2), ("RCPT", 0, 2)]
    assert places[3:5] == [("RCPT", 1, 2), ("DATA", none, 2)]
    assert senders[:5] == [None, *[b"a@b.example\0"] * 4]


async def test_a_changed_command_is_sent_and_seen_by_the_next():
    def first(context, call):
        context.command = f"{context.command} NOTIFY=NEVER\r\n\0"

    second = asked_with(command="RCPT TO:<carl@d.example>")
    third = asked_with()
    recipient = stages.OutRecipient
    found = await sent(
        sink(recipient, third, priority=3), sink(recipient, second, priority=2), sink(recipient, first, priority=1)
    )
    assert second.seen == [(f"{RCPT} NOTIFY=NEVER", EXPE_UNHANDLED, None)]
    assert third.seen == [("RCPT TO:<carl@d.example>", EXPE_UNHANDLED, None)]
    assert found.lines[2] == "RCPT TO:<carl@d.example>"
    assert found.codes == [250]


@pytest.mark.parametrize("result", [S_FALSE, EXPE_S_CONSUMED, 7])
async def test_another_success_ends_the_chain_and_sends_what_was_set(result):
    first, later = asked_with(command="RCPT TO:<carl@d.example>", returns=result), asked_with()
    heard = []

    def listen(event):
        heard.append(event.line)

    found = await sent(
        sink(stages.OutRecipient, first, priority=1),
        sink(stages.OutCommand, later, priority=2),
        [Binding("python", stages.OutCommand, lambda event: heard.append(event.line), priority=3)],
        [Binding("listener", stages.OutReply, lambda event: heard.append(event.line))],
    )
    assert found.lines[2] == "RCPT TO:<carl@d.example>"
    assert [line for line, *_ in later.seen] == [EHLO, MAIL, "DATA", "QUIT"]
    assert heard == ["", EHLO, EHLO, MAIL, MAIL, "RCPT TO:<carl@d.example>", *["DATA"] * 2, "", "QUIT", "QUIT"]
    assert found.codes == [250]
    assert found.errors == []


@pytest.mark.parametrize(
    ("event", "heard", "codes"),
    [
        (stages.OutSession, ["QUIT"], [451]),
        (stages.OutMessage, [EHLO, "QUIT"], [451]),
        (stages.OutRecipient, [EHLO, MAIL, "QUIT"], [451]),
        (stages.OutData, [EHLO, MAIL, RCPT, "QUIT"], [451]),
        (stages.OutQuit, WHOLE[:-1], [250]),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
async def test_a_consumed_command_that_was_not_changed_is_left_out(event, heard, codes):
    found = await sent(sink(event, asked_with(returns=S_FALSE)))
    assert found.lines == heard
    assert found.codes == codes
    assert found.errors == []


# status × event: what is heard, what becomes of Ann
STATUSES = [
    (EXPE_SUCCESS, stages.OutCommand, WHOLE, 250),
    (EXPE_PIPELINED, stages.OutCommand, WHOLE, 250),
    (EXPE_DROP_SESSION, stages.OutSession, ["QUIT"], 451),
    (EXPE_DROP_SESSION, stages.OutMessage, [EHLO, "QUIT"], 451),
    (EXPE_DROP_SESSION, stages.OutRecipient, [EHLO, MAIL, "QUIT"], 451),
    (EXPE_DROP_SESSION, stages.OutData, [EHLO, MAIL, RCPT, "QUIT"], 451),
    (EXPE_DROP_SESSION, stages.OutQuit, WHOLE[:-1], 250),
    (EXPE_DROP_SESSION | EXPE_COMPLETE_FAILURE, stages.OutRecipient, [EHLO, MAIL, "QUIT"], 550),
    (EXPE_TRANSIENT_FAILURE, stages.OutSession, ["QUIT"], 451),
    (EXPE_TRANSIENT_FAILURE, stages.OutMessage, [EHLO, "QUIT"], 451),
    (EXPE_TRANSIENT_FAILURE, stages.OutRecipient, [EHLO, MAIL, "QUIT"], 451),
    (EXPE_TRANSIENT_FAILURE, stages.OutData, [EHLO, MAIL, RCPT, "QUIT"], 451),
    (EXPE_COMPLETE_FAILURE, stages.OutMessage, [EHLO, "QUIT"], 550),
    (EXPE_COMPLETE_FAILURE, stages.OutRecipient, [EHLO, MAIL, "QUIT"], 550),
    (EXPE_COMPLETE_FAILURE, stages.OutData, [EHLO, MAIL, RCPT, "QUIT"], 550),
    (EXPE_COMPLETE_FAILURE, stages.OutQuit, WHOLE, 250),
    (EXPE_REPEAT_COMMAND, stages.OutRecipient, WHOLE, 250),
]


@pytest.mark.parametrize(("status", "event", "heard", "code"), STATUSES)
@pytest.mark.parametrize("result", [0, S_FALSE])
async def test_each_status_at_each_event(status, event, heard, code, result):
    if result == S_FALSE and status in (EXPE_SUCCESS, EXPE_PIPELINED):
        heard, code = [], 451  # nobody sends anything
    if result == S_FALSE and (status, event) == (EXPE_COMPLETE_FAILURE, stages.OutQuit):
        heard = WHOLE[:-1]
    found = await sent(sink(event, asked_with(command_status=status, returns=result)))
    assert found.lines == heard
    assert found.codes == [code]
    assert found.errors == []


async def test_a_status_stands_until_a_later_sink_changes_it():
    first = asked_with(command_status=EXPE_COMPLETE_FAILURE)
    looks, forgives = asked_with(), asked_with(command_status=EXPE_SUCCESS)
    recipient = stages.OutRecipient
    stands = await sent(sink(recipient, first, priority=1), sink(recipient, looks, priority=2))
    assert stands.codes == [550]
    assert looks.seen == [(RCPT, EXPE_COMPLETE_FAILURE, None)]
    forgiven = await sent(sink(recipient, first, priority=1), sink(recipient, forgives, priority=2))
    assert forgiven.codes == [250]


async def test_what_was_said_about_one_command_is_forgotten_at_the_next_though_it_is_the_same():
    seen = asked_with()
    again = []

    def once(context, call):
        if not again:
            again.append(1)
            context.command_status = EXPE_COMPLETE_FAILURE

    def say_again(event):
        return repeat() if event.phase == "hello" and event.number == 1 else None

    found = await sent(
        sink(stages.OutSession, once, priority=1),
        [Binding("python", stages.OutCommand, say_again, priority=2)],
        sink(stages.OutSession, seen, priority=3),
        script=polite(("EHLO", "450 4.3.2 not yet")),
    )
    assert found.lines == [EHLO, *WHOLE]
    assert seen.seen == [(EHLO, EXPE_UNHANDLED, None)]
    assert found.codes == [250]


async def test_an_own_command_goes_before_the_one_that_is_repeated():
    def say(context, call):
        if not call.session.get(0x8000):
            call.session[0x8000] = b"greeted"
            context.command = "XGREET me\r\n"
            context.command_status = EXPE_REPEAT_COMMAND

    replies = []
    found = await sent(
        sink(stages.OutSession, say),
        [Binding("listener", stages.OutReply, lambda e: replies.append((e.phase, e.line, e.reply.code)))],
        script=polite(("XGREET*", "550 5.0.0 no such thing")),
    )
    assert found.lines == ["XGREET me", *WHOLE]
    assert replies[:3] == [("greeting", "", 220), ("extra line", "XGREET me", 550), ("hello", EHLO, 250)]
    assert found.codes == [250]


@pytest.mark.parametrize("event", [stages.OutMessage, stages.OutRecipient, stages.OutData, stages.OutQuit])
@pytest.mark.parametrize("result", [0, S_FALSE])
async def test_an_own_command_goes_before_any_other(event, result):
    asked = []

    def say(context, call):
        asked.append(context.command)
        if len(asked) == 1:
            context.command, context.command_status = "XBEFORE", EXPE_REPEAT_COMMAND
            return result

    found = await sent(sink(event, say), script=SCRIPT)
    at = WHOLE.index(LINES[event][0])
    assert found.lines == [*WHOLE[:at], "XBEFORE", *WHOLE[at:]]
    assert asked == [WHOLE[at]] * 2
    assert found.codes == [250]


async def test_an_own_command_for_ever_is_said_ten_times():
    say = asked_with(command="XAGAIN", command_status=EXPE_REPEAT_COMMAND)
    found = await sent(sink(stages.OutRecipient, say), script=SCRIPT)
    assert found.lines.count("XAGAIN") == 10
    assert found.lines.count(RCPT) == 1
    assert found.codes == [250]


async def test_repeat_alone_says_a_refused_command_again():
    say = asked_with(command_status=EXPE_REPEAT_COMMAND)
    found = await sent(sink(stages.OutRecipient, say), script=polite(("RCPT", "450 4.2.1 not yet")))
    assert found.lines.count(RCPT) == 2
    assert found.codes == [250]


@pytest.mark.parametrize("status", [EXPE_UNHANDLED, EXPE_BLOB_READY])
@pytest.mark.parametrize("result", [0, S_FALSE])
async def test_a_blob_goes_instead_of_the_command(status, result):
    say = asked_with(blob=b"XBLOB\r\n", command_status=status, returns=result)
    found = await sent(sink(stages.OutRecipient, say), script=SCRIPT)
    assert found.lines == [EHLO, MAIL, "XBLOB", *WHOLE[3:-1], "QUIT"]
    assert found.codes == [250]


FAILING = [
    asked_with(returns=E_FAIL, command="NEVER SENT"),
    asked_with(command="two\r\nlines"),
    asked_with(command=""),
    asked_with(command="nul\0inside"),
    asked_with(command_status=EXPE_BLOB_READY),
]


@pytest.mark.parametrize("say", FAILING)
@pytest.mark.parametrize(
    ("policy", "code"), [(OnFailure.TEMPFAIL, 451), (OnFailure.PROCEED, 250), (OnFailure.REFUSE, 550)]
)
async def test_a_failing_sink_goes_by_on_failure(say, policy, code):
    found = await sent(sink(stages.OutRecipient, say, on_failure=policy))
    assert found.codes == [code]
    assert [type(error) for _, _, error in found.errors] == [SinkFailed]
    assert found.lines == (WHOLE if code == 250 else [EHLO, MAIL, "QUIT"])


async def test_what_a_failing_sink_changed_doesnt_count():
    first = asked_with(command="RCPT TO:<carl@d.example>")
    fails = asked_with(command_status=EXPE_COMPLETE_FAILURE, blob=b"X\r\n", returns=E_FAIL)
    looks = asked_with()
    recipient = stages.OutRecipient
    found = await sent(
        sink(recipient, first, priority=1),
        sink(recipient, fails, priority=2, on_failure=OnFailure.PROCEED),
        sink(recipient, looks, priority=3),
    )
    assert looks.seen == [("RCPT TO:<carl@d.example>", EXPE_UNHANDLED, None)]
    assert found.codes == [250]


async def test_what_is_put_on_the_message_is_there_until_the_transaction_is_over():
    seen = []

    def puts(context, call):
        if context.keyword == "MAIL":
            call.message.properties[0x8001] = b"mine"
            call.message.put.add(0x8001)
            call.message.recipients[1][0x8002] = b"bob's"
            call.message.put_for[1] = {0x8002}

    def looks(context, call):
        bags = call.message.recipients
        seen.append((context.keyword, call.message.properties.get(0x8001), [bag.get(0x8002) for bag in bags]))

    both = sink(stages.OutCommand, puts, priority=1), sink(stages.OutCommand, looks, priority=2)
    found = await sent(*both, what=letter(ANN, BOB))
    assert found.codes == [250, 250]
    there = (b"mine", [None, b"bob's"])
    assert seen[:5] == [("EHLO", None, []), *((word, *there) for word in ("MAIL", "RCPT", "RCPT", "DATA"))]


def rewrites(context, call):
    call.message.rewritten = Bytes(b"other\r\n")


def lists(context, call):
    call.message.written_list = []


def renames(context, call):
    call.message.put_for[0] = {IMMPID_RP.ADDRESS_SMTP}


@pytest.mark.parametrize("say", [rewrites, lists, renames])
async def test_content_and_recipients_cant_be_changed_any_more(say):
    found = await sent(sink(stages.OutRecipient, say))
    assert found.codes == [451]
    assert [type(error) for _, _, error in found.errors] == [SinkFailed]


BDAT = polite(offers="PIPELINING,CHUNKING,BINARYMIME")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 250),
        ({"command_status": EXPE_REPEAT_COMMAND}, 250),
        ({"command_status": EXPE_COMPLETE_FAILURE}, 550),
        ({"returns": S_FALSE}, 451),
        ({"returns": S_FALSE, "command": "X"}, 451),
        ({"command": "XBEFORE", "command_status": EXPE_REPEAT_COMMAND}, 250),
    ],
)
async def test_binary_content_goes_as_it_is_or_not_at_all(changes, code):
    times = []

    def say(context, call):
        times.append(context.command)
        return asked_with(**changes)(context, call) if len(times) == 1 else 0

    what = letter(ANN, body=Body.BINARY_MIME)
    found = await sent(sink(stages.OutData, say), script=[("XBEFORE", "250 fine"), *BDAT], what=what)
    assert set(times) == {"BDAT"}
    assert found.codes == [code]
    assert ("XBEFORE" in found.lines) == (len(times) == 2)


@pytest.mark.parametrize("changes", [{"blob": b"X\r\n"}, {"command": "X"}])
async def test_binary_content_isnt_announced_otherwise(changes):
    what = letter(ANN, body=Body.BINARY_MIME)
    found = await sent(sink(stages.OutData, asked_with(**changes)), script=BDAT, what=what)
    assert found.codes == [451]
    assert len(found.errors) == 1


async def test_nobody_obeys_a_shadow():
    shadow = asked_with(command="XSHADOW", command_status=EXPE_COMPLETE_FAILURE, returns=S_FALSE)
    looks = asked_with()

    async def waits(event):
        asked = len(shadow.seen)
        while len(shadow.seen) == asked:  # the shadow answers in the meantime
            await asyncio.sleep(0)

    command = stages.OutCommand
    found = await sent(
        sink(command, shadow, priority=1, shadow=True),
        [Binding("python", command, waits, priority=2)],
        sink(command, looks, priority=3),
    )
    assert found.lines == WHOLE
    assert [(line, status) for line, status, _ in looks.seen] == [
        (line, EXPE_UNHANDLED) for line in WHOLE if line != "."
    ]


async def test_an_unchanged_message_goes_pipelined_all_the_same():
    """A sink that only looks doesn't make commands wait for replies, and neither does a line of its own for long."""
    order = []

    def say(context, call):
        order.append(context.command)
        if context.keyword == "RCPT" and len(order) == 3:
            context.command, context.command_status = "XBEFORE", EXPE_REPEAT_COMMAND

    found = await sent(
        sink(stages.OutCommand, say),
        script=polite(("MAIL*", "550 5.1.0 not from you"), ("X*", "250 fine"), offers="PIPELINING"),
        what=letter(ANN, BOB),
    )
    assert found.codes == [550, 550]
    assert found.lines == [EHLO, MAIL, "XBEFORE", "QUIT"], "what it was for has been refused meanwhile"


def test_a_line_of_ones_own_is_one_line():
    assert repeat("XGREET").line == "XGREET"
    with pytest.raises(ValueError, match="one line"):
        repeat("two\r\nlines")
    assert send_line("x").line == "x"
