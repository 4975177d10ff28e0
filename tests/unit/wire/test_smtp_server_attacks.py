"""What bad peers do to the SMTP server machine; each test is named after its entry in the list of attacks."""

from __future__ import annotations

import base64
import time
import tracemalloc

import pytest

from gatepost.model import Reply
from gatepost.wire.smtp import events as ev
from gatepost.wire.smtp.server import BareNewline, Profile, Protocol, ServerSession, State
from scenes.smtp_machine.house import House, greeted, house, in_transaction

LOOK_ALIKES = [
    b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n",
    b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n..\r\n", b"\r\n .\r\n", b"\r\n. \r\n",
]  # fmt: skip
AT_START = [b".\n", b".\r", b".\r\r\n", b"..\r\n", b"\n.\r\n", b"\r.\r\n", b".\0\r\n"]
SMUGGLED = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<boss@example.org>\r\nDATA\r\nowned\r\n"
END = b"\r\n.\r\n"
FOREIGN = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /MAIL HTTP/1.0\r\n\r\nMAIL FROM:<>\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00", b"\x16\x03", b"\x00\x01\x02\n", b"\x80\xff\r\n",
]  # fmt: skip
NUMBERS = ["2147483648", "4294967296", "9223372036854775808", "-1", "+1", "0x10", "010", "00", "", "1e3", "1_0", "٣",
           "1 FIRST", "1 LAST x", "9" * 400]  # fmt: skip
TEXTS = ["a\r\n250 ok", "a\rb", "a\0b", "a\nb\n", "a\x1b[31m", "a\u2028b", "\n", "\r\n.\r\n", "ü" * 400]


def kinds(made: House) -> list[str]:
    return [type(event).__name__ for event in made.events]


def refusals(made: House) -> list[int]:
    return [event.reply.code for event in made.events if isinstance(event, ev.Refused)]


def deliver(made: House, content: bytes, cut: int) -> None:
    made.say("DATA")
    made.receive(content[:cut])
    if content[cut:]:
        made.receive(content[cut:])


class TestFraming:
    @pytest.mark.parametrize("policy", BareNewline)
    @pytest.mark.parametrize("look_alike", LOOK_ALIKES)
    def test_F1_F3_look_alikes_do_not_end_data_wherever_cut(self, look_alike: bytes, policy: BareNewline) -> None:
        content = b"Subject: x\r\n\r\nhi" + look_alike + SMUGGLED + b".\r\n"
        for cut in range(1, len(content) + 1):
            made = in_transaction(bare_newline=policy)
            deliver(made, content, cut)
            assert kinds(made).count("Mail") == kinds(made).count("EndOfData") == 1
            assert all(b"evil" in message for message in made.messages)

    @pytest.mark.parametrize("policy", BareNewline)
    @pytest.mark.parametrize("start", AT_START)
    def test_F2_nor_at_the_start_of_the_message(self, start: bytes, policy: BareNewline) -> None:
        content = start + SMUGGLED + b".\r\n"
        for cut in range(1, len(content) + 1):
            made = in_transaction(bare_newline=policy)
            deliver(made, content, cut)
            assert kinds(made).count("Mail") == kinds(made).count("EndOfData") == 1

    def test_F2_a_dot_at_once_is_an_empty_message(self) -> None:
        made = in_transaction()
        made.say("DATA")
        made.receive(b".\r\n")
        assert made.messages == [b""]

    @pytest.mark.parametrize("newline", [b"\n", b"\r", b"\n\r", b"\r\r\n"])
    def test_F4_a_bare_newline_is_refused_or_normalised(self, newline: bytes) -> None:
        refusing = in_transaction()
        refusing.say("DATA")
        refusing.receive(b"a" + newline + b"b" + END)
        assert b"\r\n550 5.6.11 " in refusing.output and not refusing.messages
        normalising = in_transaction(bare_newline=BareNewline.NORMALISE)
        normalising.say("DATA")
        normalising.receive(b"a" + newline + b"b" + END)
        (message,) = normalising.messages
        assert message.replace(b"\r\n", b"").isalpha()

    @pytest.mark.parametrize("policy", BareNewline)
    def test_F5_bdat_is_held_to_the_same_newlines(self, policy: BareNewline) -> None:
        made = in_transaction(bare_newline=policy)
        made.receive(b"BDAT 4\r\na\nb\rBDAT 7 LAST\r\n\n.\r\nx\r\n")
        if policy is BareNewline.REFUSE:
            assert made.output.startswith(b"550 5.6.11") and not made.messages
        else:
            assert made.messages == [b"a\r\nb\r\n.\r\nx\r\n"]

    def test_F5_a_cr_at_the_very_end_of_the_last_chunk(self) -> None:
        made = in_transaction()
        made.receive(b"BDAT 2\r\na\rBDAT 0 LAST\r\n")
        assert b"550 5.6.11" in made.output
        made = in_transaction(bare_newline=BareNewline.NORMALISE)
        made.receive(b"BDAT 2\r\na\rBDAT 0 LAST\r\n")
        assert made.messages == [b"a\r\n"]

    def test_F7_dots_are_unstuffed_only_after_crlf(self) -> None:
        made = in_transaction()
        made.say("DATA")
        made.receive(b"..a\r\n.b\r\nc.\r\n..\r\n" + b"...x" + END)
        assert made.messages == [b".a\r\nb\r\nc.\r\n.\r\n..x\r\n"]


class TestSynchronisation:
    def test_F8_T6_an_early_talker_is_turned_away(self) -> None:
        session = ServerSession(Profile("mx.example.org"))
        session.receive(b"EHLO me\r\n")
        made = House(session)
        made.run()
        assert made.output.startswith(b"554 5.5.1") and session.wants_close
        assert kinds(made) == ["Connect", "Refused", "Ended"]

    def test_F8_a_greeting_that_refuses_answers_early_input_too(self) -> None:
        session = ServerSession(Profile("mx.example.org"))
        session.receive(b"EHLO me\r\nQUIT\r\n")
        made = House(session, answers=[("Connect", "", Reply(554, "5.7.1", "not you"))])
        made.run()
        assert made.output == b"554 not you\r\n503 5.5.1 no service here; say QUIT\r\n221 2.0.0 bye\r\n"

    def test_F9_pipelining_without_ehlo_is_answered_in_order(self) -> None:
        made = house()
        replies = made.say("HELO me", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>")
        assert [line[:3] for line in replies.splitlines()] == ["250", "250", "250"]

    def test_F9_content_before_the_354_ends_the_session(self) -> None:
        made = in_transaction()
        replies = made.say("DATA", "MAIL FROM:<evil@example.org>", ".")
        assert replies == "503 5.5.0 input came before the reply; closing\r\n"
        assert kinds(made).count("Mail") == 1 and made.session.wants_close

    def test_F9_commands_pipelined_behind_the_last_chunk_are_answered(self) -> None:
        made = in_transaction()
        made.receive(
            b"BDAT 3 LAST\r\na\r\nMAIL FROM:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nBDAT 0 LAST\r\nQUIT\r\n"
        )
        assert [line[:3] for line in made.output.decode().splitlines()] == ["250", "250", "250", "250", "221"]
        assert made.messages == [b"a\r\n", b""]

    def test_F10_T1_what_came_with_starttls_is_discarded_and_counted(self) -> None:
        made = greeted(starttls=True)
        replies = made.say("STARTTLS", "MAIL FROM:<evil@example.org>", "QUIT")
        assert replies == "220 2.0.0 go ahead\r\n"
        assert made.session.state is State.TLS
        made.receive(b"RSET\r\n")
        assert made.session.discarded == len(b"MAIL FROM:<evil@example.org>\r\nQUIT\r\nRSET\r\n")
        made.session.tls_started()
        assert made.say("NOOP") == "250 2.0.0 ok\r\n"
        assert kinds(made) == ["Connect", "Hello", "StartTls", "Noop"]

    def test_F11_ehlo_starttls_mail_in_one_segment(self) -> None:
        made = house(starttls=True)
        made.output = b""
        replies = made.say("EHLO me", "STARTTLS", "MAIL FROM:<evil@example.org>")
        assert replies.endswith("\r\n220 2.0.0 go ahead\r\n")
        assert "Mail" not in kinds(made)


class TestStartTls:
    def test_T2_everything_said_before_is_forgotten(self) -> None:
        made = greeted(starttls=True, auth=("PLAIN",), auth_without_tls=True)
        made.say("AUTH PLAIN " + base64.b64encode(b"\0ann\0secret").decode())
        assert made.session.is_authenticated
        made.say("STARTTLS")
        made.session.tls_started()
        assert (made.session.tls, made.session.extended, made.session.is_authenticated) == (True, False, False)
        assert made.session.state is State.START
        assert made.say("MAIL FROM:<a@example.org>").startswith("503")
        assert "STARTTLS" not in (capabilities := made.say("EHLO me")) and "AUTH PLAIN" in capabilities

    def test_T3_second_with_argument_in_transaction_without_certificate_without_ehlo(self) -> None:
        made = greeted(starttls=True)
        assert made.say("STARTTLS now").startswith("501")
        made.say("STARTTLS")
        made.session.tls_started()
        made.say("EHLO me")
        assert made.say("STARTTLS").startswith("503")
        assert in_transaction(starttls=True).say("STARTTLS").startswith("503")
        assert greeted().say("STARTTLS").startswith("502")
        assert house(starttls=True).say("STARTTLS").startswith("503")
        made = house(starttls=True)
        made.say("HELO me")
        assert made.say("STARTTLS").startswith("503")

    def test_T3_a_refused_starttls_changes_nothing(self) -> None:
        made = greeted(starttls=True)
        made.answers.append(("StartTls", "", Reply(454, "", "later")))
        assert made.say("STARTTLS", "NOOP") == "454 4.7.0 later\r\n250 2.0.0 ok\r\n"

    @pytest.mark.parametrize("first", FOREIGN)
    def test_T6_other_protocols_hear_one_reply(self, first: bytes) -> None:
        for cut in range(1, len(first) + 1):
            made = house()
            made.output = b""
            made.receive(first[:cut])
            made.receive(first[cut:] or b" ")
            assert made.output.count(b"\r\n") == 1 and made.output[:3] in (b"500", b"502")
            assert made.session.wants_close and kinds(made) == ["Connect", "Refused", "Ended"]


class TestState:
    def test_S1_a_refused_message_leaves_nothing_behind(self) -> None:
        made = in_transaction()
        made.answers.append(("EndOfData", "", Reply(550, "5.7.1", "spam")))
        made.each("DATA", "spam", ".")
        assert made.session.recipients == 0 and made.session.sender is None
        assert made.say("RCPT TO:<b@example.org>").startswith("503")
        assert made.say("DATA").startswith("503")
        assert made.say("BDAT 0 LAST").startswith("503")

    def test_S2_data_after_a_failed_chunk(self) -> None:
        made = in_transaction(message_size=10)
        assert made.say("BDAT 20", "x" * 18).startswith("552 5.3.4")
        assert made.say("DATA").startswith("503 5.5.1")
        assert made.say("RCPT TO:<b@example.org>").startswith("503 5.5.1")

    def test_S2_every_chunk_behind_a_failed_one_is_read_and_answered(self) -> None:
        made = in_transaction(message_size=10, errors=1)
        made.receive(b"BDAT 12\r\n" + b"x" * 12 + b"BDAT 6\r\nQUIT\r\n" * 40 + b"BDAT 0 LAST\r\nRSET\r\n")
        lines = made.output.decode().splitlines()
        assert [line[:3] for line in lines] == ["552", *["503"] * 41, "250"]
        assert "Quit" not in kinds(made) and kinds(made).count("EndOfData") == 1

    def test_S2_a_refused_first_chunk_ends_the_transaction(self) -> None:
        made = in_transaction()
        made.answers.append(("Data", "", Reply(451, "", "later")))
        made.receive(b"BDAT 3\r\na\r\nBDAT 6 LAST\r\nQUIT\r\n")
        assert [line[:3] for line in made.output.decode().splitlines()] == ["451", "503"]
        assert kinds(made)[-2:] == ["Data", "Refused"]

    def test_S3_utf8_without_smtputf8(self) -> None:
        made = greeted()
        assert made.say("MAIL FROM:<jürgen@example.org>").startswith("553 5.6.7")
        assert made.say("MAIL FROM:<a@exämple.org>").startswith("553 5.6.7")
        made.say("MAIL FROM:<a@example.org>")
        assert made.say("RCPT TO:<jürgen@example.org>").startswith("553 5.6.7")
        assert made.say("VRFY jürgen").startswith("553 5.6.7")
        assert made.say("VRFY jürgen SMTPUTF8").startswith("252")
        assert made.say("DATA").startswith("503")
        assert made.say("VRFY \N{ZERO WIDTH SPACE}").startswith("553")

    def test_S3_utf8_with_smtputf8(self) -> None:
        made = greeted()
        assert made.say("MAIL FROM:<jürgen@example.org> SMTPUTF8").startswith("250")
        assert made.say("RCPT TO:<jürgen@exämple.org>").startswith("250")
        assert greeted(smtputf8=False).say("MAIL FROM:<a@example.org> SMTPUTF8").startswith("555")

    @pytest.mark.parametrize("tail", ["AUTH LOGIN", "AUTH PLAIN"])
    def test_S5_auth_cancelled_in_transaction_twice_and_after_failure(self, tail: str) -> None:
        made = greeted(auth=("PLAIN", "LOGIN"), tls=True)
        assert made.say(tail).startswith("334 ")
        assert made.say("*") == "501 5.7.0 authentication cancelled\r\n"
        assert made.say(tail).startswith("334 ")
        assert made.say("%%%").startswith("501 5.5.2")
        assert made.say("AUTH PLAIN " + base64.b64encode(b"\0ann\0secret").decode()).startswith("235 2.7.0")
        assert made.say(tail).startswith("503")
        assert in_transaction(auth=("PLAIN", "LOGIN"), tls=True).say(tail).startswith("503")

    def test_S5_initial_responses(self) -> None:
        made = greeted(auth=("PLAIN",), tls=True)
        assert made.say("AUTH PLAIN =").startswith("535")
        assert made.events[-1] == ev.Auth("PLAIN", b"")
        assert made.say("AUTH PLAIN a b").startswith("501")
        assert made.say("AUTH CRAM-MD5").startswith("504")
        assert made.say("AUTH").startswith("501")
        assert made.say("auth plain " + base64.b64encode(b"\0ann\0secret").decode()).startswith("235")

    def test_S5_attempts_are_counted(self) -> None:
        made = greeted(auth=("PLAIN",), tls=True, auth_attempts=3)
        made.each("AUTH PLAIN =", "AUTH PLAIN", "*")
        assert made.say("AUTH PLAIN !").startswith("501")
        assert made.say("AUTH PLAIN " + base64.b64encode(b"\0ann\0secret").decode()).startswith("421 4.7.0")
        assert made.session.wants_close

    def test_S5_only_over_tls_and_never_with_leftovers(self) -> None:
        made = greeted(auth=("PLAIN",))
        assert made.say("AUTH PLAIN").startswith("538 5.7.11")
        assert greeted(auth=("PLAIN",), require_tls=True).say("AUTH PLAIN").startswith("530")
        assert greeted().say("AUTH PLAIN").startswith("502")
        made = greeted(auth=("LOGIN",), tls=True)
        assert made.say("AUTH LOGIN", "YW5u").startswith("503 5.5.0") and made.session.wants_close
        made = greeted(auth=("LOGIN",), tls=True)
        made.say("AUTH LOGIN")
        assert made.say("YW5u", "c2VjcmV0").startswith("503 5.5.0") and made.session.wants_close
        assert "c2VjcmV0" not in repr(made.events)

    def test_S5_secrets_are_not_told(self) -> None:
        made = greeted(auth=("PLAIN",))
        made.say("AUTH PLAIN c2VjcmV0")
        assert made.events[-1] == ev.Refused(
            b"AUTH", Reply(538, "5.7.11", "authentication needs TLS; say STARTTLS first")
        )
        made = greeted(auth=("PLAIN",), tls=True)
        made.each("AUTH PLAIN", "c2VjcmV0!")
        assert made.events[-1].line == b""
        made.each("AUTH PLAIN")
        made.receive(b"c2VjcmV0" * 2000 + b"\r\n")
        assert made.events[-1].line == b"" and made.output.endswith(b"500 5.5.6 the line is too long\r\n")
        assert made.session.state is State.READY

    def test_S6_a_half_close_is_answered_and_an_open_message_is_not_ended(self) -> None:
        made = in_transaction()
        made.session.receive(b"RSET\r\nQUIT\r\n")
        made.session.receive(b"")
        made.run()
        assert kinds(made)[-3:] == ["Reset", "Quit", "Ended"] and made.events[-1] == ev.Ended(True)
        made = in_transaction()
        made.say("DATA")
        made.receive(b"half a message\r\n.\r")
        made.receive(b"")
        assert kinds(made)[-1] == "Ended" and "EndOfData" not in kinds(made) and made.events[-1] == ev.Ended(False)

    def test_S6_while_a_question_is_open_nothing_moves(self) -> None:
        session = ServerSession(Profile("mx.example.org"))
        with pytest.raises(RuntimeError):
            session.answer(Reply(220))
        session.next_event()
        wrong = (
            session.next_event,
            session.finish_blob,
            session.proceed,
            lambda: session.challenge(b""),
            lambda: session.answer_hello(Reply(250), []),
            lambda: session.answer_each([]),
            lambda: session.converse(None, lines=1, octets=1),
            session.tls_started,
        )
        for call in wrong:
            with pytest.raises(RuntimeError):
                call()
        session.answer(Reply(220, "", "hi"))
        assert session.data_to_send() == b"220 mx.example.org hi\r\n"

    def test_S7_ehlo_ends_the_transaction_unless_refused(self) -> None:
        made = in_transaction()
        made.answers.append(("Hello", "bad", Reply(550, "5.7.1", "not you")))
        assert made.say("EHLO bad") == "550 not you\r\n"
        assert made.session.recipients == 1 and made.session.state is State.RCPT
        made.say("EHLO good")
        assert made.session.recipients == 0 and made.session.sender is None
        assert made.say("DATA").startswith("503")

    def test_S8_nested_mail_rcpt_after_data_and_a_flood_of_unknown_verbs(self) -> None:
        made = in_transaction()
        assert made.say("MAIL FROM:<b@example.org>").startswith("503")
        made.receive(b"BDAT 3\r\na\r\n")
        assert made.say("RCPT TO:<c@example.org>").startswith("503")
        made = greeted(junk=100)
        replies = made.say(*["XYZZY"] * 200).splitlines()
        assert len(replies) == 100 and replies[-1].startswith("421 4.7.0") and made.session.wants_close

    def test_S9_bdat_without_mail_then_data_empty_last_and_after_last(self) -> None:
        made = greeted()
        assert made.say("BDAT 6", "NOOP").startswith("503")
        assert "Noop" not in kinds(made)
        made = in_transaction()
        made.receive(b"BDAT 3\r\na\r\nDATA\r\n")
        assert made.output.splitlines()[-1].startswith(b"503")
        made.say("BDAT 0 LAST")
        assert made.messages == [b"a\r\n"]
        assert made.say("BDAT 6 LAST", "NOOP").startswith("503")
        made = in_transaction()
        assert made.say("BDAT 0 LAST") == "250 2.0.0 accepted\r\n" and made.messages == [b""]

    def test_S9_bdat_before_ehlo_after_helo_and_where_it_is_not_offered(self) -> None:
        made = house()
        assert made.say("BDAT 6", "QUIT").startswith("503")
        made.say("HELO me", "MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>")
        assert made.say("BDAT 6 LAST", "QUIT").startswith("503")
        assert in_transaction(chunking=False).say("BDAT 6 LAST", "QUIT").startswith("502")

    def test_no_recipient_or_every_recipient_refused(self) -> None:
        made = greeted()
        made.answers.append(("Rcpt", "", Reply(550, "5.1.1", "nobody")))
        made.say("MAIL FROM:<a@example.org>")
        assert made.say("DATA").startswith("503 5.5.1")
        made.say("RCPT TO:<b@example.org>")
        assert made.say("DATA").startswith("554 5.5.1")
        assert made.say("BDAT 6 LAST", "QUIT").startswith("554 5.5.1")
        made = greeted(protocol=Protocol.LMTP)
        made.answers.append(("Rcpt", "", Reply(550, "5.1.1", "nobody")))
        made.say("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>")
        assert made.say("DATA").startswith("503 5.5.1")


class TestResources:
    @pytest.mark.parametrize("size", [10, 1_000, 100_000, 5_000_000])
    def test_R1_an_endless_command_line_is_refused_once_and_forgotten(self, size: int) -> None:
        made = greeted()
        for _ in range(0, size, 1000):
            made.receive(b"x" * min(size, 1000))
            assert made.session.buffered <= 1600
        made.receive(b"\r\nNOOP\r\n")
        assert [line[:3] for line in made.output.decode().splitlines()] == ["500", "250"]

    @pytest.mark.parametrize("number", NUMBERS)
    def test_R3_numbers_of_bdat(self, number: str) -> None:
        made = in_transaction()
        made.receive(f"BDAT {number}\r\n".encode())
        if number == "2147483648":  # it may be meant: its octets are awaited, and dropped
            made.receive(b"x" * 60_000_000)
            assert not made.output and made.session.buffered == 0
        else:
            assert made.output.startswith(b"501 5.5.4") and made.session.wants_close

    @pytest.mark.parametrize("text_line", [0, 1000])
    def test_R4_tiny_chunks_without_end(self, text_line: int) -> None:
        made = in_transaction(text_line=text_line)
        accepted = seen = 0
        tracemalloc.start()
        begun = time.process_time()
        for _ in range(20):
            made.receive(b"BDAT 1\r\nx" * 2500)
            seen += made.output.count(b"\r\n")
            accepted += made.output.count(b"250 2.0.0 1 octets received")
            made.output, made.content, made.events = b"", b"", []
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen == 50_000 and accepted == (text_line or 50_000) and peak < 3_000_000
        assert time.process_time() - begun < 20

    def test_R5_a_size_that_lies(self) -> None:
        made = greeted(message_size=1000)
        assert made.say("MAIL FROM:<a@example.org> SIZE=1001").startswith("552 5.3.4")
        made.say("MAIL FROM:<a@example.org> SIZE=10", "RCPT TO:<b@example.org>")
        made.say("DATA")
        for _ in range(200):
            made.receive(b"x" * 98 + b"\r\n")
            assert len(made.content) <= 1000
        assert made.say(".") == "552 5.3.4 the message is too big\r\n"
        end = made.events[-1]
        assert isinstance(end, ev.EndOfData) and end.size == 20_000

    def test_R8_recipients_beyond_the_limit_are_no_errors(self) -> None:
        made = greeted(recipients=10)
        made.say("MAIL FROM:<a@example.org>")
        replies = made.say(*["RCPT TO:<b@example.org>"] * 1000).splitlines()
        assert [line[:9] for line in replies] == ["250 2.1.5"] * 10 + ["452 4.5.3"] * 990
        assert made.session.recipients == 10


class TestInjection:
    @pytest.mark.parametrize("text", TEXTS)
    @pytest.mark.parametrize("utf8", [False, True])
    def test_I1_no_reply_text_breaks_a_line(self, text: str, utf8: bool) -> None:
        made = greeted()
        made.answers.append(("Rcpt", "", Reply(550, "5.7.1", text)))
        made.say("MAIL FROM:<a@example.org>" + " SMTPUTF8" * utf8)
        replies = made.say("RCPT TO:<b@example.org>")
        *lines, rest = replies.encode().split(b"\r\n")
        assert rest == b"" and all(line.startswith(b"550") and len(line) <= 510 for line in lines)
        assert lines[-1][3:4] == b" " and all(line[3:4] == b"-" for line in lines[:-1])
        assert not any(octet < 32 or octet == 127 for line in lines for octet in line)
        assert utf8 or replies.isascii()
