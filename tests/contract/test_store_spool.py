"""What every maker of the spool does, whatever it rests on. The clock is in the test's hand."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gatepost.model import Bytes, Envelope, Path, Recipient, Ticket
from gatepost.store.embedded import open_shard
from gatepost.store.errors import SpoolError, SpoolFailure, UnknownEntry
from gatepost.store.files import RealFiles
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Counts, Deposit, Entry, Fate, RecipientOutcome, Spool, Wanted

NOW = 1_790_000_000.0
ANN, BOB = (Recipient(Path.parse(f"{name}@example.org")) for name in ("ann", "bob"))
ENVELOPE = Envelope(Path.parse("eve@example.net"), (ANN, BOB))
SIZES = [0, 1, 4096, 32 * 1024, 32 * 1024 + 1, 64 * 1024, 64 * 1024 + 1, 300_000]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "embedded"])
async def spool(request, tmp_path, clock) -> AsyncIterator[Spool]:
    made = memory_spool(clock) if request.param == "memory" else await open_shard(tmp_path, RealFiles(), clock)
    yield made
    await made.close()


def ticket(number: int) -> Ticket:
    return Ticket("06HK3M-9Q7TZA", number)


def deposit(number: int, content: bytes = b"Subject: x\r\n\r\nhello\r\n", **more) -> Deposit:
    return Deposit(ticket(number), more.pop("envelope", ENVELOPE), Bytes(content), NOW, **more)


def outcomes(entry: Entry, fate: Fate, said: str = "") -> list[RecipientOutcome]:
    return [RecipientOutcome(recipient, fate, said) for recipient in entry.envelope.recipients]


async def take(spool: Spool, now: float = NOW) -> Entry:
    [entry] = await spool.due(now, 1)
    return entry


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [1000, 70_000])
async def test_what_a_draft_took_is_what_comes_out(spool, size, piece):
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    draft = spool.draft(ticket(1))
    for at in range(0, size, piece):
        draft.write(content[at : at + piece])
        await draft.ready()
    blob = await draft.finish()
    assert (draft.size, blob.size, blob.read(), blob.read(10, 20)) == (size, size, content, content[10:30])
    await spool.commit([Deposit(ticket(1), ENVELOPE, draft, NOW)])
    draft.discard()
    draft.discard()
    entry = await take(spool)
    assert b"".join(entry.content.chunks()) == content
    with entry.content.open() as stream:
        assert stream.read() == content


async def test_a_discarded_draft_leaves_nothing(spool):
    draft = spool.draft(ticket(1))
    draft.write(b"x" * 200_000)
    draft.discard()
    with pytest.raises(RuntimeError):
        draft.write(b"more")
    assert await spool.due(NOW, 9) == []


async def test_everything_told_at_the_commit_comes_back(spool):
    envelope = Envelope(
        Path.parse("Eve@Example.NET"),
        (Recipient(Path.parse("ann@example.org"), {"NOTIFY": "NEVER"}), Recipient(Path.parse("grün@example.org"))),
        smtputf8=True,
        parameters={"SIZE": "12"},
    )
    one = deposit(
        1, envelope=envelope, authenticated="eve", part=2, routes={"ann@example.org": "lmtp"}, facts={"listener": "mx"}
    )
    await spool.commit([one])
    entry = await spool.show("06HK3M-9Q7TZA-1.2")
    assert (entry.envelope, entry.content.read()) == (envelope, one.content.read())
    assert entry.envelope.sender.raw == "Eve@Example.NET"
    assert entry.envelope.recipients[0].parameters == {"NOTIFY": "NEVER"}
    assert dict(entry.envelope.parameters) == {"SIZE": "12"}
    assert (entry.authenticated, entry.part, entry.ticket) == ("eve", 2, ticket(1))
    assert (dict(entry.routes), dict(entry.facts)) == ({"ann@example.org": "lmtp"}, {"listener": "mx"})
    assert (entry.received_at, entry.since, entry.attempts, entry.next_attempt) == (NOW, NOW, 0, NOW)


async def test_groups_of_one_draft_are_separate_entries(spool):
    draft = spool.draft(ticket(1))
    draft.write(b"y" * 100_000)
    groups = [Deposit(ticket(1), Envelope(recipients=(r,)), draft, NOW, part=n) for n, r in enumerate((ANN, BOB))]
    await spool.commit(groups)
    draft.discard()
    first, second = await spool.due(NOW, 9)
    await spool.settle(first.id, outcomes(first, Fate.DONE), next_attempt=None)
    assert (first.id, second.id) == ("06HK3M-9Q7TZA-1", "06HK3M-9Q7TZA-1.1")
    assert second.content.read() == b"y" * 100_000


async def test_an_id_is_used_once(spool):
    await spool.commit([deposit(1)])
    with pytest.raises(ValueError, match="already"):
        await spool.commit([deposit(1)])
    assert spool.counts() == Counts(1, 0, 0)


async def test_a_leased_entry_is_nobody_elses(spool):
    await spool.commit([deposit(1), deposit(2)])
    [first] = await spool.due(NOW, 1)
    [second] = await spool.due(NOW, 9)
    assert {first.id, second.id} == {deposit(1).id, deposit(2).id}
    assert await spool.due(NOW, 9) == []
    spool.release_lease(second.id)
    assert [entry.id for entry in await spool.due(NOW, 9)] == [second.id]


async def test_only_a_first_lease_is_fresh(spool):
    await spool.commit([deposit(1)])
    entry = await take(spool)
    spool.release_lease(entry.id)
    assert (entry.fresh, (await take(spool)).fresh) == (True, False)


async def test_longest_waiting_first(spool):
    for number in (3, 1, 2):
        await spool.commit([Deposit(ticket(number), ENVELOPE, Bytes(b""), NOW - number)])
    assert [entry.ticket.number for entry in await spool.due(NOW, 9)] == [3, 2, 1]


async def test_first_and_repeated_attempts_take_turns(spool):
    await spool.commit([deposit(number) for number in range(1, 5)])
    for entry in await spool.due(NOW, 9):
        await spool.settle(entry.id, outcomes(entry, Fate.LATER), next_attempt=NOW + 1)
    await spool.commit([deposit(number) for number in range(5, 9)])
    attempts = [entry.attempts for entry in await spool.due(NOW + 60, 6)]
    assert attempts in ([0, 1] * 3, [1, 0] * 3)


async def test_done_removes_the_entry(spool):
    await spool.commit([deposit(1)])
    entry = await take(spool)
    await spool.settle(entry.id, outcomes(entry, Fate.DONE), next_attempt=None)
    assert spool.counts() == Counts(0, 0, 0)
    with pytest.raises(UnknownEntry):
        await spool.show(entry.id)


async def test_notes_stay_until_they_are_replaced(spool):
    await spool.commit([deposit(1)])
    [entry] = await spool.due(NOW, 10)
    assert entry.notes == {}
    await spool.settle(entry.id, outcomes(entry, Fate.LATER), next_attempt=NOW, notes={"warned": "1"})
    [entry] = await spool.due(NOW, 10)
    assert entry.notes == {"warned": "1"}
    await spool.settle(entry.id, outcomes(entry, Fate.LATER), next_attempt=NOW)
    [entry] = await spool.due(NOW, 10)
    assert entry.notes == {"warned": "1"}
    await spool.settle(entry.id, outcomes(entry, Fate.LATER), next_attempt=NOW, notes={})
    assert (await spool.show(entry.id)).notes == {}


async def test_records_are_durable_with_the_settlement(spool):
    await spool.commit([deposit(1), deposit(2)])
    first, second = await spool.due(NOW, 10)
    record = ("discarded", first.id, "ann@example.org", "no reason")
    await spool.settle(first.id, outcomes(first, Fate.DONE), next_attempt=None, records=[record])
    await spool.settle(second.id, outcomes(second, Fate.LATER), next_attempt=NOW + 9, records=[("later", second.id)])
    assert [tuple(one) for one in await spool.records()] == [record, ("later", second.id)]


async def test_recipients_are_settled_one_by_one(spool):
    await spool.commit([deposit(1)])
    entry = await take(spool)
    await spool.settle(
        entry.id,
        [RecipientOutcome(ANN, Fate.DONE), RecipientOutcome(BOB, Fate.LATER, "451 not now")],
        next_attempt=NOW + 300,
    )
    assert (await spool.due(NOW + 299, 9), spool.next_due()) == ([], NOW + 300)
    entry = await take(spool, NOW + 300)
    assert (entry.envelope.recipients, entry.attempts, dict(entry.said)) == ((BOB,), 1, {BOB.address: "451 not now"})
    await spool.settle(entry.id, [RecipientOutcome(BOB, Fate.FAILED, "550 no")], next_attempt=None)
    assert spool.counts() == Counts(0, 0, 0)


async def test_a_notice_is_committed_with_its_failure(spool):
    await spool.commit([deposit(1)])
    entry = await take(spool)
    await spool.settle(
        entry.id, outcomes(entry, Fate.FAILED), next_attempt=None, deposits=[deposit(2, b"it failed", part=1)]
    )
    notice = await take(spool)
    assert (notice.id, notice.content.read()) == ("06HK3M-9Q7TZA-2.1", b"it failed")


async def test_what_is_left_needs_a_time_or_a_reason(spool):
    await spool.commit([deposit(1)])
    entry = await take(spool)
    with pytest.raises(ValueError, match="again or held"):
        await spool.settle(entry.id, outcomes(entry, Fate.LATER), next_attempt=None)
    await spool.settle(entry.id, [], next_attempt=None, held="no notice to a null sender")
    assert [e.held for e in await spool.entries(held=True)] == ["no notice to a null sender"]


async def test_settling_needs_a_lease(spool):
    await spool.commit([deposit(1)])
    with pytest.raises(ValueError, match="leased"):
        await spool.settle(deposit(1).id, [], next_attempt=NOW)


async def test_held_mail_waits_for_its_release_and_starts_anew(spool, clock):
    await spool.commit([deposit(1, held="looks like spam")])
    assert (await spool.due(NOW + 1e6, 9), spool.next_due(), spool.counts()) == ([], None, Counts(0, 1, 0))
    clock.now = NOW + 5000
    await spool.release(deposit(1).id)
    entry = await take(spool, clock.now)
    assert (entry.held, entry.since, entry.attempts, entry.received_at) == (None, clock.now, 0, NOW)


async def test_hold_during_an_attempt_takes_effect_after_it(spool):
    await spool.commit([deposit(1)])
    entry = await take(spool)
    await spool.hold(entry.id, "let me look")
    await spool.settle(
        entry.id, [RecipientOutcome(ANN, Fate.DONE), RecipientOutcome(BOB, Fate.LATER)], next_attempt=NOW + 1
    )
    assert await spool.due(NOW + 99, 9) == []
    shown = await spool.show(entry.id)
    assert (shown.held, shown.envelope.recipients) == ("let me look", (BOB,))


async def test_changes_at_the_same_time_lose_nothing(spool):
    await spool.commit([deposit(1)])
    entry = await take(spool)
    await asyncio.gather(
        spool.settle(entry.id, [RecipientOutcome(ANN, Fate.DONE)], next_attempt=NOW + 1),
        spool.hold(entry.id, "let me look"),
    )
    shown = await spool.show(entry.id)
    assert (shown.held, shown.envelope.recipients, shown.attempts) == ("let me look", (BOB,), 1)


async def test_a_hold_while_a_large_notice_is_placed_loses_nothing(spool):
    await spool.commit([deposit(1)])
    entry = await take(spool)
    settling = spool.settle(
        entry.id,
        [RecipientOutcome(ANN, Fate.FAILED)],
        next_attempt=NOW + 1,
        deposits=[deposit(2, b"n" * 200_000)],
    )
    await asyncio.gather(settling, spool.hold(entry.id, "let me look"))
    shown = await spool.show(entry.id)
    assert (shown.held, shown.envelope.recipients) == ("let me look", (BOB,))
    assert (await take(spool)).content.size == 200_000


async def test_a_clock_set_back_brings_what_waits_forward(spool, clock):
    for number in (1, 2):
        await spool.commit([deposit(number)])
    for entry, wait in zip(await spool.due(clock(), 2), (300.0, 90_000.0), strict=True):
        await spool.settle(entry.id, outcomes(entry, Fate.LATER), next_attempt=clock() + wait)
    before = clock()
    clock.now -= 86_400
    assert await spool.set_back(86_400.0) == 2
    assert [entry.next_attempt for entry in await spool.entries()] == [before - 86_400 + 300, before + 3_600]
    assert spool.next_due() == clock() + 300


async def test_retry_and_flush_make_due(spool, clock):
    await spool.commit([deposit(1), deposit(2), deposit(3, held="spam")])
    for entry in await spool.due(NOW, 9):
        await spool.settle(entry.id, outcomes(entry, Fate.LATER), next_attempt=NOW + 3600)
    clock.now = NOW + 10
    await spool.retry(deposit(2).id)
    assert [entry.id for entry in await spool.due(NOW + 10, 9)] == [deposit(2).id]
    assert await spool.flush() == 1
    assert [entry.id for entry in await spool.due(NOW + 10, 9)] == [deposit(1).id]


async def test_delete_is_for_good_even_during_an_attempt(spool):
    await spool.commit([deposit(1, b"z" * 100_000), deposit(2)])
    first = next(entry for entry in await spool.due(NOW, 9) if entry.id == deposit(1).id)
    await spool.delete(first.id)
    assert first.content.read() == b"z" * 100_000
    await spool.settle(first.id, outcomes(first, Fate.LATER), next_attempt=NOW + 1)
    assert spool.counts() == Counts(1, 0, 1)
    with pytest.raises(UnknownEntry):
        await spool.delete(first.id)


@pytest.mark.parametrize("act", ["show", "retry", "release", "delete"])
async def test_acts_on_unknown_entries_say_so(spool, act):
    with pytest.raises(UnknownEntry):
        await getattr(spool, act)("06HK3M-9Q7TZA-99")


async def test_entries_are_listed_in_order_and_in_pages(spool):
    await spool.commit([deposit(number, held="spam" if number % 2 else None) for number in range(1, 8)])
    listed = await spool.entries(limit=3)
    assert [e.ticket.number for e in listed] == [1, 2, 3]
    assert [e.ticket.number for e in await spool.entries(after=listed[-1].id)] == [4, 5, 6, 7]
    assert [e.ticket.number for e in await spool.entries(held=True)] == [1, 3, 5, 7]
    assert [e.ticket.number for e in await spool.entries(held=False)] == [2, 4, 6]
    assert spool.counts() == Counts(3, 4, 0)


async def test_who_is_deferred_while_entries_are_listed_stays(spool):
    await spool.commit([deposit(1)])
    first = await take(spool)
    await spool.settle(first.id, outcomes(first, Fate.LATER), next_attempt=NOW + 100)
    await spool.commit([deposit(2)])
    second = await take(spool)
    deferral = spool.settle(second.id, outcomes(second, Fate.LATER), next_attempt=NOW + 100)
    _, listed = await asyncio.gather(deferral, spool.entries())
    assert [entry.id for entry in listed] == [first.id, second.id]
    assert spool.counts() == Counts(queued=2, held=0, leased=0)


async def test_records_are_kept_without_a_deposit(spool):
    await spool.commit([], records=[("discarded", str(ticket(1)), 1)])
    await spool.commit([deposit(1)], records=[("discarded", str(ticket(2)), 2)])
    assert await spool.records() == [("discarded", str(ticket(1)), 1), ("discarded", str(ticket(2)), 2)]
    assert await spool.records(limit=1) == [("discarded", str(ticket(2)), 2)]


async def test_memos_are_kept_with_the_deposits_or_not_at_all(spool):
    await spool.commit([deposit(1)], memos={"collect/a/1": b"x", "collect/b/1": b"y", "collect_/": b"z"})
    assert await spool.memos("collect/") == {"collect/a/1": b"x", "collect/b/1": b"y"}
    with pytest.raises(ValueError):
        await spool.commit([deposit(2), deposit(1)], memos={"collect/a/2": b"", "collect/a/1": None})
    assert await spool.memos("collect/a/") == {"collect/a/1": b"x"}
    await spool.commit([], memos={"collect/a/1": None, "collect/a/2": b"", "collect/b/1": b"yy"})
    assert await spool.memos("") == {"collect/a/2": b"", "collect/b/1": b"yy", "collect_/": b"z"}
    assert len(await spool.entries()) == 1


async def test_many_memos_go_in_one_step(spool):
    await spool.commit([], memos={f"m/{number:04}": b"%d" % number for number in range(1000)})
    await spool.commit([], memos={f"m/{number:04}": None for number in range(0, 1000, 2)})
    assert list(await spool.memos("m/")) == [f"m/{number:04}" for number in range(1, 1000, 2)]


async def test_on_commit_wakes_delivery(spool):
    woken: list[Counts] = []
    spool.on_commit = lambda: woken.append(spool.counts())
    await spool.commit([deposit(1)])
    assert woken == [Counts(1, 0, 0)]


async def test_many_committers_at_once(spool):
    await asyncio.gather(*(spool.commit([deposit(number, b"%d" % number)]) for number in range(1, 301)))
    seen = {entry.ticket.number: entry.content.read() for entry in await spool.due(NOW, 1000)}
    assert seen == {number: b"%d" % number for number in range(1, 301)}


async def test_a_bad_deposit_takes_nobody_with_it(spool):
    bad = deposit(1, facts={"key": "\udcff"})
    good = [deposit(number) for number in range(2, 5)]
    results = await asyncio.gather(*(spool.commit([one]) for one in [*good, bad]), return_exceptions=True)
    assert results[:3] == [None, None, None]
    assert isinstance(results[3], SpoolError) or results[3] is None  # memory has no encoding to fail
    assert {e.ticket.number for e in await spool.entries()} >= {2, 3, 4}


async def test_a_cancelled_commit_that_was_handed_over_stays(spool):
    task = asyncio.ensure_future(spool.commit([deposit(1)]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await spool.commit([deposit(2)])
    assert [e.ticket.number for e in await spool.entries()] == [1, 2]


async def test_a_closed_spool_says_so(spool):
    await spool.close()
    with pytest.raises(SpoolFailure, match="closed"):
        await spool.commit([deposit(1)])


async def test_wanted_entries_are_found_without_reading_content(spool):
    quoted = Recipient(Path.parse('"a b"@example.com'))
    await spool.commit(
        [
            deposit(1),
            deposit(2, authenticated="carol@example.org"),
            deposit(3, envelope=Envelope(recipients=(quoted, ANN))),
        ]
    )

    async def found(fits) -> list[int]:
        return [entry.ticket.number for entry in await spool.entries(wanted=Wanted(fits))]

    assert await found(lambda sender, user, waiting: sender == "eve@example.net") == [1, 2]
    assert await found(lambda sender, user, waiting: user == "carol@example.org") == [2]
    assert await found(lambda sender, user, waiting: '"a b"@example.com' in waiting) == [3]
    entry = next(one for one in await spool.due(NOW, 9) if one.ticket.number == 3)
    done, later = (RecipientOutcome(r, fate) for r, fate in zip((quoted, ANN), (Fate.DONE, Fate.LATER), strict=True))
    await spool.settle(entry.id, [done, later], next_attempt=NOW + 1, counted=False)
    assert await found(lambda sender, user, waiting: '"a b"@example.com' in waiting) == []
    assert spool.tallies()["example.org"].queued == 3
    assert (await spool.show(entry.id)).attempts == 0


async def test_what_is_made_due_is_so_after_a_restart(tmp_path, clock):
    spool = await open_shard(tmp_path, RealFiles(), clock)
    await spool.commit([deposit(number) for number in (1, 2, 3)])
    for entry in await spool.due(NOW, 9):
        await spool.settle(entry.id, outcomes(entry, Fate.LATER), next_attempt=NOW + 999)
    await spool.retry(deposit(1).id)
    assert await spool.flush(lambda domain, sender: domain == "elsewhere.example") == 0
    await spool.close()
    spool = await open_shard(tmp_path, RealFiles(), clock)
    assert spool.next_due() == NOW
    assert await spool.flush() == 3
    await spool.close()
    spool = await open_shard(tmp_path, RealFiles(), clock)
    assert len(await spool.due(NOW, 9)) == 3
    await spool.close()
