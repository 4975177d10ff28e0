"""What a run has come to, and what is told while it goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from typing import Any

from gatepost.collecting.accounts import Clock
from gatepost.collecting.plan import Plan
from gatepost.collecting.ports import Taken, TakenAs, Trouble

log = logging.getLogger("gatepost.collecting")

_MOST_TOLD = 10


class Word(Enum):
    """What is told."""

    LISTED = "listed"
    FETCHING = "fetching"
    TAKEN = "taken"
    LATER = "later"
    TOO_LARGE = "too-large"
    FAILED = "failed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Step:
    """One word about a run: `done` of `total` messages, `octets` of `size` of the one in hand."""

    account: str
    word: Word
    done: int = 0
    total: int = 0
    octets: int = 0
    size: int = 0
    text: str = ""


Tell = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Report:
    """One run. Times are Unix times in seconds; counts are messages.

    `taken` are those that go on to their recipients, beside `held` and `discarded`; `later` those that are left for the
    next run, `too_large` and `failed` those that stay until somebody does something; `left` those that were fetched
    before and stay as long as the account says. `deleted` counts once the other server has confirmed it.
    """

    account: str
    began: float
    ended: float = 0.0
    listed: int = 0
    taken: int = 0
    held: int = 0
    discarded: int = 0
    later: int = 0
    too_large: int = 0
    failed: int = 0
    left: int = 0
    deleted: int = 0
    octets: int = 0
    more: bool = False
    """Whether there were more new messages than one run fetches."""
    trouble: Trouble | None = None
    text: str = ""
    told: tuple[str, ...] = ()
    """What was wrong with single messages, a line each; no more than _MOST_TOLD."""

    @property
    def is_well(self) -> bool:
        """Whether the run came to its end."""
        return self.trouble is None

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "trouble": None if self.trouble is None else self.trouble.value}

    @classmethod
    def read(cls, facts: object) -> Report:
        """What `as_json` gave; ValueError, TypeError or KeyError where it isn't that."""
        if not isinstance(facts, dict):
            raise TypeError("a report is a table")
        names = {one.name for one in fields(cls)}
        known = {name: value for name, value in facts.items() if name in names}
        trouble, told = known.get("trouble"), tuple(map(str, known.get("told", ())))
        return cls(**{**known, "trouble": None if trouble is None else Trouble(trouble), "told": told})

    def __str__(self) -> str:
        said = [f"{count} {word}" for word, count in self._counts() if count]
        what = ", ".join(said) or "nothing new"
        return what if self.trouble is None else f"{what}; {self.text}" if said else self.text

    def _counts(self) -> list[tuple[str, int]]:
        return [
            ("fetched", self.taken),
            ("held", self.held),
            ("discarded", self.discarded),
            ("left for the next run", self.later),
            ("too large", self.too_large),
            ("failed", self.failed),
            ("deleted there", self.deleted),
        ]


_SUMMED = ("listed", "taken", "held", "discarded", "later", "too_large", "failed", "left", "deleted", "octets")


def summed(reports: Sequence[Report]) -> Report:
    """All of them as one, with the first trouble."""
    counts = {name: sum(getattr(one, name) for one in reports) for name in _SUMMED}
    failed = sum(not one.is_well for one in reports)
    trouble = next((one.trouble for one in reports if not one.is_well), None)
    text = f"{failed} of {len(reports)} accounts couldn't be looked at" if failed else ""
    began = min((one.began for one in reports), default=0.0)
    ended = max((one.ended for one in reports), default=0.0)
    return Report("", began, ended, trouble=trouble, text=text, **counts)


@dataclass(slots=True)
class Telling:
    """Counts what a run does, and tells it: to the log, and to whoever listens."""

    account: str
    now: Clock
    tell: Tell | None = None
    _report: Report = field(init=False)
    _done: int = 0
    _total: int = 0
    _size: int = 0
    _deleting: int = 0

    def begin(self) -> None:
        """A run begins."""
        self._report = Report(self.account, self.now())
        self._done = self._total = self._deleting = 0

    def listed(self, count: int, todo: Plan) -> None:
        """The listing came, whole."""
        self._total = len(todo.fetch)
        self._report = replace(self._report, listed=count, left=todo.left, later=todo.waiting)
        self._say(Word.LISTED)

    def fetching(self, size: int) -> None:
        """The next message; `size` in octets is the server's word."""
        self._size = size
        self._say(Word.FETCHING)

    def progress(self, octets: int) -> None:
        """So much of it has come."""
        self._say(Word.FETCHING, octets=octets)

    def taken(self, taken: Taken, octets: int) -> None:
        """It is durable here."""
        self._done += 1
        counts = {TakenAs.ACCEPTED: "taken", TakenAs.HELD: "held", TakenAs.DISCARDED: "discarded"}
        self._count(**{counts[taken.fate]: 1, "octets": octets})
        log.info("%s: %s %s%s", self.account, taken.fate.value, taken.ticket, f": {taken.text}" if taken.text else "")
        self._say(Word.TAKEN, text=f"{taken.ticket} {taken.fate.value}", octets=octets)

    def known(self) -> None:
        """It was fetched to be looked at, and is known."""
        self._done += 1
        self._count(left=1)

    def waiting(self) -> None:
        """It was fetched to be looked at, and was refused for now not long ago."""
        self._done += 1
        self._count(later=1)

    def enough(self, count: int) -> None:
        """So many that may be new are left for the next run."""
        self._count(later=count)
        self._report = replace(self._report, more=True)

    def later(self, number: int, text: str) -> None:
        """Nothing was decided about it."""
        self._done += 1
        self._count(later=1)
        self._warn(f"message {number} is fetched again later: {text}")
        self._say(Word.LATER, text=text)

    def too_large(self, number: int, size: int, limit: int) -> None:
        """It stays there."""
        self._count(too_large=1)
        text = f"message {number} has {size} octets, and size_limit is {limit}: it stays on the server"
        self._warn(text)
        self._say(Word.TOO_LARGE, text=text)

    def failed(self, number: int, text: str) -> None:
        """Something about this one message."""
        self._count(failed=1)
        self._warn(f"message {number}: {text}")
        self._say(Word.FAILED, text=text)

    def deleting(self) -> None:
        """Its deletion was asked for."""
        self._deleting += 1

    def quitted(self) -> None:
        """What was asked to be deleted is."""
        self._count(deleted=self._deleting)

    def trouble(self, kind: Trouble, text: str) -> None:
        """The run has ended early."""
        self._report = replace(self._report, trouble=kind, text=text)
        log.warning("%s: %s", self.account, text)

    def end(self) -> Report:
        """The run is over."""
        report = self._report = replace(self._report, ended=self.now())
        if report.is_well and (report.listed or report.deleted):
            log.info("%s: %s", self.account, report)
        self._say(Word.ENDED, text=str(report))
        return report

    def _warn(self, text: str) -> None:
        log.warning("%s: %s", self.account, text)
        if len(self._report.told) < _MOST_TOLD:
            self._report = replace(self._report, told=(*self._report.told, text))

    def _count(self, **by: int) -> None:
        counts: dict[str, Any] = {name: getattr(self._report, name) + number for name, number in by.items()}
        self._report = replace(self._report, **counts)

    def _say(self, word: Word, *, text: str = "", octets: int = 0) -> None:
        if self.tell is not None:
            self.tell(Step(self.account, word, self._done, self._total, octets, self._size, text))
