"""Replies cut out of hostile octets."""

from __future__ import annotations

import pytest

from gatepost.model import Reply
from gatepost.wire.smtp.client_events import MAX_KEYWORDS, Capabilities
from gatepost.wire.smtp.client_replies import MAX_LENGTH, MAX_LINE, MAX_LINES, Malformed, ReplyReader


def read(data: bytes) -> Reply | Malformed | None:
    reader = ReplyReader()
    reader.feed(data)
    return reader.next_reply()


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"250 ok\r\n", Reply(250, "", "ok")),
        (b"250\r\n", Reply(250, "", "")),
        (b"250 \n", Reply(250, "", "")),
        (b"250-a\r\n250-b\r\n250 c\r\n", Reply(250, "", "a\nb\nc")),
        (b"550-5.1.1 no\r\n550 5.1.1 such user\r\n", Reply(550, "5.1.1", "no\nsuch user")),
        (b"550-5.1.1 no\r\n550 such user\r\n", Reply(550, "5.1.1", "no\nsuch user")),
        (b"550 5.1.1\r\n", Reply(550, "5.1.1", "")),
        (b"550 4.1.1 odd\r\n", Reply(550, "", "4.1.1 odd")),
        (b"250 5.1.1111 odd\r\n", Reply(250, "", "5.1.1111 odd")),
        (b"250 caf\xc3\xa9\r\n", Reply(250, "", "café")),
    ],
)
def test_replies(data: bytes, reply: Reply) -> None:
    assert read(data) == reply


@pytest.mark.parametrize(
    "data", [b"\r\n", b"250ok\r\n", b"25\r\n", b"999 no\r\n", b"100 no\r\n", b"250-a\r\n251 b\r\n"]
)
def test_malformed(data: bytes) -> None:
    assert isinstance(read(data), Malformed)


def test_I4_no_reply_text_breaks_a_line_or_steers_a_terminal() -> None:
    reply = read(b"550 a\rb\0c\x1b[2Jd\xff\xe2\x80\xa8e\tf\r\n")
    assert isinstance(reply, Reply)
    assert reply.text == "a?b?c?[2Jd\ufffd?e f"


def test_R2_an_endless_line_is_dropped_then_given_up() -> None:
    reader = ReplyReader()
    reader.feed(b"250 ")
    for _ in range(MAX_LENGTH // 4096 - 1):
        reader.feed(b"x" * 4096)
        assert reader.next_reply() is None
        assert len(reader._buffer) <= MAX_LINE + 1
    reader.feed(b"x" * 8192)
    assert isinstance(reader.next_reply(), Malformed)
    reader.feed(b"x" * 4096)
    assert not reader.has_input


def test_R2_a_long_line_is_cut() -> None:
    reply = read(b"250 " + b"x" * 100_000 + b"\r\n")
    assert isinstance(reply, Reply)
    assert len(reply.text) == MAX_LINE - 4


def test_U1_an_endless_reply() -> None:
    assert isinstance(read(b"250-x\r\n" * MAX_LINES), Malformed)
    assert isinstance(read(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n"), Reply)


def test_malformed_is_the_end() -> None:
    reader = ReplyReader()
    reader.feed(b"nonsense\r\n250 ok\r\n")
    assert isinstance(reader.next_reply(), Malformed)
    assert isinstance(reader.next_reply(), Malformed)


def test_capabilities_are_bounded_and_lenient() -> None:
    many = Capabilities.of(Reply(250, "", "\n".join(["mx", *(f"X{n}" for n in range(1000))])))
    assert len(many.keywords) == MAX_KEYWORDS
    some = Capabilities.of(Reply(250, "", "mx\nsize\nAUTH=PLAIN\nauth login\n\nLimits rcptmax=0 MAILMAX=x"))
    assert some.message_size is None
    assert some.mechanisms == {"PLAIN", "LOGIN"}
    assert some.recipients_max is None
    assert some.transactions_max is None
    assert Capabilities.of(Reply(250, "", "mx\nSIZE 0")).message_size is None
    assert Capabilities.of(Reply(250, "", "mx\nSIZE " + "9" * 5000)).message_size is None
