"""What holds in the store for any input and any order of acts."""

import asyncio
import math
import zlib
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatepost.model import Body, Bytes, Envelope, Path, Recipient, Ticket
from gatepost.store.ledger import Tally
from gatepost.store.maildrop import _with_lf, safe_name
from gatepost.store.memory import memory_spool
from gatepost.store.rows import Damaged, check_content, decode_deposit, decode_progress, encode_deposit
from gatepost.store.spool import Counts, Deposit, Fate, RecipientOutcome
from gatepost.store.trace import encode

NOW = 1_790_000_000.0
calm = settings(deadline=None)  # a busy machine isn't a broken law
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
tables = st.dictionaries(texts, texts, max_size=3)
paths = st.builds(Path, texts, texts, texts)
envelopes = st.builds(
    Envelope,
    paths,
    st.lists(st.builds(Recipient, paths, tables), max_size=4).map(tuple),
    st.sampled_from(Body),
    st.booleans(),
    tables,
)
deposits = st.builds(
    Deposit,
    st.builds(Ticket, texts, st.integers(0, 1 << 30)),
    envelopes,
    st.builds(Bytes, st.binary(max_size=100)),
    st.floats(0, 1e10),
    st.none() | texts,
    st.none() | texts,
    st.integers(0, 100),
    tables,
    tables,
)


@calm
@given(deposits)
def test_a_row_gives_back_the_deposit(deposit):
    facts, content = encode_deposit(deposit, deposit.content)
    filed = decode_deposit(facts)
    again = msgspec.structs.astuple(filed)[0]
    assert check_content(filed, content) == deposit.content
    assert (again.ticket, again.envelope, again.received_at) == (deposit.ticket, deposit.envelope, deposit.received_at)
    assert (again.held, again.authenticated, again.part) == (deposit.held, deposit.authenticated, deposit.part)
    assert (dict(again.routes), dict(again.facts)) == (dict(deposit.routes), dict(deposit.facts))
    assert dict(again.envelope.parameters) == dict(deposit.envelope.parameters)
    assert [(r.path.raw, dict(r.parameters)) for r in again.envelope.recipients] == [
        (r.path.raw, dict(r.parameters)) for r in deposit.envelope.recipients
    ]


@calm
@given(st.binary(max_size=200))
def test_what_isnt_a_row_is_damaged_and_nothing_worse(data):
    for decode in decode_deposit, decode_progress:
        with suppress(Damaged):  # a few octets can be a row by chance
            decode(data)


@calm
@given(deposits, st.integers(0, 1000), st.integers(1, 255))
def test_one_changed_octet_is_never_another_content(deposit, at, change):
    facts, content = encode_deposit(deposit, deposit.content)
    if content:
        broken = bytearray(content)
        broken[at % len(content)] ^= change
        with pytest.raises(Damaged):
            check_content(decode_deposit(facts), bytes(broken))
    with pytest.raises(Damaged):
        check_content(decode_deposit(facts), (content or b"") + b"x")


class Pieces(Bytes):
    """Content in the pieces it was cut into."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__(b"".join(pieces))
        object.__setattr__(self, "pieces", pieces)

    __slots__ = ("pieces",)

    def chunks(self):
        return iter(self.pieces)


@calm
@given(
    st.lists(st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"x", b"\r\r\n", b"x\r"]), max_size=12), st.binary(max_size=3)
)
def test_line_ends_are_mended_the_same_however_content_is_cut(pieces, top):
    top = top.replace(b"\r", b"")
    assert b"".join(_with_lf(top, Pieces(pieces))) == top + b"".join(pieces).replace(b"\r\n", b"\n")


@calm
@given(st.text(max_size=200), st.text(max_size=200))
def test_I10_names_are_safe_and_stay_different(one, other):
    assert (safe_name(one) == safe_name(other)) == (one == other)
    assert len(safe_name(one)) <= 120
    assert safe_name(one)[0] not in ".-"
    assert "/" not in safe_name(one)


@calm
@given(st.lists(st.floats(0, 50), min_size=1, max_size=60), st.floats(1, 100))
def test_a_counter_never_says_more_than_there_was_nor_less_than_this_moment(pauses, window):
    now, tally, times = NOW, Tally(NOW, 0, 0), []
    for pause in pauses:
        now += pause
        tally = tally.counted(now, window)
        times.append(now)
        said = tally.within(now, window)
        assert 1 <= said <= len([time for time in times if time > now - 2 * window - 1e-3])
        if len(times) == len([time for time in times if time < NOW + window]):
            assert said == len(times)  # exact within the first window


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(object),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.integers(), inner, max_size=5),
    max_leaves=30,
)


@calm
@given(st.dictionaries(st.text(), anything, max_size=5))
def test_whatever_is_noted_can_be_written_and_read(facts):
    payload = encode((1, "token", "kind", facts))
    assert len(payload) < 100_000
    assert msgspec.msgpack.decode(payload)[:3] == [1, "token", "kind"]
    assert zlib.crc32(payload) >= 0


class Waiting(RuleBasedStateMachine):
    """A spool against the plainest model of it: a dict of what should be there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.spool = memory_spool(lambda: self.now)
        self.model: dict[str, dict] = {}
        self.leased: dict[str, object] = {}
        self.number = 0

    def do(self, work):
        return asyncio.run(work)

    @rule(recipients=st.integers(1, 3), held=st.booleans())
    def commit(self, recipients, held):
        self.number += 1
        people = tuple(Recipient(Path("user", f"d{n}.example")) for n in range(recipients))
        deposit = Deposit(
            Ticket("06HK3M-9Q7TZA", self.number),
            Envelope(recipients=people),
            Bytes(b"x"),
            self.now,
            "held" if held else None,
        )
        self.do(self.spool.commit([deposit]))
        self.model[deposit.id] = {"due": self.now, "held": held, "left": {r.address for r in people}}

    @rule(seconds=st.integers(1, 100))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(limit=st.integers(1, 5))
    def lease(self, limit):
        due = {
            id for id, one in self.model.items() if id not in self.leased and not one["held"] and one["due"] <= self.now
        }
        entries = self.do(self.spool.due(self.now, limit))
        assert len(entries) == min(limit, len(due))
        assert {entry.id for entry in entries} <= due
        for entry in entries:
            assert {r.address for r in entry.envelope.recipients} == self.model[entry.id]["left"]
            self.leased[entry.id] = entry

    @precondition(lambda self: self.leased)
    @rule(data=st.data(), delay=st.integers(1, 200))
    def settle(self, data, delay):
        id = data.draw(st.sampled_from(sorted(self.leased)))
        entry = self.leased.pop(id)
        fates = [data.draw(st.sampled_from(Fate)) for _ in entry.envelope.recipients]
        outcomes = [RecipientOutcome(r, fate) for r, fate in zip(entry.envelope.recipients, fates, strict=True)]
        self.do(self.spool.settle(id, outcomes, next_attempt=self.now + delay))
        if id in self.model:
            self.model[id]["due"] = self.now + delay
            self.model[id]["left"] -= {o.recipient.address for o in outcomes if o.fate is not Fate.LATER}
            if not self.model[id]["left"]:
                del self.model[id]

    @precondition(lambda self: self.leased)
    @rule(data=st.data())
    def give_back(self, data):
        id = data.draw(st.sampled_from(sorted(self.leased)))
        del self.leased[id]
        self.spool.release_lease(id)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), act=st.sampled_from(["hold", "release", "delete", "retry"]))
    def operate(self, data, act):
        id = data.draw(st.sampled_from(sorted(self.model)))
        one = self.model[id]
        match act:
            case "hold":
                self.do(self.spool.hold(id, "why"))
                one["held"] = True
            case "release":
                self.do(self.spool.release(id))
                if one["held"]:
                    one |= {"held": False, "due": self.now}
            case "delete":
                self.do(self.spool.delete(id))
                del self.model[id]
            case "retry":
                self.do(self.spool.retry(id))
                if id not in self.leased:
                    one["due"] = self.now

    @invariant()
    def agrees(self):
        held = sum(one["held"] for one in self.model.values())
        assert self.spool.counts() == Counts(len(self.model) - held, held, len(self.leased))
        waiting = [one["due"] for id, one in self.model.items() if not one["held"] and id not in self.leased]
        due = self.spool.next_due()
        assert (
            (due in waiting and due <= self.now)
            if min(waiting, default=math.inf) <= self.now
            else due == min(waiting, default=None)
        )
        listed = {e.id: {r.address for r in e.envelope.recipients} for e in self.do(self.spool.entries(limit=999))}
        assert listed == {id: one["left"] for id, one in self.model.items()}


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
