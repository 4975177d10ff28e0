"""Mail is fetched from Dovecot: by command and by interval, with and without a running server, refusals, explain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from dovecot import Dovecot, dovecot
from gatepost.app.cli.frame import run
from gatepost.app.control import ControlClient
from house.server_process import LOOPBACK, ServerProcess, eventually

pytestmark = pytest.mark.needs("dovecot")

PLUGIN = """
from gatepost import on, refuse

@on("message")
async def look(event):
    if "spam" in event.message.headers.get("Subject", ""):
        return refuse("no spam")

@on("connect")
async def met(event):
    if str(event.session.peer) == "198.51.100.66":
        return refuse("not from there")
"""

SETTINGS = """
hostname = "mx.example.org"
data = "data"
workers = {workers}

[[listen]]
address = "{loopback}:0"

[[route]]
match = "*@example.org"
deliver = "maildir"

[[plugin]]
source = "look.py"

"""


def mail(subject: str, *, to: str = "", client: str = "192.88.99.5") -> bytes:
    top = f"Return-Path: <carl@example.com>\n{f'X-Envelope-To: {to}' + chr(10) if to else ''}"
    received = (
        f"Received: from a.example ([{client}])\n\tby mx.example.net with ESMTP; Sun, 22 Nov 2026 00:00:00 +0000\n"
    )
    return f"{top}{received}From: carl@example.com\nSubject: {subject}\n\n.a dot at {subject}\n".encode()


@pytest.fixture(scope="module")
def other() -> Iterator[Dovecot]:
    """One Dovecot for all; each account has a user of its own."""
    with dovecot({name: "secret" for name in (*ACCOUNTS, "alone", "two")}) as running:
        yield running


ACCOUNTS = {
    "plain": 'keep = "0s"',
    "left": 'every = "1h"',
    "held": 'keep = "0s"\nrefused = "quarantine"',
    "thrown": 'keep = "0s"\nrefused = "discard"',
    "several": 'envelope = "X-Envelope-To"\ndomains = "example.org"',
    "stls": 'tls = "starttls"\nauth = "scram-sha-256"',
    "wrong": 'every = "10s"\npassword = "@password"',
    "off": "enabled = false",
}


class Here:
    """A Gatepost that collects from these accounts, or is about to."""

    def __init__(self, folder: Path, other: Dovecot, accounts: dict[str, str], *, workers: int = 1):
        self.folder = folder
        self.other = other
        self.settings = folder / "gatepost.toml"
        (folder / "look.py").write_text(PLUGIN)
        (folder / "password").write_text("not the password\n")
        tables = [f'[[user]]\nname = "{name}@example.org"\n' for name in (*accounts, "ann", "bob")]
        tables += [self._table(name, text) for name, text in accounts.items()]
        self.settings.write_text(
            SETTINGS.format(workers=workers, loopback=LOOPBACK) + "".join(tables), encoding="utf-8"
        )

    def _table(self, name: str, text: str) -> str:
        port = self.other.port if "starttls" in text else self.other.tls_port
        keys = {"name": name, "server": f"{LOOPBACK}:{port}", "ca": str(self.other.ca), "user": name}
        keys |= {"to": f"{name}@example.org"}
        keys |= {"password": "secret"} if "password" not in text else {}
        keys |= {"every": "0s"} if "every" not in text else {}
        return "[[collect]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items()) + text + "\n"

    def fetch(self, *options: str, code: int = 0) -> str:
        """What the command says. It runs in this process, which saves its start."""
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            assert run(["-c", str(self.settings), "fetch", *options]) == code, out.getvalue() + err.getvalue()
        return out.getvalue() + err.getvalue()

    def box(self, name: str) -> list[str]:
        found = (self.folder / "data" / "mail" / "example.org" / name).glob("new/*")
        return sorted(path.read_text() for path in found)

    def subjects(self, name: str) -> list[str]:
        lines = (line for text in self.box(name) for line in text.splitlines())
        return sorted(line.removeprefix("Subject: ") for line in lines if line.startswith("Subject: "))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, other: Dovecot) -> Iterator[tuple[Here, ServerProcess]]:
    folder = tmp_path_factory.mktemp("house")
    found = Here(folder, other, ACCOUNTS)
    with ServerProcess(folder, "run") as running:
        yield found, running
        assert "Traceback" not in running.log, running.log


def test_by_command_the_running_server_fetches_and_tells(here: tuple[Here, ServerProcess], other: Dovecot) -> None:
    house, _ = here
    assert house.fetch("plain") == "plain: nothing new\n"
    other.put("plain", [mail("one"), mail("two")])
    assert house.fetch("plain") == "plain: 2 fetched, 2 deleted there\n"
    assert other.mail("plain") == []
    eventually(lambda: house.subjects("plain") == ["one", "two"])
    text = house.box("plain")[0]
    assert text.startswith("Return-Path: <carl@example.com>\nDelivered-To: plain@example.org\n")
    assert "[192.88.99.5]" in text.partition("Received: from a.example ([192.88.99.5])\n\tby mx.example.net")[0]
    assert "\n\n.a dot at " in text
    (row,) = json.loads(house.fetch("plain", "--list", "--json"))
    assert (row["name"], row["next_at"], row["totals"]["taken"], row["last"]["trouble"]) == ("plain", None, 2, None)


def test_by_stls_and_in_the_background(here: tuple[Here, ServerProcess], other: Dovecot) -> None:
    house, _ = here
    other.put("stls", [mail("one")])
    assert house.fetch("stls", "--background").startswith("under way: stls")
    eventually(lambda: house.subjects("stls") == ["one"])


def test_by_interval_nobody_has_to_ask_and_what_is_left_comes_once(
    here: tuple[Here, ServerProcess], other: Dovecot
) -> None:
    house, _ = here
    eventually(lambda: "nothing new" in house.fetch("left", "--list"))
    assert "next run" in house.fetch("left", "--list")
    other.put("left", [mail("one")])
    assert house.fetch("left") == "left: 1 fetched\n"
    (report,) = json.loads(house.fetch("left", "--json"))
    assert (report["taken"], report["left"], report["deleted"]) == (0, 1, 0)


@pytest.mark.parametrize(("name", "told"), [("held", "1 fetched, 2 held"), ("thrown", "1 fetched, 2 discarded")])
def test_what_is_refused_is_held_or_thrown_away_and_bounces_to_nobody(
    here: tuple[Here, ServerProcess], other: Dovecot, name: str, told: str
) -> None:
    house, _ = here
    other.put(name, [mail("spam"), mail("from there", client="198.51.100.66"), mail("good")])
    assert house.fetch(name) == f"{name}: {told}, 3 deleted there\n"
    eventually(lambda: house.subjects(name) == ["good"])
    with ControlClient(house.folder / "data") as client:
        queue = client.ask("queue.list", {"to": f"{name}@example.org"})
        assert len(queue["entries"]) == (2 if name == "held" else 0)
        for entry in queue["entries"]:
            story = client.ask("explain", {"token": entry["id"]})
            assert "collect held" in story
            assert "no spam" in story or "not from there" in story


def test_a_maildrop_of_several_people(here: tuple[Here, ServerProcess], other: Dovecot) -> None:
    house, _ = here
    other.put("several", [mail("for both", to="ann@example.org, bob@example.org")])
    other.put("several", [mail("for bob", to="<bob@example.org>"), mail("for nobody", to="carl@example.com")])
    assert house.fetch("several") == "several: 3 fetched\n"
    eventually(lambda: house.subjects("bob") == ["for bob", "for both"])
    eventually(lambda: house.subjects("ann") == ["for both"])
    eventually(lambda: house.subjects("several") == ["for nobody"])


def test_a_wrong_password_is_told_and_not_tried_again_at_once(here: tuple[Here, ServerProcess], other: Dovecot) -> None:
    house, running = here
    eventually(lambda: "wrong: " in running.log)
    (row,) = json.loads(house.fetch("wrong", "--list", "--json"))
    assert row["last"]["trouble"] == "login"
    assert row["next_at"] - row["last"]["ended"] > 600
    assert "not the password" not in running.log + house.fetch("wrong", code=77)
    (house.folder / "password").write_text("secret\n")
    other.put("wrong", [mail("one")])
    assert run(["-c", str(house.settings), "reload"]) == 0
    eventually(lambda: house.subjects("wrong") == ["one"])


def test_accounts_that_arent_there_or_are_switched_off(here: tuple[Here, ServerProcess]) -> None:
    house, _ = here
    assert 'there is no account "nobody"' in house.fetch("nobody", code=64)
    assert "switched off" in house.fetch("off", code=64)
    assert "switched off" in house.fetch("off", "--list")


def test_several_at_once_have_a_sum(here: tuple[Here, ServerProcess]) -> None:
    house, _ = here
    lines = house.fetch("stls", "several").splitlines()
    assert lines[-1] == "all 2: nothing new"


def test_without_a_server_the_command_does_it_and_nothing_comes_twice(tmp_path: Path, other: Dovecot) -> None:
    house = Here(tmp_path, other, {"alone": 'every = "1h"'})
    assert "gatepost run" in house.fetch("--background", code=69)
    other.put("alone", [mail("one")])
    assert "not under way" in house.fetch("--list")
    assert house.fetch() == "alone: 1 fetched\n"
    assert house.fetch() == "alone: nothing new\n"
    assert house.subjects("alone") == ["one"]
    assert "nothing new" in house.fetch("--list")


def test_of_two_workers_one_collects(tmp_path: Path, other: Dovecot) -> None:
    house = Here(tmp_path, other, {"two": ""}, workers=2)
    other.put("two", [mail("one")])
    with ServerProcess(tmp_path, "run"):
        assert house.fetch() == "two: 1 fetched\n"
        assert "1 taken" in house.fetch("--list")
        eventually(lambda: house.subjects("two") == ["one"])
