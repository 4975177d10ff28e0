"""What the client machine holds, however much a server says; and what it makes of answers that are nearly right."""

from __future__ import annotations

import pytest

from gatepost.wire.pop3 import client as machine
from gatepost.wire.pop3.client import Client
from gatepost.wire.pop3.client_events import Answered, Names, Piece, ProtocolError, Sizes
from gatepost.wire.pop3.client_states import State
from gatepost.wire.pop3.replies import Reply
from unit.wire_pop3_client.test_pop3_client_table import brought_to, heard


def opened() -> Client:
    return brought_to(State.TRANSACTION)


@pytest.mark.parametrize("begun", [b"+OK ", b"-ERR ", b"x"])
def test_a_line_without_end_is_not_kept(begun: bytes) -> None:
    client = opened()
    client.retrieve(1)
    assert heard(client, begun + b"x" * (machine.MAX_ANSWER - len(begun))) == []
    assert heard(client, b"x") == [ProtocolError("a line without end")]
    assert client.buffered == 0


def test_a_listing_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_ENTRIES", 5000)
    client = opened()
    client.sizes()
    heard(client, b"+OK\r\n")
    events: list[object] = []
    for _ in range(10):
        if client.state is State.CLOSED:
            break
        events += heard(client, b"1 1\r\n" * 1000)
        assert client.buffered == 0
    assert events[-1] == ProtocolError("in answer to LIST: a listing without end")
    assert all(len(event.entries) <= 1000 for event in events if isinstance(event, Sizes))


def test_as_many_messages_as_are_allowed_are_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.MAX_ENTRIES == 1_000_000
    monkeypatch.setattr(machine, "MAX_ENTRIES", 100_000)
    client = opened()
    client.names()
    heard(client, b"+OK\r\n")
    count = 0
    block = b"".join(b"%d %032d\r\n" % (number, number) for number in range(1, 10_001))
    for _ in range(10):
        count += sum(len(event.entries) for event in heard(client, block) if isinstance(event, Names))
    assert count == 100_000 and client.state is State.TRANSACTION
    assert isinstance(heard(client, b"1 a\r\n" * 2)[-1], ProtocolError)


def test_a_listing_is_bounded_in_octets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_LISTING", 100_000)
    client = opened()
    client.names()
    heard(client, b"+OK\r\n")
    events: list[object] = []
    while client.state is not State.CLOSED:
        events += heard(client, b"1 " + b"x" * 3000 + b"\r\n")
    assert len(events) <= 35 and isinstance(events[-1], ProtocolError)


def test_a_capability_list_without_end_ends() -> None:
    client = brought_to(State.AUTHORIZATION)
    client.capa()
    heard(client, b"+OK\r\n")
    events: list[object] = []
    for _ in range(20):
        if client.state is not State.CLOSED:
            events += heard(client, b"X\r\n" * 100)
    assert events == [ProtocolError("in answer to CAPA: a listing without end")]


def test_a_message_goes_through_and_is_not_held() -> None:
    client = opened()
    client.retrieve(1)
    heard(client, b"+OK\r\n")
    block = (b"x" * 70 + b"\r\n") * 900
    for _ in range(50):
        events = heard(client, block)
        assert [len(event.data) for event in events if isinstance(event, Piece)]
        assert client.buffered == 0
    assert len(heard(client, b".\r\n")) == 2


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (b"1 120", (1, 120)),
        (b"  1   120  and more", (1, 120)),
        (b"1", (1, 0)),
        (b"1 many", (1, 0)),
        (b"1 -5", (1, 0)),
        (b"1 99999999999999999999999", (1, 0)),
        (b"0 5", None),
        (b"-1 5", None),
        (b"2147483648 5", None),
        (b"99999999999999 5", None),
        (b"x", None),
        (b"", None),
        (b"+OK", None),
    ],
)
def test_entries_of_list(line: bytes, entry: tuple[int, int] | None) -> None:
    client = opened()
    client.sizes()
    [_, event] = heard(client, b"+OK\r\n" + line + b"\r\n")
    assert event == Sizes((entry,)) if entry else isinstance(event, ProtocolError)


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        (b"1 abc", (1, "abc")),
        (b"1 a b ", (1, "a b")),
        (b"1", (1, None)),
        (b"1 ", (1, None)),
        (b"1 \xff", (1, None)),
        (b"1 a\tb", (1, None)),
        (b"1 " + b"x" * 255, (1, "x" * 255)),
        (b"1 " + b"x" * 256, (1, None)),
        (b"1abc", None),
        (b"0 a", None),
        (b"abc", None),
    ],
)
def test_entries_of_uidl(line: bytes, entry: tuple[int, str | None] | None) -> None:
    client = opened()
    client.names()
    [_, event] = heard(client, b"+OK\r\n" + line + b"\r\n")
    assert event == Names((entry,)) if entry else isinstance(event, ProtocolError)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"+OK", Reply(True)),
        (b"+ok  \t fine ", Reply(True, "fine")),
        (b"-err [in-use] busy", Reply(False, "busy", "IN-USE")),
        (b"-ERR [SYS/TEMP]", Reply(False, "", "SYS/TEMP")),
        (b"-ERR [SYS/TEMP]x", Reply(False, "[SYS/TEMP]x")),
        (b"-ERR [not a code] x", Reply(False, "[not a code] x")),
        (b"-ERR \x1b[31m\xff\r\0", Reply(False, "?[31m\ufffd??")),
    ],
)
def test_answers(line: bytes, reply: Reply) -> None:
    client = opened()
    client.noop()
    [answer] = heard(client, line + b"\r\n")
    assert isinstance(answer, Answered) and answer.reply == reply


@pytest.mark.parametrize("line", [b"", b"+OKAY", b"OK", b"250 ok", b"* OK", b"+", b"+ ", b"\xff", b"-ERRx"])
def test_what_is_no_answer_ends_the_session(line: bytes) -> None:
    client = opened()
    client.noop()
    [event] = heard(client, line + b"\r\n")
    assert isinstance(event, ProtocolError) and event.text.isprintable() and client.state is State.CLOSED


def test_at_most_so_many_commands_are_under_way() -> None:
    client = brought_to(State.AUTHORIZATION)
    client.capa()
    heard(client, b"+OK\r\nPIPELINING\r\n.\r\n")
    client.apop("ann", "secret")
    heard(client, b"+OK\r\n")
    client.data_to_send()
    for number in range(1, 251):
        client.delete(number)
    assert client.data_to_send().count(b"\r\n") == machine.MAX_PIPELINED
    assert len(heard(client, b"+OK\r\n" * 30)) == 30
    assert client.data_to_send().count(b"\r\n") == 30
