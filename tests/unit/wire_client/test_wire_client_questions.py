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
    AuthRefused,
    Closed,
    CommandDue,
    Credentials,
    EndSession,
    Event,
    GiveUp,
    Go,
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
    Transaction,
    Unwelcome,
)
from gatepost.wire.smtp.client_steps import (
    EFFECTS,
    Effect,
    Kind,
    Moment,
    complaint,
    moment,
)
from unit.wire_client.test_wire_client_session import message, recipient

ALL = frozenset(Phase)
NO = Reply(550, "5.7.1", "a plugin says no")
STEPS: dict[Kind, Step] = {
    Kind.GO: Go(),
    Kind.CHANGE: Go("NOOP instead"),
    Kind.LEAVE_OUT: LeaveOut(),
    Kind.OCTETS: SendOctets(b"NOOP octets\r\n"),
    Kind.AGAIN: AskAgain(),
    Kind.AGAIN_AFTER: AskAgain("NOOP first"),
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
    if phase is Phase.EXTRA:
        asks = Asks(commands=ALL, replies=True)
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
        case Phase.EXTRA:
            client.send(three)
            play.go_to(Moment.COMMAND, Phase.SENDER)
            client.go(AskAgain("NOOP aside"))
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
        case Effect.SEND_FIRST:
            assert said[0] == "NOOP first"
            assert said[1].partition(" ")[0] == shown.partition(" ")[0]
            assert said.count("NOOP first") == 1
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
            assert said[0] == shown, "nobody is taken yet, so that it counts as Go"
            assert [reply for _, reply, _, _ in play.results] == [Reply(250, "", "kept")] * 3
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
        case Effect.REPEAT_AFTER:
            assert (said[:2] == ["NOOP first", question.line]) == (not is_taken and not awaits_more)
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
        case Effect.OVERRULE if phase in (Phase.RESET, Phase.SENDER, Phase.DATA, Phase.EXTRA):
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
    silent = {(Moment.COMMAND, p) for p in (Phase.CONNECT, Phase.GREETING, Phase.END_OF_DATA, Phase.EXTRA)}
    silent.add((Moment.REPLY, Phase.CONNECT))
    assert set(EFFECTS) == {(when, phase) for when in Moment for phase in Phase} - silent
