"""Probes, and messages that are for all recipients or for nobody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatepost.model import Body, Path, Recipient
from gatepost.wire.smtp.client import Client
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    ContentWanted,
    Outcomes,
    Phase,
    Protocol,
    Purpose,
    State,
    Transaction,
)
from unit.wire_client.test_wire_client_session import Talk, recipient

SENDER = Path.parse("a@b.example")


def begin(talk: Talk, purpose: Purpose, *recipients: str, size: int = 0, body: Body = Body.SEVEN_BIT) -> str:
    addressees = tuple(map(recipient, recipients))
    talk.client.send(Transaction(SENDER, addressees, size, body, purpose=purpose))
    return talk.written()


def test_a_probe_ends_with_what_rcpt_said_and_is_taken_back_before_what_follows() -> None:
    talk = Talk(offers="PIPELINING,SIZE 1000")
    ask = "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nRCPT TO:<z@y.example>\r\n"
    assert begin(talk, Purpose.PROBE, "x@y.example", "z@y.example") == ask
    talk.said("250 sender", "250 2.1.5 he is here", "550 5.1.1 who?")
    assert talk.results() == [("x@y.example", 250, Phase.RECIPIENT), ("z@y.example", 550, Phase.RECIPIENT)]
    assert isinstance(talk.last, Outcomes)
    assert talk.client.can_reuse
    assert talk.sent("x@y.example").startswith("RSET\r\nMAIL FROM:<a@b.example> SIZE=5\r\n")


def test_a_probe_with_chunking_gives_no_content_either() -> None:
    talk = Talk(offers="PIPELINING,CHUNKING")
    begin(talk, Purpose.PROBE, "x@y.example")
    talk.said("250 a", "250 b")
    assert talk.results() == [("x@y.example", 250, Phase.RECIPIENT)]
    assert ContentWanted() not in talk.events
    assert talk.client.state is State.IDLE


def test_a_probe_one_command_at_a_time() -> None:
    talk = Talk(offers="")
    assert begin(talk, Purpose.PROBE, "x@y.example") == "MAIL FROM:<a@b.example>\r\n"
    assert talk.said("250 a") == "RCPT TO:<x@y.example>\r\n"
    assert talk.said("451 4.7.1 grey") == ""
    assert talk.results() == [("x@y.example", 451, Phase.RECIPIENT)]


def test_a_probe_whose_sender_is_refused() -> None:
    talk = Talk(offers="PIPELINING")
    begin(talk, Purpose.PROBE, "x@y.example")
    talk.said("550 5.7.1 not from you", "503 5.5.1 sender first")
    assert talk.results() == [("x@y.example", 550, Phase.SENDER)]


def test_a_probe_says_the_size_it_knows() -> None:
    talk = Talk(offers="PIPELINING,SIZE 1000")
    assert "SIZE=900" in begin(talk, Purpose.PROBE, "x@y.example", size=900)
    talk.said("250 a", "250 b")
    assert begin(talk, Purpose.PROBE, "x@y.example", size=1001) == ""
    assert talk.results() == [("x@y.example", 552, Phase.SENDER)]


def test_for_all_or_nobody_waits_with_data_until_everybody_is_taken() -> None:
    talk = Talk(offers="PIPELINING")
    ask = "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nRCPT TO:<z@y.example>\r\n"
    assert begin(talk, Purpose.MESSAGE_TO_ALL, "x@y.example", "z@y.example") == ask
    assert talk.said("250 a", "250 b") == ""
    assert talk.said("250 c") == "DATA\r\n"
    talk.said("354 go")
    assert talk.content(b"hello\r\n") == "hello\r\n.\r\n"
    talk.said("250 2.0.0 kept")
    assert talk.results() == [("x@y.example", 250, Phase.END_OF_DATA), ("z@y.example", 250, Phase.END_OF_DATA)]


def test_for_all_or_nobody_says_no_data_when_one_is_refused() -> None:
    for offers in ("", "PIPELINING", "PIPELINING,CHUNKING"):
        talk = Talk(offers=offers)
        begin(talk, Purpose.MESSAGE_TO_ALL, "x@y.example", "z@y.example")
        assert "DATA" not in talk.said("250 a") + talk.said("250 b") + talk.said("550 5.1.1 who?")
        assert talk.results() == [("x@y.example", 451, Phase.RECIPIENT), ("z@y.example", 550, Phase.RECIPIENT)]
        assert isinstance(talk.last, Outcomes)
        assert [outcome.is_left_out for outcome in talk.last.outcomes] == [True, False]
        assert ContentWanted() not in talk.events
        assert talk.sent("x@y.example").startswith("RSET\r\n")


def test_for_all_or_nobody_one_address_cannot_travel() -> None:
    talk = Talk(offers="PIPELINING")
    begin(talk, Purpose.MESSAGE_TO_ALL, "x@y.example", "zoë@y.example")
    assert talk.said("250 a", "250 b") == ""
    assert talk.results() == [("x@y.example", 451, Phase.RECIPIENT), ("zoë@y.example", 553, Phase.RECIPIENT)]


CODES = st.sampled_from(["250 ok", "250 2.1.5 fine", "251 elsewhere", "354 go", "450 no", "550 no", "421 bye", "503 x"])
OFFERS = st.sampled_from(["", "PIPELINING", "PIPELINING,CHUNKING"])
NAMES = tuple(Recipient(Path.parse(f"u{n}@y.example")) for n in range(3))


@given(st.lists(CODES, max_size=12), OFFERS, st.sampled_from([Purpose.PROBE, Purpose.MESSAGE_TO_ALL]))
def test_law_content_only_for_all_and_never_for_a_probe(replies: list[str], offers: str, purpose: Purpose) -> None:
    talk = Talk(offers=offers)
    client: Client = talk.client
    client.send(Transaction(SENDER, NAMES, 5, purpose=purpose))
    written = talk.written()
    taken: list[bool] = []
    for line in replies:
        commands = [command for command in written.split("\r\n") if command]
        before = len([event for event in talk.events if isinstance(event, Outcomes)])
        if before:
            break
        asked = commands[len(taken)] if len(taken) < len(commands) else ""
        taken.append(asked.startswith("RCPT") and line[0] == "2")
        written += talk.said(line)
        if client.wants_content or "DATA" in written:
            assert purpose is Purpose.MESSAGE_TO_ALL
            assert sum(taken) == len(NAMES)
            break
    client.receive(b"")
    if client.wants_content:
        client.end_content()
    while (event := client.next_event()) is not NEED_DATA:
        talk.events.append(event)
    [outcomes] = [event for event in talk.events if isinstance(event, Outcomes)]
    assert tuple(outcome.recipient for outcome in outcomes.outcomes) == NAMES
    if purpose is Purpose.MESSAGE_TO_ALL:
        assert not any(outcome.reply.is_positive for outcome in outcomes.outcomes)


def test_a_probe_by_lmtp() -> None:
    talk = Talk(protocol=Protocol.LMTP, offers="PIPELINING")
    begin(talk, Purpose.PROBE, "x@y.example")
    talk.said("250 a", "250 b")
    assert talk.results() == [("x@y.example", 250, Phase.RECIPIENT)]
