"""What an attempt comes to: pure decisions on retries, reports, holding."""

from __future__ import annotations

from itertools import count

import pytest

from gatepost.delivery.notice import Answer, Policy, decide
from gatepost.delivery.route import Discard, Host, Maildir, Route, Routes
from gatepost.delivery.schedule import Schedule
from gatepost.delivery.settlement import Result, Settlement, postpone, settle
from gatepost.model import NULL_PATH, Bytes, Envelope, Path, Recipient, Reply, Ticket, token_at
from gatepost.store import Deposit, Entry, Fate

NOW = 1_800_000_000.0
DAY = 86400.0
CONTENT = Bytes(b"From: a@b.example\r\nSubject: hello\r\n\r\nbody\r\n")
ANN, BOB, CAT = (Recipient(Path.parse(f"{name}@y.example")) for name in ("ann", "bob", "cat"))
NO = Reply(550, "5.1.1", "no such user")
LATER = Reply(451, "4.3.0", "busy")
SCHEDULE = Schedule()


def policy() -> Policy:
    numbers = count(1)
    token = token_at(int(NOW * 1000), 0, 1)
    return Policy(
        "mx.example",
        Path.parse("postmaster@mx.example"),
        lambda path: path.domain == "own.example",
        lambda: Ticket(token, next(numbers)),
    )


def entry(sender: str = "eve@foreign.example", *, authenticated: str | None = None, since: float = NOW - 60) -> Entry:
    return Entry(
        id="06HK3M-9Q7TZA-1",
        ticket=Ticket.parse("06HK3M-9Q7TZA-1"),
        part=0,
        envelope=Envelope(Path.parse(sender), (ANN, BOB, CAT)),
        content=CONTENT,
        received_at=since,
        since=since,
        authenticated=authenticated,
    )


def settled(item: Entry, *results: Result) -> Settlement:
    return settle(item, results, now=NOW, chance=0.0, schedule=SCHEDULE, policy=policy())


def fates(settlement: Settlement) -> list[tuple[str, Fate]]:
    return [(outcome.recipient.local, outcome.fate) for outcome in settlement.outcomes]


def text(deposit: Deposit) -> str:
    assert isinstance(deposit.content, Bytes)
    return deposit.content.data.decode()


@pytest.mark.parametrize(
    ("sender", "authenticated", "answer"),
    [
        ("", None, Answer.HOLD),
        ("", "ann", Answer.HOLD),
        ("x@own.example", None, Answer.REPORT),
        ("x@foreign.example", "ann", Answer.REPORT),
        ("x@foreign.example", None, Answer.HOLD_AND_TELL),
    ],
)
def test_L2_L4_who_hears_of_a_failure(sender: str, authenticated: str | None, answer: Answer) -> None:
    assert decide(Path.parse(sender), authenticated, lambda path: path.domain == "own.example") is answer


def test_everybody_has_it() -> None:
    settlement = settled(entry(), Result(ANN, Fate.DONE), Result(BOB, Fate.DONE))
    assert settlement.next_attempt is None
    assert settlement.held is None
    assert settlement.deposits == ()


def test_some_wait() -> None:
    settlement = settled(entry(), Result(ANN, Fate.DONE), Result(BOB, Fate.LATER, LATER))
    assert settlement.next_attempt == NOW + 300
    assert fates(settlement) == [("ann", Fate.DONE), ("bob", Fate.LATER)]
    assert settlement.outcomes[1].said == "451 4.3.0 busy"


def test_a_report_to_a_sender_we_know() -> None:
    results = (Result(ANN, Fate.DONE), Result(BOB, Fate.FAILED, NO, Host("next.example")), Result(CAT, Fate.LATER))
    for item in (entry("x@own.example"), entry(authenticated="ann")):
        settlement = settled(item, *results)
        assert fates(settlement) == [("ann", Fate.DONE), ("bob", Fate.FAILED), ("cat", Fate.LATER)]
        assert settlement.held is None
        [report] = settlement.deposits
        assert report.envelope.sender == NULL_PATH
        assert [r.path for r in report.envelope.recipients] == [item.envelope.sender]
        assert "Final-Recipient: rfc822; bob@y.example" in text(report)
        assert "550 5.1.1 no such user" in text(report)
        assert "next.example" in text(report)
        assert "ann@y.example" not in text(report)
        assert report.facts == {"notice-of": item.id}


def test_L4_no_report_to_a_stranger_the_message_is_held_and_the_postmaster_told() -> None:
    settlement = settled(entry(), Result(ANN, Fate.DONE), Result(BOB, Fate.FAILED, NO))
    assert settlement.held == "undeliverable: bob@y.example: 550 5.1.1 no such user"
    assert settlement.next_attempt is None
    assert fates(settlement) == [("ann", Fate.DONE), ("bob", Fate.LATER)], "who failed stays in the held entry"
    assert [result.fate for result in settlement.results] == [Fate.DONE, Fate.FAILED]
    [notice] = settlement.deposits
    assert [str(r) for r in notice.envelope.recipients] == ["postmaster@mx.example"]
    assert "06HK3M-9Q7TZA-1" in text(notice)


def test_who_failed_is_held_apart_while_others_wait() -> None:
    settlement = settled(entry(), Result(ANN, Fate.LATER, LATER), Result(BOB, Fate.FAILED, NO))
    assert settlement.held is None
    assert settlement.next_attempt == NOW + 300
    assert fates(settlement) == [("ann", Fate.LATER), ("bob", Fate.FAILED)]
    notice, copy = settlement.deposits
    assert notice.held is None
    assert copy.held is not None
    assert copy.envelope.recipients == (BOB,)
    assert copy.content is CONTENT
    assert copy.ticket != notice.ticket


def test_L2_a_report_that_cannot_be_delivered_is_held_silently() -> None:
    settlement = settled(entry(""), Result(ANN, Fate.FAILED, NO))
    assert settlement.held is not None
    assert settlement.deposits == ()


def test_time_is_up() -> None:
    old = entry("x@own.example", since=NOW - 5 * DAY)
    settlement = settled(old, Result(ANN, Fate.LATER, LATER), Result(BOB, Fate.DONE))
    assert settlement.next_attempt is None
    assert fates(settlement) == [("ann", Fate.FAILED), ("bob", Fate.DONE)]
    [report] = settlement.deposits
    assert "Status: 4.4.7" in text(report)
    assert settled(entry(since=NOW - 5 * DAY), Result(ANN, Fate.LATER, LATER)).held is not None


def test_I4_what_a_remote_server_says_stays_one_line() -> None:
    nasty = Reply(550, "5.1.1", "first\nBcc: all@example.org\nlast")
    settlement = settled(entry("x@own.example"), Result(ANN, Fate.FAILED, nasty))
    assert "\nBcc:" not in text(settlement.deposits[0])
    assert "\n" not in settlement.outcomes[0].said


def test_postponed_after_a_bug_nobody_is_lost() -> None:
    settlement = postpone([Result(ANN, Fate.DONE), Result(BOB, Fate.FAILED, NO)], now=NOW, schedule=SCHEDULE)
    assert fates(settlement) == [("ann", Fate.DONE), ("bob", Fate.LATER)]
    assert settlement.next_attempt == NOW + SCHEDULE.longest_s


def test_routes_first_match_wins() -> None:
    local, other = Route(("ann@y.example", "*@own.example"), Maildir()), Route(("*@y.example",), Discard())
    routes = Routes((local, other))
    assert routes.find(ANN.path) is local
    assert routes.find(BOB.path) is other
    assert routes.find(Path.parse("x@z.example")) is None
    assert Routes((Route(("*",), Discard()),)).find(Path.parse("postmaster", bare_postmaster=True)) is not None
    assert str(Host("::1", 25)) == "[::1]:25"
