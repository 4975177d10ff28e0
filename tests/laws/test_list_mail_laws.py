"""Laws of what lists make of mail: whatever is written to any of their addresses is taken without an exception, answers
go to the author alone, and every letter is mail that anybody can read.
"""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.content.dsn_reading import MAX_RECIPIENTS, read_report
from gatepost.content.headers import read_section
from gatepost.content.plain_text import first_text
from gatepost.content.values import MAX_LINE
from gatepost.lists import answering
from gatepost.lists.commands import read_command
from gatepost.model import NULL_PATH, Bytes, Path
from list_desk import OWNER, Desk, content_of, letter_of, report

PIECES = st.one_of(
    st.sampled_from([
        b"Subject: subscribe\r\n",
        b"Subject: Re: confirm aaaaaaaaaaaaaaaa\r\n",
        b"Subject: =?utf-8?q?set_nomail?=\r\n",
        b"From: Ann <ann@example.net>\r\n",
        b'From: "a\\"b" <"odd one"@example.net>, b@example.net\r\n',
        "From: Jürgen <jürgen@example.net>\r\n".encode(),
        b"From: =?utf-8?b?Cg0K?= <eve@example.net>\r\n",
        b"Message-ID: <1@example.net>\r\n",
        b"Content-Type: multipart/report; boundary=b\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"--b\r\n",
        b"--b--\r\n",
        b"Content-Type: message/delivery-status\r\n",
        b"Final-Recipient: rfc822; ann@example.net\r\n",
        b"Final-Recipient: utf-8; \\x{110000}\\x{D800}\\x{41}@example.net\r\n",
        b"Action: failed\r\n",
        b"Status: 5.1.1\r\n",
        b"help\r\n",
        b"set vacation 2030-12-24\r\n",
        b"\r\n",
        b"\n",
        b" ",
    ]),
    st.binary(max_size=20),
)  # fmt: skip
CONTENTS = st.lists(PIECES, max_size=30).map(b"".join)
ADDRESSES = st.sampled_from([
    "news-request", "news-subscribe", "news-unsubscribe", "news-owner", "news-bounces", "news-confirm+aaaaaaaaaaaaaaaa",
    "news-bounces+1-aaaaaaaaaa", "news-probe+aaaaaaaaaaaaaaaa", "news-approve+0000hk-000000-1-aaaaaaaaaa",
])  # fmt: skip


@given(CONTENTS)
@settings(max_examples=300)
def test_reading_never_raises_and_is_bounded(octets: bytes) -> None:
    content = Bytes(octets)
    section = read_section(content)
    found = read_report(content)
    assert found is None or len(found) <= MAX_RECIPIENTS
    assert len(first_text(content, 50)) <= 50
    read_command(section, content, "news")
    answering.is_automatic(section, NULL_PATH)
    author, display = answering.author_of(section, Path.parse("eve@example.net"))
    assert Path.parse(author.address) == author
    assert display.isprintable()


@given(st.binary(max_size=40), st.integers(0, 400))
def test_a_report_that_is_cut_or_bent_anywhere_is_read_all_the_same(noise: bytes, at: int) -> None:
    whole = report("ann@example.net")
    for told in read_report(Bytes(whole[:at] + noise + whole[at:])) or ():
        assert told.final or told.original
    for told in read_report(Bytes(whole[:at])) or ():
        assert told.final or told.original


@given(ADDRESSES, CONTENTS)
@settings(max_examples=150)
def test_whatever_comes_is_taken_and_answered_to_its_author_alone(address: str, octets: bytes) -> None:
    async def take() -> None:
        desk = await Desk.open()
        entry = desk.entry(f"{address}@example.org", octets, sender="eve@example.net")
        author, _ = answering.author_of(read_section(Bytes(octets)), entry.envelope.sender)
        handled = await desk.handle(entry)
        assert handled.refusal is None
        for deposit in handled.deposits:
            to = {one.address for one in deposit.envelope.recipients}
            if address == "news-owner":
                assert to == {OWNER}
                continue
            assert to == {author.address}
            assert letter_of(deposit)["Auto-Submitted"] == "auto-replied"
            lines = content_of(deposit).read().split(b"\r\n")
            assert max(map(len, lines)) <= MAX_LINE
            assert not any(b"\n" in line or b"\r" in line for line in lines)
        await desk.store.close()

    asyncio.run(take())
