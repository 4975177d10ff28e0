"""OnSmtpServerResponse: each status and each next state at each reply, over real sockets."""

from __future__ import annotations

import itertools

import pytest

from gatepost.hooks import stages
from gatepost.hooks.bindings import Binding
from gatepost.plugins.sink.asking import SinkFailed
from gatepost.plugins.sink.constants import (
    E_FAIL,
    EXPE_CHANGE_STATE,
    EXPE_COMPLETE_FAILURE,
    EXPE_DROP_SESSION,
    EXPE_REPEAT_COMMAND,
    EXPE_SUCCESS,
    EXPE_TRANSIENT_FAILURE,
    EXPE_UNHANDLED,
    PE_STATE,
    S_FALSE,
)
from gatepost.plugins.sink.outbound import outgoing_hooks
from unit.delivery.delivery_peer import polite
from unit.delivery.delivery_plugins import ANN, BOB, letter
from unit.plugins_sink.sink_outbound_rig import FakeSink, sent, sink

EHLO, MAIL, RCPT = "EHLO me.example", "MAIL FROM:<a@b.example>", "RCPT TO:<ann@d.example>"
WHOLE = [EHLO, MAIL, RCPT, "DATA", ".", "QUIT"]
TO_BOTH = [EHLO, MAIL, RCPT, "RCPT TO:<bob@d.example>", "DATA", ".", "QUIT"]


def at(keyword, *, times=1, returns=0, **changes):
    """A sink that leaves the context of the first replies to such commands so."""
    count = itertools.count()

    def say(context, call):
        if context.keyword == keyword and next(count) < times:
            for name, value in changes.items():
                setattr(context, name, value)
            return returns
        return 0

    return say


async def heard(*says, script=None, what=None):
    bound = [sink(stages.OutReply, say, priority=priority) for priority, say in enumerate(says)]
    return await sent(*bound, script=script, what=what)


async def test_what_a_sink_sees_of_each_reply():
    seen = []

    def say(context, call):
        seen.append((context.command, context.keyword, context.response, context.smtp_status_code))
        assert (context.response_status, context.next_event_state) == (EXPE_UNHANDLED, PE_STATE.DEFAULT)
        assert not context.pipelined

    found = await heard(say, script=polite(("RCPT", "450-4.2.1 not\n450 4.2.1 yet"), offers="PIPELINING"))
    assert seen[:4] == [
        ("", "", "220 hi\r\n", 220),
        (EHLO, "EHLO", "250-mx.example\r\n250-PIPELINING\r\n250 HELP\r\n", 250),
        (MAIL, "MAIL", "250 2.1.0 sender\r\n", 250),
        (RCPT, "RCPT", "450-4.2.1 not\r\n450 4.2.1 yet\r\n", 450),
    ]
    assert found.codes == [450]


async def test_where_replies_neednt_be_waited_for_a_sink_knows_that_others_are_under_way():
    seen = {}

    def say(context, call):
        seen[context.command] = context.pipelined

    [hook, _] = sink(stages.OutReply, say)
    found = await sent(
        [Binding("sink", stages.OutReply, hook.hook, pipelining=True)],
        script=polite(offers="PIPELINING"),
        what=letter(ANN, BOB),
    )
    assert found.codes == [250, 250]
    assert seen[EHLO] is seen["DATA"] is False
    assert seen[MAIL] is True


STATUSES = [
    ("MAIL", EXPE_SUCCESS, WHOLE, 250),
    ("MAIL", EXPE_CHANGE_STATE, WHOLE, 250),
    ("EHLO", EXPE_DROP_SESSION, [EHLO, "QUIT"], 451),
    ("MAIL", EXPE_DROP_SESSION, [EHLO, MAIL, "QUIT"], 451),
    ("RCPT", EXPE_DROP_SESSION | EXPE_COMPLETE_FAILURE, [EHLO, MAIL, RCPT, "QUIT"], 550),
    ("EHLO", EXPE_TRANSIENT_FAILURE, [EHLO, "QUIT"], 451),
    ("MAIL", EXPE_TRANSIENT_FAILURE, [EHLO, MAIL, "QUIT"], 451),
    ("MAIL", EXPE_COMPLETE_FAILURE, [EHLO, MAIL, "QUIT"], 550),
    ("RCPT", EXPE_COMPLETE_FAILURE, [EHLO, MAIL, RCPT, "QUIT"], 550),
    ("DATA", EXPE_COMPLETE_FAILURE, [EHLO, MAIL, RCPT, "DATA"], 550),
    ("QUIT", EXPE_COMPLETE_FAILURE, WHOLE, 250),
    ("EHLO", EXPE_REPEAT_COMMAND, [EHLO, *WHOLE], 250),
    ("MAIL", EXPE_REPEAT_COMMAND, WHOLE, 250),  # it was taken
    ("QUIT", EXPE_REPEAT_COMMAND, WHOLE, 250),  # there is nothing after it
]


@pytest.mark.parametrize(("keyword", "status", "lines", "code"), STATUSES)
@pytest.mark.parametrize("result", [0, S_FALSE])
async def test_each_status(keyword, status, lines, code, result):
    found = await heard(at(keyword, response_status=status, returns=result))
    assert found.lines == lines
    assert found.codes == [code]
    assert found.errors == []


@pytest.mark.parametrize("refused", [MAIL, RCPT, "DATA"])
async def test_a_refused_command_is_repeated(refused):
    say = at(refused.partition(" ")[0], response_status=EXPE_REPEAT_COMMAND)
    found = await heard(say, script=polite((refused, "451 4.3.0 not yet")))
    assert found.lines == [line for one in WHOLE for line in ([one, one] if one == refused else [one])]
    assert found.codes == [250]


STATES = [
    ("EHLO", PE_STATE.SESSION_START, "", [EHLO, *TO_BOTH], [250, 250]),
    ("MAIL", PE_STATE.SESSION_START, "", [EHLO, MAIL, "QUIT"], [451, 451]),
    ("RCPT", PE_STATE.SESSION_START, "", [EHLO, MAIL, RCPT, "QUIT"], [451, 451]),
    ("QUIT", PE_STATE.SESSION_START, "", TO_BOTH, [250, 250]),
    ("EHLO", PE_STATE.MESSAGE_START, "", TO_BOTH, [250, 250]),
    ("MAIL", PE_STATE.MESSAGE_START, "", [EHLO, MAIL, "QUIT"], [451, 451]),
    ("RCPT", PE_STATE.MESSAGE_START, "", [EHLO, MAIL, RCPT, "QUIT"], [451, 451]),
    ("RCPT", PE_STATE.MESSAGE_START, "550 5.1.1 who?", [EHLO, MAIL, RCPT, "QUIT"], [550, 451]),
    ("MAIL", PE_STATE.PER_RECIPIENT, "", TO_BOTH, [250, 250]),
    ("MAIL", PE_STATE.PER_RECIPIENT, "550 5.1.0 no", [EHLO, MAIL, "QUIT"], [550, 550]),
    ("RCPT", PE_STATE.PER_RECIPIENT, "550 5.1.1 who?", TO_BOTH, [550, 250]),
    ("DATA", PE_STATE.PER_RECIPIENT, "451 4.3.0 no", [*TO_BOTH[:5], "QUIT"], [451, 451]),
    ("MAIL", PE_STATE.DATA_OR_BDAT, "", TO_BOTH, [250, 250]),
    ("RCPT", PE_STATE.DATA_OR_BDAT, "", WHOLE, [250, 451]),
    ("RCPT", PE_STATE.DATA_OR_BDAT, "550 5.1.1 who?", TO_BOTH, [550, 250]),
    ("DATA", PE_STATE.DATA_OR_BDAT, "451 4.3.0 no", [*TO_BOTH[:5], *TO_BOTH[4:]], [250, 250]),
    ("EHLO", PE_STATE.SESSION_END, "", [EHLO, "QUIT"], [451, 451]),
    ("MAIL", PE_STATE.SESSION_END, "", [EHLO, MAIL, "QUIT"], [451, 451]),
    ("RCPT", PE_STATE.SESSION_END, "", [EHLO, MAIL, RCPT, "QUIT"], [451, 451]),
    ("QUIT", PE_STATE.SESSION_END, "", TO_BOTH, [250, 250]),
]


@pytest.mark.parametrize(("keyword", "state", "refusal", "lines", "codes"), STATES)
@pytest.mark.parametrize("status", [EXPE_UNHANDLED, EXPE_CHANGE_STATE])
async def test_each_next_state(keyword, state, refusal, lines, codes, status):
    script = polite((keyword, refusal)) if refusal else polite()
    say = at(keyword, next_event_state=int(state), response_status=status)
    found = await heard(say, script=script, what=letter(ANN, BOB))
    assert found.lines == lines
    assert found.codes == codes
    assert found.errors == []


async def test_at_the_greeting_the_session_begins_anyway():
    found = await heard(at("", next_event_state=int(PE_STATE.SESSION_START)))
    assert found.lines == WHOLE
    assert found.codes == [250]


async def test_what_stands_is_what_the_last_sink_left():
    seen = []

    def forgives(context, call):
        if context.keyword == "MAIL":
            seen.append(context.response_status)
            context.response_status = EXPE_SUCCESS

    found = await heard(at("MAIL", response_status=EXPE_COMPLETE_FAILURE), forgives)
    assert seen == [EXPE_COMPLETE_FAILURE]
    assert found.codes == [250]


async def test_a_success_that_isnt_ok_ends_the_chain_and_the_reply_counts():
    seen = []
    found = await heard(at("RCPT", returns=S_FALSE), lambda context, call: seen.append(context.keyword))
    assert "RCPT" not in seen
    assert {"MAIL", "DATA"} <= set(seen)
    assert found.codes == [250]


@pytest.mark.parametrize(
    "say",
    [
        at("MAIL", returns=E_FAIL, response_status=EXPE_COMPLETE_FAILURE),
        at("MAIL", next_event_state=9),
    ],
)
async def test_a_failing_sink_leaves_the_reply_as_it_is(say):
    found = await heard(say)
    assert found.lines == WHOLE
    assert found.codes == [250]
    assert [type(error) for _, _, error in found.errors] == [SinkFailed]


def test_only_the_events_of_methods_that_are_there_have_hooks():
    class Asks:
        sink = FakeSink(lambda context, call: 0, "OnSmtpInCommand")

    assert outgoing_hooks(Asks()) == {}
    Asks.sink.methods = frozenset({"OnSmtpOutCommand", "OnSmtpServerResponse"})
    assert set(outgoing_hooks(Asks())) == stages.OUTBOUND
