"""The table of a sink in the settings: what it says, what it leaves out, what is refused; and carets under rules."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from gatepost.app.settings import Plugin, SettingsError, load
from gatepost.app.settings.sink import SinkSection
from gatepost.plugins.loaded import PluginError
from gatepost.plugins.python import load as load_python
from gatepost.plugins.sink.options import SinkOptions


def one(folder: Path, table: str) -> Plugin:
    """The one plugin of a settings file in that folder."""
    (folder / "sinks.py").touch()
    file = folder / "gatepost.toml"
    file.write_text(f'hostname = "mx.example.org"\n[[plugin]]\n{table}\n')
    [plugin] = load(file, environ={}).plugin
    return plugin


def report(folder: Path, table: str) -> str:
    with pytest.raises(SettingsError) as caught:
        one(folder, table)
    return str(caught.value)


def test_a_section_has_the_options_and_their_defaults() -> None:
    options = {field.name: field.default for field in fields(SinkOptions) if field.default is not MISSING}
    made = SinkSection().made()
    assert {name: getattr(made, name) for name in options} == options


def test_a_class_in_python(tmp_path: Path) -> None:
    plugin = one(tmp_path, 'dialect = "sink"\nsource = "sinks.py:Shield"\nproperties = { Depth = 3, Name = "x" }')
    assert (plugin.source, plugin.name, plugin.isolate) == (str(tmp_path / "sinks.py"), "Shield", False)
    assert plugin.sink is not None and plugin.sink.made() == SinkOptions(cls="Shield")
    said = one(tmp_path, 'source = "sinks.py"\nsink = { class = "Shield", ehlo_matches_helo = true, instance = 1 }')
    assert said.sink is not None
    assert said.sink.made() == SinkOptions(cls="Shield", ehlo_matches_helo=True, instance=1)
    module = one(tmp_path, 'dialect = "sink"\nsource = "package.module:Shield"')
    assert (module.source, module.name, module.file) == ("package.module:Shield", "Shield", None)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('source = "sinks.py:A"\ndialect = "sink"\nsink = { class = "{39b16f50}" }', "is no CLSID"),
        ('source = "sinks.py:A"\ndialect = "sink"\nproperties = { list = [1] }', "bag holds texts"),
        ('source = "sinks.py:A"\ndialect = "sink"\nisolate = true', "within the server"),
        ('source = "sinks.py:A"\ndialect = "sink"\nenv = { A = "b" }', "process of its own"),
        ('source = "sinks.py:A"\ndialect = "sink"\nsink = { clas = "A" }', 'class = …'),
        ('source = "sinks.py"\ndialect = "python"\nsink = { }', 'belongs to the dialect "sink"'),
        ('source = "sinks.py:A"\ndialect = "sink"\nsink = { instance = 2 }', "no instance 2"),
    ],
)  # fmt: skip
def test_what_cant_be_meant_is_refused(tmp_path: Path, table: str, words: str) -> None:
    assert words in report(tmp_path, table)


def test_a_rule_is_refused_with_a_caret(tmp_path: Path) -> None:
    rule = 'source = "sinks.py:A"\ndialect = "sink"\n   rule = "ehlo; rcpt to=a*b@x"'
    told = report(tmp_path, rule)
    line = '     5 | rule = "ehlo; rcpt to=a*b@x"'
    assert f"{line}\n{' ' * line.index('*')}^\n" in told
    assert "^" not in report(tmp_path, rule.replace("ehlo", "\\u0065hlo"))


def test_a_rule_elsewhere_says_its_character(tmp_path: Path) -> None:
    (tmp_path / "sinks.py").touch()
    with pytest.raises(SettingsError) as caught:
        load(None, environ={}, overrides={"plugin": [{"source": str(tmp_path / "sinks.py"), "rule": "ehlo=a@b"}]})
    assert "at its character 7" in str(caught.value)


def test_a_sink_that_is_taken_for_a_plugin_says_so(tmp_path: Path) -> None:
    (tmp_path / "sinks.py").write_text("class A:\n    def OnSmtpInCommand(self, *more):\n        return 0\n")
    with pytest.raises(PluginError, match='it is an event sink: dialect = "sink"'):
        load_python(str(tmp_path / "sinks.py"))
    (tmp_path / "none.py").write_text("class A:\n    def OnWhatever(self, *more):\n        return 0\n")
    with pytest.raises(PluginError, match="put @on"):
        load_python(str(tmp_path / "none.py"))
