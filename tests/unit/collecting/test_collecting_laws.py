"""Whatever happens to a maildrop, in whatever order, and wherever a run dies: nothing is lost, nothing comes twice."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.collecting.collector import Collector
from unit.collecting.doubles import DAY, Cut, Home, Maildrop, account, message

ACTS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 3)),
    st.tuples(st.just("somebody else deletes"), st.integers(0, 9)),
    st.tuples(st.just("time goes by"), st.integers(1, 4)),
    st.tuples(st.just("run"), st.just(0)),
    st.tuples(st.just("run and die"), st.integers(1, 30)),
    st.tuples(st.just("later"), st.integers(0, 9)),
)


class Story:
    """One maildrop and one house, and what must hold at every moment."""

    def __init__(self, *, uidl: bool, top: bool, keep_s: float | None, copies: bool = True) -> None:
        """`copies`: some messages are the same, octet by octet."""
        self.home = Home(Maildrop(uidl=uidl, top=top))
        self.account = account(keep_s=keep_s, most=4)
        self.put: Counter[bytes] = Counter()
        self.gone: Counter[bytes] = Counter()
        """What somebody else deleted before it was fetched, or perhaps after."""
        self._number = 0
        self._copies = copies

    async def act(self, what: str, number: int) -> None:
        drop = self.home.maildrop
        match what:
            case "put":
                self._number += 1
                content = message(f"kind {number}" if self._copies else f"number {self._number}")
                drop.messages.append((f"uid{self._number}", content))
                self.put[content] += 1
            case "somebody else deletes" if drop.messages:
                _, content = drop.messages.pop(number % len(drop.messages))
                self.gone[content] += 1
            case "time goes by":
                self.home.time += number * DAY
            case "run":
                await self._run(0)
            case "run and die":
                await self._run(number)
            case "later":
                self.home.later = {message(f"kind {number}"), message(f"number {self._number - number}")}
            case _:
                pass

    async def _run(self, die_at: int) -> None:
        steps = self.home.maildrop.steps
        steps.count, steps.die_at = 0, die_at
        try:
            await Collector(self.account, self.home.house()).run()
        except Cut:
            return

    def check(self) -> None:
        taken = Counter(self.home.contents)
        there = Counter(self.home.maildrop.contents)
        for content, count in self.put.items():
            assert taken[content] + there[content] + self.gone[content] >= count, "lost"
            assert taken[content] <= count, "doubled"

    async def end(self) -> None:
        """Runs without a death: whoever is there is fetched."""
        self.home.later = set()
        for _ in range(12):
            self.home.time += 4 * 3600  # after which what was refused for now is tried again at the latest
            await self._run(0)
        taken = Counter(self.home.contents)
        for content, count in self.put.items():
            assert taken[content] + self.gone[content] >= count


def tell(acts, **facts) -> None:
    async def told() -> None:
        story = Story(**facts)
        for what, number in acts:
            await story.act(what, number)
            story.check()
        await story.end()
        story.check()

    asyncio.run(told())


KEEP = st.sampled_from([0.0, DAY, 3 * DAY, None])


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTS, max_size=25), st.booleans(), KEEP)
def test_with_uidl(acts, top, keep_s):
    tell(acts, uidl=True, top=top, keep_s=keep_s)


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTS, max_size=25), st.booleans(), KEEP)
def test_without_uidl(acts, top, keep_s):
    """A message that is the same octet by octet as one that was deleted can't be told from one that wasn't."""
    tell(acts, uidl=False, top=top, keep_s=keep_s, copies=False)
