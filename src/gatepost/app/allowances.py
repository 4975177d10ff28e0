"""What the settings allow destinations and senders, as delivery knows it."""

from __future__ import annotations

from gatepost.app.settings.root import Settings
from gatepost.app.settings.sections import Destination
from gatepost.app.settings.units import PerTime
from gatepost.delivery.allowance import Allowance, Allowances, Rule, SenderRule
from gatepost.delivery.health import BackOff
from gatepost.delivery.line import Rate

WEIGHTS = {"high": 8, "normal": 2, "low": 1}  # places in a row


def allowances(settings: Settings) -> Allowances:
    """The rules of `[[delivery.destination]]` and `[[delivery.sender]]`, and what counts without one."""
    delivery = settings.delivery
    default = Allowance(
        concurrency=delivery.concurrency,
        rate=_rate(delivery.rate),
        messages=delivery.messages_per_connection,
        kept_s=delivery.reuse,
        weight=WEIGHTS["normal"],
    )
    rules = [Rule(one.match, _allowance(one, default)) for one in delivery.destination]
    return Allowances(default, rules, [SenderRule(one.match, WEIGHTS[one.priority]) for one in delivery.sender])


def back_off(settings: Settings) -> BackOff:
    """How long servers that can't be reached are left alone."""
    return BackOff(settings.delivery.rest, max(settings.delivery.rest, settings.delivery.rest_max))


def _allowance(one: Destination, default: Allowance) -> Allowance:
    return Allowance(
        concurrency=default.concurrency if one.concurrency is None else one.concurrency,
        rate=default.rate if one.rate is None else _rate(one.rate),
        messages=default.messages if one.messages_per_connection is None else one.messages_per_connection,
        kept_s=default.kept_s if one.reuse is None else one.reuse,
        expire_s=one.expire,
        weight=WEIGHTS[one.priority],
    )


def _rate(value: PerTime | None) -> Rate | None:
    return None if value is None or not value.count else Rate(value.count, value.seconds)
