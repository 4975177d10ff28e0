"""`gatepost try`: what a plugin's author reads, whatever is wrong."""

import json
from pathlib import Path

import pytest

from gatepost.app.cli import main

CRASHES = """\
from gatepost import on


@on("recipient")
async def crashes(event):
    return 1 / 0
"""


@pytest.fixture(autouse=True)
def in_a_folder_with_plugins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("crashes.py").write_text(CRASHES)
    Path("filter.sh").write_text("#!/bin/sh\ncat\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope.py"], 'plugin "nope.py": there is no file "HERE/nope.py"\n  next:  give a .py file'),
        (
            ["crashes.py", "--stage", "mesage"],
            'there is no stage "mesage" (did you mean "message"?)\n  next:  --stage message\n',
        ),
        (["./filter.sh"], "it is a script\n  next:  --dialect program\n"),
        (["./filter.sh", "--dialect", "program", "--property", "a=1"], 'has no properties\n  next:  --env a="…"\n'),
        (
            ["./filter.sh", "--dialect", "programm"],
            '"programm" (there are python, mailenable, indimail, sink, program)\n  next:  --dialect program\n',
        ),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_options(arguments, said, tmp_path, capsys):
    assert main(["try", *arguments]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.replace(str(tmp_path), "HERE")
    assert err.startswith("gatepost: plugin ")


def test_a_crash_is_shown_with_the_authors_own_lines(tmp_path, capsys):
    assert main(["try", "crashes.py"]) == 1
    out = capsys.readouterr().out
    error = out[out.index("\nerror: ") :].splitlines()
    assert error[1:4] == [
        "error: ZeroDivisionError: division by zero",
        f'  File "{tmp_path}/crashes.py", line 6, in crashes',
        "    return 1 / 0",
    ]
    assert "250 mx.test greets 192.0.2.1, and 9 more lines\n" in out
    assert "gatepost explain" not in out, "there is no server that could be asked"


LATER = """\
from gatepost import on, refuse


@on("submitted")
@on("out-message")
@on("delivered")
async def later(event):
    return None
"""


def test_what_is_not_tried_is_named(tmp_path, capsys):
    (tmp_path / "later.py").write_text(LATER)
    assert main(["try", "later.py"]) == 0
    assert (
        "not tried, since no server and no queue is here: submitted, out-message, delivered\n"
        in capsys.readouterr().out
    )
    assert main(["try", "later.py", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["untried"] == ["submitted", "out-message", "delivered"]


@pytest.mark.parametrize(
    ("name", "meant"), [("outmessage", "out-message"), ("Out_Rcpt", "out-recipient"), ("expand", "expanded")]
)
def test_a_misspelt_stage_in_code(name, meant, tmp_path, capsys):
    (tmp_path / "wrong.py").write_text(CRASHES.replace('"recipient"', f'"{name}"'))
    assert main(["try", "wrong.py"]) == 78
    assert f'there is no stage "{name}"; did you mean "{meant}"?' in capsys.readouterr().err


def test_what_cannot_be_kept_is_said_once(tmp_path, capsys):
    (tmp_path / "wrong.py").write_text(CRASHES.replace('"recipient"', '"out-recipient", on_failure="quarantine"'))
    assert main(["try", "wrong.py"]) == 78
    said = capsys.readouterr().err
    assert 'on_failure = "quarantine" can\'t be kept here' in said
    assert said.count('stage "out-recipient"') == 1


def test_an_answer_of_another_stage(tmp_path, capsys):
    text = CRASHES.replace("import on", "import fail, on").replace("1 / 0", 'fail("no")')
    (tmp_path / "wrong.py").write_text(text)
    assert main(["try", "wrong.py"]) == 1
    said = '"recipient" knows no answer Fail; it knows Proceed, Accept, Refuse, Quarantine, Discard, Hangup'
    assert said in capsys.readouterr().out
