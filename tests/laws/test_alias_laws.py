"""Who gets a copy: whatever aliases lead to whatever, everybody who is meant has it, nobody twice, no circle runs on.

What is meant is found here by walking along the targets, apart from how delivery gathers them. Aliases may be nested,
circular, by way of `+`, of another domain or of who catches the rest; routes lead into maildrops or elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.delivery.expanding import ALIASED, GONE_ON, Expansion, expansion
from gatepost.delivery.notice import Policy
from gatepost.model import Bytes, Envelope, Path, Recipient, Ticket, token_at
from gatepost.store import Entry
from gatepost.store.addresses import Addresses, Forward, Rules
from gatepost.store.users import folded

TOKEN = token_at(1_800_000_000_000, 0, 1)
POLICY = Policy("mx.example", Path.parse("postmaster@mx.example"), lambda path: False, lambda: Ticket(TOKEN, 99))
HERE, OTHER, FAR = "own.example", "other.example", "far.example"
ADDRESSES = st.builds(
    lambda name, plus, domain: Path.parse(f"{name}{plus}@{domain}"),
    st.sampled_from("abcdefABC"),
    st.sampled_from(["", "", "+x"]),
    st.sampled_from([HERE, HERE, OTHER, FAR]),
)
ALIASES = st.dictionaries(
    ADDRESSES.map(lambda path: folded(path.address)), st.lists(ADDRESSES, min_size=1, max_size=4).map(tuple), max_size=5
)
RULES = st.builds(
    lambda aliases, plus, other, caught: Rules(
        plus=plus, domain_aliases={OTHER: HERE} if other else {}, catch_all=caught, aliases=aliases
    ),
    ALIASES,
    st.sampled_from(["", "+"]),
    st.booleans(),
    st.dictionaries(st.sampled_from([HERE, OTHER]), ADDRESSES, max_size=1),
)


class People:
    """The port, over users whose names are their addresses."""

    def __init__(self, rules: Rules, users: set[Path]) -> None:
        known = {folded(user.address) for user in users}
        self.addresses = Addresses(rules, lambda address: address if address in known else None, folded)

    async def targets(self, address: Path) -> tuple[Path, ...] | None:
        return self.addresses.targets(address)

    async def person(self, address: Path) -> str:
        return self.addresses.user(address) or folded(address.address)


def rests(path: Path) -> bool:
    return path.domain != FAR


def entry(recipients: list[Path], facts: dict[str, str] | None = None) -> Entry:
    envelope = Envelope(Path.parse("s@else.example"), tuple(map(Recipient, recipients)))
    return Entry("T", Ticket(TOKEN, 1), 0, envelope, Bytes(b"Subject: x\r\n\r\n"), 0.0, 0.0, facts=facts or {})


def found(people: People, recipients: list[Path]) -> Expansion | None:
    return asyncio.run(expansion(entry(recipients), people, rests))


def meant(people: People, alias: Forward) -> tuple[set[Path], set[Path]]:
    """The targets that aren't aliases, or are the mailbox of an alias's own address; and those that close a circle."""
    ends: set[Path] = set()
    closing: set[Path] = set()
    seen, todo = {alias.alias}, [alias]
    while todo:
        forward = todo.pop()
        for target in forward.targets:
            further = people.addresses.lead(target)
            if not isinstance(further, Forward) or further.alias == forward.alias:
                ends.add(target)
            elif further.alias not in seen:
                seen.add(further.alias)
                todo.append(further)
            else:
                closing.add(target)
    return ends, closing


def whose(people: People, path: Path) -> str:
    return asyncio.run(people.person(path)) if rests(path) else path.address.lower()


@settings(deadline=None)
@given(RULES, st.sets(ADDRESSES, max_size=5), st.lists(ADDRESSES, min_size=1, max_size=4, unique=True))
def test_everybody_who_is_meant_has_it_and_nobody_twice(rules: Rules, users: set[Path], to: list[Path]) -> None:
    people = People(rules, users)
    aliases = [lead for path in to if isinstance(lead := people.addresses.lead(path), Forward)]
    staying = [path for path in to if not isinstance(people.addresses.lead(path), Forward)]
    expanded = found(people, to)
    assert (expanded is None) is (not aliases)
    if expanded is None:
        return
    settled = expanded.settled(entry(to), 5.0, POLICY)
    onward = [one.path for deposit in settled.deposits for one in deposit.envelope.recipients]
    had = Counter(whose(people, path) for path in onward)
    there = {whose(people, path) for path in staying}
    assert set(had.values()) <= {1} and not had.keys() & there
    ends: set[Path] = set()
    closing: set[Path] = set()
    for alias in aliases:
        ends_of, closing_of = meant(people, alias)
        ends |= ends_of
        closing |= closing_of
    assert {whose(people, path) for path in ends} <= had.keys() | there
    assert had.keys() <= {whose(people, path) for path in ends | closing}
    assert {one.recipient.path: one.fate.value for one in settled.outcomes} == {
        path: "later" if path in staying else "done" for path in to
    }
    assert (settled.next_attempt is None) is (not staying)
    assert {one.facts[ALIASED] for one in settled.deposits} <= {"on"}
    assert len({one.id for one in settled.deposits}) == len(settled.deposits)
    assert not staying or int((settled.notes or {})[GONE_ON]) == len(settled.deposits)
    for deposit in settled.deposits:  # and there it ends
        assert found_again(people, deposit.envelope) is None


def found_again(people: People, envelope: Envelope) -> Expansion | None:
    return asyncio.run(expansion(entry([one.path for one in envelope.recipients], {ALIASED: "on"}), people, rests))
