"""The header section of copies: what a list says, whom replies reach, what of the author's own survives."""

from dataclasses import replace
from email import message_from_bytes, policy

import pytest

from gatepost.content.headers import Section, read_section
from gatepost.content.values import unfold
from gatepost.lists.rendering import author_domain, list_id, render
from gatepost.model import Bytes
from gatepost.store.lists import ListOptions, MailingList

PLAIN = MailingList("news", "news@example.org", ListOptions(description='News, "all" of it'))
URL = "https://lists.example.org/u/{token}"
HEAD = "From: Ann <ann@example.net>\r\nTo: news@example.org\r\nSubject: hello\r\nMessage-ID: <1@example.net>\r\n"
CIRCLE = ("news@example.org", "dev@example.org")


def section(head: str | bytes = HEAD) -> Section:
    octets = head if isinstance(head, bytes) else head.encode()
    return read_section(Bytes(octets + b"\r\nFrom: not a header\r\n"))


def copy(head: str | bytes = HEAD, mailing_list: MailingList = PLAIN, token: str | None = None, **more):
    """A copy's header as a reader sees it, and its octets."""
    octets = render(section(head), mailing_list, **more).of(token)
    assert octets.endswith(b"\r\n\r\n")
    assert octets.count(b"\r\n\r\n") == 1
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    message = message_from_bytes(octets, policy=policy.default)
    assert not message.defects
    return message, octets


def with_options(**options) -> MailingList:
    return replace(PLAIN, options=replace(PLAIN.options, **options))


def test_a_copy_says_whose_list_it_is_from_and_how_to_use_it():
    _, octets = copy()
    assert octets.decode() == HEAD + (
        'List-Id: "News, \\"all\\" of it" <news.example.org>\r\n'
        "List-Post: <mailto:news@example.org>\r\n"
        "List-Help: <mailto:news-request@example.org?subject=help>\r\n"
        "List-Subscribe: <mailto:news-subscribe@example.org>\r\n"
        "List-Owner: <mailto:news-owner@example.org>\r\n"
        "Precedence: list\r\n"
        "X-Loop: news@example.org\r\n"
        "List-Unsubscribe: <mailto:news-unsubscribe@example.org>\r\n"
        "\r\n"
    )


def test_one_request_is_enough_to_leave_where_the_list_has_an_address_for_it():
    mailing_list = with_options(unsubscribe_url=URL)
    message, _ = copy(mailing_list=mailing_list, token="7-abc/def")
    assert message["List-Unsubscribe"] == (
        "<https://lists.example.org/u/7-abc%2Fdef>, <mailto:news-unsubscribe@example.org>"
    )
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    message, _ = copy(mailing_list=mailing_list)  # somebody who is no member, a plugin's work
    assert message["List-Unsubscribe"] == "<mailto:news-unsubscribe@example.org>"
    assert message["List-Unsubscribe-Post"] is None


def test_only_some_may_post_and_nobody_join():
    message, _ = copy(mailing_list=with_options(post="announce", subscribe="closed", description=""))
    assert message["List-Post"] == "NO"
    assert message["List-Subscribe"] is None
    assert message["List-Id"] == "<news.example.org>"


def test_addresses_with_odd_characters_are_uris():
    mailing_list = MailingList("odd", "r&d%?@example.org")
    message, _ = copy(mailing_list=mailing_list)
    assert message["List-Post"] == "<mailto:r%26d%25%3F@example.org>"
    assert message["List-Id"] == f"<{list_id(mailing_list)}>" == "<odd.example.org>"


def test_what_other_lists_have_said_goes_but_for_the_way_it_took():
    head = HEAD + (
        "List-Id: <other.example.com>\r\nList-Unsubscribe: <https://evil.example/>\r\nPrecedence: bulk\r\n"
        f"List-{'x' * 300}: y\r\nX-Loop: other@example.com\r\nReturn-Path: <x@example.com>\r\nErrors-To: x\r\n"
    )
    message, octets = copy(head, via=("Other@example.com", "dev@example.org"))
    assert message.get_all("List-Id") == ['"News, \\"all\\" of it" <news.example.org>']
    assert message.get_all("X-Loop") == ["other@example.com", "dev@example.org", "news@example.org"]
    assert message.get_all("Precedence") == ["list"]
    assert b"evil" not in octets
    assert b"xxx" not in octets
    assert (message["Return-Path"], message["Errors-To"]) == (None, None)


def test_an_author_isnt_told_who_reads_the_list():
    message, _ = copy(HEAD + "Disposition-Notification-To: ann@example.net\r\nreturn-receipt-to: ann@example.net\r\n")
    assert message["Disposition-Notification-To"] is None
    assert message["Return-Receipt-To"] is None


@pytest.mark.parametrize(
    ("head", "prefix", "shown"),
    [
        ("Subject: hello\r\n", "[news]", "[news] hello"),
        ("subject: Re: [News] hello\r\n", "[news]", "Re: [News] hello"),
        ("Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n", "[news]", "[news] grüße"),
        ("Subject: Re: =?utf-8?b?W25ld3NdIGdyw7zDn2U=?=\r\n", "[news]", "Re: [news] grüße"),
        ("Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n", "[größe]", "[größe] grüße"),
        ("Subject: hello\r\n", "[größe]", "[größe] hello"),
        (f"Subject: {'long ' * 20}\r\n end\r\n", "[news]", f"[news] {'long ' * 20}end"),
        ("Subject:\r\n", "[news]", "[news]"),
        ("", "[news]", "[news]"),
        ("Subject: hello\r\n", "", "hello"),
    ],
)
def test_subjects_have_the_prefix_once(head, prefix, shown):
    message, _ = copy("From: ann@example.net\r\n" + head, with_options(subject_prefix=prefix))
    assert " ".join(message["Subject"].split()) == " ".join(shown.split())
    assert len(message.get_all("Subject")) == 1


def test_lines_stay_as_short_as_they_were():
    _, octets = copy(f"From: ann@example.net\r\nSubject: {'x' * 68}\r\n", with_options(subject_prefix="[news]"))
    assert b"Subject: [news]\r\n xxx" in octets


def test_a_subject_that_was_encoded_stays_as_it_was_written():
    written = b"=?iso-2022-jp?B?GyRCJDMkcxsoQg==?="
    octets = render(section(b"Subject: " + written + b"\r\n"), with_options(subject_prefix="[n]")).of(None)
    assert b"Subject: [n] " + written + b"\r\n" in octets


@pytest.mark.parametrize(
    ("policy", "said", "replies"),
    [
        ("sender", "", None),
        ("sender", "Reply-To: bob@example.net\r\n", ["bob@example.net"]),
        ("list", "Reply-To: bob@example.net\r\nReply-To: cas@example.net\r\n", ["news@example.org"]),
        ("talk@example.org", "", ["talk@example.org"]),
    ],
)
def test_replies_go_where_the_list_says(policy, said, replies):
    message, _ = copy(HEAD + said, with_options(reply_to=policy))
    assert message.get_all("Reply-To") == replies


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Ann <ann@example.net>", "Ann via The news"),
        ("ann@example.net", "ann via The news"),
        ('"A, \\"B\\" <c>" <ann@example.net>', 'A, "B" <c> via The news'),
        ("=?utf-8?b?R3LDvMOfZSA8ZXZpbEBleGFtcGxlLmNvbT4=?= <ann@example.net>", "Grüße <evil@example.com> via The news"),
        ("=?utf-8?q?a=0D=0ABcc=3A_x=40example.com?= <ann@example.net>", "a Bcc: x@example.com via The news"),
        ("Ann <ann@example.net>, Bob <bob@example.net>", "Ann via The news"),
        ("x" * 900 + " <ann@example.net>", "x" * 100 + " via The news"),
        ("nobody", "The news"),
    ],
)
def test_a_rewritten_from_names_the_list_and_keeps_the_author(written, shown):
    head = f"From: {written}\r\nSender: sec@example.net\r\nSubject: x\r\n"
    message, octets = copy(head, with_options(description="The news"), is_rewritten=True)
    [one] = message["From"].addresses
    assert (one.display_name, one.addr_spec) == (shown, "news@example.org")
    assert message["Sender"] is None
    assert message["Bcc"] is None
    before = [written.encode()] if "@" in written else []
    assert [unfold(raw).encode() for raw in Section(octets).raw_values("author")] == before
    assert [unfold(raw).encode() for raw in Section(octets).raw_values("reply-to")] == before


def test_rewriting_leaves_a_reply_to_of_the_author_and_a_list_that_wants_replies():
    head = HEAD + "Reply-To: bob@example.net\r\n"
    assert copy(head, is_rewritten=True)[0].get_all("Reply-To") == ["bob@example.net"]
    assert copy(head, with_options(reply_to="list"), is_rewritten=True)[0]["Reply-To"] == "news@example.org"


def test_several_from_fields_become_one():
    message, _ = copy("From: ann@example.net\r\nFrom: bob@example.net\r\n", is_rewritten=True)
    assert len(message.get_all("From")) == 1


SIGNED = "DKIM-Signature: v=1; d={d}; bh=x; h={h};\r\n b=yyy\r\n"


@pytest.mark.parametrize(
    ("signed", "options", "more", "holds"),
    [
        ("from:to:subject", {}, {}, True),
        ("from:to:subject", {"subject_prefix": "[n]"}, {}, False),
        ("From : To", {}, {"is_rewritten": True}, False),
        ("from:reply-to", {}, {}, True),
        ("from:reply-to", {"reply_to": "list"}, {}, False),
        ("from:list-id", {}, {}, False),  # signed as missing
        ("from:list-unsubscribe-post", {}, {}, False),
    ],
)
def test_signatures_stay_as_long_as_they_hold(signed, options, more, holds):
    head = SIGNED.format(d="gone.example", h=signed) + SIGNED.format(d="stays.example", h="date:\r\n message-id") + HEAD
    _, octets = copy(head, with_options(**options), **more)
    assert (b"d=gone.example" in octets) is holds
    assert b"d=stays.example" in octets


def test_a_signature_that_nobody_can_read_goes():
    assert b"DKIM" not in copy("DKIM-Signature: v=1; b=x\r\n" + HEAD)[1]


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\x00\xff: \x80\r\nSubject: \xff\xfe\r\n",
        b" starts with a blank\r\nSubject: x\r\n",
        b">From ann\r\nFrom: a\r\n b\r\n\tc\r\n",
        b"From" + b":" * 500 + b"\r\n",
        b"Subject: " + b"x" * 950 + b"\r\n",
    ],
)
@pytest.mark.parametrize("is_rewritten", [False, True])
def test_whatever_is_in_a_header_it_stays_one(head, is_rewritten):
    mailing_list = with_options(subject_prefix="[n]", reply_to="list")
    octets = render(section(head), mailing_list, is_rewritten=is_rewritten).of(None)
    again = Section(octets)
    assert again.blank == b"\r\n"
    assert b"".join(again.fields) + again.blank == octets
    assert again.count("list-id") == again.count("list-unsubscribe") == 1


def test_a_message_that_ends_within_its_header_is_ended():
    octets = render(read_section(Bytes(b"From: ann@example.net")), PLAIN).of(None)
    assert octets.startswith(b"From: ann@example.net\r\nList-Id:")
    assert octets.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ("Ann <ann@Example.NET>", "example.net"),
        ("ann@bücher.example", "xn--bcher-kva.example"),
        ("=?utf-8?q?x=40evil.example?= <ann@example.net>", "example.net"),
        ("ann", ""),
        ("ann@-", ""),
    ],
)
def test_the_authors_domain_is_what_is_written_there(written, domain):
    assert author_domain(section(f"From: {written}\r\n")) == domain
