"""`gatepost list` with no server and beside a running one: what is made, who is on it, what is decided."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gatepost.app.cli import main
from gatepost.lists.addressing import unsubscribe_token
from house.server_process import ServerProcess, eventually, mail_in

SETTINGS = """
hostname = "mx.example.org"
data = "data"

[[listen]]
address = "127.0.0.1:0"

[[route]]
match = "news@example.org"
deliver = "list news"

[[route]]
match = "dev@example.org"
deliver = "list dev"

[[route]]
match = "*@example.org"
deliver = "maildir"

[[user]]
name = "ann@example.org"

[[user]]
name = "bob@example.org"

[[user]]
name = "boss@example.org"
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command in this process: its exit code, what it said, and what it complained of."""
    (tmp_path / "gatepost.toml").write_text(SETTINGS)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, said: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said.encode())))
        code = main(["list", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_a_list_is_made_shown_set_and_removed(run: Run) -> None:
    assert run()[1] == "no lists; make one:  gatepost list create news news@example.org\n"
    assert run("create", "news", "news@example.org", "--owner", "boss@example.org", "post=open") == (
        0, "news made: news@example.org\n", "",
    )  # fmt: skip
    code, out, _ = run("create", "anns", "ann@example.org")
    assert "  note:  ann@example.org is an address of the user ann@example.org too: that mail goes to" in out
    run("remove", "anns", "--yes")
    code, out, _ = run("create", "other", "other@example.org", "description=Other things")
    assert code == 0 and '[[route]]\n         match = "other@example.org"\n         deliver = "list other"' in out
    assert run()[1] == (
        "news  news@example.org  0 members, post: open\n"
        "other  other@example.org  0 members, post: members  Other things\n"
    )
    assert json.loads(run("--json")[1])[0] == {"name": "news", "address": "news@example.org", "members": 0}
    changed = run(
        "set", "news", "max-size=10MiB", "owners+=ann@example.org", "verp=no", "from=rewrite", "bounce_days=3"
    )
    assert changed[1] == (
        "owners = boss@example.org, ann@example.org\nmax_size = 10485760\nfrom = rewrite\nverp = no\nbounce_days = 3\n"
    )
    assert run("set", "news", "owners-=boss@example.org", "attachments=image/*, text/plain")[1] == (
        "owners = ann@example.org\nattachments = image/*, text/plain\n"
    )
    shown = json.loads(run("show", "news", "--json")[1])
    assert (shown["owners"], shown["attachments"]) == (["ann@example.org"], ["image/*", "text/plain"])
    assert (shown["from"], shown["max_size"], shown["verp"]) == ("rewrite", 10 * 1024 * 1024, False)
    assert "  from = rewrite\n" in run("show", "news")[1]
    assert run("set", "news", "post=open")[1] == "nothing has changed\n"
    assert run("remove", "news", said="n\n")[0] != 0 and "news" in run()[1]
    assert run("remove", "news", "--yes")[0] == 0
    assert run("show", "news")[0] == 64


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("show", "nwes"), 'there is no list "nwes"\n  next:  did you mean "news"?'),
        (("set", "news", "pots=open"), 'there is no option "pots"\n  next:  did you mean "post"?'),
        (
            ("set", "news", "post=membres"),
            'post is open, members, moderated, announce\n  next:  did you mean "members"?',
        ),
        (("set", "news", "post"), "it has no value\n  next:  post=value"),
        (("set", "news", "verp=perhaps"), "neither yes nor no\n  next:  verp=yes"),
        (("set", "news", "max_size=huge"), "that is no size"),
        (("set", "news", "bounce_limit=x"), "bounce_limit is a number\n  next:  bounce_limit=5.0"),
        (("set", "news", "post+=open"), "post is one value"),
        (("set", "news", "reply_to=nobody"), '"nobody"'),
        (("set", "news", "unsubscribe_url=http://x/{token}"), "https address with {token}"),
        (("set", "news", "owners=not an address"), '"not"'),
        (("create", "news", "x@example.org"), 'there is a list "news" already: gatepost list show news'),
        (("create", "more", "NEWS@example.org"), 'is the address of the list "news" already'),
        (("create", "more", "news-owner@example.org"), "one of the addresses of the list news, so no other"),
        (("create", "more", "x@example.org", "--owner", "x-owner@example.org"), "is the list's own address"),
        (("set", "news", "moderators=NEWS@example.org"), "is the list's own address"),
        (("create", "../../etc", "x@example.org"), "can't be a list's name"),
        (("create", "a/b", "x@example.org"), "can't be a list's name"),
        (("create", "more", "more"), '"more" is no address'),
        (("member", "news", "nobody@example.org"), "nobody@example.org isn't on news"),
        (("subscribe", "news"), "who?"),
        (("unsubscribe", "news", "nobody@example.org"), "nobody of them is on news"),
        (("unsubscribe", "--token", "1-aaaaaaaaaa"), "this token isn't one of ours"),
        (("approve", "06HK3M-9Q7TZA-1"), "there is no queue"),
        (("show", "\x1b[2J"), 'there is no list "\N{REPLACEMENT CHARACTER}[2J"'),
    ],
)
def test_what_cannot_be_done_is_told_with_the_next_step(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    """I10 and I9 among them."""
    run("create", "news", "news@example.org")
    code, _, err = run(*arguments)
    assert code != 0 and complaint in err and "\x1b" not in err


def test_members_come_from_arguments_files_and_standard_input(run: Run, tmp_path: Path) -> None:
    run("create", "news", "news@example.org")
    assert run("subscribe", "news", "ann@example.org", "Bob <bob@example.org>")[1] == "2 added to news\n"
    (tmp_path / "who").write_text("# ours\nANN@example.org\n\n  Zoë <zoe@example.org>  # new\n", encoding="utf-8")
    assert run("subscribe", "news", "--file", "who", "--nomail")[1] == "1 added to news, 1 on it already\n"
    many = "".join(f"m{n}@example.org\n" for n in range(5000))
    assert run("subscribe", "news", "--file", "-", said=many)[1] == "5,000 added to news\n"
    found = json.loads(run("members", "news", "--json")[1])
    assert len(found) == 5003 and [(one["address"], one["display"], one["mode"]) for one in found[:3]] == [
        ("ann@example.org", "", "mail"), ("bob@example.org", "Bob", "mail"), ("zoe@example.org", "Zoë", "nomail"),
    ]  # fmt: skip
    assert run("unsubscribe", "news", "--file", "-", said=many + "x@y.example\n")[1] == (
        "5,000 taken off news, 1 weren't on it\n"
    )
    assert len(run("members", "news")[1].splitlines()) == 3


def test_several_values_come_and_go_one_by_one(run: Run) -> None:
    run("create", "news", "news@example.org", "--owner", "olga@bücher.example", "--owner", "ann@example.org")
    assert run("set", "news", "owners-=OLGA@bücher.example", "owners+=bob@example.org")[1] == (
        "owners = ann@example.org, bob@example.org\n"
    )
    assert run("set", "news", "owners-=nobody@example.org")[1] == "nothing has changed\n"


def test_a_file_with_a_wrong_line_changes_nothing_and_every_wrong_line_is_told(run: Run) -> None:
    run("create", "news", "news@example.org")
    code, _, err = run("subscribe", "news", "--file", "-", said="ann@example.org\nno address\n\nb@\n")
    assert code == 65 and '-:2: "no address" is no address' in err and "-:4:" in err and "nothing was changed" in err
    assert run("members", "news")[1] == ""
    _, _, err = run("subscribe", "news", "--file", "-", said="x\n" * 100)
    assert "and 90 more" in err
    assert run("subscribe", "news", "--file", "missing")[0] == 66


def test_one_member_is_shown_and_changed(run: Run) -> None:
    run("create", "news", "news@example.org")
    run("subscribe", "news", "ann@example.org")
    _, out, _ = run("member", "news", "ANN@example.org", "mode=nomail", "vacation=2099-01-31", "moderated=yes")
    assert "nomail" in out and "on vacation until 2099-01-31 is over" in out and "moderated" in out
    assert json.loads(run("member", "news", "ann@example.org", "--json")[1])["vacation_until"] == 4_073_587_200.0  # UTC
    run("member", "news", "ann@example.org", "vacation=9999-12-31")
    assert "until 9999-12-31" in run("members", "news")[1]
    facts = json.loads(run("member", "news", "ann@example.org", "display=Ann\x1b", "bounces=0", "--json")[1])
    assert facts["display"] == "Ann\N{REPLACEMENT CHARACTER}" and (facts["score"], facts["stopped_at"]) == (0.0, None)
    assert json.loads(run("member", "news", "ann@example.org", "vacation=no", "--json")[1])["vacation_until"] is None
    assert 'did you mean "nomail"?' in run("member", "news", "ann@example.org", "mode=nomial")[2]
    assert "that is no day" in run("member", "news", "ann@example.org", "vacation=soon")[2]


def test_a_token_from_a_link_unsubscribes_without_a_name(run: Run, tmp_path: Path) -> None:
    run("create", "news", "news@example.org")
    run("subscribe", "news", "ann@example.org")
    [(secret,)] = sqlite3.connect(tmp_path / "data/lists.db").execute("SELECT value FROM secret")
    token = unsubscribe_token(json.loads(run("members", "news", "--json")[1])[0]["id"], secret)
    assert run("unsubscribe", "--token", token) == (0, "ann@example.org left news\n", "")
    assert run("unsubscribe", "--token", token) == (0, "not on the list any more\n", "")


def test_who_has_not_confirmed_is_listed_without_the_token(run: Run, tmp_path: Path) -> None:
    from gatepost.store.lists_database import ListDatabase

    run("create", "news", "news@example.org")
    lists = ListDatabase(tmp_path / "data/lists.db")
    actions = ("subscribe Ann B", "vacation 2099-01-31", "approve Ann B", "probe")
    tokens = [lists.ask("news", "ann@example.org", action, 4e9 + at, 100) for at, action in enumerate(actions)]
    lists.close()
    told, facts = run("pending", "news")[1], run("pending", "news", "--json")[1]
    assert [re.sub(" 2096-.*", "", line) for line in told.splitlines()] == [
        "ann@example.org  subscribe; member asked",
        "ann@example.org  vacation 2099-01-31; member asked",
        "ann@example.org  subscribe; owners asked",
        "ann@example.org  probe, to see whether the address works; sent",
    ]
    assert [(one["waits_for"], one["action"]) for one in json.loads(facts)] == [
        ("member", "subscribe"), ("member", "vacation 2099-01-31"), ("owners", "subscribe"), ("probe", "probe"),
    ]  # fmt: skip
    assert not any(token in told + facts for token in tokens)


POST = b"From: Ann <ann@example.org>\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nhello all\r\n.\r\n"


def posted(server: ServerProcess, to: str, content: bytes = POST) -> str:
    """What the client of a running server hears at the end."""
    with server.connect() as client:
        client.begin_message(to)
        client.send(content)
        heard = client.reply()
        assert client.say("QUIT").startswith("221")
        return heard


def test_beside_a_running_server_every_change_counts_at_once(run: Run, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "run") as server:
        with server.connect() as client:
            client.reply(), client.say("EHLO x"), client.say("MAIL FROM:<ann@example.org>")
            assert client.say("RCPT TO:<news@example.org>").startswith("451 4.3.5")
        assert run("create", "news", "news@example.org", "owners=boss@example.org")[0] == 0
        assert posted(server, "news@example.org").startswith("550 5.7.1 only members may post")
        assert run("subscribe", "news", "ann@example.org", "bob@example.org")[1] == "2 added to news\n"
        assert posted(server, "news@example.org").startswith("250")
        copy, _ = eventually(lambda: len(found := mail_in(tmp_path / "data")) == 2 and found)
        again = copy.read_bytes().replace(b"\n", b"\r\n") + b".\r\n"
        assert posted(server, "news@example.org", again).startswith("554 5.4.6")  # L1
        run("set", "news", "post=moderated")
        assert posted(server, "news@example.org").startswith("250")
        [held] = eventually(lambda: json.loads(run("held", "--json")[1]))
        assert (held["list"], held["approved"]) == ("news", None)
        assert 'there is no list "dev"' in run("held", "dev")[2]
        assert run("approve", held["id"])[1] == f"{held['id']} approved\n"
        eventually(lambda: len([one for one in mail_in(tmp_path / "data") if b"hello all" in one.read_bytes()]) >= 4)
        assert run("held")[1] == "0 held\n"
        assert server.stop() == 0
    assert "Traceback" not in server.log
