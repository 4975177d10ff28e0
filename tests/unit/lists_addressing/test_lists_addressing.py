"""A list's addresses: each is recognised, nothing else is, and what is signed can't be made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.lists.addressing import (
    Purpose,
    address_for,
    bounced_member,
    bounces_address,
    covers,
    decided_ticket,
    decision_address,
    purpose_of,
    sign,
    unsubscribe_token,
    unsubscribing_member,
)
from gatepost.model import Path, Ticket
from gatepost.store.lists_facts import MailingList

NEWS = MailingList("news", "News@example.org")
SECRET = b"s" * 32
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]?[a-z0-9]){0,10}", fullmatch=True)


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("news@example.org", (Purpose.POST, "")),
        ("NEWS@EXAMPLE.ORG", (Purpose.POST, "")),
        ("news-owner@example.org", (Purpose.OWNER, "")),
        ("News-Request@example.org", (Purpose.REQUEST, "")),
        ("news-subscribe@example.org", (Purpose.SUBSCRIBE, "")),
        ("news-unsubscribe@example.org", (Purpose.UNSUBSCRIBE, "")),
        ("news-confirm+abc234@example.org", (Purpose.CONFIRM, "abc234")),
        ("news-bounces@example.org", (Purpose.BOUNCES, "")),
        ("news-bounces+17-abc@example.org", (Purpose.BOUNCES, "17-abc")),
        ("news-probe+abc@example.org", (Purpose.PROBE, "abc")),
        ("news-approve+06HK3M-9Q7TZA-1-abc@example.org", (Purpose.APPROVE, "06HK3M-9Q7TZA-1-abc")),
        ("news-refuse+x@example.org", (Purpose.REFUSE, "x")),
        ("news-confirm@example.org", None),
        ("news-probe@example.org", None),
        ("news-confirm+@example.org", None),
        ("news-bounces+@example.org", None),
        ("news-owner+x@example.org", None),
        ("news+x@example.org", None),
        ("news-other@example.org", None),
        ("newsletter@example.org", None),
        ("new@example.org", None),
        ("news@example.com", None),
        ('"news-confirm+a b"@example.org', None),
        ('"news-bounces+../../x"@example.org', None),
        ("news-bounces+" + "x" * 41 + "@example.org", None),
    ],
)
def test_what_an_address_is_for(address, meant):
    assert purpose_of(NEWS.address, Path.parse(address)) == meant


@given(NAMES, st.sampled_from(Purpose), st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True))
def test_every_address_that_is_made_is_recognised_and_routed(local, purpose, extension):
    own = Path(local, "example.org")
    has_extension = purpose.value in ("-confirm", "-bounces", "-probe", "-approve", "-refuse")
    made = address_for(own, purpose, extension if has_extension else "")
    assert Path.parse(made.address) == made
    assert purpose_of(own, made) == (purpose, extension if has_extension else "")
    assert covers(own)(made)


@given(st.text(max_size=64), st.text(max_size=20))
def test_any_recipient_is_judged(local, domain):
    found = purpose_of("news@example.org", Path(local, domain))
    assert found is None or (domain == "example.org" and local.lower().startswith("news"))


@given(st.integers(1, 10**12))
def test_a_return_path_leads_back_to_its_member_and_list_alone(member):
    made = bounces_address(NEWS, member, SECRET)
    assert len(made.local) <= 64
    lowered = Path.parse(made.address.lower())
    found = purpose_of(NEWS.address, lowered)
    assert found is not None
    assert bounced_member(NEWS, found[1], SECRET) == member
    assert bounced_member(NEWS, found[1], b"another") is None
    assert bounced_member(MailingList("other", NEWS.address), found[1], SECRET) is None
    assert bounced_member(NEWS, f"{member + 1}-{found[1].rpartition('-')[2]}", SECRET) is None
    assert unsubscribing_member(found[1], SECRET) is None


def test_a_moderators_addresses_carry_a_ticket_each_for_its_own_purpose():
    longest = MailingList("x", "x" * 26 + "@example.org")
    ticket = str(Ticket("06HK3M-9Q7TZA", 1234))
    for purpose, other in ((Purpose.APPROVE, Purpose.REFUSE), (Purpose.REFUSE, Purpose.APPROVE)):
        made = Path.parse(decision_address(longest, purpose, ticket, SECRET).address)
        found = purpose_of(longest.address, made)
        assert found is not None and found[0] is purpose
        assert decided_ticket(longest, purpose, found[1], SECRET) == ticket
        assert decided_ticket(longest, other, found[1], SECRET) is None


def test_a_token_unsubscribes_one_member():
    token = unsubscribe_token(17, SECRET)
    assert unsubscribing_member(token, SECRET) == 17
    assert unsubscribing_member(token, b"another") is None


@given(st.text(max_size=60))
def test_made_up_extensions_lead_nowhere(text):
    assert bounced_member(NEWS, text, SECRET) is None
    assert decided_ticket(NEWS, Purpose.APPROVE, text, SECRET) is None
    assert unsubscribing_member(text, SECRET) is None


def test_parts_of_a_signature_are_told_apart():
    assert sign(SECRET, "a", "bc") != sign(SECRET, "ab", "c") != sign(SECRET, "abc")
    assert sign(SECRET, "A") == sign(SECRET, "a")
