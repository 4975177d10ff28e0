"""What is shown of settings, and the page that is generated from them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from gatepost.app.settings import Settings, load, schema, show
from gatepost.app.settings.document import document

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == document(), "python -m gatepost.app.settings.document > docs/settings.md"


def test_every_key_has_a_description() -> None:
    page = schema()
    undescribed = [
        f"{model}.{name}"
        for model, table in {**page["$defs"], "Settings": page}.items()
        for name, key in table["properties"].items()
        if "description" not in key
    ]
    assert undescribed == []


def test_the_schema_is_json_and_closed() -> None:
    text = json.loads(json.dumps(schema()))
    assert text["additionalProperties"] is False
    assert "for" in text["$defs"]["Route"]["properties"]


def test_show_says_where_each_value_came_from(tmp_path: Path) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text('hostname = "mx.example.org"\n\n[[route]]\nmatch = "*@example.org"\ndeliver = "relay 10.0.0.5"\n')
    environ = {"GATEPOST__LIMITS__MESSAGE_SIZE": "1MiB"}
    settings = load(file, environ=environ, overrides={"limits": {"hops": 5}})
    rows = dict(line.rsplit("  # ", 1) for line in show(settings).splitlines() if "  # " in line)
    rows = {key.strip(): source for key, source in rows.items()}
    assert rows['hostname = "mx.example.org"'] == f"{file}:1"
    assert rows['match = ["*@example.org"]'] == f"{file}:4"
    assert rows['hosts = ["10.0.0.5:25"]'] == f"{file}:5"
    assert rows['for = "anyone"'] == "default"
    assert rows['message_size = "1MiB"'] == "GATEPOST__LIMITS__MESSAGE_SIZE"
    assert rows["hops = 5"] == "in the call"
    assert rows["recipients = 1000"] == "default"


def test_what_is_shown_loads_again_as_the_same_settings(tmp_path: Path) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_text(
        'hostname = "mx.example.org"\nnever = ["discard"]\n[[listen]]\naddress = "[::1]:2525"\n'
        '[[route]]\nmatch = ["*@example.org", "*@example.net"]\ndeliver = "lmtp /run/inner.sock"\n'
        '[[route]]\nmatch = "*"\ndeliver = { by = "relay", hosts = ["a.example", "b.example:2525"] }\n'
        'for = ["10.0.0.0/8"]\n'
        '[[plugin]]\nname = "p"\nsource = "a.b:c"\ntimeout = "90s"\nproperties = { "odd name" = [1, "two"], t = 0.5 }\n'
        '[[plugin.binding]]\nstages = ["message"]\nwhen = { authenticated = false }\n[limits]\ncommand_timeout = 1.5\n'
    )
    settings = load(file, environ={})
    again = tmp_path / "again.toml"
    again.write_text(show(settings))
    assert load(again, environ={}).model_dump() == settings.model_dump()
    assert tomllib.loads(show(settings))["limits"]["message_size"] == "50MiB"


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "hash").write_text("$argon2id$from-file")
    file = tmp_path / "gatepost.toml"
    file.write_text(
        '[[user]]\nname = "ann@example.org"\npassword = "$argon2id$sesame"\n'
        '[[user]]\nname = "bob@example.org"\npassword = "@hash"\n'
        '[[plugin]]\nsource = "a.b:c"\nproperties = { api_key = "sesame", threshold = 5 }\n'
    )
    text = show(load(file, environ={}))
    assert "sesame" not in text
    assert "from-file" not in text
    assert 'password = "…"' in text
    assert 'password = "@hash"' in text
    assert 'properties = { api_key = "…", threshold = 5 }' in text


def test_embedded_defaults_can_be_shown() -> None:
    assert 'address = "127.0.0.1:2525"' in show(Settings.embedded_defaults())
