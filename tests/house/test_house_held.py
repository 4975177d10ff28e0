"""Quarantined mail through the command line, and the story of every decision, with a running server and without one."""

from __future__ import annotations

import json
import re
import smtplib
from pathlib import Path

import pytest

from house.premises import LOCAL, USER, Premises, fresh_mark, listener, message
from house.server_process import LOOPBACK, eventually, gatepost

FOREIGN = "dave@bobo.example"
PLUGIN = """
from gatepost import on, quarantine, refuse

@on("message", priority=100)
async def suspicious(event):
    subject = event.message.headers.get("Subject") or ""
    event.note(words=len(subject.split()))
    if "suspicious" in subject:
        return quarantine("the subject says so")
    if "lottery" in subject:
        return refuse(554, "5.7.1", "nobody wins here")

@on("recipient", rule="rcpt to=eve@*")
async def left(event):
    return refuse(550, "5.1.6", "has left")
"""
SETTINGS = (listener("mx"), LOCAL, '[[plugin]]\nsource = "suspicious.py"\n')


@pytest.fixture
def premises(tmp_path: Path) -> Premises:
    (tmp_path / "suspicious.py").write_text(PLUGIN)
    return Premises(tmp_path, *SETTINGS)


def send(gate: Premises, subject: str, *to: str) -> tuple[int, str]:
    with smtplib.SMTP(LOOPBACK, gate.port("mx"), "client.example") as client:
        client.ehlo()
        client.mail(FOREIGN)
        for one in to or (USER,):
            client.rcpt(one)
        try:
            code, text = client.data(message(subject))
        except smtplib.SMTPDataError as error:  # not even the 354
            code, text = error.smtp_code, error.smtp_error
        return code, text.decode()


def ticket_in(text: str) -> str:
    return re.search(r"[0-9A-Z]{6}-[0-9A-Z]{6}(-\d+)?", text)[0]


def test_held_mail_is_listed_released_and_delivered_once(premises: Premises) -> None:
    mark = fresh_mark()
    with premises.running() as gate:
        code, said = send(gate, f"{mark} suspicious", USER, "bob@example.org")
        ticket = ticket_in(said)
        assert code == 250
        assert "0 queued, 1 held" in gate.ask("queue", "list")
        [line, _] = gate.ask("queue", "list", "--held").splitlines()
        assert line.startswith(ticket)
        assert "held: the subject says so" in line
        shown = json.loads(gate.ask("queue", "show", ticket, "--json"))
        assert shown["held"] == "the subject says so"
        assert {*shown["recipients"]} == {USER, "bob@example.org"}
        assert not gate.mail(mark)
        told = gate.ask("explain", ticket)
        assert "suspicious" in told
        assert "the subject says so" in told
    with premises.running() as gate:  # held mail outlives the server
        assert "0 queued, 1 held" in gate.ask("queue", "list")
        assert f"{ticket} is released" in gate.ask("queue", "release", ticket)
        for user in USER, "bob@example.org":
            assert gate.delivered(mark, user).startswith(b"Return-Path: ")
        eventually(lambda: "0 queued, 0 held" in gate.ask("queue", "list"))


def test_held_mail_can_be_deleted_and_nobody_is_told(premises: Premises) -> None:
    with premises.running() as gate:
        _, said = send(gate, "suspicious")
        ticket = ticket_in(said)
        assert f"{ticket} is deleted" in gate.ask("queue", "delete", ticket)
        assert gate.ask("queue", "list").strip() == "0 queued, 0 held"
        assert not list(gate.box().glob("new/*"))


def test_every_decision_is_explained_with_and_without_a_server(premises: Premises) -> None:
    mark = fresh_mark()
    with premises.running() as gate:
        accepted = send(gate, mark)
        refused = send(gate, f"{mark} lottery")
        unknown = send(gate, mark, "nobody@example.org", "eve@example.org")
        assert (accepted[0], refused[0], unknown[0]) == (250, 554, 554)
        with smtplib.SMTP(LOOPBACK, gate.port("mx"), "client.example") as client:
            client.ehlo()
            client.mail("left@half.example")
            client.rcpt(USER)
            client.sock.close()  # in the middle of a transaction
        gate.delivered(mark)
        with_server = look(gate, accepted[1], refused[1])
    assert look(gate, accepted[1], refused[1]) == with_server


def look(gate: Premises, accepted: str, refused: str) -> list[str]:
    """What the commands tell; the same with a server and without one."""

    def ask(*arguments: str) -> str:
        done = gatepost(gate.folder, *arguments)
        assert done.returncode == 0, done
        return done.stdout

    told = ask("explain", ticket_in(accepted))
    assert told.startswith("ACCEPTED ")
    assert FOREIGN in told
    assert "words=1" in told
    why = ask("explain", ticket_in(refused))
    assert why.startswith("REFUSED at end of data")
    assert "nobody wins here" in why
    assert "← decided" in why
    found = ask("trace", "--from", FOREIGN, "--since", "1h")
    assert len(found.splitlines()) == 3
    to_eve = ask("trace", "--to", "eve@example.org")
    assert len(to_eve.splitlines()) == 1
    gone = ask("explain", to_eve.split()[0])
    assert "550 5.1.6" in gone
    assert "550 5.1.1" in gone
    abandoned = ask("trace", "--from", "left@half.example")
    assert len(abandoned.splitlines()) == 1
    return [told, why, found, gone, abandoned]
