"""Header sections: where they end, what stands in them, and how long looking takes."""

from __future__ import annotations

import time

import pytest

from gatepost.content.headers import HeaderScanner, Limits, Section, TooLarge, bridge, read_section
from gatepost.content.values import decode_words, read_value, safe, write_field
from gatepost.model import Bytes

MESSAGE = b"Received: from a\r\n\tby b\r\nSubject: hello\r\nsubject : again\r\n\r\nbody\r\n\r\nmore\r\n"


def took_ms(start: float) -> float:
    return (time.process_time() - start) * 1000


def test_the_section_ends_after_the_first_empty_line():
    section = read_section(Bytes(MESSAGE))
    assert section.raw == MESSAGE[: MESSAGE.index(b"body")]
    assert section.names == [b"received", b"subject", b"subject"]
    assert section.raw_values("SUBJECT") == [b" hello", b" again"]
    assert section.raw_values("received") == [b" from a\r\n\tby b"]


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"\r\nbody", b"\nbody", b"Subject: x", b"Subject: x\r\n", b" x\r\n\r\n"]
)
def test_content_without_a_proper_section(content: bytes):
    section = read_section(Bytes(content))
    assert b"".join(section.fields) + section.blank == section.raw
    assert content.startswith(section.raw)


def test_a_section_longer_than_the_first_read_is_found():
    content = b"X: " + b"a" * 100_000 + b"\r\nSubject: y\r\n\r\nbody"
    assert read_section(Bytes(content)).raw == content[:-4]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_scanner_finds_the_same_end_however_the_content_is_cut(size: int):
    scanner = HeaderScanner()
    for at in range(0, len(MESSAGE), size):
        if (found := scanner.feed(MESSAGE[at : at + size])) is not None:
            break
    assert isinstance(found, Section)
    assert found.raw == read_section(Bytes(MESSAGE)).raw


def test_limits_hold_at_their_edge():
    head = b"A: 1\r\nB: 2\r\n\r\n"
    assert isinstance(HeaderScanner(Limits(len(head), 2)).feed(head), Section)
    assert HeaderScanner(Limits(len(head) - 1, 2)).feed(head) == TooLarge("octets", len(head) - 1)
    assert HeaderScanner(Limits(len(head), 1)).feed(head) == TooLarge("fields", 1)
    assert str(TooLarge("fields", 1)) == "the header section has more than 1 fields"


def test_too_much_is_told_before_the_end_has_come():
    scanner = HeaderScanner(Limits(10, 10))
    assert scanner.feed(b"Subject: ") is None
    assert scanner.feed(b"xyz") == TooLarge("octets", 10)


def test_content_that_ends_in_its_header_is_judged_too():
    scanner = HeaderScanner()
    assert scanner.feed(b"Subject: x\r\n") is None
    section = scanner.end()
    assert isinstance(section, Section)
    assert section.names == [b"subject"]


def test_I7_a_mailbox_line_and_lines_without_colon_are_kept_and_not_seen():
    content = b"From ann Mon Nov 24 10:00:00 2026\r\nSubject: x\r\nno colon here\r\nTo: y\r\n\r\nbody"
    section = read_section(Bytes(content))
    assert section.names == [b"", b"subject", b"", b"to"]
    assert b"".join(section.fields) + section.blank + b"body" == content


@pytest.mark.parametrize(
    ("first", "put_between"),
    [
        (b"From a@b Mon", b"X-Mailbox-Line: "),
        (b">From x", b"X-Mailbox-Line: "),
        (b" folded", b"\r\n"),
        (b"\tx", b"\r\n"),
        (b"From: a@b", b""),
        (b"Subject: x", b""),
        (b"\r\nbody", b""),
    ],
)
def test_I7_the_first_line_can_neither_continue_nor_end_our_own_fields(first: bytes, put_between: bytes):
    assert bridge(first) == put_between


@pytest.mark.parametrize(
    "content",
    [
        b"".join(b"X-%d: y\r\n" % n for n in range(100_000)) + b"\r\n",
        b"X: " + b"a" * 10_000_000 + b"\r\n\r\n",
        b"X: a" + b"\r\n b" * 250_000 + b"\r\n\r\n",
        b"a" * 1_000_000 + b" " * 1_000_000 + b"\r\n\r\n",
        b"\n" * 1_000_000,
        b"a\n" * 500_000,
    ],
    ids=["100k fields", "10 MB field", "1 MB folded", "no colon", "empty lines", "no fields"],
)
def test_R9_time_is_linear_in_hostile_headers(content: bytes):
    start = time.process_time()
    section = read_section(Bytes(content))
    assert b"".join(section.fields) + section.blank == section.raw
    for name, raw in zip(section.names[:3], section.fields[:3], strict=True):
        assert name == b"" or read_value(raw) is not None
    assert took_ms(start) < 2000


@pytest.mark.parametrize(
    "part", ["=?a?q?", "=?", "=?utf-8?q?x?= ", "?=", '"', '\\"', "(", "<", " ", "\t", "\r\n ", "é", "=?x?b?====?= "]
)
def test_R12_reading_and_writing_values_is_linear(part: str):
    text = part * (1_000_000 // len(part))
    start = time.process_time()
    read_value(text.encode())
    write_field("X-Long", text[:200_000])
    write_field("To", text[:200_000] + "é")
    assert took_ms(start) < 4000


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b" plain", "plain"),
        (b" a\r\n\tb", "a\tb"),
        (b" =?utf-8?q?J=C3=B6rg_M?= <a@b>", "Jörg M <a@b>"),
        (b" =?utf-8?b?SsO2?= =?utf-8?q?rg?=", "Jörg"),
        (b" =?utf-8?b?Ss?= =?utf-8?q?=C3?= =?utf-8?q?=B6?=", "Jö"),
        (b" =?iso-8859-1?q?=E4?= x =?koi8-r?q?=C1?=", "ä x а"),
        (b" =?no-such?q?x?=", "=?no-such?q?x?="),
        (b" =?utf-8*de?q?x?=", "x"),
        (b" J\xc3\xb6", "Jö"),
        (b" J\xf6", "Jö"),
        (b" =?utf-8?q?a=0D=0ABcc:_x?=", "a Bcc: x"),
        (b" a\x00b\x1b[31mc", "ab[31mc"),
        (b" =?utf-8?b?!!!?=", ""),
    ],
)
def test_values_are_read_as_people_see_them(raw: bytes, text: str):
    assert read_value(raw) == text


def test_unknown_charsets_arent_looked_up():
    """Python's codec registry remembers every name it was asked for, for ever."""
    import encodings

    before = len(encodings._cache)
    for n in range(100):
        decode_words(f"=?x-hostile-{n}?q?x?=")
    assert len(encodings._cache) == before


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        ("plain", b"X: plain\r\n"),
        ("a\r\nBcc: everyone", b"X: a Bcc: everyone\r\n"),
        ("a\n\n b\x00c\x07", b"X: a bc\r\n"),
        ("a\x85b\u2028c\x0bd", b"X: a b c d\r\n"),
        ("", b"X: \r\n"),
        ("Grüße", b"X: =?utf-8?b?R3LDvMOfZQ==?=\r\n"),
        ("to ä ö x", b"X: to =?utf-8?b?w6Qgw7Y=?= x\r\n"),
    ],
)
def test_I1_a_written_value_is_one_field(value: str, octets: bytes):
    assert write_field("X", value) == octets


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        ('"Jörg, M" <a@b>', b"To: =?utf-8?b?SsO2cmcsIE0=?= <a@b>\r\n"),
        ("Jörg<a@b>, Bob <c@d>", b"To: =?utf-8?b?SsO2cmc=?= <a@b>, Bob <c@d>\r\n"),
        ('"Bob X" <a@b>, Jö <c@d>', b'To: "Bob X" <a@b>, =?utf-8?b?SsO2?= <c@d>\r\n'),
    ],
)
def test_only_the_names_in_address_fields_are_encoded(value: str, octets: bytes):
    assert write_field("To", value) == octets


def test_utf8_stays_where_the_message_travels_with_smtputf8():
    assert write_field("X", "Grüße", utf8=True) == "X: Grüße\r\n".encode()


@pytest.mark.parametrize(
    "value", ["word " * 100, "x" * 5000, "ä" * 2000, "ä ö " * 400, "a" + " " * 3000 + "b", "x" * 900 + " y"]
)
@pytest.mark.parametrize("utf8", [False, True])
def test_long_values_are_folded_and_read_back(value: str, utf8: bool):
    octets = write_field("X-Long-Name", value, utf8=utf8)
    lines = octets.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert all(line[:1] in (b" ", b"\t") and line.strip() for line in lines[1:-1])
    assert lines[-1] == b""
    if "   " not in value:
        assert read_value(octets.partition(b":")[2]) == value.strip()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "ä", "x" * 77, "a\0"])
def test_impossible_names_are_told(name: str):
    with pytest.raises(ValueError, match="header name"):
        write_field(name, "x")


def test_safe_leaves_a_clean_value_alone():
    assert safe("Ärger mit\tTab") == "Ärger mit\tTab"
