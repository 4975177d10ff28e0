"""What a rewritten message is told to have been changed in."""

from gatepost.content.difference import MOST, changed, differences
from gatepost.content.view import View
from gatepost.model import Bytes, ReplaceMessage

BEFORE = b"From: a@b.example\r\nSubject: hello\r\n\r\nbody\r\n"


def told(after: bytes) -> tuple[str, ...]:
    return differences(Bytes(BEFORE), Bytes(after))


def test_nothing_is_told_of_the_same_message() -> None:
    assert told(BEFORE) == ()


def test_fields_that_came_and_went() -> None:
    after = BEFORE.replace(b"Subject: hello\r\n", b"X-Spam: yes\r\nSubject: [spam]\r\n  hello\r\n")
    assert told(after) == ("- Subject: hello", "+ X-Spam: yes", "+ Subject: [spam]  hello")


def test_the_order_of_fields_is_no_change() -> None:
    assert told(b"Subject: hello\r\nFrom: a@b.example\r\n\r\nbody\r\n") == ()


def test_the_body() -> None:
    assert told(BEFORE + b"more\r\n") == ("body 6 → 12 octets",)
    assert told(BEFORE.replace(b"body", b"BODY")) == ("body changed, 6 octets",)


def test_a_flood_of_fields_is_counted() -> None:
    after = b"".join(b"X-%d: 1\r\n" % number for number in range(100)) + BEFORE
    said = told(after)
    assert len(said) == MOST + 1 and said[-1] == "and 80 fields more"


def test_a_replaced_message_is_stored_octet_for_octet() -> None:
    after = b"x-odd:value\r\nSubject:  two  blanks \r\n\r\nnew body"
    view = View(Bytes(BEFORE))
    view.edit(ReplaceMessage(Bytes(after)))
    assert view.blob.read() == after
    assert view.headers["Subject"] == "two  blanks"
    assert "From" not in view.headers


def test_bare_line_ends_of_a_replaced_message_become_whole() -> None:
    view = View(Bytes(BEFORE))
    view.edit(ReplaceMessage(Bytes(b"A: 1\nB: 2\n\nx\n")))
    assert view.blob.read() == b"A: 1\r\nB: 2\r\n\r\nx\r\n"


def test_edits_go_on_upon_a_replaced_message() -> None:
    view = View(Bytes(BEFORE))
    view.edit(ReplaceMessage(Bytes(b"A: 1\r\n\r\nx\r\n")))
    view.headers["B"] = "2"
    assert view.blob.read() == b"A: 1\r\nB: 2\r\n\r\nx\r\n"


def test_the_same_octets_and_the_same_fields() -> None:
    assert changed(Bytes(BEFORE), Bytes(BEFORE)) is None
    assert changed(Bytes(BEFORE), Bytes(b"Subject: hello\r\nFrom: a@b.example\r\n\r\nbody\r\n")) == ()
    assert changed(Bytes(BEFORE), Bytes(BEFORE.replace(b"body", b"BODY"))) == ("body changed, 6 octets",)
