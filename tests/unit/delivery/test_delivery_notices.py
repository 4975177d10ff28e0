"""Who is told what: NOTIFY, RET, ENVID, warnings of delay, successes; and nobody who mustn't be."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from contract.report_grammar import check_report
from gatepost.delivery.notice import Manner, Policy
from gatepost.delivery.route import Host, Lmtp, Mx, Relay
from gatepost.delivery.schedule import Schedule
from gatepost.delivery.settlement import Arrival, Result, Settlement, settle
from gatepost.model import NULL_PATH, Bytes, Envelope, Path, Recipient, Reply, Ticket, token_at
from gatepost.store import Deposit, Entry, Fate

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0
CONTENT = Bytes(b"From: a@b.example\r\nSubject: hello\r\n\r\nbody\r\n")
NO = Reply(550, "5.1.1", "no such user")
LATER = Reply(451, "4.3.0", "busy")
OK = Reply(250, "2.0.0", "taken")
MX = Host("mx.y.example")


def to(name: str, **parameters: str) -> Recipient:
    return Recipient(Path.parse(f"{name}@y.example"), parameters)


def policy(**manner: Any) -> Policy:
    numbers, made = count(1), Manner(**{"warn_s": 4 * HOUR, **manner})
    return Policy(
        "mx.example",
        Path.parse("postmaster@mx.example"),
        lambda path: path.domain == "own.example",
        lambda: Ticket(token_at(int(NOW * 1000), 0, 1), next(numbers)),
        manner=lambda: made,
    )


def entry(*recipients: Recipient, sender: str = "x@own.example", age: float = 60, **asked: str) -> Entry:
    return Entry(
        id="06HK3M-9Q7TZA-1",
        ticket=Ticket.parse("06HK3M-9Q7TZA-1"),
        part=0,
        envelope=Envelope(Path.parse(sender), recipients, parameters=asked),
        content=CONTENT,
        received_at=NOW - age,
        since=NOW - age,
        notes={"asked": "submitted"},
    )


def settled(item: Entry, *results: Result, **manner: Any) -> Settlement:
    return settle(item, results, now=NOW, chance=0.0, schedule=Schedule(), policy=policy(**manner))


def report(deposit: Deposit) -> tuple[str, list[dict[str, str]]]:
    assert isinstance(deposit.content, Bytes)
    assert deposit.envelope.sender == NULL_PATH
    _, blocks = check_report(deposit.content.data)
    return deposit.content.data.decode(), blocks


# Failure


@pytest.mark.parametrize("asked", ["NEVER", "never", "SUCCESS", "SUCCESS,DELAY", "DELAY"])
@pytest.mark.parametrize("sender", ["x@own.example", "eve@foreign.example"])
def test_who_wants_no_notice_of_failure_gets_none(asked: str, sender: str) -> None:
    bob = to("bob", NOTIFY=asked)
    settlement = settled(entry(bob, sender=sender), Result(bob, Fate.FAILED, NO))
    assert settlement.deposits == ()
    assert settlement.held is None
    assert [outcome.fate for outcome in settlement.outcomes] == [Fate.FAILED]
    assert settlement.results[0].told == "nobody, as the sender asked"


@pytest.mark.parametrize("asked", [None, "FAILURE", "SUCCESS,FAILURE", "failure,delay"])
def test_who_wants_it_or_said_nothing_gets_it(asked: str | None) -> None:
    bob = to("bob") if asked is None else to("bob", NOTIFY=asked)
    settlement = settled(entry(bob, ENVID="QQ+2B1"), Result(bob, Fate.FAILED, NO, MX))
    [deposit] = settlement.deposits
    _, (message, block) = report(deposit)
    assert message["Original-Envelope-Id"] == "QQ+1"
    assert (block["Action"], block["Status"]) == ("failed", "5.1.1")
    assert block["Remote-MTA"] == "dns; mx.y.example"
    assert settlement.results[0].told == "sender"


def test_of_several_only_who_is_wanted_is_in_it() -> None:
    ann, bob = to("ann", NOTIFY="NEVER"), to("bob", ORCPT="rfc822;Bobby@own.example")
    settlement = settled(entry(ann, bob), Result(ann, Fate.FAILED, NO), Result(bob, Fate.FAILED, NO))
    text, (_, block) = report(settlement.deposits[0])
    assert block["Original-Recipient"] == "rfc822; Bobby@own.example"
    assert "ann@y.example" not in text
    assert [result.told for result in settlement.results] == ["nobody, as the sender asked", "sender"]


def test_of_several_only_who_may_be_told_of_is_held() -> None:
    ann, bob = to("ann", NOTIFY="NEVER"), to("bob")
    item = entry(ann, bob, sender="eve@foreign.example")
    settlement = settled(item, Result(ann, Fate.FAILED, NO), Result(bob, Fate.FAILED, NO))
    assert settlement.held is not None
    assert [outcome.fate for outcome in settlement.outcomes] == [Fate.FAILED, Fate.LATER]
    assert [result.told for result in settlement.results] == ["nobody, as the sender asked", "postmaster"]


def test_L2_a_report_is_held_whatever_it_asks_for() -> None:
    bob = to("bob", NOTIFY="NEVER")
    settlement = settled(entry(bob, sender=""), Result(bob, Fate.FAILED, NO))
    assert settlement.held is not None
    assert settlement.deposits == ()


@pytest.mark.parametrize(
    ("asked", "limit", "kind"),
    [
        ({}, 65536, "text/rfc822-headers"),
        ({"RET": "HDRS"}, 65536, "text/rfc822-headers"),
        ({"RET": "full"}, 65536, "message/rfc822"),
        ({"RET": "FULL"}, 10, "text/rfc822-headers"),
        ({"RET": "FULL", "REQUIRETLS": ""}, 65536, "text/rfc822-headers"),
    ],
)
def test_what_comes_back(asked: dict[str, str], limit: int, kind: str) -> None:
    bob = to("bob")
    [deposit] = settled(entry(bob, **asked), Result(bob, Fate.FAILED, NO), returned_max=limit).deposits
    assert isinstance(deposit.content, Bytes)
    message, _ = check_report(deposit.content.data)
    assert list(message.iter_parts())[2].get_content_type() == kind
    assert ("REQUIRETLS" in deposit.envelope.parameters) is ("REQUIRETLS" in asked)


# Delay


def test_a_sender_is_told_of_a_delay_once() -> None:
    ann, bob = to("ann"), to("bob", NOTIFY="DELAY")
    item = entry(ann, bob, age=5 * HOUR, RET="FULL")
    results = (Result(ann, Fate.LATER, LATER, MX), Result(bob, Fate.LATER, LATER, is_ours=True))
    settlement = settled(item, *results)
    assert settlement.notes == {"asked": "submitted", "warned": str(int(NOW))}
    assert settlement.next_attempt is not None
    text, (_, first, second) = report(settlement.deposits[0])
    assert (first["Action"], first["Status"]) == ("delayed", "4.3.0")
    assert first["Diagnostic-Code"] == "smtp; 451 4.3.0 busy"
    assert "Will-Retry-Until" in second
    assert "Content-Type: text/rfc822-headers" in text, "only headers come back, whatever RET says"
    again = settled(replace(item, notes=settlement.notes), *results)
    assert again.deposits == ()
    assert again.notes is None


@pytest.mark.parametrize(
    ("changed", "manner"),
    [
        ({"age": 3 * HOUR}, {}),
        ({"age": 5 * HOUR}, {"warn_s": 0.0}),
        ({"age": 5 * HOUR, "sender": ""}, {}),
        ({"age": 5 * HOUR, "sender": "eve@foreign.example"}, {}),
    ],
    ids=["too early", "never", "L2", "L4"],
)
def test_nobody_is_told_of_a_delay(changed: dict[str, Any], manner: dict[str, Any]) -> None:
    bob = to("bob", NOTIFY="DELAY")
    settlement = settled(entry(bob, **changed), Result(bob, Fate.LATER, LATER), **manner)
    assert settlement.deposits == ()
    assert settlement.notes is None


@pytest.mark.parametrize("asked", ["NEVER", "SUCCESS", "FAILURE"])
def test_who_wants_no_notice_of_delay_gets_none(asked: str) -> None:
    bob = to("bob", NOTIFY=asked)
    settlement = settled(entry(bob, age=5 * HOUR), Result(bob, Fate.LATER, LATER))
    assert settlement.deposits == ()
    assert settlement.notes is None


def test_at_the_end_there_is_a_failure_and_no_delay() -> None:
    bob = to("bob")
    settlement = settled(entry(bob, age=5 * DAY), Result(bob, Fate.LATER, LATER))
    [deposit] = settlement.deposits
    _, (_, block) = report(deposit)
    assert (block["Action"], block["Status"]) == ("failed", "4.4.7")


# Success


def test_a_success_is_told_to_who_asked() -> None:
    ann, bob, cat, dan = (
        to("ann", NOTIFY="SUCCESS"),
        to("bob", NOTIFY="SUCCESS,FAILURE"),
        to("cat", NOTIFY="success"),
        to("dan"),
    )
    settlement = settled(
        entry(ann, bob, cat, dan, RET="FULL"),
        Result(ann, Fate.DONE),
        Result(bob, Fate.DONE, OK, MX, arrival=Arrival.RELAYED),
        Result(cat, Fate.DONE, OK, MX, arrival=Arrival.PASSED_ON),
        Result(dan, Fate.DONE),
    )
    delivered, relayed = (report(deposit) for deposit in settlement.deposits)
    assert [(block["Final-Recipient"], block["Action"]) for block in delivered[1][1:]] == [
        ("rfc822; ann@y.example", "delivered")
    ]
    assert [(block["Final-Recipient"], block["Action"]) for block in relayed[1][1:]] == [
        ("rfc822; bob@y.example", "relayed")
    ]
    assert relayed[1][1]["Remote-MTA"] == "dns; mx.y.example"
    assert "Content-Type: text/rfc822-headers" in delivered[0]


@pytest.mark.parametrize("sender", ["", "eve@foreign.example"])
def test_L4_no_success_for_strangers(sender: str) -> None:
    ann = to("ann", NOTIFY="SUCCESS")
    assert settled(entry(ann, sender=sender), Result(ann, Fate.DONE)).deposits == ()


def test_successes_and_failures_come_in_reports_of_their_own() -> None:
    ann, bob = to("ann", NOTIFY="SUCCESS"), to("bob")
    settlement = settled(entry(ann, bob), Result(ann, Fate.DONE), Result(bob, Fate.FAILED, NO))
    assert [report(deposit)[1][1]["Action"] for deposit in settlement.deposits] == ["delivered", "failed"]
    assert len({deposit.ticket for deposit in settlement.deposits}) == 2


def test_how_far_a_message_got() -> None:
    relay, lmtp = Relay((MX,)), Lmtp((MX,))
    assert Arrival.at(relay, is_blind=True) is Arrival.at(Mx("y.example"), is_blind=True) is Arrival.RELAYED
    assert Arrival.at(relay, is_blind=False) is Arrival.PASSED_ON
    assert Arrival.at(lmtp, is_blind=True) is Arrival.at(lmtp, is_blind=False) is Arrival.DELIVERED
