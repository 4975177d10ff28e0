"""docs/mailboxes.md: its settings lead each address of its table where it says, and its commands do what they say."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path as File

import pytest

from gatepost.app.addresses import rules
from gatepost.app.cli import main
from gatepost.app.settings import load
from gatepost.app.users import open_users
from gatepost.model import Path
from gatepost.store.secret_schemes import _CRYPTS, _DIGESTS
from unit.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "mailboxes.md"
KNOWN_SCHEMES = {*_CRYPTS, *_DIGESTS, "PBKDF2", "SCRAM-SHA-256", "PLAIN"}
ROWS = re.findall(r"^\|[^|]*\| `(\S+@\S+)` \| (\w+)", PAGE.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize(("address", "who"), ROWS)
async def test_the_table_of_addresses(tmp_path: File, address: str, who: str) -> None:
    file = tmp_path / "gatepost.toml"
    [block] = [one for one in blocks(PAGE, "toml") if "[[alias]]" in one.text]
    file.write_text(block.text)
    settings = load(file, environ={})
    users = await open_users(settings, None)
    try:
        targets = await users.targets(Path.parse(address)) or (Path.parse(address),)
        assert rules(settings).aliases
        names = {await users.mailbox(target) for target in targets}
        assert names == ({None} if who == "550" else {f"{who}@example.org"})
    finally:
        await users.close()


def test_the_secrets_it_names_are_known() -> None:
    named = re.search(r"^\| `doveadm pw -s` \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert named and set(named[1].split(", ")) <= KNOWN_SCHEMES
    assert len(named[1].split(", ")) > 10


def test_there_are_examples() -> None:
    assert len(ROWS) == 6


def test_the_commands(tmp_path: File, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text(f'data = "{tmp_path}/data"\n')
    lines = [
        line.partition(" < ")[0]
        for block in blocks(PAGE, "")
        for line in block.text.splitlines()
        if line.startswith("gatepost user ")
    ]
    assert len(lines) == 6
    for line in lines:
        monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse\n"))
        more = ["--password-stdin"] if " add " in line else []
        code = main(["-c", str(file), *shlex.split(line)[1:], *more])
        assert code == 0, (line, capsys.readouterr().err)
