"""Who may post what: the judgement from envelope and header alone."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.content.headers import Section, read_section
from gatepost.content.view import View
from gatepost.lists.posting import (
    MAX_AUTHORS,
    Allowed,
    Moderate,
    Post,
    Refused,
    authors,
    examine,
    judge,
    judge_envelope,
)
from gatepost.model import Bytes, Path
from gatepost.store.lists import ListOptions, MailingList, Member, open_lists

ANN = Member(1, "news", "ann@example.org", "", 0.0)
BOB = Member(2, "news", "bob@example.org", "", 0.0)
MEMBERS = {"ann@example.org": ANN, "bob@example.org": BOB}


def news(**options: Any) -> MailingList:
    return MailingList("news", "news@example.org", ListOptions(**options))


def post(header: bytes = b"From: ann@example.org\r\n", body: bytes = b"hello\r\n", **facts: Any) -> Post:
    """What `examine` would hand over: its authors looked up among the members."""
    content = Bytes(header + b"\r\n" + body)
    section = read_section(content)
    known = {address.lower(): MEMBERS[address.lower()] for address in authors(section) if address.lower() in MEMBERS}
    facts = {"sender": Path.parse("ann@example.org"), "size": content.size, "members": known, **facts}
    return Post(section, structure=View(content).revision.structure(), **facts)


def said(judgement: object) -> str:
    """The code of a refusal, or "allowed" or "moderate"."""
    match judgement:
        case Refused(reply):
            return f"{reply.code} {reply.status}"
        case Moderate():
            return "moderate"
        case _:
            return "allowed"


MEMBER, STRANGER = b"From: ann@example.org\r\n", b"From: mallory@evil.example\r\n"


@pytest.mark.parametrize(
    ("mode", "by_member", "by_stranger", "by_owner", "by_poster"),
    [
        ("open", "allowed", "allowed", "allowed", "allowed"),
        ("members", "allowed", "550 5.7.1", "allowed", "allowed"),
        ("moderated", "moderate", "moderate", "moderate", "allowed"),
        ("announce", "550 5.7.1", "550 5.7.1", "allowed", "allowed"),
    ],
)
def test_who_may_post(mode, by_member, by_stranger, by_owner, by_poster):
    there = news(post=mode, owners=("owner@example.org",), posters=("*@press.example",))
    headers = (MEMBER, STRANGER, b"From: Owner <Owner@Example.org>\r\n", b"From: desk@press.example\r\n")
    assert [said(judge(there, post(header))) for header in headers] == [by_member, by_stranger, by_owner, by_poster]


@pytest.mark.parametrize("mode", ["members", "announce"])
def test_strangers_wait_for_a_moderator_where_the_list_wants_it(mode):
    assert said(judge(news(post=mode, strangers="hold"), post(STRANGER))) == "moderate"


def test_a_refusal_says_how_to_join_and_whom_to_ask():
    refused = judge(news(), post(STRANGER))
    assert isinstance(refused, Refused)
    assert refused.reply.text == (
        "only members may post to news@example.org, and the author isn't one of them; "
        "to join, write to news-subscribe@example.org; questions to news-owner@example.org"
    )
    closed = judge(news(subscribe="closed"), post(STRANGER))
    assert isinstance(closed, Refused) and "to join" not in closed.reply.text


@pytest.mark.parametrize(
    "header",
    [
        b'From: "ann@example.org" <mallory@evil.example>\r\n',
        b"From: ann@example.org <mallory@evil.example>\r\n",
        b"From: mallory@evil.example (ann@example.org)\r\n",
        b"From: ann@example.org, mallory@evil.example\r\n",
        b"From: mallory@evil.example, ann@example.org\r\n",
        b"From: ann@example.org\r\nFrom: mallory@evil.example\r\n",
        b"From: ann@example.org\r\nFrom: ann@example.org\r\n",
        b"From: mallory@evil.example\r\nSender: ann@example.org\r\n",
        b"From: mallory@evil.example\r\nReply-To: ann@example.org\r\nX-Sender: ann@example.org\r\n",
        b"From: =?utf-8?q?ann=40example=2Eorg?= <mallory@evil.example>\r\n",
        b"From: =?utf-8?q?ann=40example=2Eorg?=\r\n",
        b"From: <@ann@example.org:mallory@evil.example>\r\n",
        b"From: ann@example.org@evil.example\r\n",
        b"From: <mallory@evil.example> <ann@example.org>\r\n",
        b'From: "ann@example.org\r\n',
        b"From: ann@example.org:;\r\n",
        b"From: ann@example.org.\r\n",
        b"From: undisclosed:;\r\n",
        b"From:\r\n",
        b"To: news@example.org\r\n",
        b"X-From: ann@example.org\r\n",
        b"From: " + b"ann@example.org, " * 1 + b", ".join(b"x%d@evil.example" % n for n in range(2000)) + b"\r\n",
    ],
)
def test_whoever_isnt_the_author_makes_nobody_a_member(header):
    """L3: a forged post to members-only, whatever readers might be shown."""
    assert said(judge(news(), post(header))) == "550 5.7.1"
    assert said(judge(news(post="announce", posters=("ann@example.org",)), post(header))) == "550 5.7.1"


@pytest.mark.parametrize(
    "header",
    [
        b"From: ANN@EXAMPLE.ORG\r\n",
        b"From: mallory@evil.example <ann@example.org>\r\n",
        b"From: Ann (works for mallory@evil.example) <ann@example.org>\r\n",
        b"From: =?utf-8?q?Ann?=\r\n =?utf-8?q?_B?= <ann@example.org>\r\n",
        b"From: ann@example.org, Bob <bob@example.org>\r\nSender: ann@example.org\r\n",
        b"from : ann@example.org\r\n",
        b"From: Team: ann@example.org, bob@example.org;\r\n",
    ],
)
def test_the_author_is_a_member_however_the_name_is_written(header):
    assert said(judge(news(), post(header))) == "allowed"


def test_the_envelopes_sender_may_be_another_than_the_author():
    elsewhere = Path.parse("bounces@provider.example")
    assert said(judge(news(), post(sender=elsewhere))) == "allowed"
    assert said(judge(news(), post(STRANGER, sender=Path.parse("ann@example.org")))) == "550 5.7.1"


def test_what_a_check_calls_forged_is_no_members():
    assert said(judge(news(), post(is_forged=True))) == "550 5.7.1"
    assert said(judge(news(post="announce", posters=("ann@example.org",)), post(is_forged=True))) == "550 5.7.1"
    moderated = news(post="moderated", posters=("ann@example.org",))
    assert [said(judge(moderated, post(is_forged=forged))) for forged in (False, True)] == ["allowed", "moderate"]
    held = judge(news(strangers="hold"), post(is_forged=True))
    assert held == Moderate("only members may post, and this wasn't sent by From's own domain")


def test_a_moderator_passes_only_who_has_authenticated():
    there = news(post="moderated", moderators=("ann@example.org",))
    assert said(judge(there, post())) == "moderate"
    assert said(judge(there, post(user="Ann@example.org"))) == "allowed"
    assert said(judge(there, post(user="bob@example.org"))) == "moderate"
    assert said(judge(there, post(b"From: bob@example.org\r\n", user="ann@example.org"))) == "moderate"
    two = b"From: ann@example.org, bob@example.org\r\nSender: ann@example.org\r\n"
    assert said(judge(there, post(two, user="ann@example.org"))) == "moderate"
    owned = news(post="moderated", owners=("ann@example.org",))
    assert said(judge(owned, post(user="ann@example.org"))) == "allowed"
    both = news(post="moderated", owners=("ann@example.org",), moderators=("bob@example.org",))
    assert said(judge(both, post(user="ann@example.org"))) == "moderate"


def test_single_members_can_be_moderated():
    careful = replace(post(), members={"ann@example.org": replace(ANN, moderated=True)})
    assert said(judge(news(), careful)) == said(judge(news(post="open"), careful)) == "moderate"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"X-Loop: News@example.org\r\n", "554 5.4.6"),
        (b"X-Loop: other@example.org\r\nX-Loop: news@example.org\r\n", "554 5.4.6"),
        (b"List-Id: All the news <news.example.org>\r\n", "554 5.4.6"),
        (b"Received: by x; now\r\n" * 51, "554 5.4.6"),
        (b"Auto-Submitted: auto-replied\r\n", "550 5.7.1"),
        (b"Auto-Submitted: auto-generated; x=y\r\n", "550 5.7.1"),
        (b"X-Autoreply: yes\r\n", "550 5.7.1"),
        (b"Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n", "550 5.7.1"),
        (b"Content-Type: multipart/report; report-type=disposition-notification; boundary=x\r\n", "550 5.7.1"),
        (b"Precedence: bulk\r\n", "550 5.7.1"),
        (b"Precedence: list\r\n", "550 5.7.1"),
        (b"List-Id: <other.example.com>\r\n", "550 5.7.1"),
        (b"X-Loop: other@example.org\r\n", "allowed"),
        (b"List-Id: <other.news.example.org>\r\nList-Id: <x>\r\n", "550 5.7.1"),
        (b"Auto-Submitted: no\r\n", "allowed"),
        (b"Precedence: first-class\r\n", "allowed"),
        (b"Received: by x; now\r\n" * 50, "allowed"),
    ],
)
def test_loops_and_what_writes_itself(header, code):
    """L1: a list that contains itself, at whatever distance; L2: automatic answers."""
    assert said(judge(news(post="open"), post(MEMBER + header))) == code


def test_another_list_may_post_if_it_is_named_among_the_posters():
    header = MEMBER + b"List-Id: <umbrella.example.com>\r\nPrecedence: list\r\n"
    sender = Path.parse("umbrella-bounces+17@example.com")
    assert said(judge(news(), post(header, sender=sender))) == "550 5.7.1"
    named = news(posters=("umbrella-bounces*@example.com",))
    assert said(judge(named, post(header, sender=sender))) == "allowed"
    assert said(judge(named, post(header + b"X-Loop: news@example.org\r\n", sender=sender))) == "554 5.4.6"


@pytest.mark.parametrize(
    ("sender", "size", "options", "code"),
    [
        ("ann@example.org", 0, {}, None),
        ("", 0, {}, 550),
        ("", 0, {"post": "open"}, 550),
        ("news-bounces+1-abc@example.org", 0, {"post": "open"}, 554),
        ("news@example.org", 0, {}, 554),
        ("ann@example.org", 101, {"max_size": 100}, 552),
        ("ann@example.org", 100, {"max_size": 100}, None),
        ("ann@example.org", 10**9, {}, None),
        ("ann@example.org", 0, {"post": "announce"}, 550),
        ("ann@example.org", 0, {"post": "announce", "posters": ("x@y",)}, None),
    ],
)
def test_what_the_envelope_alone_decides(sender, size, options, code):
    reply = judge_envelope(news(**options), Path.parse(sender), size)
    assert (None if reply is None else reply.code) == code


def test_authors_are_few():
    names = [f"x{number}@example.org" for number in range(MAX_AUTHORS + 1)]
    whole, many = (f"From: {', '.join(one)}\r\n\r\n".encode() for one in (names[:-1], names))
    assert authors(Section(whole)) == tuple(names[:-1])
    assert authors(Section(many)) == ()


def test_a_copy_that_came_by_no_session_is_known_by_its_sender():
    """L1."""
    assert said(judge(news(post="open"), post(sender=Path.parse("news-bounces+1-abc@example.org")))) == "554 5.4.6"


def test_the_null_sender_posts_nothing():
    assert said(judge(news(post="open"), post(sender=Path()))) == "550 5.7.1"


def test_a_post_that_is_too_large_is_told_how_large_it_may_be():
    refused = judge(news(max_size=1000), post(body=b"x" * 2000))
    assert isinstance(refused, Refused)
    assert str(refused.reply) == ("552 5.2.3 the list takes messages of at most 1,000 octets; this one has 2,025")


MIXED = b"Content-Type: multipart/mixed; boundary=x\r\n"


def mixed(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


TEXT = b"Content-Type: text/plain\r\n\r\nhello"
IMAGE = b"Content-Type: image/png\r\n\r\nxx"
ZIP = b"Content-Type: application/zip; name=a.zip\r\n\r\nxx"
ATTACHED_TEXT = b"Content-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\nhello"
NAMED_TEXT = b"Content-Type: text/plain; name=a.txt\r\n\r\nhello"
SIGNATURE = b"Content-Type: application/pgp-signature; name=sig.asc\r\n\r\nxx"
LONG_SIGNATURE = SIGNATURE + b"x" * 20_000


@pytest.mark.parametrize(
    ("allowed", "parts", "code"),
    [
        ("any", (TEXT, ZIP), "allowed"),
        ("none", (TEXT,), "allowed"),
        ("none", (TEXT, TEXT.replace(b"plain", b"html")), "allowed"),
        ("none", (TEXT, SIGNATURE), "allowed"),
        ("none", (TEXT, LONG_SIGNATURE), "550 5.7.1"),
        ("none", (TEXT, IMAGE), "550 5.7.1"),
        ("none", (TEXT, ATTACHED_TEXT), "550 5.7.1"),
        ("none", (TEXT, NAMED_TEXT), "550 5.7.1"),
        ("none", (TEXT, b"Content-Type: message/rfc822\r\n\r\n" + ZIP), "550 5.7.1"),
        (("image/*",), (TEXT, IMAGE), "allowed"),
        (("IMAGE/png",), (TEXT, IMAGE), "allowed"),
        (("image/*",), (TEXT, IMAGE, ZIP), "550 5.7.1"),
        (("text/plain",), (TEXT, ATTACHED_TEXT), "allowed"),
    ],
)
def test_attachments(allowed, parts, code):
    assert said(judge(news(attachments=allowed), post(MEMBER + MIXED, mixed(*parts)))) == code


def test_parts_that_cannot_be_told_apart_are_refused_where_parts_count():
    deep = b"".join(b"--%d\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n" % (n, n + 1) for n in range(80))
    given = post(MEMBER + b"Content-Type: multipart/mixed; boundary=0\r\n", deep)
    assert said(judge(news(attachments="none"), given)) == "550 5.6.0"
    assert said(judge(news(), given)) == "allowed"


@pytest.mark.parametrize("written", ["Ann@BÜCHER.example", "ann@xn--bcher-kva.EXAMPLE", "ANN@XN--BCHER-KVA.example"])
async def test_who_may_post_is_known_however_the_domain_is_spelled(written):
    store = open_lists(None)
    try:
        for number, options in enumerate([{"owners": ("ann@bücher.example",)}, {"posters": ("*@bücher.example",)}]):
            there = await store.create(f"n{number}", f"n{number}@example.org", ListOptions(post="announce", **options))
            content = Bytes(f"From: {written}\r\n\r\nhi\r\n".encode())
            assert await examine(store, there, content, sender=Path.parse("x@example.org")) == Allowed()
            other = Bytes(content.read().replace(b"From: ", b"From: x."))
            assert (await examine(store, there, other, sender=Path.parse("x@example.org")) == Allowed()) is bool(number)
    finally:
        await store.close()


async def test_a_post_is_read_and_its_authors_looked_up():
    store = open_lists(None)
    try:
        there = await store.create("news", "news@example.org", ListOptions(attachments="none"))
        await store.subscribe("news", "Ann@bücher.example", now=1)
        own, other = "From: ann@Bücher.example\r\n\r\nhi\r\n".encode(), b"From: x@xn--bcher-kva.example\r\n\r\nhi\r\n"
        sender = Path.parse("ann@example.org")
        assert await examine(store, there, Bytes(own), sender=sender) == Allowed()
        assert said(await examine(store, there, Bytes(other), sender=sender)) == "550 5.7.1"
        attached = b"From: ann@xn--bcher-kva.example\r\n" + MIXED + b"\r\n" + mixed(TEXT, ZIP)
        refused = await examine(store, there, Bytes(attached), sender=sender)
        assert isinstance(refused, Refused) and "no attachments" in refused.reply.text
    finally:
        await store.close()


@given(st.binary(max_size=300), st.sampled_from(["open", "members", "moderated", "announce"]))
def test_any_header_is_judged_and_no_stranger_is_let_in(raw, mode):
    section = Section(b"From: " + raw.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n\r\n")
    there = news(post=mode, posters=("only@example.org",))
    found = judge(there, Post(section, 1, Path.parse("x@y.example")))
    if mode in ("members", "announce") and isinstance(found, Allowed):
        assert authors(section) == ("only@example.org",)
    assert isinstance(found, Allowed | Refused | Moderate)
