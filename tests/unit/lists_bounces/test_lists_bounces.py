"""Bounces of copies: whose they are, how much they count, and where they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gatepost.content.dsn import Action
from gatepost.content.dsn_reading import Told
from gatepost.lists.addressing import bounces_address
from gatepost.lists.bounces import scored, weight, working
from gatepost.store.lists import Member
from list_desk import DAY, NOON, OWNER, Desk, letter_of, report, words

ANN = "ann@example.net"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    opened = await Desk.open(bounce_limit=3.0)
    await opened.store.subscribe("news", ANN, now=NOON)
    yield opened
    await opened.store.close()


async def _ann(desk: Desk) -> Member:
    member = await desk.store.member("news", ANN)
    assert member is not None
    return member


async def _verp(desk: Desk) -> str:
    return bounces_address(desk.list, (await _ann(desk)).id, desk.store.secret).address


async def test_the_return_path_says_whose_it_is_whatever_the_report_names(desk: Desk) -> None:
    handled = await desk.bounce(await _verp(desk), "somebody@elsewhere.example")
    assert handled.deposits == ()
    assert (await _ann(desk)).score == 1.0
    assert (await _ann(desk)).bounced_at == NOON


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed", "expanded"])
async def test_only_failures_count(desk: Desk, action: str) -> None:
    await desk.bounce(await _verp(desk), ANN, "4.4.1", action)
    assert (await _ann(desk)).score == 0.0


@pytest.mark.parametrize(
    "content",
    [
        b"Auto-Submitted: auto-replied\r\nSubject: I am away\r\n\r\nStatus: 5.1.1\r\nAction: failed\r\n",
        b"Subject: Please confirm that you are human\r\n\r\nhttps://challenge.example/\r\n",
        b"Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n--b\r\n\r\nread\r\n",
        b"",
    ],
)
async def test_what_is_no_report_doesnt_count(desk: Desk, content: bytes) -> None:
    handled = await desk.handle(desk.entry(await _verp(desk), content, sender=""))
    assert handled.deposits == ()
    assert handled.refusal is None
    assert (await _ann(desk)).score == 0.0


async def test_forged_addresses_are_ignored(desk: Desk) -> None:
    own = await _verp(desk)
    for forged in (
        own.replace("@", "x@"),
        "news-bounces+1-aaaaaaaaaa@example.org",
        "news-bounces+999999999999999999999-aaaaaaaaaa@example.org",
        "news-bounces@example.org",
    ):
        await desk.bounce(forged, ANN)
    assert (await _ann(desk)).score == 0.0
    other = await desk.store.create("other", "other@example.org")
    member = await desk.store.subscribe("other", "bob@example.net", now=NOON)
    theirs = bounces_address(other, member.id, desk.store.secret).address.replace("other-", "news-")
    await desk.bounce(theirs, "bob@example.net")
    assert await desk.store.member("other", "bob@example.net") == member


async def test_without_paths_of_their_own_the_reports_words_count() -> None:
    desk = await Desk.open(verp=False)
    await desk.store.subscribe("news", ANN, now=NOON)
    await desk.bounce("news-bounces@example.org", "ANN@example.net")
    await desk.bounce("news-bounces@example.org", "stranger@example.net")
    assert (await _ann(desk)).score == 1.0
    await desk.store.close()


async def test_what_our_own_delivery_reports_is_believed(desk: Desk) -> None:
    """A copy that is refused while we are the client: the report goes to the list, and names whom it was for."""
    entry = desk.entry("news-bounces@example.org", report(ANN), sender="")
    await desk.handle(replace(entry, facts={"notice-of": "T-1"}))
    assert (await _ann(desk)).score == 1.0


async def test_at_most_one_a_day_until_the_limit_stops_mail(desk: Desk) -> None:
    own = await _verp(desk)
    for day in range(3):
        assert (await _ann(desk)).stopped_at is None
        for _ in range(20):
            await desk.bounce(own, ANN)
        assert (await _ann(desk)).score == day + 1.0
        desk.now += DAY
    member = await _ann(desk)
    assert member.stopped_at == NOON + 2 * DAY
    assert member.probed_at is None
    assert not member.takes_mail(desk.now)
    await desk.bounce(own, ANN)
    assert await _ann(desk) == member


async def test_a_score_is_forgotten_after_quiet_days(desk: Desk) -> None:
    own = await _verp(desk)
    await desk.bounce(own, ANN)
    desk.now += 7 * DAY
    await desk.bounce(own, ANN, "4.2.2")
    assert (await _ann(desk)).score == 0.5


@pytest.mark.parametrize(
    ("status", "counts"),
    [("5.1.1", 1.0), ("5.2.2", 1.0), ("4.4.7", 0.5), ("", 0.5)]
    + [(about, 0.5) for about in ("5.7.26", "5.3.4", "5.2.3", "5.4.6")],
)
def test_weights(status: str, counts: float) -> None:
    assert weight(Told("a@b.example", "", Action.FAILED, status)) == counts


def test_a_member_who_works_again_is_as_at_first() -> None:
    member = Member(1, "news", ANN, "", NOON)
    stopped = scored(member, 9.0, NOON, limit=5.0, days=7)
    assert stopped is not None
    assert stopped.stopped_at == NOON
    assert scored(stopped, 1.0, NOON + DAY, limit=5.0, days=7) is None
    assert working(stopped) == member


async def test_a_probe_that_bounces_takes_the_member_off_and_the_owner_is_told(desk: Desk) -> None:
    token = await desk.store.ask("news", ANN, "probe", desk.now, DAY)
    await desk.store.change_member(replace(await _ann(desk), stopped_at=NOON, probed_at=NOON))
    handled = await desk.bounce(f"news-probe+{token.upper()}@example.org", ANN)
    [notice] = map(letter_of, handled.deposits)
    assert notice["X-Envelope-To"] == OWNER
    assert notice["Subject"] == "news: ann@example.net was taken off"
    assert "5.1.1 550 no such user" in words(notice)
    assert await desk.store.member("news", ANN) is None
    assert (await desk.bounce(f"news-probe+{token}@example.org", ANN)).deposits == ()


async def test_a_probe_proves_nothing_about_who_is_back_or_was_never_probed(desk: Desk) -> None:
    probe = await desk.store.ask("news", ANN, "probe", desk.now, DAY)
    question = await desk.store.ask("news", ANN, "unsubscribe", desk.now, DAY)
    assert (await desk.bounce(f"news-probe+{probe}@example.org", ANN)).deposits == ()
    await desk.store.change_member(replace(await _ann(desk), stopped_at=NOON, probed_at=NOON))
    for token in (question, "a" * 16):
        assert (await desk.bounce(f"news-probe+{token}@example.org", ANN)).deposits == ()
    assert await desk.store.member("news", ANN) is not None


async def test_a_probe_of_another_list_takes_nobody_off(desk: Desk) -> None:
    await desk.store.create("other", "other@example.org")
    await desk.store.change_member(replace(await _ann(desk), stopped_at=NOON, probed_at=NOON))
    token = await desk.store.ask("other", ANN, "probe", desk.now, DAY)
    assert (await desk.bounce(f"news-probe+{token}@example.org", ANN)).deposits == ()
    assert await desk.store.member("news", ANN) is not None


async def test_of_several_failures_the_worst_counts(desk: Desk) -> None:
    soft, hard = (
        report(ANN, "4.2.2"),
        b"\r\nFinal-Recipient: rfc822; x@y.example\r\nAction: failed\r\nStatus: 5.1.1\r\n",
    )
    content = soft.replace(b"\r\n--b--", b"\r\n" + hard + b"--b--")
    await desk.handle(desk.entry(await _verp(desk), content, sender=""))
    assert (await _ann(desk)).score == 1.0


async def test_who_forwards_his_mail_is_known_by_the_address_it_was_sent_to() -> None:
    desk = await Desk.open(verp=False)
    await desk.store.subscribe("news", ANN, now=NOON)
    content = report("ann@forwarded.example").replace(
        b"Final-", b"Original-Recipient: rfc822; ann@example.net\r\nFinal-"
    )
    await desk.handle(desk.entry("news-bounces@example.org", content, sender=""))
    assert (await _ann(desk)).score == 1.0
    await desk.store.close()
