"""docs/bring-your-plugin.md, from its top to its end: its commands run, its settings load with their plugins, and what
it shows is what is printed.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import subprocess

import pytest

from examples.building import PREFIXES
from gatepost.app.cli import main
from gatepost.app.dialects import load_plugins
from gatepost.app.settings import load as load_settings
from unit.docs.pages import BRING, ROOT, blocks, normalised, shows

pytestmark = [
    pytest.mark.needs("cc", "x86_64-w64-mingw32-gcc", "wine64"),
    pytest.mark.timeout(240),  # a first Wine prefix takes its time
]
SETTINGS = list(blocks(BRING, "toml"))
REGISTRY = 'REGEDIT4\n\n[HKEY_CURRENT_USER\\Software\\Filter]\n"words"="lottery"\n'


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder with the examples, in which the page's own commands were run."""
    folder = tmp_path_factory.mktemp("bring")
    shutil.copytree(ROOT / "examples", folder / "examples")
    for block in blocks(BRING, "sh"):
        subprocess.run(["/bin/sh", "-e", "-c", block.text], cwd=folder, check=True, timeout=60)
    (folder / "drive_c" / "Program Files" / "Filter").mkdir(parents=True)
    (folder / "plugin.reg").write_text(REGISTRY)
    return folder


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    monkeypatch.setattr("gatepost.plugins.host.wine.cache_folder", lambda: PREFIXES)


@pytest.mark.parametrize("block", SETTINGS, ids=str)
def test_settings_load_with_their_plugins(block, checkout, tmp_path):
    for name in ("plugins", "drive_c", "plugin.reg"):
        (tmp_path / name).symlink_to(checkout / name)
    file = tmp_path / "gatepost.toml"
    file.write_text(block.text)
    settings = load_settings(file, environ={})
    assert settings.plugin
    nobody_here = [plugin.model_copy(update={"user": None}) for plugin in settings.plugin]

    async def load():
        loaded = await load_plugins(nobody_here)
        for plugin in loaded:
            await plugin.close()
        return [plugin.name for plugin in loaded]

    assert asyncio.run(load()) == [plugin.name for plugin in settings.plugin]


@pytest.mark.parametrize("block", list(blocks(BRING, "try")), ids=str)
def test_a_command_prints_what_is_shown(block, checkout, tmp_path, monkeypatch, capsys):
    """With the settings before it, if there are any, as gatepost.toml."""
    for name in ("plugins", "message.eml"):
        (tmp_path / name).symlink_to(checkout / name)
    if before := [settings for settings in SETTINGS if settings.line < block.line]:
        (tmp_path / "gatepost.toml").write_text(before[-1].text)
    monkeypatch.chdir(tmp_path)
    command, _, shown = block.text.partition("\n")
    main(shlex.split(command.removeprefix("$ gatepost ")))
    assert shows(printed := normalised(capsys.readouterr().out), shown), printed


def test_every_command_of_the_page_is_run():
    """No block is of a kind that nobody looks at, and prose names no command but `gatepost reload` and `explain`."""
    text = BRING.read_text(encoding="utf-8")
    kinds = re.findall(r"^```(\w+)", text, re.MULTILINE)
    assert set(kinds) == {"sh", "toml", "try"}
    assert text.count("```") == 2 * len(kinds)
    run = {block.text.split()[2] for block in blocks(BRING, "try")}
    assert set(re.findall(r"`gatepost (\w+)", text)) <= run | {"reload", "explain"}
