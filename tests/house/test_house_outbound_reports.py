"""Who is told what became of mail, from the client's wishes to the report in a Maildir."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.report_grammar import check_report
from house.peers import NextServer, next_server
from house.premises import LOCAL, USER, Premises, fresh_mark, listener, message
from house.real_peers import relay, reports, route, scripted
from house.server_process import LOOPBACK, eventually, mail_in
from unit.delivery.delivery_peer import Peer, polite

FOREIGN = "dave@bobo.example"
ALL = "NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;first+2Bone@there.example"
REFUSAL = "550-5.1.1 nobody of that\x1b[31m name\n550 5.1.1 Subject: forged"
FULL, BUSY = "552 5.2.2 the mailbox is full", "451 4.2.0 the mailbox is busy"


class Town:
    """Next servers that don't know DSN: one takes everything, one refuses, one is late, and one speaks LMTP."""

    def __init__(self, gate: Premises, blind: Peer, lmtp: NextServer) -> None:
        self.gate, self.blind, self.lmtp = gate, blind, lmtp

    def send(self, mark: str, *to: str, sender: str = USER, wish: str = "", options: tuple[str, ...] = ()) -> str:
        """The ticket."""
        with smtplib.SMTP(LOOPBACK, self.gate.port("mx"), "client.example", timeout=30) as client:
            client.ehlo()
            assert client.mail(sender, [*options])[0] == 250
            for one in to:
                code, said = client.rcpt(one, [wish] if wish else [])
                assert code == 250, said
            return client.data(message(mark, sender=sender).encode())[1].decode().split()[-1]

    def held(self) -> str:
        return self.gate.ask("queue", "list", "--held")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    refusing, late = polite(("RCPT*", REFUSAL)), polite(("RCPT*", "451 4.2.0 busy"))
    with (
        scripted(polite()) as blind,
        scripted(refusing) as fails,
        scripted(late) as busy,
        next_server(lmtp=True) as lmtp,
    ):
        gate = Premises(
            tmp_path_factory.mktemp("reports"),
            listener("mx"),
            LOCAL,
            relay("blind.example", blind.port),
            relay("fails.example", fails.port),
            relay("late.example", busy.port),
            route("lmtp.example", f'"lmtp {LOOPBACK}:{lmtp.port}"'),
            delivery='first = "1s"\nmax = "1s"\nwarn = "1s"',
        )
        with gate.running():
            yield Town(gate, blind, lmtp)


@pytest.mark.parametrize(
    ("to", "action", "status"),
    [
        ("ann@blind.example", "relayed", "2"),
        ("bob@example.org", "delivered", "2"),
        ("x@fails.example", "failed", "5.1.1"),
    ],
)
def test_all_that_was_asked_for(town: Town, to: str, action: str, status: str) -> None:
    mark = fresh_mark()
    town.send(mark, to, wish=ALL, options=("ENVID=QQ+2B1", "RET=FULL"))
    eventually(lambda: reports(town.gate, mark, USER))
    [report] = reports(town.gate, mark, USER)
    assert report.message["Return-Path"] == "<>"
    assert report.message["To"].addresses[0].addr_spec == USER
    assert report.about["Original-Envelope-Id"] == "QQ+1"
    assert report.about["Reporting-MTA"] == "dns; mx.example.org"
    [about] = report.recipients
    assert (about["Action"], about["Final-Recipient"]) == (action, f"rfc822; {to}")
    assert about["Status"].startswith(status)
    assert about["Original-Recipient"] in ("rfc822; first+one@there.example", "rfc822;first+one@there.example")
    whole = action == "failed"  # RET speaks of failures only  # rfc3461#4.3
    assert report.returned.get_content_type() == ("message/rfc822" if whole else "text/rfc822-headers")
    assert (b"..dots" in report.message.as_bytes()) == whole
    if whole:
        assert about["Diagnostic-Code"] == "smtp; 550 5.1.1 nobody of that?[31m name Subject: forged"
        assert b"\x1b" not in report.message.as_bytes()
    else:
        assert town.gate.ask("queue", "list").find(to) == -1


def test_a_delay_is_told_once_and_then_no_more(town: Town) -> None:
    mark = fresh_mark()
    ticket = town.send(mark, "x@late.example", wish=ALL, options=("ENVID=late",))
    eventually(lambda: reports(town.gate, mark, USER))
    eventually(lambda: town.gate.ask("explain", ticket).count("  deferred ") >= 4)
    [report] = reports(town.gate, mark, USER)
    [about] = report.recipients
    assert (about["Action"], about["Status"]) == ("delayed", "4.2.0")
    assert "Will-Retry-Until" in about
    assert "the sender was told of the delay" in town.gate.ask("queue", "show", ticket)
    town.gate.ask("queue", "delete", ticket)


@pytest.mark.parametrize("wish", ["NOTIFY=NEVER", "NOTIFY=SUCCESS"])
def test_a_failure_nobody_wants_to_hear_of(town: Town, wish: str) -> None:
    mark = fresh_mark()
    ticket = town.send(mark, "x@fails.example", wish=wish)
    eventually(lambda: "nobody, as the sender asked" in town.gate.ask("explain", ticket))
    assert reports(town.gate, mark, USER) == []
    assert ticket not in town.gate.ask("queue", "list")


def test_without_a_wish_only_the_headers_of_a_failure(town: Town) -> None:
    mark = fresh_mark()
    town.send(mark, "x@fails.example", "bob@example.org", "ann@blind.example")
    eventually(lambda: reports(town.gate, mark, USER))
    town.gate.delivered(mark, "bob@example.org")
    eventually(lambda: any(mark.encode() in mail for mail in town.blind.mail))
    [report] = reports(town.gate, mark, USER)
    assert [one["Final-Recipient"] for one in report.recipients] == ["rfc822; x@fails.example"]
    assert report.returned.get_content_type() == "text/rfc822-headers"


def notices(town: Town, ticket: str) -> list[Path]:
    """Delivered messages that speak of this one."""
    return [path for path in mail_in(town.gate.folder / "data") if ticket.encode() in path.read_bytes()]


@pytest.mark.parametrize("sender", [FOREIGN, ""])
def test_whoever_may_be_forged_isnt_told_and_nothing_is_lost(town: Town, sender: str) -> None:
    mark = fresh_mark()
    ticket = town.send(mark, "x@fails.example", sender=sender, wish="" if not sender else ALL)
    eventually(lambda: ticket in town.held())
    [line] = [line for line in town.held().splitlines() if line.startswith(ticket)]
    assert "held: undeliverable" in line
    assert not any("\x1b" in one for one in line)
    assert not any(mark.encode() in mail for mail in town.blind.mail)
    if sender:
        [path] = eventually(lambda: notices(town, ticket))
        assert "/postmaster/" in str(path)
    assert len(notices(town, ticket)) == bool(sender)
    town.gate.ask("queue", "delete", ticket)


@pytest.mark.parametrize("wish", ["", "NOTIFY=SUCCESS,FAILURE,DELAY"])
def test_lmtp_answers_for_each_recipient(town: Town, wish: str) -> None:
    mark = fresh_mark()
    town.lmtp.says_of = {"full@lmtp.example": FULL, "busy@lmtp.example": BUSY}
    names = ("ann", "full", "busy")
    ticket = town.send(mark, *(f"{name}@lmtp.example" for name in names), wish=wish)
    expected = {"full": "failed", **({"ann": "delivered", "busy": "delayed"} if wish else {"busy": "delayed"})}

    def said() -> dict[str, str]:
        found = [one for report in reports(town.gate, mark, USER) for one in report.recipients]
        return {one["Final-Recipient"].split()[1].partition("@")[0]: one["Action"] for one in found}

    eventually(lambda: said() == expected)
    assert f"<busy@lmtp.example>  {BUSY}" in town.gate.ask("queue", "show", ticket)
    town.lmtp.says_of = {}
    eventually(lambda: ticket not in town.gate.ask("queue", "list"))
    [first, *later] = [recipients for _, recipients, _ in town.lmtp.with_mark(mark)]
    assert first == [f"{name}@lmtp.example" for name in names]
    assert {*map(tuple, later)} == {("busy@lmtp.example",)}, "who has it, or won't have it, isn't asked again"
    if wish:
        eventually(lambda: said()["busy"] == "delivered")


def test_reports_are_reports(town: Town) -> None:
    """Whatever claims to be one, in whoever's Maildir, keeps the grammar."""
    for path in mail_in(town.gate.folder / "data"):
        content = path.read_bytes()
        if b"report-type=delivery-status" in content:
            check_report(content.replace(b"\n", b"\r\n"))
