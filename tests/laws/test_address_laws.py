"""Addresses: whatever the rules, one address leads to one user or alias, and never to another domain unsaid."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from gatepost.model import AddressError, Path
from gatepost.store.addresses import Addresses, Forward, Rules
from gatepost.store.users import folded

DOMAINS = st.sampled_from(["a.example", "b.example", "c.example", "[192.0.2.1]"])
LOCALS = st.one_of(
    st.from_regex(r"[abAB](?:[+._-]?[abAB]){0,3}", fullmatch=True),
    st.sampled_from(["postmaster", "Abuse", "+a", "a+", "ä+a", "a b", "a@b"]),
)


@st.composite
def addresses(draw: st.DrawFn) -> Path:
    try:
        return Path.parse(Path(draw(LOCALS), draw(DOMAINS)).address)
    except AddressError:
        assume(False)
        raise


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    aliases = draw(st.dictionaries(addresses(), st.lists(addresses(), min_size=1, max_size=3), max_size=4))
    return Rules(
        frozenset(draw(st.sets(DOMAINS, max_size=2))),
        draw(st.dictionaries(DOMAINS, DOMAINS, max_size=2)),
        draw(st.sampled_from(["", "+", "-", "+-_"])),
        draw(st.dictionaries(DOMAINS, addresses(), max_size=2)),
        {folded(alias.address): tuple(targets) for alias, targets in aliases.items()},
    )


def over(rules: Rules, users: set[Path]) -> Addresses[str]:
    known = {folded(user.address): folded(user.address) for user in users}
    return Addresses(rules, known.get, folded)


@given(rules(), st.sets(addresses(), max_size=5), addresses())
def test_an_address_leads_to_one_place_however_it_is_written(rules: Rules, users: set[Path], address: Path) -> None:
    found = over(rules, users)
    lead = found.lead(address)
    shouted = Path(address.local.upper(), address.domain)
    if folded(shouted.address) == folded(address.address):
        assert found.lead(shouted) == lead
    if folded(address.address) in rules.aliases and (not rules.domains or address.domain in rules.domains):
        assert lead == Forward(folded(address.address), rules.aliases[folded(address.address)])
    elif address in users and (not rules.domains or address.domain in rules.domains):
        assert found.own(address) == folded(address.address)


@given(rules(), st.sets(addresses(), max_size=5), addresses())
def test_cutting_never_leads_to_another_domain(rules: Rules, users: set[Path], address: Path) -> None:
    owner = over(rules, users).own(address)
    if owner is not None:
        domain = owner.rpartition("@")[2]
        assert domain == address.domain or domain == rules.domain_aliases.get(address.domain)
        assert owner.rpartition("@")[0].strip('"') in folded(address.local)


@given(rules(), st.sets(addresses(), max_size=5), addresses())
def test_who_is_no_alias_is_the_mailbox_itself(rules: Rules, users: set[Path], address: Path) -> None:
    found = over(rules, users)
    lead = found.lead(address)
    if not isinstance(lead, Forward) and lead is not None:
        targets = found.targets(address)
        assert targets is None
    if lead is None:
        assert found.own(address) is None


@given(rules(), st.sets(addresses(), max_size=5), addresses())
def test_an_alias_ends_in_targets_that_are_said_somewhere(rules: Rules, users: set[Path], address: Path) -> None:
    targets = over(rules, users).targets(address)
    if targets is not None:
        said = {folded(one.address) for targets in rules.aliases.values() for one in targets}
        keys = [folded(one.address) for one in targets]
        assert targets and set(keys) <= said and len(keys) == len(set(keys))


@given(rules(), st.sets(addresses(), max_size=5), st.sampled_from(["postmaster", "abuse", "Postmaster"]), DOMAINS)
def test_nobody_catches_what_is_for_the_postmaster(rules: Rules, users: set[Path], local: str, domain: str) -> None:
    without = over(Rules(rules.domains, rules.domain_aliases, rules.plus, {}, rules.aliases), users)
    address = Path(local, domain)
    assert over(rules, users).lead(address) == without.lead(address)
