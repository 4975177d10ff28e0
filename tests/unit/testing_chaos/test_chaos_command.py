"""`gatepost test --chaos`: what is said, in words and as JSON, and what is wrong with how it was asked."""

import json
from pathlib import Path

import pytest

from gatepost.app.cli import main

GOOD = 'from gatepost import on\n\n\n@on("recipient")\nasync def good(event):\n    return None\n'
BAD = """\
from gatepost import on


@on("recipient")
async def bad(event):
    if event.recipient.local == "sales":
        1 / 0
"""


@pytest.fixture(autouse=True)
def in_a_folder_with_plugins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("good.py").write_text(GOOD)
    Path("bad.py").write_text(BAD)


def test_a_plugin_that_bears_it(capsys):
    assert main(["test", "--chaos", "good.py", "--sessions", "30", "--seed", "5"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("30 sessions from seed 5 (edition 1), ")
    assert said[-1] == "nothing was wrong"


def test_a_plugin_that_fails_and_its_number(capsys):
    assert main(["test", "--chaos", "bad.py", "--sessions", "40", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["sessions"] == 40
    assert [*report["found"]] == ['plugin: plugin "bad" at recipient: failed: ZeroDivisionError: division by zero']
    finding = report["findings"][0]
    assert finding["kind"] == "plugin"
    assert "RCPT TO:<sales@example.org>" in finding["dialogue"]
    assert main(["test", "--chaos", "bad.py", "--sessions", "1", "--seed", str(finding["seed"])]) == 1
    told = capsys.readouterr().out
    assert f'\nseed {finding["seed"]}: plugin "bad" at recipient: failed: ' in told
    assert told.count("S: 220 ") == 1, "a session is shown once"


def test_what_a_library_leaks_is_a_finding(tmp_path, capsys):
    text = "import logging\nfrom gatepost import on\n\n@on('sender')\ndef keeps(event):\n"
    words = "leak: the sink has kept 1 ISmtpInCommandContext"  # as its host says it
    (tmp_path / "keeps.py").write_text(f"{text}    logging.getLogger('gatepost.plugins.keeps').warning('{words}')\n")
    assert main(["test", "--chaos", str(tmp_path / "keeps.py"), "--sessions", "5", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [*report["found"]] == [f"plugin: {words}"]


def test_the_server_alone(capsys):
    assert main(["test", "--chaos", "", "--sessions", "20"]) == 0
    assert "nothing was wrong" in capsys.readouterr().out


def test_a_service_over_tcp(gatepost, capsys):
    where = f"{gatepost.host}:{gatepost.port}"
    assert main(["test", "--server", where, "--sessions", "10", "--patience", "20"]) == 0
    assert "10 sessions from seed 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 64, "nothing was given that could be tested\n  next:  gatepost test --chaos PLUGIN"),
        (["--chaos", "good.py", "--server", "x:1"], 64, "one thing is tested at a time"),
        (["--server", "localhost"], 64, '"localhost" is no address\n  next:  --server 127.0.0.1:2525'),
        (["--chaos", "nope.py"], 78, "there is no file"),
    ],
)
def test_what_is_wrong(arguments, code, said, capsys):
    assert main(["test", *arguments]) == code
    assert said in capsys.readouterr().err
