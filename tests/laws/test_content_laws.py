"""Laws of content: what must hold for any octets and any edits."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import fuzz_addresses, fuzz_headers
from gatepost.content.addresses import parse_list
from gatepost.content.headers import HeaderScanner, Section, read_section
from gatepost.content.mime import MimeLimits, Walk
from gatepost.content.pieces import crlf, has_bare_line_end
from gatepost.content.transfer import decode, encode
from gatepost.content.values import decode_words, read_value, safe, write_field
from gatepost.content.view import View, render
from gatepost.model import AddHeader, Bytes, ChangeHeader, DeleteHeader, HeaderEdit, ReplaceBody, ReplacePart

# octets as bad peers send them: pieces of mail, in and out of order, mixed with noise
FIELDS = (
    *(
        b"Subject: x",
        b"From: a@b",
        b"From a@b Mon",
        b"X-Route: y",
        b"X: =?utf-8?q?a=0A?=",
        b"no colon",
        b" folded",
        b"X :",
    ),
    *(b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: multipart/digest; boundary=c"),
    *(b"Content-Type: message/rfc822", b"Content-Type: text/plain; name*0*=utf-8''%2F", b"MIME-Version: 1.0"),
    *(b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: quoted-printable"),
    *(b"Authentication-Results: mx.example.org; x", b'Content-Disposition: attachment; filename="../x"'),
)
LINES = (b"--b", b"--b--", b"--c", b"--c--", b"--b ", b"--bb", b"", b"", b"aGVsbG8=", b"J=C3=B6 =", b"x" * 1100, b".")
NOISE = (b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"--", b"a", b"\0", b"\xff", b'"', b"(", b"=", b"=?utf-8?b?")
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""])
PIECES = st.one_of(
    st.tuples(st.sampled_from(FIELDS), ENDS).map(b"".join),
    st.tuples(st.sampled_from(LINES), ENDS).map(b"".join),
    st.sampled_from(NOISE),
    st.binary(max_size=4),
)
MULTIPART = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
MAIL = st.tuples(
    st.sampled_from([b"", b"", b"Subject: x\r\n", MULTIPART, MULTIPART]), st.lists(PIECES, max_size=30)
).map(lambda drawn: drawn[0] + b"".join(drawn[1]))
NAMES = st.sampled_from(["Subject", "SUBJECT", "From", "X-New", "x-route", "Content-Type"])
VALUES = st.text(max_size=200) | st.sampled_from(["a\r\nBcc: x", "\n\n.\r\n", "=?utf-8?q?=0A?=", "ä" * 100, "w " * 90])
EDITS: st.SearchStrategy[HeaderEdit] = st.one_of(
    st.builds(AddHeader, NAMES, VALUES, st.none() | st.integers(-2, 99)),
    st.builds(ChangeHeader, NAMES, VALUES, st.integers(-1, 3)),
    st.builds(DeleteHeader, NAMES, st.none() | st.integers(-1, 3)),
)


def law(*drawn: st.SearchStrategy[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`given`, without a deadline: other tests may be running beside."""
    return lambda test: settings(deadline=None)(given(*drawn)(test))


def bare_line_ends(octets: bytes) -> int:
    pairs = octets.count(b"\r\n")
    return octets.count(b"\r") - pairs + octets.count(b"\n") - pairs


@law(MAIL)
def test_R10_any_octets_are_read_whole_and_in_bounds(data: bytes):
    fuzz_headers.one_input(data)


@law(st.binary(max_size=300) | st.text(alphabet='a@.:<>(),;"\\ \r\n\0äé[]1', max_size=100).map(str.encode))
def test_G1_any_octets_are_an_address_or_none(data: bytes):
    fuzz_addresses.one_input(data)


@law(MAIL, st.integers(1, 20))
def test_the_scanner_and_the_reader_agree_wherever_the_content_is_cut(data: bytes, size: int):
    scanner = HeaderScanner()
    found = None
    for at in range(0, len(data), size):
        if (found := scanner.feed(data[at : at + size])) is not None:
            break
    found = found or scanner.end()
    assert isinstance(found, Section)
    assert found.raw == read_section(Bytes(data)).raw


@law(MAIL, st.lists(EDITS, max_size=5))
def test_I1_header_edits_keep_all_other_octets_and_bring_no_bare_line_end(data: bytes, edits: list[HeaderEdit]):
    section = read_section(Bytes(data))
    body = data[len(section.raw) :]
    edited = b"".join(render(Bytes(data), edits))
    again = read_section(Bytes(edited))
    assert edited.endswith(section.blank + body)
    assert bare_line_ends(edited) <= bare_line_ends(data)
    touched = {edit.name.lower().encode() for edit in edits}
    kept = [
        field.rstrip(b"\r\n") for name, field in zip(section.names, section.fields, strict=True) if name not in touched
    ]
    assert [f.rstrip(b"\r\n") for n, f in zip(again.names, again.fields, strict=True) if n not in touched] == kept


@law(MAIL, st.lists(EDITS, max_size=5))
def test_a_view_and_its_rendering_read_alike(data: bytes, edits: list[HeaderEdit]):
    view = View(Bytes(data), edits)
    assert list(View(view.blob).headers) == list(view.headers)
    assert view.blob.size == len(b"".join(view.blob.chunks()))


@law(VALUES, st.booleans())
def test_I1_a_written_value_is_one_field_and_reads_as_it_was_meant(value: str, utf8: bool):
    octets = write_field("X-Any", value, utf8=utf8)
    fuzz_addresses.one_field(octets)
    assert len(read_section(Bytes(octets + b"Next: y\r\n\r\n")).fields) == 2
    if "=?" not in value:
        assert read_value(octets.partition(b":")[2]) == safe(value)


@law(st.text(alphabet="aä€😀 ", min_size=1, max_size=300))
def test_the_standard_library_reads_our_encoded_words(value: str):
    octets = write_field("Subject", value)
    message = email.message_from_bytes(octets + b"\r\n", policy=email.policy.default)
    assert " ".join(message["Subject"].split()) == " ".join(value.split())


@law(MAIL, st.integers(1, 30), st.integers(1, 30))
def test_R10_the_structure_doesnt_depend_on_how_the_body_is_cut(data: bytes, one: int, other: int):
    def walk(size: int) -> tuple[list[tuple[int, int, int, str]], bool]:
        section = read_section(Bytes(data))
        body = data[len(section.raw) :]
        walking = Walk(section, MimeLimits(parts=8, depth=3, header=64, false_delimiters=5))
        for at in range(0, len(body), size):
            if not walking.feed(body[at : at + size]):
                break
        found = walking.end(len(body))
        return [(leaf.head, leaf.start, leaf.stop, leaf.type) for leaf in found.leaves], found.cut

    assert walk(one) == walk(other)


@law(MAIL, st.integers(0, 5), st.binary(max_size=60) | MAIL)
async def test_a_replaced_part_is_read_back_and_the_others_stay(data: bytes, index: int, content: bytes):
    data = b"".join(crlf([data]))
    before = [(part.type, part.read(9999)) async for part in View(Bytes(data)).parts()]
    view = View(Bytes(data), [ReplacePart(index, content)])
    assert bare_line_ends(b"".join(view.blob.chunks())) == 0
    if index >= len(before):
        assert b"".join(view.blob.chunks()) == data
        return
    after = [(part.type, part.read(9999)) async for part in view.parts()]
    assert after == [*before[:index], (before[index][0], content), *before[index + 1 :]]


@law(MAIL, MAIL)
def test_F4_a_plugins_body_has_only_whole_line_ends(data: bytes, body: bytes):
    edited = b"".join(render(Bytes(data), [ReplaceBody(Bytes(body))]))
    assert edited.endswith(b"".join(crlf([body])))
    assert bare_line_ends(edited) <= bare_line_ends(read_section(Bytes(data)).raw)


@law(st.lists(st.binary(max_size=9) | st.sampled_from([b"\r", b"\n", b"\r\n"]), max_size=20))
def test_F4_line_ends_are_whole_wherever_the_content_is_cut(pieces: list[bytes]):
    whole = b"".join(pieces)
    assert b"".join(crlf(pieces)) == b"".join(crlf([whole]))
    assert has_bare_line_end(pieces) == has_bare_line_end([whole]) == (bare_line_ends(whole) > 0)


@law(st.binary(max_size=300) | MAIL, st.sampled_from(["base64", "quoted-printable", "7bit", "8bit", ""]), st.booleans())
def test_what_is_encoded_is_decoded(content: bytes, encoding: str, text: bool):
    octets, used = encode(content, encoding, text=text, outside=[b"b"])
    assert bare_line_ends(octets) == 0
    assert not any(line.startswith(b"--b") for line in octets.split(b"\r\n"))
    assert decode(Bytes(octets), 0, len(octets), used, 10**6) == (b"".join(crlf([content])) if text else content)


@law(st.text(max_size=300))
def test_text_without_encoded_words_is_left_alone(text: str):
    assert decode_words(text.replace("=?", "")) == text.replace("=?", "")


@law(
    st.lists(st.tuples(st.text('abc ö."\\,<>@()', max_size=9), st.from_regex(r"[a-z]{1,5}@[a-z]{1,5}", fullmatch=True)))
)
def test_R12_address_lists_written_properly_are_read_properly(people: list[tuple[str, str]]):
    def quoted(name: str) -> str:
        return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

    found = parse_list(", ".join(f"{quoted(name)} <{address}>" for name, address in people))
    assert found.is_clean
    assert [(m.name, m.address) for m in found.mailboxes] == [(" ".join(n.split()), a) for n, a in people]
