"""`gatepost user quota`, `alias`, `remove`: what they say, in words and as JSON, and what they refuse."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unit.app.test_app_cli_user import gatepost, made

Run = Callable[..., tuple[int, str, str]]
SETTINGS = """
[users]
quota = "1KiB"
[[user]]
name = "sam@example.org"
aliases = ["sammy@example.org", "jörg@bücher.example"]
quota = "none"
[[alias]]
address = "all@example.org"
to = ["ann@example.org", "sam@example.org"]
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    file = made(tmp_path)
    file.write_text(file.read_text() + SETTINGS)

    def run(*arguments: str, said: str = "") -> tuple[int, str, str]:
        return gatepost(file, *arguments, said=said, monkeypatch=monkeypatch, capsys=capsys)

    assert run("add", "ann@example.org", "--no-password", "--alias", "a@example.org")[0] == 0
    return run


def put(tmp_path: Path, size: int) -> Path:
    mailbox = tmp_path / "data" / "mail" / "example.org" / "ann"
    (mailbox / "new").mkdir(parents=True)
    (mailbox / "new" / f"1.a,S={size},W={size}").write_bytes(b"x" * size)
    return mailbox


def test_a_quota_is_shown_and_changed(run: Run, tmp_path: Path) -> None:
    put(tmp_path, 512)
    assert run("quota", "Ann@example.org")[1] == "ann@example.org: 512 octets in 1 messages of 1KiB (50%)\n"
    assert run("quota", "ann@example.org", "1 MiB")[1].endswith("of 1MiB (0%)\n")
    assert "quota 1MiB" in run("list")[1]
    asked = json.loads(run("quota", "ann@example.org", "none", "--json")[1])
    assert asked == {"name": "ann@example.org", "quota": None, "used": 512, "messages": 1}
    assert run("quota", "ann@example.org")[1].endswith("in 1 messages, no quota\n")
    assert json.loads(run("quota", "ann@example.org", "default", "--json")[1])["quota"] == 1024
    assert json.loads(run("quota", "sam@example.org", "--json")[1])["quota"] is None


def test_what_a_user_may_have_from_the_beginning(run: Run) -> None:
    added = json.loads(run("add", "bob@example.org", "--password-stdin", "--quota", "70", "--json", said="sesame\n")[1])
    assert (added["quota"], added["login"]) == (70, True)
    assert json.loads(run("passwd", "bob@example.org", "--password-stdin", "--json", said="other\n")[1]) == {
        "name": "bob@example.org",
        "plain": False,
    }


@pytest.mark.parametrize(
    ("arguments", "what", "mend"),
    [
        (("quota", "ann@example.org", "much"), '"much" is no quota', "1GiB"),
        (("quota", "eve@example.org"), "there is no user eve@example.org", "gatepost user list"),
        (("quota", "sam@example.org", "5"), "sam@example.org is a user of the settings", "gatepost user list"),
        (
            ("alias", "ann@example.org", "--add", "sammy@example.org"),
            "belongs to sam@example.org",
            "gatepost user list",
        ),
        (("alias", "ann@example.org", "--add", "All@example.org"), "is an [[alias]] of the settings", "into its to"),
        (("alias", "ann@example.org", "--remove", "b@example.org"), "b@example.org is no alias of ann", "user alias"),
        (("alias", "a@example.org", "--add", "b@example.org"), "there is no user a@example.org", "gatepost user list"),
        (("alias", "ann@example.org", "--add", "b"), '"b" is no address', "ann@example.org"),
        (("add", "all@example.org", "--no-password"), "is an [[alias]] of the settings", "into its to"),
        (("add", "jörg@xn--bcher-kva.example", "--no-password"), "belongs to sam@example.org already", "user list"),
        (("add", "sammy@example.org", "--no-password"), "belongs to sam@example.org already", "gatepost user list"),
    ],
)
def test_what_cant_be_is_refused_with_a_mend(run: Run, arguments: tuple[str, ...], what: str, mend: str) -> None:
    code, _, err = run(*arguments)
    assert code == 64 and what in err and mend in err


def test_aliases_come_and_go(run: Run) -> None:
    assert run("alias", "ann@example.org")[1] == "a@example.org\n"
    assert (
        run("alias", "ann@example.org", "--add", "b@example.org", "--remove", "A@example.org")[1] == "b@example.org\n"
    )
    assert run("add", "bob@example.org", "--no-password", "--alias", "a@example.org")[0] == 0
    code, _, err = run("alias", "ann@example.org", "--add", "a@example.org")
    assert code == 64 and "a@example.org belongs to bob@example.org already" in err
    assert json.loads(run("alias", "ann@example.org", "--remove", "b@example.org", "--json")[1])["aliases"] == []


def test_who_is_removed_leaves_mail_and_a_session_that_is_open(run: Run, tmp_path: Path) -> None:
    mailbox = put(tmp_path, 5)
    with (mailbox / "gatepost.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        out = run("remove", "ann@example.org")[1]
    assert f"ann@example.org removed; the mail stays in {mailbox}\n" in out
    assert "a POP3 session of this user is open" in out
    assert run("add", "ann@example.org", "--no-password")[0] == 0
    assert json.loads(run("remove", "ann@example.org", "--json")[1]) == {
        "name": "ann@example.org",
        "mailbox": str(mailbox),
        "session": False,
    }
