"""xtext: what is encoded is decoded to itself, and nothing decodes to a control character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatepost.model import xtext

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126))


@given(PRINTABLE)
def test_decoded_is_what_was_encoded(text: str) -> None:
    written = xtext.encode(text)
    assert xtext.decode(written) == text
    assert written.isascii() and not set(written) & set(" =\r\n\0")


@given(st.text(st.characters(codec="utf-8")))
def test_whatever_is_encoded_stays_one_word(text: str) -> None:
    written = xtext.encode(text)
    assert all(33 <= ord(c) <= 126 and c != "=" for c in written)


@given(st.text(st.sampled_from("+0123456789ABCDEFabcdefx\\{};=\r\n \0ü")))
def test_nothing_decodes_to_a_control_character(text: str) -> None:
    decoded = xtext.decode(text)
    assert decoded is None or (decoded.isascii() and decoded.isprintable())
    original = xtext.original_recipient("utf-8;" + text)
    assert original is None or original[1].isprintable()
