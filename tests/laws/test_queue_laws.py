"""Laws of the queue: nobody starves, nothing comes before its time, each lease ends once, a rate is kept to."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.delivery.health import BackOff, Health
from gatepost.delivery.line import Line, Pace, Places, Rate
from gatepost.model import Bytes, Envelope, Path, Recipient, Reply, Ticket
from gatepost.store.lanes import Way
from gatepost.store.memory import memory_spool
from gatepost.store.spool import Counts, Deposit, Fate, RecipientOutcome

NOW = 1_790_000_000.0
WHY = Reply(451, "4.4.1", "refused")
calm = settings(deadline=None)  # a busy machine isn't a broken law


def deposit(number: int, domain: int, sender: int, at: float = NOW) -> Deposit:
    envelope = Envelope(Path("a", f"s{sender}.example"), (Recipient(Path("u", f"d{domain}.example")),))
    return Deposit(Ticket("06HK3M-9Q7TZA", number + 1), envelope, Bytes(b"x"), at)


def whose(entry: object) -> tuple[str, str]:
    envelope = entry.envelope  # type: ignore[attr-defined]
    return envelope.recipients[0].domain, envelope.sender.domain


@calm
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=80),
    st.lists(st.integers(1, 7), min_size=1, max_size=10),
    st.integers(1, 4),
)
def test_no_lane_starves(entries: list[tuple[int, int]], portions: list[int], weight: int) -> None:
    """Whatever else waits: the first of a lane comes within as many places as two rounds of groups, of lanes within its
    group, and of their weights have.
    """

    async def run() -> None:
        spool = memory_spool(lambda: NOW)
        spool.sort_by(lambda domain, _: Way(domain, weight=weight, sender_weight=weight))
        await spool.commit([deposit(number, *one) for number, one in enumerate(entries)])
        order: list[tuple[str, str]] = []
        at = 0
        while len(order) < len(entries):
            taken = await spool.due(NOW, portions[at % len(portions)])
            assert taken
            order += [whose(entry) for entry in taken]
            at += 1
        domains = {domain for domain, _ in order}
        for domain, sender in set(order):
            lanes = {lane for lane in order if lane[0] == domain}
            bound = 2 * weight * len(domains) * weight * len(lanes)
            assert order.index((domain, sender)) < bound, (domain, sender)

    asyncio.run(run())


@calm
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 50)), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.booleans(), st.integers(1, 40)), max_size=30),
    st.integers(1, 5),
)
def test_nothing_before_its_time_and_each_lease_once(
    entries: list[tuple[int, int, int]], steps: list[tuple[int, int, bool, int]], most: int
) -> None:
    async def run() -> None:
        now = NOW
        spool = memory_spool(lambda: now)
        spool.sort_by(lambda domain, _: Way(domain, most))
        due: dict[str, float] = {}
        for number, (domain, sender, later) in enumerate(entries):
            one = deposit(number, domain, sender, NOW + later)
            await spool.commit([one])
            due[one.id] = NOW + later
        in_hand: dict[str, object] = {}
        for pause, limit, leaves_room, wait in steps:
            now += pause
            for entry in await spool.due(now, limit, leaves_room=leaves_room):
                assert entry.id not in in_hand
                assert due[entry.id] <= now
                in_hand[entry.id] = entry
            held = [whose(entry)[0] for entry in in_hand.values()]
            assert all(held.count(domain) <= most for domain in held), "a group has no more than it may"
            for id in list(in_hand)[: len(in_hand) // 2 + 1]:
                entry = in_hand.pop(id)
                [recipient] = entry.envelope.recipients  # type: ignore[attr-defined]
                due[id] = now + wait
                outcome = RecipientOutcome(recipient, Fate.LATER, "later")
                await spool.settle(id, [outcome], next_attempt=now + wait, counted=leaves_room)
        for id in list(in_hand):
            spool.release_lease(id)
        assert spool.counts().leased == 0
        now += 1000
        left: set[str] = set()
        while taken := await spool.due(now, 1000):  # a group may have so many at a time, and no more
            assert not left & {entry.id for entry in taken}
            left |= {entry.id for entry in taken}
            for entry in taken:
                [recipient] = entry.envelope.recipients
                await spool.settle(entry.id, [RecipientOutcome(recipient, Fate.DONE)], next_attempt=None)
        assert left == set(due)
        assert spool.tallies() == {}

    asyncio.run(run())


@calm
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=80),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.booleans()), max_size=20),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_who_has_nothing_in_hand_finds_a_place(
    entries: list[tuple[int, int]], steps: list[tuple[int, int, bool]], leaves: int, ours: int
) -> None:
    """However much of the others is in hand and slow: after each look, none of a sender with nothing in hand is left
    waiting where places are free; nobody was given a place while having more than its share; and as everything ends,
    everything has its turn.
    """
    places = 30

    async def run() -> None:
        spool = memory_spool(lambda: NOW)

        def way(domain: str, _: str) -> Way:
            is_ours = domain == f"d{ours}.example"
            return Way(domain, leaves=0 if is_ours else leaves, is_ours=is_ours)

        spool.sort_by(way)
        waiting: dict[str, tuple[str, str]] = {}
        in_hand: dict[str, tuple[str, str]] = {}

        def held(sender: str) -> int:
            return sum(one[1] == sender and one[0] != f"d{ours}.example" for one in in_hand.values())

        def look_at(free: int) -> None:
            for domain, sender in waiting.values():
                if domain == f"d{ours}.example":
                    assert not free or any(one[0] == domain for one in in_hand.values())
                elif free > leaves and not held(sender):
                    assert any(one[0] == domain for one in in_hand.values()), "its destination has its share"

        async def take() -> None:
            free = places - len(in_hand)
            before = {sender: held(sender) for _, sender in waiting.values()}
            for entry in await spool.due(NOW, free, leaves_room=True) if free else []:
                in_hand[entry.id] = waiting.pop(entry.id)
            for sender, had in before.items():
                if (has := held(sender)) > had:
                    assert has - 1 <= 4 * (free - (has - had) + 1), "the last one came while there was room"
            assert spool.next_due() == (NOW if waiting else None)
            look_at(places - len(in_hand))

        at = 0
        for some, ended, is_late in (*steps, (len(entries), 0, False)):
            for number, one in enumerate(entries[at : at + some], at):
                new = deposit(number, *one)
                await spool.commit([new])
                waiting[new.id] = (f"d{one[0]}.example", f"s{one[1]}.example")
            at += some
            await take()
            for id in list(in_hand)[-ended if is_late else 0 :][:ended]:
                del in_hand[id]
                spool.release_lease(id)
                await spool.delete(id)
        while in_hand:
            id = next(iter(in_hand))
            del in_hand[id]
            spool.release_lease(id)
            await spool.delete(id)
            await take()
        assert not waiting
        assert spool.counts() == Counts(queued=0, held=0, leased=0)

    asyncio.run(run())


@calm
@given(
    st.integers(1, 20), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 2)), max_size=80)
)
def test_places_of_all_leave_room_for_who_has_none(most: int, steps: list[tuple[str, int, int]]) -> None:
    """Step 0 comes, 1 goes, 2 is cancelled while it waits or has been let in unseen."""

    async def run() -> None:
        places = Places(most)
        tasks: list[tuple[str, asyncio.Task[None]]] = []
        inside: list[str] = []

        async def settle() -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for one in list(tasks):
                if one[1].done():
                    tasks.remove(one)
                    inside.extend([] if one[1].cancelled() else [one[0]])
            free = most - len(inside)
            assert free >= 0
            for whose, _ in tasks:
                assert not free or inside.count(whose) > 4 * free, "nobody waits who may have a place"
            assert all(places.held(whose) == inside.count(whose) for whose in "abc")

        for whose, number, step in steps:
            match step:
                case 0:
                    tasks.append((whose, asyncio.create_task(places.enter(whose))))
                case 1 if inside:
                    places.leave(inside.pop(number % len(inside)))
                    if tasks and number % 2:
                        tasks[0][1].cancel()
                case 2 if tasks:
                    tasks[number % len(tasks)][1].cancel()
                case _:
                    pass
            await settle()
        while tasks or inside:
            places.leave(inside.pop())
            await settle()

    asyncio.run(run())


@calm
@given(st.integers(1, 50), st.sampled_from([1.0, 60.0]), st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_a_rate_is_kept_to(count: int, per_s: float, pauses: list[float]) -> None:
    rate = Rate(count, per_s)
    now, pace, went = 0.0, Pace(rate, 0.0), []
    for pause in pauses:
        now += pause
        may_go, wait = pace.wait_s(now, 10.0)
        assert wait >= 0
        if may_go:
            assert wait <= 10.0
            went.append(now + wait)
        else:
            assert wait > 10.0
    went.sort()
    for first in went:
        within = sum(first <= at < first + per_s for at in went)
        assert within <= count + rate.burst + 1


@calm
@given(
    st.lists(st.tuples(st.sampled_from(["fail", "succeed", "wait"]), st.floats(0, 5000)), max_size=60), st.floats(0, 1)
)
def test_a_rest_is_bounded_and_a_window_never_closes(steps: list[tuple[str, float]], chance: float) -> None:
    now = 0.0
    health = Health(lambda: now, lambda: chance, BackOff(60, 3600))
    for step, seconds in steps:
        match step:
            case "fail":
                assert 0 <= health.failed("host", WHY, began=now) <= 3600
            case "succeed":
                health.succeeded("host", 20)
                assert health.rest_s("host") == 0
            case _:
                now += seconds
        assert 1 <= health.window("host", 20) <= 20
        assert health.rest_s("host") <= 3600


@calm
@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "cancel", "places"]), st.integers(0, 9)), max_size=60))
def test_a_line_never_has_more_than_its_places_and_forgets_nobody(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        places, inside = 2, 0
        line = Line(lambda: places)
        waiting: list[asyncio.Task[None]] = []
        for step, number in steps:
            match step:
                case "enter":
                    waiting.append(asyncio.create_task(line.enter()))
                case "leave" if inside:
                    inside -= 1
                    line.leave()
                case "cancel" if waiting:
                    waiting.pop(number % len(waiting)).cancel()
                case "places":
                    places = max(places, number)
                case _:
                    pass
            for _ in range(3):
                await asyncio.sleep(0)
            inside += sum(one.done() and not one.cancelled() for one in waiting)
            waiting = [one for one in waiting if not one.done()]
            assert line.busy == inside <= places
        places = 100
        while waiting:
            assert inside, "nobody inside, and somebody waits"
            inside -= 1
            line.leave()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            inside += sum(one.done() for one in waiting)
            waiting = [one for one in waiting if not one.done()]
        assert line.busy == inside

    asyncio.run(run())
