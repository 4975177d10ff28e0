"""Where addresses lead: whose they are, what is cut off, which domain stands for which, and who has what nobody has."""

from __future__ import annotations

import pytest

from gatepost.model import Path
from gatepost.store.addresses import Addresses, Forward, Rules
from gatepost.store.users import folded

USERS = {
    "ann@example.org": "ann",
    "a@example.org": "ann",
    "ann+secret@example.org": "eve",
    "bob@example.net": "bob",
    "mary-ann@example.org": "mary",
    '"odd one"@example.org': "odd",
    "jörg@example.org": "jörg",
}


def paths(*addresses: str) -> tuple[Path, ...]:
    return tuple(map(Path.parse, addresses))


RULES = Rules(
    domain_aliases={"example.net": "example.org"},
    plus="+-",
    catch_all={"example.org": Path.parse("bob@example.net"), "shop.example": Path.parse("info@example.org")},
    aliases={
        "info@example.org": paths("ann@example.org", "bob@elsewhere.example"),
        "ann@example.org": paths("Ann@example.org", "far@elsewhere.example"),
        "all@example.org": paths("info@example.org", "staff@example.org", "x@elsewhere.example"),
        "staff@example.org": paths("info@example.org", "X@elsewhere.example"),
        "postmaster": paths("bob@example.net"),
    },
)


class Looked:
    """Finds users, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, address: str) -> str | None:
        self.asked.append(address)
        return USERS.get(address)


def made(rules: Rules = RULES) -> tuple[Addresses[str], Looked]:
    looked = Looked()
    return Addresses(rules, looked, folded), looked


@pytest.mark.parametrize(
    ("address", "user"),
    [
        ("A@Example.org", "ann"),
        ("a+shop@example.org", "ann"),
        ("ann+secret@example.org", "eve"),
        ("ann+secret+more@example.org", "ann"),
        ("mary-ann@example.org", "mary"),
        ("mary-ann+shop@example.org", "mary"),
        ('"odd one+x"@example.org', "odd"),
        ("JÖRG+x@example.org", "jörg"),
        ("bob@example.net", "bob"),
        ("a@example.net", "ann"),
        ("a-b@example.net", "ann"),
        ("nobody@example.org", "bob"),
        ("nobody@example.net", "bob"),
        ("+shop@example.org", "bob"),
        ("abuse@example.org", None),
        ("abuse+x@example.org", None),
        ("Postmaster+x@example.org", None),
        ("a@example.com", None),
        ("bob@example.org", "bob"),  # caught, not had
    ],
)
def test_whose_mailbox_an_address_leads_to(address, user):
    assert made()[0].user(Path.parse(address)) == user


@pytest.mark.parametrize("address", ["postmaster", "postmaster@example.org", "Postmaster@example.com"])
def test_the_postmaster_of_every_domain_is_one_alias(address):
    found = made()[0].lead(Path.parse(address, bare_postmaster=True))
    assert found == Forward("postmaster", paths("bob@example.net"))


def test_an_alias_comes_before_the_user_of_the_same_address():
    addresses, _ = made()
    assert isinstance(addresses.lead(Path.parse("ann+x@example.org")), Forward)
    assert addresses.user(Path.parse("ann+x@example.org")) == "ann"
    assert [*map(str, addresses.targets(Path.parse("ann@example.net")))] == [
        "Ann@example.org",
        "far@elsewhere.example",
    ]


def test_aliases_of_aliases_come_to_each_target_once():
    addresses, _ = made()
    assert [*map(str, addresses.targets(Path.parse("all@example.org")))] == [
        "Ann@example.org",
        "far@elsewhere.example",
        "bob@elsewhere.example",
        "X@elsewhere.example",
    ]
    assert addresses.targets(Path.parse("a@example.org")) is None
    assert addresses.targets(Path.parse("x@shop.example")) == addresses.targets(Path.parse("info@example.org"))
    assert all(addresses.circle(alias) == () for alias in RULES.aliases)


def test_a_circle_is_told_and_does_no_harm():
    aliases = {
        "a@x.example": paths("b+1@x.example"),
        "b@x.example": paths("c@x.example", "z@x.example"),
        "c@x.example": paths("a@x.example", "c@x.example"),
    }
    addresses, _ = made(Rules(plus="+", aliases=aliases))
    assert addresses.circle("b@x.example") == ("b@x.example", "c@x.example", "a@x.example", "b@x.example")
    assert {*map(str, addresses.targets(Path.parse("a@x.example")))} == {"a@x.example", "c@x.example", "z@x.example"}


def test_own_is_what_nobody_has_only_caught():
    addresses, _ = made()
    assert addresses.own(Path.parse("a+b@example.net")) == "ann"
    assert addresses.own(Path.parse("nobody@example.org")) is None


def test_of_two_separators_the_longer_name_comes_first():
    known = {"mary@example.org": "mary", "mary-ann@example.org": "ann"}
    addresses = Addresses(Rules(plus="+-"), known.get, folded)
    assert addresses.user(Path.parse("mary-ann+shop@example.org")) == "ann"
    assert addresses.user(Path.parse("mary+shop-ann@example.org")) == "mary"


def test_aliases_that_meet_again_and_again_are_followed_once():
    aliases = {
        f"{side}{number}@x.example": paths(f"a{number + 1}@x.example", f"b{number + 1}@x.example")
        for number in range(60)
        for side in "ab"
    }
    addresses, looked = made(Rules(aliases=aliases))
    assert len(addresses.targets(Path.parse("a0@x.example"))) == 2
    assert addresses.circle("a0@x.example") == ()
    assert len(looked.asked) < 20  # who is an alias isn't looked up


def test_an_alias_is_lent_to_one_alone_and_what_is_caught_to_nobody():
    addresses, _ = made(
        Rules(
            plus="+",
            aliases={
                "one@example.org": paths("two@example.org"),
                "two@example.org": paths("ann@example.org"),
                "all@example.org": paths("ann@example.org", "bob@example.net"),
                "crew@example.org": paths("all@example.org", "mary-ann@example.org"),
            },
            catch_all={"example.org": Path.parse("one@example.org")},
            lent=frozenset({"crew@example.org"}),
        )
    )
    assert addresses.lent(Path.parse("one+x@example.org")) == paths("ann@example.org")
    assert addresses.lent(Path.parse("all@example.org")) == ()
    assert len(addresses.lent(Path.parse("crew@example.org"))) == 3
    assert addresses.targets(Path.parse("nobody@example.org")) == paths("ann@example.org")
    assert addresses.lent(Path.parse("nobody@example.org")) == addresses.lent(Path.parse("ann@example.org")) == ()


def test_domains_that_arent_ours_lead_nowhere():
    addresses, looked = made(Rules(domains=frozenset({"example.org"}), domain_aliases={"example.net": "example.org"}))
    assert addresses.lead(Path.parse("ann@example.com")) is None and looked.asked == []
    assert addresses.lead(Path.parse("ann@example.org")) == "ann"
    assert addresses.lead(Path.parse("ann@example.net")) == "ann"


def test_an_address_that_somebody_has_costs_one_look():
    addresses, looked = made(Rules(plus="+-"))
    assert addresses.lead(Path.parse("mary-ann@example.org")) == "mary"
    assert looked.asked == ["mary-ann@example.org"]


def test_nobody_has_us_look_up_many():
    addresses, looked = made(Rules(plus="+-"))
    assert addresses.lead(Path.parse("+".join("abc-d" for _ in range(9)) + "@example.org")) is None
    assert len(looked.asked) == 3
