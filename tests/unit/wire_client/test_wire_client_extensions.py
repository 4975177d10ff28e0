"""What the client machine says of the extensions a server offers: DSN, REQUIRETLS, XFORWARD, XCLIENT, LIMITS."""

from __future__ import annotations

import pytest

from gatepost.model import Path, Recipient, Reply
from gatepost.wire.smtp.client_events import (
    Introduced,
    Introduction,
    Outcomes,
    Phase,
    Protocol,
    ProtocolError,
    Ready,
    State,
    Transaction,
)
from unit.wire_client.test_wire_client_session import Talk

SENDER = Path.parse("a@b.example")


def transaction(parameters: dict[str, str] | None = None, **more: object) -> Transaction:
    to = Recipient(Path.parse("x@y.example"), parameters or {})
    return Transaction(SENDER, (to,), 5, **more)  # type: ignore[arg-type]


def sent(talk: Talk, what: Transaction) -> list[str]:
    talk.client.send(what)
    return talk.written().split("\r\n")[:2]


WISHES = {"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;x+2By@old.example"}


def test_dsn_where_it_is_offered() -> None:
    what = transaction(WISHES, ret="HDRS", envid="QQ314159+2B")
    assert sent(Talk(offers="PIPELINING,DSN"), what) == [
        "MAIL FROM:<a@b.example> RET=HDRS ENVID=QQ314159+2B",
        "RCPT TO:<x@y.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2By@old.example",
    ]


def test_dsn_where_it_is_not_offered() -> None:
    what = transaction(WISHES, ret="HDRS", envid="QQ314159+2B")
    assert sent(Talk(offers="PIPELINING"), what) == ["MAIL FROM:<a@b.example>", "RCPT TO:<x@y.example>"]


@pytest.mark.parametrize(
    ("parameters", "more"),
    [
        ({"NOTIFY": "SOMETIMES"}, {}),
        ({"NOTIFY": "NEVER,SUCCESS"}, {}),
        ({"NOTIFY": "SUCCESS\r\nRSET"}, {}),
        ({"NOTIFY": "SUCCESS BODY=8BITMIME"}, {}),
        ({"ORCPT": "x@y.example"}, {}),
        ({"ORCPT": "rfc822;a+0Ab"}, {}),
        ({"ORCPT": "rfc822;a+00"}, {}),
        ({"ORCPT": "rfc822;a b"}, {}),
        ({"ORCPT": "rfc822;a\r\nRSET"}, {}),
        ({"ORCPT": "rfc822;a=b"}, {}),
        ({"ORCPT": "rfc822;" + "x" * 500}, {}),
        ({"ORCPT": "utf-8;zoë@y.example"}, {}),  # this server takes no SMTPUTF8
        ({}, {"envid": "a+0Ab"}),
        ({}, {"envid": "a\r\nRSET"}),
        ({}, {"envid": "a b"}),
        ({}, {"envid": "a+b"}),
        ({}, {"envid": "x" * 101}),
        ({}, {"ret": "HEADERS"}),
        ({}, {"ret": "FULL\r\nRSET"}),
    ],
)
def test_I5_what_is_not_well_formed_is_left_out(parameters: dict[str, str], more: dict[str, str]) -> None:
    talk = Talk(offers="PIPELINING,DSN")
    assert sent(talk, transaction(parameters, **more)) == ["MAIL FROM:<a@b.example>", "RCPT TO:<x@y.example>"]


def test_an_original_recipient_beyond_ascii_written_in_ascii() -> None:
    talk = Talk(offers="PIPELINING,DSN")
    value = "utf-8;zo\\x{EB}@y.example"
    assert sent(talk, transaction({"ORCPT": value}))[1] == f"RCPT TO:<x@y.example> ORCPT={value}"


@pytest.mark.parametrize(
    ("offers", "protocol", "is_blind"),
    [
        ("PIPELINING", Protocol.SMTP, True),
        ("PIPELINING,CHUNKING", Protocol.SMTP, True),
        ("PIPELINING,DSN", Protocol.SMTP, False),
        ("PIPELINING", Protocol.LMTP, False),
    ],
)
def test_relayed_blind(offers: str, protocol: Protocol, is_blind: bool) -> None:
    talk = Talk(offers=offers, protocol=protocol)
    sent(talk, transaction())
    talk.said("250 a", "250 b", *([] if "CHUNKING" in offers else ["354 c"]))
    talk.content(b"x\r\n")
    talk.said("250 kept")
    assert isinstance(talk.last, Outcomes)
    assert [outcome.is_relayed_blind for outcome in talk.last.outcomes] == [is_blind]


def test_what_was_refused_was_not_relayed() -> None:
    talk = Talk(offers="PIPELINING")
    sent(talk, transaction())
    talk.said("250 a", "550 b", "554 c")
    assert isinstance(talk.last, Outcomes)
    assert [outcome.is_relayed_blind for outcome in talk.last.outcomes] == [False]


def test_requiretls_goes_where_it_is_offered_and_nowhere_else() -> None:
    assert sent(Talk(offers="PIPELINING,REQUIRETLS"), transaction(requiretls=True))[0].endswith(" REQUIRETLS")
    assert sent(Talk(offers="PIPELINING,REQUIRETLS"), transaction())[0] == "MAIL FROM:<a@b.example>"
    talk = Talk(offers="PIPELINING")
    assert sent(talk, transaction(requiretls=True)) == [""]
    assert isinstance(talk.last, Outcomes)
    [outcome] = talk.last.outcomes
    assert (outcome.reply.code, outcome.reply.status, outcome.is_ours) == (550, "5.7.30", True)
    assert talk.client.is_idle


def test_the_mail_command_as_it_would_be_and_another_one_instead() -> None:
    talk = Talk(offers="PIPELINING,SIZE")
    what = transaction()
    assert talk.client.mail_line(what) == "MAIL FROM:<a@b.example> SIZE=5"
    talk.client.send(what, "MAIL FROM:<c@d.example>")
    assert talk.written().startswith("MAIL FROM:<c@d.example>\r\nRCPT")
    talk = Talk(offers="PIPELINING")
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        talk.client.send(what, "MAIL FROM:<c@d.example>\r\nRSET")
    assert talk.client.is_idle
    assert talk.client.transactions == 0


def test_xforward_tells_what_is_wanted_in_xtext() -> None:
    talk = Talk(offers="XFORWARD NAME ADDR HELO")
    told = {"NAME": "", "ADDR": "192.0.2.1", "HELO": "a b=c\r\n+é", "PORT": "25"}
    assert talk.client.introduce(told)
    assert talk.written() == "XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1 HELO=a+20b+3Dc+0D+0A+2B+C3+A9\r\n"
    assert talk.client.phase is Phase.INTRODUCTION
    talk.said("250 2.0.0 ok")
    assert talk.last == Introduced(Reply(250, "2.0.0", "ok"))
    assert talk.client.is_idle
    assert sent(talk, transaction())[0] == "MAIL FROM:<a@b.example>"


def test_xforward_of_many_words_takes_several_commands() -> None:
    talk = Talk(offers="XFORWARD NAME ADDR HELO IDENT")
    talk.client.introduce({"NAME": "n" * 250, "HELO": "h" * 250, "IDENT": "i" * 256, "ADDR": "192.0.2.1"})
    first = talk.written()
    assert len(first) <= 512
    second = talk.said("250 ok")
    assert second == "XFORWARD HELO=" + "h" * 250 + " IDENT=[UNAVAILABLE] ADDR=192.0.2.1\r\n"
    talk.said("250 ok")
    assert talk.last == Introduced(Reply(250, "", "ok"))


def test_xforward_refused_goes_on_without() -> None:
    talk = Talk(offers="XFORWARD NAME")
    talk.client.introduce({"NAME": "x"})
    talk.said("550 5.7.0 not from you")
    assert talk.last == Introduced(Reply(550, "5.7.0", "not from you"))
    assert talk.client.is_idle


def test_introductions_nobody_wants() -> None:
    assert not Talk(offers="SIZE").client.introduce({"NAME": "x"})
    assert not Talk(offers="XFORWARD ADDR").client.introduce({"NAME": "x"})
    assert not Talk(offers="XFORWARD NAME").client.introduce({"NAME": "x"}, by=Introduction.XCLIENT)
    assert not Talk(offers="XCLIENT NAME").client.introduce({"NAME": "x"})


def test_after_xclient_the_session_begins_anew() -> None:
    talk = Talk(offers="XCLIENT NAME ADDR,SIZE")
    assert talk.client.introduce({"NAME": "x.example", "ADDR": "IPV6:2001:db8::1"}, by=Introduction.XCLIENT)
    assert talk.written() == "XCLIENT NAME=x.example ADDR=IPV6:2001:db8::1\r\n"
    assert talk.said("220 mx.example again") == "EHLO me.example\r\n"
    assert talk.last == Introduced(Reply(220, "", "mx.example again"))
    talk.said("250-mx", "250 PIPELINING")
    assert isinstance(talk.last, Ready)
    assert "SIZE" not in talk.client.capabilities
    assert talk.client.is_idle


def test_xclient_refused_goes_on_without() -> None:
    talk = Talk(offers="XCLIENT NAME")
    talk.client.introduce({"NAME": "x"}, by=Introduction.XCLIENT)
    assert talk.written() == "XCLIENT NAME=x\r\n"
    assert talk.said("550 5.7.0 not you") == ""
    assert talk.client.is_idle


def test_a_421_to_an_introduction_and_nonsense_too() -> None:
    talk = Talk(offers="XFORWARD NAME")
    talk.client.introduce({"NAME": "x"})
    talk.said("421 bye")
    assert talk.client.state is State.CLOSED
    talk = Talk(offers="XFORWARD NAME")
    talk.client.introduce({"NAME": "x"})
    talk.said("354 what")
    assert isinstance(talk.last, ProtocolError)


def test_limits_of_recipients_domains() -> None:
    capabilities = Talk(offers="LIMITS RCPTDOMAINMAX=1 RCPTMAX=50").client.capabilities
    assert capabilities.domains_max == 1
    assert Talk(offers="LIMITS RCPTDOMAINMAX=x").client.capabilities.domains_max is None


def test_limits_rcptmax_and_mailmax() -> None:
    talk = Talk(offers="PIPELINING,LIMITS MAILMAX=1 RCPTMAX=2 XMAX=nonsense")
    assert talk.client.capabilities.recipients_max == 2
    with pytest.raises(ValueError, match="at most 2"):
        talk.sent("a@y.example", "b@y.example", "c@y.example")
    talk.sent("a@y.example")
    talk.said("250 a", "250 b", "354 c")
    talk.content(b"x")
    talk.said("250 d")
    assert talk.client.is_idle
    assert not talk.client.can_reuse
