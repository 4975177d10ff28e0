"""The client machine in both voices: `C:` is what it must write, `S:` what the server says, `E:` events, `!` calls."""

from __future__ import annotations

import pytest

from gatepost.model import Body, Path, Recipient, Reply
from gatepost.wire.smtp.client import MAX_PIPELINED, Client
from gatepost.wire.smtp.client_events import (
    NEED_DATA,
    Authenticated,
    AuthRefused,
    Closed,
    ContentWanted,
    Credentials,
    DataAnswered,
    Event,
    Outcomes,
    Phase,
    Protocol,
    ProtocolError,
    Ready,
    State,
    TlsRefused,
    TlsWanted,
    Transaction,
    Unwelcome,
)


def recipient(address: str) -> Recipient:
    return Recipient(Path.parse(address))


def message(*recipients: str, size: int = 5, body: Body = Body.SEVEN_BIT, smtputf8: bool = False) -> Transaction:
    return Transaction(Path.parse("a@b.example"), tuple(map(recipient, recipients)), size, body, smtputf8)


class Talk:
    """A machine and what it has told."""

    def __init__(self, *, protocol: Protocol = Protocol.SMTP, offers: str | None = None) -> None:
        self.client = Client("me.example", protocol=protocol)
        self.events: list[Event] = []
        if offers is not None:
            hello = "LHLO" if protocol is Protocol.LMTP else "EHLO"
            assert self.said("220 hi") == f"{hello} me.example\r\n"
            self.said(*(f"250-{line}" for line in ("mx.example", *offers.split(","))), "250 HELP")
            assert isinstance(self.events[-1], Ready)

    def said(self, *lines: str) -> str:
        return self.raw("".join(f"{line}\r\n" for line in lines).encode())

    def raw(self, data: bytes) -> str:
        self.client.receive(data)
        return self.written()

    def written(self) -> str:
        while (event := self.client.next_event()) is not NEED_DATA:
            self.events.append(event)
        return self.client.data_to_send().decode()

    def sent(self, *recipients: str, **what: object) -> str:
        self.client.send(message(*recipients, **what))  # type: ignore[arg-type]
        return self.written()

    def content(self, *chunks: bytes) -> str:
        for chunk in chunks:
            self.client.send_content(chunk)
        self.client.end_content()
        return self.written()

    @property
    def last(self) -> Event:
        return self.events[-1]

    def results(self) -> list[tuple[str, int, Phase]]:
        [outcomes] = [event for event in self.events if isinstance(event, Outcomes)][-1:]
        return [(str(o.recipient), o.reply.code, o.phase) for o in outcomes.outcomes]


ENVELOPE = "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\n"


def test_a_message_one_command_at_a_time() -> None:
    talk = Talk(offers="SIZE 1000")
    assert talk.sent("x@y.example", "z@y.example") == "MAIL FROM:<a@b.example> SIZE=5\r\n"
    assert talk.said("250 2.1.0 ok") == "RCPT TO:<x@y.example>\r\n"
    assert talk.said("250 ok") == "RCPT TO:<z@y.example>\r\n"
    assert talk.said("550 5.1.1 who?") == "DATA\r\n"
    assert talk.said("354 go") == ""
    assert talk.last == ContentWanted()
    assert talk.client.phase is Phase.CONTENT
    assert talk.content(b".a\r\n.", b".b\r\n") == "..a\r\n...b\r\n.\r\n"
    assert talk.client.phase is Phase.END_OF_DATA
    assert talk.said("250 2.0.0 kept") == ""
    assert talk.results() == [("x@y.example", 250, Phase.END_OF_DATA), ("z@y.example", 550, Phase.RECIPIENT)]
    assert talk.client.can_reuse
    talk.client.quit()
    assert talk.written() == "QUIT\r\n"
    talk.said("221 bye")
    assert talk.last == Closed(Reply(221, "", "bye"))


def test_pipelined_whole() -> None:
    talk = Talk(offers="PIPELINING")
    assert talk.sent("x@y.example") == ENVELOPE + "DATA\r\n"
    talk.said("250 a", "250 b", "354 c")
    assert talk.content(b"hello") == "hello\r\n.\r\n"
    talk.said("451 4.3.0 later")
    assert talk.results() == [("x@y.example", 451, Phase.END_OF_DATA)]
    assert talk.sent("x@y.example").startswith("MAIL"), "end-of-data has reset the server; no RSET"


def test_pipelining_is_bounded() -> None:
    talk = Talk(offers="PIPELINING")
    names = [f"u{n}@y.example" for n in range(3 * MAX_PIPELINED)]
    assert talk.sent(*names).count("\r\n") == MAX_PIPELINED
    assert talk.said("250 sender").count("\r\n") == 1
    assert talk.said(*["250 r"] * (MAX_PIPELINED - 1)).count("\r\n") == MAX_PIPELINED - 1


def test_everybody_refused_and_354_all_the_same_gets_a_lone_dot() -> None:
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example")
    assert talk.said("250 a", "550 b", "354 c") == ".\r\n"
    talk.said("554 nobody")
    assert talk.results() == [("x@y.example", 550, Phase.RECIPIENT)]
    assert talk.sent("x@y.example") == "RSET\r\n" + ENVELOPE + "DATA\r\n"


def test_U1_sender_refused_but_354() -> None:
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example")
    assert talk.said("550 a", "503 b", "354 c") == ".\r\n"
    talk.said("250 whatever")
    assert talk.results() == [("x@y.example", 550, Phase.SENDER)]


def test_U1_sender_refused_but_recipient_and_354_accepted_ends_the_connection() -> None:
    """A lone dot would deliver an empty message."""
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example")
    assert talk.said("550 a", "250 b", "354 c") == ""
    assert talk.results() == [("x@y.example", 550, Phase.SENDER)]
    assert isinstance(talk.last, ProtocolError)
    assert talk.client.state is State.CLOSED


def test_U1_250_to_data() -> None:
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example")
    assert talk.said("250 a", "250 b", "250 c") == ""
    assert talk.results() == [("x@y.example", 451, Phase.DATA)]
    assert isinstance(talk.last, ProtocolError)


def test_sender_refused_without_pipelining_sends_no_more() -> None:
    talk = Talk(offers="SIZE")
    talk.sent("x@y.example", "z@y.example")
    assert talk.said("450 busy") == ""
    assert talk.results() == [("x@y.example", 450, Phase.SENDER), ("z@y.example", 450, Phase.SENDER)]


def test_all_refused_without_pipelining_sends_no_data() -> None:
    talk = Talk(offers="SIZE")
    talk.sent("x@y.example")
    talk.said("250 a")
    assert talk.said("550 b") == ""
    assert talk.results() == [("x@y.example", 550, Phase.RECIPIENT)]
    assert talk.sent("x@y.example") == "RSET\r\n"
    assert talk.said("250 forgotten") == "MAIL FROM:<a@b.example> SIZE=5\r\n"


def test_data_refused() -> None:
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example")
    talk.said("250 a", "250 b", "452 4.3.1 full")
    assert talk.events[-2:] == [DataAnswered(Reply(452, "4.3.1", "full")), talk.last]
    assert talk.results() == [("x@y.example", 452, Phase.DATA)]


def test_bdat_one_chunk() -> None:
    talk = Talk(offers="PIPELINING,CHUNKING")
    assert talk.sent("x@y.example") == ENVELOPE
    talk.said("250 a", "250 b")
    assert talk.last == ContentWanted()
    assert talk.content(b".hello\r\n") == "BDAT 8 LAST\r\n.hello\r\n"
    talk.said("250 c")
    assert talk.results() == [("x@y.example", 250, Phase.END_OF_DATA)]


def test_bdat_chunks_and_a_refused_one() -> None:
    talk = Talk(offers="PIPELINING,CHUNKING")
    talk.sent("x@y.example")
    talk.said("250 a", "250 b")
    assert talk.content(b"one\r\n", b"two\r\n", b"") == "BDAT 5\r\none\r\nBDAT 5 LAST\r\ntwo\r\n"
    talk.said("552 5.3.4 too much", "503 no")
    assert talk.results() == [("x@y.example", 552, Phase.CONTENT)]
    assert talk.sent("x@y.example") == "RSET\r\n" + ENVELOPE


def test_bdat_refused_while_sending_ends_the_wish_for_content() -> None:
    talk = Talk(offers="PIPELINING,CHUNKING")
    talk.sent("x@y.example")
    talk.said("250 a", "250 b")
    talk.client.send_content(b"one\r\n")
    talk.client.send_content(b"two\r\n")
    assert talk.written() == "BDAT 5\r\none\r\n"
    talk.said("451 no")
    assert not talk.client.wants_content
    assert talk.results() == [("x@y.example", 451, Phase.CONTENT)]
    assert talk.client.is_idle


def test_chunking_without_pipelining_uses_data() -> None:
    talk = Talk(offers="CHUNKING")
    talk.sent("x@y.example")
    talk.said("250 a")
    assert talk.said("250 b") == "DATA\r\n"


def test_lmtp_answers_each_accepted_recipient() -> None:
    talk = Talk(protocol=Protocol.LMTP, offers="PIPELINING")
    talk.sent("a@y.example", "b@y.example", "c@y.example")
    talk.said("250 s", "250 a", "550 b", "250 c", "354 go")
    talk.content(b"x\r\n")
    talk.said("452 4.2.2 full")
    assert not talk.client.is_idle
    talk.said("250 kept")
    assert talk.results() == [
        ("a@y.example", 452, Phase.END_OF_DATA),
        ("b@y.example", 550, Phase.RECIPIENT),
        ("c@y.example", 250, Phase.END_OF_DATA),
    ]


def test_one_recipient_twice_has_two_outcomes() -> None:
    talk = Talk(protocol=Protocol.LMTP, offers="PIPELINING")
    talk.sent("a@y.example", "a@y.example")
    talk.said("250 s", "250 a", "250 a", "354 go")
    talk.content(b"x\r\n")
    talk.said("250 kept", "452 no")
    assert [code for _, code, _ in talk.results()] == [250, 452]


def test_helo_after_ehlo_is_refused() -> None:
    talk = Talk()
    talk.said("220 hi")
    assert talk.said("502 5.5.1 what?") == "HELO me.example\r\n"
    talk.said("250-looks like", "250 PIPELINING")
    assert isinstance(talk.last, Ready)
    assert not talk.client.capabilities.keywords
    assert talk.sent("x@y.example", body=Body.EIGHT_BIT_MIME) == "MAIL FROM:<a@b.example>\r\n"


def test_no_helo_in_lmtp_and_after_4xx() -> None:
    for protocol, code in ((Protocol.LMTP, 500), (Protocol.SMTP, 450)):
        talk = Talk(protocol=protocol)
        talk.said("220 hi")
        assert talk.said(f"{code} no") == "QUIT\r\n"
        assert talk.last == Unwelcome(Reply(code, "", "no"), Phase.HELLO)


@pytest.mark.parametrize("code", [554, 450, 250])
def test_no_greeting(code: int) -> None:
    talk = Talk()
    assert talk.said(f"{code} go away") == "QUIT\r\n"
    assert talk.last == Unwelcome(Reply(code, "", "go away"), Phase.GREETING)
    talk.said("221 bye")
    assert isinstance(talk.last, Closed)


def test_starttls_forgets_what_was_said_before() -> None:
    talk = Talk(offers="STARTTLS,CHUNKING")
    talk.client.start_tls()
    assert talk.written() == "STARTTLS\r\n"
    talk.said("220 go")
    assert talk.last == TlsWanted()
    assert talk.client.phase is Phase.TLS
    talk.client.tls_started()
    assert talk.written() == "EHLO me.example\r\n"
    talk.said("250-mx", "250 PIPELINING")
    assert "CHUNKING" not in talk.client.capabilities
    with pytest.raises(RuntimeError):
        talk.client.start_tls()


def test_starttls_refused_goes_on() -> None:
    talk = Talk(offers="STARTTLS")
    talk.client.start_tls()
    talk.said("454 4.7.0 no")
    assert talk.last == TlsRefused(Reply(454, "4.7.0", "no"))
    assert talk.client.is_idle


@pytest.mark.parametrize("injected", [b"250 forged\r\n", b"2", b"\r\n"])
def test_T4_response_injection_after_starttls(injected: bytes) -> None:
    talk = Talk(offers="STARTTLS")
    talk.client.start_tls()
    talk.raw(b"220 go\r\n" + injected)
    assert isinstance(talk.last, ProtocolError)


@pytest.mark.parametrize("injected", [b"250 forged\r\n", b"2"])
def test_T4_response_injection_during_the_handshake(injected: bytes) -> None:
    talk = Talk(offers="STARTTLS")
    talk.client.start_tls()
    talk.said("220 go")
    talk.client.receive(injected)
    talk.client.tls_started()
    assert talk.written() == ""
    assert isinstance(talk.last, ProtocolError)


def test_auth_plain_and_login() -> None:
    talk = Talk(offers="AUTH PLAIN LOGIN")
    assert talk.client.authenticate(Credentials("u", "p"))
    assert talk.written() == "AUTH PLAIN AHUAcA==\r\n"
    talk.said("235 in")
    assert talk.last == Authenticated(Reply(235, "", "in"))
    talk = Talk(offers="AUTH=LOGIN")
    talk.client.authenticate(Credentials("u", "p"))
    assert talk.written() == "AUTH LOGIN\r\n"
    assert talk.said("334 VXNlcm5hbWU6") == "dQ==\r\n"
    assert talk.said("334 UGFzc3dvcmQ6") == "cA==\r\n"
    talk.said("535 5.7.8 no")
    assert talk.last == AuthRefused(Reply(535, "5.7.8", "no"))
    assert talk.client.is_idle


def test_auth_with_a_long_secret_waits_for_the_challenge() -> None:
    talk = Talk(offers="AUTH PLAIN")
    talk.client.authenticate(Credentials("u", "p" * 500))
    assert talk.written() == "AUTH PLAIN\r\n"
    assert len(talk.said("334 ")) > 500


def test_auth_not_offered_or_challenged_without_end() -> None:
    assert not Talk(offers="AUTH SCRAM-SHA-256").client.authenticate(Credentials("u", "p"))
    talk = Talk(offers="AUTH PLAIN")
    talk.client.authenticate(Credentials("u", "p"))
    talk.said("334 more")
    assert isinstance(talk.last, ProtocolError)
    assert "secret" not in repr(Credentials("u", "secret"))


def test_extensions_only_where_offered_and_needed() -> None:
    talk = Talk(offers="SMTPUTF8,8BITMIME,SIZE")
    assert talk.sent("ü@y.example", body=Body.EIGHT_BIT_MIME) == (
        "MAIL FROM:<a@b.example> SIZE=5 BODY=8BITMIME SMTPUTF8\r\n"
    )
    talk = Talk(offers="SMTPUTF8,8BITMIME")
    assert talk.sent("x@y.example") == "MAIL FROM:<a@b.example>\r\n"


def test_what_capabilities_exclude_is_settled_without_a_word() -> None:
    for offers, what, code, status in (
        ("SIZE 4", {}, 552, "5.3.4"),
        ("SIZE 4000", {"smtputf8": True}, 550, "5.6.7"),
        ("PIPELINING,CHUNKING", {"body": Body.BINARY_MIME}, 550, "5.6.3"),
        ("CHUNKING,BINARYMIME", {"body": Body.BINARY_MIME}, 550, "5.6.3"),
    ):
        talk = Talk(offers=offers)
        assert talk.sent("x@y.example", **what) == ""
        [outcome] = talk.last.outcomes  # type: ignore[union-attr]
        assert (outcome.reply.code, outcome.reply.status, outcome.is_ours) == (code, status, True)
        assert talk.client.is_idle


def test_only_the_recipients_that_need_smtputf8_fail_without_it() -> None:
    talk = Talk(offers="PIPELINING")
    assert talk.sent("ü@y.example", "x@y.example") == ENVELOPE + "DATA\r\n"
    talk.said("250 a", "250 b", "354 c")
    talk.content(b"")
    talk.said("250 d")
    assert talk.results() == [("ü@y.example", 553, Phase.RECIPIENT), ("x@y.example", 250, Phase.END_OF_DATA)]


def test_binary_goes_by_bdat_unchecked() -> None:
    talk = Talk(offers="PIPELINING,CHUNKING,BINARYMIME,8BITMIME")
    assert "BODY=BINARYMIME" in talk.sent("x@y.example", body=Body.BINARY_MIME)
    talk.said("250 a", "250 b")
    assert talk.content(b"\n\r\0") == "BDAT 3 LAST\r\n\n\r\0"


@pytest.mark.parametrize("stage", range(5))
def test_U1_421_at_any_time(stage: int) -> None:
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example", "z@y.example")
    talk.said(*["250 s", "550 r", "250 r", "354 d"][:stage], "421 4.3.2 bye")
    code = 550 if stage >= 2 else 421
    assert [c for _, c, _ in talk.results()] == [code, 421]
    assert talk.last == Closed(Reply(421, "4.3.2", "bye"))


def test_421_when_idle_and_as_greeting() -> None:
    talk = Talk(offers="SIZE")
    talk.said("421 idle too long")
    assert isinstance(talk.last, Closed)
    talk = Talk()
    talk.said("421 busy")
    assert [type(event) for event in talk.events] == [Unwelcome, Closed]


def test_connection_lost() -> None:
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example", "z@y.example")
    talk.said("250 a", "550 b")
    talk.raw(b"")
    assert talk.results() == [("x@y.example", 550, Phase.RECIPIENT), ("z@y.example", 451, Phase.RECIPIENT)]
    assert talk.last == Closed(None)


def test_the_last_reply_counts_though_the_end_came_with_it() -> None:
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example")
    talk.said("250 a", "250 b", "354 c")
    talk.content(b"x")
    talk.client.receive(b"250 kept\r\n")
    talk.client.receive(b"")
    talk.written()
    assert talk.results() == [("x@y.example", 250, Phase.END_OF_DATA)]
    assert talk.last == Closed(None)


def test_abandoned_by_the_caller() -> None:
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example")
    talk.client.abandon(Reply(451, "4.4.2", "too slow"))
    talk.written()
    assert talk.results() == [("x@y.example", 451, Phase.SENDER)]
    assert talk.client.state is State.CLOSED


def test_refused_while_content_is_on_its_way() -> None:
    talk = Talk(offers="PIPELINING")
    talk.sent("x@y.example")
    talk.said("250 a", "250 b", "354 c")
    talk.client.send_content(b"x\r\n")
    talk.said("552 5.3.4 enough")
    assert talk.results() == [("x@y.example", 552, Phase.CONTENT)]
    assert talk.client.state is State.CLOSED


@pytest.mark.parametrize(
    "line", ["250 surprise", "500 what", "garbage", "199 low", "600 high", "25 short", "2500 long"]
)
def test_replies_nobody_asked_for_or_understands(line: str) -> None:
    talk = Talk(offers="SIZE")
    talk.said(line)
    assert isinstance(talk.last, ProtocolError)
    assert talk.written() == ""


def test_3xx_where_none_belongs() -> None:
    talk = Talk(offers="SIZE")
    talk.sent("x@y.example")
    talk.said("354 go")
    assert isinstance(talk.last, ProtocolError)
    assert talk.results() == [("x@y.example", 451, Phase.SENDER)]


@pytest.mark.parametrize("bad", ["x\r\nRSET", "x\n", "x\r", "x\0"])
def test_I_no_command_line_carries_a_line_end(bad: str) -> None:
    talk = Talk(offers="AUTH PLAIN")
    for transaction in (
        Transaction(Path(bad, "y.example"), (recipient("x@y.example"),), 1),
        Transaction(Path(), (Recipient(Path("x", bad)),), 1),
    ):
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            talk.client.send(transaction)
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        talk.client.authenticate(Credentials(bad, "p"))
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Client(bad)
    assert talk.written() == ""
    assert talk.client.is_idle


@pytest.mark.parametrize("offers", ["PIPELINING", "PIPELINING,CHUNKING"])
@pytest.mark.parametrize("chunks", [[b"a\nb"], [b"a\r", b"b"], [b"\n"], [b"a\r\r\n"], [b"a\r"]])
def test_F4_a_bare_line_end_is_never_sent_on(offers: str, chunks: list[bytes]) -> None:
    talk = Talk(offers=offers)
    talk.sent("x@y.example")
    talk.said("250 a", "250 b", *([] if "CHUNKING" in offers else ["354 c"]))
    with pytest.raises(ValueError, match="bare CR"):
        talk.content(*chunks)


def test_calls_out_of_turn_are_bugs() -> None:
    talk = Talk()
    for call in (talk.client.start_tls, talk.client.quit, talk.client.end_content, talk.client.tls_started):
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(RuntimeError):
        Talk(offers="SIZE").client.start_tls()
    with pytest.raises(ValueError, match="without recipients"):
        Talk(offers="SIZE").client.send(message())
