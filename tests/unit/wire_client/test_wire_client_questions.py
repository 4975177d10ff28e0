"""What the client machine does with each answer to each of its questions: the table, and the dialogues behind it."""

from __future__ import annotations

import pytest

from gatepost.model import Body, Path, Reply
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import (
    LEFT_OUT,
    NEED_DATA,
    AskAgain,
    Asks,
    Authenticated,
    AuthRefused,
    Closed,
    CommandDue,
    ContentWanted,
    Credentials,
    EndSession,
    Event,
    GiveUp,
    Go,
    Greeting,
    Introduced,
    JumpTo,
    LeaveOut,
    Outcomes,
    Phase,
    Protocol,
    ProtocolError,
    Purpose,
    Question,
    ReplyHeard,
    SendOctets,
    State,
    Step,
    TlsRefused,
    TlsWanted,
    Transaction,
    Unwelcome,
)
from gatepost.wire.smtp.client_steps import (
    EFFECTS,
    MAX_AGAIN,
    MAX_LINE,
    MAX_OCTETS,
    Effect,
    Kind,
    Moment,
    complaint,
    moment,
)
from gatepost.wire.smtp.client_transaction import MAX_RESTARTS
from unit.wire_client.test_wire_client_session import message, recipient

ALL = frozenset(Phase)
NO = Reply(550, "5.7.1", "a plugin says no")
STEPS: dict[Kind, Step] = {
    Kind.GO: Go(),
    Kind.CHANGE: Go("NOOP instead"),
    Kind.LEAVE_OUT: LeaveOut(),
    Kind.OCTETS: SendOctets(b"NOOP octets\r\n"),
    Kind.AGAIN: AskAgain(),
    Kind.JUMP_DATA: JumpTo(Phase.DATA),
    Kind.JUMP_SENDER: JumpTo(Phase.SENDER),
    Kind.JUMP_QUIT: JumpTo(Phase.QUIT),
    Kind.GIVE_UP: GiveUp(NO),
    Kind.END: EndSession(NO),
}
OFFERS = "250-mx\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250-XFORWARD NAME"


class Play:
    """A session with a server that takes everything, over the questions of which `answers` decides."""

    def __init__(
        self,
        asks: Asks,
        offers: str = OFFERS,
        refuses: str = "",
        refusal: str = "550 5.0.0 refused",
        protocol: Protocol = Protocol.SMTP,
    ) -> None:
        self.client = Client("me.example", protocol=protocol, asks=asks)
        self.offers = offers
        self.refuses = refuses
        self.refusal = refusal
        self.events: list[Event] = []
        self.heard: list[str] = []
        self.contents = 0
        self._said = b"220 hi\r\n"

    def until_asked(self) -> Question | None:
        """The next question; None when the machine waits for its caller."""
        while True:
            event = self.client.next_event()
            if event is not NEED_DATA:
                self.events.append(event)
                if isinstance(event, CommandDue | ReplyHeard):
                    return event
                continue
            if self.client.wants_content:
                self.client.send_content(b"one\r\n")
                self.client.send_content(b"two\r\n")
                self.client.end_content()
                continue
            self._hear(self.client.data_to_send())
            if not self._said:
                return None
            said, self._said = self._said, b""
            self.client.receive(said)

    def go_to(self, when: Moment, phase: Phase) -> Question:
        """Answer Go() until the question is there."""
        while (question := self.until_asked()) is not None:
            if moment(question) is when and question.phase is phase:
                return question
            self.client.go(Go())
        raise AssertionError(f"{when} {phase} was never asked")

    def finish(self) -> None:
        while self.until_asked() is not None:
            self.client.go(Go())

    def _hear(self, data: bytes) -> None:
        while data:
            line, _, data = data.partition(b"\r\n")
            text = line.decode()
            if text == ".":
                self.contents += 1
                self._said += b"250 kept\r\n"
                continue
            if text.startswith("BDAT"):
                data = data[int(text.split()[1]) :]
                self.contents += text.endswith("LAST")
            elif text in ("one", "two"):
                continue
            self.heard.append(text)
            verb = text.partition(" ")[0]
            if self.refuses and text.startswith(self.refuses):
                self._said += f"{self.refusal}\r\n".encode()
            elif verb in ("EHLO", "LHLO"):
                self._said += f"{self.offers}\r\n250 HELP\r\n".encode()
            else:
                code = {"STARTTLS": "220", "AUTH": "235", "DATA": "354", "QUIT": "221", "XCLIENT": "220"}
                self._said += f"{code.get(verb, '250')} ok\r\n".encode()

    @property
    def results(self) -> list[tuple[str, Reply, Phase, bool]]:
        [outcomes] = [event for event in self.events if isinstance(event, Outcomes)][-1:]
        return [(o.recipient.local, o.reply, o.phase, o.is_ours) for o in outcomes.outcomes]

    def last(self, *kinds: type) -> Event:
        return [event for event in self.events if isinstance(event, kinds)][-1]


def reach(when: Moment, phase: Phase) -> tuple[Play, Question]:
    """A session that stands still at a question, of three recipients where it is about a message."""
    asks = Asks(commands=ALL) if when is Moment.COMMAND else Asks(replies=True)
    three = message("a@y.example", "b@y.example", "c@y.example", size=10)
    if phase is Phase.CONTENT:
        play = Play(asks, "250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-BINARYMIME")
        three = message("a@y.example", "b@y.example", "c@y.example", size=10, body=Body.BINARY_MIME)
    else:
        play = Play(asks)
    if phase in (Phase.GREETING, Phase.HELLO):
        return play, play.go_to(when, phase)
    play.finish()
    client = play.client
    match phase:
        case Phase.TLS:
            client.start_tls()
        case Phase.AUTH:
            client.authenticate(Credentials("ann", "secret"))
        case Phase.INTRODUCTION:
            client.introduce({"NAME": "x.example"})
        case Phase.QUIT:
            client.quit()
        case Phase.RESET:
            client.send(Transaction(Path.parse("a@b.example"), (recipient("p@y.example"),), 0, purpose=Purpose.PROBE))
            play.finish()
            client.send(three)
        case _:
            client.send(three)
    return play, play.go_to(when, phase)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
@pytest.mark.parametrize("place", EFFECTS, ids=lambda place: f"{place[0].value}, {place[1].value}")
def test_every_answer_to_every_question(place: tuple[Moment, Phase], kind: Kind) -> None:
    play, question = reach(*place)
    client, step = play.client, STEPS[kind]
    sent = len(play.heard)
    before = len(play.events)
    if kind not in EFFECTS[place]:
        assert complaint(question, step) is not None
        with pytest.raises(ValueError, match="no meaning at"):
            client.go(step)
        assert client.is_asking
        assert client.data_to_send() == b""
        client.go(Go())
        return
    assert complaint(question, step) is None
    client.go(step)
    if place[0] is Moment.COMMAND:
        _check_command(play, question, EFFECTS[place][kind], step, sent, before)
    else:
        _check_reply(play, question, EFFECTS[place][kind], step, sent, before)
    assert len([event for event in play.events if isinstance(event, Outcomes)]) == client.transactions


def _check_command(play: Play, question: Question, effect: Effect, step: Step, sent: int, before: int) -> None:
    shown = question.line.replace("AUTH PLAIN …", "AUTH PLAIN AGFubgBzZWNyZXQ=")
    play.finish()
    said, events = play.heard[sent:], play.events[before:]
    phase = question.phase
    match effect:
        case Effect.SEND:
            assert said[0].partition(" ")[0] == shown.partition(" ")[0]
        case Effect.SEND_OTHER:
            assert said[0] in ("NOOP instead", "NOOP octets")
            assert shown not in said
        case Effect.SEND_TWICE:
            assert said[0] == shown
            assert (said[1:2] == [shown]) == (phase not in (Phase.SENDER, Phase.RECIPIENT, Phase.DATA))
        case Effect.SKIP:
            assert shown not in said
            assert not any(isinstance(event, Unwelcome) for event in events)
            if phase is Phase.RESET:
                assert [reply for _, reply, _, _ in play.results] == [Reply(250, "", "kept")] * 3
        case Effect.REFUSE:
            assert shown not in said
            reply = NO if isinstance(step, GiveUp) else LEFT_OUT
            _check_refused(play, phase, reply)
        case Effect.REST_LEFT_OUT:
            assert said == ["QUIT"] or not any(line.startswith("RCPT") for line in said)
            assert [reply for _, reply, _, _ in play.results] == [LEFT_OUT] * 3
        case Effect.MESSAGE_LEFT_OUT:
            assert said == []
            assert {reply for _, reply, _, _ in play.results} == {LEFT_OUT}
            assert play.client.is_idle
        case Effect.FINISH:
            _check_finished(play, question, step, said)
        case _:
            raise AssertionError(effect)


def _check_refused(play: Play, phase: Phase, reply: Reply) -> None:
    match phase:
        case Phase.TLS:
            assert play.last(TlsRefused) == TlsRefused(reply)
            assert play.client.is_idle
        case Phase.AUTH:
            assert play.last(AuthRefused) == AuthRefused(reply)
            assert play.client.is_idle
        case Phase.HELLO | Phase.INTRODUCTION:
            assert play.last(Unwelcome) == Unwelcome(reply, phase)
            assert play.heard[-1] == "QUIT"
        case Phase.RECIPIENT:
            kept = Reply(250, "", "kept")
            assert [(r, ours) for _, r, _, ours in play.results] == [(reply, True), (kept, False), (kept, False)]
        case _:
            assert {(r, ours) for _, r, _, ours in play.results} == {(reply, True)}
            assert play.client.is_idle
            assert not play.contents


def _check_finished(play: Play, question: Question, step: Step, said: list[str]) -> None:
    reply = NO if isinstance(step, EndSession) else LEFT_OUT
    assert play.client.state is State.CLOSED
    if question.phase is Phase.QUIT:
        assert said == []
    else:
        assert said == ["QUIT"]
        if play.client.transactions:
            assert {r for _, r, _, ours in play.results if ours} == {reply}
        else:
            assert play.last(Unwelcome) == Unwelcome(reply, question.phase)
    assert isinstance(play.events[-1], Closed)


def _check_reply(play: Play, question: Question, effect: Effect, step: Step, sent: int, before: int) -> None:
    assert isinstance(question, ReplyHeard)
    phase = question.phase
    play.finish()
    said, events = play.heard[sent:], play.events[before:]
    kept = Reply(250, "", "kept")
    is_taken = phase in (Phase.SENDER, Phase.RECIPIENT)
    awaits_more = phase in (Phase.TLS, Phase.DATA)
    match effect:
        case Effect.HEED:
            assert not any(isinstance(event, ProtocolError | Unwelcome) for event in events)
        case Effect.REPEAT:
            assert (said[:1] == [question.line]) == (not is_taken and not awaits_more)
        case Effect.ANSWER:
            assert (said[:1] == ["NOOP octets"]) == (not is_taken and not awaits_more)
        case Effect.OVERRULE if phase in (Phase.END_OF_DATA, Phase.CONTENT):
            assert {r.code for _, r, _, _ in play.results} == {250}, "the message was on its way, or taken"
        case Effect.OVERRULE if phase is Phase.RECIPIENT:
            assert next(r for _, r, _, _ in play.results) == NO
            assert said.count("RSET") == 1, "the server has forgotten the one it had taken"
            assert play.contents == 1
            assert [line for line in said[said.index("RSET") :] if line.startswith("RCPT")] == [
                "RCPT TO:<b@y.example>",
                "RCPT TO:<c@y.example>",
            ]
        case Effect.OVERRULE if phase in (Phase.RESET, Phase.SENDER, Phase.DATA):
            assert {(r, ours) for _, r, _, ours in play.results} == {(NO, True)}
            assert (play.client.state is State.CLOSED) == (phase is Phase.DATA)
            assert said == []
        case Effect.OVERRULE if phase is Phase.AUTH:
            assert play.last(AuthRefused) == AuthRefused(NO)
        case Effect.OVERRULE:
            assert play.last(Unwelcome) == Unwelcome(NO, phase)
            assert said == ([] if awaits_more else ["QUIT"])
        case Effect.REST_LEFT_OUT:
            assert [r for _, r, _, _ in play.results] == [kept, LEFT_OUT, LEFT_OUT]
            assert said == ["DATA"]
        case Effect.MESSAGE_LEFT_OUT:
            assert {r for _, r, _, _ in play.results} == {LEFT_OUT}
            assert (play.client.state is State.CLOSED) == awaits_more
            assert said == []
        case Effect.FINISH:
            assert play.client.state is State.CLOSED
            assert said == ([] if awaits_more else ["QUIT"])
            if phase in (Phase.CONTENT, Phase.END_OF_DATA):
                assert {r.code for _, r, _, _ in play.results} == {250}
        case _:
            raise AssertionError(effect)


def test_the_table_has_every_phase_that_has_a_command_or_a_reply() -> None:
    silent = {(Moment.COMMAND, p) for p in (Phase.CONNECT, Phase.GREETING, Phase.END_OF_DATA)}
    silent.add((Moment.REPLY, Phase.CONNECT))
    assert set(EFFECTS) == {(when, phase) for when in Moment for phase in Phase} - silent


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
