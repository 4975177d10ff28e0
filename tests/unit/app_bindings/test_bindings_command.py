"""`gatepost binding` without a server: smtpreg's grammar, what is found, refused, and then in the file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gatepost.app.banner import Facts, banner
from gatepost.app.bindings import Row, rows_in
from gatepost.app.bindings_file import KeptText
from gatepost.app.classes import ComClass
from gatepost.app.classes import text_of as classes_text
from gatepost.app.cli import main
from gatepost.app.dialects import load_plugins
from gatepost.app.settings import load
from gatepost.app.settings.bindings import instances
from gatepost.plugins.loaded import PluginError
from gatepost.store.files import RealFiles

ID = "{6F5B4A0E-2F0B-4D0C-9A51-6E1F4B2F7C11}"
OK, USAGE, TEMPORARY, CONFIGURATION = 0, 64, 75, 78
SETTINGS = """\
hostname = "mx.example.org"
data = "data"
[[listen]]
name = "mx"
address = "127.0.0.1:2525"
[[listen]]
name = "inner"
address = "127.0.0.1:2526"
[[plugin]]
name = "ours"
dialect = "sink"
source = "sinks.py:Shield"
stages = ["command"]
properties = { api_key = "hush" }
"""

SINK = """\
class Shield:
    def Load(self, bag): pass
    def OnSmtpInCommand(self, *more): return 0
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gatepost.toml").write_text(SETTINGS)
    (tmp_path / "sinks.py").write_text("class Shield: pass\n")
    return tmp_path


def binding(*arguments: str) -> int:
    return main(["binding", *arguments])


def rows(folder: Path) -> list[Row]:
    found, problems = rows_in(tomllib.loads((folder / "data" / "bindings.toml").read_text()))
    assert not problems
    return [*found.values()]


def enum(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert binding("enum", "--json") == OK
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


# ── smtpreg's examples ─────────────────────────────────────────────────────────────────────────────────────────────

ADDED = [
    ("add 1 OnArrival SMTPScriptingHost CLASS mail|from=*", ("OnArrival", 1, "SMTPScriptingHost", "mail from=*", None)),
    ("/add 1 onarrival host CLASS mail|from=*;rcpt|to=*", ("OnArrival", 1, "host", "mail from=*;rcpt to=*", None)),
    ("/ADD 2 OnInboundCommand shield CLASS EHLO", ("OnInboundCommand", 2, "shield", "EHLO", None)),
    ("add 1 onsmtpinboundcommand x CLASS RCPT 24000", ("OnInboundCommand", 1, "x", "RCPT", 24000)),
    ("add 1 OnTransportSubmission x CLASS", ("OnArrival", 1, "x", None, None)),
    ("add 1 {F6628C90-0D5E-11d2-AA68-00C04FA35B82} x CLASS", ("OnMessageStart", 1, "x", None, None)),
    ("add 1 {76719654-05A6-11D2-9E00-00C04FA322BA} x CLASS", ("OnPostCategorize", 1, "x", None, None)),
    ("add 1 onserverresponse A|B CLASS mail|from=*@x 0", ("OnServerResponse", 1, "A B", "mail from=*@x", 0)),
    (f"add 1 OnPerRecipient {ID.lower()} CLASS", ("OnPerRecipient", 1, "", None, None)),
]


@pytest.mark.parametrize(("words", "expected"), ADDED)
def test_add(here, capsys, words, expected):
    arguments = [word.replace("|", " ").replace("CLASS", "sinks.py:Shield") for word in words.split(" ")]
    assert binding(*arguments) == OK
    [row] = rows(here)
    assert (row.event.name, row.instance, row.name, row.source.get("Rule"), row.source.get("Priority")) == expected
    assert row.enabled
    assert row.cls == f"{here}/sinks.py:Shield"
    assert (row.id == ID) == (row.name == "")
    told = capsys.readouterr().out
    assert "no server runs" in told
    assert row.id in told


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("add 0 OnArrival x CLASS", USAGE, "0 is not in the range x>=1"),
        ("add one OnArrival x CLASS", USAGE, "not a valid integer"),
        ("add 1 OnArrival x CLASS rcpt 32768", USAGE, "0<=x<=32767"),
        ("add 1 OnArrival x CLASS rcpt 24576", CONFIGURATION, "the house's own place"),
        ("add 3 OnArrival x CLASS", CONFIGURATION, "the listeners are counted: 1 mx, 2 inner"),
        ("add 1 StoreDriver x CLASS", USAGE, "here routes deliver them"),
        ("add 1 OnArival x CLASS", USAGE, 'did you mean "OnArrival"?'),
        ("add 1 OnArrival x Shield.Sink", CONFIGURATION, "gatepost plugin register"),
        ("add 1 OnArrival x none.py:Shield", CONFIGURATION, "there is no file"),
        ("add 1 OnArrival {1} CLASS", USAGE, "no GUID"),
        ("add 1 OnArrival |  CLASS", USAGE, "the class is empty"),
        ("add 1 OnArrival x CLASS rcpt|to=a*b@c", USAGE, "  rcpt to=a*b@c\n           ^\n"),
        ("add 1 OnArrival x", USAGE, "missing argument"),
    ],
)
def test_what_cant_be_added(here, capsys, words, code, told):
    arguments = [word.replace("|", " ").replace("CLASS", "sinks.py:Shield") for word in words.split(" ")]
    assert binding(*arguments) == code
    assert told in capsys.readouterr().err
    assert not (here / "data" / "bindings.toml").exists()


def test_names_are_found_as_smtpreg_finds_them(here, capsys):
    for cls, name in (("sinks.py:Shield", "twin"), ("sinks:Shield", "twin"), ("sinks.py:Shield", ID)):
        assert binding("add", "1", "OnArrival", name, cls) == OK
    assert binding("add", "1", "OnArrival", ID, "sinks.py:Shield") == USAGE
    assert "already" in capsys.readouterr().err
    first, second, third = rows(here)
    assert binding("disable", "1", "onarrival", "twin") == OK
    assert [row.enabled for row in rows(here)] == [False, True, True], "the first hit"
    assert binding("disable", "1", "OnTransportSubmission", second.id.lower()) == OK
    assert binding("enable", "1", "onarrival", "twin") == OK
    assert [row.enabled for row in rows(here)] == [True, False, True]
    for instance, event, name, mend in (
        ("1", "OnArrival", "Twin", 'did you mean "twin"?'),
        ("2", "OnArrival", "twin", "OnArrival of instance 1"),
        ("1", "OnPerRecipient", "twin", "OnArrival of instance 1"),
        ("1", "OnArrival", ID.replace("6", "7"), "gatepost binding enum"),
    ):
        assert binding("remove", instance, event, name) == USAGE
        assert mend in capsys.readouterr().err
    assert binding("remove", "1", "OnArrival", third.id) == OK
    assert binding("/remove", "1", "OnArrival", "twin") == OK
    assert [row.id for row in rows(here)] == [second.id]
    assert first.id != second.id


def test_properties(here, capsys):
    assert binding("add", "1", "OnInboundCommand", "x", "sinks.py:Shield", "ehlo=*.a") == OK

    def prop(*arguments: str) -> int:
        return binding(arguments[0], "1", "oninboundcommand", "x", *arguments[1:])

    assert prop("setprop", "Source", "rule", "ehlo=*.b") == OK
    assert prop("setprop", "source", "PRIORITY", "7") == OK
    assert prop("setprop", "Source", "Owner", "ann") == OK
    assert prop("setprop", "SINK", "ScriptName", "c:\\x.vbs") == OK
    assert prop("setprop", "Sink", "scriptname", '-1 \u00e4"') == OK
    assert prop("setprop", "Sink", "Empty", "") == OK
    [row] = rows(here)
    assert row.source == {"Rule": "ehlo=*.b", "PRIORITY": 7, "Owner": "ann"}
    assert row.sink == {"ScriptName": '-1 \u00e4"', "Empty": ""}
    before = (here / "data" / "bindings.toml").read_bytes()
    for arguments, told in (
        (("setprop", "Source", "Priority", "high"), "priority can't be high"),
        (("setprop", "Source", "Priority", "32768"), "priority can't be 32768"),
        (("setprop", "Source", "Rule", "ehlo=a@b"), "  ehlo=a@b\n        ^"),
        (("setprop", "Source", "on_failure", "maybe"), "on_failure"),
        (("setprop", "Server", "x", "y"), "'Server' is not one of"),
        (("delprop", "Sink", "Gone"), "it has: ScriptName, Empty"),
    ):
        assert prop(*arguments) in (USAGE, CONFIGURATION)
        assert told in capsys.readouterr().err
    assert (here / "data" / "bindings.toml").read_bytes() == before
    assert prop("delprop", "Source", "priority") == OK
    assert prop("delprop", "Sink", "SCRIPTNAME") == OK
    [row] = rows(here)
    assert (dict(row.source), dict(row.sink)) == ({"Rule": "ehlo=*.b", "Owner": "ann"}, {"Empty": ""})


def test_one_list_with_origins_and_instances(here, capsys):
    assert binding("add", "2", "OnInboundCommand", "x", "sinks.py:Shield", "ehlo", "9") == OK
    assert binding("setprop", "2", "OnInboundCommand", "x", "Sink", "Password", "hush") == OK
    assert binding("disable", "2", "OnInboundCommand", "x") == OK
    told = enum(capsys)
    assert [(one["instance"], one["listener"]) for one in told["instances"]] == [(1, "mx"), (2, "inner")]
    ours, row = told["bindings"]
    assert (ours["name"], ours["id"], ours["event"], ours["origin"]) == (
        "ours",
        None,
        "OnInboundCommand",
        "gatepost.toml:9",
    )
    assert (row["name"], row["listener"], row["priority"], row["rule"]) == ("x", "inner", 9, "ehlo")
    assert (row["enabled"], row["origin"]) == (False, "data/bindings.toml:4")
    assert binding("list") == OK
    shown = capsys.readouterr().out
    assert "instance 2  inner  127.0.0.1:2526\n" in shown
    assert "instance 2 (inner)  9  disabled  data/bindings.toml:4\n" in shown
    assert "hush" not in shown + json.dumps(told)


def test_what_the_settings_say_is_changed_there(here, capsys):
    assert binding("setprop", "1", "OnInboundCommand", "ours", "Source", "Priority", "1") == USAGE
    told = capsys.readouterr().err
    assert '"ours" is written in gatepost.toml:9, not here' in told
    assert "[[plugin]]" in told


def test_a_file_that_was_broken_by_hand_is_told_and_kept(here, capsys):
    assert binding("add", "1", "OnArrival", "x", "sinks.py:Shield") == OK
    file = here / "data" / "bindings.toml"
    broken = file.read_text().replace("instance = 1", "instance = 0")
    file.write_text(broken)
    for arguments in (("enum",), ("add", "1", "OnArrival", "y", "sinks.py:Shield"), ("remove", "1", "OnArrival", "x")):
        assert binding(*arguments) == CONFIGURATION
        assert "data/bindings.toml:7:12  instance can't be 0" in capsys.readouterr().err
    file.write_text("[[binding]\n")
    assert binding("remove", "1", "OnArrival", "x") == CONFIGURATION
    assert "data/bindings.toml:1:" in capsys.readouterr().err
    assert file.read_text() == "[[binding]\n"


def test_what_is_gone_can_be_removed(here, capsys):
    (here / "old.py").touch()
    assert binding("add", "1", "OnArrival", "x", "old.py:Old") == OK
    assert binding("add", "1", "OnArrival", "y", "sinks.py:Shield") == OK
    (here / "old.py").unlink()
    assert binding("enum") == CONFIGURATION
    assert binding("disable", "1", "OnArrival", "y") == OK, "nothing is worse than before"
    assert binding("remove", "1", "OnArrival", "x") == OK
    assert binding("enum") == OK
    assert [row.name for row in rows(here)] == ["y"]


def test_where_only_bindings_are_wrong_what_is_there_is_still_told(here, capsys):
    (here / "sinks.py").write_text(SINK)
    assert binding("add", "1", "OnInboundCommand", "shield", "sinks.py:Shield") == OK
    assert main(["plugin", "list"]) == OK
    assert "shield  sink  sinks.py:Shield  instance 1 (mx)  data/bindings.toml:4" in capsys.readouterr().out
    file = here / "data" / "bindings.toml"
    written = file.read_text()
    file.write_text(written + '[[binding]]\nname = "lost"\nevent = "OnArrival"\nclass = "lost.py:Sink"\n')
    capsys.readouterr()
    assert binding("enum") == CONFIGURATION
    told = capsys.readouterr()
    assert "instance 1  mx  127.0.0.1:2525" in told.out
    assert "shield  {" in told.out
    assert "lost  {" in told.out
    assert "lost.py" in told.err
    assert main(["trace"]) == OK
    assert main(["plugin", "list"]) == OK
    listed = capsys.readouterr().out
    assert "ours  sink" in listed
    assert "shield  sink" not in listed
    file.write_text(written + "=\n")
    assert binding("enum") == CONFIGURATION
    assert main(["trace"]) == OK
    assert "this isn't TOML" in capsys.readouterr().err


def test_a_library_that_is_gone_says_what_to_do(here, capsys):
    lost = here / "lost.so"
    (here / "data").mkdir()
    table = ComClass(ID, "Lost.Sink", str(lost))
    (here / "data" / "classes.toml").write_text(classes_text([table]))
    assert binding("add", "1", "OnArrival", "lost", "lost.so") == CONFIGURATION
    assert "mend:  gatepost plugin register lost.so" in capsys.readouterr().err
    assert binding("add", "1", "OnArrival", "lost", "Lost.Sink") == CONFIGURATION
    told = capsys.readouterr().err
    assert f"Lost.Sink was registered for {lost}, which isn't there" in told
    assert 'gatepost binding disable 1 OnArrival "lost"' in told
    lost.touch()
    assert binding("add", "1", "OnArrival", "lost", "Lost.Sink") == OK
    lost.unlink()
    assert main(["check"]) == CONFIGURATION
    assert binding("disable", "1", "OnArrival", "lost") == OK
    capsys.readouterr()
    assert binding("enum") == OK
    assert "disabled" in capsys.readouterr().out


def test_what_may_surprise_is_said(here, capsys):
    (here / "sinks.py").write_text(SINK)
    (here / "inner").mkdir()
    assert binding("add", "1", "OnInboundCommand", "shield", "inner/../sinks.py:Shield") == OK
    assert "by its GUID" not in capsys.readouterr().out
    assert rows(here)[0].cls == f"{here}/sinks.py:Shield"
    assert binding("add", "1", "OnInboundCommand", "shield", "sinks.py:Shield") == OK
    assert 'another one is named "shield", and is meant by it; this one by its GUID' in capsys.readouterr().out
    assert binding("setprop", "1", "OnInboundCommand", "shield", "Source", "Rul", "EHLO") == OK
    assert "nothing here reads it: what is read is Rule, Priority, timeout" in capsys.readouterr().out
    assert binding("setprop", "1", "OnInboundCommand", "shield", "source", "OnFailure", "proceed") == OK
    assert binding("setprop", "1", "OnInboundCommand", "shield", "sink", "Rul", "EHLO") == OK
    assert "nothing here reads it" not in capsys.readouterr().out


def test_one_command_at_a_time(here, capsys):
    assert binding("add", "1", "OnArrival", "x", "sinks.py:Shield") == OK
    with KeptText(here / "data", "bindings.toml", RealFiles()).alone():
        assert binding("remove", "1", "OnArrival", "x") == TEMPORARY
    assert "another command is changing" in capsys.readouterr().err
    assert len(rows(here)) == 1


def test_without_a_data_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gatepost.toml").write_text('hostname = "a.example"\n')
    assert binding("enum") == OK
    assert "binding add" in capsys.readouterr().out


def test_check_and_the_banner_name_the_places(here, capsys):
    assert binding("add", "2", "OnInboundCommand", "x", "sinks.py:Shield") == OK
    (here / "sinks.py").write_text(SINK)
    capsys.readouterr()
    main(["check"])
    shown = capsys.readouterr().out
    assert "bindings     ours, every instance, gatepost.toml:9\n" in shown
    assert "bindings     x, instance 2 (inner), data/bindings.toml:4\n" in shown
    assert main(["plugin", "list", "--json"]) == OK
    plugins = json.loads(capsys.readouterr().out)
    assert [one["origin"] for one in plugins] == ["gatepost.toml:9", "data/bindings.toml:4"]
    settings = load("gatepost.toml", environ={})
    told = banner(settings, Facts(1.0, 1, {}, plugins)).splitlines()
    assert next(line for line in told if "2526" in line).endswith("smtp, instance 2")
    assert sum(line.endswith("data/bindings.toml:4") for line in told) == 1


async def test_conditions_and_instances_go_together(here):
    (here / "sinks.py").write_text(SINK)
    file = here / "gatepost.toml"
    conditions = 'sink = { instance = 2 }\nwhen = { listener = "LISTENER" }\n'
    whole = file.read_text().replace("properties", f"{conditions}properties")
    file.write_text(whole.replace("LISTENER", "inner"))
    settings = load(file, environ={})
    [loaded] = await load_plugins(settings.plugin, instances=instances(settings))
    assert {one.when.listeners for one in loaded.bindings if one.when} == {("inner",)}
    file.write_text(whole.replace("LISTENER", "mx"))
    settings = load(file, environ={})
    with pytest.raises(PluginError, match=r"instance 2 is inner, and when\.listener says mx"):
        await load_plugins(settings.plugin, instances=instances(settings))
