"""docs/collecting.md: its settings can be loaded, and what it shows of `gatepost fetch` is what the command says."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

import pytest

from gatepost.app.cli import main
from gatepost.app.collecting import accounts
from gatepost.app.settings import load
from unit.collecting_remote.bad_server import BadServer

GUIDE = (Path(__file__).parents[2] / "docs" / "collecting.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
TOP = '[[route]]\nmatch = "*@example.org"\ndeliver = "maildir"\n[[user]]\nname = "ann@example.org"\n'


def written(folder: Path, example: str) -> Path:
    (folder / "secrets").mkdir()
    (folder / "secrets" / "isp").write_text("secret\n")
    file = folder / "gatepost.toml"
    file.write_text(TOP + example)
    return file


@pytest.mark.parametrize("example", EXAMPLES)
def test_its_settings_can_be_loaded(tmp_path: Path, example: str) -> None:
    assert len(accounts(load(written(tmp_path, example), environ={}))) == 1


async def test_its_commands_say_what_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mail = [b"From: carl@example.com\r\nSubject: %d\r\n\r\nhello\r\n" % number for number in range(2)]
    async with BadServer(mail, users={"ann.smith": "secret"}).running() as other:
        example = EXAMPLES[0].replace('"pop.example.net"', f'"127.0.0.1:{other.port}"\ntls = "none"')
        file = written(tmp_path, example)
        shown = GUIDE.partition("$ gatepost fetch")[2].partition("```")[0]
        steps = [step.splitlines() for step in f"$ gatepost fetch{shown}".split("$ gatepost ")[1:]]
        for command, *lines in steps:
            assert await asyncio.to_thread(main, ["-c", str(file), *shlex.split(command)]) == 0
            said = capsys.readouterr().out.replace(f"127.0.0.1:{other.port}", "pop.example.net:995")
            for line, expected in zip(said.splitlines(), lines, strict=False):
                assert shape(line).startswith(shape(expected)[:40]), said
        assert [step[0] for step in steps] == ["fetch", "fetch isp", "fetch --list"]


def shape(line: str) -> str:
    """Without what is another each time, or only where a server runs."""
    line = re.sub(r"\d\d-\d\d \d\d:\d\d:\d\d", "WHEN", line)
    return re.sub(r"  (next run WHEN|not under way)$", "  STATE", line)
