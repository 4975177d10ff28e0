"""What a server says before it is asked."""

from __future__ import annotations

import pytest

from gatepost.model import Reply
from gatepost.wire.smtp.client_events import Closed, Credentials, Phase, ProtocolError, State
from unit.wire_client.test_wire_client_session import Talk, message


@pytest.mark.parametrize("early", [b"220 go\r\n", b"250 ok\r\n250 ok\r\n", b"2", b"\r\n"])
@pytest.mark.parametrize("call", ["send", "start_tls", "authenticate", "introduce"])
def test_U1_T4_what_was_said_before_the_question_is_not_its_answer(call: str, early: bytes) -> None:
    talk = Talk(offers="PIPELINING,STARTTLS,AUTH PLAIN,XFORWARD NAME")
    client = talk.client
    client.receive(early)
    assert not client.can_reuse
    match call:
        case "send":
            client.send(message("x@y.example"))
        case "start_tls":
            client.start_tls()
        case "authenticate":
            assert client.authenticate(Credentials("u", "p"))
        case _:
            assert client.introduce({"NAME": "x"})
    assert talk.written() == ""
    assert isinstance(talk.last, ProtocolError)
    assert client.state is State.CLOSED
    if call == "send":
        assert talk.results() == [("x@y.example", 451, Phase.SENDER)]


def test_a_421_before_the_first_message_is_heard_as_what_it_is() -> None:
    talk = Talk(offers="PIPELINING")
    talk.client.receive(b"421 4.3.2 bye\r\n")
    assert talk.sent("x@y.example") == ""
    assert talk.results() == [("x@y.example", 421, Phase.SENDER)]
    assert talk.last == Closed(Reply(421, "4.3.2", "bye"))
