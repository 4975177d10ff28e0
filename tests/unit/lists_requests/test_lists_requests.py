"""What a list makes of mail to its -subscribe, -unsubscribe, -request, -confirm and -owner addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gatepost.lists import answering, requests
from gatepost.lists.addressing import Purpose
from gatepost.lists.requests import CONFIRM_S
from gatepost.model import Recipient
from gatepost.store.lists import ListStore
from gatepost.store.lists_facts import Trouble, Unavailable
from list_desk import ADDRESS, NOON, OWNER, Desk, content_of, words

ANN = "ann@example.net"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    opened = await Desk.open()
    yield opened
    await opened.store.close()


async def test_a_subscription_is_asked_back_and_done_by_the_answer(desk: Desk) -> None:
    [question] = await desk.get("news-subscribe@example.org", subject="anything")
    assert question["X-Envelope-To"] == ANN
    assert question["X-Envelope-From"] == "news-bounces@example.org"
    assert question["In-Reply-To"] == "<1@example.net>"
    assert "ann@example.net be subscribed to the list news@example.org" in words(question)
    assert await desk.store.member("news", ANN) is None
    [welcome] = await desk.answer(question)
    assert welcome["Subject"] == "Welcome to news"
    member = await desk.store.member("news", ANN)
    assert member is not None
    assert (member.display, member.since) == ("Ann", NOON)


async def test_the_answer_may_come_from_elsewhere_and_to_the_request_address(desk: Desk) -> None:
    [question] = await desk.get("news-request@example.org", subject="subscribe")
    subject = f"AW: Re: {question['Subject']}"
    [welcome] = await desk.get("news-request@example.org", sender="ann@work.example", subject=subject)
    assert welcome["X-Envelope-To"] == ANN
    assert await desk.store.member("news", ANN) is not None
    assert await desk.store.member("news", "ann@work.example") is None


async def test_leaving_is_asked_back_too(desk: Desk) -> None:
    await desk.store.subscribe("news", ANN, now=NOON)
    [question] = await desk.get("news-unsubscribe@example.org")
    assert await desk.store.member("news", ANN) is not None
    [goodbye] = await desk.answer(question)
    assert goodbye["Subject"] == "You have left news"
    assert await desk.store.member("news", ANN) is None
    [stale] = await desk.answer(question)
    assert "doesn't count any more" in stale["Subject"]
    assert "ann@example.net is not subscribed" in words(stale)


async def test_a_question_that_is_over_does_nothing(desk: Desk) -> None:
    [question] = await desk.get("news-subscribe@example.org")
    desk.now += CONFIRM_S
    [stale] = await desk.answer(question)
    assert "doesn't count" in stale["Subject"]
    assert await desk.store.member("news", ANN) is None


async def test_a_token_of_another_list_does_nothing(desk: Desk) -> None:
    await desk.store.create("other", "other@example.org")
    token = await desk.store.ask("other", ANN, "subscribe", desk.now, 1000.0)
    [stale] = await desk.get(f"news-confirm+{token}@example.org")
    assert "doesn't count" in stale["Subject"]
    assert await desk.store.count("news") == await desk.store.count("other") == 0


@pytest.mark.parametrize("action", ["probe", "told", "who", "help", "confirm x"])
async def test_a_token_that_is_no_question_confirms_nothing(desk: Desk, action: str) -> None:
    token = await desk.store.ask("news", ANN, action, desk.now, 1000.0)
    [stale] = await desk.get(f"news-confirm+{token}@example.org")
    assert "doesn't count" in stale["Subject"]


async def test_who_has_authenticated_as_himself_is_not_asked(desk: Desk) -> None:
    [welcome] = await desk.get("news-subscribe@example.org", authenticated="ANN@example.net")
    assert welcome["Subject"] == "Welcome to news"
    [question] = await desk.get("news-unsubscribe@example.org", authenticated="bob@example.net")
    assert question["Subject"].startswith("confirm ")


async def test_an_open_list_asks_nothing() -> None:
    desk = await Desk.open(subscribe="open")
    [welcome] = await desk.get("news-subscribe@example.org")
    assert welcome["Subject"] == "Welcome to news"
    [again] = await desk.get("news-subscribe@example.org")
    assert again["Subject"] == "news: you are subscribed"
    await desk.store.close()


async def test_a_closed_list_says_so() -> None:
    desk = await Desk.open(subscribe="closed")
    [refusal] = await desk.get("news-subscribe@example.org")
    assert "news-owner@example.org" in words(refusal)
    token = await desk.store.ask("news", ANN, "subscribe", desk.now, 1000.0)  # asked before it was closed
    [refusal] = await desk.get(f"news-confirm+{token}@example.org")
    assert refusal["Subject"] == "news: closed"
    assert await desk.store.count("news") == 0
    await desk.store.close()


async def test_a_moderated_list_asks_the_address_and_then_the_owners() -> None:
    desk = await Desk.open(subscribe="moderated")
    [question] = await desk.get("news-subscribe@example.org")
    waits, approval = await desk.answer(question)
    assert (waits["X-Envelope-To"], waits["Subject"]) == (ANN, "news: your request waits")
    assert approval["X-Envelope-To"] == OWNER
    assert approval["Subject"] == "news: ann@example.net asks to subscribe"
    assert await desk.store.count("news") == 0
    [welcome] = await desk.answer(approval, sender=OWNER)
    assert welcome["X-Envelope-To"] == ANN
    member = await desk.store.member("news", ANN)
    assert member is not None
    assert member.display == "Ann"
    await desk.store.close()


@pytest.mark.parametrize(
    ("command", "mode", "until"),
    [
        ("set nomail", "nomail", None),
        ("Set vacation 2030-12-24", "mail", 1_924_387_200.0),
        ("set mail", "mail", None),
        ("set vacation off.", "mail", None),
    ],
)
async def test_options_of_a_member(desk: Desk, command: str, mode: str, until: float | None) -> None:
    await desk.store.subscribe("news", ANN, now=NOON)
    [question] = await desk.get("news-request@example.org", text=f"Hello,\r\n\r\n{command}\r\n")
    [noted] = await desk.answer(question)
    assert noted["Subject"] == "news: your wish is noted"
    member = await desk.store.member("news", ANN)
    assert member is not None
    assert (member.mode, member.vacation_until) == (mode, until)


async def test_who_asks_for_mail_again_is_stopped_no_longer(desk: Desk) -> None:
    member = await desk.store.subscribe("news", ANN, now=NOON)
    await desk.store.change_member(replace(member, score=5.0, bounced_at=NOON, stopped_at=NOON, probed_at=NOON))
    [question] = await desk.get("news-subscribe@example.org")
    [_] = await desk.answer(question)
    assert await desk.store.member("news", ANN) == member


async def test_help_and_what_nobody_understands(desk: Desk) -> None:
    [letter] = await desk.get("news-request@example.org", subject="HELP")
    assert "News of the house" in words(letter)
    assert letter["Auto-Submitted"] == "auto-replied"
    [letter] = await desk.get("news-request@example.org", subject="Hi", text="Could you subscribe me please?\r\n")
    assert words(letter).startswith("Nothing in your mail was understood.")
    await desk.store.subscribe("news", ANN, now=NOON)
    [letter] = await desk.get("news-unsubscribe@example.org", sender="bob@example.net")
    assert letter["Subject"] == "news: you aren't subscribed"


async def test_only_owners_are_told_who_is_on_the_list(desk: Desk) -> None:
    for address in (ANN, "bob@example.net"):
        await desk.store.subscribe("news", address, now=NOON)
    [letter] = await desk.get("news-request@example.org", subject="who?")
    assert "Only the owners" in words(letter)
    [letter] = await desk.get("news-request@example.org", sender="Olga@example.org", subject="who")
    assert letter["X-Envelope-To"] == OWNER
    assert "2 members of news@example.org: ann@example.net bob@example.net" in words(letter)


async def test_mail_to_the_owners_goes_on_as_it_is_once(desk: Desk) -> None:
    content = b"From: ann@example.net\r\nSubject: Hello\r\n\r\nWhy was I refused?\r\n"
    handled = await desk.handle(desk.entry("news-owner@example.org", content, sender=ANN))
    [forwarded] = handled.deposits
    assert forwarded.envelope.sender.address == "news-bounces@example.org"
    assert [one.address for one in forwarded.envelope.recipients] == [OWNER]
    octets = content_of(forwarded).read()
    assert octets == b"X-Loop: news-owner@example.org\r\n" + content
    assert (await desk.handle(desk.entry("news-owner@example.org", octets, sender=ANN))).deposits == ()
    travelled = b"Received: from a by b\r\n" * 60 + content
    refused = await desk.handle(desk.entry("news-owner@example.org", travelled, sender=ANN))
    assert (refused.deposits, str(refused.refusal)[:9]) == ((), "554 5.4.6")


async def test_a_list_without_owners_has_the_postmaster() -> None:
    desk = await Desk.open(owners=())
    [letter] = await desk.get("news-owner@example.org")
    assert letter["X-Envelope-To"] == "postmaster@example.org"
    await desk.store.close()


async def test_questions_to_one_address_are_bounded(desk: Desk) -> None:
    written = [await desk.get("news-subscribe@example.org") for _ in range(answering.PER_ADDRESS + 3)]
    assert [len(letters) for letters in written] == [1] * answering.PER_ADDRESS + [0] * 3
    last = ["nothing more is answered" in letter.get_content() for [letter] in written[: answering.PER_ADDRESS]]
    assert last == [False] * (answering.PER_ADDRESS - 1) + [True]
    assert len(await desk.get("news-subscribe@example.org", sender="bob@example.net")) == 1
    desk.now += answering.WITHIN_S + 1
    assert len(await desk.get("news-subscribe@example.org")) == 1


async def test_what_a_list_writes_in_all_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "PER_LIST", 5)
    written = [await desk.get("news-subscribe@example.org", sender=f"u{n}@example.net") for n in range(8)]
    assert [len(letters) for letters in written] == [1] * 5 + [0] * 3


async def test_from_counts_and_not_the_envelope(desk: Desk) -> None:
    [question] = await desk.get("news-subscribe@example.org", sender="srs=x@relay.example", head=f"From: {ANN}\r\n")
    assert question["X-Envelope-To"] == ANN
    [question] = await desk.get("news-subscribe@example.org", head="From: a@x.example, b@x.example\r\n")
    assert question["X-Envelope-To"] == ANN


async def test_a_post_is_no_request(desk: Desk) -> None:
    entry = desk.entry(ADDRESS, b"", sender=ANN)
    with pytest.raises(ValueError, match="no request"):
        await requests.take(desk.context, desk.list, Purpose.POST, "", entry, Recipient(entry.envelope.sender))


@pytest.mark.parametrize(
    "head",
    [
        "From: =?utf-8?q?ann=40example=2Enet?=\r\n",
        "From: =?utf-8?q?ann=40example=2Enet=3E?= <mallory@evil.example>\r\n",
        "From: =?utf-8?q?=3Cann=40example=2Enet=3E?= <mallory@evil.example>\r\n",
    ],
)
async def test_what_an_encoded_word_says_is_a_name_and_no_address(desk: Desk, head: str) -> None:
    [question] = await desk.get("news-subscribe@example.org", sender="mallory@evil.example", head=head)
    assert question["X-Envelope-To"] == "mallory@evil.example"


async def test_a_name_is_one_line_of_text(desk: Desk) -> None:
    head = "From: =?utf-8?q?A=0D=0AB=07=C3=BC?= <ann@example.net>\r\n"
    [question] = await desk.get("news-subscribe@example.org", head=head)
    await desk.answer(question)
    member = await desk.store.member("news", ANN)
    assert member is not None and member.display.isprintable() and member.display.endswith("ü")


async def test_one_list_is_put_on_another_by_an_operator_only(desk: Desk) -> None:
    """In an open list's name anybody could, and its own rules wouldn't be asked any more."""
    await desk.store.create("dev", "dev@example.org")
    await desk.store.change("news", replace(desk.list.options, subscribe="open"))
    desk.list = replace(desk.list, options=replace(desk.list.options, subscribe="open"))
    for sender in ("dev@example.org", "DEV@Example.ORG", ADDRESS):
        assert await desk.get("news-subscribe@example.org", sender=sender) == []
    assert await desk.store.count("news") == 0


async def test_a_member_who_was_stopped_comes_back_without_the_owners() -> None:
    desk = await Desk.open(subscribe="moderated")
    member = await desk.store.subscribe("news", ANN, now=NOON)
    await desk.store.change_member(replace(member, stopped_at=NOON))
    [question] = await desk.get("news-subscribe@example.org")
    [welcome] = await desk.answer(question)
    assert (welcome["X-Envelope-To"], await desk.store.member("news", ANN)) == (ANN, member)
    await desk.store.close()


async def test_owners_are_asked_so_often_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "NOTICES", 1)
    desk = await Desk.open(subscribe="moderated")
    letters = []
    for sender in ("a@example.net", "b@example.net"):
        [question] = await desk.get("news-subscribe@example.org", sender=sender)
        letters.append([one["X-Envelope-To"] for one in await desk.answer(question, sender=sender)])
    assert letters == [["a@example.net", OWNER], ["b@example.net"]]
    await desk.store.close()


async def test_letters_count_for_whom_they_are_written_to(desk: Desk) -> None:
    for _ in range(answering.PER_ADDRESS):
        [question] = await desk.get("news-subscribe@example.org")
    assert await desk.answer(question, sender="ann@work.example") == []  # it is done, and one letter less
    assert await desk.store.member("news", ANN) is not None
    assert len(await desk.get("news-request@example.org", subject="help", sender="ann@work.example")) == 1


@pytest.mark.parametrize("word", ["subscribe", "unsubscribe", "set_nomail"])
async def test_a_database_that_fails_on_the_way_uses_up_no_answer(
    desk: Desk, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if word != "subscribe":
        await desk.store.subscribe("news", ANN, now=NOON)
    [question] = await desk.get("news-request@example.org", subject=word.replace("_", " "))
    change = {"subscribe": "subscribe", "unsubscribe": "unsubscribe", "set_nomail": "change_member"}[word]

    async def fail(*_: object, **__: object) -> None:
        raise Unavailable("lists.db", Trouble.FULL)

    with monkeypatch.context() as patch:
        patch.setattr(ListStore, change, fail)
        with pytest.raises(Unavailable):  # so the mail is handled again later
            await desk.answer(question)
    [letter] = await desk.answer(question)
    assert letter["Subject"] in ("Welcome to news", "You have left news", "news: your wish is noted")


async def test_an_answer_at_another_lists_address_uses_up_nothing(desk: Desk) -> None:
    other = await desk.store.create("other", "other@example.org")
    token = await desk.store.ask("other", ANN, "subscribe", desk.now, 1000.0)
    await desk.get(f"news-confirm+{token}@example.org")
    assert await desk.store.asked(token, desk.now) is not None
    desk.list = other
    [welcome] = await desk.get(f"other-confirm+{token.upper()}@example.org")
    assert welcome["Subject"] == "Welcome to other"
