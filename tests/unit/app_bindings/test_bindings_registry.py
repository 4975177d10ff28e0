"""The registry of bindings: what is read, what is refused, what is written; and the plugins that its rows become."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.app.bindings import Row, rows_in, text_of
from gatepost.app.bindings_events import EVENTS, NoSuchEvent, event_named, event_of, guid
from gatepost.app.classes import ComClass, NoSuchClass, classes_in, resolved
from gatepost.app.classes import text_of as text_of_classes
from gatepost.app.settings import Settings, SettingsError, load

ID = "{6F5B4A0E-2F0B-4D0C-9A51-6E1F4B2F7C11}"
TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
PRINTABLE = TEXT.filter(str.isprintable)
VALUES = TEXT | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False)
BAGS = st.dictionaries(TEXT, VALUES, max_size=3).filter(lambda bag: len({key.lower() for key in bag}) == len(bag))
ROWS = st.lists(
    st.builds(
        Row,
        st.uuids().map(lambda one: "{" + str(one).upper() + "}"),
        PRINTABLE,
        st.integers(1, 9),
        st.sampled_from(EVENTS),
        PRINTABLE.filter(bool),
        st.booleans(),
        BAGS,
        BAGS,
    ),
    max_size=4,
    unique_by=lambda row: row.id,
)


@given(ROWS)
def test_what_is_written_is_read_as_the_same_rows(rows):
    found, problems = rows_in(tomllib.loads(text_of(rows)))
    assert not problems
    assert list(found.values()) == rows


@given(st.lists(st.builds(ComClass, st.just(ID), PRINTABLE, st.just("/x.so"), PRINTABLE, st.sampled_from(["com"]))))
def test_classes_too(classes):
    assert classes_in(tomllib.loads(text_of_classes(classes))) == (classes, [])


# ── events ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("OnInboundCommand", "command"),
        ("onsmtpinboundcommand", "command"),
        ("ONARRIVAL", "message"),
        ("OnTransportSubmission", "message"),
        ("OnSmtpSessionStart", "out-session"),
        ("OnSmtpOutboundCommand", "out-command"),
        ("onserverresponse", "out-reply"),
        ("{F6628C8D-0D5E-11d2-AA68-00C04FA35B82}", "command"),
        ("{76719654-05a6-11d2-9e00-00c04fa322ba}", "expanded"),
        ("{76719654-05A6-11D2-9DFD-00C04FA322BA}", "expanded"),
        ("{A3ACFB0D-83FF-11D2-9E14-00C04FA322BA}", "submitted"),
    ],
)
def test_an_event_by_its_names_and_categories(text, stage):
    found = event_named(text)
    assert found.stage == stage
    assert event_of(stage) is found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("StoreDriver", "routes deliver"),
        ("{59175850-E533-11d1-AA67-00C04FA345F6}", "routes deliver"),
        ("OnCategorize", "OnPreCategorize"),
        ("OnTransportRouter", "[[route]]"),
        ("MsgTrackLog", "trace"),
        ("DnsResolver", "[dns]"),
        ("MaxMsgSize", "message_size"),
        ("OnInbound", 'did you mean "OnInboundCommand"?'),
        ("zzz", "there are OnInboundCommand"),
        ("{59175850}", "8, 4, 4, 4 and 12"),
        (ID, "no event of SMTP"),
    ],
)
def test_what_isnt_served_says_why(text, words):
    with pytest.raises(NoSuchEvent) as raised:
        event_named(text)
    assert words in str(raised.value)


@pytest.mark.parametrize("text", ["6F5B4A0E-2F0B-4D0C-9A51-6E1F4B2F7C11", ID[:-2] + "}", ID.replace("F", "G"), "{}"])
def test_no_guid(text):
    with pytest.raises(ValueError, match="a GUID"):
        guid(text)


# ── classes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_class_comes_to(tmp_path):
    classes = [ComClass(ID, "Shield.Sink", "/opt/shield.dll", create="com")]
    for name in (ID.lower(), "shield.sink"):
        found = resolved(name, classes, tmp_path)
        assert (found.source, found.cls, found.create) == ("/opt/shield.dll", ID, "com")
    found = resolved("sinks.py:Shield", [], tmp_path)
    assert (found.source, found.cls) == (str(tmp_path / "sinks.py"), "Shield")
    assert resolved("package.module:Shield", [], tmp_path).source == "package.module:Shield"
    for name, words in (("Shield.Snik", "did you mean"), ("X", "plugin register"), (ID[:-3], "no CLSID")):
        with pytest.raises(NoSuchClass, match=words):
            resolved(name, classes, tmp_path)
    with pytest.raises(NoSuchClass, match="in Python"):
        resolved("CDO.SS_SMTPOnArrivalSink", classes, tmp_path)


# ── as part of the settings ────────────────────────────────────────────────────────────────────────────────────────


def house(folder: Path, rows: str, more: str = "") -> Settings:
    (folder / "sinks.py").touch()
    file = folder / "gatepost.toml"
    listeners = (
        '[[listen]]\nname = "mx"\naddress = "127.0.0.1:2525"\n[[listen]]\nname = "inner"\naddress = "[::1]:24"\n'
    )
    file.write_text(f'hostname = "mx.example.org"\ndata = "data"\n{listeners}{more}')
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "bindings.toml").write_text(rows)
    return load(file, environ={})


ROW = """
[[binding]]
name = "shield"
instance = 2
event = "oninboundcommand"
class = "../sinks.py:Shield"

[binding.source]
Rule = "ehlo=*.example"
PRIORITY = "100"
On_Failure = "proceed"
Colour = "blue"

[binding.sink]
Depth = 3
"""


def test_a_row_is_a_plugin(tmp_path):
    own = '[[plugin]]\nname = "Shield"\ndialect = "sink"\nsource = "sinks.py:Shield"\n'
    settings = house(tmp_path, ROW + ROW.replace("instance = 2", "enabled = false"), own)
    _, first, second = settings.plugin
    assert (first.name, second.name) == ("shield (2)", "shield (3)")
    assert (first.enabled, second.enabled) == (True, False)
    assert (first.dialect, first.source, first.stages) == ("sink", f"{tmp_path}/data/../sinks.py", ("command",))
    assert (first.rule, first.priority, first.on_failure) == ("ehlo=*.example", 100, "proceed")
    assert first.properties == {"Depth": 3}
    assert first.sink is not None and (first.sink.cls, first.sink.instance) == ("Shield", 2)
    assert str(settings.origins.of(("plugin", 1, "rule"))) == f"{tmp_path}/data/bindings.toml:9"
    assert str(settings.origins.of(("plugin", 1, "name"))) == f"{tmp_path}/data/bindings.toml:3"


def test_another_text_stands_for_the_file(tmp_path):
    house(tmp_path, ROW)
    file = tmp_path / "gatepost.toml"
    assert len(load(file, environ={}).plugin) == 1
    assert load(file, environ={}, rows="").plugin == ()
    assert len(load(file, environ={}, rows=ROW + ROW.replace("shield", "other")).plugin) == 2
    assert load(None, environ={}, overrides={"data": None}).plugin == ()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('"shield"', '"shield', "bindings.toml:3:"),
        ("oninboundcommand", "OnCategorize", "bindings.toml:5:9  OnCategorize can't be bound: the categoriser"),
        ("instance = 2", "instance = 3", "bindings.toml:4:12  plugin \"shield\": there is no instance 3"),
        ("instance = 2", "instance = 0", "bindings.toml:4:12  instance can't be 0"),
        ("instance = 2", "instanze = 2", 'bindings.toml:4:1  a binding has no key "instanze"'),
        ("../sinks.py:Shield", "Shield.Sink", 'bindings.toml:6:9  no class "Shield.Sink" is registered'),
        ("../sinks.py:Shield", "none.py:Shield", 'there is no file "'),
        ("ehlo=*.example", "ehlo=a@b", 'bindings.toml:9:8  plugin "shield": a name of EHLO has no @'),
        ('"100"', "40000", "bindings.toml:10:12  plugin"),
        ('"100"', "[1]", "bindings.toml:10:12  PRIORITY holds neither"),
        ("Colour", "Rule ", "bindings.toml:"),
        ('Colour = "blue"', 'rule = "ehlo"', "bindings.toml:12:1  rule is Rule once more"),
        ("[[binding]]", "[[bindings]]", 'there is no key "bindings"'),
        ('name = "shield"', f'id = "{ID[:-1]}"', "bindings.toml:3:6"),
        ('name = "shield"', "", "name is missing"),
        ('event = "oninboundcommand"', "", "event is missing"),
        ('name = "shield"', 'name = "a\\u0007b"', "can't be printed"),
        ('name = "shield"', f'id = "{ID}"\n[[binding]]\nid = "{ID}"\nevent="OnArrival"\nclass="a:b"', ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path, before, after, told):
    assert before in ROW
    with pytest.raises(SettingsError) as caught:
        house(tmp_path, ROW.replace(before, after))
    assert told in str(caught.value)
    assert "data/bindings.toml" in str(caught.value)


def test_a_disabled_row_may_be_about_what_isnt_there(tmp_path):
    text = ROW.replace("../sinks.py:Shield", "Gone.Sink").replace("instance = 2", "instance = 7\nenabled = false")
    [plugin] = house(tmp_path, text).plugin
    assert not plugin.enabled


def test_a_damaged_list_of_classes_is_told(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "classes.toml").write_text('[[class]]\nid = "x"\nlibrary = "/a"\n')
    with pytest.raises(SettingsError) as caught:
        house(tmp_path, ROW)
    assert "classes.toml:2:6" in str(caught.value)
