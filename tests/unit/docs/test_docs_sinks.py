"""docs/event-sinks.md: its sinks answer as it says, its settings and commands bind them, its table is what there is."""

from __future__ import annotations

import asyncio
import re
import shlex
from types import ModuleType

import pytest

from gatepost.app.bindings_events import EVENTS, NoSuchEvent, event_named
from gatepost.app.cli import main
from gatepost.app.dialects import load_plugins
from gatepost.app.settings import load as load_settings
from gatepost.hooks import stages
from gatepost.plugins import sink
from gatepost.plugins.loaded import Wish
from gatepost.plugins.sink.constants import INTERFACES
from gatepost.plugins.sink.loading import load_sink
from gatepost.testing.rig import Rig
from unit.docs.pages import ROOT, blocks, prose
from unit.serving.serving_talk import content, envelope, greet

PAGE = ROOT / "docs" / "event-sinks.md"
PYTHON = list(blocks(PAGE, "python"))
SETTINGS = '[[listen]]\nname = "mx"\naddress = "127.0.0.1:2525"\n'
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in prose(PAGE).splitlines()
    if line.startswith("| On")
]


def kind(name: str) -> type:
    """A class of the page."""
    for block in PYTHON:
        module = ModuleType("page")
        exec(compile(block.text, str(block), "exec"), vars(module))  # the page's own code
        if name in vars(module):
            found: type = vars(module)[name]
            return found
    raise LookupError(name)


@pytest.mark.parametrize(
    ("properties", "name", "heard"),
    [
        ({}, "client.example", "250-mx.test"),
        ({}, "MX.test", "421 "),
        ({"names": "other.example mx.other.example"}, "mx.other.example", "421 "),
        ({"names": "other.example"}, "client.example", "250-mx.test"),
    ],
)
async def test_the_shield_drops_who_has_our_name(properties, name, heard):
    shield = await load_sink(kind("Shield"), properties=properties, wishes=[Wish(rule="EHLO")])
    async with Rig([shield]) as rig:
        client = rig.connect()
        await client.reply()
        said = await client.command(f"EHLO {name}")
        assert said.startswith(heard)
        if heard == "421 ":
            assert said.endswith("That is my name")
            assert await client.reply() == ""


@pytest.mark.parametrize(("subject", "kept"), [("You have won the LOTTERY", 0), ("hello", 1)])
async def test_the_script_throws_a_lottery_away(subject, kept):
    async with Rig([await load_sink(kind("Arrival"))]) as rig:
        client = rig.connect()
        await greet(client)
        await envelope(client, "ann@example.org")
        assert (await content(client, f"Subject: {subject}\r\n\r\nhi\r\n".encode())).startswith("250")
        assert len(await rig.spool.entries()) == kept
        assert rig.records.errors == []


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the page's first sink, where its commands are given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gatepost.toml").write_text(f'hostname = "mx.example.org"\ndata = "data"\n{SETTINGS}')
    (tmp_path / "plugins").mkdir()
    for file in (tmp_path / "shield.py", tmp_path / "plugins" / "shield.py"):
        file.write_text(next(block.text for block in PYTHON if "class Shield" in block.text))
    return tmp_path


def test_its_settings_bind_the_shield(here):
    (block,) = blocks(PAGE, "toml")
    (here / "gatepost.toml").write_text(f'hostname = "mx.example.org"\n{SETTINGS}{block.text}')
    settings = load_settings(here / "gatepost.toml", environ={})

    async def bound():
        (plugin,) = await load_plugins(settings.plugin)
        await plugin.close()
        return [(binding.stage.name, str(binding.rule)) for binding in plugin.bindings if not binding.quiet]

    assert asyncio.run(bound()) == [("command", "ehlo=*")]


def test_its_commands_bind_set_and_disable(here, capsys):
    block = next(block for block in blocks(PAGE, "sh") if "binding setprop" in block.text)
    commands = [shlex.split(line) for line in block.text.splitlines()]
    assert len(commands) == 4
    for words in commands:
        assert words[:2] == ["gatepost", "binding"]
        assert main(words[1:]) == 0, capsys.readouterr().err
    told = (here / "data" / "bindings.toml").read_text()
    assert 'names = "example.org mx.example.org"' in told
    assert re.search(r"(?mi)^enabled = false", told)
    assert "shield" in capsys.readouterr().out


def test_every_event_is_in_the_table_with_its_method_and_stage():
    assert len(ROWS) == 12
    named = {}
    for name, method, here, _ in ROWS:
        event = event_named(name.partition(" ")[0])
        named[event.name] = event
        first, *others = re.findall(r"`([a-z-]+)`", here)
        assert event.stage == first
        assert {first, *others} <= {stage.name for stage in stages.STAGES.values()}
        assert method in INTERFACES
    assert set(named.values()) == set(EVENTS)
    assert {method for _, method, _, _ in ROWS} == set(INTERFACES)


def test_what_is_said_to_be_missing_is():
    (said,) = re.findall(r"(StoreDriver,[^.]*) have nothing here", prose(PAGE).replace("\n", " "))
    names = re.findall(r"\w+", said.replace(" and ", " "))
    assert len(names) == 6
    for name in names:
        with pytest.raises(NoSuchEvent, match="can't be bound"):
            event_named(name)


def test_every_name_in_capitals_is_a_constant():
    words = set(re.findall(r"\b(?:EXPE|MAILTRANSPORT|MAILMSG|E|S)_[A-Z_]+\b", prose(PAGE)))
    assert len(words) > 5
    assert words <= set(sink.__all__)


def test_every_property_named_is_known():
    known = {*sink.IMMPID_MP.__members__, *sink.IMMPID_RP.__members__, *sink.MESSAGE_STATUS.__members__}
    said = set(re.findall(r"\b[A-Z0-9]+(?:_[A-Z0-9]+)+\b", prose(PAGE))) - set(sink.__all__)
    assert {"X_PRIORITY", "CONTENT_TYPE", "SMTP_STATUS_STRING", "BAD_MAIL"} <= said
    flags = {name.removeprefix("EXPE_") for name in sink.__all__ if name.startswith("EXPE_")}
    states = set(sink.PE_STATE.__members__)
    assert said - known - flags - states == {"GATEPOST_SINK_CLASSES", "GATEPOST_SINK_EXPORT"}
