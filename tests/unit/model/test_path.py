"""Paths: which addresses are some, how they compare, which patterns fit them (attack G1)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.model import NULL_PATH, AddressError, Path, glob_matches

A64 = "a" * 64
D63 = "d" * 63
D189 = ".".join(["d" * 62] * 3)  # 188 octets

# written → what goes on the wire
SAME = [
    "test@io", "test@iana.org", "t@nominet.org.uk", "test@about.museum", "a@iana.org", "test.test@iana.org",
    "!#$%&`*+/=?^`{|}~@iana.org", "123@iana.org", "test@123.com", "test@iana.123a", "test@mason-dixon.com",
    "test@c--n.com",
    "test@xn--hxajbheg2az3al.xn--jxalpdlp", "xn--test@iana.org", f"{A64}@iana.org", f"test@{D63}.com",
    f"a@{D189}.{'d' * 62}",
    '"test test"@iana.org', '"\\""@iana.org', '"\\\\"@iana.org', '".a"@iana.org', '"a.."@iana.org',
    "test@[255.255.255.255]",
    "test@[IPv6:1111:2222:3333:4444:5555:6666:7777:8888]", "test@[IPv6:::1]", "o'brien@iana.org", "a@b2", "a@2b.c3",
    "ann/x@iana.org", "ann+tag@iana.org", "-ann@iana.org", "a%b@iana.org", "a!b@iana.org", "#@iana.org",
]  # fmt: skip
OTHERWISE = [
    ('"test"@iana.org', "test@iana.org"),
    ('"te\\st"@iana.org', "test@iana.org"),
    ("test@IANA.org", "test@iana.org"),
    ("test@[ipv6:2001:DB8:0::1]", "test@[IPv6:2001:db8::1]"),
    ("jürgen@exämple.org", "jürgen@xn--exmple-cua.org"),
    ("a@EXÄMPLE.org", "a@xn--exmple-cua.org"),
    ("a@例え.テスト", "a@xn--r8jz45g.xn--zckzah"),
]
NONE = [
    "test", "@", "test@", "@iana.org", "test@iana..org", ".test@iana.org", "test.@iana.org", "test..test@iana.org",
    "test@.iana.org", "test@iana.org.", "test@-iana.org", "test@iana-.org", "test\\@test@iana.org",
    "test@test@iana.org",
    "test\x00@iana.org", "test test@iana.org", "(c)test@iana.org", "test@iana.org(c)", "test@iana/x.org",
    "test@i_a.org",
    f"{A64}b@iana.org", f"test@{D63}d.com", f"{A64}@{D189}.dd", f"a@{'d.' * 127}dd", '"test@iana.org', 'test"@iana.org',
    '"test"test@iana.org', '"test""test"@iana.org', '"test".test@iana.org', '""@iana.org', '"\x07"@iana.org',
    '"a\\"@iana.org',
    '"a\nb"@iana.org', "test@192.0.2.1", "test@1", "test@a.1", "test@[1.2.3]", "test@[1.2.3.256]", "test@[01.2.3.4]",
    "test@[IPv6:1::2::3]", "test@[IPv6:fe80::1%eth0]", "test@[IPv6:1.2.3.4]", "test@[::1]",
    "test@[RFC-5322-domain-literal]",
    "test@[1.2.3.4", "test@1.2.3.4]", "test@iana.org\n", "test\r\n@iana.org", "an\u200bn@iana.org",
    "an\u2060n@iana.org",
    "a@ia\u200bna.org\u2060\u0000", "a\ud800@iana.org", "postmaster", "a,b@iana.org", "<a@iana.org>",
    "a@iana.org,b@iana.org",
    " a@iana.org", "a@iana.org ", "a@\u2488com", "a@xn--\u00e4.org",
]  # fmt: skip


@pytest.mark.parametrize("text", SAME)
def test_G1_addresses_that_stay_as_they_are(text: str) -> None:
    path = Path.parse(text)
    assert path.address == text and path.raw == text and path
    assert Path.parse(path.address) == path


@pytest.mark.parametrize(("text", "address"), OTHERWISE)
def test_G1_addresses_written_in_their_one_form(text: str, address: str) -> None:
    path = Path.parse(text)
    assert path.address == address and path.raw == text
    assert Path.parse(path.address) == path


@pytest.mark.parametrize("text", NONE)
def test_G1_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressError):
        Path.parse(text)


def test_null_path_and_bare_postmaster() -> None:
    assert Path.parse("") is NULL_PATH and not NULL_PATH and NULL_PATH.address == ""
    assert Path.parse("PostMaster", bare_postmaster=True).address == "PostMaster"
    with pytest.raises(AddressError):
        Path.parse("webmaster", bare_postmaster=True)


def test_only_the_local_part_needs_smtputf8() -> None:
    assert Path.parse("jürgen@example.org").needs_smtputf8
    assert not Path.parse("a@exämple.org").needs_smtputf8


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [("*@example.org", True), ("ANN@*", True), ("ann*", True), ("*", True), ("ann@example.org", True), ("*@*.org",
     True),
     ("a*n@ex*le.org", True), ("bob@*", False), ("*@example.com", False), ("*@example.org.*", False), ("an@*", False)],
)  # fmt: skip
def test_patterns(pattern: str, fits: bool) -> None:
    assert Path.parse("Ann@Example.org").matches(pattern) is fits


def test_R12_patterns_and_addresses_take_linear_time() -> None:
    begun = time.process_time()
    assert not glob_matches("*a" * 50 + "*b", "a" * 5000)
    for text in ("a." * 50_000 + "@", '"' + "\\a" * 50_000, "a@" + "a-" * 50_000, "a@" + "1." * 50_000, "@" * 100_000):
        with pytest.raises(AddressError):
            Path.parse(text)
    assert time.process_time() - begun < 2


@given(st.text(max_size=40) | st.from_regex(r'\A("[^"]*"|[a-zä.]+)@(\[[0-9a-fIPv:.]+\]|[a-zä0-9.-]+)\Z'))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        path = Path.parse(text)
    except AddressError as error:
        assert str(error).isprintable()
        return
    assert Path.parse(path.address) == path
    assert path.address.isprintable() and path.domain.isascii()
