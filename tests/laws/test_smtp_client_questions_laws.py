"""What holds for the client machine whatever its questions are answered with, and whatever a server says meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from gatepost.model import Body, Path, Recipient, Reply
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    AskAgain,
    Asks,
    Closed,
    CommandDue,
    EndSession,
    Event,
    GiveUp,
    Go,
    JumpTo,
    LeaveOut,
    Outcomes,
    Phase,
    ProtocolError,
    Purpose,
    ReplyHeard,
    SendOctets,
    State,
    Step,
    Transaction,
)
from gatepost.wire.smtp.client_events import Protocol as Kind
from gatepost.wire.smtp.client_steps import complaint

RECIPIENTS = tuple(Recipient(Path.parse(f"u{n}@y.example")) for n in range(3))
SENDER = Path.parse("a@b.example")
NO = Reply(550, "5.7.1", "a plugin says no")
TURNS = 3000  # events after which a session is taken to be endless

STEPS: list[Step] = [
    JumpTo(Phase.DATA),
    JumpTo(Phase.SENDER),
    JumpTo(Phase.QUIT),
    JumpTo(Phase.HELLO),
    AskAgain(),
    AskAgain("NOOP"),
    LeaveOut(),
    GiveUp(NO),
    GiveUp(NO),
    EndSession(NO),
]
CHANGES: list[Step] = [
    Go("NOOP"),
    Go("a\r\nb"),
    Go("x" * 3000),
    Go("\ud800"),
    Go(""),
    AskAgain("a\r\nb"),
    AskAgain(""),
    GiveUp(Reply(250, "", "a lie")),
    SendOctets(b"NOOP\r\n"),
    SendOctets(b""),
]
ASKS = st.builds(
    Asks,
    commands=st.sets(st.sampled_from(Phase)).map(frozenset) | st.just(frozenset(Phase)),
    replies=st.booleans(),
    may_pipeline=st.booleans(),
)
OFFERS = st.sets(st.sampled_from(["PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME", "XFORWARD NAME", "DSN", "PRDR"]))
PURPOSES = st.sampled_from(Purpose)


class Honest:
    """A server that keeps to the protocol, and says no when `refuses` says so. `delivered` has who got content."""

    def __init__(self, kind: Kind, offers: set[str], refuses: Callable[[], bool]) -> None:
        self._lmtp = kind is Kind.LMTP
        self._offers = offers
        self._refuses = refuses
        self._buffer = b""
        self._mail = False
        self._prdr = False
        self._to: list[str] = []
        self._in_data = False
        self._chunk_left: int | None = None
        self._is_last = False
        self._is_out_of_order = False
        self.delivered: list[str] = []
        self.has_quit = False
        self.said = b"220 hi\r\n"

    def hear(self, data: bytes) -> None:
        self._buffer += data
        while self._buffer and not self.has_quit:
            if self._chunk_left is not None:
                taken = min(self._chunk_left, len(self._buffer))
                self._buffer = self._buffer[taken:]
                self._chunk_left -= taken
                if self._chunk_left:
                    return
                self._chunk_left = None
                self._end_chunk()
                continue
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                return
            self._buffer = rest
            if self._in_data:
                if line == b".":
                    self._in_data = False
                    self._deliver()
            else:
                self._obey(line.decode())

    def _say(self, *lines: str) -> None:
        self.said += "".join(f"{line}\r\n" for line in lines).encode()

    def _obey(self, line: str) -> None:
        verb = line.partition(" ")[0]
        if verb in ("EHLO", "LHLO"):
            self._forget()
            self._say("250-mx.example", *(f"250-{offer}" for offer in sorted(self._offers)), "250 HELP")
        elif verb == "QUIT":
            self._say("221 bye")
            self.has_quit = True
        elif verb in ("RSET", "XFORWARD"):
            if verb == "RSET":
                self._forget()
            self._say("250 ok")
        elif verb == "MAIL":
            if self._mail:
                self._say("503 nested")
            elif self._refuses():
                self._say("550 not from you")
            else:
                self._mail = True
                self._prdr = line.endswith(" PRDR")
                assert not self._prdr or "PRDR" in self._offers
                self._say("250 ok")
        elif verb == "RCPT":
            if not self._mail:
                self._say("503 sender first")
            elif self._refuses():
                self._say("550 who?")
            else:
                self._to.append(line.partition("<")[2].partition(">")[0])
                self._say("250 ok")
        elif verb == "DATA":
            if not self._to:
                self._say("554 for whom?")
            elif self._refuses():
                self._say("451 not now")
            else:
                self._in_data = True
                self._say("354 go")
        elif verb == "BDAT":
            self._chunk_left = int(line.split()[1])
            self._is_last = line.endswith("LAST")
            if not self._chunk_left:
                self._chunk_left = None
                self._end_chunk()
        else:
            self._say("500 what?")

    def _end_chunk(self) -> None:
        if not self._to or self._is_out_of_order:
            self._say("503 for whom?")
            self._is_out_of_order = True
        elif self._is_last:
            self._deliver()
        elif self._refuses():
            self._say("552 too much")
            self._is_out_of_order = True
        else:
            self._say("250 ok")

    def _deliver(self) -> None:
        if self._prdr and not self._refuses():
            self._deliver_singly()
            self._forget()
            return
        for address in self._to if self._lmtp else self._to[:1]:
            if self._refuses():
                self._say("554 no")
            else:
                self._say("250 kept")
                self.delivered.extend([address] if self._lmtp else self._to)
        self._forget()

    def _deliver_singly(self) -> None:
        refused = [self._refuses() for _ in self._to]
        self._say("353 one by one", *("554 not this one" if no else "250 this one" for no in refused))
        if self._refuses():
            self._say("451 nobody")
        else:
            self._say("250 kept")
            self.delivered.extend(address for address, no in zip(self._to, refused, strict=True) if not no)

    def _forget(self) -> None:
        self._mail, self._to, self._is_out_of_order = False, [], False


def drive(
    client: Client, event: Event, data: st.DataObject, steps: list[Step], asked: list[CommandDue | ReplyHeard]
) -> None:
    """Answer a question with any step; what `complaint` has nothing against must not raise."""
    if isinstance(event, CommandDue | ReplyHeard):
        asked.append(event)
        step = data.draw(st.sampled_from(steps)) if len(asked) < 60 and data.draw(st.integers(0, 5)) == 1 else Go()
        if complaint(event, step) is None:
            client.go(step)
        else:
            try:
                client.go(step)
            except ValueError:
                client.go(Go())
            else:
                raise AssertionError(step)


@given(st.data(), st.sampled_from(Kind), OFFERS, ASKS, PURPOSES, st.booleans())
def test_law_what_an_honest_server_delivers_is_what_the_outcomes_say(
    data: st.DataObject, kind: Kind, offers: set[str], asks: Asks, purpose: Purpose, binary: bool
) -> None:
    """Nobody has the message who isn't said to, nobody is said to have it who hasn't, whatever plugins do but talk."""
    server = Honest(kind, offers, lambda: data.draw(st.integers(0, 7)) == 1)
    client = Client("me.example", protocol=kind, asks=asks)
    asked: list[CommandDue | ReplyHeard] = []
    told: list[list[str]] = []
    messages = turns = 0
    introduced = False
    while (turns := turns + 1) < TURNS:
        event = client.next_event()
        if event is NEED_DATA and client.state is State.CLOSED:
            break
        if event is not NEED_DATA:
            drive(client, event, data, STEPS, asked)
            if isinstance(event, Outcomes):
                assert tuple(o.recipient for o in event.outcomes) == RECIPIENTS
                told.append([str(o.recipient) for o in event.outcomes if o.reply.is_positive])
                if purpose is Purpose.PROBE:
                    assert not server.delivered
                else:
                    server.hear(client.data_to_send())
                    assert told[-1] == server.delivered
                    assert all(o.phase is Phase.END_OF_DATA for o in event.outcomes if o.reply.is_positive)
                server.delivered = []
        elif client.wants_content:
            client.send_content(b"one\r\n")
            if client.wants_content:
                client.send_content(b"two\r\n")
            client.end_content()
        elif client.is_idle and not introduced:
            introduced = True
            client.introduce({"NAME": "a b", "ADDR": "192.0.2.1"})
        elif client.is_idle and messages < 2:
            messages += 1
            client.send(
                Transaction(SENDER, RECIPIENTS, 10, Body.BINARY_MIME if binary else Body.SEVEN_BIT, purpose=purpose)
            )
        elif client.is_idle:
            client.quit()
        else:
            server.hear(client.data_to_send())
            said, server.said = server.said, b""
            assert said or server.has_quit, "both wait for each other"
            client.receive(said)
    assert client.state is State.CLOSED
    assert len(told) == client.transactions


GOOD = [
    "220 hi",
    "250 ok",
    "250-mx\r\n250-PIPELINING\r\n250 CHUNKING",
    "250-mx\r\n250 PRDR",
    "353 each",
    "250-mx\r\n250 XCLIENT NAME",
]
BAD = ["354 go", "550 5.1.1 no", "451 later", "421 bye", "503 order", "221 bye", "250 \xff\r", "334 x", "235 in"]


@given(st.data(), st.sampled_from(Kind), ASKS, st.lists(st.sampled_from(GOOD * 3 + BAD), max_size=60))
def test_law_any_steps_and_any_replies_end_in_values(
    data: st.DataObject, kind: Kind, asks: Asks, replies: list[str]
) -> None:
    client = Client("me.example", protocol=kind, asks=asks)
    events: list[Event] = []
    asked: list[CommandDue | ReplyHeard] = []
    written = b""
    messages = turns = 0
    for said in [*replies, ""]:
        client.receive(f"{said}\r\n".encode("latin-1") if said else b"")
        while (turns := turns + 1) < TURNS:
            event = client.next_event()
            if event is not NEED_DATA:
                events.append(event)
                drive(client, event, data, STEPS + CHANGES, asked)
            elif client.wants_content:
                client.send_content(b"one\r\n")
                client.end_content()
            elif client.is_idle and messages < 2:
                messages += 1
                if messages == 2:
                    client.introduce({"NAME": "x"})
                else:
                    client.send(Transaction(SENDER, RECIPIENTS, 5))
            else:
                break
            written += client.data_to_send()
    assert client.state is State.CLOSED
    assert sum(isinstance(event, Closed | ProtocolError) for event in events) == 1
    outcomes = [event for event in events if isinstance(event, Outcomes)]
    assert len(outcomes) == client.transactions
    for event in outcomes:
        assert tuple(outcome.recipient for outcome in event.outcomes) == RECIPIENTS
        for outcome in event.outcomes:
            assert not outcome.reply.is_positive or (outcome.phase is Phase.END_OF_DATA and not outcome.is_ours)
    rest = written.replace(b"\r\n", b"")
    assert b"\r" not in rest
    assert b"\n" not in rest


@given(st.integers(0, 5), st.booleans(), st.booleans(), st.sampled_from([None, "XGREET"]))
def test_law_who_repeats_for_ever_is_not_heard_for_ever(
    at: int, replies: bool, pipelines: bool, line: str | None
) -> None:
    """Each of the answers that go back, given to every question of one phase, ends all the same."""
    phase = [Phase.HELLO, Phase.SENDER, Phase.RECIPIENT, Phase.DATA, Phase.RESET, Phase.QUIT][at]
    refused: Phase | None = None
    # what was taken isn't said again, so that a server which takes nothing is the one to be wary of
    server = Honest(Kind.SMTP, {"PIPELINING"} if pipelines else set(), lambda: phase is refused)
    client = Client("me.example", asks=Asks(frozenset({phase}), replies=replies, may_pipeline=False))
    messages = turns = 0
    while client.state is not State.CLOSED:
        turns += 1
        assert turns < TURNS
        event = client.next_event()
        if isinstance(event, CommandDue | ReplyHeard):
            refused = event.phase
            again = AskAgain(line)
            client.go(again if event.phase is phase and complaint(event, again) is None else Go())
        elif event is not NEED_DATA:
            continue
        elif client.wants_content:
            client.end_content()
        elif client.is_idle and messages < 2:
            messages += 1
            client.send(Transaction(SENDER, RECIPIENTS, 0, purpose=Purpose.PROBE if messages == 1 else Purpose.MESSAGE))
        elif client.is_idle:
            client.quit()
        else:
            server.hear(client.data_to_send())
            client.receive(server.said)
            server.said = b""
    assert client.transactions == 2
