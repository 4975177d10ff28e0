"""Held posts: the notice to the moderators, their decision by mail, and who hears of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gatepost.lists import answering, moderation
from gatepost.lists.addressing import Purpose, decision_address
from gatepost.store import Deposit, Entry
from list_desk import ADDRESS, NOON, OWNER, Desk, content_of, letter_of, words

ANN = "ann@example.net"
POST = (
    b"From: Ann <ann@example.net>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <p@example.net>\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nSGVsbG8KV29ybGQK\r\n"
)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    opened = await Desk.open(moderators=("mo@example.org", "max@example.com"))
    yield opened
    await opened.store.close()


async def _hold(desk: Desk, content: bytes = POST, sender: str = ANN, **more: Any) -> tuple[Deposit, ...]:
    entry = replace(desk.entry(ADDRESS, content, sender=sender), **more)
    handled = await moderation.hold(
        desk.context, desk.list, entry, entry.envelope.recipients[0], "it is the first post"
    )
    assert handled.refusal is None
    return handled.deposits


def _held(deposit: Deposit) -> Entry:
    return Entry(
        deposit.id,
        deposit.ticket,
        0,
        deposit.envelope,
        content_of(deposit),
        deposit.received_at,
        NOON,
        held=deposit.held,
        authenticated=deposit.authenticated,
        facts=deposit.facts,
    )


async def test_a_post_is_held_and_the_moderators_see_what_it_is(desk: Desk) -> None:
    held, notice = await _hold(desk, facts={"origin": "x", "notice-of": "y"}, notes={"asked": "expanded"})
    assert held.held == "list news: waits for a moderator"
    assert dict(held.facts) == {"origin": "x", "asked": "expanded", "list-held": "news"}
    assert content_of(held).read() == POST
    assert held.envelope.sender.address == ANN
    letter = letter_of(notice)
    assert letter["X-Envelope-To"] == "mo@example.org, max@example.com"
    assert letter["From"].addresses[0].addr_spec == "news-owner@example.org"
    text = words(letter)
    assert "it is the first post" in text
    assert "subject: Grüße" in text
    assert "> Hello > World" in text
    assert f"gatepost list approve {held.ticket}" in text
    [attached] = letter.iter_attachments()
    assert attached.get_content_type() == "text/rfc822-headers"
    assert "Message-ID: <p@example.net>" in attached.get_content()


@pytest.mark.parametrize(("word", "approved"), [("approve", True), ("refuse", False)])
async def test_a_mail_to_an_address_of_the_notice_decides(desk: Desk, word: str, approved: bool) -> None:
    held, notice = await _hold(desk)
    [address] = re.findall(rf"news-{word}\+[a-z0-9-]+@example.org", words(letter_of(notice)))
    assert await desk.get(address.upper().replace("EXAMPLE.ORG", "example.org"), sender="mo@example.org") == []
    [decision] = await desk.store.decisions()
    assert (decision.ticket, decision.approved, decision.by) == (str(held.ticket), approved, "mo@example.org")


async def test_the_first_decision_counts_and_who_comes_later_is_told(desk: Desk) -> None:
    held, _ = await _hold(desk)
    approve, refuse = (
        decision_address(desk.list, purpose, str(held.ticket), desk.store.secret).address
        for purpose in (Purpose.APPROVE, Purpose.REFUSE)
    )
    assert await desk.get(approve, sender="mo@example.org") == []
    assert await desk.get(approve, sender="mo@example.org") == []
    [letter] = await desk.get(refuse, sender="mo@example.org")  # who has changed his mind
    assert "was approved already by mo@example.org" in words(letter)
    [letter] = await desk.get(refuse, sender="max@example.com")
    assert letter["X-Envelope-To"] == "max@example.com"
    assert "was approved already by mo@example.org" in words(letter)
    [decision] = await desk.store.decisions()
    assert decision.approved


async def test_programs_and_forgers_decide_nothing(desk: Desk) -> None:
    held, _ = await _hold(desk)
    ticket = str(held.ticket)
    right = decision_address(desk.list, Purpose.APPROVE, ticket, desk.store.secret).address
    refuse = decision_address(desk.list, Purpose.REFUSE, ticket, desk.store.secret).address
    other = await desk.store.create("other", "other@example.org")
    theirs = decision_address(other, Purpose.APPROVE, ticket, desk.store.secret).address.replace("other-", "news-")
    forged = f"news-approve+{ticket.lower()}-aaaaaaaaaa@example.org"
    for address in (forged, theirs, refuse.replace("refuse", "approve")):
        assert await desk.get(address, sender="eve@example.net") == []
    assert await desk.get(right, sender="mo@example.org", head="Auto-Submitted: auto-replied\r\n") == []
    assert await desk.get(right, sender="") == []
    assert await desk.store.decisions() == []


async def test_members_and_who_has_authenticated_hear_of_a_refusal_and_strangers_dont(desk: Desk) -> None:
    stranger, _ = await _hold(desk)
    assert await moderation.refused(desk.context, _held(stranger)) == []
    user, _ = await _hold(desk, authenticated="ann@example.org")
    assert len(await moderation.refused(desk.context, _held(user))) == 1
    await desk.store.subscribe("news", "Ann@Example.net", now=NOON)
    [letter] = map(letter_of, await moderation.refused(desk.context, _held(stranger)))
    assert letter["X-Envelope-To"] == ANN
    assert letter["In-Reply-To"] == "<p@example.net>"
    assert "Grüße" in words(letter)
    automatic, _ = await _hold(desk, b"Auto-Submitted: auto-generated\r\n" + POST)
    assert await moderation.refused(desk.context, _held(automatic)) == []
    await desk.store.remove("news")
    assert await moderation.refused(desk.context, _held(stranger)) == []


async def test_notices_are_bounded_and_the_last_one_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "NOTICES", 3)
    made = [await _hold(desk) for _ in range(5)]
    assert [len(deposits) for deposits in made] == [2, 2, 2, 1, 1]
    assert "held without a notice" in words(letter_of(made[2][1]))
    assert "held without a notice" not in words(letter_of(made[1][1]))


async def test_without_moderators_the_owners_decide() -> None:
    desk = await Desk.open()
    assert [path.address for path in moderation.deciders(desk.list)] == [OWNER]
    await desk.store.close()


async def test_a_held_post_keeps_when_it_came_and_its_own_way(desk: Desk) -> None:
    held, _ = await _hold(desk, received_at=NOON - 5, routes={ADDRESS: "list news", "bob@example.org": "maildir"})
    assert held.received_at == NOON - 5
    assert dict(held.routes) == {ADDRESS: "list news"}
