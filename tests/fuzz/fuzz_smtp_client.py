"""Fuzz target: any octets from a server, cut anywhere, for the SMTP client machine that delivers mail.

The first octets choose the protocol and the cuts, the rest is what the server says.
"""

from __future__ import annotations

from fuzz.hunting import hunt, pieces
from gatepost.model import Path, Recipient
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import NEED_DATA, Closed, Outcomes, Protocol, ProtocolError, State, Transaction

CUTS = 4
TOP = 1 + CUTS
RECIPIENTS = tuple(Recipient(Path.parse(f"u{n}@y.example")) for n in range(3))
SENDER = Path.parse("a@b.example")
GREETED = b"220 hi\r\n250-mx.example\r\n250-SIZE 100\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING\r\n"
SEEDS = tuple(
    bytes([kind]) + b"\x05\x30\x02\x09" + stream
    for kind, stream in (
        (0, GREETED + b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n451 later\r\n250 2.0.0 taken\r\n221 bye\r\n"),
        (
            0,
            b"220-a\r\n220 b\r\n250 m\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n554 5.7.1 no\r\n421 bye\r\n",
        ),
        (1, b"220 hi\r\n250 mx\r\n250 ok\r\n250 a\r\n250 b\r\n250 c\r\n354 go\r\n250 a\r\n450 b\r\n550 c\r\n"),
        (0, b"554 nobody here\r\n"),
        (0, b"220 hi\r\n502 EHLO?\r\n250 mx\r\n250 \xff\r\r\n250-x\r\n251 y\r\n"),
    )
)


def play(kind: Protocol, parts: list[bytes]) -> tuple[list[object], bytes, Client]:
    """Two messages, content as soon as it is wanted, then the end of the stream."""
    client = Client("me.example", protocol=kind)
    events: list[object] = []
    written = b""
    messages = 0
    for part in [*parts, b""]:
        client.receive(part)
        while True:
            event = client.next_event()
            if event is not NEED_DATA:
                events.append(event)
            if client.wants_content:
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
    """Every stream ends in one last event, and every message has an outcome for each of its recipients."""
    if len(data) < TOP:
        return
    kind = [*Protocol][data[0] % len(Protocol)]
    for parts in [data[TOP:]], pieces(data[TOP:], data[1:TOP]):
        events, written, client = play(kind, [part for part in parts if part])
        assert client.state is State.CLOSED
        last = [event for event in events if isinstance(event, Closed | ProtocolError)]
        assert last == events[-1:]
        outcomes = [event for event in events if isinstance(event, Outcomes)]
        assert len(outcomes) == client.transactions
        for event in outcomes:
            assert tuple(outcome.recipient for outcome in event.outcomes) == RECIPIENTS
        rest = written.replace(b"\r\n", b"")
        assert b"\r" not in rest
        assert b"\n" not in rest


if __name__ == "__main__":
    hunt(one_input, SEEDS)
