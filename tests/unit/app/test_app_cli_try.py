"""`gatepost try`: what a plugin's author reads, whatever is wrong."""

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
            '"programm" (there are python, mailenable, indimail, program)\n  next:  --dialect program\n',
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
