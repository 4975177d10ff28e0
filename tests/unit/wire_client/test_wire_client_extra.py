"""A line said before a command is due again: among pipelined commands, in transactions, and what servers say to it."""

from __future__ import annotations

import pytest

from gatepost.model import Reply
from gatepost.wire.smtp.client_events import (
    AskAgain,
    Asks,
    Closed,
    CommandDue,
    EndSession,
    GiveUp,
    Go,
    JumpTo,
    Phase,
    ProtocolError,
    ReplyHeard,
    SendOctets,
    State,
    Step,
    Unwelcome,
)
from gatepost.wire.smtp.client_steps import MAX_AGAIN, Moment
from unit.wire_client.test_wire_client_questions import ALL, Play
from unit.wire_client.test_wire_client_session import message

PIPELINING = "250-mx\r\n250-PIPELINING"
KEPT = Reply(250, "", "kept")
NO = Reply(550, "5.7.1", "a plugin says no")


def begun(asks: Asks, *recipients: str, offers: str = PIPELINING, **how: str) -> Play:
    """A session with a message begun, all questions before it answered."""
    play = Play(asks, offers, **how)
    play.finish()
    play.client.send(message(*(recipients or ("a@y.example", "b@y.example"))))
    return play


def answer(play: Play, at: Phase, step: Step, times: int = 1) -> None:
    """Give this step to the first questions about commands of a phase, and Go to everything else."""
    while (question := play.until_asked()) is not None:
        if isinstance(question, CommandDue) and question.phase is at and times:
            times -= 1
            play.client.go(step)
        else:
            play.client.go(Go())


@pytest.mark.parametrize("phase", [Phase.SENDER, Phase.RECIPIENT, Phase.DATA])
def test_behind_pipelined_commands_it_waits_for_their_replies_and_they_count(phase: Phase) -> None:
    play = begun(Asks(commands=ALL))
    answer(play, phase, AskAgain("XFIRST"))
    whole = ["MAIL FROM:<a@b.example>", "RCPT TO:<a@y.example>", "RCPT TO:<b@y.example>", "DATA"]
    at = {Phase.SENDER: 0, Phase.RECIPIENT: 1, Phase.DATA: 3}[phase]
    assert play.heard[1:] == [*whole[:at], "XFIRST", *whole[at:]]
    assert [reply for _, reply, _, _ in play.results] == [KEPT, KEPT]


def test_what_it_was_for_isnt_said_when_it_was_refused_meanwhile() -> None:
    play = begun(Asks(commands=ALL), refuses="RCPT")
    answer(play, Phase.DATA, AskAgain("XFIRST"))
    assert "DATA" not in play.heard
    assert {reply.code for _, reply, _, _ in play.results} == {550}
    assert play.client.is_idle


def test_the_transaction_is_forgotten_afterwards() -> None:
    """Nobody knows what the line did to the server."""
    play = begun(Asks(commands=ALL))
    answer(play, Phase.RECIPIENT, AskAgain("XFIRST"))
    before = len(play.heard)
    play.client.send(message("c@y.example"))
    play.finish()
    assert play.heard[before] == "RSET"


@pytest.mark.parametrize("reply", ["500 5.5.1 what?", "452 4.3.0 not now", "250 fine"])
def test_what_is_answered_counts_for_nothing(reply: str) -> None:
    play = begun(Asks(commands=ALL, replies=True), refuses="XFIRST", refusal=reply)
    heard = []
    told = False
    while (question := play.until_asked()) is not None:
        if isinstance(question, ReplyHeard):
            heard.append((question.phase, question.line, question.reply.code))
        if isinstance(question, CommandDue) and question.phase is Phase.RECIPIENT and not told:
            told = True
            play.client.go(AskAgain("XFIRST"))
        else:
            play.client.go(Go())
    assert (Phase.EXTRA, "XFIRST", int(reply[:3])) in heard
    assert [one for _, one, _, _ in play.results] == [KEPT, KEPT]


@pytest.mark.parametrize(("reply", "end"), [("421 4.3.2 bye", Closed), ("354 go on", ProtocolError)])
@pytest.mark.parametrize("replies", [True, False])
def test_two_answers_end_the_session(reply: str, end: type, replies: bool) -> None:
    play = begun(Asks(commands=ALL, replies=replies), refuses="XFIRST", refusal=reply)
    answer(play, Phase.RECIPIENT, AskAgain("XFIRST"))
    assert isinstance(play.events[-1], end)
    assert play.client.state is State.CLOSED
    assert play.heard[-1] == "XFIRST"
    assert {one.code for _, one, _, _ in play.results} == {421 if end is Closed else 451}


@pytest.mark.parametrize("phase", [Phase.HELLO, Phase.RECIPIENT, Phase.QUIT])
def test_ten_times_and_no_more(phase: Phase) -> None:
    play = Play(Asks(commands=ALL), PIPELINING)
    answer(play, phase, AskAgain("XFIRST"), 99)
    play.client.send(message("a@y.example", "b@y.example"))
    answer(play, phase, AskAgain("XFIRST"), 99)
    play.client.quit()
    answer(play, phase, AskAgain("XFIRST"), 99)
    times = 2 if phase is Phase.RECIPIENT else 1
    assert play.heard.count("XFIRST") == times * MAX_AGAIN, "for each command anew"
    assert play.client.state is State.CLOSED
    assert [reply for _, reply, _, _ in play.results] == [KEPT, KEPT]


@pytest.mark.parametrize("step", [GiveUp(NO), EndSession(NO), JumpTo(Phase.QUIT)])
@pytest.mark.parametrize("phase", [Phase.HELLO, Phase.SENDER, Phase.RECIPIENT, Phase.DATA, Phase.QUIT])
def test_what_is_said_to_its_reply_is_for_the_command_that_is_due(step: Step, phase: Phase) -> None:
    play = Play(Asks(commands=ALL, replies=True), PIPELINING)

    def go_on() -> None:
        while (question := play.until_asked()) is not None:
            if isinstance(question, CommandDue) and question.phase is phase and "XFIRST" not in play.heard:
                play.client.go(AskAgain("XFIRST"))
            else:
                play.client.go(step if question.phase is Phase.EXTRA else Go())

    go_on()
    if play.client.is_idle:
        play.client.send(message("a@y.example", "b@y.example"))
        go_on()
    if play.client.is_idle:
        play.client.quit()
        go_on()
    assert play.client.state is State.CLOSED
    assert play.heard.count("XFIRST") == 1
    said = NO if not isinstance(step, JumpTo) else Reply(451, "4.3.0", "left out of this attempt")
    after = play.heard[play.heard.index("XFIRST") + 1 :]
    match phase:
        case Phase.HELLO:
            assert play.last(Unwelcome) == Unwelcome(said, Phase.HELLO)
            assert after == ["QUIT"]
        case Phase.QUIT:
            assert after == []
            assert [reply for _, reply, _, _ in play.results] == [KEPT, KEPT]
        case Phase.RECIPIENT if isinstance(step, GiveUp):
            assert [reply for _, reply, _, _ in play.results] == [NO, KEPT]
        case _:
            assert {reply for _, reply, _, _ in play.results} == {said}
            assert after == ["QUIT"]


def test_octets_that_are_a_line_are_the_command_that_its_reply_is_to() -> None:
    """A plugin that hears the reply hears what it is to; octets that are no line leave the command's own."""
    for octets, shown in [(b"RCPT TO:<z@y.example>\r\n", "RCPT TO:<z@y.example>"), (b"\xff\r\n", None)]:
        play = begun(Asks(frozenset({Phase.RECIPIENT}), replies=True, may_pipeline=False), "a@y.example")
        question = play.go_to(Moment.COMMAND, Phase.RECIPIENT)
        play.client.go(SendOctets(octets))
        play.client.data_to_send()
        play.client.receive(b"250 fine\r\n")
        heard = play.client.next_event()
        assert isinstance(heard, ReplyHeard)
        assert heard.line == (shown or question.line)
