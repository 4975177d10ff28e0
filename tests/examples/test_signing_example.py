"""examples/signing.toml: what its first lines say, done."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from gatepost.app.cli import main
from gatepost.app.settings import load
from gatepost.app.signing import load_signing

EXAMPLE = Path(__file__).parents[2] / "examples" / "signing.toml"


def test_keys_settings_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "signing.toml"
    shutil.copy(EXAMPLE, file)
    monkeypatch.chdir(tmp_path)
    lines = [words.split() for words in re.findall(r"^#   gatepost ([^#\n]+)", file.read_text(), re.MULTILINE)]
    assert [line[0] for line in lines] == ["dns", "dns", "-c", "-c"]
    assert [main(line) for line in lines[:3]] == [0, 0, 0]
    said = capsys.readouterr().out
    assert all(f"{selector}._domainkey.example.org. IN TXT" in said for selector in ("s2026", "e2026"))
    assert load_signing(load(file, environ={}).dkim).bindings
