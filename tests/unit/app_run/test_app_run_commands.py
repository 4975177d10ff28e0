"""`send` and `plugin list` without a server; leaving root."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gatepost.app.cli import main
from gatepost.hooks.stages import STAGES

DROP = """
import logging, os, sys
from pathlib import Path
from gatepost.app.privileges import drop
logging.basicConfig(stream=sys.stdout, format="%(message)s")
data = Path(sys.argv[1])
drop(sys.argv[2] or None, data)
print(os.getuid(), os.geteuid(), os.getgid(), sorted(os.getgroups()))
try:
    os.setuid(0)
except PermissionError:
    print("for good")
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_send_says_that_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{held.getsockname()[1]}"
        assert main(["send", "--to", "ann@example.org", "--server", server]) == 75
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"gatepost: nothing was sent: no server answers at {server}\n")
    assert "next:  gatepost run, or --server" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "not an address"], "not an address"),
        (["--to", "a@b.example", "--from", "x@"], "x@"),
        (["--to", ""], "a recipient has an address"),
        (["--to", "a@b.example", "--server", "127.0.0.1:nine"], "127.0.0.1:nine"),
        (["--to", "a@b.example", "--subject", "a\r\nBcc: eve@example.org"], "no header can be made of this"),
        ([], "--to"),
    ],
)
def test_I1_send_refuses_what_it_cannot_say(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", *arguments]) == 64
    assert said in capsys.readouterr().err


def test_all_stages_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugin", "list", "--stages", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["stage"] for row in rows] == list(STAGES)
    assert all(row["what"] and row["on_failure"] for row in rows)
    assert main(["plugin", "list", "--stages"]) == 0
    assert "\nmessage       End-of-data, before the 250" in capsys.readouterr().out


def test_plugins_of_the_settings_are_listed_without_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.py").write_text(
        "from gatepost import on\n"
        "@on('message', timeout='5s', always=True)\nasync def first(event): ...\n"
        "@on('recipient', rule='rcpt to=*@example.org', priority=7)\nasync def second(event): ...\n"
    )
    (tmp_path / "gatepost.toml").write_text('[[plugin]]\nsource = "p.py"\n')
    assert main(["plugin", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "p  python  p.py  gatepost.toml:1",
        "  recipient     7  30s, else tempfail  rcpt to=*@example.org",
        "  message   24575  5s, else tempfail, always",
    ]
    (tmp_path / "p.py").write_text("1 / 0\n")
    assert main(["plugin", "list"]) == 78
    assert "p.py, line 1: ZeroDivisionError" in capsys.readouterr().err


def dropped(data: Path, run_as: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", DROP, str(data), run_as], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_root_is_left_for_good_and_the_data_folder_is_made_for_the_user(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        import pwd

        nobody = pwd.getpwnam("nobody")
        told = dropped(tmp_path / "data", "nobody")
        assert told == [f"{nobody.pw_uid} {nobody.pw_uid} {nobody.pw_gid} [{nobody.pw_gid}]", "for good"]
        made = (tmp_path / "data").stat()
        assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (nobody.pw_uid, nobody.pw_gid, 0o700)
        assert dropped(tmp_path / "more", "")[0].startswith("the server runs as root; ")
    else:
        assert dropped(tmp_path / "data", "root")[0] == "run_as = root has no effect: only root can become another user"
