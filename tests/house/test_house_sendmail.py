"""`sendmail`, `mailq` and `gatepost send --queue` as processes: with a server, without one, and with what can't be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gatepost.app.cli.outcome import Failure
from gatepost.app.cli.sendmail import Call, main, parse
from house.premises import LOCAL, Premises, fresh_mark, listener
from house.server_process import READY_S, eventually, gatepost

FAR = """
[[route]]
match = "*"
deliver = "relay 127.0.0.1:1"
recipients = "any"
"""


def sendmail(folder: Path, *arguments: str, stdin: str = "", name: str = "main") -> subprocess.CompletedProcess[str]:
    """The command, as its entry point runs it, for the settings of that folder."""
    code = f"import sys; from gatepost.app.cli.sendmail import {name}; sys.exit({name}())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "GATEPOST_CONFIG": str(folder / "gatepost.toml")},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=READY_S,
        check=False,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_message_of_a_local_program_is_delivered(tmp_path: Path, workers: int) -> None:
    premises = Premises(tmp_path, listener("mx"), LOCAL, FAR, workers=workers)
    mark = fresh_mark()
    with premises.running():
        text = f"To: ann@example.org\nCc: bob@example.org\nBcc: eve@example.org\nSubject: {mark}\n\nhi\n.\nend\n"
        sent = sendmail(tmp_path, "-t", "-oi", "-f", "cron@mx.example.org", "-F", "The Clock", stdin=text)
        assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")
        for user in ("ann", "bob", "eve"):
            content = premises.delivered(mark, f"{user}@example.org")
            assert b"\nBcc:" not in content
        assert content.startswith(b"Return-Path: <cron@mx.example.org>\n")
        assert b"\nReceived: by mx.example.org (Gatepost, from user " in content
        assert b"\nFrom: The Clock <cron@mx.example.org>\n" in content
        assert content.endswith(b"\n\nhi\n.\nend\n")
        assert list((tmp_path / "data" / "handed-in").iterdir()) == []

        queued = sendmail(tmp_path, "-i", "dave@far.example", stdin="Subject: far\n\nhi\n")
        assert queued.returncode == 0
        listed = eventually(lambda: found if "attempts 1" in (found := sendmail(tmp_path, name="mailq").stdout) else "")
        assert "<dave@far.example>" in listed
        assert "1 queued, 0 held" in listed
        ticket = listed.split()[0]
        told = premises.ask("explain", ticket)
        assert "ACCEPTED" in told
        assert "listener local" in told
        assert "deferred" in told


def test_without_a_server_it_waits_in_the_queue(tmp_path: Path) -> None:
    premises = Premises(tmp_path, listener("mx"), LOCAL)
    mark = fresh_mark()
    nowhere = sendmail(tmp_path, "ann", stdin="Subject: x\n\nhi\n")
    assert (nowhere.returncode, "no route takes mail for ann@mx.example.org" in nowhere.stderr) == (65, True), nowhere
    local = (tmp_path / "gatepost.toml").read_text().replace('"mx.example.org"', '"example.org"')
    (tmp_path / "gatepost.toml").write_text(local)
    assert sendmail(tmp_path, "ann", stdin=f"Subject: {mark}\n\nhi\n.\nnot sent\n").returncode == 0
    assert "1 queued, 0 held" in sendmail(tmp_path, "-bp").stdout
    with premises.running():
        content = premises.delivered(mark)
    assert content.endswith(b"\n\nhi\n"), "a line with a dot ends the message"


def test_send_into_the_queue(tmp_path: Path) -> None:
    premises = Premises(tmp_path, listener("mx"), LOCAL)
    mark = fresh_mark()
    with premises.running():
        said = premises.ask("send", "--queue", "--to", "ann@example.org", "--subject", mark)
        assert "accepted  <ann@example.org>" in said
        assert "250 2.0.0 queued as " in said
        premises.delivered(mark)


def test_what_cannot_be_sent_is_an_exit_code_and_a_reason(tmp_path: Path) -> None:
    (tmp_path / "gatepost.toml").write_text('hostname = "mx.example.org"\ndata = "data"\n' + listener("mx") + LOCAL)
    nobody = sendmail(tmp_path, "-t", stdin="Subject: x\n\nhi\n")
    assert (nobody.returncode, "no recipients" in nobody.stderr) == (64, True)
    wrong = sendmail(tmp_path, "a b@c@d", stdin="Subject: x\n\nhi\n")
    assert (wrong.returncode, "no address" in wrong.stderr) == (64, True)
    assert sendmail(tmp_path, "-bz", "ann@example.org").returncode == 64
    (tmp_path / "gatepost.toml").write_text(
        'hostname = "mx.example.org"\ndata = "data"\nlimits = { message_size = "300 KiB" }\n' + listener("mx") + LOCAL
    )
    large = sendmail(tmp_path, "ann@example.org", stdin="Subject: x\n\n" + "xxxxxxx\n" * 50_000)
    assert large.returncode == 65, large
    assert "limits.message_size is 307200" in large.stderr
    three = gatepost(tmp_path, "send", "--queue", "--now", "--to", "ann@example.org")
    assert (three.returncode, "choose one" in three.stderr) == (64, True)


def test_arguments_as_sendmail_reads_them() -> None:
    call = parse(["-i", "-fann@x.example", "-F", "Ann Who", "-oem", "-B8BITMIME", "-N", "success", "-Rhdrs", "-Vid",
                  "-v", "bob@y.example", "--", "-odd@z.example"])  # fmt: skip
    assert call == Call(
        sender="ann@x.example",
        name="Ann Who",
        dot_ends=False,
        notify="success",
        ret="HDRS",
        envid="id",
        recipients=["bob@y.example", "-odd@z.example"],
    )
    assert parse(["-f", "<>", "-t"]).sender == ""
    assert parse(["-bp"]).mode == "p"
    assert parse(["-q30m"]).flushes
    with pytest.raises(Failure, match="there is no option"):
        parse(["-Z"])
    with pytest.raises(Failure, match="needs a value"):
        parse(["-f"])


def test_the_callers_folder_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gatepost.toml").write_text('hostname = "elsewhere.example"\ndata = "data"\n' + listener("mx") + LOCAL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEPOST_CONFIG", raising=False)
    monkeypatch.setattr("gatepost.app.cli.sendmail._USUAL", tmp_path / "etc" / "gatepost.toml")
    assert main(["ann@example.org"]) == 78
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("notify", ["sometimes", "never,success", ""])
def test_a_notify_that_is_none(notify: str) -> None:
    with pytest.raises(Failure, match="-N is never, or a list"):
        parse(["-N", notify, "ann@example.org"])
