"""Every limit of a profile, one below it, at it, and one above it."""

from __future__ import annotations

import pytest

from gatepost.model import Reply
from gatepost.wire.smtp.profile import AUTH_LINE, Profile
from scenes.smtp_machine.house import greeted, in_transaction


@pytest.mark.parametrize(("excess", "code"), [(-1, "250"), (0, "250"), (1, "500")])
def test_command_line(excess: int, code: str) -> None:
    made = greeted(command_line=100)
    line = "NOOP " + "x" * (100 - 7 + excess)
    assert len(line) + 2 == 100 + excess
    assert made.say(line).startswith(code)


@pytest.mark.parametrize(("excess", "code"), [(-1, "250"), (0, "250"), (1, "500")])
def test_a_mail_line_has_the_room_its_extensions_add(excess: int, code: str) -> None:
    made = greeted(auth=("PLAIN",), tls=True)
    room = 512 + 26 + 17 + 10 + 500 + len(" RET=FULL ENVID=") + 100
    assert Profile("x", auth=("PLAIN",)).mail_line == room
    line = "MAIL FROM:<a@example.org> AUTH="
    assert made.say(line + "x" * (room - 2 - len(line) + excess)).startswith(code)


@pytest.mark.parametrize(("excess", "code"), [(-1, "504"), (0, "504"), (1, "500")])
def test_an_auth_line(excess: int, code: str) -> None:
    made = greeted(auth=("PLAIN",), tls=True)
    assert made.say("AUTH X " + "x" * (AUTH_LINE - 9 + excess)).startswith(code)
    assert made.say("NOOP " + "x" * 600).startswith("500")


@pytest.mark.parametrize(("excess", "code"), [(-1, "250"), (0, "250"), (1, "554")])
@pytest.mark.parametrize("how", ["data", "stuffed", "bdat"])
def test_text_line(excess: int, code: str, how: str) -> None:
    made = in_transaction(text_line=100)
    line = b"." + b"x" * (97 + excess) + b"\r\n"
    assert len(line) == 100 + excess
    if how == "bdat":
        made.receive(b"BDAT %d LAST\r\n" % (len(line) * 2) + line * 2)
    else:
        made.say("DATA")
        made.output = b""
        stuffed = b"." + line if how == "stuffed" else b"." + line[1:-2] + b"x\r\n"
        made.receive(stuffed * 2 + b".\r\n")
    assert made.output.startswith(code.encode())


def test_text_line_without_limit() -> None:
    made = in_transaction(text_line=0)
    made.say("DATA")
    assert made.say("x" * 100_000, ".").startswith("250")


@pytest.mark.parametrize(("excess", "code"), [(-1, "250"), (0, "250"), (1, "552")])
def test_message_size_at_mail_and_while_receiving(excess: int, code: str) -> None:
    made = greeted(message_size=1000)
    assert made.say(f"MAIL FROM:<a@example.org> SIZE={1000 + excess}").startswith(code)
    made = in_transaction(message_size=1000)
    made.say("DATA")
    assert made.say("x" * 498, "x" * (498 + excess), ".").startswith(code)
    made = in_transaction(message_size=1000)
    assert made.say(f"BDAT {1000 + excess} LAST", "x" * (998 + excess)).startswith(code)


def test_message_size_without_limit() -> None:
    made = greeted(message_size=0)
    assert made.say("MAIL FROM:<a@example.org> SIZE=99999999999999999999").startswith("250")
    assert "SIZE 0" in made.say("EHLO me")


@pytest.mark.parametrize(("count", "code"), [(2, "250"), (3, "250"), (4, "452")])
def test_recipients(count: int, code: str) -> None:
    made = greeted(recipients=3)
    made.answers.append(("Rcpt", "bad", Reply(550)))
    made.say("MAIL FROM:<a@example.org>", *["RCPT TO:<bad@example.org>"] * 5)
    assert made.say(*["RCPT TO:<b@example.org>"] * count).splitlines()[-1].startswith(code)
    made.say("RSET", "MAIL FROM:<a@example.org>")
    assert made.say("RCPT TO:<b@example.org>").startswith("250")


@pytest.mark.parametrize(("count", "code"), [(2, "503"), (3, "503"), (4, "421 4.7.0")])
def test_errors(count: int, code: str) -> None:
    made = greeted(errors=3)
    assert made.say(*["DATA"] * count).splitlines()[-1].startswith(code)
    assert made.session.wants_close is (count == 4)


@pytest.mark.parametrize("line", ["NOOP", "RSET", "VRFY a", "EXPN a", "HELP", "XYZZY", "EHLO me"])
def test_junk(line: str) -> None:
    made = greeted(junk=4)  # EHLO was one
    assert not any(made.say(line).startswith("421") for _ in range(3))
    assert made.say(line).startswith("421 4.7.0") and made.session.wants_close


def test_junk_is_forgiven_with_each_message_accepted() -> None:
    made = greeted(junk=4)
    for _ in range(5):
        made.say("NOOP", "NOOP", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA")
        assert made.say(".").startswith("250")
    made.answers.append(("EndOfData", "", Reply(550)))
    made.say("NOOP", "NOOP", "NOOP", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA")
    made.say(".")
    assert made.each("NOOP", "NOOP").startswith("421")


@pytest.mark.parametrize(("count", "code"), [(2, "250"), (3, "250"), (4, "421 4.7.0")])
def test_transactions(count: int, code: str) -> None:
    made = greeted(transactions=3)
    assert [made.say("MAIL FROM:<a@example.org>", "RSET") for _ in range(count)][-1].startswith(code)
    assert "MAILMAX=3" in greeted(transactions=3).say("EHLO me")


@pytest.mark.parametrize(("count", "code"), [(2, "535"), (3, "535"), (4, "421 4.7.0")])
def test_auth_attempts(count: int, code: str) -> None:
    made = greeted(auth=("PLAIN",), tls=True, auth_attempts=3)
    assert made.each(*["AUTH PLAIN ="] * count).startswith(code)
