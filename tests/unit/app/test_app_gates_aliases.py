"""Aliases at RCPT where the next server knows who exists: it isn't asked about what only we know."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from gatepost.app.gates import gates
from gatepost.app.quotas import NO_SUCH_USER
from gatepost.app.settings import Settings
from gatepost.model import NULL_PATH, Path, Recipient, Reply
from gatepost.serving.house import Existence, GateHouse

USERS = {"domain_aliases": {"example.net": "example.org"}, "catch_all": {"example.org": "info@example.org"}}
ALIASES = [
    {"address": "info@example.org", "to": ["ann@example.org"]},
    {"address": "postmaster", "to": ["x@example.org"]},
]


async def refuses(question: object) -> Reply | None:
    return NO_SUCH_USER


def asked(address: str, **more: Any) -> Existence | None:
    settings = Settings.in_memory(
        hostname="mx.here.example",
        route=[{"match": ["*@example.org", "*@example.net"], "deliver": "relay 192.0.2.1", "recipients": "ask"}],
        **more,
    )
    made = gates(settings, admission=Mock(), room=Mock(), ask=lambda route: refuses, hand_over=Mock())
    gate = GateHouse(made).gate_for(Recipient(Path.parse(address)), NULL_PATH, None)
    assert gate is not None
    return gate.exists


@pytest.mark.parametrize(
    ("address", "is_taken"),
    [
        ("Info@example.org", True),
        ("info+x@example.org", True),
        ("info@example.net", True),
        ("Postmaster@example.net", True),
        ("ann@example.org", False),
        ("nobody@example.org", False),  # who catches what nobody has catches nothing that others know
    ],
)
async def test_only_what_isnt_an_alias_is_asked_about(address: str, is_taken: bool) -> None:
    exists = asked(address, users=USERS, alias=ALIASES)
    assert exists is not None
    question: Any = SimpleNamespace(facts={"recipient": Recipient(Path.parse(address))})
    assert (await exists(question) is None) is is_taken


def test_where_there_are_none_nothing_stands_between() -> None:
    assert asked("info@example.org", users=USERS) is refuses
