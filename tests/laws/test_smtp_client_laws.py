"""What holds for the client machine whatever a server sends, and however content is cut."""

from __future__ import annotations

import smtplib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gatepost.model import Path, Recipient
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_content import Chunking, DotStuffing
from gatepost.wire.smtp.client_events import NEED_DATA, Closed, Event, Outcomes, ProtocolError, State, Transaction
from gatepost.wire.smtp.client_events import Protocol as Kind
from gatepost.wire.smtp.client_replies import ReplyReader

RECIPIENTS = tuple(Recipient(Path.parse(f"u{n}@y.example")) for n in range(3))
GOOD = [
    b"220 hi",
    b"250 ok",
    b"250-mx",
    b"250-PIPELINING",
    b"250-CHUNKING",
    b"250 PIPELINING",
    b"250 CHUNKING",
    b"250-PRDR",
]
BAD = [
    b"354 go",
    b"353 each",
    b"550 5.1.1 no",
    b"451 later",
    b"421 bye",
    b"503 order",
    b"221 bye",
    b"250 \xff\r",
    b"334 x",
]
LINES = st.sampled_from(GOOD + BAD)
REPLIES = st.lists(LINES, max_size=40).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
HOSTILE = REPLIES | st.binary(max_size=300) | st.tuples(REPLIES, st.binary(max_size=50)).map(b"".join)
TEXT = st.lists(st.sampled_from([b".", b"..", b"a", b"\r\n", b"\r\n.", b".\r\n"]), max_size=30).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(at) if b > a]


def run(pieces: list[bytes], kind: Kind) -> tuple[list[Event], bytes, Client]:
    """Two messages, content as soon as it is wanted, then the end of the stream."""
    client = Client("me.example", protocol=kind)
    events: list[Event] = []
    written = b""
    messages = 0
    for piece in [*pieces, b""]:
        client.receive(piece)
        while True:
            event = client.next_event()
            if event is not NEED_DATA:
                events.append(event)
            if client.wants_content:
                client.send_content(b"one\r\n")
                client.send_content(b"two\r\n")
                client.end_content()
            elif event is NEED_DATA:
                if not (client.is_idle and messages < 2):
                    break
                messages += 1
                client.send(Transaction(Path.parse("a@b.example"), RECIPIENTS, 10))
            written += client.data_to_send()
    return events, written, client


@given(HOSTILE, st.sampled_from(Kind))
def test_any_octets_end_in_values(data: bytes, kind: Kind) -> None:
    events, _, client = run([data], kind)
    assert client.state is State.CLOSED
    assert isinstance(events[-1], Closed | ProtocolError)
    assert sum(isinstance(event, Closed | ProtocolError) for event in events) == 1
    outcomes = [event for event in events if isinstance(event, Outcomes)]
    assert len(outcomes) == client.transactions
    for event in outcomes:
        assert tuple(outcome.recipient for outcome in event.outcomes) == RECIPIENTS


@given(HOSTILE, st.lists(st.integers(0, 10_000), max_size=12))
def test_replies_are_the_same_however_cut(data: bytes, places: list[int]) -> None:
    def replies(pieces: list[bytes]) -> list[object]:
        reader = ReplyReader()
        found: list[object] = []
        for piece in pieces:
            reader.feed(piece)
            while (reply := reader.next_reply()) is not None:
                found.append(reply)
                if not hasattr(reply, "code"):
                    return found
        return found

    assert replies(cut(data, places)) == replies([data])


@given(st.integers(0, 6000), st.lists(st.integers(0, 10_000), max_size=8))
def test_long_lines_are_kept_the_same_however_cut(length: int, places: list[int]) -> None:
    line = b"250 " + bytes(33 + n % 90 for n in range(length)) + b"\r\n"
    whole, pieces = ReplyReader(), ReplyReader()
    whole.feed(line)
    for piece in cut(line, places):
        assert pieces.next_reply() is None
        pieces.feed(piece)
    assert pieces.next_reply() == whole.next_reply()


@given(TEXT, st.lists(st.integers(0, 1000), max_size=8))
def test_F7_stuffing_is_reversed_by_a_server_however_cut(text: bytes, places: list[int]) -> None:
    stuffing = DotStuffing()
    wire = b"".join(stuffing.stuff(piece) for piece in cut(text, places)) + stuffing.end()
    assert wire.endswith(b".\r\n")
    body = b"\r\n" + wire
    assert body.find(b"\r\n.\r\n") == len(body) - 5, "content must not end early"
    lines = body[2:-3].split(b"\r\n")
    unstuffed = b"\r\n".join(line.removeprefix(b".") for line in lines)
    assert unstuffed == text + (b"" if not text or text.endswith(b"\r\n") else b"\r\n")


@given(TEXT)
def test_stuffing_is_what_smtplib_does(text: bytes) -> None:
    assert DotStuffing().stuff(text) == smtplib._quote_periods(text)  # type: ignore[attr-defined]


@given(TEXT, st.lists(st.integers(0, 1000), max_size=8))
def test_chunks_are_the_content_however_cut(text: bytes, places: list[int]) -> None:
    chunking = Chunking(binary=False)
    blocks = [block for piece in cut(text, places) if (block := chunking.put(piece)) is not None]
    blocks.append(chunking.end())
    content = b""
    for block in blocks:
        command, _, octets = block.partition(b"\r\n")
        assert int(command.split()[1]) == len(octets)
        assert (command.endswith(b" LAST")) == (block is blocks[-1])
        content += octets
    assert content == text
