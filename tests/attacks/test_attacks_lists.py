"""Attacks by way of a list's other addresses: L2 what goes round and storms, L4 mail to people who never wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from gatepost.lists import answering, moderation, requests
from gatepost.lists.addressing import bounces_address, purpose_of
from gatepost.lists.probing import Probing
from gatepost.model import Path
from gatepost.store import Deposit
from gatepost.store.lists import ListOptions
from list_desk import ADDRESS, DAY, NOON, OWNER, Desk, content_of, letter_of, report

VICTIM = "victim@example.net"
PEOPLE = ("news-request", "news-subscribe", "news-unsubscribe", "news-confirm+aaaaaaaaaaaaaaaa")


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    opened = await Desk.open()
    yield opened
    await opened.store.close()


async def _take(desk: Desk, to: str, content: bytes, sender: str) -> Sequence[Deposit]:
    return (await desk.handle(desk.entry(to, content, sender=sender))).deposits


@pytest.mark.parametrize("address", [*PEOPLE, "news-bounces", "news-probe+aaaaaaaaaaaaaaaa", "news-approve+x-y"])
@pytest.mark.parametrize(
    "content",
    [
        report(VICTIM),
        b"From: victim@example.net\r\nSubject: subscribe\r\n\r\n",
        b"From: MAILER-DAEMON@example.net\r\nSubject: Undelivered mail\r\n\r\nhelp\r\n",
    ],
)
async def test_L2_nothing_with_the_null_sender_is_ever_answered(desk: Desk, address: str, content: bytes) -> None:
    assert await _take(desk, f"{address}@example.org", content, "") == ()


async def test_L2_bounces_of_what_the_list_wrote_end_at_the_list(desk: Desk) -> None:
    await desk.store.subscribe("news", VICTIM, now=NOON)
    before = await desk.store.member("news", VICTIM)
    for _ in range(3):
        for word in "subscribe", "unsubscribe", "help", "set nomail", "nonsense":
            content = f"From: {VICTIM}\r\nSubject: {word}\r\n\r\n".encode()
            for deposit in await _take(desk, "news-request@example.org", content, VICTIM):
                back = deposit.envelope.sender.address
                assert await _take(desk, back, report(VICTIM), "") == ()
                assert await _take(desk, back, report(VICTIM), "mailer-daemon@example.net") == ()
    assert await desk.store.member("news", VICTIM) == before


async def test_L2_a_storm_of_bounces_counts_once_and_writes_nothing(desk: Desk) -> None:
    member = await desk.store.subscribe("news", VICTIM, now=NOON)
    own = bounces_address(desk.list, member.id, desk.store.secret).address
    for _ in range(300):
        assert await _take(desk, own, report(VICTIM), "") == ()
    after = await desk.store.member("news", VICTIM)
    assert after is not None
    assert after.score == 1.0


async def test_L2_a_robot_that_answers_everything_without_saying_so_is_soon_alone(desk: Desk) -> None:
    """It answers From, Reply-To and the return path, and quotes the subject: the worst there is."""
    waiting = list(await _take(desk, "news-request@example.org", b"Subject: hello\r\n\r\n", VICTIM))
    heard = 0
    while waiting:
        heard += 1
        assert heard <= answering.PER_ADDRESS
        deposit = waiting.pop()
        letter = letter_of(deposit)
        back = deposit.envelope.sender.address
        for to in dict.fromkeys((letter["From"].addresses[0].addr_spec, letter["Reply-To"] or back, back)):
            content = f"From: {VICTIM}\r\nSubject: Re: {letter['Subject']}\r\n\r\nI am away.\r\n".encode()
            waiting += await _take(desk, to, content, VICTIM)
    assert heard == answering.PER_ADDRESS


@pytest.mark.parametrize(
    "sender",
    [
        "other-request@example.com",
        "owner-other@example.com",
        "other-bounces+17-abc@example.com",
        "news-request@example.org",
        ADDRESS,
        "MAILER-DAEMON@example.com",
        "no-reply@example.com",
    ],
)
async def test_L2_lists_and_daemons_get_no_letters(desk: Desk, sender: str) -> None:
    for address in PEOPLE:
        content = f"From: {sender}\r\nSubject: subscribe\r\n\r\n".encode()
        assert await _take(desk, f"{address}@example.org", content, sender) == ()


@pytest.mark.parametrize(
    "head",
    [
        "Auto-Submitted: auto-replied",
        "X-Autoreply: yes",
        "Auto-Submitted: Auto-Generated; x=y",
        "Precedence: bulk",
        "Precedence: list",
        "List-Id: <other.example.com>",
        "X-Loop: somebody",
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=b",
    ],
)
async def test_L2_programs_confirm_nothing_and_hear_nothing(desk: Desk, head: str) -> None:
    token = await desk.store.ask("news", VICTIM, "subscribe", desk.now, DAY)
    content = f"From: {VICTIM}\r\nSubject: Re: confirm {token}\r\n{head}\r\n\r\nI am away.\r\n".encode()
    for to in (f"news-confirm+{token}@example.org", "news-request@example.org"):
        assert await _take(desk, to, content, VICTIM) == ()
    assert await desk.store.count("news") == 0
    assert await desk.store.answer(token, desk.now) is not None


async def test_L2_owners_who_are_each_others_lists_get_a_mail_once(desk: Desk) -> None:
    await desk.store.change("news", ListOptions(owners=("other-owner@example.org",)))
    await desk.store.create("other", "other@example.org", ListOptions(owners=("news-owner@example.org",)))
    lists = {one.address: one for one in await desk.store.all()}
    waiting = [desk.entry("news-owner@example.org", b"Subject: hello\r\n\r\n", sender=VICTIM)]
    passed: list[str] = []
    while waiting:
        entry = waiting.pop()
        [recipient] = entry.envelope.recipients
        for mailing_list in lists.values():
            if (found := purpose_of(mailing_list.address, recipient.path)) is not None:
                passed.append(recipient.address)
                handled = await requests.take(desk.context, mailing_list, *found, entry, recipient)
                for deposit in handled.deposits:
                    to = deposit.envelope.recipients[0].address
                    content = content_of(deposit).read()
                    waiting.append(desk.entry(to, content, sender=deposit.envelope.sender.address))
    assert passed == ["news-owner@example.org", "other-owner@example.org", "news-owner@example.org"]


async def test_L2_a_probe_of_a_probe_is_never_sent(desk: Desk) -> None:
    member = await desk.store.subscribe("news", VICTIM, now=NOON)
    await desk.store.change_member(replace(member, score=9.0, bounced_at=NOON, stopped_at=NOON))
    clock = Probing(desk.context)
    [probe] = await clock.tick(NOON)
    back = probe.envelope.sender.address
    [notice] = await _take(desk, back, report(VICTIM), "")
    for _ in range(5):
        assert await _take(desk, back, report(VICTIM), "") == ()
        assert await _take(desk, notice.envelope.sender.address, report(OWNER), "") == ()
    assert await clock.tick(NOON + 30 * DAY) == []


async def test_L4_a_forged_name_brings_its_owner_few_mails_whatever_is_asked(desk: Desk) -> None:
    written: list[Deposit] = []
    for number in range(100):
        sender = f"spammer{number}@example.com"
        for word in "subscribe", "unsubscribe", "help", "who", "nonsense", "confirm aaaaaaaaaaaaaaaa":
            content = f"From: {VICTIM}\r\nSubject: {word}\r\n\r\n".encode()
            written += await _take(desk, "news-request@example.org", content, sender)
    assert len(written) == answering.PER_ADDRESS
    assert {one.address for deposit in written for one in deposit.envelope.recipients} == {VICTIM}


async def test_L4_only_who_wrote_is_written_to(desk: Desk) -> None:
    head = f"From: eve@example.net\r\nReply-To: {VICTIM}\r\nSender: {VICTIM}\r\nCc: {VICTIM}\r\nErrors-To: {VICTIM}\r\n"
    for word in "subscribe", "help", "nonsense":
        content = f"{head}Disposition-Notification-To: {VICTIM}\r\nSubject: {word}\r\n\r\n".encode()
        [deposit] = await _take(desk, "news-request@example.org", content, "eve@example.net")
        assert [one.address for one in deposit.envelope.recipients] == ["eve@example.net"]
        assert VICTIM.encode() not in content_of(deposit).read()


async def test_L4_nothing_of_a_request_comes_back_to_who_is_told(desk: Desk) -> None:
    """A list that quotes what it was sent delivers a spammer's words under its own name."""
    for to in PEOPLE:
        content = f"From: Buy now <{VICTIM}>\r\nSubject: Buy now\r\n\r\nBuy now\r\nhttps://spam.example/\r\n".encode()
        for deposit in await _take(desk, f"{to}@example.org", content, VICTIM):
            octets = content_of(deposit).read()
            assert b"Buy now" not in octets
            assert b"spam.example" not in octets


async def test_L4_who_forges_an_author_brings_him_no_refusal(desk: Desk) -> None:
    entry = desk.entry(ADDRESS, f"From: {VICTIM}\r\nSubject: x\r\n\r\nspam\r\n".encode(), sender=VICTIM)
    handled = await moderation.hold(desk.context, desk.list, entry, entry.envelope.recipients[0], "a stranger")
    held, notice = handled.deposits
    assert {one.path for one in notice.envelope.recipients} == {Path.parse(OWNER)}
    kept = desk.entry(ADDRESS, content_of(held).read(), sender=VICTIM)
    assert await moderation.refused(desk.context, replace(kept, facts=held.facts)) == []
