"""`gatepost check` names tables that come too late to have any effect."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost.app.looking_at_order import look_at_order
from gatepost.app.settings import Settings


def route(match: str | list[str], **more: Any) -> dict[str, Any]:
    return {"match": match, "deliver": "discard", "for": "authenticated", **more}


@pytest.mark.parametrize(
    ("routes", "late"),
    [
        ([route("*"), route("*@a.example")], ["*@a.example"]),
        ([route("*@a.example"), route("*")], []),
        ([route("*@*.example"), route(["x@a.example", "x@b.test"])], ["x@a.example"]),
        ([route("ann"), route("ann@a.example"), route("*@a.example")], ["ann@a.example"]),
        ([route("*@a.example"), route("ann")], []),
        ([route("*", **{"from": "*@news.example"}), route("*@a.example")], []),
        ([route("*@A.example"), route("*@a.EXAMPLE")], ["*@a.EXAMPLE"]),
    ],
)
def test_routes(routes: list[dict[str, Any]], late: list[str]) -> None:
    seen = list(look_at_order(Settings.in_memory(route=routes)))
    assert [(what, state, text.partition(" ")[0]) for what, state, text in seen] == [
        ("route", "warning", one) for one in late
    ]


def test_policies_and_destinations() -> None:
    settings = Settings.in_memory(
        tls={"policy": [{"match": "*", "tls": "none"}, {"match": "bank.example", "tls": "secure"}]},
        delivery={
            "destination": [{"match": "*.big.example", "rate": "1/s"}, {"match": ["mx.big.example", "x.example"]}]
        },
    )
    assert list(look_at_order(settings)) == [
        (
            "tls.policy",
            "warning",
            "bank.example has no effect: * stands before it and always fits; put bank.example first",
        ),
        (
            "destination",
            "warning",
            "mx.big.example has no effect: *.big.example stands before it and always fits; put mx.big.example first",
        ),
    ]
