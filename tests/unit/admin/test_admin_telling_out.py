"""What `explain` tells of sessions with next servers: also what was asked before MAIL."""

from __future__ import annotations

from gatepost.admin.telling import Entry, explain

TOKEN = "0T4CHP-M60001"


def entry(kind: str, **facts: object) -> Entry:
    return (1_795_290_000_000, TOKEN, kind, facts)


def test_what_is_asked_before_mail_is_told_once() -> None:
    entries = [
        entry("session", peer="192.0.2.1", listener="mx"),
        *(entry("sender", transaction=number, sender="ann@own.example") for number in (1, 2)),
        entry("asked", stage="out-session", plugin="pool", host="mx.far.example", notes={"call": "192.0.2.7"}),
        entry("asked", stage="out-message", plugin="pool", transaction=2, host="mx.far.example", notes={"a": "b"}),
    ]
    told = explain(entries)
    assert told is not None
    first, second = told.text(commands=False).split("\n\n")
    assert "  out-session pool  " in first
    assert "at mx.far.example  proceed  call=192.0.2.7" in first
    assert "out-message" not in first
    assert "out-session" not in second
    assert "out-message pool" in second
    alone = explain(entries, 2)
    assert alone is not None
    assert "out-session pool" in str(alone)
