"""A list, told by those who are on it: from the first mail to -subscribe to the first post, what comes back of it, and
back to leaving; and a post that waits for its moderator. One running server, with the people's mail in Maildirs.
"""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from house.premises import Premises, fresh_mark, listener
from house.server_process import LOOPBACK, eventually
from list_desk import report

ROUTES = """
[[route]]
match = "news@example.org"
deliver = "list news"
[[route]]
match = "board@example.org"
deliver = "list board"
[[route]]
match = "*@example.org"
deliver = "maildir"
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Premises]:
    premises = Premises(tmp_path_factory.mktemp("lists"), listener("mx"), ROUTES)
    with premises.running() as running:
        running.ask("list", "create", "news", "news@example.org", "--owner", "ann@example.org")
        running.ask("list", "create", "board", "board@example.org", "post=moderated", "--owner", "ann@example.org")
        running.ask("list", "subscribe", "board", "bob@example.org", "eve@example.org")
        yield running


def send(gate: Premises, author: str, to: str, subject: str, text: str = "") -> int:
    """One mail without a login; the code of the last reply."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = author, to, subject
    mail.set_content(text or "Hello\n")
    with smtplib.SMTP(LOOPBACK, gate.port("mx"), "client.example") as client:
        try:
            client.send_message(mail, from_addr=author, to_addrs=[to])
        except smtplib.SMTPRecipientsRefused as refused:
            [(code, _)] = refused.recipients.values()
            return code
        except smtplib.SMTPDataError as refused:
            return refused.smtp_code
    return 250


def letter(gate: Premises, user: str, words: str) -> EmailMessage:
    """The one mail with these words that a user finds in his mailbox, when it has come; lines may break anywhere."""

    def found() -> list[bytes]:
        return [content for content in gate.mail("", user) if words.encode() in b" ".join(content.split())]

    eventually(found)
    [content] = found()
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _score(gate: Premises, address: str) -> float:
    """How many bounces count against a member of `news`."""
    return next(
        one["score"] for one in json.loads(gate.ask("list", "members", "news", "--json")) if one["address"] == address
    )


def test_somebody_joins_reads_writes_and_leaves(gate: Premises) -> None:
    bob, mark = "bob@example.org", fresh_mark()
    assert send(gate, bob, "news@example.org", "I am new here") == 550

    assert send(gate, bob, "news-subscribe@example.org", "") == 250
    question = letter(gate, bob, "be subscribed to the")
    assert send(gate, bob, question["Reply-To"], f"Re: {question['Subject']}") == 250
    assert letter(gate, bob, "Welcome to news")["Auto-Submitted"] == "auto-replied"
    assert bob in gate.ask("list", "members", "news")

    gate.ask("list", "subscribe", "news", "ann@example.org", "gone@example.org")
    assert send(gate, bob, "news@example.org", f"First post {mark}") == 250
    copy = letter(gate, "ann@example.org", f"First post {mark}")
    assert "news.example.org" in copy["List-Id"]
    assert copy["From"] == bob
    assert copy["Return-Path"].startswith("<news-bounces+")

    eventually(lambda: _score(gate, "gone@example.org") == 1.0)
    with smtplib.SMTP(LOOPBACK, gate.port("mx"), "mx.example.net") as server:
        server.sendmail("", copy["Return-Path"].strip("<>"), report("ann@elsewhere.example", "4.2.2"))
    eventually(lambda: _score(gate, "ann@example.org") == 0.5)

    assert send(gate, bob, "news-unsubscribe@example.org", "") == 250
    question = letter(gate, bob, "be taken off the list")
    assert send(gate, bob, question["Reply-To"], "yes") == 250
    letter(gate, bob, "You have left news")
    assert bob not in gate.ask("list", "members", "news")
    assert send(gate, bob, "news@example.org", "One more thing") == 550


def test_a_post_waits_for_its_moderator(gate: Premises) -> None:
    bob, ann = "bob@example.org", "ann@example.org"
    wanted, unwanted = fresh_mark(), fresh_mark()
    for mark in wanted, unwanted:
        assert send(gate, bob, "board@example.org", f"A thought {mark}") == 250
    for mark, word in (wanted, "approve"), (unwanted, "refuse"):
        text = letter(gate, ann, mark).get_body(("plain",))
        assert text is not None
        [address] = [one for one in text.get_content().split() if one.startswith(f"board-{word}+")]
        assert not gate.mail(mark, "eve@example.org")
        assert send(gate, ann, address, "") == 250
    assert letter(gate, "eve@example.org", wanted)["List-Id"]
    assert unwanted in str(letter(gate, bob, "has refused your post"))
    eventually(lambda: unwanted not in gate.ask("list", "held", "board"))
    assert not gate.mail(unwanted, "eve@example.org")
