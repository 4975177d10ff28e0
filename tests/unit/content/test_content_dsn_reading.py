"""Reading delivery status notifications: ours, others', and what only looks like one."""

from __future__ import annotations

import pytest

from gatepost.content import dsn
from gatepost.content.dsn import Action
from gatepost.content.dsn_reading import MAX_RECIPIENTS, Told, read_report
from gatepost.content.plain_text import first_text
from gatepost.model import Bytes, Path, Recipient, Reply

_HEAD = (
    b"From: MAILER-DAEMON@mx.example.net\r\nTo: news-bounces@example.org\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="b"\r\n\r\n'
)
_TEXT = b"--b\r\n\r\nSorry.\r\n"


def _report(status: bytes, kind: bytes = b"message/delivery-status") -> Bytes:
    return Bytes(_HEAD + _TEXT + b"--b\r\nContent-Type: " + kind + b"\r\n\r\n" + status + b"\r\n--b--\r\n")


def test_our_own_reports_are_read_back() -> None:
    about = dsn.About(
        "mx.example.org", "T-1", Path.parse("ann@example.org"), Bytes(b"Subject: x\r\n\r\nhi\r\n"), 0, 1, "bb", "m@x"
    )
    gone = Recipient(Path.parse("bob@example.net"), {"ORCPT": "rfc822;bob+2Bx@example.net"})
    outcomes = [
        dsn.Outcome(gone, Action.FAILED, "5.1.1", Reply(550, "5.1.1", "no such user"), "mx.example.net"),
        dsn.Outcome(Recipient(Path.parse("eve@example.net")), Action.FAILED, "4.4.7"),
    ]
    assert read_report(Bytes(dsn.render_report(about, outcomes))) == (
        Told("bob@example.net", "bob+x@example.net", Action.FAILED, "5.1.1", "550 5.1.1 no such user"),
        Told("eve@example.net", "", Action.FAILED, "4.4.7", ""),
    )


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            b"Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: RFC822; <a@b.example>\r\naction: Failed\r\nStatus: 5.2.2",
            "5.2.2",
        ),
        (b"Reporting-MTA: dns; x\n\nFinal-Recipient: a@b.example\nAction: failed (x)\nStatus: 5.1.1 (gone)", "5.1.1"),
        (b"\r\nReporting-MTA: dns; x\r\n \t\r\nFinal-Recipient: rfc822;\r\n a@b.example\r\nAction: failed\r\n", ""),
        (b"Final-Recipient: utf-8; \\x{61}@b.example\r\nAction: failed\r\nStatus: 9.1.1", ""),
    ],
)
def test_what_others_write(status: bytes, told: str) -> None:
    assert read_report(_report(status)) == (Told("a@b.example", "", Action.FAILED, told),)


def test_a_utf8_address_and_an_encoded_part() -> None:
    status = "Final-Recipient: utf-8; jürgen@b.example\r\nAction: failed\r\nStatus: 5.1.1\r\n".encode()
    found = read_report(_report(status, b"message/global-delivery-status"))
    assert found is not None
    assert found[0].final == "jürgen@b.example"
    encoded = b"RmluYWwtUmVjaXBpZW50OiByZmM4MjI7IGFAYi5leGFtcGxlCkFjdGlvbjogZmFpbGVkCg=="
    found = read_report(_report(encoded, b"message/delivery-status\r\nContent-Transfer-Encoding: base64"))
    assert found == (Told("a@b.example", "", Action.FAILED, ""),)


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: Out of office\r\nAuto-Submitted: auto-replied\r\n\r\nFinal-Recipient: rfc822; a@b.example\r\n",
        b"Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n" + _TEXT,
        _HEAD + _TEXT + b"--b--\r\n",
        _HEAD.replace(b"multipart/report", b"multipart/mixed") + _TEXT,
        _HEAD,
        b"",
        b"Content-Type: multipart/report\r\n\r\n",
    ],
)
def test_what_is_no_report(content: bytes) -> None:
    assert read_report(Bytes(content)) is None


def test_a_report_that_names_nobody_is_one_all_the_same() -> None:
    assert read_report(_report(b"Reporting-MTA: dns; x\r\n\r\nAction: failed\r\nStatus: 5.1.1")) == ()
    assert read_report(_report(b"Final-Recipient: x400; c=de\r\nAction: failed")) == ()
    assert read_report(_report(b"Final-Recipient: rfc822; a@b.example\r\nAction: eaten")) == ()


def test_blocks_without_end_are_bounded() -> None:
    block = b"Final-Recipient: rfc822; a@b.example\r\nAction: failed\r\n\r\n"
    found = read_report(_report(b"Reporting-MTA: dns; x\r\n\r\n" + block * 1000))
    assert found is not None
    assert len(found) == MAX_RECIPIENTS
    assert read_report(Bytes(_HEAD + b"x" * 3_000_000)) is None


def test_the_first_text() -> None:
    assert first_text(Bytes(b"Subject: x\r\n\r\nsubscribe\r\nend\r\n"), 100) == "subscribe\nend\n"
    quoted = b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    assert first_text(Bytes(quoted + b"h=E9l=\r\np\r\n"), 100) == "hélp\n"
    assert first_text(Bytes(b"Content-Transfer-Encoding: base64\r\n\r\naGVscAo=\r\n"), 100) == "help\n"
    html = b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n"
    plain = b"--b\r\nContent-Type: text/plain\r\n\r\nhelp\r\n--b--\r\n"
    assert first_text(Bytes(html + plain), 3) == "hel"
    assert first_text(Bytes(html + b"--b--\r\n"), 100) == ""
    attached = plain.replace(b"text/plain", b"text/plain\r\nContent-Disposition: attachment")
    assert first_text(Bytes(html + attached), 100) == ""
    assert first_text(Bytes(b""), 100) == ""
