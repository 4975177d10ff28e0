"""What others publish is read or refused, and never ends in anything else: TLSA, MTA-STS, TLSRPT, certificates on the
wire, names.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatepost.delivery.tls_reports import report_places
from gatepost.net.dane import Tlsa, names_match, usable
from gatepost.net.glance import certificates
from gatepost.net.mta_sts import Policy, PolicyInvalid, policy_id

NUMBERS = st.integers(0, 255) | st.integers(0, 3)
RECORDS = st.builds(Tlsa, NUMBERS, NUMBERS, NUMBERS, st.binary(max_size=80) | st.binary(min_size=32, max_size=32))
LABELS = st.from_regex(r"[a-z0-9-]{1,5}", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@given(st.lists(RECORDS, max_size=6), st.binary(max_size=300))
def test_records_are_usable_or_not_and_match_or_dont(records: list[Tlsa], certificate: bytes) -> None:
    for record in usable(records):
        assert record in records
        assert record.usage in (2, 3)
        assert isinstance(record.matches(certificate), bool)
    assert {(one.usage, one.selector) for one in usable(records)} == {
        (one.usage, one.selector) for one in records if one.is_usable
    }


@given(RECORDS)
def test_a_record_is_read_as_it_is_written(record: Tlsa) -> None:
    assert Tlsa.parse(str(record)) == record


@given(st.text(max_size=60))
def test_any_text_is_a_record_or_none(text: str) -> None:
    record = Tlsa.parse(text)
    assert record is None or isinstance(record.is_usable, bool)


_LINES = st.sampled_from(["version: STSv1", "mode: enforce", "mode: testing", "mx: a.example", "mx: *.b", "max_age: 9"])


@given(st.lists(_LINES | st.text(max_size=30), max_size=9).map("\n".join))
def test_a_policy_is_read_or_invalid(text: str) -> None:
    try:
        policy = Policy.parse(text)
    except PolicyInvalid:
        return
    assert Policy.parse("\r\n".join(policy.lines)) == policy


@given(NAMES, NAMES)
def test_a_wildcard_of_a_policy_and_of_a_certificate_is_one_label(name: str, other: str) -> None:
    policy = Policy.parse(f"version: STSv1\nmode: enforce\nmx: *.{name}\nmax_age: 1") if _is_host(name) else None
    label, _, above = other.partition(".")
    is_below = bool(label) and above == name
    assert names_match([f"*.{name}"], [other]) == is_below
    if policy is not None:
        assert policy.admits(other) == is_below


def _is_host(name: str) -> bool:
    return not any(label.startswith("-") or label.endswith("-") for label in name.split("."))


@given(
    st.binary(max_size=400) | st.binary(max_size=200).map(lambda data: b"\x16\x03\x03\x00\xc8\x0b\x00\x00\xc4" + data)
)
def test_any_octets_have_certificates_or_none(records: bytes) -> None:
    assert sum(map(len, certificates(records))) <= len(records)


@given(st.lists(st.text(max_size=40).map("v=STSv1; id=".__add__) | st.text(max_size=40), max_size=3))
def test_an_id_is_plain(records: list[str]) -> None:
    found = policy_id(records)
    assert found is None or (found.isascii() and found.isalnum() and len(found) <= 32)


@given(st.lists(st.text(max_size=60).map("v=TLSRPTv1; rua=".__add__), min_size=1, max_size=1))
def test_places_are_plain(records: list[str]) -> None:
    for place in report_places(records):
        assert place.isascii()
        assert place.isprintable()
        assert place.startswith(("mailto:", "https:"))
