"""What a plugin's table leaves out because the file says it, and the sections of the dialects."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from gatepost.app.settings import Plugin, Settings, SettingsError, load, show
from gatepost.app.settings.dialects import (
    IndimailSection,
    MailEnableSection,
    PluginLimits,
    ProgramSection,
    SpamSection,
    WindowsSurroundings,
)
from gatepost.plugins.host.confinement import Limits
from gatepost.plugins.host.wine import Windows
from gatepost.plugins.indimail.options import IndimailOptions
from gatepost.plugins.mailenable.options import MailEnableOptions
from gatepost.plugins.program.options import ProgramOptions, SpamCodes
from unit.plugins_binary.building import dll, elf

OFFERED = '__attribute__((visibility("default"))) int {}(void) {{ return 0; }}'


def one(folder: Path, table: str) -> Plugin:
    """The one plugin of a settings file in that folder."""
    file = folder / "gatepost.toml"
    file.write_text(f'hostname = "mx.example.org"\n[[plugin]]\n{table}\n')
    [plugin] = load(file, environ={}).plugin
    return plugin


def report(folder: Path, table: str) -> str:
    with pytest.raises(SettingsError) as caught:
        one(folder, table)
    return str(caught.value)


@pytest.mark.needs("cc")
@pytest.mark.parametrize(
    ("symbol", "dialect", "abi"),
    [("Execute", "mailenable", None), ("plugin_init", "indimail", "smtp"), ("virusscan", "indimail", "queue")],
)
def test_a_library_says_its_dialect_by_its_symbols(tmp_path: Path, symbol: str, dialect: str, abi: str | None) -> None:
    elf(tmp_path / "plug.so", OFFERED.format(symbol))
    plugin = one(tmp_path, 'source = "plug.so"')
    assert (plugin.dialect, plugin.name, plugin.source) == (dialect, "plug", str(tmp_path / "plug.so"))
    assert plugin.file == tmp_path / "plug.so"
    assert plugin.isolate
    assert (plugin.indimail.abi if plugin.indimail else None) == abi
    assert (plugin.mailenable is not None) is (dialect == "mailenable")
    assert one(tmp_path, f'source = "plug.so"\ndialect = "{dialect}"') == plugin


@pytest.mark.needs("x86_64-w64-mingw32-gcc")
def test_windows_libraries_too(tmp_path: Path) -> None:
    dll(tmp_path / "SpamFilter.DLL")
    plugin = one(tmp_path, 'source = "SpamFilter.DLL"\nwindows = { drive_c = "c", registry = "plugin.reg" }')
    assert (plugin.dialect, plugin.name) == ("mailenable", "SpamFilter")
    assert plugin.windows is not None
    assert plugin.windows.made() == Windows(tmp_path / "c", tmp_path / "plugin.reg")
    dll(tmp_path / "Sink.dll", OFFERED.format("DllGetClassObject"))
    sink = one(tmp_path, 'source = "Sink.dll"\nsink = { class = "{39b16f50-a8ba-11d1-aa91-00aa006bc80b}" }')
    assert (sink.dialect, sink.isolate, sink.sink is not None) == ("sink", True, True)
    assert sink.sink is not None and sink.sink.made().cls == "{39B16F50-A8BA-11D1-AA91-00AA006BC80B}"


@pytest.mark.needs("cc")
def test_a_library_that_says_nothing_is_refused_by_name(tmp_path: Path) -> None:
    elf(tmp_path / "plug.so", OFFERED.format("do_it"))
    said = report(tmp_path, 'source = "plug.so"')
    assert 'plugin "plug.so": the dialect of "plug.so" can\'t be told: it exports none of Execute, plugin_init' in said
    assert "it exports do_it" in said
    plugin = one(tmp_path, 'source = "plug.so"\nindimail = { symbol = "do_it" }')
    assert (plugin.dialect, plugin.environment) == ("indimail", {"SMTP_PLUGIN_SYMB": "do_it"})


def test_a_folder_of_libraries_is_indimails(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "smtpd-plugin0.so").touch()
    plugin = one(tmp_path, 'source = "./plugins"')
    assert (plugin.dialect, plugin.name, plugin.source) == ("indimail", "plugins", str(tmp_path / "plugins"))


def test_python_stays_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "left.py").touch()
    for source, name in (("left.py", "left"), ("package.module:attribute", "attribute"), ("entry", "entry")):
        plugin = one(tmp_path, f'source = "{source}"')
        assert (plugin.dialect, plugin.name, plugin.isolate) == ("python", name, False)
    alone = one(
        tmp_path, 'source = "left.py"\nisolate = true\nenv = { A = "b" }\nlimits = { cpu = 1.5 }\nprocesses = 3'
    )
    assert (alone.environment, alone.processes) == ({"A": "b"}, 3)
    assert alone.limits is not None
    assert alone.limits.made() == Limits(cpu_s=2)


def test_sources_by_call_are_files_too(tmp_path: Path) -> None:
    (tmp_path / "left.py").touch()
    settings = Settings.in_memory().with_plugins(tmp_path / "left.py", "a.b:c")
    assert [(plugin.dialect, plugin.name) for plugin in settings.plugin] == [("python", "left"), ("python", "c")]


@pytest.mark.parametrize(
    ("table", "source", "name"),
    [
        ('source = "clamscan --quiet -"\ndialect = "program"', "clamscan --quiet -", "clamscan"),
        ('source = "./filter.sh"\ndialect = "program"', "HERE/filter.sh", "filter"),
        ("source = \"./filter.sh -x 'a b'\"\nprogram = {}", "HERE/filter.sh -x 'a b'", "filter"),
        ('source = "./filter.sh | cat"\nprogram = { shell = true }', "./filter.sh | cat", "filter"),
        (
            'source = "cat -- ./filter.sh -- cat"\nprogram = { mode = "qfilter" }',
            "cat -- HERE/filter.sh -- cat",
            "cat",
        ),
    ],
)
def test_a_programs_source_is_a_command_line(tmp_path: Path, table: str, source: str, name: str) -> None:
    (tmp_path / "filter.sh").touch()
    plugin = one(tmp_path, table)
    assert plugin.dialect == "program"
    assert (plugin.source.replace(str(tmp_path), "HERE"), plugin.name) == (source, name)
    assert plugin.file == (tmp_path / "filter.sh" if source.startswith("HERE") else None)


def test_programs_are_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "filter.sh").write_text("#!/bin/sh\ncat\n")
    assert 'mend:  dialect = "program"' in report(tmp_path, 'source = "./filter.sh"')


def test_properties_become_variables_in_the_mend_and_stay_hidden(tmp_path: Path) -> None:
    said = report(tmp_path, 'source = "cat"\ndialect = "program"\nproperties = { level = 5, api_key = "sesame" }')
    assert 'the dialect "program" has no properties' in said
    assert 'mend:  env = { level = "…", api_key = "…" }' in said
    assert "sesame" not in said


def test_what_is_shown_loads_again(tmp_path: Path) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text(
        'hostname = "mx.example.org"\n'
        '[[plugin]]\nname = "scan"\nsource = "scan {EMAILFILESPEC}"\nenv = { LEVEL = "5", API_TOKEN = "sesame" }\n'
        'program = { mode = "scan", hit = "1, 8-", error = "2" }\nlimits = { memory = "512MiB" }\nuser = "nobody"\n'
        '[[plugin]]\nname = "spam"\nsource = "spamc"\nprogram = { spam = { reject = 1 } }\n'
        '[[plugin]]\nsource = "."\ndialect = "indimail"\nname = "old"\n[[plugin.binding]]\nstages = ["message"]\n'
        '[[plugin]]\nsource = "a.b:c"\n'
    )
    settings = load(file, environ={})
    text = show(settings)
    assert "sesame" not in text
    again = tmp_path / "again.toml"
    again.write_text(text.replace('"…"', '"sesame"'))
    assert load(again, environ={}).model_dump() == settings.model_dump()
    assert '[plugin.program]\nmode = "scan"' in text


def test_names_without_an_environment_are_refused(tmp_path: Path) -> None:
    said = report(tmp_path, 'source = "cat"\ndialect = "program"\nenv = { A = true, "" = "x" }')
    assert "A isn't a text" in said
    assert 'mend:  A = "true"' in said
    assert "can't be the name of a variable" in said


SECTIONS: list[tuple[Any, Any]] = [
    (MailEnableSection, MailEnableOptions),
    (IndimailSection, IndimailOptions),
    (ProgramSection, ProgramOptions),
    (SpamSection, SpamCodes),
]


@pytest.mark.parametrize(("section", "options"), SECTIONS)
def test_a_section_has_each_option_with_the_same_default(section: Any, options: Any) -> None:
    own = {one.name: None if one.default is MISSING else one.default for one in fields(options)}
    shown = {name: field.default for name, field in section.model_fields.items()}
    assert {**shown, **own} == shown
    assert set(shown) - set(own) <= {"symbol"}


def test_sections_make_what_the_dialects_want() -> None:
    assert MailEnableSection(charset="cp1252", threads=1).made() == MailEnableOptions(charset="cp1252", threads=1)
    assert IndimailSection(abi="queue", symbol="scan").made() == IndimailOptions(abi="queue")
    assert IndimailSection(abi="queue", symbol="scan").environment == {"QUEUE_PLUGIN_SYMB": "scan"}
    assert ProgramSection(spam=SpamSection(reject=1)).made() == ProgramOptions(spam=SpamCodes(reject=1))
    assert PluginLimits().made() == Limits()
    assert WindowsSurroundings().made() == Windows()
