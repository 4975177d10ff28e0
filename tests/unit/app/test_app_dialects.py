"""What settings come to when plugins are loaded: where Wine is kept, whom processes run as, what stays closed."""

import os

import pytest

from gatepost.app.dialects import load_plugins, wine_prefixes
from gatepost.app.settings import load
from gatepost.plugins.host.confinement import NICENESS
from gatepost.plugins.loaded import PluginError

PLUGIN = """
from gatepost import on

@on("message")
async def hook(event):
    return None
"""


def test_wine_is_kept_in_the_cache_of_a_user_with_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert wine_prefixes(None, tmp_path / "data") is None


def test_wine_is_kept_in_the_data_folder_of_a_user_without_a_home(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    assert wine_prefixes(None, tmp_path) == tmp_path / "wine"
    assert wine_prefixes(None, None) is None


def test_wine_of_other_users_is_where_they_reach_it(tmp_path):
    assert wine_prefixes("plugins", tmp_path).name == f"gatepost-wine-{os.getuid()}-plugins"


async def test_a_user_without_a_launcher_is_refused_by_name(tmp_path):
    source = tmp_path / "one.py"
    source.write_text(PLUGIN)
    settings = load(None, environ={}, overrides={"plugin": [{"source": str(source), "isolate": True, "user": "x"}]})
    with pytest.raises(PluginError, match='plugin "one": user = "x": only a server that is started as root'):
        await load_plugins(settings.plugin)


async def test_processes_limits_and_environment_reach_the_plugin(tmp_path):
    source = tmp_path / "one.py"
    source.write_text(PLUGIN)
    given = {
        "source": str(source),
        "isolate": True,
        "processes": 2,
        "limits": {"memory": "900 MiB", "files": 64},
        "env": {"COLOUR": "green"},
    }
    [loaded] = await load_plugins(load(None, environ={}, overrides={"plugin": [given]}).plugin)
    try:
        hosts = loaded.crew.hosts
        assert len(hosts) == 2
        with open(f"/proc/{hosts[0].pid}/environ", "rb") as file:
            assert b"COLOUR=green" in file.read().split(b"\0")
        with open(f"/proc/{hosts[0].pid}/limits") as file:
            told = {line[:26].strip(): line[26:].split() for line in file}
        assert os.getpriority(os.PRIO_PROCESS, hosts[0].pid) == max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
        assert told["Max open files"][0] == "64"
        assert told["Max address space"][0] == str(900 * 2**20)
    finally:
        await loaded.close()
