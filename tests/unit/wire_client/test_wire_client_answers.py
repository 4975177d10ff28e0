"""The client machine standing still: dialogues between a server, the machine, and who answers its questions."""

from __future__ import annotations

import pytest

from gatepost.model import Reply
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import (
    LEFT_OUT,
    NEED_DATA,
    AskAgain,
    Asks,
    Authenticated,
    Closed,
    CommandDue,
    ContentWanted,
    Credentials,
    EndSession,
    GiveUp,
    Go,
    Greeting,
    Introduced,
    JumpTo,
    LeaveOut,
    Phase,
    Protocol,
    ProtocolError,
    Question,
    Ready,
    ReplyHeard,
    SendOctets,
    State,
    Step,
    TlsWanted,
    Unwelcome,
)
from gatepost.wire.smtp.client_steps import (
    MAX_AGAIN,
    MAX_LINE,
    MAX_OCTETS,
    Moment,
    complaint,
)
from gatepost.wire.smtp.client_transaction import MAX_RESTARTS
from unit.wire_client.test_wire_client_questions import ALL, NO, Play, reach
from unit.wire_client.test_wire_client_session import message, recipient


def test_questions_show_commands_and_replies_and_no_secret() -> None:
    play = Play(Asks(commands=ALL, replies=True))
    play.finish()
    play.client.authenticate(Credentials("ann", "secret"))
    play.finish()
    play.client.send(message("a@y.example"))
    play.finish()
    play.client.quit()
    play.finish()
    asked = [event for event in play.events if isinstance(event, CommandDue | ReplyHeard)]
    ok = Reply(250, "", "ok")
    assert asked[0] == ReplyHeard(Phase.GREETING, "", None, Reply(220, "", "hi"))
    assert asked[1] == CommandDue(Phase.HELLO, "EHLO me.example")
    assert [(event.phase, event.line) for event in asked[3:5]] == [(Phase.AUTH, "AUTH PLAIN …")] * 2
    to = recipient("a@y.example")
    assert asked[5:] == [
        CommandDue(Phase.SENDER, "MAIL FROM:<a@b.example>"),
        ReplyHeard(Phase.SENDER, "MAIL FROM:<a@b.example>", None, ok),
        CommandDue(Phase.RECIPIENT, "RCPT TO:<a@y.example>", to),
        ReplyHeard(Phase.RECIPIENT, "RCPT TO:<a@y.example>", to, ok),
        CommandDue(Phase.DATA, "DATA"),
        ReplyHeard(Phase.DATA, "DATA", None, Reply(354, "", "ok")),
        ReplyHeard(Phase.END_OF_DATA, "", None, Reply(250, "", "kept")),
        CommandDue(Phase.QUIT, "QUIT"),
        ReplyHeard(Phase.QUIT, "QUIT", None, Reply(221, "", "ok")),
    ]
    assert play.last(Authenticated) == Authenticated(Reply(235, "", "ok"))
    assert b"secret" not in repr(asked).encode()


def test_a_challenge_is_a_reply_to_auth_and_its_answer_is_nobodys_business() -> None:
    client = Client("me.example", asks=Asks(commands=frozenset({Phase.AUTH}), replies=True))
    asked: list[Question] = []

    def told(data: bytes) -> bytes:
        client.receive(data)
        while (event := client.next_event()) is not NEED_DATA:
            if isinstance(event, CommandDue | ReplyHeard):
                asked.append(event)
                client.go(Go())
        return client.data_to_send()

    told(b"220 hi\r\n")
    told(b"250-mx\r\n250 AUTH LOGIN\r\n")
    client.authenticate(Credentials("u", "p"))
    asked.clear()
    event = client.next_event()
    assert event == CommandDue(Phase.AUTH, "AUTH LOGIN …")
    client.go(Go())
    assert client.data_to_send() == b"AUTH LOGIN\r\n"
    assert told(b"334 VXNlcm5hbWU6\r\n") == b"dQ==\r\n"
    assert told(b"334 UGFzc3dvcmQ6\r\n") == b"cA==\r\n"
    told(b"235 in\r\n")
    assert [(question.line, isinstance(question, ReplyHeard)) for question in asked] == [("AUTH LOGIN …", True)] * 3
    assert client.is_idle


def test_a_challenge_given_up_ends_the_connection() -> None:
    """There is no command to be said while the server awaits a secret."""
    client = Client("me.example", asks=Asks(replies=True))
    client.receive(b"220 hi\r\n250-mx\r\n250 AUTH LOGIN\r\n")
    while (event := client.next_event()) is not NEED_DATA:
        if isinstance(event, ReplyHeard):
            client.go(Go())
    client.authenticate(Credentials("u", "p"))
    client.data_to_send()
    client.receive(b"334 VXNlcm5hbWU6\r\n")
    assert isinstance(client.next_event(), ReplyHeard)
    client.go(GiveUp(NO))
    assert [client.next_event(), client.next_event()] == [Unwelcome(NO, Phase.AUTH), Closed(None)]
    assert client.data_to_send() == b""


def test_one_at_a_time_where_somebody_wants_it_so() -> None:
    offers = "250-mx\r\n250-PIPELINING"
    for asks, together in (
        (Asks(replies=True, may_pipeline=False), 1),
        (Asks(commands=frozenset({Phase.QUIT}), may_pipeline=False), 1),
        (Asks(may_pipeline=False), 4),
        (Asks(replies=True), 3),  # DATA waits: a recipient may be given up yet
        (Asks(commands=frozenset({Phase.QUIT})), 4),
    ):
        play = Play(asks, offers)
        play.finish()
        play.client.send(message("a@y.example", "b@y.example"))
        while (event := play.client.next_event()) is not NEED_DATA:
            assert isinstance(event, CommandDue)
            play.client.go(Go())
        assert play.client.data_to_send().count(b"\r\n") == together


def test_steps_back_count_as_go_while_other_commands_are_under_way() -> None:
    play = Play(Asks(replies=True), "250-mx\r\n250-PIPELINING", refuses="RCPT TO:<a@")
    play.finish()
    play.client.send(message("a@y.example", "b@y.example"))
    while (question := play.until_asked()) is not None:
        play.client.go(AskAgain() if question.phase is Phase.RECIPIENT and "<a@" in question.line else Go())
    assert play.heard.count("RCPT TO:<a@y.example>") == 1
    assert [r.code for _, r, _, _ in play.results] == [550, 250]


def test_a_refused_recipient_is_asked_again_at_most_so_often() -> None:
    play = Play(Asks(replies=True, may_pipeline=False), refuses="RCPT TO:<a@")
    play.finish()
    play.client.send(message("a@y.example", "b@y.example"))
    while (question := play.until_asked()) is not None:
        play.client.go(AskAgain() if question.phase is Phase.RECIPIENT else Go())
    assert play.heard.count("RCPT TO:<a@y.example>") == 1 + MAX_AGAIN
    assert play.heard.count("RCPT TO:<b@y.example>") == 1, "what was taken isn't said again"
    assert [r.code for _, r, _, _ in play.results] == [550, 250]


def test_a_plugin_talks_with_the_server_in_place_of_a_command() -> None:
    """A blob of Exchange's kind: its own command, an answer, octets, and the answer to those counts."""
    client = Client("me.example", asks=Asks(commands=frozenset({Phase.RECIPIENT}), replies=True))
    client.receive(b"220 hi\r\n250-mx\r\n250-PIPELINING\r\n250 XEXCH50\r\n")
    sent = b""

    def turn(step: Step) -> bytes:
        client.go(step)
        return client.data_to_send()

    while client.next_event() is not NEED_DATA:
        if client.is_asking:
            client.go(Go())
    client.data_to_send()
    client.send(message("a@y.example", "b@y.example"))
    assert isinstance(client.next_event(), CommandDue)
    assert turn(SendOctets(b"XEXCH50 4 2\r\n")) == b"MAIL FROM:<a@b.example>\r\nXEXCH50 4 2\r\n"
    client.receive(b"250 ok\r\n354 send it\r\n")
    assert isinstance(client.next_event(), ReplyHeard)
    sent = turn(Go())
    assert sent == b"", "nothing follows octets before their answer"
    events = [client.next_event(), client.next_event()]
    assert isinstance(events[-1], ReplyHeard)
    assert events[-1].reply.code == 354
    assert turn(SendOctets(b"\0\r\n\1")) == b"\0\r\n\1"
    client.receive(b"250 taken\r\n")
    assert isinstance(client.next_event(), ReplyHeard)
    client.go(Go())
    event = client.next_event()
    while not isinstance(event, CommandDue):
        event = client.next_event()
    assert event.recipient == recipient("b@y.example")


def test_restarts_are_bounded() -> None:
    names = [f"u{n}@y.example" for n in range(MAX_RESTARTS + 3)]
    play = Play(Asks(replies=True, may_pipeline=False))
    play.finish()
    play.client.send(message(*names))
    is_first = False
    while (question := play.until_asked()) is not None:
        if question.phase is Phase.RECIPIENT:
            play.client.go(GiveUp(NO) if is_first else Go())
            is_first = False
        else:
            is_first = question.phase is Phase.SENDER
            play.client.go(Go())
    assert play.heard.count("RSET") == MAX_RESTARTS
    assert play.contents == 0
    assert [r for _, r, _, _ in play.results] == [NO] * (MAX_RESTARTS + 1) + [LEFT_OUT] * 2


def test_a_changed_line_is_followed_by_rset_before_the_next_message() -> None:
    play = Play(Asks(commands=frozenset({Phase.RECIPIENT})))
    play.finish()
    play.client.send(message("a@y.example"))
    assert play.until_asked() is not None
    play.client.go(Go("RCPT TO:<a@y.example> NOTIFY=NEVER"))
    play.finish()
    assert play.heard[-2:] == ["RCPT TO:<a@y.example> NOTIFY=NEVER", "DATA"]
    play.client.send(message("a@y.example"))
    play.finish()
    assert "RSET" in play.heard


@pytest.mark.parametrize(
    "line", ["", "a\rb", "a\nb", "a\r\nRSET", "a\0b", "x" * (MAX_LINE + 1), "é" * (MAX_LINE // 2 + 1), "\ud800"]
)
def test_I1_no_changed_line_is_more_than_a_line(line: str) -> None:
    play, question = reach(Moment.COMMAND, Phase.SENDER)
    assert complaint(question, Go(line)) is not None
    with pytest.raises(ValueError, match="a command line"):
        play.client.go(Go(line))
    assert play.client.data_to_send() == b""
    play.client.go(Go("x" * MAX_LINE))
    assert play.client.data_to_send() == b"x" * MAX_LINE + b"\r\n"


def test_octets_and_replies_that_are_none() -> None:
    play, question = reach(Moment.COMMAND, Phase.SENDER)
    for step in (SendOctets(b""), SendOctets(b"x" * (MAX_OCTETS + 1)), GiveUp(Reply(250)), EndSession(Reply(354))):
        assert complaint(question, step) is not None
        with pytest.raises(ValueError, match=r"octets instead|a failure is"):
            play.client.go(step)
    assert play.client.is_asking


def test_calls_while_a_question_is_open_are_bugs() -> None:
    play, _ = reach(Moment.COMMAND, Phase.SENDER)
    client = play.client
    with pytest.raises(RuntimeError, match="isn't answered"):
        client.next_event()
    with pytest.raises(RuntimeError):
        client.quit()
    client.go(Go())
    with pytest.raises(RuntimeError, match="without a question"):
        client.go(Go())


def test_abandoned_while_a_question_is_open() -> None:
    play, _ = reach(Moment.COMMAND, Phase.RECIPIENT)
    play.client.abandon(Reply(451, "4.4.2", "too slow"))
    play.finish()
    assert not play.client.is_asking
    assert [r.code for _, r, _, _ in play.results] == [451] * 3
    play, _ = reach(Moment.REPLY, Phase.SENDER)
    play.client.go(Go())
    play.client.abandon(Reply(451, "4.4.2", "too slow"))
    play.finish()
    assert play.client.state is State.CLOSED


def test_a_question_nobody_has_seen_ends_with_the_session() -> None:
    client = Client("me.example", asks=Asks(commands=ALL))
    client.receive(b"220 hi\r\n")
    assert isinstance(client.next_event(), Greeting)  # the question about EHLO comes next
    client.abandon(Reply(451, "4.4.2", "too slow"))
    assert client.next_event() == Closed(None)
    assert client.next_event() is NEED_DATA


@pytest.mark.parametrize("step", [Go(), GiveUp(NO), EndSession(NO), JumpTo(Phase.QUIT), AskAgain()], ids=repr)
@pytest.mark.parametrize("phase", [Phase.HELLO, Phase.SENDER, Phase.RECIPIENT, Phase.DATA])
def test_U1_a_421_ends_the_session_whatever_is_answered(phase: Phase, step: Step) -> None:
    verb = {Phase.HELLO: "EHLO", Phase.SENDER: "MAIL", Phase.RECIPIENT: "RCPT", Phase.DATA: "DATA"}[phase]
    play = Play(Asks(replies=True), refuses=verb, refusal="421 4.3.2 bye")
    if phase is not Phase.HELLO:
        play.finish()
        play.client.send(message("a@y.example", "b@y.example"))
    question = play.go_to(Moment.REPLY, phase)
    assert isinstance(question, ReplyHeard)
    assert question.reply == Reply(421, "4.3.2", "bye")
    play.client.go(step)
    assert play.until_asked() is None
    assert play.client.state is State.CLOSED
    assert play.last(Closed) == Closed(Reply(421, "4.3.2", "bye"))
    if phase is not Phase.HELLO:
        assert {r.code for _, r, _, _ in play.results} == {421}


def test_lmtp_asks_of_each_recipients_answer() -> None:
    play = Play(Asks(replies=True), protocol=Protocol.LMTP)
    play.finish()
    play.client.send(message("a@y.example"))
    question = play.go_to(Moment.REPLY, Phase.END_OF_DATA)
    assert question.recipient == recipient("a@y.example")
    play.client.go(GiveUp(NO))
    play.finish()
    assert [r.code for _, r, _, _ in play.results] == [250], "what was delivered is delivered"


def test_the_words_for_content_come_after_the_question_about_bdat() -> None:
    play, question = reach(Moment.COMMAND, Phase.CONTENT)
    assert question.line == "BDAT"
    assert not any(isinstance(event, ContentWanted) for event in play.events)
    play.client.go(Go())
    assert play.client.wants_content


def test_tls_goes_on_after_its_question() -> None:
    play, _ = reach(Moment.REPLY, Phase.TLS)
    play.client.go(Go())
    assert play.client.next_event() == TlsWanted()
    play.client.receive(b"220 forged\r\n")
    play.client.tls_started()
    assert isinstance(play.client.next_event(), ProtocolError)


def test_introduced_after_its_question() -> None:
    play, _ = reach(Moment.REPLY, Phase.INTRODUCTION)
    play.client.go(Go())
    play.finish()
    assert play.last(Introduced) == Introduced(Reply(250, "", "ok"))


@pytest.mark.parametrize("when", Moment)
def test_a_reset_or_sender_given_up_is_followed_by_rset_before_the_next_message(when: Moment) -> None:
    for phase in (Phase.RESET, Phase.SENDER):
        if when is Moment.COMMAND and phase is Phase.SENDER:
            continue  # nothing was said
        play, _ = reach(when, phase)
        play.client.go(GiveUp(NO))
        play.finish()
        said = len(play.heard)
        play.client.send(message("a@y.example"))
        play.finish()
        assert play.heard[said : said + 2] == ["RSET", "MAIL FROM:<a@b.example>"]
        assert [r.code for _, r, _, _ in play.results] == [250]


def test_octets_are_followed_by_rset_before_the_next_message() -> None:
    play = Play(Asks(commands=frozenset({Phase.RECIPIENT})))
    play.finish()
    play.client.send(message("a@y.example"))
    assert play.until_asked() is not None
    play.client.go(SendOctets(b"RCPT TO:<other@y.example>\r\n"))
    play.finish()
    play.client.send(message("a@y.example"))
    play.finish()
    assert "RSET" in play.heard


def test_nothing_follows_octets_before_their_own_answer_whatever_else_is_answered() -> None:
    client = Client("me.example", asks=Asks(commands=frozenset({Phase.RECIPIENT})))
    client.receive(b"220 hi\r\n250-mx\r\n250 PIPELINING\r\n")
    while client.next_event() is not NEED_DATA:
        client.data_to_send()
    client.send(message("a@y.example", "b@y.example"))
    assert isinstance(client.next_event(), CommandDue)
    client.go(SendOctets(b"X 1\r\n"))
    assert client.data_to_send().endswith(b"MAIL FROM:<a@b.example>\r\nX 1\r\n")
    client.receive(b"250 sender\r\n")
    assert not isinstance(client.next_event(), CommandDue)
    assert client.next_event() is NEED_DATA
    client.receive(b"250 octets\r\n")
    client.next_event()
    question = client.next_event()
    assert isinstance(question, CommandDue)
    assert question.recipient == recipient("b@y.example")


def test_a_recipient_given_up_after_it_was_taken_does_not_get_chunks() -> None:
    play = Play(Asks(replies=True), "250-mx\r\n250-PIPELINING\r\n250-CHUNKING")
    play.finish()
    play.client.send(message("a@y.example", "b@y.example"))
    while (question := play.until_asked()) is not None:
        play.client.go(GiveUp(NO) if question.line == "RCPT TO:<a@y.example>" else Go())
    assert play.heard.count("RSET") == 1
    anew = play.heard[play.heard.index("RSET") + 1 :]
    assert anew == ["MAIL FROM:<a@b.example>", "RCPT TO:<b@y.example>", "BDAT 5", "BDAT 5 LAST"]
    assert [r.code for _, r, _, _ in play.results] == [550, 250]


def test_content_waits_while_a_chunks_reply_is_a_question() -> None:
    client = Client("me.example", asks=Asks(replies=True))
    client.receive(b"220 hi\r\n250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")

    def until(done: type) -> None:
        while not isinstance(event := client.next_event(), done):
            assert event is not NEED_DATA
            if isinstance(event, ReplyHeard):
                client.go(Go())
            client.data_to_send()

    until(Ready)
    client.send(message("a@y.example"))
    client.receive(b"250 a\r\n250 b\r\n")
    until(ContentWanted)
    client.send_content(b"one\r\n")
    client.send_content(b"two\r\n")
    client.receive(b"250 chunk\r\n")
    assert isinstance(client.next_event(), ReplyHeard)
    assert not client.wants_content
    with pytest.raises(RuntimeError, match="before a question is answered"):
        client.send_content(b"three\r\n")
    client.go(Go())
    assert client.wants_content


@pytest.mark.parametrize("offers", ["250-mx", "250-mx\r\n250-PIPELINING"], ids=["one by one", "pipelined"])
def test_a_jump_to_data_leaves_out_who_comes_after_somebody(offers: str) -> None:
    play = Play(Asks(commands=ALL), offers)
    play.finish()
    play.client.send(message("a@y.example", "b@y.example", "c@y.example"))
    play.go_to(Moment.COMMAND, Phase.RECIPIENT)
    play.client.go(JumpTo(Phase.DATA))  # for whom?
    play.go_to(Moment.COMMAND, Phase.RECIPIENT)
    play.client.go(JumpTo(Phase.DATA))
    play.finish()
    assert [line[:9] for line in play.heard[1:]] == ["MAIL FROM", "RCPT TO:<", "DATA"]
    assert [r for _, r, _, _ in play.results] == [Reply(250, "", "kept"), LEFT_OUT, LEFT_OUT]


@pytest.mark.parametrize("when", Moment)
def test_a_jump_to_data_while_nobody_is_taken_counts_as_go(when: Moment) -> None:
    play = Play(Asks(commands=ALL, replies=when is Moment.REPLY), refuses="RCPT TO:<a@")
    play.finish()
    play.client.send(message("a@y.example", "b@y.example", "c@y.example"))
    for _ in range(2):
        play.go_to(when, Phase.RECIPIENT)
        play.client.go(JumpTo(Phase.DATA))
    play.finish()
    assert play.heard.count("DATA") == 1
    shown = [e.line for e in play.events if isinstance(e, CommandDue) and e.phase is Phase.RECIPIENT]
    assert shown[:2] == ["RCPT TO:<a@y.example>", "RCPT TO:<b@y.example>"]
    third = Reply(250, "", "kept") if when is Moment.COMMAND else LEFT_OUT
    assert [r for _, r, _, _ in play.results] == [Reply(550, "5.0.0", "refused"), Reply(250, "", "kept"), third]


def test_no_data_is_said_where_every_recipient_is_left_out_behind_a_sender_not_answered_yet() -> None:
    play = Play(Asks(commands=frozenset({Phase.RECIPIENT})), "250-mx\r\n250-PIPELINING")
    play.finish()
    play.client.send(message("a@y.example", "b@y.example"))
    for _ in range(2):
        play.go_to(Moment.COMMAND, Phase.RECIPIENT)
        play.client.go(LeaveOut())
    play.finish()
    assert play.heard[1:] == ["MAIL FROM:<a@b.example>"]
    assert [r for _, r, _, _ in play.results] == [LEFT_OUT] * 2
    assert play.client.is_idle
