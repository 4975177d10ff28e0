"""Questions of special shape: lines, replies and conversations for plugins, replies per recipient, EHLO's list."""

from __future__ import annotations

import pytest

from gatepost.model import Reply
from gatepost.wire.smtp import events as ev
from gatepost.wire.smtp.server import NEED_DATA, Profile, Protocol, ServerSession, State, Verb
from scenes.smtp_machine.house import House, greeted, house, in_transaction


def lined() -> ServerSession:
    """A session with its first Line open: `XYZ`."""
    session = ServerSession(Profile("mx.example.org", ask_lines=True))
    session.next_event()
    session.answer(Reply(220))
    session.data_to_send()
    session.receive(b"XYZ\r\n")
    assert session.next_event() == ev.Line(b"XYZ")
    return session


class TestLine:
    def test_proceed_lets_the_machine_parse_it(self) -> None:
        session = lined()
        session.proceed()
        assert session.next_event() == ev.Unknown("XYZ", "")

    def test_a_plugins_answer_moves_no_state(self) -> None:
        session = lined()
        session.answer(Reply(250, "", "mine"))
        assert session.next_event() is NEED_DATA
        assert session.state is State.START and session.data_to_send() == b"250 2.0.0 mine\r\n"
        session.receive(b"EHLO me\r\n")
        session.next_event()
        session.answer(Reply(250, "", "I said hello"))
        session.next_event()
        assert not session.extended and session.state is State.START

    def test_a_plugins_421_closes(self) -> None:
        session = lined()
        session.answer(Reply(421, "", "go"))
        assert session.next_event() == ev.Ended(False) and session.wants_close

    def test_lines_of_an_auth_exchange_are_not_shown(self) -> None:
        made = greeted(auth=("PLAIN",), tls=True, ask_lines=True)
        made.each("AUTH PLAIN", "AGFubgBzZWNyZXQ=")
        assert b"AGFubgBzZWNyZXQ=" not in [event.line for event in made.events if isinstance(event, ev.Line)]
        assert made.session.is_authenticated


class TestConversation:
    def test_lines(self) -> None:
        session = lined()
        session.converse(Reply(354, "", "talk"), lines=2, octets=100)
        assert session.next_event() is NEED_DATA and session.data_to_send() == b"354 talk\r\n"
        session.receive(b"QUIT\r\nsecond\n third")
        assert session.next_event() == ev.Blob(b"QUIT\r\n", False)
        session.proceed()
        assert session.next_event() == ev.Blob(b"second\n", True)
        session.converse(None, lines=1, octets=6)
        assert session.next_event() == ev.Blob(b" third", True)
        session.answer(Reply(250, "", "done"))
        assert session.next_event() is NEED_DATA
        assert session.data_to_send() == b"250 2.0.0 done\r\n" and session.state is State.START

    def test_octets(self) -> None:
        session = lined()
        session.converse(None, lines=None, octets=5)
        session.receive(b"abc")
        assert session.next_event() == ev.Blob(b"abc", False)
        session.proceed()
        assert session.next_event() is NEED_DATA
        session.receive(b"deNOOP\r\n")
        assert session.next_event() == ev.Blob(b"de", True)
        session.finish_blob()
        assert session.next_event() == ev.Line(b"NOOP")

    def test_more_than_the_limits_is_refused(self) -> None:
        session = lined()
        session.converse(None, lines=1, octets=5)
        session.receive(b"abcdefgh\r\n")
        assert session.next_event() == ev.Blob(b"abcde", True)
        session.proceed()
        assert session.data_to_send().startswith(b"451 4.3.0")
        assert session.next_event() == ev.Line(b"fgh")

    def test_an_endless_line_comes_in_pieces(self) -> None:
        session = lined()
        session.converse(None, lines=1, octets=10**9)
        session.receive(b"x" * 200_000)
        seen = 0
        while (event := session.next_event()) is not NEED_DATA:
            assert isinstance(event, ev.Blob) and len(event.data) <= 65536
            seen += len(event.data)
            session.proceed()
        assert seen + session.buffered == 200_000 and session.buffered < 65536

    def test_limits_must_be_some(self) -> None:
        for lines, octets in ((0, 1), (1, 0), (None, 0)):
            with pytest.raises(ValueError, match="at least one"):
                lined().converse(None, lines=lines, octets=octets)


class TestReplying:
    def test_each_reply_is_asked_about_and_may_change(self) -> None:
        session = ServerSession(Profile("mx.example.org", ask_replies=True))
        session.next_event()
        session.answer(Reply(220, "", "hi"))
        assert session.next_event() == ev.Replying(Reply(220, "", "mx.example.org hi"))
        session.answer(Reply(220, "2.0.0", "mx.example.org bonjour"))
        session.receive(b"DATA\r\n")
        assert isinstance(session.next_event(), ev.Refused)
        assert session.next_event() == ev.Replying(Reply(503, "5.5.1", "say EHLO first"))
        session.answer(Reply(500, "", "no"))
        assert session.next_event() is NEED_DATA
        assert session.data_to_send() == b"220 mx.example.org bonjour\r\n500 5.5.2 no\r\n"

    def test_a_reply_the_peer_acts_on_keeps_its_code(self) -> None:
        made = in_transaction(ask_replies=True)
        made.session.receive(b"DATA\r\n")
        assert made.session.next_event() == ev.Data()
        made.session.answer(Reply(354, "", "go"))
        assert made.session.next_event() == ev.Replying(Reply(354, "", "go"))
        made.session.answer(Reply(250, "", "allez"))
        assert made.session.next_event() is NEED_DATA and made.session.data_to_send() == b"354 allez\r\n"

    def test_421_closes_here_too(self) -> None:
        made = in_transaction(ask_replies=True)
        made.session.receive(b"NOOP\r\nNOOP\r\n")
        made.session.next_event()
        made.session.answer(Reply(250))
        made.session.next_event()
        made.session.answer(Reply(421, "", "enough"))
        assert made.session.next_event() == ev.Ended(False)
        assert made.session.data_to_send() == b"421 4.3.2 enough\r\n" and made.session.wants_close

    def test_a_closing_reply_is_asked_about_before_the_end(self) -> None:
        made = house(ask_replies=True)
        made.session.receive(b"QUIT\r\n")
        made.session.next_event()
        made.session.answer(Reply(221))
        assert made.session.next_event() == ev.Replying(Reply(221, "2.0.0")) and not made.session.wants_close
        made.session.answer(Reply(221, "2.0.0", "ciao"))
        assert made.session.next_event() == ev.Ended(True) and made.session.wants_close


def words(profile: Profile) -> set[str]:
    """The capability keywords at once after the greeting."""
    return {line.split()[0] for line in ServerSession(profile).capabilities()}


def at_the_end(made: House) -> ServerSession:
    """The session with EndOfData open, everything said so far forgotten."""
    made.say("DATA")
    made.output = b""
    made.session.receive(b"hi\r\n.\r\n")
    while not isinstance(made.session.next_event(), ev.EndOfData):
        pass
    return made.session


class TestEach:
    def test_lmtp_says_one_reply_for_each_recipient(self) -> None:
        session = at_the_end(in_transaction(protocol=Protocol.LMTP, recipients=2))
        session.answer_each([Reply(250, "", "one"), Reply(550, "5.7.1", "two")])
        assert session.data_to_send() == b"250 2.0.0 one\r\n550 5.7.1 two\r\n" and session.state is State.READY

    def test_prdr_says_353_first_and_a_final_one(self) -> None:
        made = greeted()
        made.say("MAIL FROM:<a@example.org> PRDR", "RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>")
        session = at_the_end(made)
        assert session.prdr
        session.answer_each([Reply(250), Reply(550, "5.7.1", "two")], Reply(250, "", "three"))
        lines = session.data_to_send().decode().splitlines()
        assert [line[:3] for line in lines] == ["353", "250", "550", "250"] and not session.prdr

    def test_prdr_may_be_answered_plainly(self) -> None:
        made = greeted()
        made.say("MAIL FROM:<a@example.org> PRDR", "RCPT TO:<b@example.org>")
        session = at_the_end(made)
        session.answer(Reply(250, "", "all"))
        assert session.data_to_send() == b"250 2.0.0 all\r\n"

    def test_the_number_and_the_shape_must_fit(self) -> None:
        with pytest.raises(ValueError, match="1 replies for 2 recipients"):
            at_the_end(in_transaction(protocol=Protocol.LMTP, recipients=2)).answer_each([Reply(250)])
        with pytest.raises(RuntimeError):
            at_the_end(in_transaction()).answer_each([Reply(250)])
        with pytest.raises(RuntimeError):
            at_the_end(in_transaction(protocol=Protocol.LMTP)).answer_each([Reply(250)], Reply(250))

    def test_no_positive_answer_prevails_against_a_failure(self) -> None:
        made = in_transaction(protocol=Protocol.LMTP, recipients=2)
        made.say("DATA")
        made.output = b""
        made.session.receive(b"a\nb\r\n.\r\n")
        assert isinstance(made.session.next_event(), ev.EndOfData)
        made.session.answer_each([Reply(250), Reply(451, "4.3.0", "worse")])
        assert made.session.data_to_send().startswith(b"550 5.6.11 ")
        assert made.session.state is State.READY

    @pytest.mark.parametrize(("protocol", "final"), [(Protocol.LMTP, None), (Protocol.SMTP, Reply(552))])
    def test_a_failed_chunk_before_the_last_gets_one_reply(self, protocol: Protocol, final: Reply | None) -> None:
        made = greeted(protocol=protocol, message_size=3)
        made.say("MAIL FROM:<a@example.org>" + " PRDR" * (final is not None))
        made.say("RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>")
        made.output = b""
        made.session.receive(b"BDAT 6\r\nabcd\r\nBDAT 2 LAST\r\n\r\n")
        while not isinstance(event := made.session.next_event(), ev.EndOfData):
            if isinstance(event, ev.Data):
                made.session.answer(Reply(354))
        made.session.answer_each([Reply(250), Reply(250)], final)
        made.run()
        assert [line[:3] for line in made.output.decode().splitlines()] == ["552", "503"]

    def test_a_421_ends_the_list(self) -> None:
        session = at_the_end(in_transaction(protocol=Protocol.LMTP, recipients=2))
        session.answer_each([Reply(421, "", "bye"), Reply(250)])
        assert session.data_to_send() == b"421 4.3.2 bye\r\n" and session.wants_close


class TestHello:
    def test_the_list_may_be_changed(self) -> None:
        made = house()
        made.session.receive(b"EHLO me\r\n")
        assert made.session.next_event() == ev.Hello("me", Verb.EHLO)
        offered = made.session.capabilities()
        made.session.answer_hello(Reply(250, "", "hi\nthere"), [*offered[:1], "X-MINE 1\r\n250 evil"])
        assert made.session.data_to_send() == (
            b"250-mx.example.org hi\r\n250-PIPELINING\r\n250-X-MINE 1\r\n250 250 evil\r\n"
        )

    def test_what_is_offered_is_what_is_honoured(self) -> None:
        everything = Profile("x", binarymime=True, starttls=True, auth=("PLAIN",), auth_without_tls=True)
        nothing = Profile("x", smtputf8=False, chunking=False, pipelining=False, prdr=False, dsn=False, binarymime=True)
        assert words(everything) - words(nothing) == {
            "PIPELINING", "SMTPUTF8", "CHUNKING", "BINARYMIME", "PRDR", "STARTTLS", "AUTH", "DSN",
        }  # fmt: skip
        assert words(nothing) == {"SIZE", "8BITMIME", "ENHANCEDSTATUSCODES", "LIMITS"}
        lmtp = Profile("x", protocol=Protocol.LMTP)
        assert "PRDR" not in words(lmtp)


def test_rset_and_quit_cannot_be_refused() -> None:
    made = in_transaction()
    made.answers += [("Reset", "", Reply(550, "5.7.1", "no")), ("Quit", "", Reply(500, "5.5.2", "stay"))]
    assert made.say("RSET") == "250 2.0.0 no\r\n" and made.session.sender is None
    assert made.say("QUIT") == "221 2.0.0 stay\r\n" and made.session.wants_close


@pytest.mark.parametrize("question", ["Hello", "Mail", "Rcpt", "Data", "EndOfData", "Reset", "Noop", "Quit", "Unknown"])
def test_421_always_closes(question: str) -> None:
    made = house()
    made.answers.append((question, "", Reply(421, "", "overload")))
    lines = {"Hello": 1, "Mail": 2, "Rcpt": 3, "Data": 4, "EndOfData": 5}
    script = ["EHLO me", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA", "."]
    other = {"Reset": "RSET", "Noop": "NOOP", "Quit": "QUIT", "Unknown": "XYZZY"}
    reply = made.each(*script[: lines[question]]) if question in lines else made.say(other[question])
    assert reply.startswith("421 ") and made.session.wants_close and isinstance(made.events[-1], ev.Ended)
    assert made.session.next_event() is NEED_DATA
    made.receive(b"NOOP\r\n")
    assert made.session.data_to_send() == b""


def test_sizes_and_parameters_can_be_read() -> None:
    made = greeted()
    made.say("MAIL FROM:<a@example.org> SIZE=7 BODY=8BITMIME SMTPUTF8", "RCPT TO:<b@example.org>")
    session = made.session
    assert str(session.sender) == "a@example.org" and session.recipients == 1 and session.smtputf8
    assert session.parameters["SIZE"] == "7" and session.body.value == "8BITMIME" and session.extended
