"""What names say, and what they can't be brought to say."""

import pytest

from gatepost.store.mailbox_names import base_of, delivered_at, octets_of, sent_size, stored_size, uid_of
from gatepost.store.mailboxes import Entry, printable


@pytest.mark.parametrize(
    "name, stored, sent, when",
    [
        ("1790000000.T-1R0.mx,S=51,W=56", 51, 56, 1_790_000_000_000_000),
        ("1790000000.T-1R0.mx,W=56,S=51", 51, 56, 1_790_000_000_000_000),
        ("1790000000.M12P34.host,S=51", 51, None, 1_790_000_000_000_012),
        ("1790000000.M999999P34Q2.host", None, None, 1_790_000_000_999_999),
        ("1790000000.M1234567P34.host", None, None, 1_790_000_000_000_000),
        ("1790000000_0.cur2.host", None, None, None),
        ("mail.eml,W=7", None, 7, None),
        ("1.x,W=", None, None, 1_000_000),
        ("1.x,W=-5", None, None, 1_000_000),
        ("1.x,W=5x,S=007", 7, 5, 1_000_000),
        ("1.x,W=99999999999999999999", None, None, 1_000_000),
        ("1.x,W=\u0663", None, None, 1_000_000),
        ("123456789012.x", None, None, None),
        ("\u0661.x", None, None, None),
        ("", None, None, None),
    ],
)
def test_what_a_base_name_says(name, stored, sent, when):
    assert (stored_size(name), sent_size(name), delivered_at(name)) == (stored, sent, when)


def test_flags_are_no_part_of_the_base_name():
    assert base_of("1.x,W=5:2,S") == base_of("1.x,W=5:2,") == base_of("1.x,W=5") == "1.x,W=5"


@pytest.mark.parametrize("name", ["1.x", "\udcff\udc80", "a" * 255, ":", "ä"])
def test_a_unique_id_fits_whatever_the_name(name):
    uid = uid_of(octets_of(name))
    assert len(uid) == 32 and set(uid) <= set("0123456789abcdef")


def test_a_unique_id_is_the_same_in_every_version_of_this_program():
    assert uid_of(b"1790000000.T-1R0.mx,S=51,W=56") == "738e00ec06ff126914b19997e3928b6e"


def test_a_name_for_logs_is_printable():
    entry = Entry(1, "u", 3, "new/1.\udcff\x1b[31m\n<x>:2,S")
    assert entry.name == "1.??[31m?<x>"
    assert printable("grün\r\n") == "grün??"
