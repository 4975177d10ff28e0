"""What the watch says to dialogues: one that is right is quiet, and each wrong has its words."""

import pytest

from gatepost.testing.chaos import Expected, Mode, Watch

BEGUN = "S: 220 mx|C: EHLO x|S: 250 mx|"
MAIL = BEGUN + "C: MAIL FROM:<a@b>|S: 250 ok|C: RCPT TO:<c@d>|S: 250 ok|"
DATA = MAIL + "C: DATA|S: 354 go|"


def seen(dialogue: str, expected: Expected | None = None) -> Watch:
    """Lines parted by |, each "C: …" or "S: …", with CRLF; "C> …" and "S> …" without; "close", "hang up", "tls"."""
    watch = Watch(expected)
    for line in dialogue.split("|"):
        who, end = line[:2], b"\r\n" if line[1:2] == ":" else b""
        octets = line[3:].encode("latin-1") + end
        match who:
            case "C:" | "C>":
                watch.sent(octets)
            case "S:" | "S>":
                watch.heard(octets)
            case "cl":
                watch.closed()
            case "ha":
                watch.hung_up()
            case "tl":
                watch.handshake_done()
            case "si":
                watch.silent(9)
    return watch


@pytest.mark.parametrize(
    "dialogue",
    [
        BEGUN + "C: QUIT|S: 221 bye|close",
        BEGUN + "C: NOOP|S: 421 going down|close",
        "S: 421 too many|close",
        "S: 554 no|C: MAIL FROM:<a@b>|S: 503 no|C: QUIT|S: 221 bye|close",
        "C: EHLO early|S: 554 wait|close",
        DATA + "C: x|C: .|S: 250 taken|C: QUIT|S: 221 bye|close",
        DATA + "C: .|S: 250 taken",
        DATA + "C> x\r\n.|C> \r|C> \n|S: 250 taken",
        DATA + "C> x\n.\n.\r\n.\r|C> \n|S: 550 bare",
        MAIL + "C: DATA|C: x|C: .|S: 503 too early|close",
        MAIL + "C> BDAT 4\r\nab|C> cd|S: 250 4|C: BDAT 0 LAST|S: 250 taken",
        MAIL + "C> BDAT 2 LAST\r\nabNOOP\r\n|S: 250 taken|S: 250 noop",
        MAIL + "C: BDAT x|S: 501 no|close",
        BEGUN + "C> " + "x" * 13000 + "|S: 500 too long|C> yy\r\nNOOP\r\n|S: 250 ok",
        BEGUN + "C: AUTH LOGIN|S: 334 VXNlcm5hbWU6|C: YQ==|S: 334 UGFzc3dvcmQ6|C: *|S: 501 cancelled|C: NOOP|S: 250 ok",
        BEGUN + "C: AUTH PLAIN|C: NOOP|S: 503 not yet|close",
        BEGUN + "C: STARTTLS|S: 220 go|tls|C: EHLO x|S: 250-mx|S: 250 SIZE",
        BEGUN + "C: STARTTLS|S: 220 go|close",
        "S: 220 mx|C: GET / HTTP/1.1|S: 502 no|close",
        "S: 220 mx|C: \x16\x03|S: 500 no|close",
        "S: 220 mx|C> \x16\x03\x01|S: 500 no|close",
        BEGUN + "C: MAIL FROM:<a@b> PRDR|S: 250 ok|C: RCPT TO:<c@d>|S: 250 ok|C: RCPT TO:<e@f>|S: 250 ok|"
        "C: DATA|S: 354 go|"
        "C: .|S: 353 each|S: 250 c|S: 550 e|S: 250 all|C: NOOP|S: 250 ok",
        BEGUN + "C: NOOP|hang up|close",
        BEGUN + "C: NOOP\tx|S: 500 what?",
    ],
)  # fmt: skip
def test_what_is_right(dialogue):
    watch = seen(dialogue)
    assert watch.findings == []
    assert not watch.owes


@pytest.mark.parametrize(
    ("dialogue", "said"),
    [
        (BEGUN + "C: NOOP|S: 250 ok|S: 250 ok", "nobody asked for: 250 ok"),
        (BEGUN + "S: 250 ok", "nobody asked for"),
        (BEGUN + "C: NOOP|close", "closed without 221 or 421"),
        (BEGUN + "C: NOOP|S: 250 ok|close", "closed without 221 or 421"),
        (BEGUN + "C: NOOP|S> 250 o|close", "closed within a reply: 250 o"),
        (BEGUN + "C: NOOP|silent", "no reply within 9 s to NOOP"),
        ("silent", "no reply within 9 s to the connection"),
        ("S: 250 mx", "no banner"),
        ("S: 220-mx|S: 221 mx", "two codes"),
        ("S> 220 mx\n", "LF alone"),
        ("S> 220 m\rx\r\n", "control character"),
        ("S: 220 m\0x", "control character"),
        ("S> 220 " + "x" * 600, "longer than 512"),
        ("S: 220 " + "x" * 507, "longer than 512"),
        ("S: 120 x", "no code"),
        ("S: 2200 x", "no code"),
        ("S: 220\xe9", "isn't ASCII"),
        (DATA + "C> x\n.\n|S: 250 taken", "the content hasn't ended, and is answered: 250"),
        (DATA + "C: x|S: 550 no", "the content hasn't ended"),
        (DATA + "C: .|S: 354 go", "content is answered: 354"),
        (DATA + "C: .|S: 250 taken|S: 250 again", "more than one reply to the content"),
        (DATA + "C: x|C: .|S: 250 taken|C: RCPT TO:<c@d>|S: 250 ok", "a recipient without a sender"),
        (BEGUN + "C: RCPT TO:<c@d>|S: 250 ok", "a recipient without a sender"),
        (MAIL + "C: MAIL FROM:<a@b>|S: 250 ok", "a sender within a transaction"),
        (MAIL + "C: RSET|S: 250 ok|C: DATA|S: 354 go", "content without a recipient"),
        (BEGUN + "C> BDAT 1\r\nx|S: 250 ok", "a chunk without a recipient"),
        (MAIL + "C> BDAT 5\r\nab|S: 250 ok", "nobody asked for"),
        (BEGUN + "C: NOOP|S: 354 go", "NOOP is answered: 354 go"),
        (BEGUN + "C: QUIT|S: 250 stay", "QUIT is answered"),
        (BEGUN + "C: QUIT|S: 221 bye|S: 250 no", "after the last one"),
        (BEGUN + "C: NOOP " + "x" * 505 + "|S: 500 long", "NOOP of 512 octets"),
        (BEGUN + "C: AUTH LOGIN|S: 334 x|C: *|S: 354 go", "an authentication response is answered"),
        (BEGUN + "C> STARTTLS\r\nNOOP\r\n|S: 220 go|S: 250 noop", "where a handshake is due"),
        (BEGUN + "C> STARTTLS\r\nNOOP\r\n|S: 220 go|tls|S: 250 noop", "nobody asked for"),
        ("S: 220 mx|C: RCPT TO:<c@d>|S: 503 no|close", "closed without 221 or 421"),
    ],
)  # fmt: skip
def test_what_is_wrong(dialogue, said):
    watch = seen(dialogue)
    assert len(watch.findings) == 1
    assert said in watch.findings[0]
    assert not watch.owes


def test_replies_that_are_owed():
    watch = seen(BEGUN + "C: NOOP|C: RSET")
    assert watch.owes
    watch.heard(b"250 one\r\n250-t")
    assert watch.owes
    watch.heard(b"wo\r\n250 two\r\n")
    assert not watch.owes
    assert watch.codes == [220, 250, 250, 250]
    assert str(watch).splitlines()[-1] == "S: 250 one\\r\\n250-two\\r\\n250 two\\r\\n"


def test_what_plugins_may_do():
    plugin = Expected(by_the_book=False, verbs=frozenset({b"XADR"}))
    assert not seen(BEGUN + "C: RCPT TO:<c@d>|S: 250 mine|C: NOOP|S: 550 mine|close", plugin).findings
    watch = seen(BEGUN + "C: XADR|S: 354 lines|C: a|C: b|S: 250 ok|S: 250 and one more", plugin)
    assert watch.mode is Mode.LOOSE and not watch.findings
    assert seen(BEGUN + "C: XADR|S: 354 lines|S> 250 x\n", plugin).findings
    assert seen(BEGUN + "C: XADR|S: 354 lines").findings


def test_proper_content_has_to_be_taken_where_that_is_expected():
    takes_all = Expected(accepts=True)
    assert "proper content" in seen(DATA + "C: x|C: .|S: 550 no", takes_all).findings[0]
    assert not seen(DATA + "C> x\ny\r\n.\r\n|S: 550 no", takes_all).findings
    assert not seen(DATA + "C: " + "x" * 999 + "|C: .|S: 550 no", takes_all).findings


@pytest.mark.parametrize(
    ("dialogue", "is_sure"),
    [
        (DATA + "C: .|S: 250 taken|C: QUIT|S: 221 bye|close", True),
        (BEGUN + "C: XADR|S: 354 lines|S: 421 enough|close", False),
        (
            BEGUN + "C: MAIL FROM:<a@b> PRDR|S: 250|C: RCPT TO:<c@d>|S: 250|C: DATA|S: 354|C: .|S: 353|S: 250|S: 250",
            False,
        ),
        (BEGUN + "C: BDAT x|S: 501 no|S: 421 enough", False),
    ],
)
def test_whether_all_replies_are_known(dialogue, is_sure):
    watch = seen(dialogue, Expected(by_the_book=False, verbs=frozenset({b"XADR"})))
    assert watch.findings == []
    assert watch.is_sure_of_all is is_sure
