"""What a plugin is passed, octet for octet, and what the parser of a real plugin reads in it."""

import time
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from gatepost.hooks import stages
from gatepost.hooks.session import ServerView, Session
from gatepost.hooks.transaction import Transaction
from gatepost.model import Path, Peer, Recipient, Reply, Ticket
from gatepost.plugins.mailenable.configuration import clean, configuration, pending
from gatepost.plugins.mailenable.options import MailEnableOptions
from gatepost.serving.patience import LoopPatience, SystemClock

TEST, TEST2 = (Recipient(Path.parse(address)) for address in ("test@example.com", "test2@example.com"))
EVERYWHERE = ["ipaddress", "postoffice", "sender", "helo", "heloo", "hel", "senderauth", "ndr", "nrd", "response"]
OKS = {stages.Sender: "250 2.1.0 sender ok", stages.Recipient: "250 2.1.5 ok", stages.Data: "354 go ahead"}


def event(
    stage, *, sender="test@example.com", recipients=(), user=None, helo="example.com", reply=None, ip="192.0.2.7"
):
    session = Session(
        "TOKEN", "mx", "smtp", Peer(ip_address(ip), 5), ("192.0.2.2", 25), datetime.now(UTC), LoopPatience(),
        helo=helo, user=user,
    )  # fmt: skip
    transaction = Transaction(Ticket("06HK3M-9Q7TZA", 1), Path.parse(sender), {}, list(recipients))
    fields = {stages.Recipient: {"recipient": TEST2}, stages.Message: {"subjects": tuple(recipients)}}.get(stage, {})
    code, _, text = OKS.get(stage, "250 2.0.0 accepted").partition(" ")
    turn = stages.Turn({}, time.monotonic() + 30, time.monotonic)
    server = ServerView("mx.test", SystemClock())
    return stage(session, server, reply or Reply(int(code), "", text), turn, transaction, **fields)


def element(text, name):
    """As a published plugin reads it: the first `<tag>`, up to the next `</tag>`, and nothing decoded."""
    begin = text.index(f"<{name}>") + len(name) + 2
    return text[begin : text.index(f"</{name}>", begin)]


def names(text):
    return [line[1 : line.index(">")] for line in map(str.strip, text.splitlines()[1:-1])]


def test_MAIL_is_passed_as_the_guide_has_it():
    assert configuration(event(stages.Sender), MailEnableOptions()) == (
        "<scriptconfig>\r\n"
        "  <smtpcommand>MAILFROM</smtpcommand>\r\n"
        "  <ipaddress>192.0.2.7</ipaddress>\r\n"
        "  <postoffice></postoffice>\r\n"
        "  <sender>[SMTP:test@example.com]</sender>\r\n"
        "  <helo>example.com</helo>\r\n"
        "  <heloo>example.com</heloo>\r\n"
        "  <hel>example.com</hel>\r\n"
        "  <senderauth>0</senderauth>\r\n"
        "  <ndr>0</ndr>\r\n"
        "  <nrd>0</nrd>\r\n"
        "  <response>250 2.1.0 sender ok</response>\r\n"
        "</scriptconfig>"
    )


@pytest.mark.parametrize(
    ("stage", "command", "more"),
    [
        (stages.Sender, "MAILFROM", set()),
        (stages.Recipient, "RCPTTO", {"recipients", "recipient"}),
        (stages.Data, "DATA", {"recipients"}),
        (stages.Message, "DATAEND", {"recipients", "user", "messageid", "messagepath"}),
    ],
)
def test_each_moment_has_the_elements_of_the_contract(stage, command, more):
    text = configuration(event(stage, recipients=[TEST]), MailEnableOptions(), "Z:\\x\\1.MAI")
    assert element(text, "smtpcommand") == command
    assert sorted(names(text)) == sorted({"smtpcommand", *EVERYWHERE, *more})


def test_RCPT_counts_the_current_recipient_among_the_recipients():
    text = configuration(event(stages.Recipient, recipients=[TEST]), MailEnableOptions())
    assert element(text, "recipients") == "[SMTP:test@example.com]; [SMTP:test2@example.com]"
    assert element(text, "recipient") == "test2@example.com"
    again = configuration(event(stages.Recipient, recipients=[TEST, TEST2]), MailEnableOptions())
    assert element(again, "recipients") == "[SMTP:test@example.com]; [SMTP:test2@example.com]"


def test_end_of_data_names_message_user_and_file():
    text = configuration(
        event(stages.Message, recipients=[TEST, TEST2], user="ann@example.org"),
        MailEnableOptions(),
        r"Z:\dev\shm\gatepost-x\7.MAI",
    )
    assert element(text, "messageid") == "06HK3M-9Q7TZA-1"
    assert element(text, "messagepath") == r"Z:\dev\shm\gatepost-x\7.MAI"
    assert element(text, "user") == "ann@example.org"
    assert element(text, "senderauth") == "1"
    assert element(text, "recipients") == "[SMTP:test@example.com]; [SMTP:test2@example.com]"


def test_a_bounce_has_an_empty_sender():
    text = configuration(event(stages.Sender, sender=""), MailEnableOptions())
    assert (element(text, "sender"), element(text, "ndr"), element(text, "nrd")) == ("", "1", "1")


@pytest.mark.parametrize(
    ("option", "user", "stage", "expected"),
    [
        ("recipient", None, stages.Sender, ""),
        ("recipient", "ann@example.org", stages.Sender, "example.org"),
        ("recipient", "ann@example.org", stages.Recipient, "example.com"),
        ("user", "ann@example.org", stages.Recipient, "example.org"),
        ("user", "ann", stages.Recipient, ""),
        ("user", None, stages.Message, ""),
        ("Head Office", None, stages.Data, "Head Office"),
    ],
)
def test_the_post_office_is_whose_the_setting_says(option, user, stage, expected):
    recipients = [] if stage is stages.Sender else [TEST]
    text = configuration(event(stage, recipients=recipients, user=user), MailEnableOptions(postoffice=option))
    assert element(text, "postoffice") == expected


def test_MAIL_can_be_called_as_the_guides_example_calls_it():
    text = configuration(event(stages.Sender), MailEnableOptions(mailfrom_name="RCPTTO"))
    assert element(text, "smtpcommand") == "RCPTTO"
    assert element(configuration(event(stages.Data), MailEnableOptions(mailfrom_name="X")), "smtpcommand") == "DATA"


def test_nobody_can_end_an_element_or_forge_one():
    text = configuration(
        event(stages.Sender, sender='"</sender><senderauth>1</senderauth>&"@example.com', helo="<ndr>1\r\n\x00</ndr>"),
        MailEnableOptions(),
    )
    assert element(text, "senderauth") == "0"
    assert element(text, "ndr") == "0"
    assert len(text.splitlines()) == 13
    assert "&lt;/sender&gt;" in element(text, "sender")
    assert "\0" not in text


def test_international_addresses_keep_their_letters_and_have_ascii_domains():
    text = configuration(event(stages.Sender, sender="jürgen@bücher.example", ip="2001:db8::1"), MailEnableOptions())
    assert element(text, "sender") == "[SMTP:jürgen@xn--bcher-kva.example]"
    assert element(text, "ipaddress") == "2001:db8::1"


def test_a_reply_of_several_lines_is_passed_as_one():
    assert pending(Reply(250, "2.1.0", "one\ntwo")) == "250 2.1.0 one two"


def test_what_cannot_be_printed_is_a_blank():
    assert clean("a\tb\u2028c\x1b[1m<&>") == "a b c [1m&lt;&amp;&gt;"


@pytest.mark.parametrize("charset", ["utf-8", "cp1252", "latin-1", "1250", "cp932"])
def test_a_code_page_is_taken(charset):
    assert MailEnableOptions(charset=charset).charset == charset


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"charset": "utf-16"}, "charset"),
        ({"charset": "cp037"}, "charset"),
        ({"charset": "klingon"}, "charset"),
        ({"charset": "rot13"}, "charset"),
        ({"charset": "utf-7"}, "charset"),
        ({"mailfrom_name": "MAIL FROM"}, "mailfrom_name"),
        ({"mailfrom_name": ""}, "mailfrom_name"),
        ({"response_size": 100}, "response_size"),
        ({"response_size": 1 << 30}, "response_size"),
        ({"threads": 0}, "threads"),
        ({"postoffice": "a\nb"}, "postoffice"),
    ],
)
def test_an_option_that_cannot_be_kept_is_refused_by_name(wrong, word):
    with pytest.raises(ValueError, match=word):
        MailEnableOptions(**wrong)
