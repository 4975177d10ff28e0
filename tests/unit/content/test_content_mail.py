"""Mail the house writes: Received, delivery notices; and the edits it makes itself."""

from __future__ import annotations

import email
import email.policy
import time
from ipaddress import ip_address

import pytest

from gatepost.content.addresses import AddressList, Mailbox, parse_list
from gatepost.content.dsn import About, Action, Outcome, render_postmaster_notice, render_report
from gatepost.content.headers import Section
from gatepost.content.intake import authors, authserv_id, forged_results, submission_edits
from gatepost.content.received import count_received, date, received, return_path, with_keyword
from gatepost.content.view import render
from gatepost.model import NULL_PATH, AddHeader, Bytes, DeleteHeader, Path, Recipient, Reply, Tls

NOON = 1_795_500_000  # Tue, 24 Nov 2026 06:00:00 UTC


def stamp(**changed: object) -> bytes:
    facts: dict[str, object] = {
        "helo": "mail.example.net",
        "address": ip_address("203.0.113.9"),
        "hostname": "mx.example.org",
        "keyword": "ESMTPS",
        "ticket": "06HK3M-9Q7TZA-1",
        "unix_time": NOON,
        "offset_s": 3600,
        "name": "host.example.net",
        "tls": Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        "recipients": (Path.parse("ann@example.org"),),
    }
    return received(**(facts | changed))


def test_received_holds_what_rfc5321_asks_for():
    assert stamp() == (
        b"Received: from mail.example.net (host.example.net [203.0.113.9])\r\n"
        b"\tby mx.example.org (Gatepost) with ESMTPS\r\n"
        b"\t(TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tid 06HK3M-9Q7TZA-1 for <ann@example.org>;\r\n"
        b"\tTue, 24 Nov 2026 07:00:00 +0100\r\n"
    )


def test_several_recipients_dont_learn_of_each_other():
    assert b" for " not in stamp(recipients=(Path.parse("ann@example.org"), Path.parse("bob@example.org")))
    assert b" for " not in stamp(recipients=())


@pytest.mark.parametrize(
    ("helo", "written"),
    [
        ("[192.0.2.1]", b"from [192.0.2.1] ("),
        ("[IPv6:2001:db8::1]", b"from [IPv6:2001:db8::1] ("),
        ("", b"from [203.0.113.9] ("),
        ("a b(c)\r\nX: y", b"from a?b?c???X:?y ("),
        ("x; Tue, 1 Jan", b"from x??Tue??1?Jan ("),
        ("ä.example", b"from ?.example ("),
        ("a" * 300, b"from " + b"a" * 255 + b" ("),
        ("-", b"from - ("),
    ],
)
def test_I1_a_helo_name_is_only_a_name(helo: str, written: bytes):
    line = stamp(helo=helo)
    assert written in line
    assert line.count(b"\n") == line.count(b"\r\n") == 5


def test_peers_without_a_name_or_address():
    assert stamp(name=None, address=ip_address("2001:db8::1")).startswith(
        b"Received: from mail.example.net ([IPv6:2001:db8::1])\r\n"
    )
    assert stamp(name=None, address=None, helo="").startswith(b"Received: from localhost (localhost)\r\n")


@pytest.mark.parametrize(
    ("facts", "keyword"),
    [
        ({"extended": False}, "SMTP"),
        ({}, "ESMTP"),
        ({"tls": True}, "ESMTPS"),
        ({"authenticated": True}, "ESMTPA"),
        ({"tls": True, "authenticated": True}, "ESMTPSA"),
        ({"lmtp": True}, "LMTP"),
        ({"lmtp": True, "extended": False, "tls": True}, "LMTPS"),
        ({"utf8": True}, "UTF8SMTP"),
        ({"utf8": True, "tls": True, "authenticated": True}, "UTF8SMTPSA"),
        ({"utf8": True, "lmtp": True}, "UTF8LMTP"),
    ],
)
def test_with_keywords(facts: dict[str, bool], keyword: str):
    assert with_keyword(**facts) == keyword


@pytest.mark.parametrize(
    ("offset_s", "text"),
    [
        (0, "Tue, 24 Nov 2026 06:00:00 +0000"),
        (19800, "Tue, 24 Nov 2026 11:30:00 +0530"),
        (-12600, "Tue, 24 Nov 2026 02:30:00 -0330"),
        (-7 * 3600, "Mon, 23 Nov 2026 23:00:00 -0700"),
    ],
)
def test_dates(offset_s: int, text: str):
    assert date(NOON + 0.9, offset_s) == text


def test_return_path_and_count():
    assert return_path(NULL_PATH) == b"Return-Path: <>\r\n"
    assert return_path(Path.parse("a@b.example")) == b"Return-Path: <a@b.example>\r\n"
    assert count_received(Section(b"Received: a\r\n" * 101 + b"\r\n")) == 101


@pytest.mark.parametrize(
    ("value", "whose"),
    [
        ("mx.example.org; spf=pass", "mx.example.org"),
        ("MX.Example.ORG 1; spf=pass", "mx.example.org"),
        ("(a (b) \\) c) mx.example.org; none", "mx.example.org"),
        ('"mx.example.org"; none', "mx.example.org"),
        ('"mx\\.example.org"; none', "mx.example.org"),
        ("mx.example.org.; none", "mx.example.org"),
        ("mx.example.org(x); none", "mx.example.org"),
        ("mx.example.org", "mx.example.org"),
        ("mx.example.org.evil.example; none", "mx.example.org.evil.example"),
        ("", ""),
        ("(unclosed mx.example.org", ""),
    ],
)
def test_whose_results_a_field_claims_to_hold(value: str, whose: str):
    assert authserv_id(value) == whose


def test_results_forged_in_our_name_go_and_others_stay():
    head = (
        b"Authentication-Results: mx.example.org; spf=pass\r\n"
        b"Authentication-Results: other.example; spf=pass\r\n"
        b"authentication-results:\r\n (x)\r\n MX.example.org; dkim=pass\r\n"
        b"X-Route: here\r\n\r\n"
    )
    edits = forged_results(Section(head), "mx.example.org", also=("X-Route", "X-None"))
    assert edits == [
        DeleteHeader("X-Route"),
        DeleteHeader("Authentication-Results", 2),
        DeleteHeader("Authentication-Results", 0),
    ]
    assert b"".join(render(Bytes(head), edits)) == b"Authentication-Results: other.example; spf=pass\r\n\r\n"
    assert forged_results(Section(b"Subject: x\r\n\r\n"), "mx.example.org") == []


def test_submission_adds_what_is_missing_and_nothing_else():
    facts = {"date": date(NOON), "message_id": "id@mx", "sender": Path.parse("ann@example.org")}
    assert submission_edits(Section(b"from: a\r\nDATE: b\r\nMessage-Id: c\r\n\r\n"), **facts) == []
    assert submission_edits(Section(b"\r\n"), **facts) == [
        AddHeader("From", "ann@example.org"),
        AddHeader("Date", "Tue, 24 Nov 2026 06:00:00 +0000"),
        AddHeader("Message-ID", "<id@mx>"),
    ]


def test_D5_every_author_of_every_from_field_counts():
    head = b'From: "Ann, A" <ann@example.org>\r\nFROM: eve@evil.example, =?utf-8?q?B?= <b@c>\r\n\r\n'
    assert authors(Section(head)) == [
        Mailbox("Ann, A", "ann@example.org"),
        Mailbox("", "eve@evil.example"),
        Mailbox("B", "b@c"),
    ]


@pytest.mark.parametrize(
    ("text", "mailboxes", "is_clean"),
    [
        ("a@b", [("", "a@b")], True),
        ("Ann Other <a@b>", [("Ann Other", "a@b")], True),
        ('"x \\" y" <a@b>', [('x " y', "a@b")], True),
        ('"a b"@c', [("", '"a b"@c')], True),
        ("a@b (comment, with (nested) things)", [("", "a@b")], True),
        ("friends: a@b, Bob <c@d>; e@f", [("", "a@b"), ("Bob", "c@d"), ("", "e@f")], True),
        ("<@r1,@r2:a@b>", [("", "a@b")], True),
        ("a @ b", [("", "a@b")], True),
        ("undisclosed-recipients:;", [], True),
        ("", [], True),
        (",, a@b ,", [("", "a@b")], True),
        ("nobody", [], False),
        ("a@b <c@d>", [("a@b", "c@d")], True),
        ("<a@b> <c@d>", [("", "c@d")], False),
        ("<a@b", [("", "a@b")], False),
        ("a@b>", [("", "a@b")], False),
        ("(a@b", [], False),
        ("a@b)", [("", "a@b")], False),
        ('"a@b', [("", '"a@b')], False),
    ],
)
def test_address_lists(text: str, mailboxes: list[tuple[str, str]], is_clean: bool):
    assert parse_list(text) == AddressList(tuple(Mailbox(*m) for m in mailboxes), is_clean)


@pytest.mark.parametrize("part", ["g:;", "g: a@b;", "a,", "(", '"', '\\"', '"\\', "<", "<>", "@", ":", " "])
def test_R12_address_lists_take_linear_time(part: str):
    start = time.process_time()
    parse_list(part * 300_000)
    assert time.process_time() - start < 1.5


# -- notices


def about(**changed: object) -> About:
    facts: dict[str, object] = {
        "hostname": "mx.example.org",
        "ticket": "06HK3M-9Q7TZA-1",
        "sender": Path.parse("ann@example.org"),
        "content": Bytes(b"From: ann@example.org\r\nSubject: hello\r\n\r\nthe body\r\n"),
        "arrival": NOON,
        "now": NOON + 600,
        "boundary": "=_06HK3M",
        "message_id": "06HK3M-dsn@mx.example.org",
    }
    return About(**(facts | changed))


def failed(address: str = "bob@example.net", **changed: object) -> Outcome:
    facts: dict[str, object] = {
        "recipient": Recipient(Path.parse(address)),
        "action": Action.FAILED,
        "status": "5.1.1",
        "reply": Reply(550, "5.1.1", "no such user"),
        "remote": "mx.example.net",
        "last_attempt": NOON + 500,
    }
    return Outcome(**(facts | changed))


def parsed(octets: bytes) -> email.message.EmailMessage:
    assert octets.count(b"\n") == octets.count(b"\r") == octets.count(b"\r\n")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert not message.defects
    return message


def test_a_failure_is_a_report_for_people_and_machines():
    message = parsed(render_report(about(envid="QQ314159"), [failed()]))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["To"] == "ann@example.org"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["Date"] == "Tue, 24 Nov 2026 06:10:00 +0000"
    text, status, returned = message.iter_parts()
    assert "could not be delivered" in text.get_content()
    assert "bob@example.net" in text.get_content()
    assert "mx.example.net said: 550 5.1.1 no such user" in text.get_content()
    assert "Check the address" in text.get_content()
    whole, recipient = status.get_payload()
    assert dict(whole.items()) == {
        "Reporting-MTA": "dns; mx.example.org",
        "Original-Envelope-Id": "QQ314159",
        "Arrival-Date": "Tue, 24 Nov 2026 06:00:00 +0000",
    }
    assert dict(recipient.items()) == {
        "Final-Recipient": "rfc822; bob@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.net",
        "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
        "Last-Attempt-Date": "Tue, 24 Nov 2026 06:08:20 +0000",
    }
    assert returned.get_content_type() == "text/rfc822-headers"
    assert b"the body" not in returned.as_bytes()


def test_several_recipients_share_a_report():
    message = parsed(render_report(about(), [failed(), failed("eve@example.net")]))
    _, status, _ = message.iter_parts()
    assert [block["Final-Recipient"] for block in status.get_payload()[1:]] == [
        "rfc822; bob@example.net",
        "rfc822; eve@example.net",
    ]


@pytest.mark.parametrize("action", list(Action))
def test_every_kind_of_report(action: Action):
    outcome = failed(action=action, reply=None, reason="took too long", retry_until=NOON + 9000)
    message = parsed(render_report(about(), [outcome]))
    _, status, _ = message.iter_parts()
    assert status.get_payload()[1]["Action"] == action.value
    assert "took too long" in next(message.iter_parts()).get_content()


def test_I4_a_remote_servers_words_stay_within_their_line():
    words = "no\r\n\r\n--=_06HK3M--\r\nX-Evil: 1\n\nAction: delivered\0\x1b[31m" + "z" * 5000
    message = parsed(render_report(about(), [failed(reply=Reply(550, "", words), remote="mx\r\nX-Evil: 2")]))
    text, status, _ = message.iter_parts()
    assert len(status.get_payload()) == 2
    assert status.get_payload()[1].get_all("Action") == ["failed"]
    assert status.get_payload()[1]["X-Evil"] is None
    assert message["X-Evil"] is None
    assert "\x1b" not in text.get_content()


def test_I5_an_original_recipient_brings_no_lines():
    recipient = Recipient(Path.parse("bob@example.net"), {"ORCPT": "rfc822;bob\r\nX-Evil: 1@example.net"})
    _, status, _ = parsed(render_report(about(envid="x\r\nX-Evil: 2"), [failed(recipient=recipient)])).iter_parts()
    blocks = status.get_payload()
    assert len(blocks) == 2
    assert blocks[1]["Original-Recipient"] is None
    assert all(block["X-Evil"] is None for block in blocks)


def test_returned_content_is_bounded_and_cant_break_out():
    body = b"--=_06HK3M\r\nContent-Type: x/evil\r\n\r\n--=_06HK3M--\r\n"
    content = Bytes(b"Subject: hello\r\n\r\n" + body)
    message = parsed(render_report(about(content=content), [failed()], return_full=True))
    *_, returned = message.iter_parts()
    assert returned.get_content_type() == "message/rfc822"
    assert returned.get_payload()[0]["Subject"] == "hello"
    assert len(list(message.iter_parts())) == 3
    short = parsed(render_report(about(content=content), [failed()], return_full=True, limit=30))
    assert list(short.iter_parts())[2].get_content_type() == "text/rfc822-headers"
    huge = about(content=Bytes(b"A: b\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"))
    assert len(render_report(huge, [failed()], limit=1000)) < 3000


def test_content_that_cant_stand_as_it_is_is_returned_as_headers():
    content = Bytes(b"Subject: \xff\0\r\nX: " + b"y" * 2000 + b"\r\n\r\na\nb")
    message = parsed(render_report(about(content=content), [failed()], return_full=True))
    assert list(message.iter_parts())[2].get_content_type() == "text/rfc822-headers"


def test_utf8_travels_only_where_smtputf8_does():
    outcome = failed("jörg@example.net")
    plain = render_report(about(content=Bytes("Subject: hö\r\n\r\n".encode())), [outcome])
    assert plain.isascii()
    _, status, _ = parsed(plain).iter_parts()
    assert status.get_payload()[1]["Final-Recipient"] == "utf-8; j\\x{F6}rg@example.net"
    message = render_report(about(smtputf8=True), [outcome])
    assert "Final-Recipient: utf-8; jörg@example.net\r\n".encode() in message
    assert b"Content-Type: message/global-delivery-status\r\n" in message
    assert b"Content-Type: message/global-headers\r\n" in message


def test_L2_the_null_sender_gets_no_report():
    with pytest.raises(ValueError, match="null sender"):
        render_report(about(sender=NULL_PATH), [failed()])


def test_L4_the_postmaster_is_told_instead():
    message = parsed(render_postmaster_notice(about(sender=NULL_PATH), "postmaster@mx.example.org", [failed()]))
    assert message["To"] == "postmaster@mx.example.org"
    text, returned = message.iter_parts()
    assert "gatepost queue release 06HK3M-9Q7TZA-1" in " ".join(text.get_content().split())
    assert "sender: (none)" in text.get_content()
    assert returned.get_content_type() == "text/rfc822-headers"
