"""Wine around a plugin: the surroundings it asks for, the prefix it shares, and the half of Wine that isn't here."""

import asyncio
import logging
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from gatepost.plugins.host import Limits, recipes, wine
from gatepost.plugins.host.confinement import MIB
from gatepost.plugins.host.drive import lay
from gatepost.plugins.host.launched import Starters
from gatepost.plugins.host.launching import DIRECTLY
from gatepost.plugins.host.wine import Keeper, Windows, WineError, cache_folder, find_prefix, find_wine, path_there
from gatepost.plugins.loaded import PluginError, Wish
from gatepost.plugins.mailenable import loading
from gatepost.testing import try_plugin
from gatepost.testing.rig import Rig
from native.mailenable.conftest import COMPILERS, HERE, PREFIXES
from programs import as_root

NEEDS_WINE = pytest.mark.needs(COMPILERS["dll"], "wine64")
NEEDS_BOTH = pytest.mark.needs(COMPILERS["dll"], COMPILERS["dll32"], "wine64")
pytestmark = pytest.mark.timeout(240)


@NEEDS_WINE
async def test_a_plugin_finds_its_drive_and_its_registry(load, compiled, tmp_path):
    drive, registry = tmp_path / "drive", tmp_path / "plugin.reg"
    config = drive / "program files" / "Mail Enable" / "Config"
    config.mkdir(parents=True)
    (config / "words.txt").write_text("lottery")
    registry.write_text(
        "REGEDIT4\n\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Mail Enable\\Mail Enable\\Connectors\\SMTP]\n"
        '"Plugin DLL"="spamfilter.dll"\n'
    )
    library = compiled(HERE / "windows.c", "dll")
    for times in (1, 2):
        plugin = await load("dll", library, windows=Windows(drive, registry))
        story = await try_plugin(plugin)
        assert story.replies[3][1] == "250 2.1.5 spamfilter.dll, lottery, its windows"
        assert (config / "log.txt").read_text() == "called\n" * 4 * times
    registry.write_text(registry.read_text().replace("spamfilter", "other"))
    (config / "words.txt").write_text("casino")
    story = await try_plugin(await load("dll", library, windows=Windows(drive, registry)))
    assert story.replies[3][1] == "250 2.1.5 other.dll, casino, its windows"
    story = await try_plugin(await load("dll", library))
    assert story.replies[3][1] == "250 2.1.5 nothing, , its windows"  # nothing of it is in the prefix that is shared


@NEEDS_WINE
@pytest.mark.parametrize(
    ("windows", "why"),
    [
        (Windows(drive_c=Path("/nowhere")), "windows.drive_c = /nowhere is no folder"),
        (Windows(registry=Path("/nowhere")), "windows.registry = /nowhere is no file"),
    ],
)
async def test_surroundings_that_are_not_there(load, windows, why):
    with pytest.raises(PluginError, match=why):
        await load("dll", windows=windows)


@NEEDS_WINE
async def test_many_that_load_at_once_share_one_prefix(load):
    plugins = await asyncio.gather(*(load("dll") for _ in range(4)))
    stories = [await try_plugin(plugin, helo="rcptto-refuse.example") for plugin in plugins]
    assert all(story.refused(550) for story in stories)
    assert len([one for one in PREFIXES.iterdir() if one.is_dir() and "+" not in one.name]) == 1


@NEEDS_WINE
async def test_its_memory_is_watched_and_its_address_space_is_free(load):
    plugin = await load("dll", limits=Limits(address_space=300 * MIB, cpu_s=77))
    try:
        recipe = plugin.crew.hosts[0]._recipe
        limits = Path(f"/proc/{plugin.crew.hosts[0].pid}/limits").read_text()
    finally:
        await plugin.close()
    assert recipe.resident == 300 * MIB
    assert re.search(r"Max address space +unlimited", limits)
    assert re.search(r"Max cpu time +77 ", limits)
    assert re.search(r"Max core file size +0 ", limits)


@NEEDS_BOTH
async def test_wine_without_its_32_bits_says_what_to_install(load, compiled, monkeypatch):
    """The DLL's header decides; the 64-bit half being here is no help."""
    library = compiled(HERE / "postman.c", "dll32")
    monkeypatch.setattr(wine, "has_machine", lambda machine: machine == "x86-64")
    with pytest.raises(PluginError, match=r"32-bit Wine, .*apt-get install wine32:i386 .*dpkg --add-architecture i386"):
        await load("dll32", library)


@NEEDS_BOTH
async def test_a_32_bit_library_gets_the_32_bit_host(compiled, monkeypatch):
    library = compiled(HERE / "postman.c", "dll32")
    monkeypatch.setattr(wine, "has_machine", lambda machine: True)
    begun = []

    async def prefix(*arguments, **more):
        return Path("/prefix")

    def crew(name, recipe, **more):
        begun.append(recipe)
        raise PluginError("that's enough")

    monkeypatch.setattr(recipes, "find_prefix", prefix)
    monkeypatch.setattr(loading, "Crew", crew)
    for each in (library, compiled(HERE / "postman.c", "dll")):
        with pytest.raises(PluginError, match="that's enough"):
            await loading.load_mailenable(each, limits=Limits(cpu_s=5))
    hosts = [recipe.command.arguments[-2].rpartition("/")[2] for recipe in begun]
    assert hosts == ["gatepost-host-win32.exe", "gatepost-host-win64.exe"]
    environment = begun[0].command.environment
    assert environment["WINEPREFIX"] == "/prefix" and environment["WINEDEBUG"] == "-all"
    assert begun[0].load.source == path_there(str(library)) and begun[0].load.source.startswith("Z:\\")
    assert begun[0].load.properties["folder"] == path_there(str(library.parent))


async def test_no_wine_at_all_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(wine, "_LOADERS", ("no-such-wine",))
    with pytest.raises(WineError, match=r"needs Wine, which isn't here: in Debian, apt-get install wine64"):
        await find_wine(64)


async def test_a_wine_that_does_not_start_is_an_error_in_words(monkeypatch, tmp_path):
    loader = tmp_path / "wine64"
    loader.write_text("#!/bin/sh\nexit 3\n")
    loader.chmod(0o755)
    (tmp_path / "wineserver").write_text("#!/bin/sh\n")
    (tmp_path / "wineserver").chmod(0o755)
    monkeypatch.setattr(wine, "_LOADERS", (str(loader),))
    monkeypatch.setattr(wine, "has_machine", lambda machine: True)
    with pytest.raises(WineError, match="doesn't start: it exits with 3"):
        await find_wine(64)


@pytest.fixture
def sham(tmp_path):
    """Called with what its wineboot does: a Wine that is a script."""

    def made(script, folder=tmp_path, starter=DIRECTLY):
        loader = folder / "loader"
        loader.write_text(f"#!/bin/sh\n{script}\n")
        loader.chmod(0o755)
        return wine.Wine(loader, Path("/bin/true"), "wine-9.9 (Sham)", starter)

    return made


WHOLE = """
    [ "$*" = "wineboot --init" ] || exit 9
    mkdir -p "$WINEPREFIX/drive_c/windows/system32" "$WINEPREFIX/dosdevices"
    ln -s / "$WINEPREFIX/dosdevices/z:"
    for each in system.reg user.reg userdef.reg .update-timestamp drive_c/windows/system32/ntdll.dll; do
        : > "$WINEPREFIX/$each"
    done
    echo made >> "$WINEPREFIX/../times"
"""


async def test_a_prefix_is_made_once_whoever_asks(sham, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    kept = tmp_path / "kept" / "wine"
    found = await asyncio.gather(*(find_prefix(sham(WHOLE), folder=kept) for _ in range(5)))
    assert len(set(found)) == 1 and found[0].name.startswith("wine-9.9-Sham")
    assert (kept / "times").read_text() == "made\n"
    assert [record.message.partition(" prefix")[0] for record in caplog.records] == ["making Wine's", "Wine's"]


@as_root
async def test_a_prefix_belongs_to_whom_plugins_run_as(sham):
    """Wine runs in none that is somebody else's."""
    starters = Starters()
    try:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            Path(folder).chmod(0o755)
            starter = starters.of("nobody")
            made = sham(WHOLE.replace('"$WINEPREFIX/../times"', "/dev/null"), Path(folder), starter)
            kept = Path(folder) / "kept"
            prefix = await find_prefix(made, folder=kept)
            assert {prefix.owner(), (prefix / "system.reg").owner()} == {"nobody"}
            assert kept.owner() == "root"
            await starter.remove(prefix)
    finally:
        starters.close()


async def test_a_prefix_that_came_out_half_is_none(sham, tmp_path):
    kept = tmp_path / "kept"
    with pytest.raises(WineError, match=r"wineboot \(exit status 1\) has left no whole prefix"):
        await find_prefix(sham("exit 1"), folder=kept)
    assert (await find_prefix(sham(WHOLE), folder=kept)).is_dir()


async def test_a_wineboot_that_hangs_is_given_up(sham, tmp_path, monkeypatch):
    monkeypatch.setattr(wine, "_MAKE_S", 0.2)
    with pytest.raises(WineError, match=r"can't be made"):
        await find_prefix(sham("sleep 3600"), folder=tmp_path / "kept")


async def test_a_folder_that_cannot_be_made_is_an_error_in_words(sham, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WineError, match=r"Wine's prefix in .*file/kept can't be made"):
        await find_prefix(sham(WHOLE), folder=tmp_path / "file" / "kept")


async def test_a_keeper_that_does_not_greet_is_an_error_in_words(sham, tmp_path):
    keeper = Keeper(sham("echo no such thing >&2; exit 1"), tmp_path, Path("/host"), "mailenable")
    with pytest.raises(OSError, match=r"Wine doesn't start: no such thing"):
        await keeper.ready()
    await keeper.close()


async def test_a_keeper_is_begun_once_and_again_when_it_has_ended(sham, tmp_path):
    log = tmp_path / "log"
    keeper = Keeper(sham(f"echo begun >> {log}; head -c 4; exec cat > /dev/null"), tmp_path, Path("/host"), "x")
    await asyncio.gather(*(keeper.ready() for _ in range(5)))
    await keeper.ready()
    assert log.read_text() == "begun\n"
    keeper._process.kill()
    await asyncio.wait({keeper._process.exited})
    await keeper.ready()
    assert log.read_text() == "begun\n" * 2
    process = keeper._process
    await keeper.close()
    assert process.exited.result() == 0  # it has left by itself


@NEEDS_WINE
async def test_when_wines_server_dies_the_next_questions_are_answered(load, caplog):
    """All processes of a prefix die with it; both lives begin anew, and the server with them."""
    caplog.set_level(logging.CRITICAL)
    plugin = await load("dll", processes=2, windows=Windows(drive_c=HERE), wishes=[Wish(timeout="30s")])
    async with Rig([plugin]) as rig:
        client = rig.connect()
        await client.reply()
        await client.command("EHLO rcptto-refuse.example")
        await client.command("MAIL FROM:<dave@bobo.example>")
        found = await find_wine(64)
        environment = plugin.crew.hosts[0]._recipe.command.environment
        subprocess.run([found.server, "-k9"], env=environment, check=False, timeout=20)
        heard = [await client.command("RCPT TO:<ann@example.org>") for _ in range(3)]
    assert {reply.partition(" (")[0] for reply in heard} == {"550 5.7.1 no thanks"}


def test_prefixes_are_kept_in_the_users_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/gatepost/wine")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/ann")
    assert cache_folder() == Path("/home/ann/.cache/gatepost/wine")


def test_paths_as_windows_knows_them():
    assert path_there("/dev/shm/gatepost-x/1.MAI") == "Z:\\dev\\shm\\gatepost-x\\1.MAI"
    with pytest.raises(WineError, match="backslash"):
        path_there("/srv/a\\b.dll")


def test_one_drive_over_another(tmp_path):
    base, over, target = (tmp_path / name for name in ("base", "over", "target"))
    for file, text in {
        base / "windows/win.ini": "base", base / "Program Files/Other/a.txt": "base", base / "both.txt": "base",
        over / "program files/Mine/b.txt": "over", over / "BOTH.TXT": "over", over / "windows/mine.ini": "over",
    }.items():  # fmt: skip
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def shown():
        return {str(file.relative_to(target)): file.read_text() for file in files(target)}

    expected = {
        "windows/win.ini": "base", "windows/mine.ini": "over", "both.txt": "over",
        "Program Files/Other/a.txt": "base", "Program Files/Mine/b.txt": "over",
    }  # fmt: skip
    lay(base, over, target)
    assert shown() == expected
    (over / "New").mkdir()
    (over / "New/c.txt").write_text("later")
    (target / "own.txt").write_text("the plugin's")
    lay(base, over, target)
    assert shown() == expected | {"New/c.txt": "later", "own.txt": "the plugin's"}
    lay(base, None, tmp_path / "alone")
    assert (tmp_path / "alone/windows").readlink() == base / "windows"


def files(folder):
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from files(entry)
        else:
            yield entry
