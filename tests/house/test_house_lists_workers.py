"""Lists with two workers, from the reload that brings the first one: posts, aliases that lead back, decisions; and a
reload whose lists can't be opened.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gatepost.app.cli import main
from house.server_process import ServerProcess, eventually, mail_in

PLAIN = """
hostname = "mx.example.org"
data = "data"
workers = 2
[[listen]]
address = "127.0.0.1:0"
{list}
[[route]]
match = "*@example.org"
deliver = "maildir"
[[user]]
name = "ann@example.org"
[[user]]
name = "olga@example.org"
"""
WITH_LIST = """
[[route]]
match = "news@example.org"
deliver = "list news"
[[alias]]
address = "team@example.org"
to = ["news@example.org"]
"""
POSTS = 4
Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """A command in this process: its exit code, and all it says."""

    def command(*arguments: str) -> tuple[int, str]:
        code = main(["-c", str(tmp_path / "gatepost.toml"), *arguments])
        return code, "".join(capsys.readouterr())

    return command


def post(server: ServerProcess, mark: str, to: str = "news@example.org") -> str:
    """What is heard at the end, or at the first refusal."""
    with server.connect() as client:
        client.reply()
        said = ""
        for line in ("EHLO x", "MAIL FROM:<ann@example.org>", f"RCPT TO:<{to}>", "DATA"):
            said = client.say(line)
            if said[0] not in "23":
                return said
        said = client.say(f"From: ann@example.org\r\nSubject: {mark}\r\nMessage-ID: <{mark}@x>\r\n\r\nhello\r\n.")
        client.say("QUIT")
        return said


def copies(folder: Path, mark: str) -> Counter[str]:
    """Whose Maildir has how many copies of the posts with this mark."""
    found = [
        path for path in mail_in(folder / "data") if re.search(rf"^Subject: {mark}", path.read_text(), re.MULTILINE)
    ]
    return Counter(path.parents[1].name for path in found)


def settings(folder: Path, more: str = "") -> None:
    (folder / "gatepost.toml").write_text(PLAIN.format(list=more))


def test_the_first_list_comes_with_a_reload_and_every_worker_has_it(tmp_path: Path, ask: Ask) -> None:
    settings(tmp_path)
    with ServerProcess(tmp_path, "run") as server:
        assert post(server, "early").startswith("550 5.1.1")
        code, told = ask("list", "create", "news", "news@example.org", "--owner", "olga@example.org")
        assert code == 0 and "next:  a route in the settings, then gatepost reload" in told
        ask("list", "subscribe", "news", "ann@example.org", "team@example.org")
        settings(tmp_path, WITH_LIST)
        assert ask("reload")[0] == 0
        for number in range(POSTS):
            assert post(server, f"first-{number}").startswith("250")
        eventually(lambda: copies(tmp_path, "first")["ann"] >= POSTS)
        eventually(lambda: ask("queue", "list") == (0, "0 queued, 0 held\n"))
        assert copies(tmp_path, "first") == {"ann": POSTS}  # team@ is news@ again, and brings no second copy

        ask("list", "set", "news", "post=moderated")
        for number in range(POSTS):
            assert post(server, f"second-{number}").startswith("250")
        held = eventually(lambda: len(found := json.loads(ask("list", "held", "--json")[1])) == POSTS and found)
        approve, refuse = [one["id"] for one in held[:-1]], held[-1]["id"]
        assert ask("list", "approve", *approve)[0] == ask("list", "refuse", refuse)[0] == 0
        eventually(lambda: ask("list", "held") == (0, "0 held\n"))
        eventually(lambda: copies(tmp_path, "second")["ann"] >= POSTS - 1)
        eventually(lambda: ask("queue", "list") == (0, "0 queued, 0 held\n"))
        assert copies(tmp_path, "second")["ann"] == POSTS - 1
        assert server.stop() == 0
    assert "Traceback" not in server.log


def test_a_reload_whose_lists_cant_be_opened_changes_nothing(tmp_path: Path, ask: Ask) -> None:
    settings(tmp_path)
    with ServerProcess(tmp_path, "run") as server:
        database = tmp_path / "data/lists.db"
        database.write_bytes(b"no database" * 1000)
        settings(tmp_path, WITH_LIST)
        code, told = ask("reload")
        assert code == 75 and "lists.db: it is damaged; stop the server" in told
        assert post(server, "meanwhile", "ann@example.org").startswith("250")
        code, told = ask("check")
        assert code == 78 and "FAILED" in told
        database.unlink()
        assert ask("reload")[0] == 0
        assert post(server, "x").startswith("451 4.3.5")
        assert "there is no list news yet, so whoever writes to news@example.org hears 451" in ask("check")[1]
        assert server.stop() == 0
    assert "Traceback" not in server.log
