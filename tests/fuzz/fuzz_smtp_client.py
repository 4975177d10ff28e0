"""Fuzz target: any octets from a server, cut anywhere, for the SMTP client machine that delivers mail, and any steps in
answer to its questions.

The first octets choose the protocol, the cuts, what is asked and what is answered; the rest is what the server says.
"""

from __future__ import annotations

from fuzz.hunting import hunt, pieces
from gatepost.model import Path, Recipient, Reply
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    NO_QUESTIONS,
    AskAgain,
    Asks,
    Closed,
    CommandDue,
    EndSession,
    GiveUp,
    Go,
    JumpTo,
    LeaveOut,
    Outcomes,
    Phase,
    Protocol,
    ProtocolError,
    ReplyHeard,
    SendOctets,
    State,
    Step,
    Transaction,
)
from gatepost.wire.smtp.client_steps import complaint

CUTS = 4
ANSWERS = 8  # steps, taken in turn
TOP = 2 + CUTS + ANSWERS
RECIPIENTS = tuple(Recipient(Path.parse(f"u{n}@y.example"), {"NOTIFY": "SUCCESS"}) for n in range(3))
SENDER = Path.parse("a@b.example")
PHASES = tuple(Phase)
NO = Reply(550, "5.7.1", "no")
STEPS: tuple[Step, ...] = (
    Go(),
    Go("NOOP"),
    Go("a\r\nb"),
    LeaveOut(),
    SendOctets(b"NOOP\r\n"),
    AskAgain(),
    JumpTo(Phase.DATA),
    JumpTo(Phase.SENDER),
    JumpTo(Phase.QUIT),
    JumpTo(Phase.AUTH),
    GiveUp(NO),
    EndSession(NO),
)
GREETED = b"220 hi\r\n250-mx.example\r\n250-SIZE 100\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING\r\n"
SLOW = b"220 hi\r\n250-mx.example\r\n250-DSN\r\n250 XCLIENT NAME\r\n"
SEEDS = tuple(
    bytes([kind, asks]) + b"\x05\x30\x02\x09" + answers.ljust(ANSWERS, b"\0") + stream
    for kind, asks, answers, stream in (
        (0, 0, b"", GREETED + b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n451 later\r\n250 2.0.0 taken\r\n221 bye\r\n"),
        (
            0,
            0,
            b"",
            b"220-a\r\n220 b\r\n250 m\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n554 5.7.1 no\r\n421 bye\r\n",
        ),
        (1, 0, b"", b"220 hi\r\n250 mx\r\n250 ok\r\n250 a\r\n250 b\r\n250 c\r\n354 go\r\n250 a\r\n450 b\r\n550 c\r\n"),
        (0, 0, b"", b"554 nobody here\r\n"),
        (0, 0, b"", b"220 hi\r\n502 EHLO?\r\n250 mx\r\n250 \xff\r\r\n250-x\r\n251 y\r\n"),
        (0, 7, b"", SLOW + b"250 ok\r\n" * 4 + b"354 go\r\n250 kept\r\n"),
        (0, 3, b"\0\0\0\x0a\0", SLOW + b"250 ok\r\n" * 9 + b"354 go\r\n250 kept\r\n"),
        (1, 2, b"\x05\0\x0a\x07", SLOW + b"250 ok\r\n550 no\r\n" * 9 + b"354 go\r\n250 kept\r\n"),
        (
            0,
            0,
            b"",
            b"220 hi\r\n250-mx\r\n250 PRDR\r\n"
            + b"250 ok\r\n" * 4
            + b"354 go\r\n353 each\r\n250 a\r\n550 b\r\n250 c\r\n",
        ),
        (0, 1, b"\x04\x03\x06", GREETED + b"250 ok\r\n" * 12 + b"221 bye\r\n"),
    )
)


def asks_of(octet: int) -> Asks:
    """Bit 0: commands, bit 1: replies, bit 2: pipelined all the same."""
    if not octet & 3:
        return NO_QUESTIONS
    commands = frozenset(PHASES) if octet & 1 else frozenset[Phase]()
    return Asks(commands=commands, replies=bool(octet & 2), may_pipeline=bool(octet & 4))


def play(kind: Protocol, asks: Asks, answers: bytes, parts: list[bytes]) -> tuple[list[object], bytes, Client]:
    """Two messages, content as soon as it is wanted, then the end of the stream."""
    client = Client("me.example", protocol=kind, asks=asks)
    events: list[object] = []
    written = b""
    messages = asked = 0
    for part in [*parts, b""]:
        client.receive(part)
        while True:
            event = client.next_event()
            if event is not NEED_DATA:
                events.append(event)
            if isinstance(event, CommandDue | ReplyHeard):
                step = STEPS[answers[asked % len(answers)] % len(STEPS)]
                client.go(step if complaint(event, step) is None else Go())
                asked += 1
            elif client.wants_content:
                client.send_content(b"one\r\n.two\r\n")
                client.end_content()
            elif event is NEED_DATA:
                if not (client.is_idle and messages < 2):
                    break
                messages += 1
                client.send(Transaction(SENDER, RECIPIENTS, 11))
            written += client.data_to_send()
    return events, written, client


def one_input(data: bytes) -> None:
    """Every stream ends in one last event, every message has an outcome for each of its recipients, 2xx only by the
    server's word on the content, and no line is more than a line.
    """
    if len(data) < TOP:
        return
    kind = [*Protocol][data[0] % len(Protocol)]
    asks = asks_of(data[1])
    answers = data[2 + CUTS : TOP]
    for parts in [data[TOP:]], pieces(data[TOP:], data[2 : 2 + CUTS]):
        events, written, client = play(kind, asks, answers, [part for part in parts if part])
        assert client.state is State.CLOSED
        last = [event for event in events if isinstance(event, Closed | ProtocolError)]
        assert last == events[-1:]
        outcomes = [event for event in events if isinstance(event, Outcomes)]
        assert len(outcomes) == client.transactions
        for event in outcomes:
            assert tuple(outcome.recipient for outcome in event.outcomes) == RECIPIENTS
            for outcome in event.outcomes:
                assert not outcome.reply.is_positive or (outcome.phase is Phase.END_OF_DATA and not outcome.is_ours)
        rest = written.replace(b"\r\n", b"")
        assert b"\r" not in rest
        assert b"\n" not in rest


if __name__ == "__main__":
    hunt(one_input, SEEDS)
