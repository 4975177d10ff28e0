"""Every outbound stage × every verdict over real sockets.

The table in `hooks.effects` says which pairs there are. A pair in it has to do what this test expects of it; a pair
that isn't, has to be treated as a failed hook.
"""

from __future__ import annotations

import itertools

import pytest

from gatepost import end_session, fail, jump, on, repeat, send_line, send_octets, skip
from gatepost.delivery.steps import OWN_STAGE, step_of
from gatepost.hooks import stages
from gatepost.hooks import verdicts as v
from gatepost.hooks.effects import EFFECTS, allowed_failures
from gatepost.model import Reply
from gatepost.wire.smtp.client_events import CommandDue, Phase, ReplyHeard
from gatepost.wire.smtp.client_steps import complaint
from unit.delivery.delivery_peer import polite
from unit.delivery.delivery_plugins import ANN, LEFT, TAKEN, Plugins, sent

VERDICTS = {
    "proceed": v.PROCEED,
    "send": send_line("NOOP instead"),
    "skip": skip(),
    "blob": send_octets(b"NOOP by octets\r\n"),
    "repeat": repeat(),
    "repeat-line": repeat("NOOP first"),
    "repeat-lines": v.Repeat("two\r\nlines"),
    "jump-message": jump("message"),
    "jump-data": jump("data"),
    "jump-quit": jump("quit"),
    "fail": fail(550, "5.7.9", "not there"),
    "fail-later": fail(450, "4.7.9", "not now"),
    "fail-text": fail("not there"),
    "end-session": end_session(),
    "refuse": v.Refuse("no"),
    "accept": v.Accept(v.Scope.STAGE),
    "quarantine": v.Quarantine("smells"),
    "respond": v.Respond(Reply(250)),
}
WHOLE = ["EHLO", "MAIL", "RCPT", "RCPT", "DATA", "QUIT"]
# at a stage asked about Ann only, where it is about a recipient: the outcomes of Ann and Bob
EXPECTED = {
    **{(stage, "proceed"): TAKEN for stage in stages.OUTBOUND},
    (stages.OutSession, "skip"): LEFT, (stages.OutSession, "fail"): [550, 550],
    (stages.OutSession, "fail-later"): [450, 450], (stages.OutSession, "fail-text"): [550, 550],
    (stages.OutMessage, "send"): [500, 500], (stages.OutMessage, "skip"): LEFT, (stages.OutMessage, "fail"): [550, 550],
    (stages.OutMessage, "fail-later"): [450, 450], (stages.OutMessage, "fail-text"): [550, 550],
    (stages.OutMessage, "end-session"): LEFT,
    **{
        (stage, word): codes
        for stage in (stages.OutRecipient, stages.OutCommand)
        for word, codes in {
            "send": [500, 250], "skip": [451, 250], "blob": [500, 250], "repeat": TAKEN, "repeat-line": TAKEN,
            "jump-message": LEFT,
            "jump-data": TAKEN,  # nobody is taken before Ann, so that there is nothing to jump to yet
            "jump-quit": LEFT, "fail": [550, 250], "fail-later": [450, 250],
            "fail-text": [550, 250], "end-session": LEFT,
        }.items()
    },
    (stages.OutData, "send"): [500, 500], (stages.OutData, "skip"): LEFT, (stages.OutData, "blob"): [500, 500],
    (stages.OutData, "repeat"): TAKEN, (stages.OutData, "repeat-line"): TAKEN,
    (stages.OutData, "jump-message"): LEFT, (stages.OutData, "jump-quit"): LEFT,
    (stages.OutData, "fail"): [550, 550], (stages.OutData, "fail-later"): [450, 450],
    (stages.OutData, "fail-text"): [554, 554], (stages.OutData, "end-session"): LEFT,
    **{(stages.OutQuit, word): TAKEN for word in ("send", "skip", "blob")},
    (stages.OutReply, "repeat"): TAKEN, (stages.OutReply, "repeat-line"): TAKEN,
    (stages.OutReply, "jump-message"): LEFT,
    (stages.OutReply, "jump-data"): [250, 451],
    (stages.OutReply, "jump-quit"): LEFT, (stages.OutReply, "fail"): [550, 250],
    (stages.OutReply, "fail-later"): [450, 250], (stages.OutReply, "fail-text"): [550, 250],
    (stages.OutReply, "end-session"): LEFT,
}  # fmt: skip
# pairs of the table that the machine has no meaning for at this stage's command
MEANINGLESS = {(stages.OutData, "jump-data")}
NO_ANSWERS = {"repeat-lines"}


def about_ann(event):
    """Whether a question is the one that the matrix answers."""
    if isinstance(event, stages.OutReply | stages.OutCommand):
        return event.phase == "recipient" and event.recipient == ANN
    return not isinstance(event, stages.OutRecipient) or event.recipient == ANN


@pytest.mark.parametrize(
    ("stage", "word"),
    list(itertools.product(sorted(stages.OUTBOUND, key=lambda stage: stage.name), VERDICTS)),
    ids=lambda one: getattr(one, "name", one),
)
async def test_every_verdict_at_every_outbound_stage(stage, word):
    times = itertools.count()

    @on(stage)
    async def hook(event):
        if about_ann(event):
            next(times)
            return VERDICTS[word]

    found = await sent(hook)
    assert next(times) >= 1
    in_table = (stage, type(VERDICTS[word])) in EFFECTS and (stage, word) not in MEANINGLESS and word not in NO_ANSWERS
    assert [name for _, name, _ in found.errors] == ([] if in_table else [stage.name])
    if not in_table:
        can_wait = "tempfail" in allowed_failures(stage)
        is_all = stage in (stages.OutSession, stages.OutMessage, stages.OutData)
        assert found.codes == (TAKEN if not can_wait else LEFT if is_all else [451, 250])
        return
    assert found.codes == EXPECTED[stage, word]
    if word == "proceed":
        assert found.verbs() == WHOLE
    if stage is stages.OutSession and word != "proceed":
        assert found.lines == []
    if found.codes == LEFT and stage is not stages.OutSession:
        assert not any(found.mail)
        assert found.lines[-1] == "QUIT"
    if word == "repeat-line" and stage is not stages.OutReply:  # where the recipient was taken
        assert found.lines.count("NOOP first") == 10
    if word == "blob":
        assert "NOOP by octets" in found.lines
    if word == "send":
        assert "NOOP instead" in found.lines
    if stage is stages.OutQuit and word == "skip":
        assert "QUIT" not in found.lines


@pytest.mark.parametrize("stage", sorted(stages.OUTBOUND, key=lambda stage: stage.name), ids=lambda stage: stage.name)
@pytest.mark.parametrize("failure", ["tempfail", "proceed", "refuse"])
async def test_every_failure_policy_at_every_outbound_stage(stage, failure):
    if failure not in allowed_failures(stage):
        with pytest.raises(ValueError, match="can't be kept here"):
            Plugins(on(stage, on_failure=failure)(broken))
        return

    @on(stage, on_failure=failure)
    async def hook(event):
        if about_ann(event):
            raise ZeroDivisionError("a bug")

    found = await sent(hook)
    assert {type(error) for _, _, error in found.errors} == {ZeroDivisionError}
    is_all = stage in (stages.OutSession, stages.OutMessage, stages.OutData)
    code = {"tempfail": 451, "refuse": 554 if stage is stages.OutData else 550, "proceed": 250}[failure]
    assert found.codes == [code, code if is_all else 250]
    assert not any("bug" in text or "ZeroDivision" in text for text in found.texts)


@pytest.mark.parametrize("stage", [stages.OutRecipient, stages.OutCommand, stages.OutReply], ids=lambda one: one.name)
@pytest.mark.parametrize(("refusals", "times", "code"), [(0, 1, 250), (2, 3, 250), (20, 11, 450)])
async def test_a_command_is_repeated_while_it_is_refused_and_not_for_ever(stage, refusals, times, code):
    @on(stage)
    async def hook(event):
        if about_ann(event):
            return repeat()

    script = polite(*[("RCPT TO:<ann", "450 4.2.1 not yet")] * refusals)
    found = await sent(hook, script=script)
    assert found.codes == [code, 250]
    assert found.lines.count("RCPT TO:<ann@d.example>") == times


async def broken(event):
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize(("stage", "kind"), [pair for pair in EFFECTS if pair[0] in stages.OUTBOUND])
def test_every_pair_of_the_table_means_something_to_the_machine(stage, kind):
    """The two tables, plugins' and the machine's, agree: no verdict is offered that could never be carried out."""
    if stage is stages.OutSession or stage is stages.OutMessage:
        return  # asked before the machine hears of it
    verdicts = [verdict for verdict in VERDICTS.values() if type(verdict) is kind]
    if stage is stages.OutReply:
        questions = [ReplyHeard(phase, "X", None, Reply(250)) for phase in Phase if phase is not Phase.CONNECT]
    elif stage is stages.OutCommand:
        questions = [CommandDue(phase, "X") for phase in Phase if phase in MACHINE_COMMANDS]
    else:
        questions = [CommandDue(phase, "X") for phase, own in OWN_STAGE.items() if own is stage]
    assert any(complaint(one, step_of(verdict, stage)) is None for verdict in verdicts for one in questions)


MACHINE_COMMANDS = {Phase.HELLO, Phase.SENDER, Phase.RECIPIENT, Phase.DATA, Phase.QUIT}
