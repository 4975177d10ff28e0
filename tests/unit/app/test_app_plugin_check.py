"""`gatepost plugin check FILE`: what a person and a script hear about a file, without any of it being run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gatepost.app.cli import main
from gatepost.plugins.host import native, wine
from unit.plugins_binary.building import PLUGIN, built, dll, elf
from unit.plugins_binary.forging import DEFAULT, GLOBAL, forged_elf

OFFERED = '__attribute__((visibility("default"))) int {}(void) {{ return 0; }}'
OK, NO_INPUT, LACKING, NO_PERMISSION, REFUSED = 0, 66, 69, 77, 78


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, hosts that are built, and a Wine for both kinds."""
    monkeypatch.chdir(tmp_path)
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    for name in ("gatepost-host-win64.exe", "gatepost-host-win32.exe"):
        (hosts / name).touch()
    (hosts / "gatepost-host").write_bytes(Path(os.path.realpath("/proc/self/exe")).read_bytes())
    monkeypatch.setattr(native, "BUILT", hosts)
    monkeypatch.setattr("gatepost.app.examining.find_wine", _found)


async def _found(bits: int) -> None:
    return None


async def _not_found(bits: int) -> None:
    raise wine.WineError(
        f"a {bits}-bit Windows library needs {bits}-bit Wine, which isn't here: in Debian, apt-get install it"
    )


def check(capsys: pytest.CaptureFixture[str], file: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, what a script reads and what a person reads."""
    code = main(["plugin", "check", file])
    told = capsys.readouterr().out
    assert main(["plugin", "check", file, "--json"]) == code
    return code, json.loads(capsys.readouterr().out), told


@pytest.mark.needs("cc")
def test_a_library_for_linux(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elf(tmp_path / "plug.so", PLUGIN, "-Wl,--no-as-needed", "-lz")
    code, plain, told = check(capsys, "plug.so")
    assert code == OK
    assert plain["needs"] == ["libz.so.1", "libc.so.6"]
    assert (plain["dialect"], plain["run"], plain["runs"]) == ("mailenable", "by the Linux host", True)
    assert sorted(plain["exports"]) == ["Execute", "of_its_own"]
    assert told.startswith("plug.so: Linux library, ")
    assert "  dialect   mailenable, since it exports Execute\n" in told
    assert '  settings  source = "plug.so"\n' in told


@pytest.mark.needs("cc")
def test_nothing_of_it_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = '#include <stdio.h>\n__attribute__((constructor)) void begin(void) { fclose(fopen("ran", "w")); }'
    elf(tmp_path / "plug.so", source + OFFERED.format("Execute"))
    (tmp_path / "plug.py").write_text("open('ran', 'w')\n")
    for file in ("plug.so", "plug.py"):
        assert check(capsys, file)[0] == OK
    assert not (tmp_path / "ran").exists()


@pytest.mark.needs("cc")
def test_the_queues_functions_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plugins").mkdir()
    elf(tmp_path / "plugins" / "smtpd-plugin0.so", OFFERED.format("plugin_init"))
    elf(tmp_path / "scan.so", OFFERED.format("virusscan"))
    code, plain, _ = check(capsys, "scan.so")
    assert (code, plain["dialect"]) == (OK, "indimail")
    assert 'abi = "queue"' in plain["remarks"][0]
    code, plain, _ = check(capsys, "plugins")
    assert (code, plain["dialect"], plain["what"]) == (OK, "indimail", "a folder with 1 library")
    elf(tmp_path / "plugins" / "smtpd-plugin1.so", OFFERED.format("Execute"))
    code, plain, _ = check(capsys, "plugins")
    assert code == REFUSED
    assert plain["hindrances"][0]["text"] == "smtpd-plugin1.so: it is a plugin of the dialect mailenable"
    assert check(capsys, "hosts")[1]["hindrances"][0]["text"] == "there is no .so in it"


@pytest.mark.needs("cc")
def test_what_a_library_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elf(tmp_path / "libpart.so", OFFERED.format("part"))
    uses = "extern int part(void);" + OFFERED.replace("return 0", "return part()")
    elf(tmp_path / "plug.so", uses.format("Execute"), f"-L{tmp_path}", "-lpart")
    code, plain, told = check(capsys, "plug.so")
    assert (code, plain["missing"], plain["runs"]) == (LACKING, ["libpart.so"], False)
    assert "can't be run: it needs libpart.so, which can't be found" in told
    assert f'LD_LIBRARY_PATH = "{tmp_path}"' in told
    (tmp_path / "libpart.so").unlink()
    assert check(capsys, "plug.so")[1]["hindrances"][0]["mend"] == "install what has it"
    elf(tmp_path / "plug.so", uses.format("Execute"))
    code, plain, _ = check(capsys, "plug.so")
    assert (code, plain["unresolved"]) == (REFUSED, ["part"])
    elf(tmp_path / "plug.so", uses.format("plugin_init"))
    code, plain, told = check(capsys, "plug.so")
    assert (code, plain["unresolved"]) == (OK, ["part"])
    assert "note: nobody has the symbols it wants: part; a call of one would end its process" in told


@pytest.mark.needs("x86_64-w64-mingw32-gcc", "i686-w64-mingw32-gcc")
def test_libraries_for_windows_run_by_wine_if_it_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dll(tmp_path / "wide.dll")
    built("i686-w64-mingw32-gcc", tmp_path / "narrow.dll", PLUGIN)
    monkeypatch.setattr("gatepost.plugins.host.binary._WINE_FOLDERS", ())
    assert check(capsys, "wide.dll")[:2][1]["run"] == "by Wine (x64)"
    code, plain, _ = check(capsys, "narrow.dll")
    assert (code, plain["dialect"], plain["run"]) == (OK, "mailenable", "by 32-bit Wine")
    monkeypatch.setattr("gatepost.app.examining.find_wine", _not_found)
    code, plain, told = check(capsys, "narrow.dll")
    assert code == LACKING
    assert plain["run"] == "by 32-bit Wine: not installed here; apt-get install it"
    assert "can't be run: a 32-bit Windows library needs 32-bit Wine, which isn't here\n" in told
    assert plain["missing"] == [], "what Wine would have isn't missed"


@pytest.mark.needs("x86_64-w64-mingw32-gcc")
def test_a_sink_and_a_library_of_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offered = "__declspec(dllexport) int {}(void) {{ return 0; }}"
    dll(tmp_path / "sink.dll", offered.format("DllGetClassObject"))
    code, plain, _ = check(capsys, "sink.dll")
    assert (code, plain["dialect"], plain["why"]) == (OK, "sink", "it exports DllGetClassObject")
    assert plain["hindrances"] == []
    dll(tmp_path / "other.dll", offered.format("other"))
    code, plain, _ = check(capsys, "other.dll")
    assert (code, plain["dialect"], plain["exports"]) == (REFUSED, None, ["other"])
    dll(tmp_path / "decorated.dll", offered.format("_Z17DllGetClassObjectv"))
    code, _, told = check(capsys, "decorated.dll")
    assert code == REFUSED
    assert 'plain name: GATEPOST_SINK_EXPORT, or extern "C"' in told
    assert main(["plugin", "register", "decorated.dll"]) == REFUSED
    assert 'DllGetClassObject has to be declared extern "C"' in capsys.readouterr().err


def test_a_host_that_is_not_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plug.so").write_bytes(forged_elf(64, ">", [("Execute", GLOBAL, DEFAULT, 1)], machine=22))
    code, plain, _ = check(capsys, "plug.so")
    assert (code, plain["what"]) == (REFUSED, "Linux library, s390")
    assert plain["hindrances"][0]["text"].startswith("it is for s390 (64-bit, big-endian), and the host here is for ")
    monkeypatch.setattr(native, "BUILT", tmp_path / "nowhere")
    _, plain, told = check(capsys, "plug.so")
    assert "gatepost-host, the program that runs such plugins, isn't in this installation" in told
    assert "make native" in plain["hindrances"][0]["mend"]


def test_event_sinks_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method = "    def {}(self, *more): raise SystemExit\n"
    text = f"class Own:\n{method.format('other')}class Shield:\n{method.format('OnSmtpInCommand')}"
    (tmp_path / "sinks.py").write_text(f"{text}class Arrival:\n{method.format('on_arrival')}")
    code, plain, told = check(capsys, "sinks.py")
    assert code == OK
    assert (plain["dialect"], plain["why"]) == ("sink", "its class Shield has OnSmtpInCommand")
    assert 'source = "sinks.py:Shield", dialect = "sink"' in told
    assert plain["remarks"] == ["event sink Shield: OnSmtpInCommand", "event sink Arrival: on_arrival"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ('from gatepost import on\n@on("recipient")\ndef f(e): ...\n@on(stages.Message)\nasync def g(e): ...\n', OK,
         "asked at recipient, message"),
        ("x = 1\n", OK, "no @on(…) is in it"),
        ("def f(:\n", REFUSED, "can't be run: line 1: "),
        ("\0", REFUSED, "can't be run: "),
        ("(" * 5000, REFUSED, "can't be run: "),
        ("-" * 200_000 + "1", REFUSED, "can't be run: "),
    ],
)  # fmt: skip
def test_python(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, said: str) -> None:
    (tmp_path / "plug.py").write_text(text)
    got, plain, told = check(capsys, "plug.py")
    assert (got, plain["dialect"], plain["what"]) == (code, "python", "a Python file")
    assert said in told


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("#!/bin/sh\ncat\n", OK, "a script for /bin/sh"),
        ("#! /usr/bin/env -S sh -e\ncat\n", OK, "a script for /usr/bin/env"),
        ("#!/bin/sh\r\ncat\r\n", REFUSED, "ends with CR LF"),
        ("#!/no/such/shell\n", LACKING, "there is no /no/such/shell here"),
        ("#!/usr/bin/env nosuchlanguage\n", LACKING, "there is no nosuchlanguage in PATH"),
        ("#!\n", REFUSED, "names no interpreter"),
        ("#!/bin/\x1b[2Jsh\n", LACKING, "a script for /bin/\ufffd[2Jsh"),
    ],
)
def test_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, said: str) -> None:
    file = tmp_path / "filter"
    file.write_bytes(text.encode())
    file.chmod(0o755)
    got, plain, told = check(capsys, "filter")
    assert (got, plain["dialect"]) == (code, "program")
    assert said in told
    file.chmod(0o644)
    got, plain, _ = check(capsys, "filter")
    assert {"text": "it isn't executable", "mend": "chmod +x filter"} in plain["hindrances"]
    assert got == REFUSED


def test_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code, plain, told = check(capsys, os.path.realpath("/bin/cat"))
    assert (code, plain["dialect"], plain["runs"]) == (OK, "program", True)
    assert 'dialect = "program", program = { mode = "filter" }' in told


def test_what_is_no_plugin_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plug.so").write_text("hello")
    code, plain, told = check(capsys, "plug.so")
    assert (code, plain["dialect"], plain["runs"]) == (REFUSED, None, False)
    assert told.startswith(
        "plug.so: nothing that could be a plugin\n  can't be run: it is neither an ELF nor a PE file\n"
    )
    assert main(["plugin", "check", "none.so"]) == NO_INPUT
    assert capsys.readouterr().err == "gatepost: none.so can't be read: no such file or directory\n"


def test_a_file_that_may_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plug.so").touch()

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert main(["plugin", "check", "plug.so"]) == NO_PERMISSION
    assert "can't be read by this user" in capsys.readouterr().err
