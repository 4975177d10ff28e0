"""Whose turn it is: what is due, in lanes, so that nobody waits behind somebody else's ten thousand messages.

A lane is one sender's mail for one domain. Lanes stand in two rings, by where their mail goes (a group: one next
server, one domain, our own maildrops) and by whose it is; the rings choose by turns, each round robin. So whatever the
others have waiting, a destination gets at least every 2n-th place among n destinations, and a sender every 2n-th among
n senders. A weight is how many places in a row a turn is worth. Where room is to be left, no group holds more than four
times what is still free, and no sender of mail that waits for others' servers does; the last places are for mail that
waits for nobody else's server. So one slow destination can't take every place, nor can many together, nor one sender
with many of them. Lanes of a sender that has its share are parked, and come back as it has room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gatepost.store.roster import Slot

SHARE = 4  # times the free places that one group or sender may hold
_SKIPS = 64  # lanes of full groups that are passed over to find one of a sender's
EVERYTHING = 1 << 30

Item = tuple[float, int, "Slot"]
_NOTHING: list[Item] = []  # of a lane with nothing due; nothing is ever put into it


class Way(NamedTuple):
    """Where a lane's mail goes: `group` names what shares a next server, which has at most `most` in hand and `weight`
    places a turn; `sender_weight` is the lane's own, among those of its group and of its sender. `leaves` is how many
    places it never takes, where room is to be left: they are for what `is_ours`, mail that waits for nobody else's
    server, which counts for no sender's share either.
    """

    group: str
    most: int = EVERYTHING
    weight: int = 1
    sender_weight: int = 1
    leaves: int = 0
    is_ours: bool = False


Sorting = Callable[[str, str], Way]
"""Takes a domain (of recipients) and a sender (user, domain, or "" for notices)."""


def by_domain(domain: str, _: str) -> Way:
    """Where nobody knows better: each domain for itself."""
    return Way(domain)


class Ring:
    """Lanes in a row, the next one in front. Most rings have one lane or none, and then a deque would cost too much."""

    __slots__ = ("_others", "front")

    def __init__(self) -> None:
        self.front: Lane | None = None
        self._others: deque[Lane] | None = None

    def append(self, lane: Lane) -> None:
        """At the end."""
        if self.front is None:
            self.front = lane
        elif self._others is None:
            self._others = deque((lane,))
        else:
            self._others.append(lane)

    def pop_front(self) -> None:
        """Without the one in front."""
        self.front = self._others.popleft() if self._others else None

    def turn(self) -> None:
        """The one in front goes to the end."""
        if self._others and self.front is not None:
            self._others.append(self.front)
            self.front = self._others.popleft()

    def remove(self, lane: Lane) -> None:
        """Wherever it stands."""
        if self.front is lane:
            self.pop_front()
        elif self._others is not None:
            self._others.remove(lane)


class Holder:
    """A group or a sender: its lanes with something due, and how much is in hand (a sender's without what is ours)."""

    __slots__ = ("credit", "in_hand", "is_listed", "is_ours", "key", "lanes", "leaves", "most", "ring", "weight")

    def __init__(self, key: str) -> None:
        self.key = key
        self.most = EVERYTHING
        self.weight = self.credit = 1
        self.leaves = 0
        self.is_ours = False
        self.in_hand = 0
        self.lanes = 0
        self.ring = Ring()
        self.is_listed = False

    def has_room(self, free: int | None) -> bool:
        """Whether it may have one of so many `free` places; None where no room is to be left."""
        if self.in_hand >= self.most:
            return False
        return free is None or (free > self.leaves and self.in_hand <= SHARE * free)


class Lane:
    """One sender's mail for one domain. `first` and `again` hold what is due: first attempts of small messages, and the
    rest, which take turns. `slots` counts everything of it, due or not. Where it stands in its group's ring it is there
    (`by_group`), or parked.
    """

    __slots__ = (
        "again", "by_group", "by_sender", "credit", "domain", "first", "group", "is_again_next", "is_parked", "sender",
        "slots", "weight",
    )  # fmt: skip

    def __init__(self, domain: str, group: Holder, sender: Holder) -> None:
        self.domain = domain
        self.group = group
        self.sender = sender
        self.first: list[Item] = _NOTHING
        self.again: list[Item] = _NOTHING
        self.is_again_next = False
        self.by_group = self.by_sender = False  # whether it stands in the ring
        self.is_parked = False
        self.slots = 0
        self.weight = self.credit = 1

    def take(self, item: Item, *, again: bool) -> None:
        """A slot of it is due."""
        if again:
            if self.again is _NOTHING:
                self.again = []
            heappush(self.again, item)
        else:
            if self.first is _NOTHING:
                self.first = []
            heappush(self.first, item)

    def peek(self) -> float | None:
        """When the first of what is due has become it; None if nothing is left."""
        first = self.first[0][0] if self.first and skim(self.first) else None
        again = self.again[0][0] if self.again and skim(self.again) else None
        return again if first is None else first if again is None else min(first, again)

    def has_room(self, free: int | None) -> bool:
        """Whether its sender may have one of so many `free` places for it."""
        return self.group.is_ours or self.sender.has_room(free)

    def pop(self) -> Slot | None:
        """Longest waiting first, first attempts and the others in turn."""
        for heap in (self.again, self.first) if self.is_again_next else (self.first, self.again):
            if heap and skim(heap):
                self.is_again_next = heap is self.first
                return heappop(heap)[2]
        return None


def skim(heap: list[Item]) -> bool:
    """Drop items that are no longer valid from the top; whether something is left."""
    while heap:
        due, _, slot = heap[0]
        if slot.is_waiting and slot.progress.due == due:
            return True
        heappop(heap)
    return False


class Lanes:
    """Every lane of one spool. Invariant: a lane with something due stands in the rings of its group and its sender,
    and both of these are listed; or it is parked instead of standing in its group's.
    """

    def __init__(self) -> None:
        self._sorting: Sorting = by_domain
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._groups: dict[str, Holder] = {}
        self._ours: set[str] = set()
        self._senders: dict[str, Holder] = {}
        self._listed: deque[Holder] = deque()
        self._full: deque[Holder] = deque()
        self._parked: dict[Holder, deque[Lane]] = {}
        self._listed_senders: deque[Holder] = deque()
        self._is_senders_turn = False

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def sort(self, sorting: Sorting) -> None:
        """Ask this for each lane's way, now and whenever it has something due again."""
        self._sorting = sorting
        for lane in self._lanes.values():
            self._sort(lane)

    def enter(self, domain: str, sender: str) -> Lane:
        """The lane that one more slot belongs to from now on."""
        lane = self._lanes.get((domain, sender))
        if lane is None:
            way = self._sorting(domain, sender)
            lane = Lane(domain, self._group(way), holder := _holder(self._senders, sender))
            lane.weight = lane.credit = way.sender_weight
            lane.group.lanes += 1
            holder.lanes += 1
            self._lanes[domain, holder.key] = lane
        lane.slots += 1
        return lane

    def leave(self, lane: Lane) -> None:
        """One slot less in a lane; without any it is forgotten."""
        lane.slots -= 1
        if not lane.slots:
            del self._lanes[lane.domain, lane.sender.key]
            _leave(self._groups, lane.group)
            _leave(self._senders, lane.sender)

    def push(self, item: Item, lane: Lane, *, again: bool) -> None:
        """A slot of the lane is due."""
        lane.take(item, again=again)
        if not lane.by_group:
            self._sort(lane)  # what is known of its way may have changed since it was last here
            self._enlist(lane)
        if not lane.by_sender:
            lane.by_sender = True
            lane.sender.ring.append(lane)
            if not lane.sender.is_listed:
                lane.sender.is_listed = True
                self._listed_senders.append(lane.sender)

    def pick(self, free: int | None) -> Slot | None:
        """Whose turn it is, where so many places are free; None where nobody is due who may have one."""
        self._is_senders_turn = not self._is_senders_turn
        slot = self._pick_by_sender(free) if self._is_senders_turn else None
        return self._pick_by_group(free) if slot is None else slot

    def give_back(self, group: Holder, sender: Holder | None) -> None:
        """One of the group's is in nobody's hand any more, nor, where it counted for one, of the sender's."""
        group.in_hand -= 1
        if not group.lanes and not group.in_hand:
            self._groups.pop(group.key, None)
        if sender is not None:
            sender.in_hand -= 1
            if not sender.lanes and not sender.in_hand and self._senders.get(sender.key) is sender:
                del self._senders[sender.key]

    def look_again(self, free: int | None) -> None:
        """Groups and senders that were full may have room now, where so many places are free."""
        if self._full:
            self._listed.extendleft(reversed(self._full))
            self._full.clear()
        for sender, lanes in list(self._parked.items()):
            room = EVERYTHING if free is None else SHARE * free - sender.in_hand + 1
            while room > 0 and self._first_parked(sender) is not None:
                lane = lanes.popleft()
                lane.is_parked = False
                self._enlist(lane)
                room -= 1

    def next_due(self) -> float | None:
        """When something that is due has become it; None where nothing is."""
        for ring in self._listed, self._full:
            while ring:
                if (due := _first_due(ring[0])) is not None:
                    return due
                ring.popleft().is_listed = False
        for sender in list(self._parked):
            if (due := self._first_parked(sender)) is not None:
                return due
        return None

    def _pick_by_group(self, free: int | None) -> Slot | None:
        groups = self._listed
        while groups:
            group = groups[0]
            if free is not None and free <= group.leaves:
                return self._pick_ours(free)  # instead of looking at all who may have none of the last places
            if not group.has_room(free):
                self._full.append(groups.popleft())
                continue
            if _first_due(group) is None:
                groups.popleft().is_listed = False
                continue
            lane = group.ring.front
            if lane is not None and not lane.has_room(free):
                self._park(lane)
                continue
            slot = _pop(group)
            group.credit -= 1
            if group.credit <= 0:
                group.credit = group.weight
                groups.rotate(-1)
            return slot
        return None

    def _pick_ours(self, free: int) -> Slot | None:
        for key in self._ours:
            group = self._groups.get(key)
            if group is not None and group.has_room(free) and _first_due(group) is not None:
                return _pop(group)
        return None

    def _pick_by_sender(self, free: int | None) -> Slot | None:
        senders = self._listed_senders
        for _ in range(_SKIPS):
            if not senders:
                return None
            sender = senders[0]
            if sender.ring.front is None:
                senders.popleft().is_listed = False
                continue
            lane = sender.ring.front
            if lane.peek() is None:
                sender.ring.pop_front()
                lane.by_sender = False
                continue
            if lane.group.has_room(free) and lane.has_room(free):
                slot = _pop(sender)
                senders.rotate(-1)
                return slot
            sender.ring.turn()
            senders.rotate(-1)
        return None

    def _sort(self, lane: Lane) -> None:
        way = self._sorting(lane.domain, lane.sender.key)
        if lane.weight != way.sender_weight:
            lane.weight = lane.credit = way.sender_weight
        group = self._group(way)
        if group is lane.group:
            return
        was_listed = lane.by_group
        if was_listed:
            if lane.is_parked:
                lane.is_parked = False  # where it was parked it is passed over
            else:
                lane.group.ring.remove(lane)
            lane.by_group = False
        _leave(self._groups, lane.group)
        lane.group = group
        group.lanes += 1
        if was_listed:
            self._enlist(lane)

    def _group(self, way: Way) -> Holder:
        group = _holder(self._groups, way.group)
        group.most, group.leaves, group.is_ours = way.most, way.leaves, way.is_ours
        if way.is_ours:
            self._ours.add(way.group)
        if group.weight != way.weight:
            group.weight = group.credit = way.weight
        return group

    def _enlist(self, lane: Lane) -> None:
        lane.by_group = True
        lane.group.ring.append(lane)
        if not lane.group.is_listed:
            lane.group.is_listed = True
            self._listed.append(lane.group)

    def _park(self, lane: Lane) -> None:
        """Out of the way of the others in its group: its sender has its share."""
        lane.group.ring.pop_front()
        lane.is_parked = True
        self._parked.setdefault(lane.sender, deque()).append(lane)

    def _first_parked(self, sender: Holder) -> float | None:
        """When the first parked lane's first has become due; lanes with nothing due are forgotten."""
        lanes = self._parked[sender]
        while lanes:
            lane = lanes[0]
            if lane.is_parked:
                if (due := lane.peek()) is not None:
                    return due
                lane.is_parked = lane.by_group = False
            lanes.popleft()
        del self._parked[sender]
        return None


def _holder(known: dict[str, Holder], key: str) -> Holder:
    holder = known.get(key)
    if holder is None:
        holder = known[key] = Holder(key)
    return holder


def _leave(known: dict[str, Holder], holder: Holder) -> None:
    holder.lanes -= 1
    if not holder.lanes and not holder.in_hand:
        known.pop(holder.key, None)


def _first_due(holder: Holder) -> float | None:
    ring = holder.ring
    while (lane := ring.front) is not None:
        if (due := lane.peek()) is not None:
            return due
        ring.pop_front()
        lane.by_group = False
    return None


def _pop(holder: Holder) -> Slot | None:
    """From the lane in front, which goes to the end when its turn is over."""
    lane = holder.ring.front
    assert lane is not None, "somebody in front is due"
    slot = lane.pop()
    lane.credit -= 1
    if lane.credit <= 0:
        lane.credit = lane.weight
        holder.ring.turn()
    return slot
