"""Probes: one mail to each member whom bounces have stopped, to see whether the address takes mail again.

Strategy: looked at once a minute by the worker that keeps the time. A probe's return path carries a token: if it comes
back, the member is taken off (lists.bounces); if it hasn't come back after some days, posts are sent again. The
database is changed before the probe is committed: after a crash between them a member gets posts again without a probe,
and never two probes.
"""

from __future__ import annotations

from dataclasses import replace

from gatepost.lists import mails
from gatepost.lists.bounces import DAY_S, PROBE, working
from gatepost.lists.context import Context
from gatepost.store import Deposit
from gatepost.store.lists import MailingList

EVERY_S = 60.0
MOST = 100
"""Probes sent at a time."""
WAIT_DAYS = 7
"""Days that a probe has at least to come back: longer than servers try."""


def wait_s(mailing_list: MailingList) -> float:
    """Seconds that a probe has to come back."""
    return max(WAIT_DAYS, mailing_list.options.bounce_days) * DAY_S


class Probing:
    """Sends probes. Invariant: a member is probed once while he is stopped."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next = 0.0

    async def tick(self, now: float) -> list[Deposit]:
        """The probes that are due, to be committed; `now` is Unix time in seconds. Called as often as one likes."""
        if abs(self._next - now) <= EVERY_S and now < self._next:
            return []
        self._next = now + EVERY_S
        store = self._context.store
        stopped = await store.troubled()
        lists = {one.name: one for one in await store.all()} if stopped else {}
        probes: list[Deposit] = []
        for member in stopped:
            mailing_list = lists.get(member.list)
            if mailing_list is None:
                continue
            valid_s = wait_s(mailing_list)
            if member.probed_at is None:
                if len(probes) == MOST:
                    self._next = now
                    continue
                token = await store.ask(mailing_list.name, member.address, PROBE, now, valid_s)
                await store.change_member(replace(member, probed_at=now))
                letter = mails.probe(mailing_list, member, token, now + valid_s)
                probes.append(mails.deposit(self._context, mailing_list, letter))
            elif now - member.probed_at >= valid_s:
                await store.change_member(working(member))
        return probes
