"""`gatepost plugin register`: what a library says of its classes is kept, and bindings find them by it."""

from __future__ import annotations

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from gatepost.app import dialects
from gatepost.app.classes import ComClass, classes_in
from gatepost.app.classes_found import classes_in_registry
from gatepost.app.cli import main
from programs import program
from unit.plugins_binary.building import elf

ROOT = Path(__file__).parents[3]
STORY = ROOT / "tests" / "native" / "sink" / "story.c"
PREFIXES = ROOT / ".wine" / "gatepost"
CLSID = "{5E1D0003-6A7E-4057-9A7E-905700000003}"
OK, USAGE, CONFIGURATION = 0, 64, 78
BUILDS = {
    "so": (["cc", "-fPIC", "-pthread"], []),
    "dll": (["x86_64-w64-mingw32-gcc", "-static-libgcc"], ["-luuid", "-loleaut32"]),
}
CREATES = {"so": "factory", "dll": "com"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dialects, "wine_prefixes", lambda user, data: PREFIXES)
    (tmp_path / "gatepost.toml").write_text('hostname = "a.example"\ndata = "data"\n')
    return tmp_path


def kept(folder: Path) -> list[ComClass]:
    found, problems = classes_in(tomllib.loads((folder / "data" / "classes.toml").read_text()))
    assert not problems
    return found


@pytest.mark.needs("cc")
@pytest.mark.timeout(240)  # a first prefix takes its time
@pytest.mark.parametrize(
    "kind", ["so", pytest.param("dll", marks=pytest.mark.needs("x86_64-w64-mingw32-gcc", "wine64"))]
)
def test_a_library_is_registered_bound_and_forgotten(here, capsys, kind):
    (compiler, *flags), libraries = BUILDS[kind]
    library = here / f"story.{kind}"
    command = [program(compiler), *flags, "-shared", f"-I{ROOT / 'native'}", str(STORY), "-o", str(library), *libraries]
    subprocess.run(command, check=True, timeout=60)
    assert main(["plugin", "register", library.name, "--json"]) == OK
    [told] = json.loads(capsys.readouterr().out)
    expected = ComClass(CLSID, "Gatepost.Story.1", str(library), "does what it is told", CREATES[kind])
    assert (told["id"], told["name"]) == (expected.id, expected.name)
    assert main(["plugin", "register", str(library)]) == OK
    assert "gatepost binding add 1 OnInboundCommand NAME Gatepost.Story.1" in capsys.readouterr().out
    assert kept(here) == [expected], "once"

    assert main(["binding", "add", "1", "OnInboundCommand", "story", "gatepost.story.1", "XMORE"]) == OK
    capsys.readouterr()
    assert main(["plugin", "list", "--json"]) == OK
    [plugin] = json.loads(capsys.readouterr().out)
    assert (plugin["name"], plugin["dialect"], plugin["source"]) == ("story", "sink", library.name)
    assert (plugin["instance"], plugin["origin"]) == (1, "data/bindings.toml:4")

    assert main(["plugin", "unregister", library.name]) == USAGE
    assert "bindings use it: story" in capsys.readouterr().err
    assert main(["binding", "remove", "1", "OnInboundCommand", "story"]) == OK
    assert main(["plugin", "unregister", library.name]) == OK
    assert kept(here) == []
    assert main(["plugin", "unregister", library.name]) == USAGE


@pytest.mark.needs("cc")
def test_a_library_that_says_no_classes(here, capsys):
    elf(here / "silent.so", '__attribute__((visibility("default"))) int DllGetClassObject(void) { return 0; }')
    assert main(["plugin", "register", "silent.so"]) == CONFIGURATION
    assert 'sink = { class = "{CLSID}" }' in capsys.readouterr().err
    assert not (here / "data" / "classes.toml").exists()
    (here / "no.so").write_text("no library")
    assert main(["plugin", "register", "no.so"]) == CONFIGURATION
    assert main(["plugin", "register", "gone.so"]) == CONFIGURATION


REGISTRY = r"""Windows Registry Editor Version 5.00

[HKEY_LOCAL_MACHINE\Software\Classes\CLSID\{5e1d0003-6a7e-4057-9a7e-905700000003}]
@="Story \"told\""

[HKEY_LOCAL_MACHINE\Software\Classes\CLSID\{5e1d0003-6a7e-4057-9a7e-905700000003}\InprocServer32]
@="Z:\\opt\\Story.dll"
"ThreadingModel"="Both"

[HKEY_LOCAL_MACHINE\Software\Classes\CLSID\{5e1d0003-6a7e-4057-9a7e-905700000003}\ProgID]
@="Gatepost.Story.1"

[HKEY_LOCAL_MACHINE\Software\Classes\CLSID\{00000000-6a7e-4057-9a7e-905700000003}\InprocServer32]
@="C:\\windows\\system32\\story.dll"
"""


def test_what_the_registry_says_of_a_library():
    [found] = classes_in_registry(REGISTRY, Path("/opt/story.dll"))
    assert found == ComClass(CLSID, "Gatepost.Story.1", "/opt/story.dll", 'Story "told"', "com")
    elsewhere = classes_in_registry(REGISTRY, Path("/srv/story.dll"))
    assert len(elsewhere) == 2, "by the file's name, where no path is the same"
    assert classes_in_registry(REGISTRY, Path("/opt/other.dll")) == []
    assert classes_in_registry("", Path("/opt/story.dll")) == []


def test_the_folder_of_the_header_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gatepost.toml").write_text("not TOML")
    assert main(["plugin", "include"]) == OK
    folder = Path(capsys.readouterr().out.strip())
    header = (folder / "gatepost_sinks.h").read_text()
    included = [line.split('"')[1] for line in header.splitlines() if line.startswith('#include "')]
    assert "gatepost_sinks_values.h" in included
    assert all((folder / name).is_file() for name in included)


@pytest.mark.needs("cc")
def test_what_is_compiled_with_that_folder(tmp_path, capsys):
    assert main(["plugin", "include"]) == OK
    folder = capsys.readouterr().out.strip()
    text = """\
#include "gatepost_sinks.h"
GATEPOST_SINK_CLASSES({&CLSID_MailMsg, "A.B", NULL});
LPCOLESTR limit = OLESTR("limit");
"""
    command = [program("cc"), "-x", "c", "-fsyntax-only", "-Wall", "-Werror", f"-I{folder}", "-"]
    assert subprocess.run(command, input=text, text=True, timeout=60, check=False).returncode == 0
