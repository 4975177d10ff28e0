"""The MIME walk: structure, decoding, and what hostile content costs."""

from __future__ import annotations

import time

import pytest

from gatepost.content import parameters
from gatepost.content.headers import read_section
from gatepost.content.mime import MimeLimits, Structure, Walk
from gatepost.content.transfer import decode, encode
from gatepost.model import Bytes


def walk(content: bytes, limits: MimeLimits | None = None, cut: int = 65536) -> Structure:
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    section = read_section(Bytes(content))
    body = content[len(section.raw) :]
    walk = Walk(section, limits or MimeLimits())
    for at in range(0, len(body), cut):
        if not walk.feed(body[at : at + cut]):
            break
    return walk.end(len(body))


def shape(content: bytes, cut: int = 65536) -> list[tuple[str, bytes]]:
    content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    body = content[len(read_section(Bytes(content)).raw) :]
    return [(leaf.type, body[leaf.start : leaf.stop]) for leaf in walk(content, cut=cut).leaves]


def multipart(boundary: bytes, *parts: bytes, kind: bytes = b"mixed") -> bytes:
    inside = b"".join(b"\n--" + boundary + b"\n" + part for part in parts)
    return b'Content-Type: multipart/%s; boundary="%s"\n\npreamble%s\n--%s--\nepilogue\n' % (
        kind,
        boundary,
        inside,
        boundary,
    )


NESTED = multipart(
    b"a",
    multipart(b"a.b", b"Content-Type: text/plain\n\none", b"Content-Type: text/html\n\n<p>two", kind=b"alternative"),
    b"Content-Type: message/rfc822\n\n" + multipart(b"c", b"\nthree\n--d\nfour"),
    b"Content-Type: application/x; name=y\n\n",
)


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 11, 65536])
def test_leaves_come_depth_first_however_the_body_is_cut(cut: int):
    assert shape(NESTED, cut=cut) == [
        ("text/plain", b"one"),
        ("text/html", b"<p>two"),
        ("text/plain", b"three\r\n--d\r\nfour"),
        ("application/x", b""),
    ]
    assert not walk(NESTED, cut=cut).cut


def test_a_message_without_mime_is_one_leaf():
    assert shape(b"Subject: x\n\nbody\n") == [("text/plain", b"body\r\n")]
    assert shape(b"") == [("text/plain", b"")]
    assert shape(b"Content-Type: nonsense\n\nx") == [("text/plain", b"x")]


@pytest.mark.parametrize(
    ("body", "leaves", "cut"),
    [
        (b"--b\n\none", [b"one"], True),
        (b"--b\n\none\n--b--", [b"one"], False),
        (b"--b\n\none\n--b-- \t\nmore", [b"one"], False),
        (b"--b \n\none\n--b--\n", [b"one"], False),
        (b"--b\n\none\n--bx\n--b--\n", [b"one\r\n--bx"], False),
        (b"--b\n--b\n\n--b--\n", [b"", b""], False),
        (b"--b\nContent-Type: text/html\n--b--\n", [b""], False),
        (b"--b\nContent-Type: text/html", [b""], True),
        (b"--b\nContent-Type: text/html\n", [b""], True),
        (b"--b", [b""], True),
        (b"--b--\n", [], False),
        (b"nothing here", [], True),
        (b"", [], True),
        (b"--b\n\n" + b"--" + b"y" * 2000 + b"\n--b--\n", [b"--" + b"y" * 2000], False),
    ],
)
@pytest.mark.parametrize("pieces", [1, 65536])
def test_delimiters(body: bytes, leaves: list[bytes], cut: bool, pieces: int):
    content = b"Content-Type: multipart/mixed; boundary=b\n\n" + body
    assert [octets for _, octets in shape(content, cut=pieces)] == leaves
    assert walk(content, cut=pieces).cut is cut


@pytest.mark.parametrize(
    "content",
    [
        b"Content-Type: multipart/mixed\n\n--b\n\nx",
        b'Content-Type: multipart/mixed; boundary=""\n\n--\n\nx',
        b"Content-Type: multipart/mixed; boundary=" + b"b" * 201 + b"\n\nx",
        b"Content-Type: text/plain\nContent-Type: text/html\n\nx",
        multipart(b"b", b"\nx").replace(b"\n\npre", b"\nContent-Transfer-Encoding: base64\n\npre"),
        multipart(b"a", multipart(b"b", b"\nx").replace(b"\n--b--", b"")),
    ],
    ids=["no boundary", "empty boundary", "long boundary", "two types", "encoded multipart", "no inner end"],
)
def test_what_readers_take_differently_is_marked(content: bytes):
    assert walk(content).cut


@pytest.mark.parametrize(("lines", "cut"), [(2, False), (3, True)])
def test_R10_lines_that_only_look_like_delimiters_are_limited(lines: int, cut: bool):
    content = multipart(b"b", b"\n" + b"--x\n" * lines + b"end", b"\nmore")
    structure = walk(content, MimeLimits(false_delimiters=2))
    assert structure.cut is cut
    assert len(structure.leaves) == (1 if cut else 2)


def test_a_digest_holds_messages():
    assert shape(multipart(b"b", b"\nSubject: x\n\nbody", kind=b"digest")) == [("text/plain", b"body")]


def test_an_encoded_message_is_a_leaf():
    content = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogeA0KDQo=\n"
    assert [kind for kind, _ in shape(content)] == ["message/rfc822"]


def cpu_s(content: bytes) -> tuple[float, Structure]:
    start = time.process_time()
    structure = walk(content)
    return time.process_time() - start, structure


@pytest.mark.parametrize(
    ("content", "leaves"),
    [
        (b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(10_000)), 1),
        (multipart(b"b", *[b"\nx"] * 10_000), 999),
        (multipart(b"b", *[b"Content-Type: multipart/mixed; boundary=c\n\n--c--"] * 10_000), 0),
        (b"Content-Type: message/rfc822\n\n" * 10_000, 1),
        (multipart(b"b" * 1_000_000, b"\nx"), 1),
        (b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--\n" * 1_000_000, 0),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + b"X: y\n" * 200_000, 1),
        (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + b"--x: y\n" * 200_000, 1),
        (b"Content-Type: multipart/mixed; " + b"boundary=b;" * 100_000 + b"\n\nx", 0),
        (b"Content-Type: text/plain; " + b"a*0*=" * 100_000 + b"(" * 100_000 + b"\n\nx", 1),
        (multipart(b"b", *[b"Content-Type: message/rfc822\n\n" * 60] * 300), 19),
    ],
    ids=[
        "10k nested",
        "10k parts",
        "10k containers",
        "10k messages in messages",
        "1 MB boundary",
        "false delimiters",
        "endless part header",
        "false delimiters in a header",
        "100k parameters",
        "comments",
        "deep messages, often",
    ],
)  # fmt: skip
def test_R10_hostile_structures_are_cut_in_bounded_time(content: bytes, leaves: int):
    spent, structure = cpu_s(content)
    assert len(structure.leaves) == leaves
    assert structure.cut or content.startswith(b"Content-Type: text/plain")
    assert spent < 1.5


@pytest.mark.parametrize(
    ("encoding", "encoded", "decoded"),
    [
        ("base64", b"aGVs\r\nbG8=\r\n", b"hello"),
        ("base64", b"a G*V!s\nbG8", b"hello"),
        ("base64", b"aGVsbG8=aGVsbG8=", b"hello"),
        ("base64", b"aGVsbG8ga", b"hello "),
        ("base64", b"", b""),
        ("base64", b"====", b""),
        ("quoted-printable", b"J=C3=B6rg =\r\nx=3D\r\n", "Jörg x=\r\n".encode()),
        ("quoted-printable", b"=ZZ =", b"=ZZ "),
        ("x-unknown", b"as it is", b"as it is"),
    ],
)
def test_decoding_takes_what_mailers_write(encoding: str, encoded: bytes, decoded: bytes):
    assert decode(Bytes(b"<" + encoded + b">"), 1, 1 + len(encoded), encoding, 1000) == decoded
    assert decode(Bytes(encoded), 0, len(encoded), encoding, 3) == decoded[:3]
    assert decode(Bytes(encoded), 0, len(encoded), encoding, 0) == b""


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
@pytest.mark.parametrize("content", [b"\0\1\xff" * 100_000, "Zeile mit ä\r\n".encode() * 30_000, b"x" * 200_000])
@pytest.mark.parametrize("text", [False, True])
def test_what_is_encoded_is_decoded_across_pieces(encoding: str, content: bytes, text: bool):
    octets, used = encode(content, encoding, text=text)
    assert used == encoding
    assert max(map(len, octets.split(b"\r\n"))) <= 76
    assert octets.replace(b"\r\n", b"").count(b"\n") == octets.replace(b"\r\n", b"").count(b"\r") == 0
    assert decode(Bytes(octets), 0, len(octets), encoding, 10**7) == content


def test_an_endless_quoted_printable_line_is_decoded_in_pieces():
    octets = b"=C3=A4" * 100_000
    assert decode(Bytes(octets), 0, len(octets), "quoted-printable", 10**7) == b"\xc3\xa4" * 100_000


def test_decoding_stops_at_the_limit():
    """R11: what is read is what was asked for, not what a part could become."""
    reads: list[int] = []

    class Counting(Bytes):
        def read(self, offset: int = 0, length: int | None = None) -> bytes:
            reads.append(offset)
            return super().read(offset, length)

    assert len(decode(Counting(b"QUJD" * 1_000_000), 0, 4_000_000, "base64", 100)) == 100
    assert len(reads) == 1


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        ('text/plain; charset="utf-8"', "text/plain", {"charset": "utf-8"}),
        ("Text/HTML;Charset=x ; y = z", "text/html", {"charset": "x", "y": "z"}),
        (r'a/b; n="a \"b\" ;c"', "a/b", {"n": 'a "b" ;c'}),
        ("a/b (comment; n=1); n=2", "a/b", {"n": "2"}),
        ('a/b; n="(no comment)"', "a/b", {"n": "(no comment)"}),
        ("a/b; n*=utf-8'de'J%C3%B6", "a/b", {"n": "Jö"}),
        ("a/b; n*0*=iso-8859-1''J%F6; n*1=rg; n*2*=%21", "a/b", {"n": "Jörg!"}),
        ("a/b; n*1=b; n*0=a", "a/b", {"n": "ab"}),
        ("a/b; n*1=b", "a/b", {"n": ""}),
        ("a/b; n*0=a; n*2=c", "a/b", {"n": "a"}),
        ("a/b; n=1; n=2", "a/b", {"n": "1"}),
        ("a/b; n*x=1; =2; n", "a/b", {}),
        ('a/b; n="unterminated', "a/b", {"n": "unterminated"}),
        ("", "", {}),
    ],
)
def test_parameters(value: str, kind: str, found: dict[str, str]):
    assert parameters.parse(value) == (kind, found)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.pdf", "a.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\dir\\a.exe", "a.exe"),
        ("=?utf-8?q?x/J=C3=B6.pdf?=", "Jö.pdf"),
        ("a\0b\r\n.exe", "ab .exe"),
        ("..", None),
        ("dir/", None),
        ("x" * 300, "x" * 255),
    ],
)
def test_I10_file_names_lose_their_directories(name: str, shown: str | None):
    assert parameters.base_name(name) == shown


def test_encoded_words_cant_bring_parameters():
    content = b'Content-Type: text/plain; name="=?utf-8?q?x=22=3B_boundary=3Dy?="\n\nx'
    (leaf,) = walk(content).leaves
    assert set(leaf.parameters) == {"name"}
