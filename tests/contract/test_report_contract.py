"""Every report the house writes is one by RFC 3464's grammar, whoever said what in it (attacks I4, I5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contract.report_grammar import check_report
from gatepost.content.dsn import About, Action, Outcome, render_report
from gatepost.model import Bytes, Path, Recipient, Reply

NOON = 1_795_500_000
EVIL = st.text(st.sampled_from("a.5 \r\n\0\t\x1b[31m;:<>=?-_ü\u2028\x85&#\"'\\{}"), max_size=200)
STATUSES = {Action.FAILED: "5.1.1", Action.DELAYED: "4.4.1", Action.DELIVERED: "2.0.0", Action.RELAYED: "2.0.0"}
ADDRESSES = st.sampled_from(["bob@b.example", "jörg@b.example", '"a b"@b.example', "x@[192.0.2.1]"])
REPLIES = st.builds(lambda code, words: Reply(code, "", words or "x"), st.integers(200, 599), EVIL)


@st.composite
def outcomes(draw: st.DrawFn) -> list[Outcome]:
    action = draw(st.sampled_from(list(STATUSES)))
    made = []
    for address in draw(st.lists(ADDRESSES, min_size=1, max_size=4)):
        orcpt = draw(EVIL | st.sampled_from(["rfc822;bob+2Bx@b.example", "utf-8;jörg@b.example"]))
        recipient = Recipient(Path.parse(address), {"ORCPT": orcpt})
        reply = draw(st.none() | REPLIES.filter(lambda reply: reply.code < 300 or reply.code >= 400))
        until = NOON + 9000.0 if action is Action.DELAYED else None
        made.append(Outcome(recipient, action, STATUSES[action], reply, draw(EVIL), draw(EVIL), float(NOON), until))
    return made


@given(outcomes(), EVIL, EVIL, st.booleans(), st.booleans())
def test_a_report_is_one_by_its_grammar(
    told: list[Outcome], subject: str, envid: str, smtputf8: bool, full: bool
) -> None:
    content = Bytes(f"From: a@b.example\r\nSubject: {subject}\r\n\r\nbody\r\n".encode())
    about = About(
        "mx.example", "06HK3M-9Q7TZA-1", Path.parse("ann@own.example"), content, NOON, NOON + 600, "=_b",
        "id@mx.example", smtputf8=smtputf8, envid=envid,
    )  # fmt: skip
    message, blocks = check_report(render_report(about, told, return_full=full))
    assert message["To"] == "ann@own.example"
    wanted = {(outcome.recipient, outcome.recipient.parameters["ORCPT"]) for outcome in told}
    assert len(blocks) - 1 == len(wanted), "who comes twice is told of once"


def test_what_the_sender_said_is_told_decoded() -> None:
    recipient = Recipient(Path.parse("bob@b.example"), {"ORCPT": "RFC822;bob+2Bhome+20@b.example"})
    about = About(
        "mx.example", "06HK3M-9Q7TZA-1", Path.parse("ann@own.example"), Bytes(b""), NOON, NOON, "=_b", "id@mx.example",
        envid="order 17+",
    )  # fmt: skip
    _, (message, block) = check_report(render_report(about, [Outcome(recipient, Action.FAILED, "5.1.1")]))
    assert message["Original-Envelope-Id"] == "order 17+"
    assert block["Original-Recipient"] == "rfc822; bob+home @b.example"


def test_I4_megabytes_of_words_make_a_small_report() -> None:
    words = Reply(550, "5.7.1", "\n".join(["<script>\x1b]0;x\x07" + "y" * 500] * 4000))
    recipient = Recipient(Path.parse("bob@b.example"))
    about = About(
        "mx.example", "06HK3M-9Q7TZA-1", Path.parse("ann@own.example"), Bytes(b"Subject: x\r\n\r\n" + b"z" * 5_000_000),
        NOON, NOON, "=_b", "id@mx.example",
    )  # fmt: skip
    octets = render_report(about, [Outcome(recipient, Action.FAILED, "5.7.1", words, "h" * 100_000)], return_full=True)
    check_report(octets)
    assert len(octets) < 8000
    assert b"\x1b" not in octets
