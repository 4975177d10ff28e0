"""How a list's letters look, and that nothing somebody else chose gets out of its line."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gatepost.content.headers import read_section
from gatepost.lists import mails
from gatepost.model import Bytes, Path
from gatepost.store.lists import Member
from list_desk import ADDRESS, NOON, Desk, content_of, letter_of, words


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    opened = await Desk.open()
    yield opened
    await opened.store.close()


async def test_a_letter_whole(desk: Desk) -> None:
    to = Path.parse("ann@example.net")
    letter = mails.confirmation(desk.list, to, "ann@example.net be subscribed to the list", "abcd", NOON)
    octets = mails.render(letter, desk.list, message_id="1@mx.example.org", boundary="b", now=NOON)
    assert octets.decode().split("\r\n") == [
        'From: "news list" <news-request@example.org>',
        "To: ann@example.net",
        "Subject: confirm abcd",
        "Date: Fri, 15 Jan 2027 08:00:00 +0000",
        "Message-ID: <1@mx.example.org>",
        "Auto-Submitted: auto-generated",
        "Precedence: bulk",
        "X-Auto-Response-Suppress: All",
        "List-Help: <mailto:news-request@example.org?subject=help>",
        "Reply-To: news-confirm+abcd@example.org",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 7bit",
        "",
        "Somebody, most likely you, has asked that ann@example.net be subscribed",
        "to the list.",
        "",
        "To confirm it, reply to this mail; nothing needs to be written or",
        "changed. The reply goes to",
        "",
        "    news-confirm+abcd@example.org",
        "",
        "If it wasn't you, do nothing: without a reply nothing happens. The",
        "question is over on Fri, 15 Jan 2027 08:00:00 +0000.",
        "",
        "-- ",
        ADDRESS,
        "",
    ]


async def test_what_others_chose_stays_in_its_line(desk: Desk) -> None:
    nasty = "x\r\nBcc: eve@example.net\r\n\r\n--gatepost\u2028"
    content = f"Subject: {nasty}\r\nX: 1\r\n\r\nA\x1b[31m\x00line\r\n--gatepost\r\n".encode()
    subject, opening, head = mails.moderation(desk.list, Bytes(content), ticket="T", author=nasty, reason=nasty)
    letter = letter_of(
        mails.deposit(
            desk.context, desk.list, mails.Letter((Path.parse("mo@example.org"),), subject, opening, attached=head)
        )
    )
    assert letter["Bcc"] is None
    assert "\x1b" not in words(letter)
    assert [part.get_content_type() for part in letter.iter_parts()] == ["text/plain", "text/rfc822-headers"]


async def test_long_posts_are_shown_in_part(desk: Desk) -> None:
    content = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 100) for n in range(1000)) + b"\r\n" + b"line\r\n" * 10_000
    _, opening, head = mails.moderation(desk.list, Bytes(content), ticket="T", author="a@b.example", reason="r")
    assert opening.count("> line") == 20
    assert len(head) <= 16 * 1024
    assert head.endswith(b"y\r\n")


async def test_an_answer_cites_what_it_answers_and_nothing_that_isnt_an_id() -> None:
    for raw, cited in [
        (b"<a@b.example>", "<a@b.example>"),
        (b"<a@b.example>\r\n <c>", ""),
        (b"<a b>", ""),
        (b"<" + b"a" * 300 + b">", ""),
        (b"", ""),
    ]:
        assert mails.message_id_of(read_section(Bytes(b"Message-ID: " + raw + b"\r\n\r\n"))) == cited


async def test_a_member_in_utf8(desk: Desk) -> None:
    member = Member(1, "news", "jürgen@example.net", "", NOON)
    deposit = mails.deposit(desk.context, desk.list, mails.welcome(desk.list, member))
    assert deposit.envelope.smtputf8
    assert "To: jürgen@example.net\r\n".encode() in content_of(deposit).read()


async def test_many_members_are_named_in_part(desk: Desk) -> None:
    members = [Member(n, "news", f"u{n}@example.net", "", NOON, stopped_at=NOON) for n in range(mails.MOST_NAMED)]
    letter = letter_of(
        mails.deposit(desk.context, desk.list, mails.who(desk.list, Path.parse("o@example.org"), members, 5000))
    )
    assert "u0@example.net (stopped: mail to this address has bounced)" in words(letter)
    assert "and 4000 more" in words(letter)


@pytest.mark.parametrize("post", ["open", "members", "moderated", "announce"])
async def test_the_welcome_says_how_to_post(post: str) -> None:
    desk = await Desk.open(post=post)
    letter = letter_of(
        mails.deposit(desk.context, desk.list, mails.welcome(desk.list, Member(1, "news", "a@b.example", "", NOON)))
    )
    assert {"open": "Anyone", "members": "Members", "moderated": "moderator", "announce": "Few"}[post] in words(letter)
    await desk.store.close()
